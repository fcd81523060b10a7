"""Wrong and right answers to the exercises, by the dozen: no wrong one is ever accepted, no right
one ever refused."""

import numpy as np
import pytest

from .answers import answers, edited
from .test_checks import EXERCISES, solutions

WRONG, RIGHT = answers("wrong_answers.txt"), answers("right_answers.txt")


def functions(name: str, lines: list[str]):
    return edited(name, lines, {**solutions(name[:2]), "np": np})


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_answer_is_accepted(name):
    exercise = EXERCISES[f"lesson_{name}"]
    for line, answer, words in functions(name, WRONG[name]):
        if not words:
            assert exercise.problem(answer) is not None, line


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.usefixtures("unhurried")
def test_of_some_wrong_answers_it_is_said_what_is_wrong(name):
    exercise = EXERCISES[f"lesson_{name}"]
    for line, answer, words in functions(name, WRONG[name]):
        if words:
            said = exercise.problem(answer)
            assert said is not None and words in said, f"{line}\n{said}"


@pytest.mark.parametrize("name", RIGHT)
def test_no_right_answer_is_refused(name):
    exercise = EXERCISES[f"lesson_{name}"]
    for line, answer, _ in functions(name, RIGHT[name]):
        said = exercise.problem(answer)
        assert said is None, f"{line}\n{said}"
