"""Captions to words to embeddings.

Two ways, one contract: a callable of a list of captions that returns a Condition. `tokenise` gives
the numbers of the words, for a network that trains a TextEncoder with the rest of itself;
`FrozenText` gives the finished embeddings of a pretrained encoder, which training leaves alone.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .datasets.shapes import VOCABULARY

PADDING = 0  # the token that fills up shorter captions
LONGEST = 10  # words: "a small red star left of a large blue circle"
NUMBERS = {word: number for number, word in enumerate(VOCABULARY, start=1)}


def tokenise(captions: Sequence[str]) -> Condition:
    """Captions as the numbers of their words, each filled up with padding to LONGEST words:
    Condition(tokens [B, LONGEST], mask [B, LONGEST], False for padding).

    Raises a ValueError that names a word that is not in VOCABULARY, and the nearest ones that are.
    """
    tokens = torch.full((len(_checked(captions)), LONGEST), PADDING)
    for row, caption in zip(tokens, captions, strict=True):
        words = caption.lower().replace(",", " ").rstrip(" .").split()
        if not words:
            raise ValueError(
                'a caption should hold words, such as "a small red star", but an empty one came.'
            )
        for word in words:
            if word not in NUMBERS:
                raise ValueError(_unknown(word, caption))
        if len(words) > LONGEST:
            raise ValueError(
                f"a caption should have at most {LONGEST} words, but {len(words)} came: {caption!r}"
            )
        row[: len(words)] = torch.tensor([NUMBERS[word] for word in words])
    return Condition(tokens=tokens, mask=tokens != PADDING)


def _checked(captions: Sequence[str]) -> Sequence[str]:
    whole = isinstance(captions, Sequence) and not isinstance(captions, str) and len(captions)
    if not whole or not all(isinstance(caption, str) for caption in captions):
        raise TypeError(
            f"captions should be a list of captions, but {expect.describe(captions)} came."
        )
    return captions


def _unknown(word: str, caption: str) -> str:
    near = difflib.get_close_matches(word, VOCABULARY, n=3, cutoff=0.5)
    advice = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return (
        f"the word {word!r} in {caption!r} is unknown. {advice}Known words: {', '.join(VOCABULARY)}"
    )


class TextEncoder(nn.Module):
    """A small transformer over the words of a caption, trained jointly with the network that
    listens to it: tokens [B, L] -> embeddings [B, L, channels]. Vaswani et al., "Attention Is All
    You Need" (2017), section 3.1, with the normalisation first."""

    def __init__(self, channels: int = 128, layers: int = 2, heads: int = 4):
        super().__init__()
        expect.whole("channels", channels, 1)
        expect.whole("layers", layers, 1)
        expect.whole("heads", heads, 1)
        if channels % heads:
            raise ValueError(
                f"channels should be divisible by heads = {heads}, but {channels} came."
            )
        self.words = nn.Embedding(len(VOCABULARY) + 1, channels)
        self.places = nn.Parameter(0.5 * torch.randn(LONGEST, channels))
        layer = nn.TransformerEncoderLayer(
            channels, heads, 2 * channels, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(channels), enable_nested_tensor=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, L], from tokenise -> [B, L, channels]"""
        expect.tensor("tokens", tokens, ("B", "L"), "int")
        if tokens.shape[1] > LONGEST or not bool(((tokens >= 0) & (tokens <= len(NUMBERS))).all()):
            raise ValueError(
                f"tokens should be at most {LONGEST} numbers in 0..{len(NUMBERS)}, from tokenise, "
                f"but {expect.describe(tokens)} came."
            )
        embedded = self.words(tokens) + self.places[: tokens.shape[1]]
        return self.layers(embedded, src_key_padding_mask=tokens == PADDING)


class FrozenText:
    """A pretrained text encoder that training leaves as it is: captions -> Condition(tokens
    [B, L, channels], mask [B, L]). What Imagen does with T5 and Stable Diffusion with CLIP. Needs
    the extra `pip install "cfd-course[text]"`.

    name: of a CLIP or T5 on the Hugging Face hub, or a local folder.
    channels: the width of its embeddings, a Unet's token_channels.
    """

    def __init__(self, name: str | Path):
        try:
            import transformers
        except ImportError as error:
            raise ImportError(
                'a pretrained text encoder needs transformers: pip install "cfd-course[text]".'
            ) from error
        kinds = {
            "clip": transformers.CLIPTextModel,
            "clip_text_model": transformers.CLIPTextModel,
            "t5": transformers.T5EncoderModel,
        }
        try:
            found = transformers.AutoConfig.from_pretrained(name).model_type
            if found in kinds:
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(name)
                network = kinds[found].from_pretrained(name)
        except Exception as error:  # transformers raises half a dozen kinds
            raise ValueError(
                f"{name} should be a text encoder on the Hugging Face hub or a folder that holds "
                f"one, with its tokenizer, but none could be loaded. ({error})"
            ) from error
        if found not in kinds:
            raise ValueError(f"{name} should hold a CLIP or a T5, but it is a {found}.")
        # Where the tokenizer's files are missing, transformers makes one that knows no words.
        word = self.tokenizer.decode(self.tokenizer("a").input_ids, skip_special_tokens=True)
        if word.strip() != "a":
            raise ValueError(f"{name} should hold a tokenizer too, but one without words came.")
        self.network = network.eval().requires_grad_(False)
        self.channels = network.config.hidden_size

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Condition:
        """The captions' embeddings, one for each piece of a word, and which of them count."""
        words = self.tokenizer(
            list(_checked(captions)), padding=True, truncation=True, return_tensors="pt"
        )
        embedded = self.network(words.input_ids, attention_mask=words.attention_mask)
        return Condition(
            tokens=embedded.last_hidden_state.float(), mask=words.attention_mask.bool()
        )
