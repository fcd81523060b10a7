"""Grading a class with nbgrader, which this room alone needs.

No line of a submission runs in the process that gives the marks. The submission runs in a kernel,
with limits of time and memory; there each answer is put through its exercise's cases, and what it
did comes back as plain data. The Judge compares that with the reference, in a process of its own:
whatever a submission does to the checks, it does to its own copy.
"""

import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_output
from traitlets import Float, Integer, default
from traitlets.config import Config, PyFileConfigLoader

from .. import checks, expect
from .notebooks import exercise_of, lessons, needed
from .submissions import (
    Submission,
    Unreadable,
    choose,
    find,
    fingerprint,
    is_new,
    put,
    releases,
    remember,
    restore,
)

try:
    from nbgrader.api import Gradebook, MissingEntry
    from nbgrader.converters import Autograde, GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import Execute, NbGraderPreprocessor
    from sqlalchemy.exc import DatabaseError

    from . import feedback
except ImportError as error:
    raise ImportError(
        "assignments and grading need nbgrader. Install the course with its extra for teachers: "
        "python -m pip install --constraint constraints.txt '.[teach]'"
    ) from error

HANDED_IN = "application/x-cfd-outcomes"
SPARE = 120  # seconds beyond a notebook's own, after which its process is killed
STUDENT = "student"  # each one's name while being graded: a real one may hold anything
EXCHANGED = ("timestamp.txt", "submission_secret.txt")  # nbgrader's exchange asks for them
OUTPUT = 5_000_000  # characters that one cell may put out


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


class Judge(Execute):
    """Runs a submission and gives the marks of its exercises.

    Of the lesson's own cells only those run that an exercise needs. When the kernel dies or the
    time is over, the exercises up to there keep their marks.
    """

    seconds = Integer(600, help="for a notebook as a whole").tag(config=True)
    gigabytes = Float(4.0, help="of memory for a notebook").tag(config=True)

    @default("extra_arguments")
    def _own_packages_first(self):
        # A file beside the notebook, torch.py say, must not stand in for a package. The imports in
        # begin() come first; only then can the notebook's folder be imported from.
        begin = f"__import__('cfd_course.checks').checks.begin({self.gigabytes}, {self.seconds})"
        return [
            "--HistoryManager.hist_file=:memory:",
            "--InteractiveShellApp.ignore_cwd=True",
            f'--IPKernelApp.exec_lines=["{begin}"]',
        ]

    async def async_start_new_kernel(self, **named):
        home = str(Path(__file__).parents[2])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}
        await super().async_start_new_kernel(env={**os.environ, **environment}, **named)

    def preprocess(self, notebook, resources, km=None):
        name = resources["nbgrader"]["notebook"]
        self.number = name[:2]
        try:
            self.exercises = vars(importlib.import_module(f"cfd_course.checks.lesson_{name[:2]}"))
        except ImportError:  # a teacher's own notebook: nbgrader's ways
            self.exercises = {}
        given = {
            cell.source
            for path in lessons()
            if path.stem == name
            for cell in nbformat.read(path, as_version=4).cells
        }
        self.needed = needed(notebook, given)
        self.handed_in: dict[str, list[dict]] = {}
        self.stopped: str | None = None
        self.end = time.monotonic() + self.seconds
        self.cell_seconds = self.timeout
        self.shutdown_kernel, self.raise_on_iopub_timeout = "immediate", False
        return super().preprocess(notebook, resources, km)

    def preprocess_cell(self, cell, resources, index):
        name, kind = exercise_of(cell)
        exercise = self.exercises.get(name)
        exercise = exercise if isinstance(exercise, checks.Exercise) else None
        if exercise is not None and kind in ("check", "graded") and name not in self.handed_in:
            self.handed_in[name] = self._hand_in(name, index)
        if cell.cell_type != "code":
            return cell, resources
        if kind == "graded" and exercise is not None:
            problem = exercise.verdict(self.handed_in[name])
            mark = 0.0 if problem is not None else float(cell.metadata["nbgrader"]["points"])
            cell.outputs = [
                new_output("stream", name="stdout", text=exercise.says(problem) + "\n"),
                new_output("execute_result", {"text/plain": repr(mark)}, execution_count=1),
            ]
            cell.execution_count = 1
        elif index in self.needed:
            self._run(cell, index)
            if self.stopped is not None and not cell.outputs:
                cell.outputs = [new_output("error", ename="Stopped", evalue=self.stopped)]
        return cell, resources

    def _hand_in(self, name: str, index: int) -> list[dict]:
        cell = new_code_cell(
            "__import__('cfd_course.checks').checks.hand_in("
            f"{self.number!r}, {name!r}, globals().get({name!r}))"
        )
        self._run(cell, index)
        for output in cell.outputs:
            if HANDED_IN in output.get("data", {}):
                with contextlib.suppress(Exception):  # whatever may come from a submission
                    return checks.unseal(output["data"][HANDED_IN])
        said = next((o.evalue for o in cell.outputs if o.output_type == "error"), "nothing came")
        return [{"error": f"It could not be checked: {self.stopped or said}."}]

    def _run(self, cell, index) -> None:
        """Run a cell in the kernel, unless that has stopped."""
        if self.stopped is None and time.monotonic() > self.end:
            self.stopped = f"the notebook took more than {self.seconds} seconds"
        if self.stopped is not None:
            return
        left = max(1, round(self.end - time.monotonic()))
        self.timeout, self.written = min(self.cell_seconds, left), 0
        try:
            self._execute(cell, index)
            if any(output.get("ename") == "CellTimeoutError" for output in cell.outputs):
                self.timeout = min(10, self.cell_seconds)
                probe = new_code_cell("None")
                self._execute(probe, index)
                if probe.outputs:
                    self.stopped = "a cell ran on and on and could not be interrupted"
        except Exception as error:
            self.log.warning("the kernel stopped: %r", error)
            self.stopped = "the notebook's kernel died before this point"

    def _execute(self, cell, index) -> None:
        there = self.nb.cells[index]
        try:
            self.execute_cell(cell, index, store_history=True)
        finally:
            self.nb.cells[index] = there  # nbclient puts what it has run there

    def output(self, outs, msg, display_id, cell_index):
        content = msg["content"]
        self.written += len(str(content.get("text") or content.get("data") or ""))
        if self.written > OUTPUT:
            return None
        return super().output(outs, msg, display_id, cell_index)


def release(folder: Path, names: list[str]) -> None:
    """Make the students' notebooks from the teacher's."""
    config = configuration(folder)
    with _path_to_tools():
        for name in names:
            course = CourseDirectory(config=config, assignment_id=name)
            app = GenerateAssignment(coursedir=course, config=config)
            app.log.setLevel(logging.WARNING)
            try:
                app.start()
            except NbGraderException as error:
                raise ValueError(
                    f"nbgrader could not make {folder / 'release' / name}: what it logged above "
                    "says why. Mend that, and run the same command again."
                ) from error


def configuration(folder: Path, root: Path | None = None) -> Config:
    """What nbgrader_config.py in a course folder says; with root, for work in another folder."""
    file = folder / "nbgrader_config.py"
    if not file.exists():
        raise FileNotFoundError(
            f"{folder} is no course folder: it has no {file.name}. Make one with `python -m "
            "cfd_course assign --to FOLDER`."
        )
    try:
        config = PyFileConfigLoader(file.name, path=str(folder)).load_config()
    except Exception as error:  # it is Python, and may hold any mistake
        raise ValueError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
    config.CourseDirectory.root = str((root or folder).resolve())
    if root is not None:
        config.CourseDirectory.db_url = f"sqlite:///{root.resolve() / 'gradebook.db'}"
    return config


@contextlib.contextmanager
def open_gradebook(config: Config) -> Iterator[Gradebook]:
    """The gradebook of a course, which must be there. A damaged file is named in the error."""
    url = CourseDirectory(config=config).db_url
    if not url.startswith("sqlite:///"):
        raise ValueError(
            f"the gradebook should be an SQLite file, but {url} came. Use `nbgrader autograde` "
            "with others."
        )
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():  # nbgrader would make an empty one
        raise FileNotFoundError(
            f"there is no gradebook {path}. Put it back from a copy: all marks are in it."
        )
    try:
        with Gradebook(url, config.CourseDirectory.course_id) as book:
            yield book
    except DatabaseError as error:
        raise ValueError(
            f"{path} cannot be read as a gradebook: put it back from a copy. ({error.orig})"
        ) from error


@contextlib.contextmanager
def _path_to_tools():
    """nbgrader calls alembic, which lies beside Python, by its name."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + before
    try:
        yield
    finally:
        os.environ["PATH"] = before


@dataclass(frozen=True)
class Graded:
    """One submission that was graded. problem: why it could not be graded as it came, if so.
    waiting: what of its mark waits for its teacher. note: which of several notebooks it was."""

    student: str
    assignment: str
    score: float
    max_score: float
    problem: str | None
    waiting: tuple[str, ...] = ()
    note: str | None = None


def grade(
    folder: str | Path, workers: int | None = None, force: bool = False
) -> tuple[int, Iterator[Graded]]:
    """Grade what was handed in: submitted/STUDENT/ASSIGNMENT/ of a course folder, and Moodle's
    downloads in submitted/. Returns how many submissions wait, and an iterator that grades them.

    Each submission is graded in a process of its own with a copy of the gradebook, `workers` at a
    time; the marks are put into the gradebook one submission at a time. Marks given by hand stay.
    Without force only those are graded whose content is new.
    """
    folder = Path(folder)
    config = configuration(folder)
    workers = expect.whole("workers", os.cpu_count() or 1 if workers is None else workers, 1)
    with open_gradebook(config) as book:
        assignments = {assignment.name for assignment in book.assignments}
    given = {name: each for name, each in releases(folder).items() if name in assignments}
    there, astray = find(folder, given)
    found = [each for each in there if force or is_new(folder, each)]

    def run():
        for path in astray:
            problem = (
                "nothing is graded there. No mark was changed; it should be "
                "submitted/STUDENT/LESSON/, with the name of a lesson that was assigned, or what "
                "Moodle lets you download"
            )
            yield Graded(path.parent.name, path.name, 0.0, 0.0, problem)
        running = _Running()
        with ThreadPoolExecutor(workers) as pool:
            waiting = {
                pool.submit(_in_its_own_process, folder, each, running): each for each in found
            }
            try:
                for done in as_completed(waiting):
                    submission = waiting[done]
                    work, problem, finished = done.result()
                    if not finished:
                        problem = f"{problem}. No mark was changed; {work / 'log'} says more"
                        yield Graded(submission.student, submission.assignment, 0.0, 0.0, problem)
                        continue
                    yield _merge(folder, config, work, submission, problem)
                    shutil.rmtree(work, ignore_errors=True)
            except BaseException:  # Ctrl-C too: whoever still waits need not be graded now
                pool.shutdown(wait=False, cancel_futures=True)
                running.stop()
                raise

    return len(found), run()


# A server that has imported everything forks a process for each submission.
_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
if _FORKS:
    _CONTEXT.set_forkserver_preload([__name__])


class _Running(set):
    """The processes that are grading. Once stopped, they are ended and none begins any more."""

    stopped = False

    def stop(self):
        self.stopped = True
        for process in list(self):
            _end(process.pid)


def _in_its_own_process(
    folder: Path, submission: Submission, running: _Running
) -> tuple[Path, str | None, bool]:
    """Grade a submission. Returns the folder with the results, why it could not be graded as it
    came (then an empty notebook was graded in its place), and whether that worked."""
    seconds = configuration(folder).Judge.get("seconds", 600) + SPARE
    unreadable = None
    for last in (False, True):
        work = Path(tempfile.mkdtemp(prefix="grading-"))
        process = _CONTEXT.Process(target=_grade_one, args=(folder, submission, work, unreadable))
        process.start()
        running.add(process)
        if running.stopped:  # between the last look and now
            running.stop()
        process.join(seconds)
        if process.is_alive():
            unreadable = "grading it took too long"
            _end(process.pid)
            process.join()
        running.discard(process)
        if process.exitcode == 0:
            return work, unreadable, True
        # What is not the student's fault, a full disk or a killed process, gets a second try.
        why, said = work / "problem", work / "unreadable"
        unreadable = said.read_text() if said.exists() else unreadable
        problem = why.read_text() if why.exists() else unreadable or "grading it broke down"
        if running.stopped or not last:
            shutil.rmtree(work, ignore_errors=True)
        if running.stopped:
            break
    return work, problem, False


def _end(number: int) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _grade_one(folder: Path, submission: Submission, work: Path, problem: str | None) -> None:
    """In a process of its own: grade a submission, or an empty notebook because of a problem."""
    log = os.open(work / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.environ["OMP_NUM_THREADS"] = "1"
    config = configuration(folder, work)
    assignment = submission.assignment
    copy = work / "submitted" / STUDENT / assignment
    copy.mkdir(parents=True)
    try:
        contents = submission.contents()
        given = nbformat.read(folder / "release" / assignment / f"{assignment}.ipynb", as_version=4)
        facts = {"fingerprint": fingerprint(contents), "problem": problem, "note": None}
        if problem is None:
            notebook, facts["note"] = choose(contents, assignment, given)
            put(contents, copy)
        else:
            notebook = given
            notebook.metadata["problem"] = problem
        nbformat.write(notebook, copy / f"{assignment}.ipynb")
        (work / "facts.json").write_text(json.dumps(facts))
        gradebook = CourseDirectory(config=configuration(folder)).db_url
        with (
            contextlib.closing(sqlite3.connect(gradebook.removeprefix("sqlite:///"))) as theirs,
            contextlib.closing(sqlite3.connect(work / "gradebook.db")) as mine,
        ):
            theirs.backup(mine)
        with _path_to_tools():
            course = CourseDirectory(
                config=config, student_id=STUDENT, assignment_id=assignment, notebook_id=assignment
            )
            app = Autograde(coursedir=course, config=config)
            app.force = True
            app.start()
    except Exception as error:
        kind = "unreadable" if isinstance(error, Unreadable) else "problem"
        (work / kind).write_text(str(error) or type(error).__name__)
        raise SystemExit(1) from None


def _merge(folder, config, work, submission, problem) -> Graded:
    """Put the marks of a submission into the gradebook and its files into the course folder."""
    course, student, assignment = (
        config.CourseDirectory.course_id,
        submission.student,
        submission.assignment,
    )
    with (
        warnings.catch_warnings(),
        open_gradebook(config) as book,
        Gradebook(f"sqlite:///{work / 'gradebook.db'}", course) as copy,
    ):
        warnings.simplefilter("ignore")  # nbgrader's way with SQLAlchemy is not ours to mend
        theirs = copy.find_submission(assignment, STUDENT)
        book.update_or_create_student(student)
        named = {} if theirs.timestamp is None else {"timestamp": theirs.timestamp}
        ours = book.update_or_create_submission(assignment, student, **named)
        for notebook in theirs.notebooks:
            where = (notebook.name, assignment, student)
            book.find_submission_notebook(
                *where
            ).late_submission_penalty = notebook.late_submission_penalty
            for grade in notebook.grades:
                kept = book.find_grade(grade.name, *where)
                kept.auto_score = grade.auto_score
                # As nbgrader has it: a mark given by hand stays, and asks to be looked at.
                kept.needs_manual_grade = kept.manual_score is not None or grade.auto_score is None
            for comment in notebook.comments:
                with contextlib.suppress(MissingEntry):
                    book.find_comment(comment.name, *where).auto_comment = comment.auto_comment
        book.db.commit()
        score, most, waiting = ours.score, ours.max_score, feedback.unfinished(ours)
        made = work / "autograded" / STUDENT / assignment
        for step in ("autograded", "feedback"):
            target = folder / step / student / assignment
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for name in EXCHANGED:
                if (made / name).is_file():
                    shutil.copy(made / name, target)
        name = f"{assignment}.ipynb"
        shutil.copy(made / name, folder / "autograded" / student / assignment)
        feedback.write(folder, ours)
    facts = json.loads((work / "facts.json").read_text())
    remember(folder, submission, **facts)
    return Graded(student, assignment, score, most, problem, tuple(waiting), facts["note"])
