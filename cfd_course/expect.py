"""Errors that say what was given, what was expected and what to do about it."""

import math
import reprlib
import sys

import torch


def describe(value) -> str:
    """A short description of any value, for the "what came" part of an error."""
    if isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {list(value.shape)}"
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def tensor(name, value, shape, kind="float", advice="") -> torch.Tensor:
    """Pass `value` on if it is a tensor of the wanted kind and shape, else raise.

    shape: a sequence of sizes and letters, say ("B", 3, "H", "W"); a letter stands for any size
    from 1 up, None for any shape at all. kind: "float", "int" or "bool".
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{name} should be a {kind} tensor, but {describe(value)} came. {advice}".strip()
        )
    if kind == "float":
        right = value.is_floating_point()
    elif kind == "bool":
        right = value.dtype == torch.bool
    else:
        right = value.dtype in (torch.int64, torch.int32)
    if not right:
        raise TypeError(
            f"{name} should be a {kind} tensor, but {describe(value)} came. {advice}".strip()
        )
    if shape is not None:
        fits = value.ndim == len(shape) and all(
            size > 0 if isinstance(want, str) else size == want
            for size, want in zip(value.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(str(size) for size in shape)
            raise ValueError(
                f"{name} should have shape [{wanted}], but {describe(value)} came. {advice}".strip()
            )
    return value


def numbers(name, values) -> torch.Tensor:
    """Pass on finite real numbers, a tensor or nested lists, as a tensor in float64."""
    try:
        kind = torch.as_tensor(values).dtype
        right = not kind.is_complex and kind != torch.bool
        result = torch.as_tensor(values, dtype=torch.float64) if right else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        result = None
    if result is None:
        raise TypeError(f"{name} should be real numbers, but {describe(values)} came.")
    if not bool(result.isfinite().all()):
        raise ValueError(f"{name} should be finite, but {describe(values)} came.")
    return result


def whole(name, value, low, high=None, advice="") -> int:
    """Pass on a whole number in low..high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{name} should be a whole number, but {describe(value)} came. {advice}".strip()
        )
    if value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} should be {span}, but {value} came. {advice}".strip())
    return value


def number(name, value, low=-math.inf, high=math.inf, advice="") -> float:
    """Pass on a finite number between low and high, both included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} should be a number, but {describe(value)} came. {advice}".strip())
    if not low <= value <= high or not abs(value) <= sys.float_info.max:
        span = "finite" if low == -math.inf and high == math.inf else f"in {low:g}..{high:g}"
        raise ValueError(f"{name} should be {span}, but {value} came. {advice}".strip())
    return value


def instance(name, value, kind, advice=""):
    """Pass on an object of this class."""
    if not isinstance(value, kind):
        wanted = f"{name} should be of type {kind.__name__}"
        raise TypeError(f"{wanted}, but {describe(value)} came. {advice}".strip())
    return value


def choice(name, value, options):
    """Pass on one of the options."""
    if not any(value == option for option in options if type(value) is type(option)):
        raise ValueError(
            f"{name} should be one of {', '.join(map(repr, options))}, but {describe(value)} came."
        )
    return value


def callable_(name, value, contract):
    """Pass on something that can be called; `contract` says how it is called."""
    if not callable(value):
        raise TypeError(f"{name} should be callable as {contract}, but {describe(value)} came.")
    return value


def device(name, value) -> torch.device:
    """Pass on a device that this machine has."""
    try:
        right = isinstance(value, (str, int, torch.device)) and not isinstance(value, bool)
        found = torch.empty(0, device=value).device if right else None
    except (RuntimeError, AssertionError):  # an unknown name; a torch built without it
        found = None
    if found is None:
        raise ValueError(
            f'{name} should be a device that torch finds here, such as "cpu", but '
            f"{describe(value)} came."
        )
    return found


def random_source(name, value):
    """Pass on None or a torch.Generator."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(
            f"{name} should be a torch.Generator or None, but {describe(value)} came. "
            "Make one with torch.Generator().manual_seed(0)."
        )
    return value
