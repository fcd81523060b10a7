"""Windows, as far as another system can play it.

`play(MonkeyPatch())` takes away what only POSIX has, and refuses what Windows refuses. In a process
of its own, before the package is imported:

    python -c "from tests.windows import play; play(); import cfd_course"
"""

import builtins
import errno
import io
import os
import signal
import sys

import matplotlib.pyplot  # noqa: F401  libraries look for their system as they are imported
import pytest
import torchvision  # noqa: F401

OPEN = io.open
MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
FUNCTIONS = (
    "chown chroot fchown fork forkpty getegid geteuid getgid getgroups getpgid getpgrp getpriority "
    "getsid getuid initgroups killpg lchown major minor mkfifo mknod nice openpty pathconf "
    "posix_spawn pread preadv pwrite sched_getaffinity sched_setaffinity setegid seteuid setgid "
    "setgroups setpgid setpriority setsid setuid wait wait3 wait4"
).split()
SIGNALS = (
    "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGUSR1 "
    "SIGUSR2 SIGVTALRM SIGXCPU SIGXFSZ ITIMER_PROF ITIMER_REAL ITIMER_VIRTUAL alarm getitimer "
    "pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait"
).split()


def play(patch: pytest.MonkeyPatch | None = None) -> None:
    """Until patch.undo(), or for good where none is given."""
    patch = patch or pytest.MonkeyPatch()
    access = _access()
    for module in MODULES:
        patch.setitem(sys.modules, module, None)
    for name in FUNCTIONS:
        patch.delattr(os, name, raising=False)
    for name in SIGNALS:
        patch.delattr(signal, name, raising=False)

    really_sync = os.fsync

    def fsync(file):
        number = file if isinstance(file, int) else file.fileno()
        if access(number) == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor: it is open for reading only")
        really_sync(file)

    def open_(
        file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *rest, **named
    ):
        if str(file).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(file))
        if "b" not in mode and encoding in (None, "locale"):
            encoding = "cp1252"
        if "b" not in mode and newline is None and set(mode) & set("wax+"):
            newline = "\r\n"
        return OPEN(file, mode, buffering, encoding, errors, newline, **named)

    patch.setattr(os, "fsync", fsync)
    patch.setattr(io, "open", open_)
    patch.setattr(builtins, "open", open_)
    for name in ("replace", "rename", "unlink", "remove"):
        patch.setattr(os, name, _refused_while_open(getattr(os, name)))


def _access():
    """How a file descriptor was opened: os.O_RDONLY, os.O_WRONLY or os.O_RDWR."""
    fcntl = pytest.importorskip("fcntl", reason="this is Windows, and need not be played")
    return lambda number: fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE


def _refused_while_open(function):
    def refusing(*paths, **named):
        for path in paths:
            # A folder or a file that is open or mapped into memory is in use.
            if os.path.realpath(path) in _in_use():
                raise PermissionError(errno.EACCES, "The file is used by another process", path)
        return function(*paths, **named)

    return refusing


def _in_use() -> set[str]:
    links = {os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")}
    open_files = {os.path.realpath(link) for link in links}
    with OPEN("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return open_files | {line.strip().split(maxsplit=5)[5] for line in maps if "/" in line}
