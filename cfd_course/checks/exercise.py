"""An exercise, and what it says of an answer."""

import base64
import contextlib
import copy
import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .comparing import (
    Other,
    argument_names,
    bare_dtype,
    described,
    difference,
    for_arguments,
    other_arguments,
    other_dtypes,
    reaches,
    tensors,
)
from .record import note_right, note_solved, worth
from .sandbox import (
    GIGABYTES,
    SECONDS,
    NotYet,
    TooSlow,
    closed_book,
    memory_limit,
    quiet,
    time_limit,
    where,
)


@dataclass
class Exercise:
    """One exercise. Calling it checks an answer: prints what is wrong with it, if anything, and
    returns the learner's function when it is right, the package's otherwise. It never raises.

    reference: the right function. cases: functions that return fresh arguments. mistakes: what
    learners really write, each with words that say what is wrong without giving the answer away;
    the words may be a function of (got, wanted) of the first case that differs. points: for a
    right answer. observe: what to compare, from the arguments after the call and the result; for
    answers that work in place. otherwise: words, or None, for a mistake that is none of these, from
    (got, wanted) of the first case that differs.
    """

    reference: Callable
    cases: list[Callable[[], tuple]]
    mistakes: list[tuple[Callable, str | Callable]] = field(default_factory=list)
    points: int = 1
    observe: Callable | None = None
    otherwise: Callable | None = None

    def __call__(self, answer):
        problem = self.problem(answer)
        if problem is not None:
            print(f"{self.says(problem)}\nFrom here on the course's version runs.")
            return self.reference
        note_right(answer, self.points)
        print(f"{self.says(None)} From here on your own version runs.")
        note_solved(self)
        return answer

    def says(self, problem: str | None) -> str:
        """The verdict in a line."""
        name = getattr(self.reference, "__name__", "answer")
        return f"{name}: " + (
            f"right ({worth(self.points)})." if problem is None else f"not yet. {problem}"
        )

    def problem(self, answer) -> str | None:
        """What is wrong with the answer, in words; None if nothing is."""
        return self.verdict(self.outcomes(answer))

    def outcomes(self, answer) -> list[dict]:
        """What the answer does in each case: its "result", and the names of the arguments that it
        "changed" and of those that a gradient of the result "reached"; or, in the end, an "error"
        in words."""
        if not callable(answer):
            return [_error(f"The check needs your function itself, but {described(answer)} came.")]
        if answer is self.reference:
            return [_error("This is the course's own function: the exercise asks you to write it.")]
        found = []
        for case in self.cases:
            found.append(self._attempt(answer, case))
            if "error" in found[-1]:
                break
        return found

    def _attempt(self, answer, case) -> dict:
        try:
            takes_others = other_arguments(answer, self.reference, case())
            if takes_others is not None:
                return _error(takes_others)
            return self._run(answer, case, closed_book(self.reference))
        except TooSlow:
            words = f"It did not finish within {SECONDS} seconds"
        except NotYet as error:
            return _error(str(error))
        except BaseException as error:  # SystemExit and KeyboardInterrupt as well
            words = f"It stops with {where(error)}"
        return _error(f"{words}{for_arguments(self.reference, case())}.")

    def verdict(self, outcomes: list[dict]) -> str | None:
        """What is wrong with an answer that does this, in words; None if nothing is."""
        try:
            return self._verdict(outcomes)
        except Exception as error:
            return f"What it returns cannot be compared: {where(error)}."

    def _verdict(self, outcomes) -> str | None:
        for outcome in outcomes:
            if "error" in outcome:
                return outcome["error"]
        if outcomes[0]["result"] is None:
            return "It returns None so far: write its body, and return the result."
        flaws = []
        for case, outcome in zip(self.cases, outcomes, strict=True):
            right = self._run(self.reference, case)
            got, wanted = outcome["result"], right["result"]
            differs = difference(got, wanted)
            if differs is not None:
                return (
                    self._known_mistake(outcomes, got, wanted)
                    or (self.otherwise and self.otherwise(got, wanted))
                    or f"It differs{for_arguments(self.reference, case())}: {differs}."
                )
            flaws.append(self._flaw(outcome, right, case()))
        return next((flaw for flaw in flaws if flaw is not None), None)

    def _flaw(self, outcome, right, arguments) -> str | None:
        """What is wrong with an answer whose numbers are right, in words; None if nothing is."""
        for came, wanted in other_dtypes(outcome["result"], right["result"]):
            like = [
                f"{name}.dtype"
                for name, value in zip(argument_names(self.reference), arguments, strict=False)
                if isinstance(value, Tensor) and value.dtype == wanted
            ]
            return (
                f"The numbers are right, but they came back as {bare_dtype(came)}, and what takes "
                f"them next needs {bare_dtype(wanted)}. End with .to({(like + [wanted])[0]})."
            )
        for name in right["reached"]:
            if name not in outcome["reached"]:
                why = f"no gradient reaches the {name}: it"
                if isinstance(outcome["result"], float):
                    why = f"a plain float has no gradient: the {name}"
                return f"The result is right, but {why} would never learn."
        for name in outcome["changed"]:
            if name not in right["changed"]:
                return (
                    f"The result is right, but your function changes its argument {name} in "
                    "place: whoever called it still needs that. Make a new tensor instead."
                )
        return None

    def _known_mistake(self, outcomes, got, wanted) -> str | None:
        for wrong, words in self.mistakes:
            try:
                same = all(
                    difference(outcome["result"], self._run(wrong, case)["result"]) is None
                    for case, outcome in zip(self.cases, outcomes, strict=True)
                )
            except Exception:
                continue
            if same:
                return words(got, wanted) if callable(words) else words
        return None

    def _run(self, function, case, book=None) -> dict:
        """What the function does in this case, as in `outcomes`."""
        # Copies: what the cases share, a schedule say, must survive whatever an answer does to it.
        # But networks and optimisers as they come: the copy of a parameter has no gradient.
        arguments = case()
        kept = (nn.Module, torch.optim.Optimizer)
        arguments = copy.deepcopy(arguments, {id(a): a for a in arguments if isinstance(a, kept)})
        before = copy.deepcopy(arguments)
        names = argument_names(self.reference)  # before its book is closed
        with (
            book or contextlib.nullcontext(),
            quiet(),
            torch.random.fork_rng(devices=[]),
            torch.set_grad_enabled(torch.is_grad_enabled()),
            memory_limit(GIGABYTES),
            time_limit(SECONDS),
        ):
            torch.manual_seed(0)
            result = function(*arguments)
            if self.observe is not None:
                result = self.observe(arguments, result)
            reached = [
                name
                for name, argument in zip(names, arguments, strict=False)
                if reaches(result, argument)
            ]
        changed = [
            name
            for name, old, new in zip(names, before, arguments, strict=False)
            if difference(tensors(new), tensors(old)) is not None
        ]
        return {"result": result, "changed": changed, "reached": reached}


def _error(words: str) -> dict:
    return {"error": words}


def seal(outcomes: list[dict]) -> str:
    """Outcomes as text, for another process."""
    file = io.BytesIO()
    torch.save(_plain(outcomes), file)
    return base64.b64encode(file.getvalue()).decode()


def unseal(text: str) -> list[dict]:
    """The outcomes that seal() wrote. Reads data only: nothing in the text is run."""
    with torch.serialization.safe_globals([Other]):
        return torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True)


def _plain(value):
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (int, float, bool, str, type(None)):
        return value
    return Other(described(value))


def hand_in(lesson: str, name: str, answer) -> None:
    """While a submission is graded: show what the answer does, as data for the Judge."""
    from IPython.display import publish_display_data

    exercise = getattr(importlib.import_module(f"{__package__}.lesson_{lesson}"), name)
    missing = [_error(f"There is no {name} in the notebook.")]
    outcomes = missing if answer is None else exercise.outcomes(answer)
    publish_display_data({"application/x-cfd-outcomes": seal(outcomes)})
