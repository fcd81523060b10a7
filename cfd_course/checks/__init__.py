"""What an exercise's answer must do, and the words for each known mistake; one file a lesson.

In a notebook: `add_noise = check.add_noise(add_noise)`, then `check.points(add_noise)`.

exercise.py: an exercise, what an answer does in its cases, and the verdict on that. comparing.py:
how two results differ, in words. sandbox.py: where an answer runs. record.py: what is solved.
"""

from .comparing import difference as _difference
from .exercise import Exercise, hand_in, seal, unseal
from .record import points, save_solved, solved, worth
from .sandbox import GIGABYTES, SECONDS, NotYet, begin

__all__ = [
    "GIGABYTES",
    "SECONDS",
    "Exercise",
    "NotYet",
    "_difference",
    "begin",
    "hand_in",
    "points",
    "save_solved",
    "seal",
    "solved",
    "unseal",
    "worth",
]
