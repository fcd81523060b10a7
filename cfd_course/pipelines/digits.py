"""Handwritten digits, drawn from their labels."""

from pathlib import Path

from torch import nn

from ..datasets import batches as shuffled
from ..datasets.digits import digit_condition, digits
from .drawing import Artist, build_schedule, build_unet

RECIPES = {
    "digits": {
        "network": {"channels": [48, 96], "patch": 2, "token_channels": 64},
        "schedule_steps": 1000,
        "batch": 64,
        "learning_rate": 2e-3,
        "drop": 0.1,
        "decay": 0.999,
        "steps": 6_000,
    }
}
# A bad version of it, for autoguidance: half as wide, trained for a thirtieth of the steps.
RECIPES["digits-weak"] = {
    **RECIPES["digits"],
    "network": {**RECIPES["digits"]["network"], "channels": [24, 48]},
    "decay": 0.97,
    "steps": 200,
}


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    embedding = nn.Embedding(10, recipe["network"]["token_channels"])
    return build_unet(recipe, image_channels=1, token_encoder=embedding)


def batches(recipe: dict, data: Path | None):
    """MNIST, told its labels."""
    pictures, labels = digits("train", data)
    return shuffled(pictures, digit_condition(labels), recipe["batch"])


def pipeline(network: nn.Module, recipe: dict) -> Artist:
    """Draws digits, [B, 1, 28, 28]."""
    return Artist(network, build_schedule(recipe), digit_condition, (1, 28, 28))
