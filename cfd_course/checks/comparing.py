"""How two results differ, in words."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import expect


@dataclass(frozen=True)
class Other:
    """Stands for a result that is no plain data, where outcomes go to another process."""

    said: str


def argument_names(function) -> list[str]:
    """The names of the arguments; `self` is called after its class: schedule, mixture, unet."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions need not have one
        return []
    if names[:1] == ["self"]:
        names[0] = re.findall("[A-Z][a-z]*", function.__qualname__)[-1].lower()
    return names


def for_arguments(reference, arguments) -> str:
    """What can be said of the arguments: " for x_0 = a float32 tensor of shape [2, 3], t = 5"."""
    names = argument_names(reference) or [f"argument {i + 1}" for i in range(len(arguments))]
    said = [
        f"{name} = " + (expect.describe(value) if isinstance(value, Tensor) else repr(value))
        for name, value in zip(names, arguments, strict=False)
        if isinstance(value, (Tensor, int, float, str, type(None)))
    ]
    return f" for {', '.join(said)}" if said else ""


def described(value) -> str:
    try:
        return value.said if isinstance(value, Other) else expect.describe(value)
    except Exception:
        return f"something of type {type(value).__name__}"


def other_arguments(answer, reference, arguments) -> str | None:
    """What is wrong with the arguments that the answer takes, in words; None if nothing is."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # built-in functions need not have one
        return None
    try:
        signature.bind(*arguments)
    except TypeError:
        names = argument_names(reference)[
            : len(arguments)
        ]  # what is optional need not be in the task
        return f"It should take ({', '.join(names)}), but yours takes {signature}."
    return None


def tensors(value) -> list[Tensor]:
    """The tensors in an argument."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return list(value.state_dict().values())
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in tensors(each)]
    parts = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return [each for each in parts.values() if isinstance(each, Tensor)]


def reaches(result, argument) -> bool:
    """Whether a gradient of the result reaches anything in this argument that can learn."""
    sources = argument.parameters() if isinstance(argument, nn.Module) else tensors(argument)
    sources = [each for each in sources if each.requires_grad]
    ends = [each.sum() for each in tensors(result) if each.requires_grad]
    if not sources or not ends:
        return False
    gradients = torch.autograd.grad(sum(ends), sources, retain_graph=True, allow_unused=True)
    return any(each is not None and bool(each.any()) for each in gradients)


def difference(got, wanted) -> str | None:
    """How two results differ, in words; None if they agree to about three digits."""
    if isinstance(wanted, nn.Module):
        wanted = wanted.state_dict()
        got = got.state_dict() if isinstance(got, nn.Module) else got
    if isinstance(wanted, Mapping):
        if not isinstance(got, Mapping) or got.keys() != wanted.keys():
            return f"{described(got)} came back, not {expect.describe(wanted)}"
        pairs = [(f"{key}: ", got[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(wanted):
            return f"{len(wanted)} results should come back, but {described(got)} did"
        pairs = [
            (f"result {i + 1}: ", a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))
        ]
    else:
        return _tensor_difference(got, wanted)
    for where, a, b in pairs:
        differs = difference(a, b)
        if differs is not None and isinstance(a, bool) and isinstance(b, bool):  # of a fact
            return f"it is {'' if a else 'not '}true that {where.removesuffix(': ')}"
        if differs is not None:
            return where + differs
    return None


def other_dtypes(got, wanted) -> list[tuple[torch.dtype, torch.dtype]]:
    """Of results whose numbers agree: the types of numbers that came and were wanted, where the one
    will not do for the other. A single number will always do, as will float32 for float64 and any
    whole numbers for any others."""
    if isinstance(wanted, (Mapping, tuple, list)):
        keys = wanted if isinstance(wanted, Mapping) else range(len(wanted))
        return [each for key in keys for each in other_dtypes(got[key], wanted[key])]
    if not isinstance(got, Tensor) or not isinstance(wanted, Tensor) or wanted.ndim == 0:
        return []
    if got.dtype == wanted.dtype or (got.dtype, wanted.dtype) == (torch.float32, torch.float64):
        return []
    whole = not wanted.is_floating_point() and torch.bool not in (got.dtype, wanted.dtype)
    return [] if whole else [(got.dtype, wanted.dtype)]


def bare_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tensor_difference(got, wanted) -> str | None:
    if isinstance(got, str) and isinstance(wanted, str):
        return None if got == wanted else f"{got}, not {wanted}"
    if wanted is None or isinstance(wanted, (str, bool)):
        return None if got == wanted else f"{described(got)} came back, not {wanted!r}"
    if not isinstance(wanted, Tensor):  # a number: a tensor that holds one will do
        try:
            got, wanted = torch.tensor(float(got)), torch.tensor(float(wanted))
        except (TypeError, ValueError, RuntimeError):
            return f"{described(got)} came back, not a number"
    if not isinstance(got, Tensor):
        if wanted.ndim == 0 and isinstance(got, (int, float)):
            got = torch.tensor(got)
        else:
            return f"{described(got)} came back, not a tensor"
    if got.shape != wanted.shape:
        return f"the shape is {list(got.shape)}, but {list(wanted.shape)} was expected"
    if got.is_floating_point() != wanted.is_floating_point():
        return f"{described(got)} came back, but {expect.describe(wanted)} was expected"
    if not wanted.is_floating_point():
        wrong = got != wanted
    else:
        got, wanted = got.detach().double(), wanted.detach().double()
        if bool(got.isnan().any()) and not bool(wanted.isnan().any()):
            return "there is a NaN in the result"
        finite = wanted[wanted.isfinite()].abs()
        size = float(finite.amax()) if finite.numel() else 0.0
        wrong = ~torch.isclose(got, wanted, rtol=1e-3, atol=1e-6 + 1e-4 * size, equal_nan=True)
    if not bool(wrong.any()):
        return None
    place = wrong.nonzero()[0].tolist()
    at = f"at {place} " if place else ""
    return f"{at}{got[tuple(place)]:.4g} came, but {wanted[tuple(place)]:.4g} was expected"
