"""What an exercise's answer must do, and the words for each known mistake; one file a lesson.

In a notebook: `add_noise = check.add_noise(add_noise)`, then `check.points(add_noise)`.
"""

import contextlib
import copy
import inspect
import io
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import expect

SECONDS = 2  # for one call of an answer
_right: list[tuple[object, int]] = []  # the answers found right in this kernel, with their points


class TooSlow(Exception):
    """An answer ran past its time."""


@dataclass
class Exercise:
    """One exercise. Calling it checks an answer: prints what is wrong with it, if anything, and
    returns the learner's function when it is right, the package's otherwise. It never raises.

    reference: the right function. cases: functions that return fresh arguments. mistakes: what
    learners really write, each with words that say what is wrong without giving the answer away;
    the words may be a function of (got, wanted) of the first case that differs. points: for a
    right answer. observe: what to compare, from the arguments after the call and the result; for
    answers that work in place.
    """

    reference: Callable
    cases: list[Callable[[], tuple]]
    mistakes: list[tuple[Callable, str | Callable]] = field(default_factory=list)
    points: int = 1
    observe: Callable | None = None

    def __call__(self, answer):
        name = getattr(self.reference, "__name__", "answer")
        problem = self.problem(answer)
        if problem is None:
            _right.append((answer, self.points))
            print(f"{name}: right ({_points(self.points)}). From here on your own version runs.")
            return answer
        print(f"{name}: not yet. {problem}\nFrom here on the course's version runs.")
        return self.reference

    def problem(self, answer) -> str | None:
        """What is wrong with the answer, in words; None if nothing is."""
        if not callable(answer):
            return f"The check needs your function itself, but {expect.describe(answer)} came."
        if answer is self.reference:
            return "This is the course's own function: the exercise asks you to write yours."
        outcomes = []
        for case in self.cases:
            try:
                outcomes.append(self._run(answer, case))
            except TooSlow:
                return f"It did not finish within {SECONDS} seconds{_call(self.reference, case())}."
            except Exception as error:
                return f"It stops with {_where(error)}{_call(self.reference, case())}."
        if outcomes[0][0] is None:
            return "It returns None so far: write its body, and return the result."
        for case, (got, _) in zip(self.cases, outcomes, strict=True):
            wanted, _ = self._run(self.reference, case)
            difference = _difference(got, wanted)
            if difference is not None:
                return self._known_mistake(outcomes, got, wanted) or (
                    f"It differs{_call(self.reference, case())}: {difference}."
                )
        if self.observe is None and any(changed for _, changed in outcomes):
            return (
                "The result is right, but your function changes its argument "
                f"{next(changed for _, changed in outcomes if changed)} in place: whoever called "
                "it still needs that. Make a new tensor instead."
            )
        return None

    def _known_mistake(self, outcomes, got, wanted) -> str | None:
        for wrong, words in self.mistakes:
            try:
                same = all(
                    _difference(mine, self._run(wrong, case)[0]) is None
                    for case, (mine, _) in zip(self.cases, outcomes, strict=True)
                )
            except Exception:
                continue
            if same:
                return words(got, wanted) if callable(words) else words
        return None

    def _run(self, function, case) -> tuple[object, str | None]:
        """What the function does in this case, and the name of an argument that it changed."""
        arguments = case()
        before = copy.deepcopy(arguments)
        with _quiet(), torch.random.fork_rng(devices=[]), _time_limit(SECONDS):
            torch.manual_seed(0)
            result = function(*arguments)
            if self.observe is not None:
                return self.observe(arguments, result), None
        changed = None
        for name, old, new in zip(_names(self.reference), before, arguments, strict=False):
            if isinstance(old, Tensor) and _difference(new, old) is not None:
                changed = name
        return result, changed


def points(answer) -> float:
    """The points that the answer earned: 0 unless its check found it right in this kernel."""
    return float(max((worth for right, worth in _right if right is answer), default=0))


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _names(function) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions need not have one
        return []


def _call(reference, arguments) -> str:
    """What can be said of the arguments: " for x_0 = a float32 tensor of shape [2, 3], t = 5"."""
    names = _names(reference) or [f"argument {i + 1}" for i in range(len(arguments))]
    said = [
        f"{name} = " + (expect.describe(value) if isinstance(value, Tensor) else repr(value))
        for name, value in zip(names, arguments, strict=False)
        if isinstance(value, (Tensor, int, float, str, type(None)))
    ]
    return f" for {', '.join(said)}" if said else ""


def _where(error: BaseException) -> str:
    """The error and the line of the answer that it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "cfd_course" not in frame.filename
    ]
    line = next((frame for frame in frames if frame.line), None)
    text = f"{type(error).__name__}: {str(error)[:300]}"
    return f"{text} (at `{line.line.strip()}`)" if line is not None else text


def _difference(got, wanted) -> str | None:
    """How two results differ, in words; None if they agree to about three digits."""
    if isinstance(wanted, nn.Module):
        wanted = wanted.state_dict()
        got = got.state_dict() if isinstance(got, nn.Module) else got
    if isinstance(wanted, Mapping):
        if not isinstance(got, Mapping) or got.keys() != wanted.keys():
            return f"{expect.describe(got)} came back, not {expect.describe(wanted)}"
        pairs = [(f"{key}: ", got[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(wanted):
            return f"{len(wanted)} results should come back, but {expect.describe(got)} did"
        pairs = [
            (f"result {i + 1}: ", a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))
        ]
    else:
        return _tensor_difference(got, wanted)
    for where, a, b in pairs:
        difference = _difference(a, b)
        if difference is not None:
            return where + difference
    return None


def _tensor_difference(got, wanted) -> str | None:
    if wanted is None or isinstance(wanted, (str, bool)):
        return None if got == wanted else f"{expect.describe(got)} came back, not {wanted!r}"
    if not isinstance(wanted, Tensor):  # a number: a tensor that holds one will do
        try:
            got, wanted = torch.tensor(float(got)), torch.tensor(float(wanted))
        except (TypeError, ValueError, RuntimeError):
            return f"{expect.describe(got)} came back, not a number"
    if not isinstance(got, Tensor):
        if wanted.ndim == 0 and isinstance(got, (int, float)):
            got = torch.tensor(got)
        else:
            return f"{expect.describe(got)} came back, not a tensor"
    if got.shape != wanted.shape:
        return f"the shape is {list(got.shape)}, but {list(wanted.shape)} was expected"
    if got.is_floating_point() != wanted.is_floating_point():
        return f"{expect.describe(got)} came back, but {expect.describe(wanted)} was expected"
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


@contextlib.contextmanager
def _quiet():
    """What an answer prints or warns of is not part of the verdict."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _time_limit(seconds: float):
    """Raise TooSlow after so much time of the processor, so that a busy machine fails nobody, or
    after ten times as long on the clock, for an answer that sleeps. Only where the system has such
    alarms (not on Windows) and in the main thread, which is where notebook cells run."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise TooSlow

    alarms = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds),
    }
    before = {number: signal.signal(number, stop) for number, _ in alarms.values()}
    try:
        for timer, (_, limit) in alarms.items():
            signal.setitimer(timer, limit)
        yield
    finally:
        for timer in alarms:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
