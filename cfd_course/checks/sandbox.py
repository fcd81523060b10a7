"""Where an answer runs: quietly, for a limited time, with limited memory, and without the package's
own version of what it should do."""

import contextlib
import inspect
import os
import random
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS = 2  # for one call of an answer
GIGABYTES = 1  # that one call may take beyond what the process has


class TooSlow(BaseException):
    """An answer ran past its time: TooSlow(slept), whether on the clock only. No Exception, so that
    `except Exception` does not stop it."""


class NotYet(Exception):
    """What is wrong with an answer, in words, where it shows while the answer runs: it calls the
    package's own version, say, or returns what cannot be observed."""


def where(error: BaseException) -> str:
    """The error and the line of the answer that it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__, limit=50)
        if os.sep + "cfd_course" + os.sep not in frame.filename
    ]
    line = next((frame for frame in frames if frame.line), None)
    text = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        text = f"{type(error).__name__}: it takes more than {GIGABYTES} GB of memory"
    return f"{text} (at `{line.line.strip()}`)" if line is not None else text


@contextlib.contextmanager
def environment(seed: int = 0):
    """The same for every answer, whatever the cells above it did: CPU, float32, gradients recorded,
    one thread, the same random numbers. Afterwards all is as it was."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    device, python, numpy = torch.get_default_device(), random.getstate(), np.random.get_state()
    try:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        if device.type != "cpu":
            torch.set_default_device("cpu")
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        if device.type != "cpu":
            torch.set_default_device(device)
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def quiet():
    """What an answer prints or warns of is not part of the verdict."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def waited() -> float:
    """Seconds in which this process could run and no processor was free; where the system counts
    them (Linux)."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _importing(frame) -> bool:
    """Whether an import is at work."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raise TooSlow after so much time of the processor, so that a busy machine fails nobody, or
    after thirty times as long on the clock, for an answer that sleeps; there, time in which it
    waits for the processor does not count. Again and again, until an answer that catches it is
    left. Only where the system has such alarms (not on Windows) and in the main thread, which is
    where notebook cells run."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return
    over = False
    clock = 30 * seconds
    began, busy = time.monotonic() - waited(), time.process_time()

    def stop(number, frame):
        slept = number == signal.SIGALRM
        if over or (slept and time.monotonic() - waited() - began < clock):
            return
        if time.process_time() - busy < 10 * seconds and _importing(frame):
            return  # what is half imported could never be imported again
        raise TooSlow(slept)

    alarms = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, clock),
    }
    before = {number: signal.signal(number, stop) for number, _ in alarms.values()}
    try:
        try:
            for timer, (_, limit) in alarms.items():
                signal.setitimer(timer, limit, 0.05)
            yield
        finally:
            over = True
    finally:
        for timer in alarms:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def memory_limit(gigabytes: float):
    """Let this process grow by so much only; where the system can (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[5])
    except OSError:
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    now = pages * resource.getpagesize() + int(gigabytes * 1e9)
    given = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([now, *given]), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


@contextlib.contextmanager
def closed_book(reference, forbidden: tuple[Callable, ...] = ()):
    """Whoever calls the package's own version of the piece, or what the task forbids, has not
    written it: NotYet, at the call and again at the end, should an answer catch it. The package's
    own functions may.

    Every call is looked at, by the code that runs: so it matters neither under which name a piece
    is called, nor how it is wrapped, nor whether a file of the package was loaded once more.
    """
    versions = _versions(reference)
    codes = {inspect.unwrap(each).__code__ for each in versions}
    wrappers = {code for each in versions for code in _wrappers(each)}
    names = {code.co_name for code in codes}
    banned = {each.__code__: each for each in forbidden if hasattr(each, "__code__")}
    refused = []

    def refuse(words: str):
        refused.append(words)
        raise NotYet(words)

    def look(frame, event, argument):
        code = frame.f_code
        if event == "call":
            if code.co_name in names and code in codes:
                if not _in_the_package(frame.f_back, wrappers):
                    refuse(
                        "It calls the course's own version, and this exercise asks you to write it."
                    )
            elif code in banned and not _in_the_package(frame.f_back, wrappers):
                refuse(_forbids(banned[code]))
        elif (
            event == "c_call"
            and any(argument is each for each in forbidden)
            and not _in_the_package(frame, wrappers)
        ):
            refuse(_forbids(argument))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
        if refused:
            raise NotYet(refused[0])


def _forbids(function) -> str:
    return f"It calls {function.__name__}, and this exercise asks you to write that yourself."


def _in_the_package(frame, wrappers) -> bool:
    """Whether this is the package at work; not where the checks call an answer, which may be the
    piece itself. What lies between, a wrapper around the piece or PyTorch, asks for its caller."""
    while frame is not None and (frame.f_code in wrappers or _file(frame).startswith(_TORCH)):
        frame = frame.f_back
    return frame is not None and _file(frame).startswith(_PACKAGE) and _file(frame) != _CALLER


def _file(frame) -> str:
    return os.path.abspath(frame.f_code.co_filename)


_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_CALLER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "observing.py")
_PACKAGE = os.path.dirname(os.path.dirname(_CALLER)) + os.sep


def _wrappers(function) -> list[types.CodeType]:
    """The code of what a decorator put around a function, if it says so (functools.wraps)."""
    found = []
    while hasattr(function, "__wrapped__"):
        found.append(getattr(function, "__code__", None))
        function = function.__wrapped__
    return found


def pieces(reference) -> list[types.FunctionType]:
    """The package's own functions that do what the exercise asks for, without what decorators put
    around them."""
    return [inspect.unwrap(each) for each in _versions(reference)]


def _versions(reference) -> list[Callable]:
    """The package's own functions that do what the exercise asks for: the reference and, where that
    is written in the checks, what bears its name elsewhere in the package. A class stands for its
    `forward`; ddim_step is a step of ddim."""
    function = inspect.unwrap(reference)
    if not isinstance(function, types.FunctionType):
        return []
    if not function.__module__.startswith(__package__):
        return [reference]
    wanted, found = _bare(function.__name__), [reference]
    package = __package__.partition(".")[0] + "."
    for name, module in list(sys.modules.items()):
        if not name.startswith(package) or name.startswith(__package__):
            continue
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == name]
        for value in own:
            members = vars(value) if isinstance(value, type) else {}
            if "forward" in members and _bare(value.__name__) == wanted:
                found.append(members["forward"])
            for each in (value, *members.values()):
                each = getattr(each, "__func__", each)
                inner = inspect.unwrap(each)
                if isinstance(inner, types.FunctionType) and _bare(inner.__name__) == wanted:
                    found.append(each)
    return found


def _bare(name: str) -> str:
    return name.lower().replace("_", "").removesuffix("step")
