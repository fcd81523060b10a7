"""Holes in emoji, filled with what the words say."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import expect
from ..checkpoints import load_checkpoint
from ..conditions import Condition
from ..datasets import data_path
from ..datasets.emoji import HANDS
from ..sampling import dpm_solver, last
from ..schedule import NoiseSchedule
from ..unet import ask
from . import emoji
from .drawing import Progress, build_schedule, start_noise
from .emoji import SIZE, caption, loader, told
from .inpainting import holes_and_halves, with_hole
from .photo import with_network

STEPS = 20  # of the sampler
RECIPES = {
    "emoji-mender": {
        **with_network(emoji.RECIPES["emoji"], condition_channels=4),
        "batch": 64,
        "learning_rate": 3e-4,
        "decay": 0.999,
        "steps": 800,
    }
}
UNTOLD = 0.3  # the chance that the words, and then that the hand is not said

network = emoji.network


def begin(network: nn.Module, recipe: dict) -> None:
    """Start with what the drawing network knows of words: its weights, and zeros for the new
    planes, of which it makes nothing at first. Rombach et al., "High-Resolution Image Synthesis
    with Latent Diffusion Models" (2022), do so in their inpainting model."""
    weights, _ = load_checkpoint(data_path("checkpoints/emoji.safetensors"))
    own = network.state_dict()
    for name, value in weights.items():
        own[name].zero_()
        own[name][tuple(map(slice, value.shape))] = value
    own["network.null_image"].zero_()
    network.load_state_dict(own)


def to_mend(pictures: Tensor, names: list[str], hands: list[str]) -> tuple[Tensor, Condition]:
    """What the network learns: the pictures, given each with a hole, filled smoothly; where that
    is; and, most of the time, what it shows and by which hand."""
    condition = with_hole(pictures, holes_and_halves(len(pictures), SIZE))
    untold = (torch.rand(2, len(names)) < UNTOLD).tolist()
    said = ["" if away else caption(name) for name, away in zip(names, untold[0], strict=True)]
    by = [None if any(away) else hand for hand, *away in zip(hands, *untold, strict=True)]
    return pictures, replace(told(said, by), image=condition.image)


def batches(recipe: dict, data: Path | None):
    """The emoji of the training split, with holes."""
    return loader(recipe, SIZE, to_mend)


def pipeline(network: nn.Module, recipe: dict) -> "EmojiMender":
    """Fills holes in emoji."""
    return EmojiMender(network, build_schedule(recipe))


class EmojiMender:
    """Fills holes in emoji, [B, 3, 32, 32] in [-1, 1]."""

    def __init__(self, network: nn.Module, schedule: NoiseSchedule):
        self.network = network
        self.schedule = schedule

    def fill(
        self,
        pictures: Tensor,
        mask: Tensor,
        words: str | Sequence[str] = "",
        hand: str | None | Sequence[str | None] = None,
        scale: float = 1.0,
        words_scale: float = 2.0,
        steps: int = STEPS,
        seed: int = 0,
        progress: Progress = iter,
    ) -> Tensor:
        """The pictures with their holes filled; what is known stays as it is, bit for bit. mask:
        [B, 1, 32, 32], bool, True in the hole. words: what each shall show, "" to leave it open;
        hand: whose it is, None to leave it open. Another seed, another filling.

        Two conditions, two scales: with nothing told, the picture told, and the words beside it,

            nothing + scale * (picture - nothing) + words_scale * (both - picture)

        Brooks et al., "InstructPix2Pix" (2023), equation 3.
        """
        expect.tensor("pictures", pictures, ("B", 3, SIZE, SIZE))
        expect.tensor("mask", mask, (len(pictures), 1, SIZE, SIZE), "bool")
        known, hole, count = pictures.float().cpu(), mask.cpu(), len(pictures)
        said = [words] * count if isinstance(words, str) else list(words)
        by = [hand] * count if hand is None or isinstance(hand, str) else list(hand)
        for name, each in (("words", said), ("hand", by)):
            came = f"{len(each)} for {count}"
            expect.that(len(each) == count, name, "be one for each of the pictures", came)
        for each in by:
            wanted = f"be None or one of {', '.join(HANDS)}"
            expect.that(each is None or each in HANDS, "hand", wanted, expect.describe(each))
        both = replace(told(said, by), image=with_hole(known, hole).image)
        silent = replace(both, mask=torch.zeros_like(both.mask))
        asked = [(scale - words_scale, silent), (words_scale, both)]
        if scale != 1:
            asked = [(1 - scale, silent.absent()), *asked]
        weights = [weight for weight, _ in asked]
        all_of_them = Condition.concatenate([condition for _, condition in asked])

        def denoise(x_t: Tensor, t: int) -> Tensor:
            answers = ask(self.network, torch.cat([x_t] * len(asked)), t, all_of_them)
            return sum(w * each for w, each in zip(weights, answers.chunk(len(asked)), strict=True))

        def possible(x_0: Tensor) -> Tensor:
            return torch.where(hole, x_0.clamp(-1, 1), known)

        x_T = start_noise(count, (3, SIZE, SIZE), seed)
        sampler = dpm_solver(denoise, self.schedule, x_T, steps, possible)
        filled = last(iter(progress(sampler))).clamp(-1, 1)
        return torch.where(mask, filled.to(pictures), pictures)
