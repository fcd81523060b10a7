"""Runs inside the sandbox: a submission's cells, then one answer in the cases that it is given.

Nothing here decides anything. The process that a submission runs in may do whatever it likes to
itself; what leaves it is data, and is judged by `grading`, outside. So this file is a program of
its own, which knows nothing of the package until a job brings that along, without the piece that
the job is about, without the references, and without what is said of mistakes.

A job comes in as a pickle, from the grader; what goes out is JSON, never a pickle. It is cut into
chunks by the process that waits for jobs, so that a submission can neither end a job nor answer for
another.
"""

import ast
import contextlib
import ctypes
import errno
import importlib
import io
import json
import os
import pickle
import select
import shutil
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from unittest import mock

CHUNK, END = b"c", b"e"
WRITABLE = ("/sandbox", "/tmp", "/dev/shm")
OUTPUT = 100_000  # characters of a cell's output that are kept
FILE = 100_000_000  # bytes of a file
CLOCK = 3  # seconds on the clock for each of the processor's: a busy machine fails nobody
ASKED = 100  # seconds in which an answer goes through all cases; each call has its own limit
DUMPABLE, SECCOMP = 4, 22  # PR_SET_DUMPABLE, PR_SET_SECCOMP of prctl(2)
# System calls that make what outlives its process, or memory that is no process's: of System V's
# and POSIX's messages and shared memory, of the kernel's keys (the teacher's are among them), and
# memfd_create, memfd_secret. By machine: what its kernel calls it, and their numbers there.
CALLS = {
    "x86_64": (0xC000003E, (29, 64, 68, 240, 248, 249, 250, 319, 447)),
    "aarch64": (0xC00000B7, (194, 190, 186, 180, 217, 218, 219, 279, 447)),
}


def main(walled: bool, gigabytes: float, modules: list[str]) -> None:
    """Take jobs from standard input, one after the other, each in a process of its own."""
    answers, nowhere = os.fdopen(os.dup(1), "wb"), os.open(os.devnull, os.O_RDWR)
    if walled and os.getpid() != 2:  # bubblewrap is the first
        raise SystemExit("This ends all processes that it can see: it runs in a sandbox only.")
    if walled:
        _forbid()
    os.dup2(nowhere, 1)
    for name in ("IPython.core.interactiveshell", *modules):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    while head := os.read(0, 8):
        size = struct.unpack(">Q", head)[0]
        if not walled:  # a process for each job: without walls nothing tidies up after it
            _work(size, nowhere, lambda data: _chunk(answers, CHUNK, data), gigabytes)
            return
        if not _in_a_child(size, answers, nowhere, gigabytes):
            return  # what cannot be tidied up ends with the sandbox


def _forbid() -> None:
    """From here on these system calls are not there, for this process and all that it starts."""
    kind, numbers = CALLS.get(os.uname().machine, (0, ()))
    if not numbers:
        return
    load, equal, at_least, say = 0x20, 0x15, 0x35, 0x06  # of BPF, see seccomp(2)
    end = len(numbers) + 5  # where it is refused: of another kind of machine all, and a second
    program = [(load, 0, 0, 4), (equal, 0, end - 2, kind), (load, 0, 0, 0)]  # set of numbers too
    program += [(at_least, end - 4, 0, 1 << 30)]
    program += [(equal, end - 5 - place, 0, number) for place, number in enumerate(numbers)]
    program += [(say, 0, 0, 0x7FFF0000), (say, 0, 0, 0x00050000 | errno.ENOSYS)]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    whole = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(lines)))
    ctypes.CDLL(None).prctl(SECCOMP, 2, whole, 0, 0)


def _chunk(file, kind: bytes, data: bytes = b"") -> None:
    file.write(kind + struct.pack(">I", len(data)) + data)
    file.flush()


def _files() -> set[str]:
    """All that lies where a submission may write."""
    return {
        os.path.join(folder, name)
        for place in WRITABLE
        for folder, folders, names in os.walk(place)
        for name in [*folders, *names]
    }


def _in_a_child(size: int, answers, nowhere: int, gigabytes: float) -> bool:
    """Returns whether nothing is left of it."""
    before = _files()
    # Nobody looks into this process, or takes hold of its pipes. The job is read by the child
    # alone: what one job brings along, another would search its memory for.
    ctypes.CDLL(None).prctl(DUMPABLE, 0)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            os.close(answers.fileno())
            _work(size, nowhere, lambda data: _write(into, data), gigabytes)
        finally:
            os._exit(0)
    os.close(into)
    os.set_blocking(out, False)
    gone = False
    while True:
        gone = gone or os.waitpid(child, os.WNOHANG)[0] == child
        try:
            data = os.read(out, 1 << 20)
        except BlockingIOError:
            if gone:  # whoever else holds the pipe has nothing more to say
                break
            select.select([out], [], [], 0.05)
            continue
        if not data:
            break
        _chunk(answers, CHUNK, data)
    os.close(out)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all that there is in the sandbox but this process
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    for place in WRITABLE:
        for path in Path(place).iterdir():
            with contextlib.suppress(OSError, RecursionError):
                folder = path.is_dir() and not path.is_symlink()
                shutil.rmtree(path, ignore_errors=True) if folder else path.unlink()
    _chunk(answers, END)
    return _files() == before


def _write(into: int, data: bytes) -> None:
    while data:
        data = data[os.write(into, data) :]


def _work(size: int, nowhere: int, write, gigabytes: float) -> None:
    """One job, of so many bytes: the package, the cells, the answer."""
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    for number in (0, 2):
        os.dup2(nowhere, number)
    job = pickle.loads(data)

    def say(message: dict) -> None:
        text = json.dumps(message).encode()
        write(struct.pack(">I", len(text)) + text)

    try:
        _answer(job, say, gigabytes)
    except BaseException as error:  # the submission's doing, as far as anybody can tell
        say({"broke": repr(error)[:OUTPUT]})


def _answer(job: dict, say, gigabytes: float) -> None:
    home = Path(job["home"])
    _limit(gigabytes, job["seconds"], job["processes"])
    for name, text in job["package"].items():
        path = home / "course" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, content in job["files"].items():
        path = home / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (home / "work").mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        os.symlink(job["data"], home / "course" / "data", target_is_directory=True)
    sys.path[:] = [str(home / "course"), *job["path"]]
    importlib.import_module("cfd_course.checks")
    # Only now: what has been imported cannot be replaced by a file beside the notebook.
    os.chdir(home / "work")
    sys.path.append("")
    os.environ["HOME"] = os.environ["IPYTHONDIR"] = str(home / "work")
    if job["lesson"]:
        lesson = importlib.import_module(f"cfd_course.checks.{job['lesson']}")
        lesson.course.update(pickle.loads(job["course"]))
    # Who grades in the background has it ignored, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shell = _shell()
    say({"ready": True})
    spare = job["spare"]  # seconds for all cells of the learner's own
    for number, source, seconds, own in job["cells"]:
        seconds = min(seconds, max(spare, 1.0)) if own else seconds
        begun = time.monotonic()
        say({"begin": number, "seconds": seconds})
        say({"cell": number, "outputs": _run(shell, source, seconds)})
        spare -= (time.monotonic() - begun) * own
    if job["exercise"] is not None:
        say({"begin": None, "seconds": ASKED})
        say({"outcomes": _outcomes(job, shell.user_ns.get(job["name"]))})


def _limit(gigabytes: float, seconds: float, processes: int | None) -> None:
    """Limits of this process and those that it starts, which it cannot lift again."""
    try:
        import resource
    except ImportError:  # Windows
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DUMPABLE, 1)
    for kind, limit in {
        "RLIMIT_DATA": int(gigabytes * 1e9),
        "RLIMIT_CPU": int(seconds) + 1,
        "RLIMIT_FSIZE": FILE,
        "RLIMIT_CORE": 0,
        **({"RLIMIT_NPROC": processes} if processes else {}),
    }.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, kind), (limit, limit))


def _shell():
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        """What only a learner's Jupyter has, its screen and its magics, is passed over."""

        def enable_gui(self, gui=None):
            pass

        ask_exit = enable_gui

        def run_line_magic(self, name, line, _stack_depth=1):
            try:
                return super().run_line_magic(name, line, _stack_depth + 1)
            except Exception as error:
                print(f"%{name} was passed over: {error}")

        def run_cell_magic(self, name, line, cell):
            if self.find_cell_magic(name) is not None:
                return super().run_cell_magic(name, line, cell)
            print(f"%%{name} was passed over: there is no such magic here.")
            self.ex(self.transform_cell(cell))

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = Shell.instance(config=config)
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None  # told as an output
    return shell


class _Kept(io.StringIO):
    """Keeps the first so many characters."""

    def write(self, text):
        left = OUTPUT - self.tell()
        super().write(text[: max(left, 0)])
        return len(text)


def _run(shell, source: str, seconds: float) -> list[dict]:
    """A cell's outputs: text, the last value if it is a number, an error."""
    said, over, done = _Kept(), threading.Event(), threading.Event()

    begun, worked = time.monotonic(), time.process_time()

    def interrupt():
        wait = 0.2
        while not done.wait(wait):
            busy, passed = time.process_time() - worked, time.monotonic() - begun
            if busy < seconds and passed < CLOCK * seconds:
                continue
            over.set()
            wait = 1
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            else:
                import _thread

                _thread.interrupt_main()

    watch = threading.Thread(target=interrupt, daemon=True)
    outputs, result, error = [], None, None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            watch.start()
            while source is not None:
                result = shell.run_cell(source, store_history=True)
                error = result.error_before_exec or result.error_in_exec
                source = _after_import(shell, source, error)
    except BaseException as raised:
        error = raised
    finally:
        done.set()
    if said.getvalue():
        outputs.append({"text": said.getvalue()})
    if over.is_set():
        words = f"this cell ran for more than {seconds:g} seconds, and was stopped"
        outputs.append({"error": "CellTimeoutError", "words": words, "lines": []})
    elif error is not None:
        lines = traceback.format_exception(error, limit=-5)
        outputs.append(
            {"error": type(error).__name__, "words": str(error)[:OUTPUT], "lines": lines[:50]}
        )
    elif result is not None and type(result.result) in (int, float, bool):
        outputs.append({"value": result.result})
    return outputs


def _after_import(shell, source: str, error) -> str | None:
    """What follows an import, at the left margin, of what only the learner's machine has: an answer
    may do without. What it should have brought is stood in for. None if that isn't what failed."""
    trace = error.__traceback__ if isinstance(error, ImportError) else None
    while trace is not None and trace.tb_frame.f_globals is not shell.user_ns:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_name != "<module>":
        return None
    text = shell.transform_cell(source)
    for line in ast.parse(text).body:
        if line.lineno <= trace.tb_lineno <= line.end_lineno and hasattr(line, "names"):
            print(f"{type(error).__name__}: {error}. The rest of the cell ran without.")
            for each in line.names:
                stands_in = mock.MagicMock(name=each.name)
                shell.user_ns[each.asname or each.name.partition(".")[0]] = stands_in
            return "\n".join(text.split("\n")[line.end_lineno :])
    return None


def _outcomes(job: dict, answer) -> str:
    import torch

    from cfd_course.checks import seal

    # The same for all, whatever the cells before have set.
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("cpu")
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)
    if answer is None:
        outcomes = [{"error": f"There is no {job['name']} in the notebook."}]
    else:
        exercise = pickle.loads(job["exercise"])
        kept = _taken_away(exercise.forbids)
        outcomes = exercise.outcomes(answer)
        del kept
    return seal(outcomes)


def _taken_away(forbidden):
    """PyTorch's functions that do what an answer should, and the operators that they are made of,
    only say so, whoever calls them: another thread, or where nobody watches the calls. As long as
    what this returns is kept."""
    import torch

    def refuse(*_, **__):
        raise RuntimeError("this exercise asks you to write it yourself")

    operators = torch.library.Library("aten", "IMPL")
    for each in forbidden:
        if hasattr(each, "__code__"):
            each.__code__ = refuse.__code__
            continue
        for name in torch._C._dispatch_get_all_op_names():
            if name.startswith("aten::") and each.__name__ in name:
                for key in ("CompositeImplicitAutograd", "CPU", "AutogradCPU"):
                    operators.impl(name.removeprefix("aten::"), refuse, key)
    return operators


if __name__ == "__main__":
    main(sys.argv[1] == "walled", float(sys.argv[2]), sys.argv[3:])
