"""Where submissions run, and that no mark can be reached from there. Nothing is lost when a worker,
or grading itself, dies in the middle."""

import ast
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell

from cfd_course import checks, classroom

from .hostile import HOSTILE
from .students import FULL, ONE, RIGHT, STUDENTS, Student

grading = pytest.importorskip("cfd_course.classroom.grading", reason="install the extra teach")
from cfd_course.classroom import sandbox  # noqa: E402

pytestmark = pytest.mark.timeout(3600)  # a class takes its time on a busy machine


def _walls() -> str | None:
    try:
        sandbox.walls()
    except sandbox.NoSandbox as error:
        return str(error)
    return None


walled = pytest.mark.skipif(_walls() is not None, reason="there is no bubblewrap that works here")
EXERCISES = {
    (path.stem, name): exercise
    for path in sorted(Path(checks.__file__).parent.glob("lesson_*"))
    for name, exercise in vars(importlib.import_module(f"cfd_course.checks.{path.stem}")).items()
    if isinstance(exercise, checks.Exercise)
}


def a_course(folder: Path, exercises=(), settings: str = "") -> Path:
    classroom.assign(folder, ["01"], exercises)
    path = folder / "nbgrader_config.py"
    path.write_text(path.read_text() + settings)
    return folder


def marks(course: Path) -> dict[str, dict[str, float | None]]:
    """The automatic marks in the gradebook, by student and exercise."""
    from nbgrader.api import Gradebook

    with (
        warnings.catch_warnings(),
        Gradebook(f"sqlite:///{course / 'gradebook.db'}", "cfd") as book,
    ):
        warnings.simplefilter("ignore")
        return {
            submission.student.id: {
                grade.name.removesuffix("-graded"): grade.auto_score
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for assignment in book.assignments
            for submission in assignment.submissions
        }


def left_behind() -> list[str]:
    """Processes of submissions that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "left-behind-by-a-submission" in words and "Runs inside" not in words:
            found.append(words[:200])
    return found


# --- hostile submissions ---


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """All hostile submissions, graded; by student what came of it, and the course folder."""
    course = a_course(tmp_path_factory.mktemp("hostile"))
    for name, student in HOSTILE.items():
        student.hand_in(course, name)
    os.environ["A_SECRET_OF_THE_TEACHER"] = "1"
    try:
        _, results = grading.grade(course, workers=2)
        return {each.student: each for each in results}, course
    finally:
        del os.environ["A_SECRET_OF_THE_TEACHER"]


def test_there_are_enough_of_them():
    assert sum(student.marks != FULL for student in HOSTILE.values()) >= 30


@walled
def test_no_mark_that_was_not_earned_and_none_that_was_is_lost(judged):
    results, course = judged
    assert {name: each.problem for name, each in results.items()} == dict.fromkeys(HOSTILE)
    assert marks(course) == {name: student.marks for name, student in HOSTILE.items()}


@walled
@pytest.mark.parametrize("name", [name for name, each in HOSTILE.items() if each.says])
def test_the_feedback_says_what_happened(judged, name):
    page = (judged[1] / "feedback" / name / ONE / f"{ONE}.html").read_text(encoding="utf-8")
    for words in HOSTILE[name].says:
        assert words in page


@walled
def test_nothing_of_them_is_left(judged):
    results, course = judged
    assert results
    assert not left_behind()
    for step in ("autograded", "feedback"):
        for folder in course.glob(f"{step}/*/{ONE}"):
            assert [path.suffix for path in folder.iterdir()] in ([".ipynb"], [".html"])


@walled
def test_a_worker_gets_nothing_of_other_students(judged):
    _, course = judged
    config = grading.configuration(course)
    data = grading._without_students(config)
    assert b"predict_x0-graded" in data
    for name in HOSTILE:
        assert name.encode() not in data or name in ("installs", "object", "network", "magics")


# --- what a sandbox has in sight ---


@pytest.mark.parametrize("lesson, name", EXERCISES)
def test_the_package_comes_without_what_is_asked_for(lesson, name):
    """The functions only say that they should not be called; cases, references and mistakes are
    not there."""
    hidden = sandbox.hidden(EXERCISES[lesson, name])
    assert hidden
    closed = sandbox.without(hidden)
    for piece in hidden:
        if piece.__module__.startswith("cfd_course.checks."):
            continue
        file = piece.__module__.replace(".", "/")
        text = closed.get(f"{file}.py") or closed[f"{file}/__init__.py"]
        found = [
            [ast.unparse(line) for line in node.body]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.name == piece.__name__
        ]
        assert sandbox.REFUSAL.split("\n") in found
    for file, text in closed.items():
        assert "mistakes=[\n" not in text, file
        assert "lesson_" not in file or text == sandbox.LESSON


def test_without_bubblewrap_nothing_runs_unless_it_is_trusted(tmp_path, monkeypatch):
    course = a_course(tmp_path, ["snr"])
    STUDENTS["perfect"].hand_in(course, "ada")
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox.sysconfig, "get_path", lambda name: str(tmp_path))
    sandbox.walls.cache_clear()
    try:
        with pytest.raises(
            sandbox.NoSandbox, match="bubblewrap.*there is none.*container.*--trust"
        ):
            grading.grade(course)
        assert marks(course) == {}
        monkeypatch.setattr(sandbox.shutil, "which", lambda name: "/bin/false")
        with pytest.raises(sandbox.NoSandbox, match="/bin/false says"):
            grading.grade(course)
    finally:
        sandbox.walls.cache_clear()


def test_who_is_trusted_runs_as_the_teacher(tmp_path, monkeypatch):
    """So an attack that earns nothing elsewhere earns its prize here: the walls are what stops
    it."""
    monkeypatch.setenv("A_SECRET_OF_THE_TEACHER", "1")
    course = a_course(tmp_path)
    for name in ("secrets_of_the_teacher", "double_by_default", "not_numbers"):
        HOSTILE[name].hand_in(course, name)
    _, results = grading.grade(course, workers=1, trust=True)
    assert [each.problem for each in results] == [None] * 3
    wanted = {name: HOSTILE[name].marks for name in ("double_by_default", "not_numbers")}
    assert marks(course) == {"secrets_of_the_teacher": FULL} | wanted


# --- time ---


@walled
def test_long_cells_of_ones_own_leave_time_for_the_exercises(tmp_path):
    course = a_course(tmp_path, settings="c.Execute.timeout = 6\nc.Judge.seconds = 120\n")
    slow = "def helper():\n    return 2\nimport time\nwhile True:\n    time.sleep(0.1)"
    cells = [("add_noise-task", slow)] * 20
    Student(
        {**RIGHT, "add_noise": RIGHT["add_noise"] + "\nassert helper() == 2"}, FULL, cells=cells
    ).hand_in(course, "ada")
    (graded,) = grading.grade(course, workers=1)[1]
    assert marks(course) == {"ada": FULL}
    assert graded.problem is None and "out of time: the cells" in graded.waiting[0]


# --- a teacher's own graded cells ---


@walled
def test_a_cell_that_marks_itself_stays_within_its_points(tmp_path):
    """As nbgrader has it, such a cell runs with the submission: it can be talked into its points,
    but not above them."""
    course = a_course(tmp_path)
    name = "own"
    source = course / "source" / name / f"{name}.ipynb"
    source.parent.mkdir()
    graded = {"grade": True, "solution": False, "locked": True, "task": False, "schema_version": 3}
    cells = [new_code_cell("mark = 0  # to be changed", metadata={})]
    for number in range(3):
        marked = {"nbgrader": {**graded, "grade_id": f"cell{number}", "points": 2}}
        cells.append(new_code_cell("mark", metadata=marked))
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, source)
    grading.release(course, [name])
    for student, mark in {
        "all": "2",
        "half": "1.0",
        "more": "27",
        "less": "-3",
        "dies": "die()",
    }.items():
        notebook.cells[0].source = f"import os\ndef die(): os._exit(0)\nmark = {mark}"
        path = course / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    results = {each.student: each for each in grading.grade(course, workers=1)[1]}
    scores = {student: each.score for student, each in results.items()}
    assert scores == {"all": 6, "half": 3, "more": 0, "less": 0, "dies": 0}
    refused = " ".join(results["more"].waiting)
    assert "the mark 27 is not from 0 to 2, and was refused" in refused


@walled
def test_a_mark_above_the_maximum_is_refused(tmp_path, monkeypatch):
    """Whatever a worker may send."""
    course = a_course(tmp_path, ["snr"])
    STUDENTS["perfect"].hand_in(course, "ada")
    config = grading.configuration(course)
    given = grading.releases(course)
    (submission,), _ = grading.find(course, given)
    (task,) = grading._tasks(course, config, [submission], False)
    done = grading.grade_one(task)
    assert done.scores == {"snr-graded": 1.0}
    done.scores["snr-graded"] = 27.0
    graded = grading._merge(course, config, submission, done)
    assert graded.score == 0 and marks(course) == {"ada": {"snr": None}}
    assert any("above the maximum, and refused" in words for words in graded.waiting)


# --- what dies in the middle ---


@walled
def test_what_a_lost_worker_held_is_graded_by_another(tmp_path):
    import distributed

    course = a_course(tmp_path, ["snr"])
    for name in ("ada", "bob", "eve"):
        STUDENTS["perfect"].hand_in(course, name)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None
    ) as cluster:
        pids = {worker.pid for worker in cluster.workers.values()}
        count, results = grading.grade(course, scheduler=cluster.scheduler_address)
        assert count == 3
        killed, found = set(), []

        def kill_one():
            """The first that has begun to grade."""
            end = time.monotonic() + 600
            while time.monotonic() < end and not killed:
                for pid in pids:
                    try:
                        children = psutil.Process(pid).children()
                        if any(child.name() == "bwrap" for child in children):
                            os.kill(pid, signal.SIGKILL)
                            killed.add(pid)
                            return
                    except psutil.Error:
                        pass
                time.sleep(0.05)

        import threading

        thread = threading.Thread(target=kill_one)
        thread.start()
        found = list(results)
        thread.join()
    assert killed
    assert [each.problem for each in found] == [None] * 3
    assert marks(course) == {name: {"snr": 1.0} for name in ("ada", "bob", "eve")}


@walled
def test_a_full_disk_changes_no_mark(tmp_path, small_disk):
    """Wherever it fills up: what was there stays, no half file is left, and once there is room
    grading goes on."""
    disk, fill = small_disk
    made = a_course(tmp_path / "made", ["snr"])
    for name in ("nbgrader_config.py", "gradebook.db"):
        shutil.copy(made / name, disk)
    for name in ("release", "source"):
        shutil.copytree(made / name, disk / name)
    STUDENTS["perfect"].hand_in(disk, "ada")
    fill(0)
    (graded,) = grading.grade(disk, workers=1)[1]
    assert "could not be graded" in graded.problem and "No mark was changed" in graded.problem
    config, given = grading.configuration(disk), grading.releases(disk)
    (submission,), _ = grading.find(disk, given)
    (task,) = grading._tasks(disk, config, [submission], False)
    done = grading.grade_one(task)
    for left in (0, 8, 40, 80, 120, 160):
        fill(left)
        with contextlib.suppress(Exception):
            grading._merge(disk, config, submission, done)
        (disk / ".filling").unlink()
        assert marks(disk) in ({}, {"ada": {"snr": None}}, {"ada": {"snr": 1.0}})
        assert not list(disk.rglob("*.partial"))
        for path in disk.glob("autograded/*/*/*.ipynb"):
            nbformat.read(path, as_version=4)
    assert grading._merge(disk, config, submission, done).problem is None
    assert marks(disk) == {"ada": {"snr": 1.0}} and not grading.is_new(disk, submission)


@walled
def test_what_a_task_forbids_is_taken_away(tmp_path):
    """PyTorch's own attention, called where nobody watches, or by another way to it."""
    program = """if True:
        import sys, threading, torch
        import torch.nn.functional as F
        from cfd_course.checks.lesson_03 import attention
        from cfd_course.classroom.runner import _taken_away

        def unwatched(query, key, value, mask=None):
            sys.setprofile(None)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        def operator(query, key, value, mask=None):
            return torch.ops.aten.scaled_dot_product_attention(query, key, value, mask)

        def thread(query, key, value, mask=None):
            found = []
            call = lambda: found.append(unwatched(query, key, value, mask))
            thread = threading.Thread(target=call)
            thread.start(), thread.join()
            return found[0]

        def own(query, key, value, mask=None):
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
            scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
            return scores.softmax(-1) @ value

        before = [attention.problem(answer) for answer in (unwatched, operator, thread, own)]
        assert before == [None] * 4, before
        kept = _taken_away(attention.forbids)
        for answer in (unwatched, operator, thread, own):
            print(*["error" in each for each in attention.outcomes(answer)])
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    *stolen, own = said.stdout.split("\n")[:4]
    assert not said.returncode and "True" not in own, said.stderr
    assert all("False" not in each and "True" in each for each in stolen), said.stdout


@walled
def test_grading_that_is_killed_goes_on_where_it_was(tmp_path):
    course = a_course(tmp_path, ["snr"])
    names = ("ada", "bob", "eve")
    for name in names:
        STUDENTS["perfect"].hand_in(course, name)
    words = [sys.executable, "-m", "cfd_course", "grade", str(course), "--workers", "1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 900
    while not list(course.glob("graded/*/*.json")) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(started, timeout=120)
    assert started and not left
    before = marks(course)
    assert before and all(found == {"snr": 1.0} for found in before.values())
    count, results = grading.grade(course, workers=1)
    assert count in (3 - len(before), 3 - len(before) + 1)  # of one the marks may stand alone
    assert all(each.problem is None for each in results)
    assert marks(course) == {name: {"snr": 1.0} for name in names}
