"""Learners' copies of the notebooks, their progress, and assignments for a class.

Grading is next door, in grading.py, which needs nbgrader.
"""

import html
import re
import shutil
import symtable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from . import checks, expect
from .datasets import data_path
from .files import replacing

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
    record = checks.solved(folder)
    made, kept = [], []
    for path in chosen:
        copy = folder / path.name
        if copy.exists() and not force:
            kept.append(copy)
            continue
        with replacing(copy) as partial:
            nbformat.write(without_solutions(nbformat.read(path, as_version=4)), partial)
        record.pop(path.stem[:2], None)  # started over
        made.append(copy)
    checks.save_solved(record, folder)
    return made, kept


@dataclass(frozen=True)
class Progress:
    """The exercises of each lesson with the day on which they were solved, or None."""

    lessons: dict[str, dict[str, str | None]]

    def _lines(self):
        for lesson, exercises in self.lessons.items():
            solved = [name for name, date in exercises.items() if date]
            waiting = [name for name, date in exercises.items() if not date]
            yield lesson, f"{len(solved)} of {len(exercises)}", solved, waiting

    def __repr__(self):
        return "\n".join(
            f"{lesson}: {count} solved"
            + (f"; still to do: {', '.join(waiting)}" if waiting else "")
            for lesson, count, _, waiting in self._lines()
        )

    def _repr_html_(self):
        rows = [
            f"<tr><td>{html.escape(lesson)}</td><td>{count}</td>"
            f"<td>{', '.join(solved)}</td><td>{', '.join(waiting)}</td></tr>"
            for lesson, count, solved, waiting in self._lines()
        ]
        head = "<tr><th>lesson</th><th>solved</th><th></th><th>still to do</th></tr>"
        return f"<table>{head}{''.join(rows)}</table>"


def progress(folder: str | Path = ".") -> Progress:
    """Which exercises are solved. The checks put that down in progress.json in the folder in which
    the notebooks lie; `python -m cfd_course copies` puts an empty one there."""
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder should be a folder's path, but {expect.describe(folder)} came.")
    record = checks.solved(folder)
    found = {}
    for path in lessons():
        names = _exercises(nbformat.read(path, as_version=4))
        if names:
            dates = record.get(path.stem[:2], {})
            found[path.stem] = {name: dates.get(name) for name in names}
    return Progress(found)


def _exercises(notebook: NotebookNode) -> dict[str, int]:
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
    for number, cell in reversed(list(enumerate(notebook.cells))):
        if cell.cell_type != "code":
            continue
        defined, used = _names(cell.source)
        if cell.source not in given or exercise_of(cell)[0] or defined & wanted:
            found.add(number)
            wanted |= used
    return found


def _names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell defines for other cells, and all that it uses."""
    try:
        top = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError):  # a learner's mistake, or a line for IPython
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


CONFIGURATION = """\
# Read by nbgrader, whose own commands work in this folder: nbgrader release_assignment, collect,
# formgrader ... Grading uses the Judge either way; `python -m cfd_course grade .` does it in
# parallel, each submission in its own process.
from nbgrader.preprocessors import (
    AssignLatePenalties, CheckCellMetadata, ClearOutput, DeduplicateIds, IgnorePattern,
    LimitOutput, OverwriteCells, OverwriteKernelspec, SaveAutoGrades,
)

from cfd_course.grading import Judge, Tidy

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "cfd"
c.ClearSolutions.code_stub = {"python": %(code)r}
c.ClearSolutions.text_stub = %(text)r
c.Autograde.sanitize_preprocessors = [
    ClearOutput, Tidy, DeduplicateIds, OverwriteKernelspec, OverwriteCells, CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    Judge, IgnorePattern, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata,
]
c.Execute.timeout = 60  # seconds for a cell
c.Judge.seconds = 600  # for a notebook
c.Judge.gigabytes = 4.0  # of memory for a notebook
"""

INSTRUCTIONS = """\
# {title}

Worth {worth}. Open `{name}.ipynb` and work through it from the top.

- Each exercise has a cell for your answer, where `{stub}` waits for your code. The cell
  below it checks your answer as often as you like and says what is wrong. The cells for checking
  and grading cannot be changed: whatever they hold is put back before grading.
- It is an open book: the whole course, its package too, may be read. But your answer must not call
  the package's own version of what it is asked to write: that earns nothing.
- Hand in the notebook under its own name. Other files are not needed.
- An answer may take {seconds} seconds and {gigabytes} GB of memory.

To work on your own machine, install the course, version {version}, in the versions that
constraints.txt pins; your teacher has both in the folder `handout`:

    python -m pip install --constraint constraints.txt .
    jupyter lab
"""


def assign(
    to: str | Path,
    chosen: Sequence[str] = (),
    exercises: Sequence[str] = (),
) -> tuple[dict[str, int], list[str]]:
    """Make assignments of lessons in the nbgrader course folder `to`. Returns the points of each
    that was made, and the names of those that were there already and were kept.

    chosen: lessons, by name or number; all by default. exercises: the ones that are graded; by
    default all of the chosen lessons. The others stay in the notebook, for practice.
    """
    from . import __version__
    from .grading import release

    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"to should be a folder, but {folder} is a file.")
    references = _chosen(chosen, exercises)
    (folder / "submitted").mkdir(parents=True, exist_ok=True)
    configuration = folder / "nbgrader_config.py"
    if not configuration.exists():
        configuration.write_text(CONFIGURATION % {"code": CODE_STUB, "text": TEXT_STUB})
    _hand_out(folder / "handout")
    made, kept = {}, []
    for path, graded in references.items():
        source = folder / "source" / path.stem
        if (folder / "release" / path.stem / path.name).exists():
            kept.append(path.stem)
            continue
        if not (source / path.name).exists():  # or an earlier run got only so far
            source.mkdir(parents=True, exist_ok=True)
            with replacing(source / path.name) as partial:
                nbformat.write(_assignment(nbformat.read(path, as_version=4), graded), partial)
        points = _exercises(nbformat.read(source / path.name, as_version=4))
        text = INSTRUCTIONS.format(
            title=path.stem,
            name=path.stem,
            worth=checks.worth(sum(points.values())),
            stub=CODE_STUB,
            seconds=checks.SECONDS,
            gigabytes=checks.GIGABYTES,
            version=__version__,
        )
        (source / "README.md").write_text(text)
        made[path.stem] = sum(points.values())
    if made:
        release(folder, list(made))
    return made, kept


def _chosen(chosen: Sequence[str], exercises: Sequence[str]) -> dict[Path, set[str]]:
    """The reference notebooks that are asked for, with the exercises to grade in each."""
    have = {path: set(_exercises(nbformat.read(path, as_version=4))) for path in lessons()}
    names = [name for path in have for name in (path.stem, path.stem[:2])]
    for name in chosen:
        if name not in names:
            raise ValueError(
                f"lessons should be some of {', '.join(path.stem for path in have)}, but {name!r} "
                "came."
            )
    wanted = {
        path: all_of
        for path, all_of in have.items()
        if all_of and (not chosen or path.stem in chosen or path.stem[:2] in chosen)
    }
    for name in exercises:
        if not any(name in all_of for all_of in wanted.values()):
            raise ValueError(
                "exercises should be some of "
                f"{', '.join(sorted(set().union(*wanted.values())))}, but {name!r} came."
            )
    if exercises:
        wanted = {path: all_of & set(exercises) for path, all_of in wanted.items()}
    for path, graded in list(wanted.items()):
        if not graded and chosen:
            raise ValueError(f"none of the exercises {', '.join(exercises)} is in {path.stem}.")
        if not graded:
            del wanted[path]
    if not wanted:
        raise ValueError(f"the lessons {', '.join(chosen)} have no exercises to grade.")
    return wanted


def _assignment(notebook: NotebookNode, graded: set[str]) -> NotebookNode:
    """The teacher's copy of a lesson: with solutions, without outputs; its points said on top."""
    points = {name: worth for name, worth in _exercises(notebook).items() if name in graded}
    cells = []
    for cell in notebook.cells:
        name, kind = exercise_of(cell)
        if name and name not in graded:
            if kind == "graded":
                continue
            if kind == "task":
                cell.source = re.sub(r"\d+ points?\*", "for practice, without points*", cell.source)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    each = ", ".join(f"`{name}` {worth}" for name, worth in points.items())
    total = checks.worth(sum(points.values()))
    cells[0].source += f"\n\n**This notebook is worth {total}**: {each}."
    notebook.cells = cells
    return notebook


def _hand_out(folder: Path) -> None:
    """What students need to install the course: the package, its data and the pinned versions,
    without the reference notebooks. Only a checkout has all of it."""
    package, data = Path(__file__).parent, data_path(".")
    root = package.parent
    if folder.exists() or not (root / "pyproject.toml").exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")  # a run may end in the middle of this
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "LICENSE", "README.md"):
        shutil.copy(root / name, partial)
    shutil.copytree(
        package, partial / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.partial")
    )
    shutil.copytree(data, partial / "data", ignore=shutil.ignore_patterns("*.partial"))
    partial.rename(folder)
