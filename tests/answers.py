"""Answers to the exercises, written as edits of the notebook's own solution: wrong_answers.txt, as
a teacher of many beginners meets them, and right_answers.txt, as unusual as right ones come.

Below the [exercise] a line is an answer: `old => new` puts the new text for the old one wherever
that stands in the solution; several such edits have `;;` between them. With nothing before the
arrow, the new text is the whole body. A word in capitals stands for a decorator. What follows
` ## ` are words that the check must say of the answer.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from cfd_course.classroom import lessons

DECORATORS = {"NO_GRAD": "@torch.no_grad()", "INFERENCE": "@torch.inference_mode()"}


def answers(file: str) -> dict[str, list[str]]:
    """The lines of the file, for each exercise."""
    found = {}
    for line in Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\d\d\.\w+\]", line):
            found[line[1:-1]] = lines = []
        elif line:
            lines.append(line)
    return found


def solution(name: str) -> str:
    """The cell of the notebook that answers the exercise, "01.add_noise" say."""
    lesson, function = name.split(".")
    path = next(path for path in lessons() if path.stem.startswith(lesson))
    return next(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if f"def {function}(" in cell.source and "### BEGIN SOLUTION" in cell.source
    )


def edited(name: str, lines: list[str], names: dict) -> Iterator[tuple[str, object, str]]:
    """(line, function, words) of each answer; names: what the solution uses of its notebook."""
    source = solution(name)
    for line in lines:
        edits, _, words = line.partition(" ## ")
        code = source
        for edit in edits.split(" ;; "):
            code = _edit(code, *(part.strip() for part in edit.partition("=>")))
        scope = dict(names)
        exec(code, scope)
        yield line, scope[name.partition(".")[2]], words


def _edit(code: str, old: str, arrow: str, new: str) -> str:
    old, new = (text.replace(r"\n", "\n") for text in (old, new))
    if not arrow:
        return f"{DECORATORS[old]}\n{code}"
    if not old:
        head, _, tail = code.partition("### BEGIN SOLUTION")
        return head + new + tail[tail.index("### END SOLUTION") :]
    assert old in code, f"the solution has no {old!r}"
    return code.replace(old, new)
