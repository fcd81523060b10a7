"""Anybody's own words: frozen word vectors, and a small encoder that learns what to make of them.

A network that learns its words from a few thousand captions knows no others. So each word piece
comes with a vector that says what it means: what the sentence encoder all-MiniLM-L6-v2 returns for
that piece alone, reduced to 256 numbers and weighted by how rare it is (Tulkens, van Dongen,
"Model2Vec", 2024). Related words have related vectors, and a caption never seen draws what is near.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .datasets import data_path

PADDING = 0  # the number that fills up shorter captions
LONGEST = 32  # numbers in a row: word pieces and what stands before them
NOISE = 0.3  # over the vectors in training; their own root mean square is 1


@cache
def _tokeniser() -> Tokenizer:
    tokeniser = Tokenizer.from_file(str(data_path("words/tokenizer.json")))
    tokeniser.no_truncation()
    return tokeniser


@cache
def word_vectors() -> Tensor:
    """The vector of each word piece, [pieces, 256], with a mean square of 1."""
    vectors = load_file(data_path("words/model.safetensors"))["embeddings"].float()
    return vectors / vectors.square().mean().sqrt()


def meanings(captions: Sequence[str]) -> Tensor:
    """What captions mean, whatever the order of their words: the mean of their pieces' vectors,
    [B, 256]; zeros where there are none."""
    rows = [word_vectors()[_known_pieces(caption)] for caption in captions]
    return torch.stack([row.sum(0) / max(1, len(row)) for row in rows])


def check_captions(captions: Sequence[str]) -> None:
    """Raise a TypeError where this is no list of captions."""
    right = isinstance(captions, Sequence) and not isinstance(captions, str) and len(captions)
    right = right and all(isinstance(caption, str) for caption in captions)
    expect.that(right, "captions", "be a list of captions", captions, kind=TypeError)


def fits(caption: str, before: int = 1) -> bool:
    """Whether so many numbers and a caption fit into a row."""
    return before + len(_known_pieces(caption)) <= LONGEST


def _known_pieces(caption: str) -> list[int]:
    unknown = _tokeniser().token_to_id("[UNK]")
    pieces = _tokeniser().encode(caption, add_special_tokens=False).ids
    return [piece for piece in pieces if piece != unknown]


def word_pieces(
    captions: Sequence[str], before: Sequence[Sequence[int]] | None = None
) -> Condition:
    """Captions as numbers of their word pieces: Condition(tokens [B, L], mask [B, L], False for
    padding). before: for each caption numbers from 1 that stand before its words, for which the
    WordEncoder has learned vectors of its own; here they follow on the last word piece. An empty
    caption has no words.

    Raises a ValueError that names a caption in another script, or one too long.
    """
    check_captions(captions)
    before = [()] * len(captions) if before is None else before
    pieces_known = len(word_vectors())
    rows = []
    for caption, first in zip(captions, before, strict=True):
        known = _known_pieces(caption)
        readable = not caption.strip() or (known and _is_latin(caption))
        came = repr(caption if len(caption) <= 40 else caption[:40] + "...")
        expect.that(readable, "a caption", "hold English words", came)
        room = LONGEST - len(first)
        came = f"{len(known)} in {came}"
        expect.that(len(known) <= room, "a caption", f"have at most {room} pieces of words", came)
        rows.append([pieces_known + n for n in first] + [piece + 1 for piece in known])
    longest = max(1, *map(len, rows))
    tokens = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
    return Condition(tokens=tokens, mask=tokens != PADDING)


def _is_latin(caption: str) -> bool:
    """Whether there are Latin letters or digits in it. Of other scripts the pieces are single
    letters, whose vectors mean nothing."""
    return any(c.isdigit() or unicodedata.name(c, "").startswith("LATIN") for c in caption)


class WordEncoder(nn.Module):
    """A small transformer over frozen word vectors: tokens [B, L] -> embeddings [B, L, channels].

    learned: how many numbers may stand before the words, see word_pieces: their vectors are
    trained. Those of the words are frozen, and no part of a checkpoint. In training they are told
    with a little noise, so that words with near vectors are drawn alike.
    """

    def __init__(self, channels: int, learned: int, layers: int = 2, heads: int = 4):
        super().__init__()
        self.learned = nn.Embedding(learned + 1, channels, padding_idx=PADDING)
        self.register_buffer("vectors", word_vectors(), persistent=False)
        self.project = nn.Linear(self.vectors.shape[1], channels)
        self.places = nn.Parameter(0.1 * torch.randn(LONGEST, channels))
        layer = nn.TransformerEncoderLayer(
            channels, heads, 2 * channels, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(channels), enable_nested_tensor=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, L], from word_pieces -> [B, L, channels]"""
        pieces = len(self.vectors)
        learned = self.learned((tokens - pieces).clamp(min=0))
        vectors = self.vectors[(tokens - 1).clamp(0, pieces - 1)]
        if self.training:
            vectors = vectors + NOISE * torch.randn_like(vectors)
        embedded = torch.where((tokens > pieces)[..., None], learned, self.project(vectors))
        embedded = embedded + self.places[: tokens.shape[1]]
        padding = tokens == PADDING
        padding = padding & ~padding.all(
            dim=1, keepdim=True
        )  # no row without anything to attend to
        return self.layers(embedded, src_key_padding_mask=padding)
