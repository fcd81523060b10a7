"""Faces drawn by diffusion in the latents of an autoencoder; and, to compare, in pixels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from .. import expect
from ..conditions import Condition
from ..datasets import batches as shuffled
from ..datasets.emoji import HANDS, SIZE
from .drawing import Artist, build_schedule, build_unet
from .emoji_autoencoder import Autoencoder, faces

RECIPES = {
    name: {
        "network": {"channels": [48, 96], "patch": patch, "token_channels": 32},
        "image_channels": channels,
        "autoencoder": autoencoder,
        "velocity": True,
        "target": "velocity",
        "schedule_steps": 1000,
        "batch": 16,
        "learning_rate": 2e-3,
        "drop": 0.1,
        "decay": 0.99,
        "steps": steps,
    }
    for name, channels, autoencoder, patch, steps in (
        ("emoji-latents", 4, "emoji-autoencoder", 1, 600),
        ("emoji-pixels", 3, None, 2, 200),
    )
}


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    embedding = nn.Embedding(len(HANDS), recipe["network"]["token_channels"])
    return build_unet(recipe, image_channels=recipe["image_channels"], token_encoder=embedding)


def hand_condition(hands: Sequence[str]) -> Condition:
    """The condition "in this hand", one of HANDS for each picture."""
    numbers = [HANDS.index(expect.choice("hand", hand, HANDS)) for hand in hands]
    return Condition(tokens=torch.tensor(numbers)[:, None])


@torch.no_grad()
def batches(recipe: dict, data: Path | None):
    """The faces, each also in a mirror, encoded once and for all, told their hands."""
    drawn, encode, _ = faces(), *_codec(recipe)
    x_0 = drawn.pictures / 127.5 - 1
    x_0 = torch.cat([encode(part) for part in (*x_0.split(64), *x_0.flip(3).split(64))])
    hands = [HANDS[hand] for hand in drawn.hands.repeat(2)]
    return shuffled(x_0, hand_condition(hands), recipe["batch"])


def _codec(recipe: dict) -> tuple[Callable, Callable]:
    """How a recipe's network gets from pictures to what it draws, and back."""
    from . import load  # which knows this module

    if recipe["autoencoder"] is None:
        return nn.Identity(), nn.Identity()
    autoencoder = load(recipe["autoencoder"])
    return autoencoder.encode, autoencoder.decode


def pipeline(network: nn.Module, recipe: dict) -> Artist:
    """Draws faces: draw(["noto", "blob"], scale=1), [B, 3, 64, 64]. Latents are not clipped: scaled
    to variance 1, they leave [-1, 1]."""
    side = SIZE // (Autoencoder.factor if recipe["autoencoder"] else 1)
    shape = (recipe["image_channels"], side, side)
    artist = Artist(network, build_schedule(recipe), hand_condition, shape)
    artist.clip = None if recipe["autoencoder"] else 1.0
    artist.decode = _codec(recipe)[1]
    return artist
