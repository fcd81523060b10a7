"""Emoji: some 12,000 pictures of 1,534 things, each drawn by up to five artists' hands."""

import json
import re
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import expect
from . import data_path

HANDS = ("noto", "blob", "twemoji", "fluent", "emojione")
SPLITS = ("train", "pairs", "names", "family")
SIZE = 64  # pixels
TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark")  # "" for none
TONE = re.compile(r"-(medium-light|medium-dark|light|medium|dark)-skin-tone(?=-|$)")


class Emoji(NamedTuple):
    """pictures [N, 3, size, size], bytes 0..255; names, such as "woman-pilot"; hands [N], numbers
    into HANDS."""

    pictures: Tensor
    names: list[str]
    hands: Tensor


@cache
def emoji_words() -> dict:
    """What belongs to the pictures in words: "hands": the names that each hand drew; "characters":
    the name of each emoji; "keywords": further words for a name, from emojilib."""
    return json.loads(data_path("emoji/words.json").read_text(encoding="utf-8"))


def emoji(split: str = "train", size: int = SIZE) -> Emoji:
    """The pictures of a split, at 64 pixels a side or a power of two less.

    What is held out, always the same: "pairs", 5% of the pairs of name and hand among names drawn
    by four hands or more, the name seen in other hands; "names", 3% of the names in all hands; and
    "family", people in a skin tone, 5% of these combinations in all hands, the person seen in other
    tones and the tone on other people. A held-out picture's own variants in skin tones are in no
    split.
    """
    expect.choice("split", split, SPLITS)
    expect.that(size in (8, 16, 32, 64), "size", "be 8, 16, 32 or 64", expect.describe(size))
    rows = [row for row, its in enumerate(_splits()) if its == split]
    names, hands = zip(*(_drawn()[row] for row in rows), strict=True)
    chosen = F.avg_pool2d(_pictures()[rows].float(), SIZE // size).round().byte()
    return Emoji(chosen, list(names), torch.tensor(hands))


def plain(name: str) -> str:
    """A name without its skin tone."""
    return TONE.sub("", name)


@cache
def names_of(*splits: str) -> list[str]:
    """The names without skin tones, in alphabetical order: all, or those of some splits."""
    drawn = zip(_drawn(), _splits(), strict=True)
    names = {name for (name, _), split in drawn if not splits or split in splits}
    return sorted(name for name in names if not TONE.search(name))


def spell_out(caption: str) -> str:
    """The caption with the name of each emoji in its place."""
    if caption.isascii():  # the search for some thousand emoji would take most of a batch's time
        return caption
    return _characters().sub(
        lambda found: f" {emoji_words()['characters'][found[0]].replace('-', ' ')} ",
        caption.replace("\ufe0f", ""),
    )


@cache
def _characters() -> re.Pattern:
    longest_first = sorted(emoji_words()["characters"], key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


@cache
def _drawn() -> list[tuple[str, int]]:
    """The name of each picture, and the number of the hand that drew it."""
    hands = emoji_words()["hands"]
    return [(name, number) for number, hand in enumerate(HANDS) for name in hands[hand]]


@cache
def _pictures() -> Tensor:
    pictures = []
    for hand in HANDS:
        with Image.open(data_path(f"emoji/{hand}.webp")) as sheet:
            cells = np.asarray(sheet.convert("RGB"))
        rows, columns = cells.shape[0] // SIZE, cells.shape[1] // SIZE
        cells = cells.reshape(rows, SIZE, columns, SIZE, 3).transpose(0, 2, 4, 1, 3)
        cells = cells.reshape(-1, 3, SIZE, SIZE)[: len(emoji_words()["hands"][hand])]
        pictures.append(torch.from_numpy(cells.copy()))
    return torch.cat(pictures)


@cache
def _splits() -> list[str | None]:
    """The split of each picture; None for the variants of a picture that is held out."""
    drawn = _drawn()
    hands_of: dict[str, list[int]] = {}
    for name, hand in drawn:
        if not TONE.search(name):
            hands_of.setdefault(name, []).append(hand)
    often = [(n, hand) for n in sorted(hands_of) for hand in hands_of[n] if len(hands_of[n]) >= 4]
    random = np.random.default_rng(0)
    away = _some(random, sorted(hands_of), 0.03)
    pairs = _some(random, often, 0.05)
    family = _some(random, sorted({name for name, _ in drawn if TONE.search(name)}), 0.05)

    def split(name: str, hand: int) -> str | None:
        toned = bool(TONE.search(name))
        if plain(name) in away:
            return None if toned else "names"
        if (plain(name), hand) in pairs:
            return None if toned else "pairs"
        return "family" if name in family else "train"

    return [split(name, hand) for name, hand in drawn]


def _some(random: np.random.Generator, things: list, share: float) -> set:
    return {thing for thing, u in zip(things, random.random(len(things)), strict=True) if u < share}
