"""The judge of drawn emoji: which name, which hand, which skin tone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ..datasets.emoji import HANDS, SPLITS, TONE, TONES, emoji, names_of, plain
from ..unet import at_home
from ..words import meanings
from .digit_judge import descend, halvings

RECIPES = {"emoji-judge": {"batch": 256, "learning_rate": 2e-3, "steps": 6_000}}


class EmojiJudge(nn.Module):
    """Two towers, one for pictures and one for names, that meet in a space of 128 numbers: Radford
    et al., "CLIP" (2021), figure 3, with all names in every batch. It has seen the real pictures
    of all splits, so it knows what it asks others to draw; and no drawn one."""

    feature_channels = 192

    def __init__(self):
        super().__init__()
        width = self.feature_channels
        layers = halvings(3, 48, 96, 192, width)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width, width), nn.ReLU())
        self.of_pictures = nn.Linear(self.feature_channels, 128)
        self.of_names = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 128))
        self.hands = nn.Linear(self.feature_channels, len(HANDS))
        self.tones = nn.Linear(self.feature_channels, len(TONES))
        names = [name.replace("-", " ") for name in names_of()]
        self.register_buffer("meanings", meanings(names), persistent=False)
        self.sharpness = nn.Parameter(torch.tensor(10.0))  # one over the temperature

    def features(self, pictures: Tensor) -> Tensor:
        """[B, 3, 32, 32] in [-1, 1] -> [B, feature_channels]"""
        return at_home(self.body, pictures)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, 32, 32] in [-1, 1] -> the logits of each name in names_of(), of each of HANDS and
        of each of TONES."""
        features = self.features(pictures).to(self.sharpness.device)
        seen = F.normalize(self.of_pictures(features), dim=1)
        named = F.normalize(self.of_names(self.meanings), dim=1)
        found = (self.sharpness * seen @ named.T, self.hands(features), self.tones(features))
        return tuple(logits.to(pictures.device) for logits in found)


def labels(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The numbers of names and of their skin tones, [N] each."""
    number = {name: index for index, name in enumerate(names_of())}
    tones = [found[1] if (found := TONE.search(name)) else "" for name in names]
    return torch.tensor([number[plain(name)] for name in names]), torch.tensor(
        [TONES.index(tone) for tone in tones]
    )


def network(recipe: dict) -> EmojiJudge:
    """The untrained network."""
    return EmojiJudge()


def pipeline(network: EmojiJudge, recipe: dict) -> EmojiJudge:
    """The judge is used as it is."""
    return network


def train(
    network: EmojiJudge, recipe: dict, data: Path | None, steps: int
) -> Iterator[tuple[int, float, EmojiJudge]]:
    """An hour or two without a GPU, in one go. Pictures are moved, turned, tinted, blurred and
    made noisy, so that it judges what is drawn and not how cleanly."""
    network.to(Accelerator().device)
    parts = [emoji(split, 32) for split in SPLITS]
    pictures = torch.cat([part.pictures for part in parts])
    names, tones = labels([name for part in parts for name in part.names])
    known = (names, torch.cat([part.hands for part in parts]), tones)

    def loss() -> Tensor:
        rows = torch.randint(len(pictures), (recipe["batch"],))
        # On the CPU: not every accelerator knows how to turn a picture.
        logits = network(_disturbed(pictures[rows] / 127.5 - 1))
        return sum(map(F.cross_entropy, logits, [which[rows] for which in known]))

    return descend(network, recipe, steps, loss)


def _disturbed(x: Tensor) -> Tensor:
    """Pictures [B, 3, 32, 32] moved by up to three pixels, turned and resized a little, tinted,
    three in ten of them blurred, and noisy, some more than others."""

    def spread(least: float, most: float) -> Tensor:
        return least + (most - least) * torch.rand(len(x), 1, 1, 1)

    angle, size = spread(-0.15, 0.15)[:, 0, 0], spread(0.85, 1.15)[:, 0, 0]
    turned = torch.cat([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1) * size
    moved = torch.cat([spread(-0.2, 0.2), spread(-0.2, 0.2)], 1)[..., 0]
    where = torch.cat([turned.unflatten(1, (2, 2)), moved], 2)
    grid = F.affine_grid(where, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x + 0.1 * torch.randn(len(x), 3, 1, 1)
    x = torch.where(spread(0, 1) < 0.3, F.avg_pool2d(x, 3, 1, 1), x)
    return x + spread(0, 0.2) * torch.randn_like(x)
