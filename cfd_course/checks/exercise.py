"""An exercise, and what it says of an answer.

A check has two steps, which may happen in two processes. `outcomes` runs an answer: it returns
plain data (see observing.py), which `seal` turns into text. `verdict` judges such data, from
whatever process it comes: it runs the reference and the known mistakes, never the answer.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import questions
from .comparing import (
    Difference,
    Other,
    bare,
    described,
    difference,
    distance,
    for_arguments,
    other_dtypes,
)
from .observing import (
    argument_names,
    fresh,
    gradients,
    learns,
    observed,
    other_arguments,
    random_state,
    state_of,
)
from .record import note_right, note_solved, worth
from .sandbox import (
    GIGABYTES,
    SECONDS,
    NotYet,
    TooSlow,
    closed_book,
    environment,
    memory_limit,
    quiet,
    time_limit,
    where,
)


@dataclass
class Exercise:
    """One exercise. Calling it checks an answer: prints what is wrong with it, if anything, and
    returns the learner's function when it is right, the package's otherwise. It never raises.

    reference: the right function. cases: functions that return fresh arguments; where something in
    them can learn (a tensor or a network's parameter that requires a gradient), gradients must
    arrive wherever they do with the reference, at every floating-point argument. mistakes: what
    learners really write, each with words that say what is wrong without giving the answer away;
    the words may be a function of (got, wanted) of the first case that differs. points: for a
    right answer. observe: what to compare, from the arguments after the call and the result; for
    answers that work in place. otherwise: words, or None, for a mistake that is none of these, from
    (got, wanted) of a case that differs. forbids: functions that an answer must not call, for they
    do what the task asks for.
    """

    reference: Callable
    cases: list[Callable[[], tuple]]
    mistakes: list[tuple[Callable, str | Callable]] = field(default_factory=list)
    points: int = 1
    observe: Callable | None = None
    otherwise: Callable | None = None
    forbids: tuple[Callable, ...] = ()

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

    # --- what an answer does ---

    def outcomes(self, answer) -> list[dict]:
        """What the answer does in each case, as plain data: what `observed` returns; the
        "gradients", where something can learn; the same "again" with other random numbers; and for
        the first case the results of "probes", and where a function comes back what that does when
        another was made "meanwhile". Where it stops, an "error" in words in place of all
        that, and the error itself ("stops"); the last one, where it was refused or too slow."""
        if not callable(answer):
            return [_error(f"The check needs your function itself, but {described(answer)} came.")]
        if answer is self.reference:
            return [_error("This is the course's own function: the exercise asks you to write it.")]
        found = []
        for number, case in enumerate(self.cases):
            found.append(self._attempt(answer, case, number == 0))
            if "error" in found[-1] and "stops" not in found[-1]:
                break
        return found

    def _attempt(self, answer, case, first: bool, again: bool = True) -> dict:
        try:
            with environment():
                takes_others = other_arguments(answer, self.reference, case())
            if takes_others is not None:
                return _error(takes_others)
            return self._outcome(answer, case, first, closed=True)
        except TooSlow as error:
            if first and again and not error.args[0]:  # it may be what it imports that took so long
                return self._attempt(answer, case, first, again=False)
            return _error(f"It did not finish within {SECONDS} seconds{self._for(case)}.")
        except NotYet as error:
            return _error(str(error))
        except BaseException as error:  # SystemExit and KeyboardInterrupt as well
            words = f"It stops with {where(error)}{self._for(case)}.{_advice(error)}"
            return {**_error(words), "stops": _stop(error)}

    def _outcome(self, function, case, probed: bool = False, closed: bool = False) -> dict:
        found = self._run(function, case, observed, closed=closed)
        with environment():
            arguments, names = case(), self._names
            trials = questions.probes(names, arguments) if probed else {}
            needs_gradients, untouched = learns(names, arguments), random_state()
        if needs_gradients:
            try:
                found["gradients"] = self._run(function, case, gradients, closed=closed)
            except Exception as error:
                found["gradients"] = f"It stops with {where(error)}"
        drawn = any(isinstance(each, torch.Generator) for each in arguments)
        if probed or drawn or found["random"] != untouched:
            found["again"] = self._run(function, case, observed, questions.reseeded, 1, closed)
        if probed and isinstance(found.get("raw"), Other) and len(self.cases) > 1:  # a function
            found["meanwhile"] = self._run(function, case, self._interrupted, closed=closed)
        found["probes"] = {}
        for name, change in trials.items():
            try:
                trial = self._run(function, case, observed, change, closed=closed)
            except Exception:  # of such arguments nobody has to make sense
                continue
            found["probes"][name] = trial["result"]
        return found

    @property
    def _names(self) -> list[str]:
        return argument_names(self.reference)

    def _for(self, case) -> str:
        with environment():
            return for_arguments(self._names, case())

    def _run(self, function, case, look, change=None, seed: int = 0, closed: bool = False):
        """Have a look, `observed` say, at what the function does in this case."""
        names = self._names
        with environment(seed):
            arguments = fresh(case())
            if change is not None:
                arguments = change(arguments)
            with quiet(), memory_limit(GIGABYTES):
                if not closed:  # the course's own: that may take its time, on a busy machine say
                    return look(function, arguments, names, self.observe)
                with time_limit(SECONDS), closed_book(self.reference, self.forbids):
                    return look(function, arguments, names, self.observe)

    def _interrupted(self, function, arguments, names, observe):
        """The result, where the function was called for the next case before it was looked at."""
        return observed(function, arguments, names, observe, fresh(self.cases[1]()))["result"]

    # --- what is said of it ---

    def verdict(self, outcomes: list[dict]) -> str | None:
        """What is wrong with an answer that does this, in words; None if nothing is."""
        try:
            return self._verdict(outcomes)
        except Exception as error:
            return f"What it returns cannot be compared: {where(error)}."

    def _verdict(self, outcomes) -> str | None:
        if any("error" in outcome for outcome in outcomes):
            return self._stopped(outcomes)
        if outcomes[0]["result"] is None:
            return "It returns None so far: write its body, and return the result."
        rights = [self._right(number) for number in range(len(self.cases))]
        pairs = list(zip(outcomes, rights, strict=True))
        differences = [_apart(*pair) for pair in pairs]
        wrong = [number for number, each in enumerate(differences) if each is not None]
        if not wrong:
            flaws = (self._flaw(*pair, case) for pair, case in zip(pairs, self.cases, strict=True))
            return next((flaw for flaw in flaws if flaw is not None), self._fixed(pairs))
        both = [(outcomes[n]["result"], rights[n]["result"]) for n in wrong]
        known = self._known_mistake(outcomes, range(len(pairs)))
        if known is not None:
            return known(*both[0]) if callable(known) else known
        if self.otherwise is not None:
            for pair in both:
                if words := self.otherwise(*pair):
                    return words
        clearest = max(wrong, key=lambda number: differences[number].size)
        seen = f"It differs{self._for(self.cases[clearest])}: {differences[clearest].words}."
        # It may be made for the sizes of most cases only, and mistaken there as well.
        fits = [n for n, each in enumerate(differences) if each is None or each.size < math.inf]
        there = [n for n in wrong if n in fits]
        if there and 2 * len(fits) > len(pairs):
            known = self._known_mistake(outcomes, fits)
            if known is not None:
                got, right = pairs[there[0]]
                words = known(got["result"], right["result"]) if callable(known) else known
                return f"Two things seem wrong. {words} {seen}"
        more = self._more(pairs, wrong)
        return f"{seen} {more}" if more else seen

    def _stopped(self, outcomes) -> str:
        """What is said of an answer that stops in some of the cases, or was refused."""
        first = next(outcome for outcome in outcomes if "error" in outcome)
        said = first["error"]
        if not all("stops" in outcome for outcome in outcomes if "error" in outcome):
            return said
        known = self._known_mistake(outcomes, range(len(outcomes)))
        if known is None:  # it may be made for the sizes of most cases only, and mistaken there too
            done = [number for number, outcome in enumerate(outcomes) if "result" in outcome]
            rights = {number: self._right(number)["result"] for number in done}
            wrong = [n for n in done if difference(outcomes[n]["result"], rights[n]) is not None]
            if wrong and 2 * len(done) > len(outcomes):
                known = self._known_mistake(outcomes, done)
        if isinstance(known, str):
            return f"{known} {said}"
        for number, outcome in enumerate(outcomes):
            if "result" in outcome:
                if difference(outcome["result"], self._right(number)["result"]) is None:
                    return f"{said} It is right{self._for(self.cases[number])}."
        return said

    def _more(self, pairs, wrong: list[int]) -> str | None:
        """What else can be said of a wrong answer that is on no list."""
        asked = []
        for number, (outcome, right) in enumerate(pairs):
            with environment():
                arguments = list(self.cases[number]())
            if number == 0:
                right = self._outcome(self.reference, self.cases[number], True)
            again = [found.get("again", found)["result"] for found in (outcome, right)]
            probed = [found["probes"] for found in (outcome, right)]
            both = [found[key] for key in ("result", "calls") for found in (outcome, right)]
            asked.append(questions.Case(arguments, *both, *probed, *again))

        def rerun(function, change, number):
            return self._run(function, self.cases[number], observed, change)["result"]

        try:
            with environment(), quiet():
                said = questions.said_of(self._names, asked, rerun, self.reference, self.mistakes)
        except Exception:  # a question that cannot be asked of such a result
            said = None
        fine = next((n for n in range(len(pairs)) if n not in wrong), None)
        if said is None and fine is not None:
            return f"It is right{self._for(self.cases[fine])}."
        return said

    def _right(self, number: int) -> dict:
        return self._outcome(self.reference, self.cases[number])

    def _flaw(self, outcome, right, case) -> str | None:
        """What is wrong with an answer whose numbers are right, in words; None if nothing is."""
        for came, wanted in other_dtypes(outcome["result"], right["result"]):
            with environment():
                arguments = case()
            like = [
                f"{name}.dtype"
                for name, value in zip(self._names, arguments, strict=False)
                if isinstance(value, Tensor) and value.dtype == wanted
            ]
            return (
                f"The numbers are right, but they came back as {bare(came)}, and what takes "
                f"them next needs {bare(wanted)}. End with .to({(like + [wanted])[0]})."
            )
        for name in outcome["changed"]:
            if name not in right["changed"]:
                return (
                    f"The result is right, but your function changes its argument {name} in "
                    "place: whoever called it still needs that. Make a new tensor instead."
                )
        if difference(outcome.get("meanwhile", outcome["result"]), outcome["result"]) is not None:
            return (
                "The result is right, but only until your function is called once more: the "
                "function that it returned then does something else. Each must keep what it was "
                "made of."
            )
        lost = _lost(outcome, right)
        if lost is not None:
            return f"The result is right, but {lost}"
        with environment():
            before = state_of(self._names, case())
        for name, wanted in right["state"].items():
            if outcome["state"][name] not in (wanted, before[name]):
                return (
                    "The result is right, but your function leaves something changed for all that "
                    f"runs after it. {name}: {outcome['state'][name]}, not {wanted}."
                )
        for name in ("torch", "numpy", "random"):
            if _seeded(outcome, name) and not _seeded(right, name):
                return (
                    f"The result is right, but your function sets the seed of {name}'s random "
                    "numbers: whatever is drawn after it is the same each time."
                )
        return None

    @staticmethod
    def _fixed(pairs) -> str | None:
        """Whether an answer draws the same in every case, whichever seed its generator has."""

        def same(found):
            raw = found.get("raw", found["result"])
            again = found.get("again", found)
            return difference(again.get("raw", again["result"]), raw) is None

        random = [outcome for outcome, right in pairs if not same(right)]
        if random and all(map(same, random)):
            return (
                "It draws the same random numbers whatever the seed: one of its own is set in it."
            )
        return None

    def _known_mistake(self, outcomes, numbers: Iterable[int]) -> str | Callable | None:
        """The words of the mistake that does the same in these cases; of several, the closest."""
        found = []
        for wrong, words in self.mistakes:
            far = self._distance(wrong, [(self.cases[n], outcomes[n]) for n in numbers])
            if far is not None:
                found.append((max(far, 1e-5), len(found), words))
        return min(found)[2] if found else None

    def _distance(self, wrong, pairs) -> float | None:
        far = 0.0
        try:
            for case, outcome in pairs:
                if "stops" in outcome:
                    if self._stops(wrong, case) != outcome["stops"]:
                        return None
                    continue
                result = self._run(wrong, case, observed)["result"]
                if difference(outcome["result"], result) is not None:
                    return None
                far = max(far, distance(outcome["result"], result))
        except Exception:
            return None
        return far

    def _stops(self, wrong, case) -> str | None:
        try:
            self._run(wrong, case, observed)
        except Exception as error:
            return _stop(error)
        return None


def _apart(outcome, right):
    """How the result differs from the right one; where nothing could be observed of it, how what
    came back does."""
    seen = [found["result"] for found in (outcome, right)]
    if "raw" in right and isinstance(seen[1], Mapping) and not isinstance(seen[0], Mapping):
        came, wanted = (found["raw"] for found in (outcome, right))
        words = f"{described(came)} came back, but {described(wanted)} was expected"
        return difference(came, wanted) or Difference(words, math.inf)
    return difference(*seen)


def _lost(outcome, right) -> str | None:
    """Where gradients arrive with the reference and not with the answer, in words."""
    wanted = {k: g for k, g in right.get("gradients", {}).items() if g is not None}
    got = outcome.get("gradients", {})
    if not wanted:
        return None
    if isinstance(got, str):
        return f"not as soon as its arguments need gradients. {got}."
    missing = [name for name in wanted if got.get(name) is None]
    groups = dict.fromkeys(name.partition(".")[0].partition("[")[0] for name in missing)
    for group in groups:
        every = [n for n in wanted if n.partition(".")[0].partition("[")[0] == group]
        name = group if set(every) <= set(missing) else next(n for n in missing if n in every)
        if isinstance(outcome["result"], float):
            return f"a plain float has no gradient: the {group} would never learn."
        return f"no gradient reaches the {name}: it would never learn."
    sizes = {k: float(g.abs().max()) for k, g in wanted.items() if bool(g.isfinite().all())}
    # Some gradients are nothing but rounding: no bias of the keys changes a softmax.
    rounding = 1e-5 * max(sizes.values(), default=0.0)
    for name, size in sizes.items():
        far = float((got[name] - wanted[name]).abs().max())
        if not far <= 2e-3 * size + rounding:
            start = f"the gradient that reaches {name} is another than it should be"
            if not bool(got[name].isfinite().all()):
                return f"{start}: it is infinite or NaN, for something on the way is divided by 0."
            return (
                f"{start}, so it would learn the wrong thing. Is part of the way back to it cut "
                "off (by detach, no_grad, .data or .item(), say)?"
            )
    return None


def _seeded(outcome, name: str) -> bool:
    """Whether the random numbers after the call are the same, whatever they were before."""
    return "again" in outcome and outcome["random"][name] == outcome["again"]["random"][name]


def _error(words: str) -> dict:
    return {"error": _writable(words)}


def _stop(error: BaseException) -> str:
    return _writable(f"{type(error).__name__}: {str(error)[:300]}")


def _writable(text: str) -> str:
    """Text without what no file can hold."""
    return text.encode("utf-8", "replace").decode()


ADVICE = {  # what PyTorch's own words mean, for who meets them for the first time
    r"The size of tensor a .* must match": "PyTorch lines shapes up from the right: sizes that "
    "meet must be equal, or one of them 1.",
    r"index \d+ is out of bounds for dimension \d+ with size \d+|index out of range": "The places "
    "of a table of N entries are 0 to N - 1.",
    r"leaf Variable .* in-place|view of a leaf": "Something that can learn is changed in place: "
    "make a new tensor.",
    r"Sizes of tensors must match except": "What torch.cat joins must have the same size in all "
    "dimensions but the one it is joined along.",
    r"mat1 and mat2 shapes|size for .* to be \[?\d+|same reduction dim": "In a product of "
    "matrices, the columns of the first are as many as the rows of the second.",
    r"expected input\[.*\] to have \d+ channels": "That layer was made for another number of "
    "channels than it is given.",
}


def _advice(error: BaseException) -> str:
    found = (words for pattern, words in ADVICE.items() if re.search(pattern, str(error)))
    return next((f" {words}" for words in found), "")
