"""Where an answer runs: quietly, for a limited time, with limited memory, and without the package's
own version of what it should do."""

import contextlib
import functools
import inspect
import os
import signal
import sys
import threading
import traceback
import types
import warnings
from pathlib import Path

from .. import expect

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS = 2  # for one call of an answer
GIGABYTES = 1  # that one call may take beyond what the process has


class TooSlow(BaseException):
    """An answer ran past its time. No Exception, so that `except Exception` does not stop it."""


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


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raise TooSlow after so much time of the processor, so that a busy machine fails nobody, or
    after ten times as long on the clock, for an answer that sleeps. Again and again, until an
    answer that catches it is left. Only where the system has such alarms (not on Windows) and in
    the main thread, which is where notebook cells run."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return
    over = False

    def stop(*_):
        if not over:
            raise TooSlow

    alarms = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds),
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
def closed_book(reference):
    """The package's own version of the piece raises NotYet when the answer calls it, under
    whatever name. It is the function's code that is replaced: that reaches every copy of the name.
    """
    closed = {piece: piece.__code__ for piece in pieces(reference)}
    for piece, code in closed.items():
        aside = types.FunctionType(
            code, piece.__globals__, piece.__name__, piece.__defaults__, piece.__closure__
        )
        aside.__kwdefaults__ = piece.__kwdefaults__
        call = functools.partial(_refuse, aside)
        piece.__code__ = _stand_in.__code__.replace(
            co_consts=tuple(call if const == "the call" else const for const in _CONSTANTS),
            co_freevars=code.co_freevars,
        )
    try:
        yield
    finally:
        for piece, code in closed.items():
            piece.__code__ = code


def _stand_in(*arguments, **named):
    call = "the call"
    return call(*arguments, **named)


_CONSTANTS = _stand_in.__code__.co_consts


def _refuse(piece, *arguments, **named):
    """Run the piece for the package's own code; for anybody else raise NotYet."""
    frame = sys._getframe(2)  # past the stand-in, to its caller
    # PyTorch calls a module's forward, and `@checked` what it wraps, for somebody else.
    while _module(frame).startswith("torch.") or _module(frame) == expect.__name__:
        frame = frame.f_back
    # The exercise has called an answer that is the piece itself.
    if _module(frame).startswith(_PACKAGE) and _module(frame) != _CALLER:
        return piece(*arguments, **named)
    raise NotYet("It calls the course's own version, and this exercise asks you to write it.")


_PACKAGE = __name__.partition(".")[0] + "."
_CALLER = f"{__package__}.exercise"


def _module(frame) -> str:
    return str(frame.f_globals.get("__name__"))


def pieces(reference) -> list[types.FunctionType]:
    """The package's own functions that do what the exercise asks for: the reference and, where that
    is written in the checks, what bears its name elsewhere in the package. A class stands for its
    `forward`; ddim_step is a step of ddim."""
    function = inspect.unwrap(reference)
    if not isinstance(function, types.FunctionType):
        return []
    if not function.__module__.startswith(__package__):
        return [function]
    wanted, found = _bare(function.__name__), [function]
    for name, module in list(sys.modules.items()):
        if not name.startswith(_PACKAGE) or name.startswith(__package__):
            continue
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == name]
        for value in own:
            members = vars(value) if isinstance(value, type) else {}
            if "forward" in members and _bare(value.__name__) == wanted:
                found.append(members["forward"])
            for each in (value, *members.values()):
                each = inspect.unwrap(getattr(each, "__func__", each))
                if isinstance(each, types.FunctionType) and _bare(each.__name__) == wanted:
                    found.append(each)
    return found


def _bare(name: str) -> str:
    return name.lower().replace("_", "").removesuffix("step")


def begin(gigabytes: float, seconds: int) -> None:
    """Before a submission is graded in this process: the limits, which it cannot lift again."""
    if resource is not None:
        memory = int(gigabytes * 1e9)
        for kind, limit in {
            resource.RLIMIT_DATA: memory,
            resource.RLIMIT_CPU: seconds,
            resource.RLIMIT_FSIZE: 100_000_000,
            resource.RLIMIT_CORE: 0,
        }.items():
            resource.setrlimit(kind, (limit, limit))
    # Only now: what has been imported cannot be replaced by a file beside the notebook.
    sys.path.append("")
