"""How two results differ, in words. All of it works on plain data, as observing.py makes it."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import expect


@dataclass(frozen=True)
class Other:
    """Stands for a result that is no plain data."""

    said: str


@dataclass(frozen=True)
class Difference:
    """In words, and how large it is: the relative error of one value, infinite where even the type
    or the shape differs, 0 of something that is true or not."""

    words: str
    size: float


def described(value) -> str:
    """What came, for an error."""
    try:
        return value.said if isinstance(value, Other) else expect.describe(value)
    except Exception:
        return f"something of type {type(value).__name__}"


def bare(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shown(value, longest: int = 8) -> str | None:
    """An argument as a learner can read it; None for what does not help: networks, schedules."""
    if isinstance(value, Tensor):
        if value.numel() > longest or value.is_floating_point():
            return expect.describe(value)
        return str(value.tolist())
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value) if len(repr(value)) < 100 else reprlib.repr(value)
    if isinstance(value, (list, tuple)):
        parts = [shown(each) for each in value[:longest]]
        if not parts or None in parts:
            return None
        return f"[{', '.join(parts)}{', ...' if len(value) > longest else ''}]"
    fields = getattr(value, "__dataclass_fields__", {})  # a Condition
    parts = {name: getattr(value, name) for name in fields}
    said = [f"{name}={shown(part)}" for name, part in parts.items() if part is not None]
    return f"{type(value).__name__}({', '.join(said)})" if said else None


def for_arguments(names: list[str], arguments) -> str:
    """What can be said of the arguments: " for x_0 = a float32 tensor of shape [2, 3], t = 5"."""
    names = names or [f"argument {i + 1}" for i in range(len(arguments))]
    pairs = [(name, shown(value)) for name, value in zip(names, arguments, strict=False)]
    said = [f"{name} = {text}" for name, text in pairs if text is not None]
    return f" for {', '.join(said)}" if said else ""


def difference(got, wanted) -> Difference | None:
    """The clearest difference between two results; None if they agree to about three digits."""
    found = _differences(got, wanted)
    if not found:
        return None
    clearest = max(found, key=lambda each: each.size)
    if clearest.size == 0:  # of facts, the first ones
        return Difference("; ".join(each.words for each in found[:3]), 0.0)
    return clearest


def _differences(got, wanted) -> list[Difference]:
    """One for each part of the result that differs."""
    if isinstance(wanted, Mapping):
        if not isinstance(got, Mapping) or got.keys() != wanted.keys():
            return [Difference(f"{described(got)} came back, not {described(wanted)}", math.inf)]
        parts = [(f"{key}: ", got[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(wanted):
            what = f"a list of {len(got)}" if isinstance(got, (tuple, list)) else described(got)
            words = f"{len(wanted)} results should come back, but {what} did"
            return [Difference(words, math.inf)]
        parts = [
            (f"result {i + 1}: ", a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))
        ]
    else:
        one = value_difference(got, wanted)
        return [] if one is None else [one]
    found = []
    for name, a, b in parts:
        if isinstance(a, bool) and isinstance(b, bool):  # a fact
            if a != b:
                name = name.removesuffix(": ")
                found.append(Difference(f"it is {'' if a else 'not '}true that {name}", 0.0))
            continue
        found += [Difference(name + each.words, each.size) for each in _differences(a, b)]
    return found


def leaves(value, path: str = "") -> dict[str, object]:
    """The parts of a result: {"": it} if it has none, {"result 1": ..., "result 2": ...}."""
    if isinstance(value, Mapping):
        parts = {str(key): each for key, each in value.items()}
    elif isinstance(value, (tuple, list)):
        parts = {f"result {i + 1}": each for i, each in enumerate(value)}
    else:
        return {path: value}
    start = f"{path}, " if path else ""
    return {k: v for key, each in parts.items() for k, v in leaves(each, start + key).items()}


def as_numbers(value) -> Tensor | None:
    """A tensor or a number in float64; None for anything else."""
    if isinstance(value, Tensor):
        return value if value.is_complex() else value.double()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with_limits = max(min(value, 1e300), -1e300) if isinstance(value, int) else value
        return torch.tensor(float(with_limits), dtype=torch.float64)
    return None


def wrong_places(got: Tensor, wanted: Tensor) -> Tensor:
    """Where two tensors of the same shape do not agree, to about three digits."""
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return got != wanted
    got, wanted = got.double(), wanted.double()
    finite = wanted[wanted.isfinite()].abs()
    size = float(finite.amax()) if finite.numel() else 0.0
    return ~torch.isclose(got, wanted, rtol=1e-3, atol=1e-6 + 1e-4 * size, equal_nan=True)


def value_difference(got, wanted) -> Difference | None:
    """The clearest difference between two results that have no parts."""
    if isinstance(got, str) and isinstance(wanted, str):
        return None if got == wanted else Difference(f"{got}, not {wanted}", math.inf)
    if wanted is None or isinstance(wanted, (str, bool)):
        same = got == wanted and not isinstance(got, Tensor)
        return None if same else Difference(f"{described(got)} came back, not {wanted!r}", math.inf)
    if isinstance(wanted, Other):
        return None if got == wanted else Difference(f"{described(got)} came back", math.inf)
    if not isinstance(wanted, Tensor):  # a number: a tensor that holds one will do
        one = isinstance(got, Tensor) and got.numel() == 1 and not got.is_complex()
        number = as_numbers(float(got) if one or isinstance(got, bool) else got)
        if isinstance(got, Tensor) and not one or number is None or number.is_complex():
            return Difference(f"{described(got)} came back, not a number", math.inf)
        got, wanted = number, as_numbers(wanted)
    if not isinstance(got, Tensor):
        if wanted.ndim != 0 or as_numbers(got) is None:
            return Difference(f"{described(got)} came back, not a tensor", math.inf)
        got = torch.tensor(got)
    if got.shape != wanted.shape:
        shapes = f"the shape is {list(got.shape)}, but {list(wanted.shape)} was expected"
        return Difference(shapes, math.inf)
    if got.is_floating_point() != wanted.is_floating_point() or got.is_complex():
        words = f"{described(got)} came back, but {described(wanted)} was expected"
        return Difference(words, math.inf)
    if got.dtype == wanted.dtype and torch.equal(got, wanted):
        return None
    wrong = wrong_places(got, wanted)
    if not bool(wrong.any()):
        return None
    broken = got.isnan() & ~wanted.isnan()
    if bool(broken.any()):
        count = f" ({int(broken.sum())} of {got.numel()} values)" if got.numel() > 1 else ""
        return Difference(f"there is a NaN in the result{count}", math.inf)
    return _clearest(got.double(), wanted.double(), wrong)


def _clearest(got: Tensor, wanted: Tensor, wrong: Tensor) -> Difference:
    """The value with the largest error, relative to itself or, where it is small, to the others."""
    finite = wanted[wanted.isfinite()].abs()
    floor = max(0.05 * float(finite.amax()) if finite.numel() else 0.0, 1e-6)
    errors = (got - wanted).abs() / wanted.abs().clamp(min=floor)
    errors = torch.where(wrong, errors.nan_to_num(nan=1e30, posinf=1e30), 0.0)
    flat = int(errors.flatten().argmax())
    # Not PyTorch's: that imports sympy at its first call, in the time that an answer has.
    place = [int(i) for i in np.unravel_index(flat, errors.shape)]
    came, right = float(got.flatten()[flat]), float(wanted.flatten()[flat])
    digits = next((n for n in range(4, 10) if f"{came:.{n}g}" != f"{right:.{n}g}"), 10)
    at = f"at {place} " if place else ""
    words = f"{at}{came:.{digits}g} came, but {right:.{digits}g} was expected"
    return Difference(words, float(errors.flatten()[flat]))


def distance(got, wanted) -> float:
    """How far apart two results are that agree: the largest error for the size of the values."""
    far = 0.0
    parts = leaves(got)
    for name, right in leaves(wanted).items():
        a, b = as_numbers(parts.get(name)), as_numbers(right)
        if a is not None and b is not None and a.shape == b.shape and a.numel():
            error = (a - b).abs().nan_to_num(posinf=0.0)
            far = max(far, float(error.amax() / (b[b.isfinite()].abs().sum() + 1e-12) * b.numel()))
    return far


def other_dtypes(got, wanted) -> list[tuple[torch.dtype, torch.dtype]]:
    """Of results whose numbers agree: the types of numbers that came and were wanted, where the one
    will not do for the other. A single number will always do, as will float32 for float64 and any
    whole numbers for any others."""
    found, parts = [], leaves(got)
    for name, right in leaves(wanted).items():
        came = parts.get(name)
        if not isinstance(came, Tensor) or not isinstance(right, Tensor) or right.ndim == 0:
            continue
        pair = came.dtype, right.dtype
        whole = not right.is_floating_point() and torch.bool not in pair
        if pair[0] != pair[1] and pair != (torch.float32, torch.float64) and not whole:
            found.append(pair)
    return found
