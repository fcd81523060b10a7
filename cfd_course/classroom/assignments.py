"""Assignments for a class, in the shape that nbgrader wants."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .. import __version__, checks
from ..datasets import data_path
from ..files import replacing
from .notebooks import (
    CODE_STUB,
    TEXT_STUB,
    exercise_of,
    lessons,
    points_of,
    without_solutions,
)

CONFIGURATION = """\
# Read by nbgrader, whose own commands work in this folder: nbgrader release_assignment, collect,
# formgrader ... Grading uses the Judge either way; `python -m cfd_course grade .` does it in
# parallel, each submission in its own process.
from nbgrader.preprocessors import (
    AssignLatePenalties, CheckCellMetadata, ClearOutput, DeduplicateIds, IgnorePattern,
    LimitOutput, OverwriteCells, OverwriteKernelspec, SaveAutoGrades,
)

from cfd_course.classroom.feedback import Feedback
from cfd_course.classroom.grading import Judge, Tidy

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
c.GenerateFeedback.exporter_class = Feedback
c.HTMLExporter.sanitize_html = True  # formgrader shows what students wrote
c.Execute.timeout = 600  # seconds for a cell
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

To work on your own machine, ask your teacher for the folder `handout`, which holds the course,
version {version}; its README.md says how it is installed.
"""


HANDOUT = """\
# Classifier-free diffusion: what you need at home

The course's package, version {version}, with its data, and the lessons without their solutions.
You need Python 3.11 or newer. In this folder, once:

    python -m venv .venv
    .venv/bin/python -m pip install --constraint constraints.txt --editable .

On Windows it is `.venv\\Scripts\\python` in place of `.venv/bin/python`, here and below. This
downloads up to 3 GB on Linux, where without a GPU PyTorch's own install page has a smaller build
for CPUs, to be installed first.

**Work.** Make your own copies of the lessons, and open them:

    .venv/bin/python -m cfd_course copies --to my_course
    .venv/bin/python -m jupyter lab my_course

Your work is never overwritten; `copies --to my_course --only 03 --force` starts lesson 03 over.
What you have solved: `cfd_course.progress()` in a notebook in `my_course`. Each exercise has a
check that says what is wrong with an answer; as long as it isn't right, the lesson goes on with the
course's version of it. The lessons need no network and no GPU.

**Hand in** the notebook of an assignment, which your teacher gives you. It is a lesson like any
other: put it into `my_course`, in place of the copy of that name.

**A newer version** of this folder: unpack it beside the old one, move `my_course` over, and install
it as above. Copies that are there stay as they are.
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
    from .grading import release

    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"to should be a folder, but {folder} is a file.")
    references = _chosen(chosen, exercises)
    (folder / "submitted").mkdir(parents=True, exist_ok=True)
    configuration = folder / "nbgrader_config.py"
    if not configuration.exists():
        with replacing(configuration) as partial:
            partial.write_text(CONFIGURATION % {"code": CODE_STUB, "text": TEXT_STUB})
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
        points = points_of(nbformat.read(source / path.name, as_version=4))
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
    have = {path: set(points_of(nbformat.read(path, as_version=4))) for path in lessons()}
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
    points = {name: worth for name, worth in points_of(notebook).items() if name in graded}
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
    """What students need to work at home: the package, its data, the pinned versions, and the
    lessons without their solutions, to make copies of. Only a checkout has all of it."""
    package, data = Path(__file__).parent.parent, data_path(".")
    root = package.parent
    if folder.exists() or not (root / "pyproject.toml").exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")  # a run may end in the middle of this
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "notebooks").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "LICENSE"):
        shutil.copy(root / name, partial)
    (partial / "README.md").write_text(HANDOUT.format(version=__version__), encoding="utf-8")
    for path in lessons():
        notebook = without_solutions(nbformat.read(path, as_version=4))
        nbformat.write(notebook, partial / "notebooks" / path.name)
    shutil.copytree(
        package, partial / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.partial")
    )
    shutil.copytree(data, partial / "data", ignore=shutil.ignore_patterns("*.partial"))
    partial.rename(folder)
