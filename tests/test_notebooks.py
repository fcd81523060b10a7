"""Every notebook as it is saved: run, in order, pictures described, exercises well formed; and that
every untouched learner's copy runs to its end. That the saved outputs are what the cells print now
is nbval's to check (`pytest notebooks`)."""

import copy
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cfd_course.classroom import lessons, without_solutions
from cfd_course.widgets import VIEW
from tests import execute_notebooks

ROOT = Path(__file__).resolve().parent.parent
LESSONS = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
KINDS = ("task", "answer", "check", "graded")


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What a lesson's saved notebook lacks."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    found = []
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not run from a clean kernel in order")
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        found.append("an output is an error")
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    if not figures:
        found.append("no picture")
    for figure in figures:
        if not figure.metadata.get("image/png", {}).get("alt", "").strip():
            found.append("a picture without alt text")
    if any(VIEW in output.get("data", {}) for output in outputs):
        found.append("a dead slider")
    texts = [cell for cell in code if any(_prints(output) for output in cell.outputs)]
    ignored = {"nbval-ignore-output", "nbval-skip"}
    compared = [cell for cell in texts if not ignored & set(cell.metadata.get("tags", []))]
    if len(compared) < 8:
        found.append(f"only {len(compared)} cells with text are compared, not 8")
    if len(compared) < 0.8 * len(texts):
        found.append(f"only {len(compared)} of {len(texts)} cells with text are compared")
    for cell in code:
        if cell.source.rstrip().endswith(";"):
            found.append(f"a last line ends in a semicolon: {cell.source.splitlines()[-1]}")
    return found + _exercise_problems(notebook)


def _prints(output) -> bool:
    """Whether nbval has text to compare; a picture's alt text would be too easy."""
    data = output.get("data", {})
    return output.output_type == "stream" or ("text/plain" in data and "image/png" not in data)


def _exercise_problems(notebook) -> list[str]:
    found = []
    graded = [i for i, cell in enumerate(notebook.cells) if "nbgrader" in cell.metadata]
    names = [notebook.cells[index].metadata.nbgrader.grade_id for index in graded]
    if len(set(names)) < len(names):
        found.append("a grade_id is there twice")
    if not graded or len(graded) % 4:
        found.append(f"{len(graded)} cells with nbgrader metadata are not exercises of four")
        return found
    for start in range(0, len(graded), 4):
        first = graded[start]
        if graded[start : start + 4] != list(range(first, first + 4)):
            found.append(f"the cells of {names[start]} do not follow each other")
            continue
        for kind, cell in zip(KINDS, notebook.cells[first : first + 4], strict=True):
            wrong = _wrong(kind, cell)
            if wrong:
                found.append(f"{cell.metadata.nbgrader.grade_id}: {wrong}")
    return found


def _wrong(kind: str, cell) -> str | None:
    """What is wrong with one of the four cells of an exercise."""
    metadata = cell.metadata.nbgrader
    if cell.cell_type != ("markdown" if kind == "task" else "code"):
        return f"the {kind} is a {cell.cell_type} cell"
    flags = {"solution": kind == "answer", "locked": kind != "answer", "grade": kind == "graded"}
    for flag, wanted in flags.items():
        if metadata.get(flag) is not wanted:
            return f"the {kind} should have {flag}: {wanted}"
    last = cell.source.rstrip().split("\n")[-1]
    if kind == "answer" and "### BEGIN SOLUTION" not in cell.source:
        return "the answer has no ### BEGIN SOLUTION"
    if kind == "check" and not re.fullmatch(r"(\w+) = check\.\w+\(\1\)", last):
        return "the check should be NAME = check.NAME(NAME)"
    if kind == "graded":
        points = metadata.get("points")
        if not isinstance(points, int) or points < 1:
            return "points should be a whole number"
        if not re.fullmatch(r"check\.points\(\w+\)", last):
            return "the last line should be check.points(NAME)"
        earned = [output.data.get("text/plain") for output in cell.outputs if "data" in output]
        if earned != [str(float(points))]:
            return f"the reference earned {earned}, not {float(points)}"
    return None


# --- the checks themselves, on a small lesson without fault and on one with each ---


def exercise_cell(kind: str, source: str, **more):
    new = new_markdown_cell if kind == "task" else new_code_cell
    flags = {"grade": kind == "graded", "solution": kind == "answer", "locked": kind != "answer"}
    more_flags = {"points": 2} if kind == "graded" else {}
    metadata = {"grade_id": f"f-{kind}", "schema_version": 3, "task": False, **flags, **more_flags}
    return new(source, metadata={"nbgrader": metadata}, **more)


def text(words: str):
    return new_output("stream", text=words)


def sample() -> nbformat.NotebookNode:
    picture = {"image/png": "", "text/plain": "a line"}
    two = new_output("execute_result", data={"text/plain": "2.0"}, execution_count=9)
    answer = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    cells = [
        new_markdown_cell("# A lesson"),
        *(new_code_cell(f"print({number})", outputs=[text(f"{number}\n")]) for number in range(6)),
        exercise_cell("task", "Write f."),
        exercise_cell("answer", answer),
        exercise_cell("check", "f = check.f(f)", outputs=[text("right\n")]),
        exercise_cell("graded", "check.points(f)", outputs=[two]),
        new_code_cell(
            "show()",
            outputs=[
                new_output(
                    "display_data", data=picture, metadata={"image/png": {"alt": "a rising line"}}
                )
            ],
        ),
    ]
    code = [cell for cell in cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
    return new_notebook(cells=cells, metadata=copy.deepcopy(execute_notebooks.METADATA))


def test_a_good_lesson_has_no_problem():
    assert problems(sample()) == []


def change(cell: int, **changes):
    return lambda notebook: notebook.cells[cell].update(changes)


def mark(cell: int, **changes):
    return lambda notebook: notebook.cells[cell].metadata.nbgrader.update(changes)


FAULTS = {
    "not run": (change(1, execution_count=None), "not run from a clean kernel"),
    "out of order": (change(1, execution_count=3), "not run from a clean kernel"),
    "no outputs": (change(1, outputs=[]), "only 7 cells with text are compared, not 8"),
    "not compared": (
        lambda notebook: [
            cell.metadata.update(tags=["nbval-ignore-output"]) for cell in notebook.cells[1:3]
        ],
        "only 6 of 8 cells with text",
    ),
    "error": (
        lambda notebook: notebook.cells[1].outputs.append(new_output("error", ename="E")),
        "an output is an error",
    ),
    "no picture": (change(11, outputs=[]), "no picture"),
    "no alt text": (
        lambda notebook: notebook.cells[11].outputs[0].metadata.clear(),
        "a picture without alt text",
    ),
    "dead slider": (
        lambda notebook: notebook.cells[11].outputs[0].data.update({VIEW: {}}),
        "a dead slider",
    ),
    "semicolon": (change(1, source="draw();"), "ends in a semicolon: draw();"),
    "three cells": (lambda notebook: notebook.cells.pop(9), "3 cells with nbgrader metadata"),
    "no exercise": (lambda notebook: notebook.cells.__delitem__(slice(7, 11)), "0 cells with"),
    "torn apart": (
        lambda notebook: notebook.cells.insert(9, new_markdown_cell("By the way:")),
        "do not follow each other",
    ),
    "twice": (mark(10, grade_id="f-task"), "a grade_id is there twice"),
    "task in code": (
        change(7, cell_type="code", outputs=[], execution_count=None),
        "the task is a code cell",
    ),
    "unlocked check": (mark(9, locked=False), "the check should have locked: True"),
    "locked answer": (mark(8, locked=True), "the answer should have locked: False"),
    "no grade": (mark(10, grade=False), "the graded should have grade: True"),
    "half a point": (mark(10, points=0.5), "points should be a whole number"),
    "no solution": (change(8, source="f = 1"), "no ### BEGIN SOLUTION"),
    "no check": (change(9, source="check.f(f)"), "should be NAME = check.NAME(NAME)"),
    "no points": (change(10, source="f"), "should be check.points(NAME)"),
    "unsolved": (
        lambda notebook: notebook.cells[10].outputs[0].data.update({"text/plain": "0.0"}),
        "the reference earned ['0.0'], not 2.0",
    ),
}


@pytest.mark.parametrize("spoil, said", FAULTS.values(), ids=FAULTS)
def test_each_fault_is_seen(spoil, said):
    notebook = sample()
    spoil(notebook)
    assert any(said in problem for problem in problems(notebook)), problems(notebook)


def test_execute_makes_a_notebook_from_a_script(tmp_path):
    script = tmp_path / "01_try.py"
    script.write_text(
        '# %% [markdown] exercise="f:task"\n# Write f.\n'
        '# %% exercise="f:graded" points=2\n1.0 + 1\n'
        '# %% tags=["nbval-skip"]\nprint("seen")\n'
    )
    notebook = execute_notebooks.read(script)
    execute_notebooks.execute(notebook, tmp_path)
    task, graded, plain = notebook.cells
    assert (task.source, task.metadata.nbgrader.grade_id) == ("Write f.", "f-task")
    assert task.metadata.nbgrader.locked and not task.metadata.nbgrader.grade
    assert graded.metadata.nbgrader.grade and graded.metadata.nbgrader.points == 2
    assert graded.outputs[0].data == {"text/plain": "2.0"}
    assert plain.outputs[0].text == "seen\n" and plain.metadata.tags == ["nbval-skip"]
    assert task.metadata["slideshow"]["slide_type"] == "slide"  # the first cell is a talk's title
    assert plain.metadata["slideshow"]["slide_type"] == "skip"
    assert [graded.execution_count, plain.execution_count] == [1, 2]
    assert notebook.metadata == execute_notebooks.METADATA
    nbformat.validate(notebook)
    again = execute_notebooks.read(script)
    execute_notebooks.execute(again, tmp_path)
    assert again == notebook


# --- the lessons ---


def test_readme_lists_the_lessons():
    listed = re.findall(r"\(notebooks/(\w+)\.ipynb\)", (ROOT / "README.md").read_text())
    assert listed == [path.stem for path in lessons()]


@LESSONS
def test_saved_lesson(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    no_exercise = ["0 cells with nbgrader metadata are not exercises of four"]
    assert problems(notebook) == (no_exercise if path.stem == "00_welcome" else [])


@LESSONS
def test_copy_holds_no_solution(path):
    reference = nbformat.read(path, as_version=4)
    cleared = without_solutions(reference)
    whole = "\n".join(cell.source for cell in cleared.cells)
    assert "SOLUTION" not in whole
    assert not any(cell.get("outputs") for cell in cleared.cells)
    for cell in reference.cells:
        for solution in re.findall(
            r"### BEGIN SOLUTION\n(.*?)\s*### END SOLUTION", cell.source, re.S
        ):
            assert solution not in whole


# What a kernel needed at most, in bytes; None where Python cannot tell.
MEMORY = """
import sys
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak * (1 if sys.platform == "darwin" else 1024))
except ImportError:
    print(None)
"""


def run_copy(reference: nbformat.NotebookNode, folder: Path) -> int | None:
    """Run a learner's copy in its own kernel, no cell over 10 minutes. Returns the kernel's peak
    memory in bytes."""
    notebook = without_solutions(reference)
    notebook.cells.append(new_code_cell(MEMORY))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return eval(notebook.cells[-1].outputs[0].text)


def test_a_copy_that_stops_is_seen(tmp_path):
    reference = sample()
    reference.cells = [reference.cells[8], new_code_cell("assert f() == 1")]
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run_copy(reference, tmp_path)


@LESSONS
def test_untouched_copy_runs_to_its_end(path, tmp_path):
    memory = run_copy(nbformat.read(path, as_version=4), tmp_path)
    assert memory is None or memory < 3e9


# --- The letters of the formulas ---

GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi "
    "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega nabla".split()
)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+?)\$", re.DOTALL)
WORDS = re.compile(r"\\(texttt|text|mathrm|operatorname|begin|end)\s*(\{[^{}]*\}|[A-Za-z])")


def symbols(text: str) -> set[str]:
    """The letters in the formulas of a text, Greek ones by name; not those of words."""
    found = set()
    for block, inline in FORMULA.findall(text):
        plain = WORDS.sub(" ", block or inline)
        found |= set(re.findall(r"\\([A-Za-z]+)", plain)) & GREEK
        found |= set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", plain)))
    return found


def test_letters_are_found():
    text = r"so $\bar\alpha_t$, and $$ \mathrm{SNR}_t = \text{in words} + D_\mathrm{KL} $$"
    assert symbols(text) == {"alpha", "t", "D"}


@LESSONS
def test_every_symbol_stands_in_the_table_of_notation(path):
    table = next(
        cell.source
        for cell in nbformat.read(lessons()[0], as_version=4).cells
        if cell.source.startswith("## Notation")
    )
    first = "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    texts = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    assert symbols("\n".join(texts)) - symbols(first) == set()
