"""Of the drawn captions: whether the pictures show what was asked."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.shapes import COLOUR_OF, SHAPE_OF, SIZE_OF, canonical, parse, sample_scenes
from ..metrics import UNREADABLE, read_captions, read_scenes, shows
from ..pipelines import load
from .common import Part, share

SCALES = (0, 1, 1.5, 2, 3, 4, 6, 8)
BINDING_SCALES = (0, 1, 2, 3, 4)


def parts(data: Path | None, model: str = "text-to-image", count: int = 500) -> Iterator[Part]:
    """`count` two-object captions of held-out pairs at each scale, 20 steps, read by the caption
    reader; the scales are also compared on 150 other captions of training pairs, to choose."""
    artist = load(model)

    def captions(split: str, number: int, seed: int) -> list[str]:
        return sample_scenes(number, torch.Generator().manual_seed(seed), split).captions()

    def drawn(asked: list[str], scale: float, seed: int) -> Tensor:
        rows = range(0, len(asked), 100)
        parts = [artist.draw(asked[row : row + 100], scale, seed=seed + row) for row in rows]
        return torch.cat(parts).clamp(-1, 1)

    def measure(split: str, number: int, scale: float, seed: int) -> dict:
        asked = captions(split, number, seed)
        pictures = drawn(asked, scale, seed)
        return {"scale": scale, **share(shows(pictures, asked)), **attributes(pictures, asked)}

    def positions() -> dict:
        """The variance of the objects' places over 64 seeds at scale 1, as a share of the data's;
        over pictures that show what was asked."""
        asked = captions("train", 8, 4_000_000)
        ratios = []
        for caption in asked:
            pictures = drawn([caption] * 64, 1, 0)
            right = shows(pictures, [caption] * 64)
            if int(right.sum()) < 8:
                continue
            data_scenes = parse([caption] * 1000, torch.Generator().manual_seed(0))
            own, real = (read_scenes(p).centres for p in (pictures[right], data_scenes.draw()))
            kept = 1 if " a " not in caption[2:] else 2
            ratios.append(
                math.sqrt(
                    float(own[:, :kept].var(dim=0).sum()) / float(real[:, :kept].var(dim=0).sum())
                )
            )
        return {
            "captions": len(ratios),
            "of": len(asked),
            "ratio": round(float(np.mean(ratios)), 3),
        }

    yield "positions", positions
    for scale in SCALES:
        yield f"choose {scale}", partial(measure, "train", 150, scale, 3_000_000)
    for scale in SCALES:
        yield f"held-out pairs {scale}", partial(measure, "held-out pairs", count, scale, 0)
    for scale in BINDING_SCALES:
        yield f"held-out bindings {scale}", partial(measure, "held-out bindings", 200, scale, 0)


def attributes(pictures: Tensor, asked: list[str]) -> dict:
    """In how many pictures each kind of attribute is right, for every object of the caption, as
    far as the pictures can be read."""
    # What is read knows only "left of" and "above".
    read, wanted = read_scenes(pictures), parse([canonical(caption) for caption in asked])
    objects = wanted.objects
    pairs = (objects >= 0).all(1)
    counts = {"unreadable": read_captions(pictures).count(UNREADABLE)}
    same_number = (objects >= 0) == (read.objects >= 0)
    for name, of in (("size", SIZE_OF), ("colour", COLOUR_OF), ("shape", SHAPE_OF)):
        same = (of[objects] == of[read.objects]) | (objects < 0)
        counts[name] = int((same & same_number).all(1).sum())
    counts["relation"] = int(((wanted.relations == read.relations) | ~pairs).sum())
    return counts


def summary(found: dict) -> dict:
    best = max(SCALES, key=lambda scale: found[f"choose {scale}"]["right"])
    return {
        "best_scale": best,
        "steps": 20,
        "positions": found["positions"],
        "chosen_on_training_pairs": [found[f"choose {scale}"] for scale in SCALES],
        "rows": [found[f"held-out pairs {scale}"] for scale in SCALES],
        "bindings": [found[f"held-out bindings {scale}"] for scale in BINDING_SCALES],
    }
