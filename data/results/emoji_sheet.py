"""Can one tell drawn emoji from real ones? A sheet of 20 real and 20 drawn held-out pairs of name
and hand, at 32x32, shuffled, nothing picked by eye.

    python data/results/emoji_sheet.py                # writes docs/emoji_sheet.png
    python data/results/emoji_sheet.py "2 5 11 ..."   # the numbers that look drawn to you

The second command says how many of the 40 you told rightly, and writes your answer and the key into
emoji-sheet.json beside itself. Look at the sheet before you look there.
"""

import json
import sys
from pathlib import Path

import numpy as np

from cfd_course import figures
from cfd_course.datasets.emoji import HANDS, emoji
from cfd_course.metrics import proportion_interval
from cfd_course.pipelines import load

HERE = Path(__file__).parent
SHEET = HERE.parent.parent / "docs" / "emoji_sheet.png"
COUNT, SEED, SCALE = 40, 2, 2.0

pictures, names, hands = emoji("pairs", 32)
random = np.random.default_rng(SEED)
rows = random.permutation(len(names))[:COUNT]
drawn = set(random.permutation(COUNT)[: COUNT // 2].tolist())


def sheet() -> None:
    """The pictures, numbered from 1."""
    shown = pictures[rows] / 127.5 - 1
    asked = [rows[index] for index in sorted(drawn)]
    shown[sorted(drawn)] = load("emoji").draw(
        [names[row].replace("-", " ") for row in asked],
        SCALE,
        seed=1000,
        hand=[HANDS[hands[row]] for row in asked],
    )
    labels = [str(number) for number in range(1, COUNT + 1)]
    title = "Which twenty are drawn by the network?"
    figure = figures.pictures(shown, title=title, columns=8, labels=labels, size=1)
    figure.savefig(SHEET, dpi=150, bbox_inches="tight")


def judged(said: set[int]) -> None:
    """What somebody took for drawn, against the key."""
    if not said <= set(range(1, COUNT + 1)):
        raise SystemExit(f"The numbers should be from 1 to {COUNT}, but {sorted(said)} came.")
    right = sum((number in said) == (number - 1 in drawn) for number in range(1, COUNT + 1))
    low, high = proportion_interval(right, COUNT)
    found = {
        "right": right,
        "of": COUNT,
        "interval": [round(low, 3), round(high, 3)],
        "said_drawn": sorted(said),
        "drawn": [index + 1 for index in sorted(drawn)],
    }
    (HERE / "emoji-sheet.json").write_text(json.dumps(found) + "\n")
    print(f"{right} of {COUNT} told rightly ({low:.0%} to {high:.0%}; a coin tells half)")


if sys.argv[1:]:
    judged({int(number) for number in sys.argv[1].split()})
else:
    sheet()
