"""What several measurements share."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.photos import photos
from ..metrics import proportion_interval, psnr
from ..pictures import shrink, stored

Part = tuple[str, Callable[[], dict]]
SAMPLES = 8  # of each photo
FEW = 10  # photos, for what is only compared


def share(right: Tensor) -> dict:
    """Of answers that are right or not, [N], bool: the proportion with its 95% interval, and each
    of them, 1 for right, so that anybody can check a few."""
    hits, count = int(right.sum()), len(right)
    low, high = proportion_interval(hits, count)
    return {
        "right": hits,
        "of": count,
        "interval": [round(low, 4), round(high, 4)],
        "each": "".join(map(str, right.int().tolist())),
    }


def mean(values: list[float]) -> dict:
    """A mean with its 95% interval, from the standard error."""
    middle = float(np.mean(values))
    margin = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {
        "mean": round(middle, 3),
        "interval": [round(middle - margin, 3), round(middle + margin, 3)],
    }


def decibels(drawn: Tensor, real: Tensor, where: Tensor | None = None) -> list[float]:
    """Peak signal to noise of each picture [B, C, H, W] in [-1, 1], over all colours; where: [B, 1,
    H, W], bool, the pixels that count, all if None."""
    where = torch.ones_like(real[:, :1], dtype=torch.bool) if where is None else where
    squares = ((drawn.clamp(-1, 1) - real).square() * where).sum(dim=(1, 2, 3))
    errors = squares / (real.shape[1] * where.sum(dim=(1, 2, 3)))
    return [round(psnr(error * 127.5**2), 3) for error in errors.tolist()]


def photos_of(data: Path | None, least: int) -> list[Tensor]:
    """The photos of a folder, which should be two or more (for an interval) and large enough."""
    if data is None:
        raise ValueError("--data should be a folder of photos, such as BSD100, but none was given.")
    pictures = photos(data)
    small = [tuple(p.shape[1:]) for p in pictures if min(p.shape[1:]) < least]
    if small or len(pictures) < 2:
        found = f"one of {small[0][0]}x{small[0][1]}" if small else "a single one"
        raise ValueError(
            f"{data} should hold two photos or more, each at least {least} pixels high and wide, "
            f"but {found} came."
        )
    return pictures


def question(picture: Tensor, crop: int | None) -> tuple[Tensor, Tensor]:
    """The middle of a photo, uint8 [3, H, W], and a quarter of its size, as a file would hold it:
    [1, 3, h, w] each."""
    height, width = (side // 4 * 4 if crop is None else crop for side in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    real = picture[None, :, top : top + height, left : left + width] / 127.5 - 1
    return real, stored(shrink(real))
