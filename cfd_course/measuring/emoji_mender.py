"""Of mended emoji: how far they are from the real ones, and what the judge reads in them."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.emoji import HANDS, emoji
from ..datasets.holes import box_holes
from ..guidance import guide
from ..pictures import biharmonic_fill
from ..pipelines import load, start_noise
from ..pipelines.emoji_judge import labels
from ..pipelines.emoji_mender import SIZE
from ..sampling import last, repaint
from .common import SAMPLES, Part, decibels, mean, share

COUNT = 60  # held-out pictures
FACES = (
    "crying-face",
    "smiling-face-with-sunglasses",
    "angry-face",
    "winking-face",
    "sleeping-face",
    "face-with-medical-mask",
    "smiling-face-with-heart-eyes",
    "grinning-face",
)


def parts(data: Path | None, model: str = "emoji-mender", count: int = COUNT) -> Iterator[Part]:
    """Held-out pairs of name and hand with a quarter hidden, a box of half the height and width at
    a random place; filled without words, and with the name and the hand. And faces, all of whose
    features are hidden, filled with what another face is called."""
    pictures, names, hands = emoji("pairs", SIZE)
    source = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(names), generator=source)[:count].tolist()
    real = pictures[rows] / 127.5 - 1
    said = [names[row].replace("-", " ") for row in rows]
    by = [HANDS[hands[row]] for row in rows]
    hole = box_holes(COUNT, SIZE, SIZE // 2, source)[: len(rows)]
    judge = load("emoji-judge")

    def named(drawn: Tensor, wanted: Sequence[str]) -> dict:
        return share(judge(drawn)[0].argmax(1) == labels(wanted)[0])

    def read(drawn: Tensor) -> dict:
        return named(drawn, [names[row] for row in rows])

    def smooth() -> dict:
        filled = biharmonic_fill(real, hole).clamp(-1, 1)
        return {"decibels": decibels(filled, real, hole), **read(filled)}

    def measure(words, hand) -> dict:
        mender = load(model)
        samples = [mender.fill(real, hole, words, hand, seed=1000 * n) for n in range(SAMPLES)]
        means = decibels(sum(samples) / SAMPLES, real, hole)
        return {"decibels": decibels(samples[0], real, hole), "of mean": means, **read(samples[0])}

    def repainted() -> dict:
        """By the drawing network, which was never told of holes, with as many calls."""
        artist = load("emoji")
        steps = repaint(
            guide(artist.network),
            artist.schedule,
            start_noise(len(real), (3, SIZE, SIZE)),
            real,
            hole,
            40,
            40,
            1,
            generator=torch.Generator().manual_seed(0),
        )
        filled = last(steps).clamp(-1, 1)
        return {"decibels": decibels(filled, real, hole), **read(filled)}

    def other_words() -> dict:
        seen, known, whose = emoji("train", SIZE)
        pairs = [
            (row, face)
            for row, name in enumerate(known)
            if name == "smiling-face"
            for face in FACES
        ]
        faces = seen[[row for row, _ in pairs]] / 127.5 - 1
        away = torch.zeros(len(pairs), 1, SIZE, SIZE, dtype=torch.bool)
        away[:, :, 8:30, 3:29] = True
        asked = [face for _, face in pairs]
        filled = load(model).fill(
            faces,
            away,
            [face.replace("-", " ") for face in asked],
            [HANDS[whose[row]] for row, _ in pairs],
        )
        return named(filled, asked)

    yield "whole", lambda: read(real)
    yield "biharmonic", smooth
    yield "no words", partial(measure, "", None)
    yield "words", partial(measure, said, by)
    yield "RePaint", repainted
    yield "other words", other_words


def summary(found: dict) -> dict:
    plain_ones = found["biharmonic"]["decibels"]

    def row(name: str) -> dict:
        each = found[name]
        better = {
            f"gain_{kind}": mean([a - b for a, b in zip(each[key], plain_ones, strict=True)])
            for kind, key in (("of_one", "decibels"), ("of_mean", "of mean"))
            if key in each and name != "biharmonic"
        }
        counts = {key: each[key] for key in ("right", "of", "interval", "each")}
        return {"name": name, "first": each["decibels"][0], **better, **counts}

    return {
        "whole": found["whole"],
        "biharmonic": mean(plain_ones),
        "rows": [row(name) for name in ("biharmonic", "no words", "words", "RePaint")],
        "other_words": found["other words"],
    }
