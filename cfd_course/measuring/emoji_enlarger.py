"""Of enlarged emoji: how far they are from the real ones."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ..datasets.emoji import emoji
from ..pictures import bicubic, shrink, stored
from ..pipelines import load
from .common import SAMPLES, Part, decibels, mean

COUNT = 100  # held-out pictures
ROUTES = ("emoji-enlarger", "emoji-enlarger-levels", "emoji-enlarger-attention")


def parts(data: Path | None, count: int = COUNT) -> Iterator[Part]:
    """Emoji of names that training never showed, at 16 pixels, enlarged to 64: bicubic, and 8
    samples of each route. Peak signal to noise in dB, over all colours."""
    pictures, names, _ = emoji("names")
    rows = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[:count]
    real = pictures[rows] / 127.5 - 1
    low = stored(shrink(real))

    def plain() -> dict:
        return {"bicubic": decibels(bicubic(low), real)}

    def measure(name: str) -> dict:
        enlarger = load(name)
        # The seeds of one call differ by 1 from picture to picture.
        samples = [enlarger.enlarge(low, seed=1000 * number) for number in range(SAMPLES)]
        return {"one": decibels(samples[0], real), "mean": decibels(sum(samples) / SAMPLES, real)}

    yield "bicubic", plain
    for name in ROUTES:
        yield name, partial(measure, name)


def summary(found: dict) -> dict:
    """Beside each route, how much better it is than bicubic, with the paired 95% interval."""
    coarse = found["bicubic"]["bicubic"]

    def gain(each: list[float]) -> dict:
        return mean([a - b for a, b in zip(each, coarse, strict=True)])

    return {
        "pictures": len(coarse),
        "bicubic": mean(coarse),
        "rows": [
            {
                "name": name,
                "one": mean(found[name]["one"]),
                "gain_of_one": gain(found[name]["one"]),
                "gain_of_mean": gain(found[name]["mean"]),
                "first": [found[name]["one"][0], found[name]["mean"][0]],
            }
            for name in ROUTES
        ],
    }
