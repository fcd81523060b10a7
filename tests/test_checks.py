"""The exercises' checks: a right answer passes, every known mistake gets its own words, and
whatever else a learner writes, the notebook goes on."""

import importlib
import pkgutil
import time

import pytest
import torch

import cfd_course.checks
from cfd_course import NoiseSchedule
from cfd_course.checks import Exercise, lesson_01

LESSONS = [
    importlib.import_module(f"cfd_course.checks.{module.name}")
    for module in pkgutil.iter_modules(cfd_course.checks.__path__)
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


def test_a_right_answer_passes_and_earns_its_points(exercise, capsys):
    def answer(*arguments):
        return exercise.reference(*arguments)

    assert cfd_course.checks.points(answer) == 0
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


def test_an_untouched_stub_is_told_to_begin(exercise, capsys):
    def stub(*arguments): ...

    assert exercise(stub) is exercise.reference
    assert "not yet" in capsys.readouterr().out


def test_the_courses_own_function_earns_nothing(exercise, capsys):
    assert exercise(exercise.reference) is exercise.reference
    assert "own function" in capsys.readouterr().out
    assert cfd_course.checks.points(exercise.reference) == 0


def raises(schedule, x_0, t, noise):
    return x_0 @ undefined_name  # noqa: F821


def takes_others(x_0, t):
    return x_0


def nan(schedule, x_0, t, noise):
    return x_0 * torch.nan


def wrong_shape(schedule, x_0, t, noise):
    return NoiseSchedule.add_noise(schedule, x_0, t, noise)[0]


def wrong_kind(schedule, x_0, t, noise):
    return NoiseSchedule.add_noise(schedule, x_0, t, noise).long()


def a_list(schedule, x_0, t, noise):
    return NoiseSchedule.add_noise(schedule, x_0, t, noise).tolist()


def in_place(schedule, x_0, t, noise):
    x_t = NoiseSchedule.add_noise(schedule, x_0, t, noise)
    return x_0.copy_(x_t)


def needs_a_gpu(schedule, x_0, t, noise):
    return x_0.to("cuda:99")


def unknown(schedule, x_0, t, noise):
    return NoiseSchedule.add_noise(schedule, x_0, t, noise) + 0.25


HOSTILE = {
    raises: "undefined_name",
    takes_others: "TypeError",
    nan: "NaN",
    wrong_shape: "the shape is [1, 4, 4], but [3, 1, 4, 4] was expected",
    wrong_kind: "int64 tensor",
    a_list: "list",
    in_place: "x_0 in place",
    needs_a_gpu: "at `return x_0.to(",
    unknown: "at [0, 0, 0, 0]",
}


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer.__name__)
def test_whatever_a_learner_writes_gets_a_clear_message(answer, capsys):
    assert lesson_01.add_noise(answer) is NoiseSchedule.add_noise
    said = capsys.readouterr().out
    assert "not yet" in said and HOSTILE[answer] in said


def test_something_that_is_no_function_is_named(capsys):
    assert lesson_01.add_noise(torch.zeros(3)) is NoiseSchedule.add_noise
    assert "float32 tensor of shape [3]" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["busy", "sleeping"])
def test_an_endless_answer_is_cut(body, capsys, monkeypatch):
    monkeypatch.setattr(cfd_course.checks, "SECONDS", 0.2)

    def endless(schedule, x_0, t, noise):
        while True:
            if body == "sleeping":
                time.sleep(0.01)

    assert lesson_01.add_noise(endless) is NoiseSchedule.add_noise
    assert "did not finish" in capsys.readouterr().out


def test_what_an_answer_prints_is_left_out_and_randomness_is_left_alone(capsys):
    def chatty(schedule, x_0, t, noise):
        print("x" * 1_000_000)
        torch.manual_seed(5)
        return NoiseSchedule.add_noise(schedule, x_0, t, noise)

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert lesson_01.add_noise(chatty) is chatty
    assert len(capsys.readouterr().out) < 300
    assert torch.equal(torch.rand(1), expected)
