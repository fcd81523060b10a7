"""Learners' copies: no solutions, no outputs, nobody's work lost; the same stubs as nbgrader's."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cfd_course import classroom

ANSWER = """\
def add_noise(schedule, x_0, t, noise):
    # the shares of picture and noise
    ### BEGIN SOLUTION
    share = schedule.alpha_bars[t]
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise
    ### END SOLUTION


class Block:
    def __init__(self):
        self.gain = 1
        ### BEGIN SOLUTION
        self.gain = 2
        ### END SOLUTION"""

CLEARED = """\
def add_noise(schedule, x_0, t, noise):
    # the shares of picture and noise
    ...  # your code here


class Block:
    def __init__(self):
        self.gain = 1
        ...  # your code here"""


def exercise(kind: str) -> dict:
    return {
        "nbgrader": {
            "grade": kind == "graded",
            "grade_id": kind,
            "locked": kind != "answer",
            "schema_version": 3,
            "solution": kind == "answer",
            "task": False,
        }
        | ({"points": 1} if kind == "graded" else {})
    }


def sample(answer: str = ANSWER) -> nbformat.NotebookNode:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("Write add_noise.", metadata=exercise("task")),
            new_code_cell(
                answer,
                metadata=exercise("answer"),
                execution_count=1,
                outputs=[new_output("stream", text="done\n")],
            ),
            new_code_cell("print('plain')", execution_count=2),
        ]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python"}
    return notebook


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


def test_solutions_outputs_and_counts_are_taken_out():
    reference = sample()
    before = copy.deepcopy(reference)
    cleared = classroom.without_solutions(reference)
    assert sources(cleared) == ["Write add_noise.", CLEARED, "print('plain')"]
    assert all(cell.outputs == [] for cell in cleared.cells if cell.cell_type == "code")
    assert all(cell.execution_count is None for cell in cleared.cells if cell.cell_type == "code")
    assert reference == before


def test_stub_runs_and_returns_none():
    names: dict = {}
    exec(classroom.without_solutions(sample()).cells[1].source, names)
    assert names["add_noise"](None, None, None, None) is None
    assert names["Block"]().gain == 1


@pytest.mark.parametrize("whole", [False, True])
def test_same_as_nbgrader_would_hand_out(whole):
    preprocessors = pytest.importorskip(
        "nbgrader.preprocessors", reason="nbgrader is missing: install the extra teach"
    )
    reference = sample("share = 0.5" if whole else ANSWER)
    reference.cells.append(new_markdown_cell("Because.", metadata=exercise("answer")))
    for notebook in [reference, *(nbformat.read(path, 4) for path in classroom.lessons())]:
        theirs, _ = preprocessors.ClearSolutions(
            code_stub={"python": classroom.CODE_STUB}, text_stub=classroom.TEXT_STUB
        ).preprocess(copy.deepcopy(notebook), {})
        assert sources(classroom.without_solutions(notebook)) == sources(theirs)


@pytest.mark.parametrize(
    "answer, words",
    [
        ("### BEGIN SOLUTION\nx = 1", "has no END SOLUTION"),
        ("x = 1\n### END SOLUTION", "should take turns"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "should take turns"),
    ],
)
def test_broken_markers_are_named(answer, words):
    with pytest.raises(ValueError, match=f"cell 1.*{words}"):
        classroom.without_solutions(sample(answer))


def test_solution_without_metadata_is_refused():
    reference = sample()
    del reference.cells[1].metadata["nbgrader"]
    with pytest.raises(ValueError, match="cell 1 holds a solution, but its nbgrader metadata"):
        classroom.without_solutions(reference)
    with pytest.raises(TypeError, match="notebook should be one that nbformat.read returns"):
        classroom.without_solutions("01_forward_noising.ipynb")


@pytest.fixture
def two_lessons(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_first", "02_second"):
        nbformat.write(sample(), folder / f"{name}.ipynb")
    monkeypatch.setattr(classroom, "lessons", lambda: sorted(folder.glob("*.ipynb")))
    return folder


def test_copies_never_overwrite(two_lessons, tmp_path):
    to = tmp_path / "new" / "my_course"
    first, second = to / "01_first.ipynb", to / "02_second.ipynb"
    assert classroom.make_copies(to) == ([first, second], [])
    first.write_text("my work")
    second.unlink()
    assert classroom.make_copies(str(to)) == ([second], [first])
    assert first.read_text() == "my work"
    assert classroom.make_copies(to, force=True) == ([first, second], [])
    assert sources(nbformat.read(first, 4))[1] == CLEARED


@pytest.mark.parametrize("only", ["02", "02_second"])
def test_one_lesson_starts_over(two_lessons, tmp_path, only):
    to = tmp_path / "my_course"
    classroom.make_copies(to)
    for path in to.iterdir():
        path.write_text("my work")
    made, kept = classroom.make_copies(to, only=only, force=True)
    assert (made, kept) == ([to / "02_second.ipynb"], [])
    assert (to / "01_first.ipynb").read_text() == "my work"
    assert sources(nbformat.read(made[0], 4))[1] == CLEARED


def test_bad_folders_and_names_are_refused(two_lessons, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="01_first, 02_second, but '07' came"):
        classroom.make_copies(tmp_path / "my_course", only="07")
    with pytest.raises(ValueError, match="is a file"):
        classroom.make_copies(tmp_path / "file")
    with pytest.raises(ValueError, match="holds the reference notebooks"):
        classroom.make_copies(two_lessons, force=True)
    with pytest.raises(TypeError, match="to should be a folder's path, but 3"):
        classroom.make_copies(3)
    assert sources(nbformat.read(two_lessons / "01_first.ipynb", 4))[1] == ANSWER
