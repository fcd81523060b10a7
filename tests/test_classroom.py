"""Learners' copies: no solutions, no outputs, nobody's work lost; the same stubs as nbgrader's.
And a class: assignments without solutions, and for every submission the mark that it should get."""

import copy
import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import cfd_course
from cfd_course import checks, classroom

from .students import FULL, ONE, RIGHT, STUDENTS, TWO, cell_of

pytestmark = pytest.mark.timeout(1800)  # a class takes its time on a busy machine

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
    monkeypatch.setattr(classroom.copies, "lessons", lambda: sorted(folder.glob("*.ipynb")))
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


def test_a_lesson_that_starts_over_is_no_longer_solved(two_lessons, tmp_path):
    to = tmp_path / "my_course"
    classroom.make_copies(to)
    solved = {"01": {"add_noise": "2026-01-31"}, "02": {"posterior": "2026-02-01"}}
    checks.save_solved(solved, to)
    classroom.make_copies(to)
    assert checks.solved(to) == solved
    classroom.make_copies(to, only="02", force=True)
    assert checks.solved(to) == {"01": solved["01"]}


def test_progress_shows_what_is_solved(tmp_path):
    checks.save_solved({"01": {"snr": "2026-01-31"}}, tmp_path)
    shown = cfd_course.progress(tmp_path)
    assert shown.lessons[ONE] == {"add_noise": None, "snr": "2026-01-31", "predict_x0": None}
    assert f"{ONE}: 1 of 3 solved; still to do: add_noise, predict_x0" in repr(shown)
    assert "<td>1 of 3</td><td>snr</td><td>add_noise, predict_x0</td>" in shown._repr_html_()
    with pytest.raises(TypeError, match="folder should be a folder's path, but 3"):
        cfd_course.progress(3)


def test_the_package_is_light_without_progress():
    words = "import cfd_course, sys; assert 'nbformat' not in sys.modules; cfd_course.progress"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_only_what_an_exercise_needs_runs_when_it_is_graded():
    notebook = new_notebook(
        cells=[
            new_code_cell("import torch\ntwo = 2"),
            new_code_cell("def helper(x):\n    return two * x"),
            new_code_cell("network = train(helper)  # hours"),
            new_code_cell("print(network, two)"),
            new_code_cell(
                "def f(x):\n    network = x\n    return helper(x)", metadata=exercise("f-answer")
            ),
            new_code_cell("f = check.f(f)", metadata=exercise("f-check")),
        ]
    )
    given = set(sources(notebook))
    assert classroom.needed(notebook, given) == {0, 1, 4, 5}
    own = new_code_cell("!ls\nprint(network)")
    notebook.cells.insert(5, own)
    assert classroom.needed(notebook, given) == {0, 1, 2, 4, 5, 6}


# --- assignments ---


def python(*words, cwd=None, code=0) -> str:
    run = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True
    )
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with all lessons, made by the command."""
    pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
    folder = tmp_path_factory.mktemp("class")
    python("cfd_course", "assign", "--to", folder)
    return folder


def released(course) -> list[Path]:
    return sorted(course.glob("release/*/*.ipynb"))


def test_student_notebooks_hold_no_solution_anywhere(course):
    assert [path.stem for path in released(course)] == [
        path.stem for path in classroom.lessons() if classroom.points_of(nbformat.read(path, 4))
    ]
    for path in released(course):
        reference = nbformat.read(classroom.lessons()[0].parent / path.name, 4)
        secret, public = set(), []
        for cell in reference.cells:
            inside = False
            for line in cell.source.split("\n"):
                inside = inside and "END SOLUTION" not in line
                secret.add(line.strip()) if inside else public.append(line)
                inside = inside or "BEGIN SOLUTION" in line
        # What the lesson itself shows elsewhere is no secret.
        secret = {line for line in secret if line not in "\n".join(public)}
        assert len(secret) > 5
        text = path.read_text()
        for line in secret:
            assert json.dumps(line)[1:-1] not in text, (path.name, line)
        for cell in nbformat.reads(text, 4).cells:
            assert not cell.get("outputs") and "SOLUTION" not in cell.source


def test_the_handout_works_by_itself(course, tmp_path):
    """Students who have nothing else make copies and see their progress; no solution is in it."""
    shutil.copytree(course / "handout", tmp_path / "handout")
    handout, mine = tmp_path / "handout", tmp_path / "my_course"
    words = [sys.executable, "-m", "cfd_course", "copies", "--to", str(mine)]
    alone = os.environ | {"PYTHONPATH": str(handout)}
    run = subprocess.run(words, cwd=handout, env=alone, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    names = [path.name for path in classroom.lessons()]
    assert sorted(path.name for path in mine.glob("*.ipynb")) == names
    for path in classroom.lessons():
        wanted = classroom.without_solutions(nbformat.read(path, 4))
        for copy_of in (mine / path.name, handout / "notebooks" / path.name):
            assert sources(nbformat.read(copy_of, 4)) == sources(wanted)
            assert "SOLUTION" not in "".join(sources(wanted))
    said = "import cfd_course; print(cfd_course.__file__); print(cfd_course.progress())"
    words = [sys.executable, "-c", said]
    run = subprocess.run(words, cwd=mine, env=alone, capture_output=True, text=True)
    assert run.stdout.startswith(str(handout)), run.stdout + run.stderr
    assert f"{ONE}: 0 of 3 solved" in run.stdout
    page = (handout / "README.md").read_text(encoding="utf-8")
    assert "cfd_course copies --to my_course" in page and "progress()" in page
    assert not re.search(r"\]\((?!http)", page)  # no link to what is not there


def test_points_add_up_and_are_shown(course):
    for path in released(course):
        notebook = nbformat.read(path, 4)
        points = sum(
            cell.metadata.nbgrader.points
            for cell in notebook.cells
            if cell.metadata.get("nbgrader", {}).get("grade")
        )
        lesson = vars(__import__(f"cfd_course.checks.lesson_{path.stem[:2]}", fromlist=["_"]))
        known = [value for value in lesson.values() if isinstance(value, checks.Exercise)]
        assert points == sum(each.points for each in known)
        assert f"**This notebook is worth {points} points**" in notebook.cells[0].source


def test_chosen_exercises_are_graded_and_the_others_are_for_practice(tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
    assert classroom.assign(tmp_path, ["01"], ["snr"]) == ({ONE: 1}, [])
    notebook = nbformat.read(tmp_path / "release" / ONE / f"{ONE}.ipynb", 4)
    assert classroom.points_of(notebook) == {"snr": 1}
    assert "worth 1 point**: `snr` 1." in notebook.cells[0].source
    assert "for practice, without points" in cell_of(notebook, "add_noise-task").source
    assert classroom.CODE_STUB in cell_of(notebook, "add_noise-answer").source
    assert "1 point" in cell_of(notebook, "snr-task").source
    before = (tmp_path / "source" / ONE / f"{ONE}.ipynb").read_bytes()
    assert classroom.assign(tmp_path, ["01_forward_noising"]) == ({}, [ONE])
    assert (tmp_path / "source" / ONE / f"{ONE}.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    "chosen, exercises, words",
    [
        (["99"], [], "lessons should be some of .*, but '99' came"),
        ([], ["nonsense"], "exercises should be some of .*, but 'nonsense' came"),
        (["01", "02"], ["snr"], f"none of the exercises snr is in {TWO}"),
    ],
)
def test_what_cannot_be_assigned_is_named(tmp_path, chosen, exercises, words):
    pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
    with pytest.raises(ValueError, match=words):
        classroom.assign(tmp_path / "new", chosen, exercises)
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileNotFoundError, match="is no course folder"):
        from cfd_course.classroom.grading import grade

        grade(tmp_path)


# --- a class ---


@pytest.fixture(scope="module")
def graded(course):
    """The class has handed in, and was graded by the command with four workers."""
    settings = course / "nbgrader_config.py"
    settings.write_text(settings.read_text() + "c.Execute.timeout = 15\n")
    for name, student in STUDENTS.items():
        student.hand_in(course, name)
    said = python("cfd_course", "grade", course, "--workers", 4, code=1)  # not all can be read
    assert f"Graded {len(STUDENTS)}." in said
    return course, said


def grades(course) -> dict[tuple[str, str], tuple]:
    """Every mark in the gradebook: (automatic, by hand) by student and exercise."""
    from nbgrader.api import Gradebook

    with (
        warnings.catch_warnings(),
        Gradebook(f"sqlite:///{course / 'gradebook.db'}", "cfd") as book,
    ):
        warnings.simplefilter("ignore")
        return {
            (submission.student.id, grade.name.removesuffix("-graded")): (
                grade.auto_score,
                grade.manual_score,
            )
            for assignment in book.assignments
            for submission in assignment.submissions
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def feedback(course, name: str) -> str:
    lesson = STUDENTS[name].lesson
    page = (course / "feedback" / name / lesson / f"{lesson}.html").read_text()
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_the_class_is_large_enough():
    assert len(STUDENTS) >= 30 and {student.lesson for student in STUDENTS.values()} == {ONE, TWO}


def test_every_mark_is_what_it_should_be(graded):
    found = grades(graded[0])
    wanted = {
        (name, exercise): (float(mark), None)
        for name, student in STUDENTS.items()
        for exercise, mark in student.marks.items()
    }
    assert found == wanted


@pytest.mark.parametrize("name", STUDENTS)
def test_the_feedback_names_the_mistake(graded, name):
    said = feedback(graded[0], name)
    for words in STUDENTS[name].says:
        assert words in said
    for exercise, mark in STUDENTS[name].marks.items():
        assert (f"{exercise}: right (" in said) == (mark > 0)


def test_what_could_not_be_read_is_told_to_the_teacher(graded):
    said = graded[1].partition("unless it says so:")[2]
    assert [line.split("/")[0].strip() for line in said.strip().split("\n")] == [
        "cut_off",
        "no_notebook",
        "not_json",
    ]


def test_grading_again_keeps_a_mark_given_by_hand(graded):
    from nbgrader.api import Gradebook

    from cfd_course.classroom.grading import grade

    course, _ = graded
    before = grades(course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "cfd") as book:
        book.find_grade("snr-graded", ONE, ONE, "blank").manual_score = 0.5
        book.db.commit()
    assert grade(course)[0] == 0  # nothing is new
    shutil.rmtree(course / "submitted" / "blank")
    student = copy.copy(STUDENTS["blank"])
    student.answers = {"add_noise": RIGHT["add_noise"], "snr": RIGHT["snr"]}
    student.hand_in(course, "blank")
    count, results = grade(course, workers=1)
    assert count == 1
    assert [(each.student, each.score) for each in results] == [("blank", 2.5)]
    changed = {("blank", "add_noise"): (2.0, None), ("blank", "snr"): (1.0, 0.5)}
    assert grades(course) == before | changed


@pytest.fixture
def one_exercise(tmp_path):
    """A course with one exercise, and two perfect submissions, graded."""
    grading = pytest.importorskip("cfd_course.classroom.grading", reason="nbgrader is missing")
    classroom.assign(tmp_path, ["01"], ["snr"])
    for name in ("ada", "bob"):
        STUDENTS["perfect"].hand_in(tmp_path, name)
    count, results = grading.grade(tmp_path, workers=1)
    assert count == 2 and [each.score for each in results] == [1.0, 1.0]
    return grading, tmp_path


def test_what_is_not_the_students_fault_changes_no_mark(one_exercise, monkeypatch):
    """The disk is full while the marks are put down: they stay as they were, and it is said. Once
    there is room again, that submission is graded."""
    grading, course = one_exercise
    write, full = grading.feedback.write, ["bob"]

    def on_a_full_disk(folder, submission):
        if submission.student.id in full:
            raise OSError(28, "No space left on device")
        return write(folder, submission)

    monkeypatch.setattr(grading.feedback, "write", on_a_full_disk)
    for name in ("ada", "bob"):
        shutil.rmtree(course / "submitted" / name)
        STUDENTS["noise_to_signal"].hand_in(course, name)
    results = {each.student: each for each in grading.grade(course, workers=1)[1]}
    assert (results["ada"].score, results["ada"].problem) == (0.0, None)
    assert "No space left on device. No mark was changed" in results["bob"].problem
    found = {student: mark for (student, _), (mark, _) in grades(course).items()}
    assert found == {"ada": 0.0, "bob": 1.0}
    full.clear()
    results = list(grading.grade(course, workers=1)[1])
    assert [(each.student, each.score) for each in results] == [("bob", 0.0)]


def test_what_lies_where_nothing_is_graded_is_named(one_exercise):
    grading, course = one_exercise
    os.symlink("/nowhere", course / "submitted" / "ada" / ONE / "link")
    os.mkfifo(course / "submitted" / "ada" / ONE / "pipe")
    (course / "submitted" / "ada" / "01_forward").mkdir()
    (course / "submitted" / "ada" / ONE / "notes.txt").write_text("new")
    (course / "submitted" / "carl.ipynb").write_text("{}")
    (course / "submitted" / "bob" / f"{ONE}.ipynb").write_text("{}")
    count, results = grading.grade(course, workers=1)
    results = {(each.student, each.assignment): each for each in results}
    assert count == 1 and results.pop(("ada", ONE)).score == 1.0
    assert set(results) == {
        ("ada", "01_forward"),
        ("submitted", "carl.ipynb"),
        ("bob", f"{ONE}.ipynb"),
    }
    assert all("submitted/STUDENT/LESSON" in each.problem for each in results.values())


def test_grading_stops_when_it_is_told_to(one_exercise):
    grading, course = one_exercise
    results = grading.grade(course, workers=1, force=True)[1]
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert not list(results)


def test_a_gradebook_that_is_gone_or_damaged_is_named(one_exercise):
    from cfd_course.classroom.report import report

    grading, course = one_exercise
    book = course / "gradebook.db"
    kept = book.read_bytes()
    book.write_bytes(b"no database" * 100)
    for command in (grading.grade, report):
        with pytest.raises(ValueError, match="gradebook.db cannot be read as a gradebook"):
            command(course)
    book.unlink()
    for command in (grading.grade, report):
        with pytest.raises(FileNotFoundError, match="there is no gradebook"):
            command(course)
    assert not book.exists()
    book.write_bytes(kept)
    damaged = course / "autograded" / "ada" / ONE / f"{ONE}.ipynb"
    damaged.write_text("")
    with pytest.raises(ValueError, match="is damaged: grade with --force"):
        report(course)
    settings = course / "nbgrader_config.py"
    settings.write_text(settings.read_text() + "(\n")
    with pytest.raises(ValueError, match="nbgrader_config.py cannot be read: SyntaxError"):
        grading.grade(course)


def test_an_assignment_that_was_interrupted_is_made_again(tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is missing")
    classroom.assign(tmp_path, ["01"], ["snr"])
    shutil.rmtree(tmp_path / "release")
    shutil.rmtree(tmp_path / "handout")
    (tmp_path / "handout.partial").mkdir()
    assert classroom.assign(tmp_path, ["01"]) == ({ONE: 1}, [])  # as it was begun
    assert (tmp_path / "release" / ONE / f"{ONE}.ipynb").exists()
    assert (tmp_path / "handout" / "data").is_dir()
    assert not (tmp_path / "handout.partial").exists()
    assert classroom.assign(tmp_path, ["01"]) == ({}, [ONE])


@pytest.mark.parametrize("name", ["checks_patched", "metadata_ruined"])
def test_nbgraders_own_command_gives_the_same_marks(graded, name):
    course, _ = graded
    before = grades(course)
    nbgrader("autograde", ONE, "--student", name, "--force", cwd=course)
    assert grades(course) == before
    nbgrader("generate_feedback", ONE, "--student", name, "--force", cwd=course)
    for words in STUDENTS[name].says:
        assert words in feedback(course, name)


def nbgrader(*words, cwd) -> None:
    tools = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    run = subprocess.run(
        [sys.executable, "-m", "nbgrader", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PATH": tools},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_assignment_goes_through_the_exchange(tmp_path):
    """As on a JupyterHub: released, fetched, handed in, collected, graded, feedback returned."""
    pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
    from cfd_course.classroom.grading import grade

    course, exchange, home = (tmp_path / name for name in ("course", "exchange", "student"))
    classroom.assign(course, ["01"])
    for folder in (exchange, home):
        folder.mkdir()
    exchange.chmod(0o777)
    settings = [f"--Exchange.root={exchange}", f"--Exchange.cache={tmp_path / 'cache'}"]
    settings.append("--course=cfd")
    nbgrader("release_assignment", ONE, *settings, cwd=course)
    nbgrader("fetch_assignment", ONE, *settings, cwd=home)
    path = home / ONE / f"{ONE}.ipynb"
    notebook = nbformat.read(path, 4)
    for name, answer in RIGHT.items():
        cell_of(notebook, f"{name}-answer").source = answer
    nbformat.write(notebook, path)
    nbgrader("submit", ONE, *settings, cwd=home)
    nbgrader("collect", ONE, *settings, cwd=course)
    count, results = grade(course, workers=1)
    assert count == 1
    assert [each.score for each in results] == [sum(FULL.values())]
    nbgrader("release_feedback", ONE, *settings, cwd=course)
    nbgrader("fetch_feedback", ONE, *settings, cwd=home)
    (page,) = home.rglob("*.html")
    assert "predict_x0: right (1 point)" in page.read_text()


def test_the_report_has_the_marks_and_the_mistakes(graded):
    course, _ = graded
    python("cfd_course", "report", course)
    moodle = list(csv.DictReader((course / "moodle.csv").open()))
    assert {"Username", "ID number", "First name", "Last name", "Email address"} <= set(moodle[0])
    marks = {row["Username"]: row[ONE] for row in moodle}
    canvas = list(csv.DictReader((course / "canvas.csv").open()))
    assert list(canvas[0])[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert (canvas[0]["Student"], canvas[0][ONE]) == ("Points Possible", "4")
    assert {row["SIS Login ID"]: row[ONE] for row in canvas[1:]} == marks
    for name in ("perfect", "no_roots", "calls_the_package"):
        assert float(marks[name]) == sum(STUDENTS[name].marks.values())
    assert marks["perfect_in_02"] == ""
    page = html.unescape((course / "class.html").read_text())
    assert page.count("data:image/png;base64,") == 2 and 'alt="Solved by: add_noise' in page
    rows = re.findall(r"<tr><td>snr</td><td>(\d+)</td><td>(.*?)</td></tr>", page)
    counts = [int(count) for count, _ in rows]
    unsolved = [mark for (_, name), mark in grades(course).items() if name == "snr" and not mark[0]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == len(unsolved)
    assert rows[0][1].startswith("It returns None so far") and counts[0] >= 7
    words = [words for _, words in rows]
    assert any("yours is noise to signal" in each for each in words)
    assert "It stops with SystemExit." in words
