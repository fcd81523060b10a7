"""Which mark an answer earns: nbgrader's preprocessors that take the place of its own.

A submission runs in a sandbox, once for each exercise: up to its answer, with a package that lacks
what the exercise asks for. There the answer is put through the exercise's cases; what it did comes
out as data, and is compared here, where no line of the submission ever runs.
"""

import functools
import importlib
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from traitlets import Bool, Float, Integer

from .. import checks
from . import runner
from .notebooks import exercise_of, lessons, names_in, needed, plain
from .sandbox import Ended, Sandbox, blind, hidden, imports, pickled, printable, without
from .submissions import restore

AGAIN = 2  # seconds for a cell, once it was stopped for taking too long
SHARE = 0.5  # of a notebook's time that cells of the learner's own may take
OUTPUTS = 20  # of a cell


class Tidy(NbGraderPreprocessor):
    """Gives a submission's cells the marks that the gradebook knows and takes away all others, so
    that nothing in their metadata can trip nbgrader up; brings back graded cells that are gone."""

    def preprocess(self, notebook, resources):
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            original = gradebook.find_notebook(names["notebook"], names["assignment"])
            solutions = {cell.name for cell in original.solution_cells}
            worth = {cell.name: cell.max_score for cell in original.grade_cells}
            known = {
                cell.name: {
                    "grade_id": cell.name,
                    "grade": cell.name in worth,
                    "solution": cell.name in solutions,
                    "locked": cell.locked,
                    "task": False,
                    "cell_type": cell.cell_type,
                    "checksum": cell.checksum,
                    "schema_version": 3,
                    **({"points": worth[cell.name]} if cell.name in worth else {}),
                }
                for cell in original.source_cells
            }
            known = {cell.name: (cell.source, known[cell.name]) for cell in original.source_cells}
        restore(notebook, known)
        return notebook, resources


@functools.cache
def _closed(lesson: str, name: str) -> dict:
    """What a sandbox gets to see of an exercise, and of the package."""
    exercise = vars(importlib.import_module(f"{checks.__name__}.{lesson}"))[name]
    return {"package": without(hidden(exercise)), "exercise": blind(exercise)}


class Judge(Execute):
    """Runs a submission and gives the marks of its exercises.

    Of the lesson's own cells only those run that an exercise needs. When a cell ends the process,
    or the time is over, the exercises up to there keep their marks. A graded cell that is no
    exercise of the course, a teacher's own, marks itself, as is nbgrader's way: in the sandbox,
    from 0 to its points.
    """

    seconds = Integer(600, help="for a notebook as a whole").tag(config=True)
    gigabytes = Float(4.0, help="of memory for a notebook").tag(config=True)
    trust = Bool(False, help="run submissions without a sandbox").tag(config=True)

    def preprocess(self, notebook, resources, km=None):
        name = resources["nbgrader"]["notebook"]
        self.lesson = f"lesson_{name[:2]}"
        try:
            found = vars(importlib.import_module(f"{checks.__name__}.{self.lesson}"))
        except ImportError:  # a teacher's own notebook
            found, self.lesson = {}, None
        self.exercises = {
            key: each for key, each in found.items() if isinstance(each, checks.Exercise)
        }
        self.notebook = notebook
        given = {
            plain(cell.source)
            for path in lessons()
            if path.stem == name
            for cell in nbformat.read(path, as_version=4).cells
        }
        self.given = given
        self.needed = sorted(needed(notebook, given))
        self.shown: dict[int, list] = {}  # the outputs of each cell, from its first run
        self.cut: set[int] = set()  # cells that took too long
        self.spare = SHARE * self.seconds
        self.problems: dict[str, str | None] = {}
        self.remarks: list[str] = []
        self.stopped: str | None = None
        self.end = time.monotonic() + runner.CLOCK * self.seconds
        files = _beside(Path(resources["metadata"]["path"]), f"{name}.ipynb")
        own = [s for s in (notebook.cells[n].source for n in self.needed) if plain(s) in given]
        modules = sorted(imports(own))
        with Sandbox(files, self.gigabytes, modules, self.trust) as self.sandbox:
            self._judge_all()
        for number in self.needed:
            cell = notebook.cells[number]
            if self._exercise(cell) is None or exercise_of(cell)[1] != "graded":
                cell.outputs = self.shown.get(number, [])
        if self.cut:
            numbers = ", ".join(str(number) for number in sorted(self.cut))
            self.remarks.append(f"out of time: the cells {numbers} were stopped")
        notebook.metadata["remarks"] = self.remarks
        return notebook, resources

    def _exercise(self, cell) -> checks.Exercise | None:
        return self.exercises.get(exercise_of(cell)[0])

    def _judge_all(self) -> None:
        own = []
        for index, cell in enumerate(self.notebook.cells):
            name, kind = exercise_of(cell)
            exercise = self._exercise(cell)
            if exercise is None:
                if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
                    own.append(index)
                continue
            if kind in ("check", "graded") and name not in self.problems:
                self.problems[name] = self._problem(name, exercise, index)
            if kind == "graded" and cell.cell_type == "code":
                problem = self.problems[name]
                mark = 0.0 if problem is not None else float(cell.metadata["nbgrader"]["points"])
                cell.outputs = [
                    new_output(
                        "stream", name="stdout", text=printable(exercise.says(problem)) + "\n"
                    ),
                    new_output("execute_result", {"text/plain": repr(mark)}, execution_count=1),
                ]
                cell.execution_count = 1
        if own:
            self._mark_themselves(own)

    def _problem(self, name: str, exercise: checks.Exercise, index: int) -> str | None:
        """What is wrong with the answer that there is before cell `index`, or else with the last
        one that there is, below its check; None if nothing is."""
        problem, below = self._problem_before(name, exercise, index), self._last(name)
        if problem is None or below < index or self.stopped is not None:
            return problem
        again = self._problem_before(name, exercise, below + 1)
        moved = exercise_of(self.notebook.cells[below])[1] == "answer"
        return again if again is None or moved else problem

    def _last(self, name: str) -> int:
        """The last cell of the learner's own, or the answer, in which the name is defined."""
        return max(
            (
                number
                for number in self.needed
                if plain(self.notebook.cells[number].source) not in self.given
                and exercise_of(self.notebook.cells[number])[1] not in ("check", "graded")
                and name in names_in(self.notebook.cells[number].source)[0]
            ),
            default=-1,
        )

    def _problem_before(self, name: str, exercise: checks.Exercise, index: int) -> str | None:
        outcomes = self._run(self._cells(index), name, exercise)
        if outcomes is None:
            why = f"it could not be checked: {self.why}"
            self.remarks.append(f"{name}: {why}")
            return f"{why[0].upper()}{why[1:]}."
        return exercise.verdict(outcomes)

    def _cells(self, before: int) -> list[tuple[int, str, float, bool]]:
        """The cells to run: number, source, seconds, and whether it is the learner's own."""
        return [
            (
                number,
                self.notebook.cells[number].source,
                min(self.timeout, AGAIN)
                if number in self.cut and self._own(number)
                else self.timeout,
                self._own(number),
            )
            for number in self.needed
            if number < before and exercise_of(self.notebook.cells[number])[1] != "graded"
        ]

    def _own(self, number: int) -> bool:
        """Whether the learner added this cell to the lesson."""
        cell = self.notebook.cells[number]
        return plain(cell.source) not in self.given and not exercise_of(cell)[0]

    def _run(self, cells: list, name: str = "", exercise: checks.Exercise | None = None):
        """Run cells, then put an answer through its cases. Returns what it did there, or None:
        then `why` says why not."""
        left = self.end - time.monotonic()
        if self.stopped is None and left <= 0:
            self.stopped = f"the notebook took more than {self.seconds} seconds"
        self.why = self.stopped
        if self.stopped is not None:
            return None
        self.why = "nothing came back"
        wrong = [each for each, problem in self.problems.items() if problem is not None]
        course = {each: self.exercises[each].reference for each in wrong}
        seen = _closed(self.lesson, name) if exercise else {"package": without([])}
        job = {
            "exercise": None,
            **seen,
            "name": name,
            "lesson": self.lesson,
            "course": pickled(course, exercise),
            "cells": cells,
            "spare": max(self.spare, 0.0),
        }
        own, broke = {number for number, *_, learners in cells if learners}, ""
        outcomes, running, begun = None, None, time.monotonic()
        try:
            for said in self.sandbox.run(job, left):
                if "begin" in said:
                    running, begun = said["begin"], time.monotonic()
                elif "cell" in said and said["cell"] == running:
                    if running in own:
                        self.spare -= time.monotonic() - begun
                    outputs = said["outputs"][:OUTPUTS]
                    if any(each.get("error") == "CellTimeoutError" for each in outputs):
                        self.cut.add(running)
                    self.shown.setdefault(running, [_output(each) for each in outputs])
                elif "outcomes" in said:
                    outcomes = checks.unseal(said["outcomes"])
                elif "broke" in said:
                    broke = f": {printable(said['broke'])[:300]}"
            if outcomes is None and exercise is not None:
                self.why = f"the notebook's kernel died before this point{broke}"
        except Ended as error:
            self.why = str(error)
        except Exception as error:  # whatever may come from a submission
            self.sandbox.stop()
            self.why = f"what came back cannot be read ({type(error).__name__})"
        if outcomes is None and running is not None:  # it would be the same the next time
            self.stopped = self.why if exercise is not None else None
            if isinstance(running, int):
                error = new_output("error", ename="Stopped", evalue=self.why)
                self.shown.setdefault(running, [error])
        if not isinstance(outcomes, list):
            return None
        return [each if isinstance(each, dict) else {} for each in outcomes]

    def _mark_themselves(self, own: list[int]) -> None:
        """Run a teacher's own graded cells. One that did not run or gave what is no mark earns
        nothing: nbgrader would give all points to a cell that says nothing."""
        cells = [
            (number, self.notebook.cells[number].source, self.timeout, False)
            for number in self.needed
            if self._exercise(self.notebook.cells[number]) is None or number not in own
        ]
        self.shown = {}
        self._run(cells)
        for number in own:
            cell = self.notebook.cells[number]
            said = self.shown.setdefault(
                number, [new_output("error", ename="Stopped", evalue=self.why or "it did not run")]
            )
            most = float(cell.metadata["nbgrader"]["points"])
            values = [float(o.data["text/plain"]) for o in said if o.output_type[:7] == "execute"]
            if any(not 0 <= value <= most for value in values):
                words = f"the mark {values[0]:g} is not from 0 to {most:g}"
                self.shown[number] = [new_output("error", ename="Refused", evalue=words)]
                name = cell.metadata["nbgrader"]["grade_id"]
                self.remarks.append(f"{name}: {words}, and was refused")


def _output(said: dict):
    """A cell's output as nbformat has it."""
    if "error" in said:
        return new_output(
            "error",
            ename=printable(said["error"]),
            evalue=printable(said["words"]),
            traceback=[printable(line) for line in said["lines"]],
        )
    if "value" in said:
        value = {"text/plain": repr(float(said["value"]))}
        return new_output("execute_result", value, execution_count=1)
    return new_output("stream", name="stdout", text=printable(said["text"]))


def _beside(folder: Path, notebook: str) -> dict[str, bytes]:
    """The files beside a notebook, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != notebook
    }
