"""What a function does in a case, as plain data: tensors, numbers, texts, lists and dicts. It can
go to another process as text (seal, unseal), and nothing in that text is ever run."""

import base64
import contextlib
import copy
import functools
import hashlib
import inspect
import json
import numbers
import random
import re
import types
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .comparing import Other, described, difference


def argument_names(function) -> list[str]:
    """The names of the arguments; `self` is called after its class: schedule, mixture, unet."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions need not have one
        return []
    if names[:1] == ["self"]:
        names[0] = re.findall("[A-Z][a-z]*", function.__qualname__)[-1].lower()
    return names


def other_arguments(answer, reference, arguments) -> str | None:
    """What is wrong with the arguments that the answer takes, in words; None if nothing is."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # built-in functions need not have one
        return None
    try:
        signature.bind(*arguments)
    except TypeError:
        names = argument_names(reference)[: len(arguments)]  # what is optional need not be there
        return f"It should take ({', '.join(names)}), but yours takes {signature}."
    return None


def plain(value):
    """A result as plain data, on the CPU; what is none becomes a description of itself."""
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            return Other("a tensor without values of its own, which cannot be compared,")
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return Other(described(value))


def fresh(arguments) -> list:
    """Copies: what the cases share, a schedule say, must survive whatever an answer does to it. But
    networks and optimisers as they come: the optimiser knows the network's own parameters."""
    kept = (nn.Module, torch.optim.Optimizer)
    return list(copy.deepcopy(arguments, {id(a): a for a in arguments if isinstance(a, kept)}))


def contents(value):
    """What an argument holds, as plain data."""
    if isinstance(value, (Tensor, nn.Module)):
        return plain(value)
    if isinstance(value, (tuple, list)):
        return [contents(each) for each in value]
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.optim.Optimizer):  # what it was told: its rate, say
        groups = [{k: v for k, v in group.items() if k != "params"} for group in value.param_groups]
        return plain(groups)
    parts = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return {str(k): plain(v) for k, v in parts.items() if isinstance(v, Tensor)}


def observed(function, arguments, names: list[str], observe=None, meanwhile=None) -> dict:
    """Call the function. Returns its "result"; what it gave back before `observe` looked at it, if
    that is something else ("raw"); the arguments that it "changed"; the "state" that it left;
    "random", a fingerprint of each source of random numbers; and its "calls" of them. meanwhile:
    arguments with which it is called once more, before what came back is looked at."""
    before = [contents(each) for each in arguments]
    with _listening(names, arguments) as (heard, calls):
        result = raw = function(*heard)
        if meanwhile is not None:
            function(*meanwhile)
        if observe is not None:
            result = observe(arguments, result)
    changed = [
        name
        for name, old, new in zip(names, before, arguments, strict=False)
        if difference(contents(new), old) is not None
    ]
    found = {"result": plain(result), "changed": changed, "random": random_state()}
    found |= {"state": state_of(names, arguments), "calls": calls}
    return found if observe is None else {**found, "raw": plain(raw)}


MOST_CALLS = 40  # of which it is recorded with what


@contextlib.contextmanager
def _listening(names, arguments) -> Iterator[tuple[list, list]]:
    """The arguments for a function, and a list that grows with its calls of them: of networks, of
    their parts where these are called by themselves, and of functions. [[name, {name of its
    argument: what it holds}], ...]; None in place of what later ones are called with."""
    calls, depth, hooks, heard = [], [0], [], list(arguments)

    def enter(name: str, function, positional, named) -> None:
        if depth[0] == 0 and len(calls) < MOST_CALLS:
            given = dict(enumerate(positional)) | named
            with contextlib.suppress(TypeError, ValueError):
                given = inspect.signature(function).bind(*positional, **named).arguments
            calls.append([name, {str(key): contents(each) for key, each in given.items()}])
        elif depth[0] == 0:
            calls.append([name, None])
        depth[0] += 1

    def leave(*_) -> None:
        depth[0] -= 1

    def listen(name: str, function):
        @functools.wraps(function)
        def call(*positional, **named):
            enter(name, function, positional, named)
            try:
                return function(*positional, **named)
            finally:
                leave()

        return call

    for i, (name, value) in enumerate(zip(names, arguments, strict=False)):
        if isinstance(value, types.FunctionType):
            heard[i] = listen(name, value)
        for path, part in value.named_modules() if isinstance(value, nn.Module) else ():
            called = functools.partial(enter, ".".join([name, path] if path else [name]))
            hooks += [
                part.register_forward_pre_hook(
                    lambda part, given, named, called=called: called(part.forward, given, named),
                    with_kwargs=True,
                ),
                part.register_forward_hook(leave, always_call=True),
            ]
    try:
        yield heard, calls
    finally:
        for hook in hooks:
            hook.remove()


def state_of(names, arguments) -> dict:
    """What a function can leave behind for all that runs after it."""
    networks = [p for p in zip(names, arguments, strict=False) if isinstance(p[1], nn.Module)]
    modes = {f"{name}.training": all(p.training for p in net.modules()) for name, net in networks}
    modes |= {
        f"all of {name} can learn": all(part.requires_grad for part in net.parameters())
        for name, net in networks
    }
    return {
        "gradients are recorded": torch.is_grad_enabled(),
        "new numbers are": str(torch.get_default_dtype()),
        "PyTorch's threads": torch.get_num_threads(),
        **modes,
    }


def random_state() -> dict[str, str]:
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state(legacy=False)).encode(),
        "random": repr(random.getstate()).encode(),
    }
    return {name: hashlib.sha256(state).hexdigest() for name, state in states.items()}


def sources(names, arguments) -> dict[str, Tensor]:
    """The floating-point tensors in the arguments, those of networks among them, by name."""
    found = {}
    for name, value in zip(names, arguments, strict=False):
        if isinstance(value, nn.Module):
            found |= {f"{name}.{part}": each for part, each in value.named_parameters()}
            continue
        if isinstance(value, (tuple, list)):
            parts = {f"{name}[{i}]": each for i, each in enumerate(value)}
        else:
            parts = {name: value}
            if hasattr(value, "__dataclass_fields__"):  # a Condition
                parts = {f"{name}.{part}": each for part, each in vars(value).items()}
        found |= {n: each for n, each in parts.items() if isinstance(each, Tensor)}
    return {n: each for n, each in found.items() if each.is_floating_point()}


def learns(names, arguments) -> bool:
    """Whether anything in the arguments can learn: then gradients must arrive."""
    return any(each.requires_grad for each in sources(names, arguments).values())


def gradients(function, arguments, names, observe=None) -> dict[str, Tensor | None]:
    """The gradient of a fixed mixture of all the numbers in the result, with respect to every
    floating-point tensor in the arguments; None where none arrives. Frozen networks stay frozen."""
    frozen = {id(p) for a in arguments if isinstance(a, nn.Module) for p in a.parameters()}
    found = sources(names, arguments)
    for each in found.values():
        if id(each) not in frozen and each.is_leaf:
            each.requires_grad_()
    found = {name: each for name, each in found.items() if each.requires_grad}
    result = function(*arguments)
    if observe is not None:
        result = observe(arguments, result)
    ends = [each for each in _tensors(result) if each.requires_grad]
    if not ends or not found:
        return dict.fromkeys(found)
    arrived = torch.autograd.grad(sum(map(_mixture, ends)), list(found.values()), allow_unused=True)
    return {
        name: None if each is None or not bool(each.any()) else plain(each)
        for name, each in zip(found, arrived, strict=True)
    }


def _mixture(result: Tensor) -> Tensor:
    """A weighted sum; the plain one of what a softmax returns would be 1 whatever it is given."""
    if result.ndim == 0:
        return result
    weights = torch.cos(0.7 * torch.arange(result.numel(), dtype=torch.float32)) + 0.3
    return (result.reshape(-1) * weights.to(result)).sum()


def _tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, (Mapping, tuple, list)):
        return [tensor for each in parts for tensor in _tensors(each)]
    return []


def seal(data) -> str:
    """Plain data as text, for another process."""
    return json.dumps(_encoded(data))


def unseal(text: str):
    """The data that seal() wrote."""
    return _decoded(json.loads(text))


def _encoded(value):
    if isinstance(value, Mapping):
        return {"dict": [[str(key), _encoded(each)] for key, each in value.items()]}
    if isinstance(value, (tuple, list)):
        return [_encoded(each) for each in value]
    if isinstance(value, Tensor):
        data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": [kind, list(value.shape), base64.b64encode(data).decode()]}
    return {"other": value.said} if isinstance(value, Other) else value


def _decoded(value):
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {str(key): _decoded(each) for key, each in value["dict"]}
    if "other" in value:
        return Other(str(value["other"]))
    kind, shape, text = value["tensor"]
    dtype = getattr(torch, kind)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{kind} is no type of numbers")
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    data = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
    return data.view(dtype).reshape(shape)
