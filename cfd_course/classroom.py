"""Learners' copies of the notebooks: the reference without its solutions and outputs."""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from . import expect
from .datasets import data_path

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
            cell.source = stub if source == cell.source else source
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


def make_copies(
    to: str | Path, *, force: bool = False, only: str | None = None
) -> tuple[list[Path], list[Path]]:
    """Put a learner's copy of every lesson into the folder `to`. Returns the files that were
    written and those that were there already and were kept.

    force: overwrite files that are there. only: one lesson, by its name or number; with force this
    resets it.
    """
    if not isinstance(to, (str, Path)):
        raise TypeError(f"to should be a folder's path, but {expect.describe(to)} came.")
    chosen = [path for path in lessons() if only is None or only in (path.stem, path.stem[:2])]
    if not chosen:
        names = ", ".join(path.stem for path in lessons())
        raise ValueError(f"only should be one of the lessons {names}, but {only!r} came.")
    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"to should be a folder, but {folder} is a file.")
    if folder.exists() and folder.samefile(chosen[0].parent):
        raise ValueError(
            f"to should be a folder of your own, but {folder} holds the reference notebooks."
        )
    folder.mkdir(parents=True, exist_ok=True)
    made, kept = [], []
    for path in chosen:
        copy = folder / path.name
        if copy.exists() and not force:
            kept.append(copy)
            continue
        nbformat.write(without_solutions(nbformat.read(path, as_version=4)), copy)
        made.append(copy)
    return made, kept
