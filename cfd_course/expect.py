"""Errors that say what was given, what was expected and what to do about it.

`@checked` holds a function's arguments against its own annotations:

    @checked
    def with_null_image(
        image: Float[Tensor, "B C H W"], present: Bool[Tensor, "B"], null: Float[Tensor, "C"]
    ): ...

The same letter is the same size in all arguments of a call, from 1 up; `*shape` is any number of
sizes, `{self.channels}` a size that an argument holds. A text in Annotated is advice, which the
error ends with. What no annotation can say stands in the function: expect.that(...).
"""

import functools
import inspect
import math
import reprlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch
from annotated_types import Ge, Interval
from jaxtyping import AbstractArray, Float, Int
from torch import Tensor

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Interval(ge=0, le=1)]
Seed = Annotated[int, Ge(0)]
Source = Annotated[torch.Generator, "Make one with torch.Generator().manual_seed(0)."] | None
Pictures = Annotated[Float[Tensor, "B *shape"], "Floats in [-1, 1]: convert with .float()."]
Time = Annotated[
    Int[Tensor, ""] | Int[Tensor, "B"] | int,
    "It counts noising steps; t = 0 is the clean picture. One number, or one for each example.",
]


def describe(value) -> str:
    """A short description of any value, for the "what came" part of an error."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{_a(kind)} tensor of shape {list(value.shape)}"
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _a(word: str) -> str:
    return f"an {word}" if word[0] == "i" else f"a {word}"


def that(right, name: str, wanted: str, value, advice: str = "", kind=ValueError) -> None:
    """Raise unless `right`: `name` should `wanted`, but `value` came. A text comes as it stands."""
    if not right:
        came = value if isinstance(value, str) and kind is ValueError else describe(value)
        raise kind(f"{name} should {wanted}, but {came} came. {advice}".strip())


def divisible(name: str, sizes: int | Sequence[int], by: int, said: str = "") -> None:
    """One size or several, all divisible by a number. said: what the number is, in words."""
    sizes = (sizes,) if isinstance(sizes, int) else sizes
    right = not any(size % by for size in sizes)
    that(right, name, f"be divisible by {said or by}", "x".join(map(str, sizes)))


def fits(name: str, value, hint):
    """Pass on a value that is what an annotation says, where that is of no argument."""
    _hold(_kind(hint), name, value, {}, {})
    return value


def alike(name: str, value, like: Tensor, advice: str = "") -> Tensor:
    """Pass on a float tensor of the shape of another: what a function of the caller's returned."""
    right = isinstance(value, Tensor) and value.is_floating_point()
    that(right, name, "be a float tensor", value, advice, TypeError)
    right = value.shape == like.shape
    that(right, name, f"have shape {list(like.shape)}", value, advice)
    return value


def numbers(name: str, values) -> Tensor:
    """Pass on finite real numbers, a tensor or nested lists, in float64 on the CPU."""
    try:
        found = torch.as_tensor(values).cpu()
        right = not found.is_complex() and found.dtype != torch.bool
        # As float64 from the start, or a list of numbers would be rounded to float32.
        found = found if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.double)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        right = False
    that(right, name, "be real numbers", values, kind=TypeError)
    that(bool(found.isfinite().all()), name, "be finite", describe(values))
    return found.double()


def time(name: str, t: int | Tensor, low: int, high: float) -> Tensor:
    """Noising steps in low..high as a tensor on the CPU, where the tables are."""
    t = torch.as_tensor(t).cpu()
    least, most = int(t.min()), int(t.max())
    advice = "t counts noising steps; t = 0 is the clean picture."
    span = f"at least {low}" if high == math.inf else f"in {low}..{high}"
    that(low <= least and most <= high, name, f"be {span}", f"{least}..{most}", advice)
    return t


def checked(function: Callable) -> Callable:
    """The function, or the class, which refuses arguments that are not what its annotations say."""
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)
        return function
    names = list(inspect.signature(function).parameters)
    kinds = None

    @functools.wraps(function)
    def call(*positional, **named):
        nonlocal kinds
        if kinds is None:  # not before the first call: a hint may name what comes later
            hints = get_type_hints(function, include_extras=True)
            kinds = [(name, _kind(hints[name])) for name in names if name in hints]
        arguments = dict(zip(names, positional, strict=False)) | named
        sizes = {}
        for name, kind in kinds:
            if name in arguments:
                _hold(kind, name, arguments[name], sizes, arguments)
        return function(*positional, **named)

    return call


class _Kind(NamedTuple):
    """What an annotation says. words: "a float tensor"; suits(value): whether it is one at all;
    check(name, value, sizes, arguments): raise where something else is wrong; fits(value): whether
    an error should speak of this kind, among several that suit."""

    words: str
    suits: Callable
    check: Callable | None = None
    advice: str = ""
    fits: Callable = lambda value: True


def _hold(kind: _Kind, name: str, value, sizes: dict, arguments: dict) -> None:
    if not kind.suits(value):
        that(False, name, f"be {kind.words}", value, kind.advice, TypeError)
    if kind.check is not None:
        kind.check(name, value, sizes, arguments)


@functools.cache
def _kind(hint, advice: str = "", limits=None) -> _Kind:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        advice = next((part for part in parts if isinstance(part, str)), advice)
        ends = ("ge", "le", "min_length")
        limits = next((part for part in parts if any(hasattr(part, e) for e in ends)), limits)
        return _kind(parts[0], advice, limits)
    if origin in (Union, types.UnionType):
        return _one_of([_kind(part, advice, limits) for part in parts])
    if origin is Literal:
        return _literal(parts)
    if hint in (int, float):
        return _number(hint, advice, limits)
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return _array(hint, advice)
    if origin in (Sequence, list, tuple):
        return _row(_kind(parts[0]), advice, getattr(limits, "min_length", 0))
    if origin is Callable:
        return _Kind(f"callable as {advice}" if advice else "callable", callable)
    if hint in (None, type(None)):
        return _Kind("None", lambda value: value is None)
    cls = origin or hint
    return _Kind(f"of type {cls.__name__}", lambda value: isinstance(value, cls), None, advice)


def _one_of(kinds: list[_Kind]) -> _Kind:
    def check(name, value, sizes, arguments):
        suit = [kind for kind in kinds if kind.suits(value)]
        meant = next((kind for kind in suit if kind.fits(value)), suit[0])
        if meant.check is not None:
            meant.check(name, value, sizes, arguments)

    words = " or ".join(dict.fromkeys(kind.words for kind in kinds))
    advice = next((kind.advice for kind in kinds if kind.advice), "")
    return _Kind(words, lambda value: any(kind.suits(value) for kind in kinds), check, advice)


def _literal(options: tuple) -> _Kind:
    def check(name, value, sizes, arguments):
        right = any(type(value) is type(option) and value == option for option in options)
        that(right, name, f"be one of {', '.join(map(repr, options))}", describe(value))

    return _Kind("a choice", lambda value: True, check)


def _number(of: type, advice: str, limits) -> _Kind:
    low, high = (getattr(limits, end, None) for end in ("ge", "le"))
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    span = f"in {low:g}..{high:g}" if of is float else f"in {low}..{high}"
    if high == math.inf:
        span = "finite" if low == -math.inf else f"finite, and at least {low:g}"
        span = f"at least {low}" if of is int else span
    accepted = (int,) if of is int else (int, float)

    def check(name, value, sizes, arguments):
        right = low <= value <= high and (of is int or abs(value) <= sys.float_info.max)
        that(right, name, f"be {span}", f"{value}", advice)

    return _Kind(
        "a whole number" if of is int else "a number",
        lambda value: isinstance(value, accepted) and not isinstance(value, bool),
        check,
        advice,
    )


def _row(each: _Kind, advice: str, least: int) -> _Kind:
    """A list, a tuple or the like, all of a kind."""

    def check(name, value, sizes, arguments):
        that(len(value) >= least, name, f"be a list of at least {least}", value, advice)
        for item in value:
            _hold(each, f"each of {name}", item, sizes, arguments)

    def suits(value):
        return isinstance(value, Sequence) and not isinstance(value, (str, bytes))

    return _Kind("a list", suits, check, advice)


def _array(hint, advice: str) -> _Kind:
    word = hint.__name__.partition("[")[0].lower()
    # Of whole numbers the two kinds that PyTorch takes for an index.
    dtypes = ("int64", "int32") if word == "int" else hint.dtypes
    dtypes = {getattr(torch, name) for name in dtypes if hasattr(torch, name)}
    wanted = hint.dim_str.split()
    free = "*" in hint.dim_str  # the last of them, then

    def fits(value):
        return free or value.ndim == len(wanted)

    def check(name, value, sizes, arguments):
        shape, shown = [], []  # sizes where they are known, letters where not
        for want in wanted:
            known = sizes.get(want)
            if want[0] in "{0123456789":
                known = int(want.format(**arguments))
            elif known is None and want[0] == "*":
                shape += ["any"] * max(value.ndim - len(shape), 0)
                shown.append("...")
                continue
            found = known if want[0] == "*" else [want if known is None else known]
            shape += found
            shown += found
        right = len(shape) == value.ndim and all(
            size > 0 and (size == want or isinstance(want, str))
            for size, want in zip(value.shape, shape, strict=True)
        )
        if not right:
            came = describe(value)
            that(False, name, f"have shape [{', '.join(map(str, shown))}]", came, advice)
        for place, want in enumerate(wanted):
            sizes.setdefault(want, value.shape[place:] if want[0] == "*" else value.shape[place])

    def suits(value):
        return isinstance(value, Tensor) and value.dtype in dtypes

    return _Kind(f"{_a(word)} tensor", suits, check, advice, fits)


# --- The older verbs, until every room has annotations --------------------------------------------


def tensor(name, value, shape, kind="float", advice="") -> Tensor:
    """Pass `value` on if it is a tensor of the wanted kind and shape, else raise. A letter stands
    for any size from 1 up, None for any shape at all. kind: "float", "int" or "bool"."""
    right = isinstance(value, Tensor) and (
        value.is_floating_point()
        if kind == "float"
        else value.dtype in {"bool": (torch.bool,), "int": (torch.int64, torch.int32)}[kind]
    )
    that(right, name, f"be {_a(kind)} tensor", value, advice, TypeError)
    if shape is not None:
        fits = value.ndim == len(shape) and all(
            size > 0 if isinstance(want, str) else size == want
            for size, want in zip(value.shape, shape, strict=True)
        )
        that(fits, name, f"have shape [{', '.join(map(str, shape))}]", describe(value), advice)
    return value


def whole(name, value, low, high=None, advice="") -> int:
    """Pass on a whole number in low..high."""
    interval = Interval(ge=low, le=high)
    _hold(_number(int, advice, interval), name, value, {}, {})
    return value


def number(name, value, low=-math.inf, high=math.inf, advice="") -> float:
    """Pass on a finite number between low and high, both included."""
    _hold(_number(float, advice, Interval(ge=low, le=high)), name, value, {}, {})
    return value


def instance(name, value, kind, advice=""):
    """Pass on an object of this class."""
    _hold(_kind(kind, advice), name, value, {}, {})
    return value


def choice(name, value, options):
    """Pass on one of the options."""
    _hold(_literal(tuple(options)), name, value, {}, {})
    return value


def callable_(name, value, contract):
    """Pass on something that can be called; `contract` says how it is called."""
    that(callable(value), name, f"be callable as {contract}", value, kind=TypeError)
    return value


def random_source(name, value):
    """Pass on None or a torch.Generator."""
    _hold(_kind(Source), name, value, {}, {})
    return value
