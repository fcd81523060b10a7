"""A classifier of digits: what the drawn digits are judged by."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import expect
from ..datasets.digits import digits
from ..unet import at_home

RECIPES = {"digit-judge": {"batch": 128, "learning_rate": 2e-3, "steps": 3_000}}


def halvings(*channels: int) -> list[nn.Module]:
    """Layers from each number of channels to the next, each with a picture half as large."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return layers


class DigitJudge(nn.Module):
    """A small convolutional classifier of digits: what the drawn digits are judged by."""

    feature_channels = 128

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*halvings(1, 32, 64, self.feature_channels))
        self.head = nn.Linear(self.feature_channels, 10)

    def features(self, pictures: Tensor) -> Tensor:
        """[B, 1, 28, 28] in [-1, 1] -> [B, feature_channels]"""
        expect.tensor("pictures", pictures, ("B", 1, 28, 28))
        return at_home(self.body, pictures).mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """[B, feature_channels] -> the logit of each digit, [B, 10]"""
        return at_home(self.head, features)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 1, 28, 28] -> the logit of each digit, [B, 10]"""
        return self.logits(self.features(pictures))


def network(recipe: dict) -> DigitJudge:
    """The untrained network."""
    return DigitJudge()


def pipeline(network: DigitJudge, recipe: dict) -> DigitJudge:
    """The judge is used as it is."""
    return network


def train(
    network: DigitJudge, recipe: dict, data: Path | None, steps: int
) -> Iterator[tuple[int, float, DigitJudge]]:
    """A few minutes, so it saves no state. Pictures are shifted by up to two pixels."""
    pictures, labels = digits("train", data)

    def loss() -> Tensor:
        rows = torch.randint(len(pictures), (recipe["batch"],))
        shift = torch.randint(-2, 3, (2,)).tolist()
        logits = network(pictures[rows].roll(shift, dims=(2, 3)))
        return F.cross_entropy(logits, labels[rows], label_smoothing=0.05)

    return descend(network, recipe, steps, loss)


def descend(
    network: nn.Module, recipe: dict, steps: int, loss: Callable[[], Tensor]
) -> Iterator[tuple[int, float, nn.Module]]:
    """How classifiers are trained: each step goes down the gradient of loss(), that of a new
    batch."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], steps)
    for number in range(1, steps + 1):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        rate.step()
        yield number, value.item(), network
