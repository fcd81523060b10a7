"""Which exercises are solved: in this kernel, and in the learner's folder."""

import datetime
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..files import replacing

PROGRESS = "progress.json"  # in the learner's folder


_right: list[tuple[object, int]] = []  # the answers found right in this kernel, with their points


def note_right(answer, count: int) -> None:
    """Put it down as right in this kernel."""
    _right.append((answer, count))


def points(answer) -> float:
    """The points that the answer earned: 0 unless its check found it right in this kernel."""
    earned = max((count for right, count in _right if right is answer), default=0)
    return float(earned) if earned else NoPoints(answer)


class NoPoints(float):
    """0 points. A notebook shows words; nbgrader reads the plain text, which stays a number."""

    def __new__(cls, answer):
        self = super().__new__(cls, 0.0)
        most = [each.points for _, _, each in _exercises() if each.reference is answer]
        # A check that failed has returned the reference.
        self.words = f"0 of {worth(most[0])} yet" if most else "0 points yet: run its check first"
        return self

    def _repr_html_(self) -> str:
        return self.words


def solved(folder: str | Path = ".") -> dict[str, dict[str, str]]:
    """The exercises that were solved in this folder: {lesson: {exercise: date}}. A damaged record
    is set aside, and a new one begun."""
    path = Path(folder, PROGRESS)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for lesson in found.values():
            for date in lesson.values():
                datetime.date.fromisoformat(date)
        return found
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        aside = path.with_suffix(".damaged.json")
        os.replace(path, aside)
        save_solved({}, folder)
        print(f"{path} was damaged. It is set aside as {aside}, and a new record begins.")
        return {}


def save_solved(found: dict, folder: str | Path = ".") -> None:
    """Replace the record of solved exercises, all at once: a crash leaves the old one."""
    with replacing(Path(folder, PROGRESS)) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def note_solved(exercise) -> None:
    """Put it down as solved; only where there is a record, that is, in a learner's folder."""
    lesson, name = place(exercise)
    if name is None or not Path(PROGRESS).exists():
        return
    try:
        found = solved()
        found.setdefault(lesson, {}).setdefault(name, str(datetime.date.today()))
        save_solved(found)
    except OSError as error:
        print(f"It could not be put down as solved: {error}")


def place(exercise) -> tuple[str | None, str | None]:
    """The lesson's number and the exercise's name there."""
    places = ((lesson, name) for lesson, name, each in _exercises() if each is exercise)
    return next(places, (None, None))


def _exercises() -> Iterator[tuple[str, str, object]]:
    """The lesson's number, name and exercise of all that are loaded."""
    for module, contents in list(sys.modules.items()):
        if module.startswith(f"{__package__}.lesson_"):
            for name, value in list(vars(contents).items()):
                if hasattr(value, "reference"):
                    yield module.rpartition("_")[2], name, value


def worth(count: int) -> str:
    """So many points, in words."""
    return "1 point" if count == 1 else f"{count} points"
