"""What is asked of a wrong answer that is on no list, before only numbers are shown.

Some questions need the answer itself: what does it do with other random numbers, with one argument
changed, with one example changed? Those are `probes`: tried while the answer runs, and recorded as
data. All others are asked of that data and of the reference (`Questions`): is the result the right
one but for something simple, or what would be right for other arguments? Nothing is said that does
not hold in every case, and far more closely than the answer comes to what is right.
"""

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..schedule import NoiseSchedule
from .comparing import as_numbers, difference, leaves, wrong_places

SECONDS = 0.5  # of the processor, for questions that need the reference or a mistake to run again

# --- arguments with something changed ---------------------------------------------------------

Path = tuple[int, str | None]  # the number of an argument, and the field of a Condition


def _paths(arguments) -> list[Path]:
    found = []
    for i, value in enumerate(arguments):
        fields = getattr(value, "__dataclass_fields__", {})
        parts = [name for name in fields if getattr(value, name) is not None]
        found += [(i, name) for name in parts] if fields else [(i, None)]
    return found


def _get(arguments, path: Path):
    value = arguments[path[0]]
    return value if path[1] is None else getattr(value, path[1])


def _put(arguments, path: Path, new) -> list:
    i, field = path
    if field is not None:
        new = dataclasses.replace(arguments[i], **{field: new})
    return [*arguments[:i], new, *arguments[i + 1 :]]


def _name(names: list[str], path: Path) -> str:
    i, field = path
    name = names[i] if i < len(names) else f"argument {i + 1}"
    return name if field is None else f"{name}.{field}"


def _other(value):
    """Another value of the same kind; None where there is no telling what would be one."""
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return ~value
    if isinstance(value, Tensor) and value.is_floating_point():
        random = torch.Generator().manual_seed(9)
        moved = value.detach().cpu() + 0.3 * torch.randn(value.shape, generator=random)
        return moved.to(value).requires_grad_(value.requires_grad)
    if isinstance(value, Tensor):
        return torch.where(value > 1, value - 1, value + 1)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value > 1 else value + 1
    if isinstance(value, float):
        return 1.25 * value + 0.1
    if isinstance(value, list) and value and all(isinstance(each, Tensor) for each in value):
        return [_other(each) for each in value]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return value[1:] + value[:1]
    if isinstance(value, NoiseSchedule):
        return NoiseSchedule(0.9 * value.betas[1:])
    if isinstance(value, nn.Module):
        with torch.no_grad():
            for parameter in value.parameters():
                parameter.copy_(_other(parameter))
        return value
    return None


def _whole(value) -> bool:
    if isinstance(value, Tensor):
        return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return type(value) is int


def _halved(value):
    if isinstance(value, Tensor) and _whole(value):
        return torch.where(value > 1, value // 2, value)
    if isinstance(value, Tensor):
        half = ~value if value.dtype == torch.bool else value.detach() / 2
        return half.requires_grad_(value.requires_grad)
    return value // 2 if type(value) is int else value / 2 if value > 0 else value + 1


def _change(path: Path) -> Callable[[list], list]:
    return lambda arguments: _put(arguments, path, _other(_get(arguments, path)))


def _change_last_example(arguments) -> list:
    """In every tensor that has as many rows as the first one."""
    return _in_each(arguments, lambda value: torch.cat([value[:-1], _other(value)[-1:]]))


def _change_first_example(arguments) -> list:
    return _in_each(arguments, lambda value: torch.cat([_other(value)[:1], value[1:]]))


def _in_each(arguments, change: Callable) -> list:
    paths = [p for p in _paths(arguments) if _rows(_get(arguments, p))]
    count = _rows(_get(arguments, paths[0]))
    for path in paths:
        value = _get(arguments, path)
        if _rows(value) == count:
            arguments = _put(arguments, path, change(value))
    return arguments


def _rows(value) -> int:
    return len(value) if isinstance(value, Tensor) and value.ndim > 0 else 0


def probes(names: list[str], arguments) -> dict[str, Callable[[list], list]]:
    """What is tried with an answer: {name: what is done to the arguments before}."""
    kinds = (Tensor, bool, int, float, list, NoiseSchedule, nn.Module)
    found = {
        f"other {_name(names, path)}": _change(path)
        for path in _paths(arguments)
        if isinstance(_get(arguments, path), kinds)
    }
    for path in _paths(arguments):  # a second one, for what is rounded may not feel the first
        if as_numbers(_get(arguments, path)) is not None:
            found[f"far other {_name(names, path)}"] = _changing(path, _halved)
    if any(_floats(_get(arguments, path)) for path in _paths(arguments)):
        found["twice as large"] = _twice_as_large
    for one, two in _pairs(arguments):
        first, second = _name(names, one), _name(names, two)
        found[f"{first} and {second} exchanged"] = _exchanging(one, two)
        found[f"{second} is {first}"] = _equating(one, two)
    if any(_rows(_get(arguments, path)) > 1 for path in _paths(arguments)):
        found["other last example"] = _change_last_example
        found["other first example"] = _change_first_example
    return found


def _floats(value) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def _twice_as_large(arguments) -> list:
    for path in _paths(arguments):
        value = _get(arguments, path)
        if _floats(value):
            larger = (2 * value.detach()).requires_grad_(value.requires_grad)
            arguments = _put(arguments, path, larger)
    return arguments


def _pairs(arguments) -> list[tuple[Path, Path]]:
    """Arguments that could stand in each other's place, the first three pairs of them."""
    paths = [path for path in _paths(arguments) if _floats(_get(arguments, path))]
    return [
        (one, two)
        for one, two in itertools.combinations(paths, 2)
        if _get(arguments, one).shape[1:] == _get(arguments, two).shape[1:]
    ][:3]


def _equating(one: Path, two: Path) -> Callable:
    return lambda arguments: _put(arguments, two, _get(arguments, one).clone())


def reseeded(arguments) -> list:
    """Generators among the arguments with another seed."""
    for each in arguments:
        if isinstance(each, torch.Generator):
            each.manual_seed(each.initial_seed() + 1)
    return arguments


# --- what the right result could have become --------------------------------------------------

OUTPUTS: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("minus {}", lambda w: -w),
    ("the square root of {}", lambda w: w.sqrt()),
    ("the square of {}", lambda w: w**2),
    ("1 divided by {}", lambda w: 1 / w),
    ("1 minus {}", lambda w: 1 - w),
    ("the logarithm of {}", lambda w: w.log()),
    ("10 times the decimal logarithm of {}", lambda w: 10 * w.log10()),
    ("e to the power of {}", lambda w: w.exp()),
    ("the absolute value of {}", lambda w: w.abs()),
    ("{}, clamped to -1..1", lambda w: w.clamp(-1, 1)),
    ("{}, clamped to 0..1", lambda w: w.clamp(0, 1)),
    ("{}, with 0 for everything below 0", lambda w: w.clamp(min=0)),
    ("{}, rounded to whole numbers", lambda w: w.round()),
    ("{}, rounded to one decimal", lambda w: w.round(decimals=1)),
    ("{}, rounded to two decimals", lambda w: w.round(decimals=2)),
    ("{}, less its own mean", lambda w: w - w.mean()),
    ("{}, divided by its own standard deviation", lambda w: w / _spread(w)),
    ("{}, less its own mean and divided by its standard deviation", lambda w: _normal(w)),
    ("{}, divided by its largest value", lambda w: w / w.max()),
    ("{}, divided by its largest absolute value", lambda w: w / w.abs().max()),
    ("{}, cut to whole numbers", lambda w: w.trunc()),
    ("{}, brought from -1..1 to 0..1", lambda w: (w + 1) / 2),
    ("{}, brought from 0..1 to -1..1", lambda w: 2 * w - 1),
    ("the mean over all examples of {}, for each of them", lambda w: w.mean(0).expand_as(w)),
    ("{} of the first example, for each of them", lambda w: w[:1].expand_as(w)),
]


def _normal(x: Tensor) -> Tensor:
    return (x - x.mean()) / _spread(x)


def _spread(x: Tensor) -> Tensor:
    return x.std(correction=min(1, x.numel() - 1))


# --- what the right result could have come of -------------------------------------------------

_WHOLE = [
    ("{0} - 1 in place of {0}", lambda v: v - 1),
    ("{0} + 1 in place of {0}", lambda v: v + 1),
]
_BOOL = [
    ("the opposite of {0}", lambda v: ~v),
    ("a {0} that is True everywhere", torch.ones_like),
    ("a {0} that is False everywhere", torch.zeros_like),
]
_FLOAT = [
    ("zeros in place of {0}", lambda v: 0 * v),
    ("minus {0} in place of {0}", lambda v: -v),
    ("half of {0} in its place", lambda v: v / 2),
    ("twice {0} in its place", lambda v: 2 * v),
    ("{0} clamped to -1..1", lambda v: v.clamp(-1, 1)),
    ("{0} rounded to whole numbers", lambda v: v.round()),
    ("the square root of {0} in its place", lambda v: v**0.5),
    ("the square of {0} in its place", lambda v: v**2),
    ("{0} in half precision", lambda v: v.half().to(v.dtype)),
    ("the absolute value of {0}", lambda v: v.abs()),
    ("1 / {0} in place of {0}", lambda v: 1 / v),
    ("2 pi times {0}", lambda v: 2 * math.pi * v),
    ("{0} in degrees", lambda v: v.deg2rad()),
    ("{0} / 1000 in place of {0}", lambda v: v / 1000),
    ("{0} less its own mean", lambda v: v - v.mean()),
    ("{0} less its own mean and divided by its standard deviation", _normal),
]
_NUMBER = [
    ("{0} cut to a whole number", lambda v: float(int(v))),
    ("{0} rounded to a whole number", lambda v: float(round(v))),
    ("twice {0} in its place", lambda v: 2 * v),
    ("half of {0} in its place", lambda v: v / 2),
    ("1 + {0} in place of {0}", lambda v: v + 1),
    ("{0} - 1 in place of {0}", lambda v: v - 1),
    ("1 - {0} in place of {0}", lambda v: 1 - v),
    ("1 / {0} in place of {0}", lambda v: 1 / v),
]
_NUMBERS_TOO = [each for each in _FLOAT if each[0].split()[0] == "minus" or "square" in each[0]]
_ROWS = [
    ("the first row of {0} in all its rows", lambda v: v[:1].expand_as(v).clone()),
    ("{0} with its rows moved by one", lambda v: v.roll(1, 0)),
]
_SQUARE = [("{0} with rows and columns exchanged", lambda v: v.mT.clone())]
_TABLES = [
    ("alphas in place of alpha_bars", "alpha_bars", lambda s: s.alphas),
    ("the square root of alpha_bars in its place", "alpha_bars", lambda s: s.alpha_bars**0.5),
    ("the square of alpha_bars in its place", "alpha_bars", lambda s: s.alpha_bars**2),
    ("1 - alpha_bars in place of alpha_bars", "alpha_bars", lambda s: 1 - s.alpha_bars),
    ("alpha_bars one step earlier", "alpha_bars", lambda s: _earlier(s.alpha_bars)),
    ("alpha_bars one step later", "alpha_bars", lambda s: s.alpha_bars[_later(s)]),
    ("alpha_bars in half precision", "alpha_bars", lambda s: s.alpha_bars.half().double()),
    ("alpha_bars in place of alphas", "alphas", lambda s: s.alpha_bars),
    ("the square root of alphas in its place", "alphas", lambda s: s.alphas**0.5),
    ("alphas one step earlier", "alphas", lambda s: _earlier(s.alphas)),
    ("1 - alpha_bars in place of betas", "betas", lambda s: 1 - s.alpha_bars),
    ("the square root of betas in its place", "betas", lambda s: s.betas**0.5),
    ("betas one step earlier", "betas", lambda s: _earlier(s.betas)),
]


def _earlier(table: Tensor) -> Tensor:
    return torch.cat([table[:1], table[:-1]])


def _later(schedule) -> Tensor:
    return (torch.arange(len(schedule.alpha_bars)) + 1).clamp(max=len(schedule.alpha_bars) - 1)


def _changes_of(value) -> list[tuple[str, Callable]]:
    if isinstance(value, NoiseSchedule):
        return [(words, _with_table(name, change)) for words, name, change in _TABLES]
    if isinstance(value, (bool, int, float)):
        number = [] if isinstance(value, bool) else _NUMBER + _NUMBERS_TOO
        return _WHOLE if type(value) is int else number
    if not isinstance(value, Tensor):
        return []
    kind = _BOOL if value.dtype == torch.bool else _FLOAT if value.is_floating_point() else _WHOLE
    square = value.ndim > 1 and value.shape[-1] == value.shape[-2] > 1
    return kind + (_ROWS if _rows(value) > 1 else []) + (_SQUARE if square else [])


def _with_table(name: str, change: Callable) -> Callable:
    def schedule(value):
        changed = copy.copy(value)
        setattr(changed, name, change(value))
        return changed

    return schedule


def _inputs(names: list[str], arguments) -> Iterator[tuple[str, Callable[[list], list]]]:
    """What the right result could have come of, in words, and what does that to the arguments."""
    paths = _paths(arguments)
    for path in paths:
        for words, change in _changes_of(_get(arguments, path)):
            yield words.format(_name(names, path)), _changing(path, change)
    for one, two in itertools.combinations(paths, 2):
        a, b = _get(arguments, one), _get(arguments, two)
        numbers = type(a) is type(b) and type(a) in (int, float)
        alike = isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype
        if numbers or alike and a.shape == b.shape:
            yield f"{_name(names, one)} and {_name(names, two)} exchanged", _exchanging(one, two)


def _changing(path: Path, change: Callable) -> Callable[[list], list]:
    return lambda arguments: _put(arguments, path, change(_get(arguments, path)))


def _exchanging(one: Path, two: Path) -> Callable[[list], list]:
    def exchange(arguments):
        first, second = _get(arguments, one), _get(arguments, two)
        return _put(_put(arguments, one, second), two, first)

    return exchange


# --- the questions ----------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    """The arguments; what came and what is right, as plain data; and the same of the calls of
    networks and functions among the arguments, of the probes, and of the call with another seed."""

    arguments: list
    got: object
    wanted: object
    got_calls: list
    wanted_calls: list
    got_probes: dict
    wanted_probes: dict
    got_again: object
    wanted_again: object


def said_of(
    names: list[str],
    cases: list[Case],
    rerun: Callable[[Callable, Callable | None, int], object],
    reference: Callable,
    mistakes: list[tuple[Callable, str | Callable]],
) -> str | None:
    """Whatever can be said of a wrong answer, most telling first; None if nothing can.
    rerun(function, change, number): its result in a case, with something done to the arguments."""
    trials = _Trials(cases, rerun, reference, time.thread_time() + SECONDS)
    related = _asked(_relation, names, cases, trials, reference)
    related = related or _asked(_weights, names, cases)
    related = related or _asked(_two_mistakes, names, cases, trials, mistakes)
    said = [_asked(_own_random_numbers, cases), related]
    said += _asked(_about_arguments, names, cases) or []
    said += [_asked(_one_example_changes_another, cases)]
    if related is None:
        said += [_asked(_calls, cases), _asked(_which_are_right, cases)]
        said += [_asked(_laws, names, cases), _asked(_where, names, cases)]
        said += [_asked(_always, cases)]
    return " ".join([each for each in said if each is not None][:3]) or None


def _asked(question: Callable, *about):
    """What a question finds; None where it cannot be asked of such a result."""
    try:
        return question(*about)
    except Exception:
        return None


def _same(a, b) -> bool:
    return difference(a, b) is None


def _same_numbers(a, b) -> bool:
    a, b = _numeric(a), _numeric(b)
    return a.keys() == b.keys() and all(_agree(a[part], b[part]) for part in a)


def _equal(a, b) -> bool:
    """To the last bit, unlike `_same`."""
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key])
        if isinstance(a[key], Tensor) and isinstance(b[key], Tensor)
        else type(a[key]) is type(b[key]) and a[key] == b[key]
        for key in a
    )


def _own_random_numbers(cases) -> str | None:
    if any(isinstance(each, torch.Generator) for case in cases for each in case.arguments):
        return None  # that has another seed too, the second time
    # Numbers alone: a function that comes back is another one each time.
    steady = all(_same_numbers(c.got, c.got_again) for c in cases)
    if not steady and all(_same(c.wanted, c.wanted_again) for c in cases):
        return "Called twice it gives two results: it draws random numbers of its own."
    return None


def _about_arguments(names, cases) -> list[str]:
    """Which arguments make no difference, though they should, and the other way round."""
    seen = {}  # for each argument, of each probe of it: (same came back, same is right, it moved)
    for case in cases:
        for probe in case.got_probes.keys() & case.wanted_probes.keys() - EXAMPLES.keys():
            got, wanted = case.got_probes[probe], case.wanted_probes[probe]
            # Facts, of what was drawn say, stay the same whatever the numbers are.
            unmoved = bool(_numeric(case.wanted)) and _equal(case.wanted, wanted)
            moved = unmoved and not _same(case.got, got)
            facts = _equal(case.got, got), _same(case.wanted, wanted), moved
            seen.setdefault(probe.rpartition("other ")[2], []).append(facts)
    order = [_name(names, path) for path in _paths(cases[0].arguments)]
    seen = {name: seen[name] for name in order if name in seen}
    ignored = [
        name
        for name, facts in seen.items()
        if all(same for same, _, _ in facts) and not any(right for _, right, _ in facts)
    ]
    heard = [name for name, facts in seen.items() if any(moved for _, _, moved in facts)]
    said = []
    if ignored:
        said.append(f"With another {' or '.join(ignored)} the same comes back.")
    if heard and len(heard) < 3:
        said.append(f"It changes with {' and '.join(heard)} where it should not.")
    return said


# What is changed in one example, and the others: their results should stay.
EXAMPLES = {"other last example": slice(None, -1), "other first example": slice(1, None)}


def _one_example_changes_another(cases) -> str | None:
    for case, (probe, others) in itertools.product(cases, EXAMPLES.items()):
        if probe not in case.got_probes or probe not in case.wanted_probes:
            continue
        four = [case.got, case.got_probes[probe], case.wanted, case.wanted_probes[probe]]
        examples = {_rows(_get(case.arguments, path)) for path in _paths(case.arguments)}
        for name in leaves(case.wanted):
            if _rows(leaves(case.wanted)[name]) not in examples:
                continue  # the rows of the result are no examples, of a table say
            rows = [leaves(each).get(name) for each in four]
            if all(_rows(each) == _rows(rows[0]) > 1 for each in rows):
                got, other, wanted, right = (each[others] for each in rows)
                if _same(right, wanted) and not _same(other, got):
                    return "One example changes the result of another."
    return None


# --- relations ---


class _Numbers:
    """The numbers of the answer and of the reference, part by part, in all cases."""

    def __init__(self, cases: list[Case]):
        self.got = [_numeric(case.got) for case in cases]
        self.wanted = [_numeric(case.wanted) for case in cases]
        # What is wrong under a name that not all cases have, "scale at t = 5" say, is asked about
        # together with all the rest.
        alike = all(a.keys() == b.keys() for a, b in zip(self.got, self.wanted, strict=True))
        common = set.intersection(*map(set, self.wanted))
        self.together = alike and any(
            part not in common and not _agree(each, w[part])
            for got, w in zip(self.got, self.wanted, strict=True)
            for part, each in got.items()
        )
        if self.together:
            self.got, self.wanted = (list(map(_joined, each)) for each in (self.got, self.wanted))
        same = all(a.keys() == b.keys() for a, b in zip(self.got, self.wanted, strict=True))
        self.parts = list(self.wanted[0]) if same else []
        self.parts = [p for p in self.parts if all(p in w for w in self.wanted)]

    def pairs(self, part: str) -> list[tuple[Tensor, Tensor]]:
        return [(a[part], b[part]) for a, b in zip(self.got, self.wanted, strict=True)]

    def wrong(self) -> list[str]:
        return [part for part in self.parts if not all(_agree(*pair) for pair in self.pairs(part))]


def _numeric(result) -> dict[str, Tensor]:
    """The parts of a result that are numbers; a list of numbers is one part."""
    if isinstance(result, list) and result:
        try:
            return {"": torch.tensor(result, dtype=torch.float64)}
        except (TypeError, ValueError, RuntimeError):
            pass
    numbers = {name: as_numbers(each) for name, each in leaves(result).items()}
    return {name: n for name, n in numbers.items() if n is not None and not n.is_complex()}


def _joined(numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"": torch.cat([each.flatten() for each in numbers.values()])} if numbers else {}


def _facts(result) -> dict[str, object]:
    """The parts of a result that are no numbers."""
    return {name: each for name, each in leaves(result).items() if as_numbers(each) is None}


def _agree(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and not bool(wrong_places(got, wanted).any())


def _size(x: Tensor) -> float:
    x = x[x.isfinite()]
    return float(x.abs().amax()) if x.numel() else 0.0


def _explains(pairs, guesses) -> bool:
    """Whether the guesses are what came, in every case, and clearly not what is right: far closer
    to the one than to the other."""
    error = far = 0.0
    if not any(bool(guess.isfinite().any()) for guess in guesses):
        return False  # a NaN comes of too much to say of what
    for (got, wanted), guess in zip(pairs, guesses, strict=True):
        if got.shape != guess.shape or bool((got.isfinite() != guess.isfinite()).any()):
            return False
        if bool((got.isnan() != guess.isnan()).any()):
            return False
        off = _size(got - guess)
        if off > 1e-6 + 2e-4 * _size(guess):
            return False
        error = max(error, off / (_size(guess) + 1e-9))
        if guess.shape != wanted.shape:
            far = math.inf
        else:
            broken = bool((guess.isfinite() != wanted.isfinite()).any())
            far = max(far, math.inf if broken else _size(guess - wanted) / (_size(guess) + 1e-9))
    return far > 2e-5 and error < 0.03 * far


def _relation(names, cases, trials, reference) -> str | None:
    """What came as something simple made of the right result, or as right for other arguments."""
    what, pairs = trials.what, trials.pairs
    if not pairs:
        return None
    right = {part: [w for _, w in pairs[part]] for part in pairs}
    for words in _made_of(names, cases, pairs, right, "the right result"):
        return f"{what} comes back is {words}."
    if (limited := _limited(pairs)) is not None:
        return f"{what} comes back is {limited}."
    changes = list(_inputs(names, cases[0].arguments))
    for words, change in changes:
        if trials.explain(reference, change):
            return f"{what} comes back would be right with {words}."
    for words, change in changes:
        base = f"what would be right with {words}"
        for said in trials.made_of(names, reference, change, base):
            return f"{what} comes back is {said}."
    return None


def _limited(pairs) -> str | None:
    """The right result, but nothing beyond one number: the largest or the smallest that came."""
    pairs = [pair for part in pairs.values() for pair in part]
    if not any(bool(got.any()) for got, _ in pairs):
        return None
    if any(g.shape != w.shape or not g.numel() or not w.numel() for g, w in pairs):
        return None
    for words, end, far in (("more", torch.amax, 1), ("less", torch.amin, -1)):
        limit = max(far * float(end(got)) for got, _ in pairs) * far
        if all(bool((got == limit).all()) for got, _ in pairs):
            continue  # always the same: that is more than a limit
        cut = [w.clamp(max=limit) if far > 0 else w.clamp(min=limit) for _, w in pairs]
        beyond = sum(int((far * (w - limit) > 0).sum()) for _, w in pairs)
        # One value that is too small could be anything.
        if beyond > 1 and math.isfinite(limit) and _explains(pairs, cut):
            return f"the right result, but never {words} than {limit:.4g}"
    return None


def _two_mistakes(names, cases, trials, mistakes) -> str | None:
    """A known mistake, and something simple beside it."""
    told = [(wrong, words) for wrong, words in mistakes if isinstance(words, str) and trials.pairs]
    # Not roots and squares: with those a known mistake becomes another one, of which its words are
    # not true.
    changes = [pair for pair in _inputs(names, cases[0].arguments) if "square" not in pair[0]]
    for wrong, known in told:
        for said in trials.made_of(names, wrong, None, "what a known mistake gives"):
            start = f"Two things seem wrong. {trials.what} comes back is {said}"
            return f'{start}, and of that mistake one would say: "{known}"'
    for (words, change), (wrong, known) in itertools.product(changes, told):
        if trials.explain(wrong, change):
            start = "Two things seem wrong. A known mistake gives what comes back, with"
            return f'{start} {words}, and of that mistake one would say: "{known}"'
    return None


class _Trials:
    """Whether other functions, or the same with other arguments, give what came: asked of one case
    first, and of all only where that one agrees."""

    def __init__(self, cases, rerun, reference, end: float):
        self.cases, self.rerun, self.reference, self.end = cases, rerun, reference, end
        numbers = _Numbers(cases)
        self.together = numbers.together
        wrong = numbers.wrong()
        self.right = {p: numbers.pairs(p) for p in numbers.parts if p not in wrong}
        # What is wrong under a name that not all cases have cannot be asked about in all of them.
        rest = any(
            part not in w or part not in numbers.parts and not _agree(each, w[part])
            for got, w in zip(numbers.got, numbers.wanted, strict=True)
            for part, each in got.items()
        )
        asked = len(wrong) < 7 and not rest
        self.pairs = {part: numbers.pairs(part) for part in wrong} if asked else {}
        self.what = "What" if len(numbers.parts) == 1 else f"In {' and '.join(wrong)} what"
        # The case in which the most values are wrong.
        counts = [
            sum(0 if _agree(*p[n]) else p[n][1].numel() for p in self.pairs.values())
            for n in range(len(cases))
        ]
        self.first = max(range(len(cases)), key=counts.__getitem__)
        self.found = {}

    def _of_case(self, function, change, number: int) -> dict[str, Tensor] | None:
        key = (function, change, number)
        if key not in self.found:
            if time.thread_time() > self.end:
                return None
            try:
                result = self.rerun(function, change, number)
                numbers = _joined(_numeric(result)) if self.together else _numeric(result)
                # A mistake that spoils what is right, or of which other facts are true, is another
                # one: its words are not true here.
                other = function is not self.reference and not (
                    all(_agree(numbers[p], pairs[number][1]) for p, pairs in self.right.items())
                    and _facts(result) == _facts(self.cases[number].got)
                )
                self.found[key] = None if other else {p: numbers[p] for p in self.pairs}
            except Exception:  # of such arguments nobody has to make sense
                self.found[key] = None
        return self.found[key]

    def _some(self, function, change, numbers) -> dict[str, list[Tensor]] | None:
        found = [self._of_case(function, change, number) for number in numbers]
        if None in found:
            return None
        return {part: [each[part] for each in found] for part in self.pairs}

    def _asked(self, function, change, ask):
        """What `ask` finds in all cases, if it finds anything in the first."""
        for numbers in ([self.first], range(len(self.cases))):
            base = self._some(function, change, numbers)
            pairs = {part: [each[n] for n in numbers] for part, each in self.pairs.items()}
            found = base and ask([self.cases[n] for n in numbers], pairs, base)
            if not found:
                return found
        return found

    def explain(self, function, change) -> bool:
        return bool(
            self._asked(
                function,
                change,
                lambda _, pairs, base: all(_explains(pairs[part], base[part]) for part in pairs),
            )
        )

    def made_of(self, names, function, change, said: str) -> list[str]:
        def ask(cases, pairs, base):
            return list(_made_of(names, cases, pairs, base, said, simple=True))

        return self._asked(function, change, ask) or []


def _made_of(names, cases, pairs, base, said: str, simple: bool = False) -> Iterator[str]:
    """What came as something simple made of the base, in words; `simple`: only where one number
    rules all cases."""
    parts = list(pairs)
    for words, make in OUTPUTS:
        try:
            guesses = {part: [make(each) for each in base[part]] for part in parts}
        except (RuntimeError, IndexError):
            continue
        moved = any(
            not _agree(*two) for p in parts for two in zip(guesses[p], base[p], strict=True)
        )
        moved &= _telling([each for part in parts for each in guesses[part]])
        if moved and all(_explains(pairs[part], guesses[part]) for part in parts):
            yield words.format(said)
    factors = [_factors(pairs[part], base[part]) for part in parts]
    if all(each is not None for each in factors):
        first = factors[0]
        one = math.isclose(first[0], 1, rel_tol=1e-4)
        if (
            all(math.isclose(f, first[0], rel_tol=2e-3) for each in factors for f in each)
            and not one
        ):
            size = _named_size(names, cases, first)
            yield f"{_times(first[0])} {said}{size and f' ({size})'}"
        elif len(parts) == 1 and (size := _named_size(names, cases, first)):
            yield f"{said} times {size}"
        elif len(parts) == 1 and (size := _named_size(names, cases, [1 / f for f in first])):
            yield f"{said} divided by {size}"
    if len(parts) > 1:
        return
    (part,) = parts
    if (size := _named_offset(names, cases, pairs[part], base[part])) is not None:
        yield f"{said} {size}"
    for offset in _offsets(pairs[part], base[part]):
        yield f"{said} {'plus' if offset > 0 else 'minus'} {abs(offset):.4g}, everywhere"
    if simple:
        return
    yield from _with_an_argument(names, cases, pairs[part], said)
    yield from _moved(pairs[part], said)


def _telling(guesses: list[Tensor]) -> bool:
    """Not nothing but 0, 1 or -1: those come of too much to say of what."""
    one = next((float(each.flatten()[0]) for each in guesses if each.numel()), 0.0)
    return abs(one) not in (0, 1) or any(bool((each != one).any()) for each in guesses)


def _factors(pairs, base) -> list[float] | None:
    """One factor a case, where what came is the base times a number."""
    found = []
    for (got, _), right in zip(pairs, base, strict=True):
        if got.shape != right.shape or not right.numel():
            return None
        flat = int(right.abs().nan_to_num(posinf=0.0).argmax())
        factor = float(got.flatten()[flat] / right.flatten()[flat])
        if not math.isfinite(factor) or factor == 0:
            return None
        found.append(factor)
    guesses = [f * right for f, right in zip(found, base, strict=True)]
    # Of single numbers there must be several: one alone is always a multiple of another.
    several = sum(right.unique().numel() for right in base) > len(base)
    alike = all(math.isclose(f, found[0], rel_tol=2e-3) for f in found)
    distinct = torch.cat([right.flatten() for right in base]).unique().numel() > 1
    if not (several or (alike and distinct)):
        return None
    return found if _explains(pairs, guesses) else None


def _times(factor: float) -> str:
    for whole in (2, 3, 4):
        if math.isclose(factor, whole, rel_tol=1e-3):
            return {2: "twice", 3: "three times", 4: "four times"}[whole]
        if math.isclose(factor, 1 / whole, rel_tol=1e-3):
            return {2: "half of", 3: "a third of", 4: "a quarter of"}[whole]
    return f"{factor:.4g} times"


def _named_size(names, cases, factors) -> str:
    """What in the arguments is as large as these factors: "the number of values in x_0"."""
    for words in _sizes(names, cases[0].arguments):
        try:
            sizes = [_sizes(names, case.arguments)[words] for case in cases]
        except KeyError:
            continue
        for kind, power in (("{}", 1), ("the square root of {}", 0.5)):
            if max(sizes) > 1 and all(
                s > 0 and math.isclose(f, s**power, rel_tol=2e-3)
                for f, s in zip(factors, sizes, strict=True)
            ):
                return kind.format(words)
    return ""


def _sizes(names, arguments) -> dict[str, float]:
    found = {}
    values = {_name(names, path): _get(arguments, path) for path in _paths(arguments)}
    for name, value in list(values.items()):
        parts = getattr(value, "__dict__", {}) if not isinstance(value, (nn.Module, Tensor)) else {}
        values |= {f"{name}.{part}": v for part, v in parts.items() if isinstance(v, Tensor)}
    for name, value in values.items():
        if type(value) in (int, float):
            found[name] = float(value)
        if type(value) is float:
            found[f"1 - {name}"] = 1 - value
        if isinstance(value, Tensor) and value.ndim:
            found[f"the number of values in {name}"] = value.numel()
            found[f"the number of values in one row of {name}"] = value.numel() / max(len(value), 1)
            found |= {f"size {d} of {name}'s shape": size for d, size in enumerate(value.shape)}
    return found


def _offsets(pairs, base) -> Iterator[float]:
    if all(g.shape == b.shape and b.numel() for (g, _), b in zip(pairs, base, strict=True)):
        offset = float((pairs[0][0] - base[0]).flatten()[0])
        values = torch.cat([b.flatten() for b in base]).unique().numel()
        if values > 2 and math.isfinite(offset) and _explains(pairs, [b + offset for b in base]):
            yield offset


def _named_offset(names, cases, pairs, base) -> str | None:
    """Where what came is the base plus or minus a size that is another one in each case."""
    if any(g.shape != b.shape or not b.numel() for (g, _), b in zip(pairs, base, strict=True)):
        return None
    offsets = [float((g - b).flatten()[0]) for (g, _), b in zip(pairs, base, strict=True)]
    guesses = [b + offset for b, offset in zip(base, offsets, strict=True)]
    if len({round(offset, 3) for offset in offsets}) < 2 or not _explains(pairs, guesses):
        return None
    for sign, words in ((1, "plus"), (-1, "minus")):
        sizes = [sign * offset for offset in offsets]
        if min(sizes) > 0 and (name := _named_size(names, cases, sizes)):
            return f"{words} {name}"
    return None


def _with_an_argument(names, cases, pairs, said) -> Iterator[str]:
    """What came is an argument, or the right result with a share of one added."""
    for path in _paths(cases[0].arguments):
        try:
            values = [as_numbers(_get(case.arguments, path)).detach().cpu() for case in cases]
            values = [v.expand_as(g) for v, (g, _) in zip(values, pairs, strict=True)]
        except (AttributeError, IndexError, RuntimeError):
            continue
        if not all(isinstance(_get(case.arguments, path), Tensor) for case in cases):
            continue
        name = _name(names, path)
        if _explains(pairs, values):
            yield f"{name} as it came"
        if any(got.shape != wanted.shape for got, wanted in pairs):
            continue
        flat = int(values[0].abs().argmax())
        share = float(((pairs[0][0] - pairs[0][1]).flatten() / values[0].flatten())[flat])
        if math.isfinite(share) and abs(share) > 1e-3:
            guesses = [w + share * v for (_, w), v in zip(pairs, values, strict=True)]
            if _explains(pairs, guesses):
                sign, size = "plus" if share > 0 else "minus", abs(share)
                times = "" if math.isclose(size, 1, rel_tol=1e-3) else f"{size:.4g} times "
                yield f"{said} {sign} {times}{name}"


def _moved(pairs, said) -> Iterator[str]:
    """The right values in other places."""
    if any(wanted.numel() < 2 or got.numel() != wanted.numel() for got, wanted in pairs):
        return
    ndim = pairs[0][1].ndim
    if any(wanted.ndim != ndim for _, wanted in pairs):
        return
    for one, two in itertools.combinations(range(ndim), 2):
        if _explains(pairs, [w.transpose(one, two) for _, w in pairs]):
            yield f"{said} with dimensions {one} and {two} exchanged"
    for dim in range(ndim):
        if _explains(pairs, [w.flip(dim) for _, w in pairs]):
            yield f"{said} back to front along dimension {dim}"
        for step in (1, -1):
            if _explains(pairs, [w.roll(step, dim) for _, w in pairs]):
                yield f"{said} moved by one along dimension {dim}"
        if _explains(pairs, [w.roll(w.shape[dim] // 2, dim) for _, w in pairs]):
            yield f"{said} with its halves along dimension {dim} exchanged"
    for order in itertools.permutations(range(ndim)) if ndim < 5 else ():
        if _explains(pairs, [w.permute(order) for _, w in pairs]):
            yield f"{said} with its dimensions in the order {list(order)}"
        if _explains(pairs, [w.permute(order).reshape(g.shape) for g, w in pairs]):
            kept = list(order) == list(range(ndim))
            yield said + (" in another shape" if kept else ", its values in another order")
            return
    if all(wanted.unique().numel() > 1 for _, wanted in pairs):
        ordered = [(g.flatten().sort().values, w.flatten().sort().values) for g, w in pairs]
        if all(_size(g - w) <= 1e-6 + 1e-5 * _size(w) for g, w in ordered):
            yield f"{said}, its values in another order"


# --- what is right about it ---


def _weights(names, cases) -> str | None:
    """Of results that are sums of the arguments, each with a weight of its own for each example:
    which weights are wrong."""
    numbers = _Numbers(cases)
    wrong = numbers.wrong()
    found = _weights_in(names, cases, numbers.pairs(wrong[0])) if wrong else None
    return f"Of {wrong[0]}: {found}" if found and len(numbers.parts) > 1 else found


def _weights_in(names, cases, pairs) -> str | None:
    wrong, clearest = set(), None
    for case, (got, wanted) in zip(cases, pairs, strict=True):
        if got.shape != wanted.shape or got.ndim < 2:
            return None
        paths = [p for p in _paths(case.arguments) if _adds_up(_get(case.arguments, p), wanted)]
        if not 2 <= len(paths) <= 4:
            return None
        terms = [_get(case.arguments, p).detach().cpu().double().flatten(1) for p in paths]
        for row in range(len(wanted)):
            columns = torch.stack([term[row] for term in terms], 1)
            if len(columns) < len(paths) + 2:
                continue
            right, came = (_fitted(columns, each[row].flatten()) for each in (wanted, got))
            if right is None or came is None:
                return None
            for path, a, b in zip(paths, came, right, strict=True):
                off = abs(float(a - b))
                if off > 2e-3 * max(abs(float(b)), 1e-3):
                    wrong.add(path)
                    if clearest is None or off > clearest[0]:
                        clearest = off, path, float(a), float(b), case.arguments
    if not wrong or clearest is None:
        return None
    _, path, came, right, arguments = clearest
    came, right = (0.0 if abs(each) < 1e-6 else each for each in (came, right))
    fine = [_name(names, p) for p in paths if p not in wrong]
    start = f"The weight of {' and '.join(fine)} in it is right. " if fine else ""
    told = [f"{n} = {v:g}" for n, v in zip(names, arguments, strict=False) if _plain(v)]
    weighed = f"In one example {_name(names, path)} is weighed by {came:.4g}"
    weighed += f" for {', '.join(told)}" if told else ""
    return f"{start}{weighed}, and {right:.4g} is right."


def _plain(value) -> bool:
    return type(value) in (int, float)


def _adds_up(value, wanted: Tensor) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.shape == wanted.shape


def _fitted(columns: Tensor, row: Tensor) -> Tensor | None:
    if not bool(row.isfinite().all()):
        return None
    found = torch.linalg.lstsq(columns, row[:, None]).solution[:, 0]
    return found if _size(columns @ found - row) <= 1e-4 * (_size(row) + 1e-9) else None


def _which_are_right(cases) -> str | None:
    fine = {}
    for case in cases:
        got, wanted = leaves(case.got), leaves(case.wanted)
        if got.keys() != wanted.keys():
            return None
        for part, value in wanted.items():
            if as_numbers(value) is not None:
                fine[part] = fine.get(part, True) and _same(got[part], value)
    right = [part for part, is_right in fine.items() if is_right]
    if not 0 < len(right) < 4 or len(right) == len(fine) or len(fine) > 6:
        return None
    return f"{' and '.join(right)} {'is' if len(right) == 1 else 'are'} right."


def _laws(names, cases) -> str | None:
    """What is true of the right result and not of what came: what it adds up to, what becomes of
    it where all tensors are twice as large, two are exchanged, or two the same."""
    numbers = _Numbers(cases)
    for part in numbers.wrong() if not numbers.together else []:
        pairs, what = numbers.pairs(part), f"In {part} the" if len(numbers.parts) > 1 else "The"
        for dim in range(min((wanted.ndim for _, wanted in pairs), default=0)):
            sums = [(_sum(got, dim), _sum(wanted, dim)) for got, wanted in pairs]
            if all(b == 1 for _, b in sums) and not all(a == 1 for a, _ in sums):
                return f"{what} right values add up to 1 along dimension {dim}, and these do not."
        for case, (got, wanted) in zip(cases, pairs, strict=True):
            if _agree(got, wanted):
                continue
            told = [
                words
                for probe in case.got_probes.keys() & case.wanted_probes.keys()
                if (words := _law(names, case, probe, part, got, wanted)) is not None
            ]
            if told:
                return f"{what} {min(told)}."
    return None


def _sum(x: Tensor, dim: int) -> float | None:
    """What it adds up to along a dimension, if that is the same everywhere."""
    if dim >= x.ndim or x.shape[dim] < 2:
        return None
    total = x.sum(dim)
    one = round(float(total.mean()), 3)
    return one if bool(torch.isclose(total, torch.full_like(total, one), atol=2e-4).all()) else None


def _law(names, case, probe: str, part: str, got: Tensor, wanted: Tensor) -> str | None:
    other, right = (
        _numeric(each[probe]).get(part) for each in (case.got_probes, case.wanted_probes)
    )
    if other is None or right is None:
        return None
    if probe == "twice as large":
        grown, rightly = _growth(got, other), _growth(wanted, right)
        if rightly is None or grown is None or math.isclose(grown, rightly, rel_tol=0.01):
            return None
        tensors = [
            _name(names, p) for p in _paths(case.arguments) if _floats(_get(case.arguments, p))
        ]
        return (
            f"right result becomes {rightly:.4g} times as large where {' and '.join(tensors)} "
            f"{'are' if len(tensors) > 1 else 'is'} twice as large, and this one {grown:.4g} times"
        )
    if probe.endswith("exchanged") and _agree(wanted, right) and not _agree(got, other):
        return f"right result is the same with {probe}, and this one is not"
    if " is " in probe and _size(right) < 1e-4 * _size(wanted) and _size(other) > 0.01 * _size(got):
        same = probe.replace(" is ", " is the same as ")
        return f"right result is 0 where {same}, and this one is not"
    return None


def _growth(small: Tensor, large: Tensor) -> float | None:
    """How many times as large, if that is the same for all values."""
    if small.shape != large.shape or not small.numel() or not bool(small.any()):
        return None
    flat = int(small.abs().nan_to_num(posinf=0.0).argmax())
    times = float(large.flatten()[flat] / small.flatten()[flat])
    return (
        times
        if math.isfinite(times) and _size(large - times * small) < 1e-4 * _size(large)
        else None
    )


def _always(cases) -> str | None:
    """Whether all that comes back is one number."""
    numbers = _Numbers(cases)
    for part in numbers.wrong()[:1]:
        got, wanted = (
            torch.cat([each.flatten() for each in side])
            for side in zip(*numbers.pairs(part), strict=True)
        )
        if got.numel() > 2 and got.unique().numel() == 1 < wanted.unique().numel():
            what = f"Of {part}: every" if part and len(numbers.parts) > 1 else "Every"
            return f"{what} number that comes back is {float(got[0]):.4g}."
    return None


def _where(names, cases) -> str | None:
    """In which examples, or where in a mask, the wrong values lie."""
    numbers = _Numbers(cases)
    for part in numbers.wrong()[:1] if not numbers.together else []:
        pairs = numbers.pairs(part)
        if (broken := _broken_where(names, cases, pairs)) is not None:
            return broken
        if any(got.shape != wanted.shape or wanted.ndim == 0 for got, wanted in pairs):
            return None
        wrong = [wrong_places(got, wanted) for got, wanted in pairs]
        for path in _paths(cases[0].arguments):
            masks = []
            for case, each in zip(cases, wrong, strict=True):
                value = _get(case.arguments, path) if path in _paths(case.arguments) else None
                if isinstance(value, Tensor) and value.dtype == torch.bool and bool(each.any()):
                    with_room = value.cpu().reshape(*value.shape, *[1] * (each.ndim - value.ndim))
                    try:
                        masks.append((torch.broadcast_to(with_room, each.shape), each))
                    except RuntimeError:
                        return None
            for truth in (True, False):
                fine = [m == truth for m, _ in masks]
                if fine and all(
                    bool(f.any()) and not bool((f & w).any())
                    for f, (_, w) in zip(fine, masks, strict=True)
                ):
                    return f"It is right wherever {_name(names, path)} is {truth}."
        rows = [each.flatten(1).any(1) if each.ndim > 1 else each for each in wrong]
        if (when := _when(names, cases, rows)) is not None:
            return when
        row = "row" if pairs[0][1].ndim > 1 else "entry"
        least = 1 if row == "row" else 2  # of two single numbers it was said which is right
        if all(len(r) > least and not bool(r[0]) and bool(r[1:].all()) for r in rows):
            return f"It is right in the first {row}, and wrong in all others."
        if all(len(r) > least and bool(r[-1]) and not bool(r[:-1].any()) for r in rows):
            return f"Only the last {row} is wrong."
        if (places := _places(wrong)) is not None:
            return places
    return None


def _broken_where(names, cases, pairs) -> str | None:
    """Which argument is below 0, or 0, wherever a NaN came, and nowhere else."""
    nans = [got.isnan() & ~wanted.isnan() for got, wanted in pairs if got.shape == wanted.shape]
    if len(nans) < len(pairs) or not any(bool(each.any()) for each in nans):
        return None
    for path in _paths(cases[0].arguments):
        values = [_get(case.arguments, path) for case in cases]
        if not all(
            isinstance(v, Tensor) and v.shape == n.shape for v, n in zip(values, nans, strict=True)
        ):
            continue
        for words, found in (("below 0", lambda v: v < 0), ("0", lambda v: v == 0)):
            if all(torch.equal(found(v.cpu()), n) for v, n in zip(values, nans, strict=True)):
                return (
                    f"It is NaN just where {_name(names, path)} is {words}: is a root or a "
                    "logarithm taken of it, or is something divided by it?"
                )
    return None


def _places(wrong: list[Tensor]) -> str | None:
    """Along which dimension only some places are wrong, in every case that is wrong."""
    wrong = [each for each in wrong if bool(each.any())]
    dims = min((each.ndim for each in wrong), default=0)
    for dim in [*range(1, dims), 0][:dims]:
        at = [each.movedim(dim, 0).reshape(each.shape[dim], -1).any(1) for each in wrong]
        if all(0 < int(each.sum()) < len(each) for each in at):
            some = ", ".join(map(str, (~at[0]).nonzero()[:6, 0].tolist()))
            more = ", ..." if int((~at[0]).sum()) > 6 else ""
            shape = list(wrong[0].shape)
            return (
                f"In a result of shape {shape} it is right at {some}{more} along dimension {dim}."
            )
    return None


def _when(names, cases, rows) -> str | None:
    """For which values of a number, one for all or one for each example, it is wrong. Of
    several numbers that would explain it, the one whose wrong values lie at an end: 0, say."""
    found = []
    for name, values_of in _numbers_of(names, cases):
        wrong, right, whole = set(), set(), True
        for case, each in zip(cases, rows, strict=True):
            value = values_of(case)
            whole &= _whole(value)
            shape = value.shape if isinstance(value, Tensor) else ()
            if not (_whole(value) or type(value) is float) or shape not in ((), each.shape):
                break
            values = torch.as_tensor(value, dtype=torch.float64).expand(len(each)).tolist()
            for number, is_wrong in zip(values, each.tolist(), strict=True):
                (wrong if is_wrong else right).add(number)
        else:
            if right and 0 < len(wrong) < 3 and not wrong & right:
                values = " or ".join(f"{each:g}" for each in sorted(wrong))
                others = ", ".join(f"{each:g}" for each in sorted(right)[:6])
                said = f"It is wrong only where {name} is {values}, and right for {others}."
                between = min(right) < max(wrong) and min(wrong) < max(right)
                if whole or not between:  # numbers with a fraction are other ones in each case
                    found.append((between, said))
    return min(found, key=lambda each: each[0])[1] if found else None


def _numbers_of(names, cases) -> Iterator[tuple[str, Callable]]:
    """What may be a number in each case, by name: how long the schedules are, and arguments."""
    for path in _paths(cases[0].arguments):
        name, value = _name(names, path), _get(cases[0].arguments, path)
        if isinstance(value, NoiseSchedule):
            yield f"{name}.steps", lambda case, path=path: _get(case.arguments, path).steps
        else:
            yield name, lambda case, path=path: _get(case.arguments, path)


# --- what it calls ---


def _calls(cases) -> str | None:
    """How often an answer calls the networks and functions among its arguments, and with what."""
    told = [_calls_of(case) for case in cases if not _same(case.got, case.wanted)]
    if not told or None in told:
        return None
    # What is given may be right in one case and, for a shortcut say, another in the next.
    fine = [said.startswith("Everything") for said in told]
    return told[0] if all(fine) or not any(fine) else None


def _calls_of(case) -> str | None:
    got, wanted = case.got_calls, case.wanted_calls
    mine, right = [name for name, _ in got], [name for name, _ in wanted]
    if not right or mine and not set(mine) & set(right):
        return None
    for name in dict.fromkeys(right + mine):
        if mine.count(name) != right.count(name):
            often = [_often(names.count(name)) for names in (mine, right)]
            return f"{name} is called {often[0]}, and in the course's version {often[1]}."
    # In whatever order: what an answer asks first makes no difference to what it asks.
    left, odd = list(wanted), []
    for name, given in got:
        same = next((e for e in left if e[0] == name and _same(given, e[1])), None)
        if same is None:
            odd.append((name, given))
        else:
            left = [each for each in left if each is not same]
    for name, given in odd:
        expected = next(each for each in left if each[0] == name)
        left = [each for each in left if each is not expected]
        if given is None or given.keys() != (expected[1] or {}).keys():
            return None
        for key, value in given.items():
            other = difference(value, expected[1][key])
            if other is not None:
                what = f"What {name} is given" + ("" if key.isdigit() else f" as {key}")
                return f"{what} is not what the course's version gives it: {other.words}."
    what = right[0] if len(set(right)) == 1 else "each part"
    return f"Everything that {what} is given is right; what is made of its answer is not."


def _often(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")
