"""Scenes of coloured shapes, drawn from their captions."""

from pathlib import Path

from torch import nn

from ..datasets.shapes import SceneStream
from ..text import TextEncoder, tokenise
from .drawing import Artist, build_schedule, build_unet

RECIPES = {
    # The linear schedule spends nearly half its steps where more than 95% is noise, and the
    # velocity's error counts there: that is where a scene of flat colours is laid out.
    "text-to-image": {
        "network": {
            "channels": [48, 96, 176],
            "attention": [1, 2],
            "patch": 2,
            "token_channels": 128,
        },
        "velocity": True,
        "target": "velocity",
        "schedule": "linear",
        "schedule_steps": 1000,
        "batch": 32,
        "learning_rate": 1e-3,
        "drop": 0.1,
        "decay": 0.9995,
        "steps": 13_000,
    }
}


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    return build_unet(recipe, token_encoder=TextEncoder(recipe["network"]["token_channels"]))


def batches(recipe: dict, data: Path | None):
    """New scenes for ever."""
    return SceneStream(recipe["batch"], tokenise)


def pipeline(network: nn.Module, recipe: dict) -> Artist:
    """Draws captions, [B, 3, 32, 32]."""
    return Artist(network, build_schedule(recipe), tokenise, (3, 32, 32))
