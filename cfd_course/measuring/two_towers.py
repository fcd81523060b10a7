"""Emoji by way of embeddings: whether the towers find names, and what a prior does to fidelity and
diversity over guidance scales. Ramesh et al., "unCLIP" (2022), sections 5.1 and 5.3, in
miniature."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.emoji import emoji, names_of
from ..metrics import spread
from ..pipelines import Artist, load
from ..pipelines.emoji import told
from ..pipelines.emoji_judge import labels
from .common import Part, share
from .digit_classifier import interval

SCALES = (1, 2, 4, 6)  # of the decoder; that of the prior is fixed
PRIOR_SCALE = 2.0
WAYS = ("words", "text", "prior")  # what the same U-Net is told
EACH, STEPS = 4, 10  # pictures of a name; steps of the sampler


def parts(data: Path | None, count: int = 80) -> Iterator[Part]:
    """Of held-out pictures, whether their own name is the nearest text. Of `count` drawn ones, EACH
    of some names of the training split, seeds 0, 1, 2, ..., whether the judge reads the name, and
    how different they are within a name, by its features; told the words (and no hand), the text's
    embedding as if it were a picture's, or what the prior makes of it."""
    towers, judge, decoder = load("emoji-towers"), load("emoji-judge"), load("emoji-decoder")
    known = names_of("train")
    chosen = np.random.default_rng(0).permutation(len(known))[: count // EACH]
    names = [known[row] for row in chosen for _ in range(EACH)]
    asked = [name.replace("-", " ") for name in names]
    label, _ = labels(names)

    def retrieval(split: str) -> dict:
        pictures, names, _ = emoji(split, 32)
        wanted, _ = labels(names)
        z_t = towers.of_texts([name.replace("-", " ") for name in names_of()])
        likeness = towers.of_pictures(pictures / 127.5 - 1) @ z_t.T
        away = torch.tensor([name not in names_of(split) for name in names_of()])
        among = likeness.masked_fill(away, -1)  # only the names of this split
        five = (likeness.topk(5, dim=1).indices == wanted[:, None]).any(1)
        return {
            "among_all": share(likeness.argmax(1) == wanted),
            "in_first_five": share(five),
            "among_own": {**share(among.argmax(1) == wanted), "names": int((~away).sum())},
        }

    def draw(way: str, scale: float) -> Tensor:
        artist, said = decoder, towers.of_texts(asked)
        if way == "words":
            writer = load("emoji")
            untold = lambda captions: told(captions, [None] * len(captions))  # noqa: E731
            artist = Artist(writer.network, writer.schedule, untold, writer.shape)
            said = asked
        if way == "prior":
            said = load("emoji-prior").draw(said, PRIOR_SCALE)
        rows = range(0, count, 40)
        return torch.cat([artist.draw(said[r : r + 40], scale, STEPS, r) for r in rows])

    def drawn(way: str, scale: float) -> dict:
        pictures = draw(way, scale).clamp(-1, 1)
        labelled = torch.cat([judge.features(pictures), label[:, None]], dim=1)
        right = share(judge(pictures)[0].argmax(1) == label)
        different = interval(lambda x: spread(x[:, :-1], x[:, -1].long()), labelled)
        return {"way": way, "scale": scale, **right, "spread": different}

    for split in ("pairs", "names"):
        yield f"retrieval {split}", partial(retrieval, split)
    for way in WAYS:
        for scale in SCALES:
            yield f"{way} {scale}", partial(drawn, way, scale)


def summary(found: dict) -> dict:
    return {
        "steps": STEPS,
        "pictures_of_a_name": EACH,
        "prior_scale": PRIOR_SCALE,
        "retrieval": {split: found[f"retrieval {split}"] for split in ("pairs", "names")},
        "rows": [row for key, row in found.items() if not key.startswith("retrieval")],
    }
