"""Grading a class with nbgrader and Dask.

No line of a submission runs in the process that gives the marks (see judging.py and sandbox.py).
Dask hands the submissions to workers, on this machine or on others, and hands out again what a lost
worker held. A worker gets what it needs as data, the submission, the assignment, an empty
gradebook, and gives marks back; only this process writes into the course folder.
"""

import contextlib
import io
import json
import logging
import os
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from traitlets.config import Config, PyFileConfigLoader

from .. import expect
from ..files import replacing
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
)

try:
    import dask
    import distributed
    from nbgrader.api import Gradebook, MissingEntry
    from nbgrader.converters import Autograde, GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from sqlalchemy.exc import DatabaseError

    from . import feedback
    from .judging import Judge as Judge  # nbgrader_config.py finds both here
    from .judging import Tidy as Tidy
    from .sandbox import walls
except ImportError as error:
    raise ImportError(
        "assignments and grading need nbgrader and Dask. Install the course with its extra for "
        "teachers: python -m pip install --constraint constraints.txt '.[teach]'"
    ) from error

STUDENT = "student"  # each one's name while being graded: a real one may hold anything
EXCHANGED = ("timestamp.txt", "submission_secret.txt")  # nbgrader's exchange asks for them
# A worker that imports PyTorch on a busy machine is slow, not lost.
PATIENT = {"distributed.comm.timeouts.connect": "300s", "distributed.comm.timeouts.tcp": "300s"}
# What of a gradebook is somebody's: a worker gets the rest.
SOMEBODYS = ("comment", "grade", "submitted_notebook", "submitted_assignment", "student")


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
        said = str(error.orig)
        if any(words in said for words in ("full", "locked", "readonly", "I/O", "unable to open")):
            raise OSError(
                f"{path} cannot be written ({said}). It is as it was: make room, or close what "
                "else uses it, and run the same command again."
            ) from error
        raise ValueError(
            f"{path} cannot be read as a gradebook: put it back from a copy. ({said})"
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
    folder: str | Path,
    workers: int | None = None,
    force: bool = False,
    scheduler: str | None = None,
    trust: bool = False,
) -> tuple[int, Iterator[Graded]]:
    """Grade what was handed in: submitted/STUDENT/ASSIGNMENT/ of a course folder, and Moodle's
    downloads in submitted/. Returns how many submissions wait, and an iterator that grades them.

    workers: how many at once, on this machine. scheduler: the address of a Dask scheduler, whose
    workers are used in place of these; the course must be installed there too. trust: run
    submissions without a sandbox, with all that you may do. The marks are put into the gradebook
    one submission at a time. Marks given by hand stay. Without force only those are graded whose
    content is new. Raises NoSandbox where there can be none, unless you trust.
    """
    folder = Path(folder)
    config = configuration(folder)
    workers = expect.whole("workers", os.cpu_count() or 1 if workers is None else workers, 1)
    trust = trust or config.Judge.get("trust", False)
    if scheduler is None and not trust:
        walls()
    with open_gradebook(config) as book:
        assignments = {assignment.name for assignment in book.assignments}
    given = {name: each for name, each in releases(folder).items() if name in assignments}
    there, astray = find(folder, given)
    found, unreadable = [], []
    for each in there:
        try:
            found += [each] if force or is_new(folder, each) else []
        except OSError as error:
            unreadable.append(_failed(each, error))

    def run():
        yield from unreadable
        for path in astray:
            problem = (
                "nothing is graded there. No mark was changed; it should be "
                "submitted/STUDENT/LESSON/, with the name of a lesson that was assigned, or what "
                "Moodle lets you download"
            )
            yield Graded(path.parent.name, path.name, 0.0, 0.0, problem)
        if not found:
            return
        pairs = zip(found, _tasks(folder, config, found, trust), strict=True)
        with _workers(min(workers, len(found)), scheduler) as client:
            running, held = distributed.as_completed(), {}

            def hand_out():
                """Two for each worker: a class as a whole may be more than fits into memory."""
                while len(held) < 2 * max(1, sum(client.nthreads().values())):
                    submission, task = next(pairs, (None, None))
                    if task is None:
                        return
                    future = client.submit(grade_one, task, pure=False, retries=1)
                    held[future] = submission
                    running.add(future)

            hand_out()
            for future in running:
                submission = held.pop(future)
                try:
                    done = future.result()
                    future.release()
                    graded = _merge(folder, config, submission, done)
                except Exception as error:  # a full disk, a worker that dies of it again and again
                    graded = _failed(submission, error)
                hand_out()
                yield graded

    return len(found), run()


def _failed(submission: Submission, error: Exception) -> Graded:
    words = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    problem = f"it could not be graded: {words}. No mark was changed"
    return Graded(submission.student, submission.assignment, 0.0, 0.0, problem)


@contextlib.contextmanager
def _workers(count: int, scheduler: str | None) -> Iterator[distributed.Client]:
    """The workers at an address, or some of our own for as long as they are needed."""
    if scheduler is not None:
        with distributed.Client(scheduler) as client:
            yield client
        return
    with (
        dask.config.set(PATIENT),
        tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as scratch,
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=None,  # it is the submissions' that is limited
            dashboard_address=None,
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@dataclass(frozen=True)
class Task:
    """What a worker needs to grade a submission. gradebook: an SQLite file, without students.
    timestamp: when it was handed in, if nbgrader's exchange put that down."""

    assignment: str
    contents: dict[str, bytes] = field(repr=False)
    release: str = field(repr=False)
    configuration: bytes = field(repr=False)
    gradebook: bytes = field(repr=False)
    trust: bool


@dataclass(frozen=True)
class Done:
    """What a worker gives back. scores: of each graded cell, None where a person has to look.
    files: the graded notebook, and what nbgrader's exchange asks for."""

    problem: str | None
    note: str | None
    remarks: tuple[str, ...]
    fingerprint: str
    scores: dict[str, float | None]
    comments: dict[str, str | None]
    penalty: float | None
    timestamp: object
    files: dict[str, bytes] = field(repr=False)


def _tasks(folder: Path, config, found: list[Submission], trust: bool) -> Iterator[Task]:
    gradebook, settings = _without_students(config), (folder / "nbgrader_config.py").read_bytes()
    for each in found:
        release = folder / "release" / each.assignment / f"{each.assignment}.ipynb"
        text = release.read_text(encoding="utf-8")
        yield Task(each.assignment, each.contents(), text, settings, gradebook, trust)


def _without_students(config) -> bytes:
    """The gradebook with its assignments, and nothing of anybody."""
    path = CourseDirectory(config=config).db_url.removeprefix("sqlite:///")
    with (
        contextlib.closing(sqlite3.connect(path)) as theirs,
        contextlib.closing(sqlite3.connect(":memory:")) as copy,
    ):
        theirs.backup(copy)
        for table in SOMEBODYS:
            copy.execute(f"DELETE FROM {table}")
        copy.commit()
        copy.execute("VACUUM")
        return copy.serialize()


def grade_one(task: Task) -> Done:
    """On a worker: grade a submission, or an empty notebook where it cannot be read."""
    name = task.assignment
    try:
        scratch = distributed.get_worker().local_directory  # Dask tidies up what the dead left
    except ValueError:  # not on a worker
        scratch = None
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as made:
        work = Path(made)
        (work / "nbgrader_config.py").write_bytes(task.configuration)
        (work / "gradebook.db").write_bytes(task.gradebook)
        given = nbformat.reads(task.release, as_version=4)
        copy = work / "submitted" / STUDENT / name
        copy.mkdir(parents=True)
        problem = note = None
        try:
            notebook, note = choose(task.contents, name, given)
            put(task.contents, copy, f"{name}.ipynb")
        except Unreadable as error:
            notebook, problem = given, str(error)
            notebook.metadata["problem"] = problem
        nbformat.write(notebook, copy / f"{name}.ipynb")
        config = configuration(work, work)
        config.Judge.trust = task.trust
        _autograde(config, name)
        files = {
            path.name: path.read_bytes()
            for path in (work / "autograded" / STUDENT / name).iterdir()
            if path.name in (f"{name}.ipynb", *EXCHANGED)
        }
        remarks = json.loads(files[f"{name}.ipynb"])["metadata"].get("remarks", [])
        with warnings.catch_warnings(), open_gradebook(config) as book:
            warnings.simplefilter("ignore")  # nbgrader's way with SQLAlchemy is not ours to mend
            graded = book.find_submission(name, STUDENT)
            (ours,) = graded.notebooks
            return Done(
                problem,
                note,
                tuple(remarks),
                fingerprint(task.contents),
                {grade.name: grade.auto_score for grade in ours.grades},
                {comment.name: comment.auto_comment for comment in ours.comments},
                ours.late_submission_penalty,
                graded.timestamp,
                files,
            )


def _autograde(config: Config, name: str) -> None:
    """nbgrader's autograde of the one submission in a folder."""
    log = logging.Logger("grading")
    said = io.StringIO()
    log.addHandler(logging.StreamHandler(said))
    with _path_to_tools():
        course = CourseDirectory(
            config=config, student_id=STUDENT, assignment_id=name, notebook_id=name, log=log
        )
        app = Autograde(coursedir=course, config=config, log=log)
        app.force = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nbgrader's way with SQLAlchemy
                app.start()
        except NbGraderException as error:
            raise RuntimeError(f"{error} {said.getvalue()[-1000:]}") from None


def _merge(folder: Path, config: Config, submission: Submission, done: Done) -> Graded:
    """Put the marks of a submission into the gradebook and its files into the course folder."""
    student, assignment = submission.student, submission.assignment
    where, refused = (assignment, assignment, student), []
    for step in ("autograded", "feedback"):
        target = folder / step / student / assignment
        target.mkdir(parents=True, exist_ok=True)
        for name, data in done.files.items():
            if step == "autograded" or name in EXCHANGED:
                with replacing(target / name) as partial:
                    partial.write_bytes(data)
    with warnings.catch_warnings(), open_gradebook(config) as book:
        warnings.simplefilter("ignore")  # nbgrader's way with SQLAlchemy is not ours to mend
        book.update_or_create_student(student)
        named = {} if done.timestamp is None else {"timestamp": done.timestamp}
        ours = book.update_or_create_submission(assignment, student, **named)
        book.find_submission_notebook(*where).late_submission_penalty = done.penalty
        for name, score in done.scores.items():
            kept = book.find_grade(name, *where)
            if score is not None and not 0 <= score <= kept.max_score:
                refused.append(f"above the maximum, and refused: {name} with {score:g} points")
                score = None
            kept.auto_score = score
            # As nbgrader has it: a mark given by hand stays, and asks to be looked at.
            kept.needs_manual_grade = kept.manual_score is not None or score is None
        for name, comment in done.comments.items():
            with contextlib.suppress(MissingEntry):
                book.find_comment(name, *where).auto_comment = comment
        book.db.flush()
        score, most, waiting = ours.score, ours.max_score, feedback.unfinished(ours)
        feedback.write(folder, ours)
        book.db.commit()  # last: a full disk before this changes no mark
    facts = {"fingerprint": done.fingerprint, "problem": done.problem, "note": done.note}
    facts["remarks"], problem = done.remarks, done.problem
    try:
        remember(folder, submission, **facts)
    except OSError as error:
        problem = f"its marks are in the gradebook, but it will be graded again: {error}"
    waiting = (*waiting, *refused, *done.remarks)
    return Graded(student, assignment, score, most, problem, waiting, done.note)
