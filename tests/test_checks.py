"""The exercises' checks: a right answer passes, every known mistake gets its own words, and
whatever else a learner writes, the notebook goes on."""

import ast
import contextlib
import functools
import importlib.util
import inspect
import json
import math
import os
import pkgutil
import random
import signal
import subprocess
import sys
import time
import types

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cfd_course.checks
from cfd_course import NoiseSchedule, unet
from cfd_course import schedule as schedule_module
from cfd_course.checks import Exercise, lesson_01, lesson_03, sandbox
from cfd_course.classroom import exercise_of, lessons, needed

from .right_answers import RIGHT_ANSWERS

LESSONS = [
    importlib.import_module(f"cfd_course.checks.{module.name}")
    for module in pkgutil.iter_modules(cfd_course.checks.__path__)
    if module.name.startswith("lesson_")
]
EXERCISES = {
    f"{lesson.__name__.rpartition('.')[2]}.{name}": exercise
    for lesson in LESSONS
    for name, exercise in vars(lesson).items()
    if isinstance(exercise, Exercise)
}
MISTAKES = [
    pytest.param(exercise, number, id=f"{name}-{number}")
    for name, exercise in EXERCISES.items()
    for number in range(len(exercise.mistakes))
]


@pytest.fixture(params=EXERCISES, ids=str)
def exercise(request):
    return EXERCISES[request.param]


def test_every_lesson_has_exercises_that_know_five_mistakes():
    assert len(LESSONS) >= 6
    assert len(EXERCISES) >= 3 * len(LESSONS) - 1
    for name, exercise in EXERCISES.items():
        assert len({str(words) for _, words in exercise.mistakes}) >= 5, name


@functools.cache
def solutions(number: str) -> dict:
    """The answers of a lesson's notebook, with what they need of its other cells."""
    path = next((path for path in lessons() if path.stem.startswith(number)), None)
    if path is None:
        return {}
    notebook = nbformat.read(path, as_version=4)
    course = {cell.source for cell in notebook.cells}
    names = {"__name__": "__main__"}
    for index in sorted(needed(notebook, course)):
        if exercise_of(notebook.cells[index])[1] not in ("check", "graded"):
            exec(notebook.cells[index].source, names)
    return names


def right_answer(name: str):
    """The notebook's; for a lesson that has none, the reference as a learner would copy it."""
    lesson, name = name.split(".")
    answers = solutions(lesson.removeprefix("lesson_"))
    if name in answers:
        return answers[name]
    reference = EXERCISES[f"{lesson}.{name}"].reference
    copy = types.FunctionType(
        reference.__code__.replace(co_firstlineno=1),  # elsewhere: another piece of code
        {**reference.__globals__, "__name__": "__main__"},
        name,
        reference.__defaults__,
        reference.__closure__,
    )
    copy.__kwdefaults__ = reference.__kwdefaults__
    return copy


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_answer_passes_and_earns_its_points(name, capsys):
    exercise, answer = EXERCISES[name], right_answer(name)
    assert cfd_course.checks.points(answer) == 0
    assert exercise(answer) is answer
    assert ": right" in capsys.readouterr().out
    assert cfd_course.checks.points(answer) == exercise.points


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_answer_written_differently_passes_too(name, capsys):
    assert name in RIGHT_ANSWERS
    exercise, answer = EXERCISES[name], RIGHT_ANSWERS[name]
    assert exercise(answer) is answer
    assert ": right" in capsys.readouterr().out
    assert cfd_course.checks.points(answer) == exercise.points


@pytest.mark.parametrize(("exercise", "number"), MISTAKES)
def test_every_known_mistake_gets_its_own_words(exercise, number, capsys):
    wrong, words = exercise.mistakes[number]
    assert exercise(wrong) is exercise.reference
    said = capsys.readouterr().out
    assert "not yet" in said
    if callable(words):  # words of (got, wanted): whatever they say, not another mistake's
        assert "It differs" not in said and "It stops" not in said
        assert not any(other in said for _, other in exercise.mistakes if isinstance(other, str))
    else:
        assert words in said
    assert cfd_course.checks.points(wrong) == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "0 points yet: run its check first"), (lesson_01.snr.reference, "0 of 1 point yet")],
)
def test_no_points_are_shown_in_words_and_read_as_a_number(answer, words):
    """In a notebook, and by nbgrader, which takes whatever is no number for all of the points."""
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(cfd_course.checks.points(answer))
    assert data == {"text/plain": "0.0", "text/html": words}
    utils = pytest.importorskip("nbgrader.utils", reason="nbgrader is missing")
    marks = {"grade": True, "grade_id": "snr-graded", "points": 1, "solution": False}
    cell = nbformat.v4.new_code_cell(metadata={"nbgrader": marks | {"schema_version": 3}})
    cell.outputs = [nbformat.v4.new_output("execute_result", data)]
    assert utils.determine_grade(cell) == (0, 1)


def then(name: str, change):
    """The right answer with something done to what it returns."""

    def answer(*arguments):
        result = RIGHT_ANSWERS[f"lesson_{name}"](*arguments)
        return tuple(map(change, result)) if isinstance(result, tuple) else change(result)

    return answer


def instead_of_the_null(name: str, change):
    """The right answer, to which something else is given as its last argument."""
    return lambda *others: RIGHT_ANSWERS[f"lesson_{name}"](*others[:-1], change(others[-1]))


def hands(speed):
    """A time embedding of hands with these speeds: speed(k, half) of the hands k."""

    def time_embedding(t, channels):
        angles = t.float()[:, None] * speed(torch.arange(channels // 2), channels // 2)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    return time_embedding


def noise_by(formula):
    """A clip_guess with the right guess, and formula(x_t, x_0, noise, share) as the noise."""

    def clip_guess(schedule, x_t, t, noise, clip):
        x_0 = schedule.predict_x0(x_t, t, noise).clamp(-clip, clip)
        return x_0, formula(x_t, x_0, noise, schedule.alpha_bars[t].float())

    return clip_guess


NO_GRADIENT = "The result is right, but no gradient reaches the"
FASTER = "Your hands get faster from one to the next"
OTHER_NOISE = "Mixed with your noise as lesson 01 does, it does not give x_t again."
# Beside the known mistakes: what a check says of whole families of wrong answers.
ALSO_WRONG = [
    ("02.noise_loss", then("02.noise_loss", torch.Tensor.item), "a plain float has no gradient"),
    ("02.noise_loss", then("02.noise_loss", torch.Tensor.detach), NO_GRADIENT + " network"),
    ("02.noise_loss", torch.no_grad()(RIGHT_ANSWERS["lesson_02.noise_loss"]), NO_GRADIENT),
    (
        "02.noise_loss",
        then("02.noise_loss", lambda loss: loss.detach().requires_grad_()),
        NO_GRADIENT,
    ),
    (
        "02.noise_loss",
        lambda network, x_0: None,
        "It should take (network, schedule, x_0, condition, t, noise), but yours takes",
    ),
    ("03.time_embedding", hands(lambda k, half: 10_000 ** (k / half)), FASTER),
    ("03.time_embedding", hands(lambda k, half: 10_000 ** (k.double() / half)), FASTER),
    ("03.time_embedding", hands(lambda k, half: (math.log(10_000) * k / half).exp()), FASTER),
    ("03.residual_block", lambda block, x, embedding: block(x, embedding), "Call its six layers."),
    ("03.decode", lambda unet, *arguments: unet.decode(*arguments), "Call its blocks and layers."),
    ("05.drop", lambda condition, probability, generator: [], "A Condition should come back"),
    ("05.with_null_image", instead_of_the_null("05.with_null_image", torch.detach), NO_GRADIENT),
    (
        "05.with_null_image",
        instead_of_the_null("05.with_null_image", lambda null: torch.tensor(null.tolist())),
        NO_GRADIENT + " null: it would never learn",
    ),
    ("05.with_null_token", instead_of_the_null("05.with_null_token", torch.detach), NO_GRADIENT),
    ("08.concatenate", instead_of_the_null("08.concatenate", torch.detach), NO_GRADIENT),
    (
        "05.with_null_token",
        then("05.with_null_token", lambda result: result if result.ndim == 3 else result.long()),
        "came back as int64, and what takes them next needs bool. End with .to(mask.dtype).",
    ),
    (
        "06.clip_guess",
        noise_by(lambda x_t, x_0, noise, share: (x_t - share * x_0) / (1 - share)),
        OTHER_NOISE,
    ),
    ("06.clip_guess", noise_by(lambda x_t, x_0, noise, share: noise.clamp(-1, 1)), OTHER_NOISE),
    ("06.clip_guess", noise_by(lambda x_t, x_0, noise, share: x_t - x_0), OTHER_NOISE),
    (
        "06.clip_guess",
        noise_by(lambda x_t, x_0, noise, share: share.sqrt() * x_0 + (1 - share).sqrt() * noise),
        OTHER_NOISE,
    ),
    (
        "11.draw_times",
        lambda count, steps, generator: 1 + torch.randperm(steps, generator=generator)[:count],
        "not yet. A tensor of shape [8000] should come back, one number for each example, of which "
        "several may have the same t, but",
    ),
]


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    ALSO_WRONG,
    ids=[f"{name}-{i}" for i, (name, *_) in enumerate(ALSO_WRONG)],
)
@pytest.mark.usefixtures("unhurried")
def test_more_wrong_answers_are_told_what_is_wrong(name, answer, words, capsys):
    exercise = EXERCISES[f"lesson_{name}"]
    assert exercise(answer) is exercise.reference
    assert words in capsys.readouterr().out
    assert cfd_course.checks.points(answer) == 0


@pytest.mark.parametrize("kind", [torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("name", "end"),
    {
        "02.posterior": "x_0.dtype",
        "02.score": "x.dtype",
        "03.time_embedding": "torch.float32",
        "06.clip_guess": "x_t.dtype",
        "11.ddim_step": "x_t.dtype",
        "11.ancestral_step": "x_t.dtype",
    }.items(),
)
def test_right_numbers_of_another_type_would_break_later_cells(name, end, kind, capsys):
    exercise = EXERCISES[f"lesson_{name}"]
    assert exercise(then(name, lambda x: x.to(kind))) is exercise.reference
    said = capsys.readouterr().out
    if kind == torch.float64:
        assert "The numbers are right, but they came back as float64" in said
        assert f"End with .to({end})." in said


@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["01.snr", "11.alpha_bars"])
def test_where_the_type_does_not_matter_either_will_do(name, kind):
    assert EXERCISES[f"lesson_{name}"].problem(then(name, lambda x: x.to(kind))) is None


@functools.cache
def clinic() -> dict:
    """The broken pieces as lesson 11 prints them, with the imports that they use."""
    path = next(path for path in lessons() if path.stem.startswith("11"))
    names = {"__name__": "__main__"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            tree.body = [
                node
                for node in tree.body
                if isinstance(node, (ast.Import, ast.ImportFrom))
                or (isinstance(node, ast.FunctionDef) and node.name.startswith("broken"))
            ]
            exec(compile(tree, path, "exec"), names)
    return names


@pytest.mark.parametrize("name", [name for name in EXERCISES if name.startswith("lesson_11.")])
def test_each_broken_piece_of_the_clinic_fails_its_check(name, capsys):
    """As the lesson shows it, and in the words that are kept for it."""
    exercise, piece = EXERCISES[name], clinic()["broken_" + name.partition(".")[2]]
    assert exercise(piece) is exercise.reference
    said = capsys.readouterr().out
    words = exercise.mistakes[0][1]
    assert "not yet" in said and (callable(words) or words in said), said
    assert cfd_course.checks.points(piece) == 0


def test_an_untouched_stub_is_told_to_begin(exercise, capsys):
    def stub(*arguments): ...

    assert exercise(stub) is exercise.reference
    assert "not yet" in capsys.readouterr().out


def test_the_courses_own_function_earns_nothing(exercise, capsys):
    assert exercise(exercise.reference) is exercise.reference
    assert "own function" in capsys.readouterr().out
    assert cfd_course.checks.points(exercise.reference) == 0


def right(schedule, x_0, t, noise):
    share = schedule.alpha_bars[t].float().reshape(-1, *[1] * (x_0.ndim - 1))
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise


def raises(schedule, x_0, t, noise):
    return x_0 @ undefined_name  # noqa: F821


def takes_others(x_0, t):
    return x_0


def nan(schedule, x_0, t, noise):
    return x_0 * torch.nan


def wrong_shape(schedule, x_0, t, noise):
    return right(schedule, x_0, t, noise)[0]


def wrong_kind(schedule, x_0, t, noise):
    return right(schedule, x_0, t, noise).long()


def a_list(schedule, x_0, t, noise):
    return right(schedule, x_0, t, noise).tolist()


def in_place(schedule, x_0, t, noise):
    x_t = right(schedule, x_0, t, noise)
    return x_0.copy_(x_t)


def needs_a_gpu(schedule, x_0, t, noise):
    return x_0.to("cuda:99")


def unknown(schedule, x_0, t, noise):
    return right(schedule, x_0, t, noise) + 0.25


def test_something_that_is_no_function_is_named(capsys):
    assert lesson_01.add_noise(torch.zeros(3)) is NoiseSchedule.add_noise
    assert "float32 tensor of shape [3]" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["busy", "sleeping"])
def test_an_endless_answer_is_cut(body, capsys, monkeypatch):
    monkeypatch.setattr(cfd_course.checks.exercise, "SECONDS", 0.2)

    def endless(schedule, x_0, t, noise):
        while True:
            if body == "sleeping":
                time.sleep(0.01)

    assert lesson_01.add_noise(endless) is NoiseSchedule.add_noise
    assert "did not finish" in capsys.readouterr().out


@pytest.mark.parametrize("cost, told", [(0.5, "right"), (9.0, "did not finish")])
def test_what_an_answer_imports_may_take_its_time(cost, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cfd_course.checks.exercise, "SECONDS", 0.2)
    monkeypatch.syspath_prepend(tmp_path)
    work = f"import time\nend = time.process_time() + {cost}\nwhile time.process_time() < end: pass"
    (tmp_path / f"heavy_{told[:3]}.py").write_text(work, encoding="utf-8")

    def imports_first(schedule, x_0, t, noise):
        importlib.import_module(f"heavy_{told[:3]}")
        return right(schedule, x_0, t, noise)

    lesson_01.add_noise(imports_first)
    assert told in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such alarms")
def test_time_spent_waiting_for_the_processor_is_no_answers_fault(monkeypatch):
    began = time.monotonic()
    monkeypatch.setattr(sandbox, "waited", lambda: time.monotonic() - began)
    with sandbox.time_limit(0.01):  # 0.3 seconds on the clock
        time.sleep(0.6)
    monkeypatch.setattr(sandbox, "waited", lambda: 0.0)
    with pytest.raises(sandbox.TooSlow), sandbox.time_limit(0.01):
        time.sleep(0.6)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux counts this")
def test_it_is_seen_how_long_a_process_waited_for_the_processor():
    allowed, before = os.sched_getaffinity(0), sandbox.waited()
    os.sched_setaffinity(0, {min(allowed)})  # what is started now has to share this one
    crowd = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        busy = time.process_time() + 0.3
        while time.process_time() < busy:
            pass
        assert sandbox.waited() - before > 0.3
    finally:
        for each in crowd:
            each.kill()
            each.wait()
        os.sched_setaffinity(0, allowed)


def test_what_an_answer_prints_is_left_out_and_randomness_is_left_alone(capsys):
    def chatty(schedule, x_0, t, noise):
        print("x" * 1_000_000)
        torch.rand(3)
        return right(schedule, x_0, t, noise)

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert lesson_01.add_noise(chatty) is chatty
    assert len(capsys.readouterr().out) < 300
    assert torch.equal(torch.rand(1), expected)


def leaves(schedule, x_0, t, noise):
    raise SystemExit


def interrupts(schedule, x_0, t, noise):
    raise KeyboardInterrupt


def recurses(schedule, x_0, t, noise):
    return recurses(schedule, x_0, t, noise)


def hoards(schedule, x_0, t, noise):
    return torch.ones(10**9, dtype=torch.float64)


def meta(schedule, x_0, t, noise):
    return torch.empty_like(x_0, device="meta")


def spoils_the_schedule(schedule, x_0, t, noise):
    x_t = (0.5 + 0 * x_0).to(x_0)
    schedule.alpha_bars.zero_()
    return x_t


class Untellable:
    def __repr__(self):
        raise RuntimeError


def untellable(schedule, x_0, t, noise):
    return Untellable()


HOSTILE = {
    raises: "undefined_name",
    takes_others: "It should take (schedule, x_0, t, noise), but yours takes (x_0, t)",
    nan: "NaN",
    wrong_shape: "the shape is [1, 4, 5], but [3, 1, 4, 5] was expected",
    wrong_kind: "int64 tensor",
    a_list: "list",
    in_place: "x_0 in place",
    needs_a_gpu: "at `return x_0.to(",
    unknown: "What comes back is the right result plus 0.25, everywhere.",
    leaves: "It stops with SystemExit",
    interrupts: "It stops with KeyboardInterrupt",
    recurses: "RecursionError",
    hoards: "it takes more than 1 GB of memory",
    meta: "cannot be compared",
    spoils_the_schedule: "It differs",
    untellable: "Untellable",
}


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer.__name__)
def test_whatever_a_learner_writes_gets_a_clear_message_and_the_notebook_goes_on(answer, capsys):
    assert lesson_01.add_noise(answer) is NoiseSchedule.add_noise
    said = capsys.readouterr().out
    assert "not yet" in said and HOSTILE[answer] in said
    assert lesson_01.add_noise.problem(right_answer("lesson_01.add_noise")) is None


@pytest.mark.parametrize("caught", [Exception, BaseException], ids=lambda caught: caught.__name__)
def test_an_endless_answer_that_catches_everything_is_cut(caught, capsys, monkeypatch):
    monkeypatch.setattr(cfd_course.checks.exercise, "SECONDS", 0.2)

    def stubborn(schedule, x_0, t, noise):
        count = 0
        while True:
            try:
                count += 1
            except caught:
                pass

    before = signal.getsignal(signal.SIGPROF), signal.getsignal(signal.SIGALRM)
    assert lesson_01.add_noise(stubborn) is NoiseSchedule.add_noise
    assert "did not finish" in capsys.readouterr().out
    assert (signal.getsignal(signal.SIGPROF), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == signal.getitimer(signal.ITIMER_REAL)[0] == 0


ORIGINAL = NoiseSchedule.add_noise  # under another name, taken before any check ran


def calls_the_method(schedule, x_0, t, noise):
    return schedule.add_noise(x_0, t, noise)


def calls_by_another_name(schedule, x_0, t, noise):
    return ORIGINAL(schedule, x_0, t, noise)


def calls_the_reference(schedule, x_0, t, noise):
    return lesson_01.add_noise.reference(schedule, x_0, t, noise)


def calls_for_each(schedule, x_0, t, noise):
    times = torch.as_tensor(t).expand(len(x_0))
    return torch.cat(list(map(schedule.add_noise, x_0[:, None], times[:, None], noise[:, None])))


def calls_what_is_wrapped(schedule, x_0, t, noise):
    return inspect.unwrap(NoiseSchedule.add_noise)(schedule, x_0, t, noise)


def catches_the_refusal(schedule, x_0, t, noise):
    with contextlib.suppress(Exception):
        schedule.add_noise(x_0, t, noise)
    return right(schedule, x_0, t, noise)


def loads_it_again(schedule, x_0, t, noise):
    spec = importlib.util.spec_from_file_location("cfd_course.mine", schedule_module.__file__)
    mine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mine)
    return mine.NoiseSchedule.add_noise(schedule, x_0, t, noise)


def renames_its_module(schedule, x_0, t, noise):
    call = "lambda schedule, *others: schedule.add_noise(*others)"
    return eval(call, {"__name__": "cfd_course.sampling"})(schedule, x_0, t, noise)


@pytest.mark.parametrize(
    "answer",
    [
        calls_the_method,
        calls_by_another_name,
        calls_the_reference,
        calls_for_each,
        calls_what_is_wrapped,
        catches_the_refusal,
        loads_it_again,
        renames_its_module,
    ],
    ids=lambda answer: answer.__name__,
)
def test_calling_the_packages_own_version_earns_nothing(answer, capsys):
    code = NoiseSchedule.add_noise.__code__
    assert lesson_01.add_noise(answer) is NoiseSchedule.add_noise
    assert "this exercise asks you to write it" in capsys.readouterr().out
    assert cfd_course.checks.points(answer) == 0
    assert NoiseSchedule.add_noise.__code__ is code
    assert answer(NoiseSchedule.cosine(10), torch.ones(1, 1), 5, torch.ones(1, 1)).shape == (1, 1)


def test_a_namesake_in_the_package_is_closed_too():
    def through_forward(block, x, embedding):
        return unet.ResidualBlock.forward(block, x, embedding)

    for answer in (through_forward, unet.ResidualBlock.forward):
        assert "asks you to write it" in lesson_03.residual_block.problem(answer)
    assert lesson_03.residual_block.problem(right_answer("lesson_03.residual_block")) is None


def test_other_functions_of_the_package_stay_open():
    """And what they call in turn: NoiseSchedule.posterior may use any other of its methods."""

    def snr(schedule, t):
        one = torch.ones(torch.as_tensor(t).numel(), 1)
        signal = schedule.add_noise(one, torch.as_tensor(t).reshape(-1), 0 * one).double() ** 2
        return (signal / (1 - signal)).reshape(torch.as_tensor(t).shape)

    assert lesson_01.snr.problem(snr) is None


def by_hand(query, key, value):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def _three(seed: int):
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, 4, generator=random).requires_grad_() for _ in range(3))


def by_pytorch(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)


ATTENTION = Exercise(
    reference=by_pytorch,
    cases=[lambda: _three(0), lambda: _three(1)],
    forbids=(F.scaled_dot_product_attention, F.multi_head_attention_forward),
)


def test_what_the_task_forbids_is_refused():
    def through_pytorch(query, key, value):
        return nn.MultiheadAttention(4, 1, batch_first=True)(query, key, value)[0]

    assert ATTENTION.problem(by_hand) is None
    for answer, name in (
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "scaled_dot_product_attention"),
        (through_pytorch, "multi_head_attention_forward"),
    ):
        assert f"It calls {name}, and this" in ATTENTION.problem(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    {
        torch.no_grad()(by_hand): "no gradient reaches the query: it would never learn",
        lambda q, k, v: by_hand(q, k.detach(), v): "no gradient reaches the key",
        lambda q, k, v: (q @ k.mT / 2).softmax(-1).detach() @ v: "no gradient reaches the query",
        lambda q, k, v: by_hand(q, k, v) - v + v.detach(): "that reaches v is another",
        lambda q, k, v: torch.from_numpy(by_hand(q, k, v).detach().numpy()): "no gradient reaches",
    }.items(),
)
def test_gradients_arrive_where_they_should(answer, words):
    def named(query, key, value):
        return answer(query, key, value)

    assert words.replace("reaches v ", "reaches value ") in ATTENTION.problem(named)


def test_where_nothing_learns_no_gradient_is_asked_for():
    """A step of sampling may be written under no_grad, a measure with NumPy."""
    answer = torch.no_grad()(RIGHT_ANSWERS["lesson_04.ddim_step"])
    assert EXERCISES["lesson_04.ddim_step"].problem(answer) is None


def sets(change):
    """A right add_noise that does something else besides."""

    def add_noise(schedule, x_0, t, noise):
        change()
        return right(schedule, x_0, t, noise)

    return add_noise


@pytest.mark.parametrize(
    ("change", "words"),
    {
        lambda: torch.set_grad_enabled(False): "gradients are recorded: False, not True",
        lambda: torch.set_default_dtype(torch.float64): "new numbers are: torch.float64, not",
        lambda: torch.set_num_threads(2): "PyTorch's threads: 2, not 1",
        lambda: torch.manual_seed(5): "sets the seed of torch's random numbers",
        lambda: np.random.seed(0): "sets the seed of numpy's random numbers",
        lambda: random.seed(0): "sets the seed of random's random numbers",
    }.items(),
)
def test_what_an_answer_leaves_behind_is_told_and_put_right(change, words):
    def state():
        return torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()

    before = state()
    assert words in lesson_01.add_noise.problem(sets(change))
    assert state() == before


def test_a_network_left_in_another_mode_is_told():
    def residual_block(block, x, embedding):
        block.eval()
        return RIGHT_ANSWERS["lesson_03.residual_block"](block, x, embedding)

    assert "block.training: False, not True" in lesson_03.residual_block.problem(residual_block)


def test_whatever_the_cells_above_did_the_check_is_the_same():
    answer, waves = (RIGHT_ANSWERS[f"lesson_{n}"] for n in ("02.noise_loss", "03.time_embedding"))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert EXERCISES["lesson_02.noise_loss"].problem(answer) is None
            assert EXERCISES["lesson_03.time_embedding"].problem(waves) is None
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_seed_of_its_own_is_noticed():
    def told(count, drop, generator):
        generator.manual_seed(3)
        return torch.rand(count, generator=generator) >= drop

    assert "whatever the seed" in EXERCISES["lesson_11.told"].problem(told)


def ratio(schedule, t):
    return right_answer("lesson_01.snr")(schedule, t)


def mix(schedule, x_0, t, noise, picture=lambda a: a.sqrt(), rest=lambda a: (1 - a).sqrt()):
    share = schedule.alpha_bars[t].to(x_0.dtype).reshape(-1, *[1] * (x_0.ndim - 1))
    return picture(share) * x_0 + rest(share) * noise


# What a check finds out by itself of mistakes that are on no list.
ASKED = [
    (
        "01.add_noise",
        lambda s, x, t, e: mix(s, x, t, e, rest=lambda a: 1 - a.sqrt()),
        "The weight of x_0 in it is right. In one example noise is weighed by",
    ),
    (
        "01.add_noise",
        lambda s, x, t, e: mix(s, x, t, e).clamp(-1, 1),
        "the right result, clamped to -1..1",
    ),
    (
        "01.add_noise",
        lambda s, x, t, e: 3 * mix(s, x, t, e),
        "What comes back is three times the right result",
    ),
    ("01.add_noise", lambda s, x, t, e: mix(s, x, t, e) + x, "the right result plus x_0"),
    ("01.add_noise", lambda s, x, t, e: x.clone(), "What comes back is x_0 as it came"),
    (
        "01.add_noise",
        lambda s, x, t, e: mix(s, x, t, torch.randn_like(x)),
        "it draws random numbers of its own. With another noise the same comes back",
    ),
    (
        "01.add_noise",
        lambda s, x, t, e: mix(s, x, t, e - e.mean(0)),
        "One example changes the result of another",
    ),
    ("01.snr", lambda s, t: ratio(s, t) ** 2, "What comes back is the square of the right result"),
    ("01.snr", lambda s, t: -ratio(s, t), "What comes back is minus the right result"),
    (
        "02.posterior",
        lambda schedule, x_0, x_t, t, s=None: (
            schedule.posterior(x_0, x_t, t)[0],
            0.9 * schedule.posterior(x_0, x_t, t)[1],
        ),
        "asks you to write it",
    ),
    (
        "02.score",
        lambda m, x, a: right_answer("lesson_02.score")(m, x, a).roll(1, 1),
        "the right result moved by one along dimension 1",
    ),
]


@pytest.mark.parametrize(
    ("name", "answer", "words"), ASKED, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(ASKED)]
)
@pytest.mark.usefixtures("unhurried")
def test_questions_find_what_is_on_no_list(name, answer, words):
    exercise = EXERCISES[f"lesson_{name}"]
    names = list(inspect.signature(exercise.reference).parameters)

    def named(*arguments):
        return answer(*arguments)

    assert len(names) == len(inspect.signature(answer).parameters)
    assert words in exercise.problem(named)


def test_the_clearest_difference_is_shown_with_the_captions_and_lists():
    def word_numbers(captions, vocabulary):
        return [[7] * len(caption.split()) for caption in captions]

    said = EXERCISES["lesson_11.word_numbers"].problem(word_numbers)
    assert "captions = ['a " in said


def test_a_mistake_is_named_beside_sizes_that_do_not_fit():
    """An answer for pictures alone, and mistaken there too: both is said."""

    def add_noise(schedule, x_0, t, noise):
        share = schedule.alpha_bars[t].float().reshape(-1, 1, 1, 1)
        return share * x_0 + (1 - share) * noise

    said = EXERCISES["lesson_01.add_noise"].problem(add_noise)
    assert said.startswith("Two things seem wrong. Its standard deviation at t = 500")
    assert said.endswith("the shape is [5, 1, 5, 2], but [5, 2] was expected.")


def test_the_time_of_an_answer_is_not_spent_on_imports():
    """Whatever is asked of it: PyTorch imports sympy for some of its functions at the first call,
    and that may take longer than an answer has."""
    code = """
import sys
from cfd_course.checks import lesson_01 as check

def add_noise(schedule, x_0, t, noise):
    return x_0.copy_(noise)

(first, *_) = check.add_noise.outcomes(add_noise)
print(first["changed"], "sympy" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "['x_0'] False\n"


def test_the_lesson_of_an_exercise_is_that_of_its_module():
    for name, exercise in EXERCISES.items():
        lesson, exercise_name = name.removeprefix("lesson_").split(".")
        assert cfd_course.checks.record.place(exercise) == (lesson, exercise_name)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_verdict_from_another_process_is_the_same(name):
    """What an answer does travels as data: for a right answer, a wrong one and one that stops."""
    exercise = EXERCISES[name]

    def stops(*arguments):
        raise ValueError("here")

    for answer in (right_answer(name), exercise.mistakes[0][0], stops, lambda *arguments: object()):
        outcomes = exercise.outcomes(answer)
        sent = cfd_course.checks.unseal(cfd_course.checks.seal(outcomes))
        here, there = exercise.verdict(outcomes), exercise.verdict(sent)
        assert (here is None) == (there is None)
        assert here is None or here.split(" object at ")[0] == there.split(" object at ")[0]


def test_outcomes_that_were_tampered_with_are_not_right():
    exercise = lesson_01.snr
    for forged in ([], [{}], [{"result": None}] * 3, "right", [{"result": 1.0, "changed": []}] * 9):
        assert exercise.verdict(forged) is not None


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """A learner's folder, in which a notebook runs."""
    monkeypatch.chdir(tmp_path)
    cfd_course.checks.save_solved({})
    return tmp_path / "progress.json"


def test_what_is_solved_is_put_down(learner):
    lesson_01.snr(right_answer("lesson_01.snr"))
    lesson_01.add_noise(unknown)
    assert list(json.loads(learner.read_text())["01"]) == ["snr"]
    assert [file.name for file in learner.parent.iterdir()] == ["progress.json"]
    learner.unlink()
    lesson_01.snr(right_answer("lesson_01.snr"))
    assert not learner.exists()  # only a learner's folder has a record


@pytest.mark.parametrize("text", ["{", "[]", '{"01": ["snr"]}', '{"01": {"snr": 5}}', "\udcff"])
def test_a_damaged_record_is_set_aside(learner, text, capsys):
    learner.write_bytes(text.encode("utf-8", "surrogateescape"))
    lesson_01.snr(right_answer("lesson_01.snr"))
    assert "progress.json was damaged" in capsys.readouterr().out
    assert list(json.loads(learner.read_text())["01"]) == ["snr"]
    aside = learner.with_name("progress.damaged.json")
    assert aside.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_crash_while_it_is_written_leaves_the_record(learner, monkeypatch):
    lesson_01.snr(right_answer("lesson_01.snr"))
    before = learner.read_text()

    def crash(*names):
        raise OSError("the machine was switched off")

    monkeypatch.setattr(cfd_course.checks.record.os, "replace", crash)
    answer = right_answer("lesson_01.predict_x0")
    assert lesson_01.predict_x0(answer) is answer
    assert learner.read_text() == before
