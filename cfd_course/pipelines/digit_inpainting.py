"""Holes in digits, filled."""

from pathlib import Path

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..conditions import Condition
from ..datasets.digits import digits
from .drawing import build_schedule
from .inpainting import Mender, network, to_fill
from .photo import with_network

__all__ = ["RECIPES", "batches", "network", "pipeline"]

RECIPE = {
    "network": {"image_channels": 1, "channels": [32, 64], "patch": 2, "condition_channels": 2},
    "velocity": True,
    "target": "velocity",
    "schedule_steps": 1000,
    "size": 28,
    "batch": 64,
    "learning_rate": 2e-3,
    "drop": 0.1,
    "decay": 0.999,
    "steps": 4_000,
}
RECIPES = {
    "digit-inpainting": RECIPE,
    "digit-inpainting-attention": {
        **with_network(RECIPE, condition_channels=0, token_channels=64, placed=True),
        "patch_tokens": 2,
    },
}


class _Holes(Dataset):
    """Digits with new holes in every pass."""

    def __init__(self, pictures: Tensor):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, numbers: list[int]) -> tuple[Tensor, Condition]:
        return to_fill(self.pictures[numbers])


def batches(recipe: dict, data: Path | None) -> DataLoader:
    """MNIST with holes."""
    pictures, _ = digits("train", data)
    return DataLoader(
        _Holes(pictures),
        recipe["batch"],
        shuffle=True,
        drop_last=True,
        collate_fn=lambda batch: batch,
    )


def pipeline(network: nn.Module, recipe: dict) -> Mender:
    """Fills holes in digits."""
    return Mender(network, build_schedule(recipe), 1, recipe["size"])
