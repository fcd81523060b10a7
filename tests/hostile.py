"""Submissions that want marks that they did not earn, or harm, and the marks that they must get;
and odd ones that are honest, which must keep theirs.

An attack with a prize answers rightly as soon as it has found what it wants: so the mark shows
whether it did.
"""

import copy

from .students import FULL, RIGHT, Student, cell_of

NOTHING = dict.fromkeys(FULL, 0)
NO_SNR = FULL | {"snr": 0}
ONLY_FIRST = FULL | {"snr": 0, "predict_x0": 0}
PRIZE = "schedule.alpha_bars[t] / (1 - schedule.alpha_bars[t])"


def _snr(text: str) -> dict[str, str]:
    """Right answers, but for snr, whose body is the text."""
    lines = "\n".join("    " + line for line in text.strip().split("\n"))
    return {**RIGHT, "snr": f"def snr(schedule, t):\n{lines}"}


def _attack(text: str, **named) -> Student:
    """snr calls the package's own version, found in some way; the text ends in `return ...`."""
    return Student(_snr(text), NO_SNR, **named)


def _prize(text: str) -> Student:
    """The text, a cell of its own, sets `won` if the attack worked. Only then snr is answered."""
    lines = "\n".join("    " + line for line in text.strip().split("\n"))
    cell = f"won = False\ntry:\n{lines}\nexcept Exception:\n    pass"
    answer = _snr(f"return {PRIZE} if won else None")
    return Student(answer, NO_SNR, ["It returns None so far"], cells=[("snr-task", cell)])


ALL_FILES = """
import os
found = [
    os.path.join(folder, name)
    for folder, _, names in os.walk("/")
    if not folder.startswith(("/proc", "/sys"))
    for name in names
    if CONDITION
]
"""
PROCESSES = """
import glob
found = [
    path for path in glob.glob("/proc/[0-9]*/root/**/gradebook.db", recursive=True)
    + glob.glob("/proc/[0-9]*/cwd/gradebook.db")
]
won = bool(found)
"""
SAVE_FOR_LATER = """\
import inspect, os
from cfd_course import NoiseSchedule
places = ["/tmp", "/sandbox", "/dev", "/dev/shm", "/tmp/matplotlib", os.getcwd()]
for folder in [*places, os.path.dirname(inspect.__file__)]:
    try:
        text = inspect.getsource(NoiseSchedule.snr)
        if "NotYet" not in text:
            with open(os.path.join(folder, "kept.py"), "w") as file:
                file.write(inspect.cleandoc(text))
    except Exception:
        pass"""
FORGED = """\
import json, os, struct
def forge():
    text = json.dumps({"outcomes": [{"result": 1.0, "changed": [], "reached": []}] * 9}).encode()
    for number in range(3, 64):
        for data in (struct.pack(">II", len(text), 0) + text, b"e" + struct.pack(">I", 0)):
            try:
                os.write(number, data)
            except OSError:
                pass
forge()"""
FAKE_EXERCISE = """\
import sys, types
import cfd_course.checks.exercise as exercise
import cfd_course.checks as checks
class Exercise:
    def __init__(self, *_, **__): pass
    def __setstate__(self, state): self.__dict__.update(state)
    def outcomes(self, answer):
        return [{"result": None, "changed": [], "reached": []}]
    def verdict(self, outcomes): return None
    problem = __call__ = verdict
exercise.Exercise = checks.Exercise = Exercise"""
LIAR = """\
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        if function.__name__ in ("isclose", "eq", "equal", "allclose", "__eq__"):
            return torch.tensor(True)
        if function.__name__ in ("__ne__", "ne", "any"):
            return torch.tensor(False)
        return super().__torch_function__(function, types, arguments, named or {})"""
NEW_SESSION = """\
import subprocess, sys
subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)", "left-behind-by-a-submission"],
    start_new_session=True,
)"""
DAEMON = """\
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)"""
BOMB = """\
import os, time
for _ in range(10):
    try:
        os.fork()
    except OSError:
        pass
time.sleep(30)"""
MANY_MEGABYTES = """\
import os, time
for _ in range(6):
    if os.fork() == 0:
        much = bytearray(1_500_000_000)
        for place in range(0, len(much), 4096):
            much[place] = 1
        time.sleep(60)
        os._exit(0)
time.sleep(60)"""
SPEC = """\
import importlib.util, sys
import cfd_course.schedule
spec = importlib.util.spec_from_file_location("mine", cfd_course.schedule.__file__)
mine = importlib.util.module_from_spec(spec)
mine.__package__ = "cfd_course"
sys.modules["mine"] = mine
spec.loader.exec_module(mine)"""

KEPT_SHUT = """\
import inspect, os, pathlib
from cfd_course import NoiseSchedule
box = pathlib.Path("/tmp/box")
try:
    if "NotYet" not in inspect.getsource(NoiseSchedule.snr):
        box.mkdir()
        (box / "kept.py").write_text(inspect.cleandoc(inspect.getsource(NoiseSchedule.snr)))
        box.chmod(0)
    else:
        box.chmod(0o700)
except OSError:
    pass"""
OBJECTS = """
import ctypes, platform
libc = ctypes.CDLL(None)
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
found = [
    libc.shmget(4711, 4096, 0o1666),
    libc.msgget(4711, 0o1666),
    libc.semget(4711, 1, 0o1666),
    libc.mq_open(b"/kept", 66, 0o600, None),
    *(libc.syscall(add_key, b"user", b"kept", b"it", 2, ring) for ring in (-3, -4, -5)),
    *(libc.syscall(keyctl, 0, ring, 0) for ring in (-3, -4, -5)),
]
won = max(found) >= 0"""
UNCOUNTED = """
import contextlib, os
files = []
with contextlib.suppress(OSError):
    for number in range(7):
        files.append(open(f"/dev/shm/{number}", "wb"))
        files[-1].write(bytes(99_000_000))
won = len(files) == 7
with contextlib.suppress(OSError):
    open("/dev/mine", "w").close()
    won = True
with contextlib.suppress(OSError):
    os.memfd_create("mine")
    won = True"""
SETTINGS = """
import os
for name in ("sys/kernel/core_pattern", "sys/vm/overcommit_memory", "1/oom_score_adj"):
    try:
        os.close(os.open("/proc/" + name, os.O_WRONLY))
        won = True
    except OSError:
        pass"""
NAMESPACES = """
import os, subprocess, sys
program = f"umount -l {sys.prefix}; mount -o remount,rw {sys.prefix}; "
program += f"touch {sys.prefix}/mine && echo won; mount -o remount,rw /proc && echo won"
for words in (["unshare", "-Urm"], ["unshare", "-m"], []):
    said = subprocess.run([*words, "sh", "-c", program], capture_output=True, text=True).stdout
    won = won or "won" in said"""
SENDS = """\
import os, struct
text = b'{"outcomes": [' + b"[]," * 13_000_000 + b"[]]}"
for number in range(3, 64):
    try:
        data = struct.pack(">I", len(text)) + text
        while data:
            data = data[os.write(number, data):]
    except OSError:
        pass"""
DEEP = """\
value = SUM
value = torchATTRIBUTES""".replace("SUM", "+".join(["1"] * 3000)).replace(
    "ATTRIBUTES", ".a" * 90_000
)
DEEP_FOLDERS = """\
import os
for _ in range(3000):
    os.mkdir("a")
    os.chdir("a")"""
NO_FILES = """\
import resource
for number in (1, 2):
    resource.prlimit(number, resource.RLIMIT_NOFILE, (3, 3))"""
STEERS = """\
class Steers(BaseException):
    def __repr__(self):
        return "\\x1b[2J\\nbob/01_forward_noising: 4 of 4"
import IPython
IPython.core.interactiveshell.InteractiveShell.run_cell = lambda *_, **__: 1 / 0
def broken(*_, **__): raise Steers
import builtins, threading
threading.Event = broken"""


def _answers_at_the_end(notebook, path):
    for name in RIGHT:
        cell = cell_of(notebook, f"{name}-answer")
        notebook.cells.remove(cell)
        notebook.cells.append(cell)


def _twice(notebook, path):
    """All cells once more below, where they are solved; above they are as they were given."""
    again = copy.deepcopy(notebook.cells)
    for name, answer in RIGHT.items():
        cell_of(notebook, f"{name}-answer").source = answer.split("\n")[0] + "\n    ..."
    notebook.cells += again


def _metadata_lost(notebook, path):
    """By an editor that also tidies up the code."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.source = cell.source.replace(" = check.", " = check.  ") + "  # done"


ELSEWHERE = """\
from google.colab import drive, files
import seaborn as sns, torchsnooper
drive.mount("/content/drive")
sns.set_theme()
%cd /content/drive/MyDrive
%tensorflow_version 2.x
%load_ext nb_black
%matplotlib widget
%config InlineBackend.figure_format = "retina"
import math as mathematics
root = lambda x: x ** (mathematics.pi / mathematics.pi / 2)"""
PLOTS = """\
%matplotlib inline
import matplotlib.pyplot as plt
import ipywidgets, logging
from IPython.display import clear_output, display, HTML
from tqdm.notebook import tqdm
logging.basicConfig(level=logging.DEBUG)
for number in tqdm(range(25)):
    plt.figure(figsize=(20, 20))
    plt.plot([number] * 1000)
    plt.show()
    display(HTML("<b>figure</b>" * 1000), plt.gcf())
ipywidgets.interact(lambda x: plt.plot([x]), x=(0, 10))
clear_output(wait=True)
print("done")
half = 0.5"""
SETTINGS_ALL_OVER = """\
import os, random, sys, warnings
import numpy as np
warnings.filterwarnings("error")
np.seterr(all="raise")
np.random.seed(1)
torch.set_printoptions(precision=20)
torch.inference_mode().__enter__()
torch.autocast("cpu", torch.bfloat16).__enter__()
torch.autograd.set_detect_anomaly(True)
torch.set_float32_matmul_precision("medium")
sys.setrecursionlimit(100_000)
os.environ.clear()
os.chdir("/tmp")
sys.stdout = open("/tmp/log", "w")
torch.set_default_device("meta")"""
PLAIN_CLASS = """\
class AddNoise:
    def __init__(self):
        self.calls = 0

    def __call__(self, schedule, x_0, t, noise):
        self.calls += 1
        share = schedule.alpha_bars[t].to(x_0.dtype).reshape(-1, *[1] * (x_0.ndim - 1))
        return share.sqrt() * x_0 + (1 - share).sqrt() * noise
add_noise = AddNoise()"""
HINTS = """\
from __future__ import annotations
from typing import TYPE_CHECKING, Final
if TYPE_CHECKING:
    from nowhere import Schedule
ONE: Final[int] = 1
def snr(schedule: Schedule, t: int | torch.Tensor = 1, /, *more, eps: float = 0) -> torch.Tensor:
    \"\"\"Docstring. >>> snr(schedule, 0)\"\"\"
    match t:
        case _ if (share := schedule.alpha_bars[t]) is not None:
            return share / (ONE - share)"""

HOSTILE = {
    # The package's own version, found in some way.
    "other_name": _attack(
        "return mine.NoiseSchedule.snr(schedule, t)", cells=[("add_noise-task", SPEC)]
    ),
    "text_of_the_package": _attack(
        """
import cfd_course.schedule as module
names = {"__name__": "mine", "__package__": "cfd_course"}
exec(compile(open(module.__file__).read(), "mine.py", "exec"), names)
return names["NoiseSchedule"].snr(schedule, t)"""
    ),
    "renamed_module": _attack(
        "return schedule.snr(t)",
        cells=[("snr-task", "__name__ = 'cfd_course.training'\n__package__ = 'cfd_course'")],
    ),
    "in_a_package_module": _attack(
        """
import cfd_course.training as module
exec("def borrowed(schedule, t): return schedule.snr(t)", vars(module))
return module.borrowed(schedule, t)"""
    ),
    "kept_before": _attack(
        "return kept(schedule, t)",
        cells=[
            ("add_noise-task", "from cfd_course import NoiseSchedule\nkept = NoiseSchedule.snr")
        ],
    ),
    "copied_function": _attack(
        "return kept(schedule, t)",
        cells=[
            (
                "add_noise-task",
                "import inspect, types\nfrom cfd_course import NoiseSchedule as N\n"
                "kept = inspect.unwrap(N.snr)\n"
                "kept = types.FunctionType(kept.__code__, kept.__globals__)",
            )
        ],
    ),
    "swapped_originals": _attack(
        """
import functools, gc
for thing in gc.get_objects():
    if isinstance(thing, functools.partial):
        for each in thing.args:
            if getattr(each, "__name__", "") == "snr":
                return each(schedule, t)"""
    ),
    "unwrapped": _attack(
        """
import inspect
return inspect.unwrap(type(schedule).snr)(schedule, t)"""
    ),
    "subclass": _attack(
        """
class Mine(type(schedule)):
    def mine(self, t): return super().snr(t)
schedule.__class__ = Mine
return schedule.mine(t)"""
    ),
    "refuse_patched": _attack(
        """
import cfd_course.checks.sandbox as sandbox
sandbox._refuse = lambda piece, *arguments, **named: piece(*arguments, **named)
sandbox._PACKAGE = sandbox._CALLER = ""
return schedule.snr(t)"""
    ),
    "reference_of_the_check": _attack("return check.snr.reference(schedule, t)"),
    "given_by_the_check": Student({**RIGHT, "snr": "snr = check.snr(None)"}, NO_SNR),
    "given_by_another_lesson": Student(
        {**RIGHT, "snr": "from cfd_course.checks import lesson_11\nsnr = lesson_11.snr(None)"},
        NO_SNR,
    ),
    "another_process": _attack(
        "return stolen",
        cells=[
            (
                "snr-task",
                "import subprocess, sys\n"
                "program = 'import sys; sys.path[:] = ' + repr(sys.path) + ';'\n"
                "program += 'from cfd_course import NoiseSchedule as N;'\n"
                "program += 'print(N.cosine(1000).snr(500).item())'\n"
                "words = [sys.executable, '-c', program]\n"
                "stolen = torch.tensor(float(subprocess.check_output(words)))",
            )
        ],
    ),
    "saved_for_later": _attack(
        """
import glob
for path in glob.glob("/*/kept.py") + glob.glob("/*/*/kept.py") + glob.glob("kept.py"):
    import cfd_course.expect as expect
    names = {"expect": expect}
    exec("from __future__ import annotations\\n" + open(path).read().partition("def ")[2].join(
        ["def ", ""]), names)
    return names["snr"](schedule, t)""",
        cells=[("add_noise-task", SAVE_FOR_LATER)],
    ),
    "kept_where_nobody_may_look": _attack(
        """
import cfd_course.expect as expect
names = {"expect": expect}
exec("from __future__ import annotations\\n" + open("/tmp/box/kept.py").read(), names)
return names["snr"](schedule, t)""",
        cells=[("add_noise-task", KEPT_SHUT)],
    ),
    # What lies on the machine, or belongs to it.
    "what_outlives_a_process": _prize(OBJECTS),
    "memory_that_nobody_counts": _prize(UNCOUNTED),
    "settings_of_the_machine": _prize(SETTINGS),
    "namespaces_of_its_own": _prize(NAMESPACES),
    "environment_of_the_first": _prize(
        """
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        won = won or b"A_SECRET_OF_THE_TEACHER" in open(path, "rb").read()
    except OSError:
        pass"""
    ),
    "solutions": _prize(
        ALL_FILES.replace("CONDITION", "name.startswith('01_forward_noising')")
        + "won = bool(found)"
    ),
    "right_answers": _prize(
        ALL_FILES.replace("CONDITION", "name in ('right_answers.py', 'students.py')")
        + "won = bool(found)"
    ),
    "lessons_checks": _prize(
        ALL_FILES.replace("CONDITION", "name.startswith('lesson_') and name.endswith('.py')")
        + "won = any('Exercise(' in open(path).read() for path in found)"
    ),
    "gradebook": _prize(
        ALL_FILES.replace("CONDITION", "name == 'gradebook.db' and 'site-packages' not in folder")
        + "won = bool(found)"
    ),
    "gradebook_by_process": _prize(PROCESSES),
    "trigger": Student(
        {},
        NOTHING,
        cells=[
            (
                "add_noise-task",
                ALL_FILES.replace("CONDITION", "name.endswith('.db')")
                + "import sqlite3\nfor path in found:\n"
                "    with sqlite3.connect(path) as book:\n"
                "        book.execute('CREATE TRIGGER t AFTER UPDATE ON grade BEGIN '\n"
                "                     'UPDATE grade SET auto_score = 27; END')",
            )
        ],
    ),
    "other_students": _prize(
        ALL_FILES.replace("CONDITION", "'01_forward_noising' in folder") + "won = bool(found)"
    ),
    "network": _prize(
        """
import socket
server = socket.create_connection(("1.1.1.1", 53), 3)
won = True"""
    ),
    "this_machines_ports": _prize(
        """
import socket
for line in open("/proc/net/tcp").read().split("\\n")[1:-1]:
    won = won or line.split()[3] == "0A"
names = [name for _, name in socket.if_nameindex()]
won = won or names != ["lo"]"""
    ),
    "writes_into_packages": _prize(
        """
import os, torch
place = os.path.join(os.path.dirname(torch.__file__), "left-behind")
open(place, "w").close()
os.unlink(place)
won = True"""
    ),
    "secrets_of_the_teacher": _prize(
        """
import os
won = bool(os.environ.get("A_SECRET_OF_THE_TEACHER")) or os.path.exists("/etc/shadow")"""
    ),
    "memory_of_the_parent": _prize(
        """
import os
with open(f"/proc/{os.getppid()}/mem", "rb"):
    won = True"""
    ),
    "traces_the_parent": _prize(
        """
import ctypes, os
won = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"""
    ),
    # Lies.
    "forged_outcomes": Student({}, NOTHING, cells=[("add_noise-check", FORGED)]),
    "forged_while_asked": Student(_snr(FORGED), NO_SNR),
    "fake_exercise": Student({}, NOTHING, cells=[("add_noise-task", FAKE_EXERCISE)]),
    "liar": Student(
        _snr("return torch.ones(schedule.alpha_bars[t].shape).as_subclass(Liar)"),
        NO_SNR,
        cells=[("add_noise-task", LIAR)],
    ),
    "not_numbers": Student(_snr("return schedule.alpha_bars[t] * torch.nan"), NO_SNR),
    "infinite": Student(_snr("return schedule.alpha_bars[t] * torch.inf"), NO_SNR),
    "everything": Student(
        _snr("return {'tensor': '0', 'other': 'x', 'dict': [], 'result': 1.0}"), NO_SNR
    ),
    "nested": Student(
        _snr("deep = []\nfor _ in range(900):\n    deep = [deep]\nreturn deep"), NO_SNR
    ),
    "far_too_much": Student(_snr("return torch.ones(80_000_000)"), NO_SNR),
    "says_so": Student(_snr("print('snr: right (1 point).')\nreturn 'right'"), NO_SNR),
    "object": Student(
        {
            **RIGHT,
            "snr": "class Snr:\n    __name__ = 'snr'\n    reference = points = 1.0\n"
            "    def __call__(self, *_): return self\n"
            "    def __eq__(self, other): return True\n"
            "    def __float__(self): return 1.0\nsnr = Snr()",
        },
        NO_SNR,
    ),
    "sends_far_too_much": Student(RIGHT, ONLY_FIRST, cells=[("snr-task", SENDS)]),
    "steers_the_terminal": Student(RIGHT, ONLY_FIRST, cells=[("snr-task", STEERS)]),
    # Harm: nothing is left of it, and whatever came before it counts.
    "deep_expressions": Student(RIGHT, FULL, cells=[("add_noise-task", DEEP)]),
    "deep_folders": Student(RIGHT, FULL, cells=[("add_noise-task", DEEP_FOLDERS)]),
    "leaves_it_no_files": Student(RIGHT, FULL, cells=[("add_noise-task", NO_FILES)]),
    "children_in_a_new_session": Student(RIGHT, FULL, cells=[("snr-task", NEW_SESSION)]),
    "daemon": Student(RIGHT, FULL, cells=[("snr-task", DAEMON)]),
    "bomb": Student(RIGHT, ONLY_FIRST, ["more than 64 processes"], cells=[("snr-task", BOMB)]),
    "many_megabytes": Student(
        RIGHT, ONLY_FIRST, ["GB of memory"], cells=[("snr-task", MANY_MEGABYTES)]
    ),
    "kills_its_parent": Student(
        _snr("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(-1, 9)"), NO_SNR
    ),
    "full_disk": Student(
        RIGHT,
        FULL,
        cells=[
            (
                "snr-task",
                "try:\n    for n in range(99):\n"
                "        with open(f'/tmp/{n}', 'wb') as file:\n"
                "            file.write(bytes(10**7))\n"
                "except OSError:\n    pass",
            )
        ],
    ),
    "exits_in_an_answer": Student(_snr("import os\nos._exit(0)"), NO_SNR),
    "ignores_signals": Student(
        _snr(
            "import signal, time\n"
            "for each in (signal.SIGALRM, signal.SIGPROF, signal.SIGINT):\n"
            "    signal.signal(each, signal.SIG_IGN)\n"
            "end = time.monotonic() + 5\nwhile time.monotonic() < end:\n    pass\nreturn None"
        ),
        NO_SNR,
    ),
    # Honest.
    "made_elsewhere": Student(
        {**RIGHT, "add_noise": RIGHT["add_noise"].replace("share.sqrt()", "root(share)")},
        FULL,
        cells=[("add_noise-task", ELSEWHERE)],
    ),
    "many_figures": Student(
        {**RIGHT, "add_noise": RIGHT["add_noise"].replace("share.sqrt()", "share ** half")},
        FULL,
        cells=[("add_noise-task", PLOTS)],
    ),
    "magics_above_the_answers": Student(
        {
            "add_noise": "%%time\n" + RIGHT["add_noise"],
            "snr": "%%capture said --no-stderr\n" + RIGHT["snr"],
            "predict_x0": "%%wandb -h 720\n%autosave 60\n" + RIGHT["predict_x0"],
        },
        FULL,
    ),
    "settings_all_over": Student(RIGHT, FULL, cells=[("add_noise-task", SETTINGS_ALL_OVER)]),
    "class_hints_and_partial": Student(
        {
            "add_noise": PLAIN_CLASS,
            "snr": HINTS,
            "predict_x0": "import functools\n"
            + RIGHT["predict_x0"].replace("predict_x0(", "general(scale, ")
            + "\npredict_x0 = functools.partial(general, 1.0)",
        },
        FULL,
    ),
    "in_a_file_of_ones_own": Student(
        {
            **RIGHT,
            "add_noise": "%%writefile mine.py\nimport torch\n" + RIGHT["add_noise"],
            "snr": "from src.theirs import snr",
        },
        FULL,
        cells=[
            ("add_noise-check", "import sys\nsys.path.append('src')\nfrom mine import add_noise")
        ],
        files={"src/theirs.py": "import torch\n" + RIGHT["snr"]},
    ),
    "in_many_cells": Student(
        {**RIGHT, "snr": "def snr(schedule, t):\n    return top(schedule, t) / rest(schedule, t)"},
        FULL,
        cells=[
            ("snr-answer", "def top(schedule, t):\n    return schedule.alpha_bars[t]"),
            ("snr-check", "def rest(schedule, t):\n    return UNIT - top(schedule, t)\nUNIT = 0"),
            ("snr-check", "UNIT = 1"),
            ("snr-graded", "snr_values = [snr(schedule, t) for t in (1, 500)]"),
        ],
    ),
    "comes_to_an_end": Student(
        RIGHT,
        FULL,
        cells=[
            ("snr-task", "exit\nquit()\nraise SystemExit('for today')"),
            ("predict_x0-task", "import sys\nsys.exit()"),
            ("predict_x0-graded", "del predict_x0\n%reset -f"),
        ],
    ),
    "answers_at_the_end": Student(RIGHT, FULL, edit=_answers_at_the_end),
    "everything_twice": Student(RIGHT, FULL, edit=_twice),
    "metadata_lost_and_tidied": Student(RIGHT, FULL, edit=_metadata_lost),
    "below_and_overwritten": Student(
        RIGHT, FULL, cells=[("predict_x0-graded", "snr = 7\nadd_noise = None")]
    ),
    "double_by_default": Student(
        RIGHT, FULL, cells=[("add_noise-task", "torch.set_default_dtype(torch.float64)")]
    ),
    "no_gradients": Student(
        RIGHT, FULL, cells=[("add_noise-task", "torch.set_grad_enabled(False)")]
    ),
    "threads_and_seeds": Student(
        RIGHT,
        FULL,
        cells=[
            (
                "add_noise-task",
                "import random\ntorch.set_num_threads(3)\ntorch.manual_seed(7)\nrandom.seed(1)\n"
                "torch.use_deterministic_algorithms(True)",
            )
        ],
    ),
    "half_a_surrogate": Student(
        _snr("raise ValueError('\\ud800')"), NO_SNR, cells=[("snr-task", "print('\\ud800')")]
    ),
    "installs": Student(RIGHT, FULL, cells=[("snr-task", "!pip install left-behind\n%pip list")]),
    "magics": Student(
        RIGHT,
        FULL,
        cells=[
            ("add_noise-task", "%matplotlib inline\n%timeit -n 1 -r 1 1 + 1"),
            ("snr-task", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"),
            ("predict_x0-task", "import asyncio\nawait asyncio.sleep(0.01)\n!echo hello"),
        ],
    ),
    "writes_files": Student(
        RIGHT,
        FULL,
        cells=[
            (
                "snr-task",
                "from pathlib import Path\nfrom helper import two\nassert two == 2\n"
                "Path('mine.txt').write_text('mine')\n"
                "assert Path('mine.txt').read_text() == 'mine'",
            )
        ],
        files={"helper.py": "two = 2"},
    ),
}
