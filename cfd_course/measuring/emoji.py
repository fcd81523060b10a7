"""Of the drawn emoji: whether the judge reads in them what was asked."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets import data_path
from ..datasets.emoji import HANDS, emoji, names_of
from ..pipelines import load
from ..pipelines.emoji_judge import labels
from .common import Part, share

SCALES = (1, 2, 3, 4, 6)
FEW = 200  # captions of training pairs, to choose the scale with
HELD_OUT = ("pairs", "names", "family")


def phrases() -> list[tuple[str, list[str]]]:
    """What people might ask for in their own words, and the names that would be right."""
    lines = data_path("emoji/phrases.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(": ") for line in lines if line and not line.startswith("#"))
    return [(phrase, names.split(", ")) for phrase, names in pairs]


def parts(data: Path | None, model: str = "emoji", count: int | None = None) -> Iterator[Part]:
    """The held-out pictures, real and drawn at each scale in 20 steps; 300 phrases that no caption
    holds; and, to choose the scale, captions of the training split. count: of each, all if None."""
    artist, judge = load(model), load("emoji-judge")

    def drawn(captions: Sequence[str], hands: Sequence[str], scale: float, seed: int) -> Tensor:
        rows = range(0, len(captions), 50)
        drawn = [
            artist.draw(captions[r : r + 50], scale, seed=seed + r, hand=hands[r : r + 50])
            for r in rows
        ]
        return torch.cat(drawn).clamp(-1, 1)

    def read(pictures: Tensor, names: list[str], hands: Tensor) -> dict:
        wanted, tones = labels(names)
        found = [logits.argmax(1) for logits in judge(pictures)]
        right = (found[0] == wanted) & (found[2] == tones)
        return {**share(right), "hands": share(found[1] == hands)["right"]}

    def some(split: str) -> tuple[Tensor, list[str], Tensor]:
        pictures, names, hands = emoji(split, 32)
        rows = np.random.default_rng(1).permutation(len(names))
        rows = rows[: FEW if split == "train" else count]
        return pictures[rows] / 127.5 - 1, [names[row] for row in rows], hands[rows]

    def real(split: str) -> dict:
        return read(*some(split))

    def asked(split: str, scale: float, seed: int) -> dict:
        _, names, hands = some(split)
        captions = [name.replace("-", " ") for name in names]
        pictures = drawn(captions, [HANDS[hand] for hand in hands], scale, seed)
        return {"scale": scale, **read(pictures, names, hands), "nearest": nearest(pictures)}

    def nearest(pictures: Tensor) -> float:
        """The median distance to the nearest training picture, root mean square a pixel."""
        seen = emoji("train", 32).pictures.flatten(1) / 127.5 - 1
        distances = torch.cdist(pictures.flatten(1), seen).amin(1)
        return round(float(distances.median()) / seen.shape[1] ** 0.5, 4)

    def own_words(scale: float) -> dict:
        chosen = phrases()[:count]
        hands = [HANDS[row % len(HANDS)] for row in range(len(chosen))]
        pictures = drawn([phrase for phrase, _ in chosen], hands, scale, 2_000_000)
        first = judge(pictures)[0].topk(5, dim=1).indices.tolist()
        named = [{names_of()[name] for name in row} for row in first]
        right = [bool(row & set(names)) for row, (_, names) in zip(named, chosen, strict=True)]
        return {"scale": scale, **share(torch.tensor(right))}

    for split in HELD_OUT:
        yield f"real {split}", partial(real, split)
    for scale in SCALES:
        yield f"choose {scale}", partial(asked, "train", scale, 1_000_000)
    for split in HELD_OUT:
        for scale in SCALES:
            yield f"{split} {scale}", partial(asked, split, scale, 0)
    for scale in SCALES:
        yield f"phrases {scale}", partial(own_words, scale)


def summary(found: dict) -> dict:
    best = max(SCALES, key=lambda scale: found[f"choose {scale}"]["right"])
    return {
        "best_scale": best,
        "steps": 20,
        "chosen_on_training_pairs": [found[f"choose {scale}"] for scale in SCALES],
        "real": {split: found[f"real {split}"] for split in HELD_OUT},
        **{split: [found[f"{split} {scale}"] for scale in SCALES] for split in HELD_OUT},
        "phrases": [found[f"phrases {scale}"] for scale in SCALES],
    }
