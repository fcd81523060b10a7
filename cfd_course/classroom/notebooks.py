"""Reading notebooks: the lessons, their exercises, what grading needs of them; and taking the
solutions out."""

import re
import symtable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .. import expect
from ..datasets import data_path

# What stands in place of a solution. It runs, so that an untouched copy reaches its end: a function
# whose body it is returns None. Give nbgrader's ClearSolutions the same stubs.
CODE_STUB = "...  # your code here"
TEXT_STUB = "*Your answer here.*"


def lessons() -> list[Path]:
    """The reference notebooks, in order, of a checkout or of an installed wheel."""
    return sorted((data_path(".").parent / "notebooks").glob("[0-9]*.ipynb"))


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook with the stub in place of each solution, without outputs.

    A solution stands between a line with BEGIN SOLUTION and one with END SOLUTION, in a cell that
    nbgrader's metadata call a solution; such a cell without these lines is a solution as a whole.
    """
    if not isinstance(notebook, NotebookNode):
        raise TypeError(
            f"notebook should be one that nbformat.read returns, but {expect.describe(notebook)} "
            "came."
        )
    copy = nbformat.from_dict(notebook)
    for number, cell in enumerate(copy.cells):
        stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
        source = _clear(cell.source, stub, f"cell {number}")
        if cell.metadata.get("nbgrader", {}).get("solution", False):
            # A copy of a copy, whose stubs are there already, stays as it is.
            cell.source = stub if source == cell.source and stub not in source else source
        elif source != cell.source:
            raise ValueError(
                f"cell {number} holds a solution, but its nbgrader metadata do not say so: give it "
                'a grade_id and "solution": true.'
            )
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


def _clear(source: str, stub: str, where: str) -> str:
    lines, inside = [], False
    for line in source.split("\n"):
        if "BEGIN SOLUTION" in line or "END SOLUTION" in line:
            if inside == ("BEGIN SOLUTION" in line):
                raise ValueError(
                    f"{where}: BEGIN SOLUTION and END SOLUTION should take turns, but {line!r} "
                    "does not."
                )
            inside = not inside
            if inside:
                lines.append(re.match(r"\s*", line).group() + stub)
        elif not inside:
            lines.append(line)
    if inside:
        raise ValueError(f"{where}: a BEGIN SOLUTION has no END SOLUTION.")
    return "\n".join(lines)


def points_of(notebook: NotebookNode) -> dict[str, int]:
    """The points of each exercise, in the order of the notebook."""
    return {
        exercise_of(cell)[0]: int(cell.metadata.nbgrader.points)
        for cell in notebook.cells
        if exercise_of(cell)[1] == "graded"
    }


def exercise_of(cell: NotebookNode) -> tuple[str, str]:
    """The exercise that a cell belongs to, and what it is there: "task", "answer", "check",
    "graded". ("", "") for all other cells."""
    marks = cell.metadata.get("nbgrader")
    name, _, kind = str(marks.get("grade_id") if isinstance(marks, dict) else "").rpartition("-")
    return (name, kind) if kind in ("task", "answer", "check", "graded") else ("", "")


def needed(notebook: NotebookNode, given: set[str]) -> set[int]:
    """The numbers of the cells that must run to grade a notebook: the exercises, whatever the
    learner wrote, and those of the lesson's own cells whose names these use.

    given: the sources of the lesson's own cells. Plots and trainings are among them, and nothing
    that is graded needs those.
    """
    wanted, found = set(), set()
    given = {plain(source) for source in given}
    for number, cell in reversed(list(enumerate(notebook.cells))):
        if cell.cell_type != "code":
            continue
        defined, used = names_in(cell.source)
        if plain(cell.source) not in given or exercise_of(cell)[0] or defined & wanted:
            found.add(number)
            wanted |= used
    return found


def plain(source: str) -> str:
    """A source without what editors change at the ends of lines."""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell defines for other cells, and all that it uses."""
    python = re.sub(r"(?m)^[%!].*$", "", source)  # without lines for IPython
    try:
        top = symtable.symtable(python, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a mistake, or no Python
        return set(), set(re.findall(r"\w+", source))
    defined = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used, tables = set(), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {
            s.get_name()
            for s in table.get_symbols()
            if s.is_referenced() and (table is top or s.is_global())
        }
    return defined, used
