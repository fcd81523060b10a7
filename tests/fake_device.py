"""An accelerator for machines that have none: tensors that say they lie there.

with lent("mps"): a tensor brought there says so in `.device`, and so does what is computed from it.
All is computed on the CPU, but what a real one refuses is refused: two places in one call, unless
it is a single number from here; an index from there into a tensor here; a generator from here for
numbers there; a look at it by numpy; and on "mps" float64 and, as before PyTorch 2.13, a picture
turned with its border carried on.
"""

import contextlib
from unittest import mock

import accelerate
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

# They bring numbers from one place to another, or look at neither.
CARRIERS = {"copy_", "__set__", "__deepcopy__", "set_", "_has_compatible_shallow_copy_type"}


def place(tensor: Tensor | None) -> str | None:
    return getattr(tensor, "_fake_place", None)


def put(tensor: Tensor, kind: str | None) -> Tensor:
    if kind == "mps" and tensor.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype: MPS has no float64.")
    tensor._fake_place = kind
    return tensor


class _Lent(TorchFunctionMode):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def kind_of(self, device) -> str | None:
        return self.kind if torch.device(device).type == self.kind else None

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = dict(named or {})
        name = function.__name__
        first = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        if function == Tensor.device.__get__:
            return torch.device(place(first), 0) if place(first) else torch.device("cpu")
        if function in (Tensor.is_cuda.__get__, Tensor.is_mps.__get__):
            return place(first) is not None and place(first) in str(function.__self__)
        if name in ("to", "cpu", "cuda") and first is not None:
            return self.moved(name, first, arguments[1:], named)
        if name in ("numpy", "__array__") and place(first):
            raise TypeError(f"can't convert {place(first)}:0 device type tensor to numpy.")
        if function == torch.autograd.grad:  # goes back from place to place
            found = function(*arguments, **named)
            for each, of in zip(found, tree_leaves(arguments[1]), strict=True):
                if each is not None:
                    put(each, place(of))
            return found
        if (name, place(first), named.get("padding_mode")) == ("grid_sample", "mps", "border"):
            raise RuntimeError("MPS: Unsupported Border padding mode")
        if named.get("device") is not None:
            there = self.kind_of(named["device"])
            if there and named.get("generator") is not None:
                raise RuntimeError(
                    f"Expected a '{there}' device type for generator but found 'cpu'"
                )
            result = function(*arguments, **named | {"device": "cpu"})
            return put(result, there) if isinstance(result, Tensor) else result
        tensors = [each for each in tree_leaves((arguments, named)) if isinstance(each, Tensor)]
        places = {place(each) for each in tensors if each.ndim or place(each)}
        if name == "__getitem__" and first is not None:
            if not place(first) and any(place(each) for each in tensors if each.ndim):
                raise RuntimeError("indices should be on the same device as the indexed tensor")
            places = {place(first)}
        if len(places) > 1 and name not in CARRIERS:
            raise RuntimeError(f"Expected all tensors on one device, found {places} in {name}")
        there = next(filter(None, map(place, tensors)), None)
        if name in ("__getitem__", "__deepcopy__"):
            there = place(first)
        result = function(*arguments, **named)
        if function == Tensor.data.__set__:
            put(first, place(arguments[1]))
        elif there and name != "__set__":
            for each in tree_leaves(result):
                if isinstance(each, Tensor):
                    put(each, there)
        return result

    def moved(self, name: str, tensor: Tensor, arguments, named) -> Tensor:
        there, kept = place(tensor), []
        if name != "to":
            there, arguments = (None if name == "cpu" else self.kind), ()
        if "device" in named:
            arguments = (*arguments, named.pop("device"))
        for each in arguments:
            if isinstance(each, Tensor):
                there, each = place(each), each.dtype
            if isinstance(each, (str, torch.device)):
                there = self.kind_of(each)
            elif isinstance(each, torch.dtype):
                kept.append(each)
        result = Tensor.to(tensor, *kept, **named) if kept or named else tensor
        if result is tensor and there != place(tensor):
            result = tensor.clone()
        return result if result is tensor else put(result, there)


@contextlib.contextmanager
def lent(kind: str):
    """Inside, there is such a device, and Accelerate finds it."""
    copied = nn.Parameter.__deepcopy__

    def deepcopy(parameter, memo):
        return put(copied(parameter, memo), place(parameter))

    def prepared(accelerator, model, **settings):
        return model

    accelerator = accelerate.Accelerator
    with (
        mock.patch.object(nn.Parameter, "__deepcopy__", deepcopy),
        mock.patch.object(accelerator, "device", property(lambda self: torch.device(kind, 0))),
        mock.patch.object(accelerator, "prepare_model", prepared),
        _Lent(kind),
    ):
        yield
