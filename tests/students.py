"""A class of students: what they hand in, and the mark that each should get.

Used by test_classroom.py, and by benchmarks/class_of_300.py for a larger class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_output

from cfd_course.classroom import exercise_of, lessons

ONE, TWO = "01_forward_noising", "02_reverse_denoising"

ADD = """\
def add_noise(schedule, x_0, t, noise):
    share = schedule.alpha_bars[t].to(x_0.dtype)
    share = share.reshape(-1, *[1] * (x_0.ndim - 1))
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise"""
SNR = """\
def snr(schedule, t):
    return schedule.alpha_bars[t] / (1 - schedule.alpha_bars[t])"""
X0 = """\
def predict_x0(schedule, x_t, t, noise):
    share = schedule.alpha_bars[t].to(x_t.dtype)
    share = share.reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - share).sqrt() * noise) / share.sqrt()"""
RIGHT = {"add_noise": ADD, "snr": SNR, "predict_x0": X0}
FULL = {"add_noise": 2, "snr": 1, "predict_x0": 1}
NOTHING = dict.fromkeys(FULL, 0)

# Of lesson 02 the notebook's own solutions.
RIGHT_TWO = {
    exercise_of(cell)[0]: cell.source
    for path in lessons()
    if path.stem == TWO
    for cell in nbformat.read(path, 4).cells
    if exercise_of(cell)[1] == "answer"
}
FULL_TWO = {"posterior": 2, "noise_loss": 2, "score": 3}


def body(name: str, text: str) -> dict[str, str]:
    """A right notebook but for one answer: `text` after the first line of the right one."""
    first = RIGHT[name].split("\n")[0]
    lines = "\n".join("    " + line for line in text.split("\n"))
    return {**RIGHT, name: f"{first}\n{lines}"}


@dataclass
class Student:
    """answers: by exercise. cells: of their own, each put before the cell whose grade_id it names.
    files: beside the notebook. edit: anything else that is done to the notebook, or to its folder.
    marks: the points of each exercise. says: what the feedback must contain."""

    answers: dict[str, str]
    marks: dict[str, float]
    says: list[str] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    edit: Callable | None = None
    lesson: str = ONE

    def hand_in(self, course: Path, name: str) -> None:
        """Put the submission where `nbgrader collect` would."""
        notebook = nbformat.read(course / "release" / self.lesson / f"{self.lesson}.ipynb", 4)
        cells = []
        for cell in notebook.cells:
            own = cell.metadata.get("nbgrader", {}).get("grade_id")
            cells += [new_code_cell(text) for before, text in self.cells if before == own]
            exercise, kind = exercise_of(cell)
            if kind == "answer" and exercise in self.answers:
                cell.source = self.answers[exercise]
            cells.append(cell)
        notebook.cells = cells
        folder = course / "submitted" / name / self.lesson
        folder.mkdir(parents=True)
        path = folder / f"{self.lesson}.ipynb"
        for file, text in self.files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        broken = self.edit(notebook, path) if self.edit else None
        if broken is None:
            nbformat.write(notebook, path)


def cell_of(notebook, name: str):
    return next(
        cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name
    )


def _without(*names: str):
    def edit(notebook, path):
        for name in names:
            notebook.cells.remove(cell_of(notebook, name))

    return edit


def _graded_cells_rewritten(notebook, path):
    for name in FULL:
        cell_of(notebook, f"{name}-check").source = "None"
        cell_of(notebook, f"{name}-graded").source = f"{FULL[name]}.0"


def _marks_in_the_outputs(notebook, path):
    for name in FULL:
        cell = cell_of(notebook, f"{name}-graded")
        cell.outputs = [new_output("execute_result", {"text/plain": str(FULL[name])})]


def _metadata_ruined(notebook, path):
    again = nbformat.from_dict(cell_of(notebook, "predict_x0-answer"))
    cell_of(notebook, "add_noise-graded").metadata.nbgrader.points = 1000
    cell_of(notebook, "snr-answer").metadata.nbgrader["schema_version"] = -7
    cell_of(notebook, "snr-graded").metadata.nbgrader = "mine"
    notebook.cells.append(again)
    extra = new_code_cell("100.0", metadata={"nbgrader": {"grade": True, "points": 100}})
    notebook.cells.insert(0, extra)


def _answer_as_text(notebook, path):
    cell = cell_of(notebook, "snr-answer")
    cell.cell_type = "markdown"
    for key in ("outputs", "execution_count"):
        cell.pop(key)


def _not_json(notebook, path):
    path.write_text("my notebook\n")
    return "broken"


def _cut_off(notebook, path):
    path.write_text(nbformat.writes(notebook)[:2000])
    return "broken"


def _other_name(notebook, path):
    nbformat.write(notebook, path.with_name("my homework.ipynb"))
    return "broken"


def _no_notebook(notebook, path):
    path.with_name("homework.docx").write_text("my notebook")
    return "broken"


def _scripts(notebook, path):
    run = "<script>document.title = 'mine'</script><img src=x onerror=alert(1)>"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(run))
    cell_of(notebook, "snr-answer").source += f"\n# {run}\nraise ValueError({run!r})"
    cell_of(notebook, "snr-answer").outputs = [
        new_output("display_data", {"text/html": run, "application/javascript": "alert(1)"})
    ]


def _huge_outputs(notebook, path):
    cell_of(notebook, "add_noise-answer").outputs = [
        new_output("stream", name="stdout", text="x" * 3_000_000)
    ]


FORGED_PACKAGE = {
    "cfd_course/__init__.py": "",
    "cfd_course/checks.py": (
        "class lesson_01:\n"
        "    add_noise = snr = predict_x0 = staticmethod(lambda answer: answer)\n"
        "    points = staticmethod(lambda answer: 2.0)\n"
    ),
}
REBOUND = """\
class check:
    points = staticmethod(lambda answer: 1.0)
    add_noise = snr = predict_x0 = staticmethod(lambda answer: answer)"""
PATCHED = """\
import cfd_course.checks as checks
checks.Exercise.problem = checks.Exercise.verdict = lambda self, answer: None
checks.Exercise.__call__ = lambda self, answer: answer
checks._difference = lambda got, wanted: None
checks.points = check.points = lambda answer: 2.0
check.snr.cases, check.snr.reference = [], snr
torch.isclose = lambda a, *b, **c: torch.ones_like(a, dtype=torch.bool)"""
STUBBORN = """\
import time
while True:
    try:
        time.sleep(0.1)
    except BaseException:
        pass"""

STUDENTS = {
    "perfect": Student(RIGHT, FULL),
    "loops": Student(
        {
            "add_noise": """\
def add_noise(schedule, x_0, t, noise):
    times = t.tolist() if torch.is_tensor(t) else [t] * len(x_0)
    rows = []
    for each, x, e in zip(times, x_0, noise):
        kept = float(schedule.alpha_bars[each])
        rows.append(kept**0.5 * x + (1 - kept) ** 0.5 * e)
    return torch.stack(rows)""",
            "snr": """\
def snr(schedule, t):
    return 1 / (1 / schedule.alpha_bars[t] - 1)""",
            "predict_x0": """\
def predict_x0(schedule, x_t, t, noise):
    a = torch.as_tensor(schedule.alpha_bars[t], dtype=x_t.dtype)
    a = a.view(-1, *[1 for _ in x_t.shape[1:]])
    return x_t * a**-0.5 - noise * (1 / a - 1) ** 0.5""",
        },
        FULL,
    ),
    "own_helper": Student(
        {
            **RIGHT,
            "add_noise": """\
add_noise = lambda schedule, x_0, t, noise: (
    weight(schedule, t, x_0) * x_0 + (1 - weight(schedule, t, x_0) ** 2) ** 0.5 * noise
)""",
        },
        FULL,
        cells=[
            (
                "add_noise-task",
                """\
def weight(schedule, t, like):
    return torch.sqrt(schedule.alpha_bars[t]).float().reshape(-1, *[1] * (like.ndim - 1))""",
            )
        ],
    ),
    "other_functions_of_the_package": Student(
        {
            **RIGHT,
            "snr": """\
def snr(schedule, t):
    one = torch.ones(torch.as_tensor(t).numel(), 1)
    x_t = schedule.add_noise(one, torch.as_tensor(t).reshape(-1), 0 * one).double()
    found = x_t**2 / (1 - schedule.alpha_bars[t].reshape(-1, 1))
    return found.reshape(torch.as_tensor(t).shape)""",
        },
        FULL,
    ),
    "no_roots": Student(
        body(
            "add_noise",
            "a = schedule.alpha_bars[t].float().reshape(-1, 1, 1, 1)\n"
            "return a * x_0 + (1 - a) * noise",
        ),
        FULL | {"add_noise": 0},
        ["Its standard deviation at t = 500 is about 0.7", "the shape is [5, 1, 5, 2]"],
    ),
    "weights_swapped": Student(
        body(
            "add_noise",
            "a = schedule.alpha_bars[t].float().reshape(-1, 1, 1, 1)\n"
            "return (1 - a).sqrt() * x_0 + a.sqrt() * noise",
        ),
        FULL | {"add_noise": 0},
        ["The picture gets the noise", "the shape is [5, 1, 5, 2]"],
    ),
    "noise_to_signal": Student(
        body("snr", "return 1 / schedule.alpha_bars[t] - 1"),
        FULL | {"snr": 0},
        ["yours is noise to signal"],
    ),
    "not_divided": Student(
        body(
            "predict_x0",
            "a = schedule.alpha_bars[t].float().reshape(-1, 1, 1, 1)\n"
            "return x_t - (1 - a).sqrt() * noise",
        ),
        FULL | {"predict_x0": 0},
        ["still as faint as add_noise made it", "the shape is [5, 1, 5, 2]"],
    ),
    "unknown_mistake": Student(
        body("snr", "return torch.sin(40 * schedule.alpha_bars[t]) + t / 300"),
        FULL | {"snr": 0},
        ["It differs for t = 1000: "],
    ),
    "two_mistakes": Student(
        body("snr", "return schedule.alpha_bars[t] + 0.25"),
        FULL | {"snr": 0},
        ["It differs for t = 1000: 0.25 came", "Two things seem wrong", "variance alone"],
    ),
    "blank": Student({}, NOTHING, ["It returns None so far"]),
    "outputs_forged": Student({}, NOTHING, edit=_marks_in_the_outputs),
    "one_does_not_run": Student(
        {**RIGHT, "snr": "def snr(schedule, t):\n    retrun schedule"},
        FULL | {"snr": 0},
        ["SyntaxError", "snr: not yet"],
    ),
    "crashing": Student(
        body("add_noise", "return x_0 @ undefined_name"),
        FULL | {"add_noise": 0},
        ["undefined_name"],
    ),
    "kernel_dies": Student(
        RIGHT,
        FULL | {"snr": 0, "predict_x0": 0},
        ["kernel died before this point"],
        cells=[("snr-task", "import os; os._exit(1)")],
    ),
    "endless": Student(
        body("snr", "while True:\n    t = t"),
        FULL | {"snr": 0},
        ["did not finish within 2 seconds"],
    ),
    "endless_cell": Student(
        RIGHT, FULL, ["CellTimeoutError"], cells=[("snr-task", "while True:\n    pass")]
    ),
    "endless_and_stubborn": Student(
        RIGHT,
        FULL | {"snr": 0, "predict_x0": 0},
        ["could not be interrupted"],
        cells=[("snr-task", STUBBORN)],
    ),
    "memory_in_an_answer": Student(
        body("add_noise", "kept = []\nwhile True:\n    kept.append(torch.ones(10**8))"),
        FULL | {"add_noise": 0},
        ["more than 1 GB of memory"],
    ),
    "memory_in_a_cell": Student(
        RIGHT, FULL, ["MemoryError"], cells=[("snr-task", "much = bytearray(10**11)")]
    ),
    "none_shape_nan": Student(
        {
            "add_noise": ADD.replace("return ", "return (") + ")[0]",
            "snr": "def snr(schedule, t): print('hello')",
            "predict_x0": "def predict_x0(schedule, x_t, t, noise): return x_t * torch.nan",
        },
        NOTHING,
        ["the shape is [1, 4, 5]", "It returns None so far", "there is a NaN in the result"],
    ),
    "in_place_dtype_gpu": Student(
        {
            "add_noise": ADD.replace("return ", "return x_0.copy_(") + ")",
            "snr": "def snr(schedule, t): return (schedule.alpha_bars[t] * 9).int()",
            "predict_x0": "def predict_x0(schedule, x_t, t, noise): return x_t.to('cuda:7')",
        },
        NOTHING,
        ["changes its argument x_0 in place", "int32 tensor", "It stops with"],
    ),
    "arguments_exit_recursion": Student(
        {
            "add_noise": "def add_noise(x_0, t): return x_0",
            "snr": "def snr(schedule, t): raise SystemExit",
            "predict_x0": "def predict_x0(*all): return predict_x0(*all)",
        },
        NOTHING,
        ["It should take (schedule, x_0, t, noise)", "SystemExit", "RecursionError"],
    ),
    "prints_megabytes": Student(
        body(
            "snr",
            "print('x' * 10**7)\nreturn schedule.alpha_bars[t] / (1 - schedule.alpha_bars[t])",
        ),
        FULL,
        cells=[("predict_x0-task", "for _ in range(50): print('y' * 10**6)")],
    ),
    "cells_rewritten": Student({}, NOTHING, edit=_graded_cells_rewritten),
    "check_rebound": Student({}, NOTHING, cells=[("add_noise-task", REBOUND)]),
    "checks_patched": Student(
        body("snr", "return schedule.alpha_bars[t]"),
        FULL | {"snr": 0},
        cells=[("snr-check", PATCHED)],
    ),
    "calls_the_package": Student(
        {
            "add_noise": "def add_noise(schedule, *rest): return schedule.add_noise(*rest)",
            "snr": "def snr(schedule, t): return old(schedule, t)",
            "predict_x0": "predict_x0 = NoiseSchedule.predict_x0",
        },
        NOTHING,
        ["this exercise asks you to write it", "This is the course"],
        cells=[("snr-task", "from cfd_course import NoiseSchedule as N\nold = N.snr")],
    ),
    "own_package_beside": Student({}, NOTHING, files=FORGED_PACKAGE),
    "own_torch_beside": Student(RIGHT, FULL, files={"torch.py": "raise SystemExit", "a/b.txt": ""}),
    "cells_deleted": Student(
        RIGHT,
        FULL | {"predict_x0": 0},
        ["There is no predict_x0 in the notebook"],
        edit=_without("snr-check", "snr-graded", "predict_x0-answer", "add_noise-check"),
    ),
    "answer_as_text": Student(RIGHT, FULL, edit=_answer_as_text),
    "metadata_ruined": Student(RIGHT, FULL, edit=_metadata_ruined),
    "scripts": Student(RIGHT, FULL, ["<script>document.title"], edit=_scripts),
    "huge_outputs": Student(RIGHT, FULL, edit=_huge_outputs),
    "not_json": Student({}, NOTHING, ["is not a notebook that can be read"], edit=_not_json),
    "cut_off": Student({}, NOTHING, ["is not a notebook that can be read"], edit=_cut_off),
    "other_name": Student(RIGHT, FULL, edit=_other_name),
    "no_notebook": Student({}, NOTHING, ["is not a notebook that can be read"], edit=_no_notebook),
    "perfect_in_02": Student(RIGHT_TWO, FULL_TWO, lesson=TWO),
    "blank_in_02": Student({}, dict.fromkeys(FULL_TWO, 0), ["It returns None so far"], lesson=TWO),
    "no_mean_in_02": Student(
        RIGHT_TWO
        | {
            "noise_loss": """\
def noise_loss(network, schedule, x_0, condition, t, noise):
    guess = network(schedule.add_noise(x_0, t, noise), t, condition)
    return ((guess - noise) ** 2).sum()"""
        },
        FULL_TWO | {"noise_loss": 0},
        ["noise_loss: not yet"],
        lesson=TWO,
    ),
    "calls_the_package_in_02": Student(
        RIGHT_TWO
        | {"score": "def score(mixture, x, alpha_bar): return mixture.score(x, alpha_bar)"},
        FULL_TWO | {"score": 0},
        ["this exercise asks you to write it"],
        lesson=TWO,
    ),
}
