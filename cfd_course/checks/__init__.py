"""What an exercise's answer must do, and the words for each known mistake; one file a lesson.

In a notebook: `add_noise = check.add_noise(add_noise)`, then `check.points(add_noise)`.

exercise.py: an exercise, and the two steps of a check, which may happen in two processes: what an
answer does, as data (`outcomes`), and what is wrong with that (`verdict`). observing.py: what a
function does, as plain data. comparing.py: how two results differ, in words. questions.py: what
else is asked of a wrong answer. sandbox.py: where an answer runs. record.py: what is solved.
"""

from .comparing import difference as _difference
from .exercise import Exercise
from .observing import seal, unseal
from .record import points, save_solved, solved, worth
from .sandbox import GIGABYTES, SECONDS, NotYet

__all__ = [
    "GIGABYTES",
    "SECONDS",
    "Exercise",
    "NotYet",
    "_difference",
    "points",
    "save_solved",
    "seal",
    "solved",
    "unseal",
    "worth",
]
