"""Emoji, drawn from anybody's own words in one of five hands."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from .. import expect
from ..conditions import Condition
from ..datasets.emoji import HANDS, TONE, Emoji, emoji, emoji_words, plain, spell_out
from ..words import WordEncoder, word_pieces
from .drawing import Artist, build_schedule, build_unet

SIZE = 32  # pixels
RECIPES = {
    "emoji": {
        "network": {
            "channels": [64, 128, 192],
            "attention": [1, 2],
            "patch": 2,
            "token_channels": 192,
        },
        "velocity": True,
        "target": "velocity",
        "schedule_steps": 1000,
        "batch": 48,
        "learning_rate": 1e-3,
        "drop": 0.1,
        "decay": 0.9995,
        "steps": 60_000,
    }
}
# A person in five skin tones is five pictures, but hardly more to learn than one.
TONED = 0.3
# A name that holds one of these changes its meaning in a mirror.
SIDED = set(
    "left right leftwards rightwards oclock thirty letter book books calendar new ok hundred abc "
    "japanese newspaper dollar euro pound yen".split()
)
OPENINGS = ("a", "the", "my", "an", "some", "a picture of a")


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    return build_unet(
        recipe, token_encoder=WordEncoder(recipe["network"]["token_channels"], len(HANDS))
    )


def emoji_condition(captions: Sequence[str], hand: str | Sequence[str] = HANDS[0]) -> Condition:
    """The condition "draw this", in one of HANDS or in one for each of the captions: the hand's
    number stands before the words. An emoji in a caption stands for its name."""
    hands = [hand] * len(captions) if isinstance(hand, str) else hand
    for each in hands:
        wanted = f"be one of {', '.join(HANDS)}"
        expect.that(each in HANDS, "hand", wanted, expect.describe(each))
    return word_pieces([*map(spell_out, captions)], [(HANDS.index(h) + 1,) for h in hands])


def batches(recipe: dict, data: Path | None):
    """The emoji of the training split in random order, with ever new captions."""
    drawn = emoji("train", SIZE)
    weights = [TONED if TONE.search(name) else 1.0 for name in drawn.names]
    return DataLoader(
        range(len(drawn.names)),
        recipe["batch"],
        sampler=WeightedRandomSampler(weights, len(weights)),
        drop_last=True,
        collate_fn=partial(_rows, drawn),
    )


def _rows(drawn: Emoji, numbers: list[int]) -> tuple[Tensor, Condition]:
    names = [drawn.names[number] for number in numbers]
    pictures = drawn.pictures[numbers] / 127.5 - 1
    even = torch.tensor([not SIDED & set(name.split("-")) for name in names])
    mirrored = even & (torch.rand(len(names)) < 0.3)
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)
    hands = [HANDS[number] for number in drawn.hands[numbers]]
    return pictures, emoji_condition([*map(_caption, names)], hands)


def _caption(name: str) -> str:
    """A name's own words; or, for three in ten, some of its keywords, so that the network learns
    what to make of words in no name and in no order."""
    words = name.replace("-", " ")
    keywords = emoji_words()["keywords"].get(plain(name), [])
    kind = float(torch.rand(()))
    if keywords and kind < 0.3:
        picked = [keywords[i] for i in torch.randperm(len(keywords))[: 1 + _below(3)]]
        if tone := TONE.search(name):
            picked.append(tone[0][1:].replace("-", " "))
        if kind < 0.15:
            picked.insert(_below(2), plain(name).replace("-", " "))
        words = " ".join(picked)
    return f"{OPENINGS[_below(6)]} {words}" if float(torch.rand(())) < 0.3 else words


def _below(count: int) -> int:
    return int(torch.randint(count, ()))


def pipeline(network: nn.Module, recipe: dict) -> Artist:
    """Draws captions in a hand: draw("a red heart", hand="blob"), [B, 3, 32, 32]."""
    return Artist(network, build_schedule(recipe), emoji_condition, (3, SIZE, SIZE))
