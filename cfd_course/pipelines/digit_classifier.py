"""A classifier of noisy digits: what classifier guidance asks for the way to a digit."""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.digits import digits
from ..unet import GROUPS, ResidualBlock, at_home, time_embedding
from .digit_judge import descend
from .drawing import build_schedule

RECIPES = {
    "digit-classifier": {
        "channels": [32, 64],
        "schedule_steps": 1000,
        "batch": 128,
        "learning_rate": 4e-3,
        "steps": 3_000,
    }
}


class DigitClassifier(nn.Module):
    """The way down of a U-Net, told the time, with a row of ten numbers at its end: Dhariwal,
    Nichol, "Diffusion Models Beat GANs" (2021), section 4."""

    def __init__(self, channels: int = 32, more: int = 64):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(more, more), nn.SiLU(), nn.Linear(more, more))
        self.stem = nn.Conv2d(4, channels, 3, padding=1)  # of patches of 2x2 pixels
        pairs = ((channels, channels), (channels, more), (more, more))
        self.blocks = nn.ModuleList(ResidualBlock(a, b, more) for a, b in pairs)
        self.head = nn.Sequential(nn.GroupNorm(GROUPS, more), nn.SiLU(), nn.AdaptiveAvgPool2d(1))
        self.head.extend([nn.Flatten(), nn.Linear(more, 10)])

    def forward(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """x_t [B, 1, 28, 28]; t a number or [B] -> the logit of each digit, [B, 10]"""
        if x_t.device != self.stem.weight.device:
            return at_home(self, x_t, t)
        times = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        embedding = self.embed(time_embedding(times, self.embed[0].in_features))
        h = self.blocks[0](self.stem(F.pixel_unshuffle(x_t, 2)), embedding)
        for block in self.blocks[1:]:
            h = block(F.avg_pool2d(h, 2), embedding)  # 14x14, 7x7, 3x3
        return self.head(h)


def network(recipe: dict) -> DigitClassifier:
    """The untrained network."""
    return DigitClassifier(*recipe["channels"])


def pipeline(network: DigitClassifier, recipe: dict) -> DigitClassifier:
    """The classifier is used as it is."""
    return network


def train(
    network: DigitClassifier, recipe: dict, data: Path | None, steps: int
) -> Iterator[tuple[int, float, DigitClassifier]]:
    """Digits with any amount of noise, t uniform over 1..T. Some minutes, so it saves no state."""
    pictures, labels = digits("train", data)
    schedule = build_schedule(recipe)

    def loss() -> Tensor:
        rows = torch.randint(len(pictures), (recipe["batch"],))
        t = torch.randint(1, schedule.steps + 1, rows.shape)
        x_t = schedule.add_noise(pictures[rows], t, torch.randn(pictures[rows].shape))
        return F.cross_entropy(network(x_t, t), labels[rows])

    return descend(network, recipe, steps, loss)
