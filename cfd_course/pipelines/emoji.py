"""Emoji, drawn from anybody's own words in one of five hands."""

from collections.abc import Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from .. import expect
from ..conditions import Condition
from ..datasets.emoji import HANDS, TONE, Emoji, emoji, emoji_words, names_of, plain, spell_out
from ..words import WordEncoder, check_captions, fits, meanings, word_pieces
from .drawing import Artist, build_schedule, build_unet

SIZE = 32  # pixels
LARGE = 128
RECIPES = {
    "emoji": {
        "network": {
            "channels": [96, 160, 208],
            "attention": [1, 2],
            "patch": 2,
            "token_channels": 192,
        },
        "velocity": True,
        "target": "velocity",
        "schedule_steps": 1000,
        "batch": 512,
        "learning_rate": 1e-3,
        "drop": 0.1,
        "decay": 0.9995,
        "workers": 2,
        "steps": 32_000,
    }
}
PASSES = 20  # through the pictures, before the workers start anew
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
    check_captions(captions)
    hands = [hand] * len(captions) if isinstance(hand, str) else hand
    return told(captions, [expect.choice("hand", each, HANDS) for each in hands])


def told(captions: Sequence[str], hands: Sequence[str | None]) -> Condition:
    """What is said about pictures: words, "" for none, and one of HANDS, None for any."""
    before = [() if hand is None else (HANDS.index(hand) + 1,) for hand in hands]
    return word_pieces([*map(spell_out, captions)], before)


def batches(recipe: dict, data: Path | None):
    """The emoji of the training split in random order, with ever new captions."""
    return loader(recipe, SIZE, captioned)


def loader(recipe: dict, size: int, prepare) -> DataLoader:
    """Batches of the training split; prepare makes (x_0, condition) of [B, 3, size, size] in
    [-1, 1], three in ten of them in a mirror, their names and hands."""
    drawn = emoji("train", size)
    weights = [TONED if TONE.search(name) else 1.0 for name in drawn.names]
    return DataLoader(
        range(len(drawn.names)),
        recipe["batch"],
        sampler=WeightedRandomSampler(weights, PASSES * len(weights)),
        drop_last=True,
        num_workers=recipe["workers"],
        collate_fn=partial(_rows, drawn, prepare),
    )


def _rows(drawn: Emoji, prepare, numbers: list[int]) -> tuple[Tensor, Condition]:
    names = [drawn.names[number] for number in numbers]
    even = torch.tensor([not SIDED & set(name.split("-")) for name in names])
    mirrored = (even & (torch.rand(len(names)) < 0.3))[:, None, None, None]
    pictures = drawn.pictures[numbers] / 127.5 - 1
    pictures = torch.where(mirrored, pictures.flip(3), pictures)
    return prepare(pictures, names, [HANDS[number] for number in drawn.hands[numbers]])


def captioned(pictures: Tensor, names: list[str], hands: list[str]) -> tuple[Tensor, Condition]:
    """The pictures, each with one of its many captions."""
    return pictures, emoji_condition([*map(caption, names)], hands)


def caption(name: str) -> str:
    """A name's own words; or, half of the time, some of its keywords in any order, often with the
    name among them, so that the network learns what to make of words in no name."""
    words = name.replace("-", " ")
    keywords = emoji_words()["keywords"].get(plain(name), [])
    if keywords and _chance(0.5):
        picked = [keywords[i] for i in torch.randperm(len(keywords))[: 1 + _below(5)]]
        while len(" ".join(picked)) > 50:  # letters: a caption must not be too long to be told
            picked.pop()
        if tone := TONE.search(name):
            picked.append(tone[0][1:].replace("-", " "))
        if not picked or _chance(0.6):
            picked.insert(_below(len(picked) + 1), plain(name).replace("-", " "))
        words = " ".join(picked)
    return f"{OPENINGS[_below(len(OPENINGS))]} {words}" if _chance(0.3) else words


def _below(count: int) -> int:
    return int(torch.randint(count, ()))


def _chance(share: float) -> bool:
    return float(torch.rand(())) < share


def pipeline(network: nn.Module, recipe: dict) -> "EmojiArtist":
    """Draws captions in a hand."""
    return EmojiArtist(network, build_schedule(recipe), own_words, (3, SIZE, SIZE))


@cache
def _known() -> tuple[list[str], Tensor]:
    """The names that the network was told, and what each means with its keywords, [names, 256]."""
    names, keywords = names_of("train"), emoji_words()["keywords"]
    said = [" ".join([name.replace("-", " "), *keywords.get(name, [])]) for name in names]
    return names, F.normalize(meanings(said), dim=1)


def in_known_words(caption: str) -> str:
    """The caption, and before it the name, of those that the network was told, that it means most
    nearly: the largest cosine. So the network hears what it knows beside what it never heard.
    Nothing stands before such a name itself, before a caption that the word vectors know nothing
    of, or before one that is long as it is."""
    names, known = _known()
    said = spell_out(caption)
    words = [word for word in said.lower().split() if word not in OPENINGS]
    meaning = meanings([said])[0]
    if plain("-".join(words)) in names or not meaning.any():
        return said
    nearest = names[(known @ meaning).argmax()].replace("-", " ")
    told = f"{nearest} {said}"
    return told if fits(told) else said


def own_words(captions: Sequence[str], hand: str | Sequence[str] = HANDS[0]) -> Condition:
    """The emoji_condition of captions in one's own words, each with a name: see in_known_words."""
    emoji_condition(captions, hand)  # which says what is wrong with them
    return emoji_condition([*map(in_known_words, captions)], hand)


class EmojiArtist(Artist):
    """Draws emoji: draw("a red heart", hand="blob"), [B, 3, 32, 32]."""

    def draw(self, asked, *settings, size: int = SIZE, seed: int = 0, **told) -> Tensor:
        """As an Artist draws; with size=128 enlarged by the network "emoji-enlarger", a cascade.
        Ho et al., "Cascaded Diffusion Models" (2022)."""
        expect.choice("size", size, (SIZE, LARGE))
        drawn = super().draw(asked, *settings, seed=seed, **told)
        if size == SIZE:
            return drawn
        return self.enlarger.enlarge(drawn.clamp(-1, 1), seed=seed)

    @cached_property
    def enlarger(self):
        """The network "emoji-enlarger", read once, when it is first asked for."""
        from . import load  # which knows this module

        return load("emoji-enlarger")
