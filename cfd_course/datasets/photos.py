"""Photos from a folder of yours, and pieces of them to train on."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from .. import expect
from ..pictures import (  # noqa: F401
    as_image,
    as_tensor,
    back_project,
    bicubic,
    biharmonic_fill,
    known_detail,
    shrink,
    smooth_fill,
    stored,
)
from .holes import box_holes, free_form_holes, half_holes  # noqa: F401

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def photos(folder: str | Path) -> list[Tensor]:
    """All pictures of a folder, in the order of their names, turned upright, in RGB:
    uint8 tensors [3, H, W]. A damaged file is named in the error."""
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder should be a path, but {expect.describe(folder)} came.")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(
            f"{folder} should hold pictures ({', '.join(SUFFIXES)}), but there are none."
        )
    return [read_photo(path) for path in paths]


def read_photo(path: str | Path) -> Tensor:
    """One picture, turned upright, in RGB, uint8 [3, H, W]."""
    picture = open_photo(path).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def open_photo(path: str | Path, background: str = "white") -> Image.Image:
    """One picture, turned upright, in greyscale ("L") if it has no colours, else in RGB. Whatever
    is transparent shows the background; 16 bits become 8."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path should be a path, but {expect.describe(path)} came.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, not yet a bomb
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                picture.load()
    # Some of Pillow's readers, and libraries behind them, raise RuntimeError.
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture, or damaged, or huge: {error}") from error
    if picture.mode.startswith(("I", "F")):
        values = np.array(picture, dtype=np.float64)
        largest = 65535 if picture.mode.startswith("I") else 1
        picture = Image.fromarray((values / largest * 255).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def crops(pictures: list[Tensor], size: int, batch: int, prepare, repeats: int = 1) -> DataLoader:
    """Square pieces [batch, 3, size, size] in [-1, 1] from random places of the photos, mirrored
    and turned by quarters at random, as `prepare` turns them into (x_0, condition). A pass takes
    `repeats` pieces from each photo."""
    expect.whole("size", size, 1)
    expect.whole("repeats", repeats, 1)
    expect.callable_("prepare", prepare, "prepare(pictures)")
    expect.instance("pictures", pictures, list)
    wrong = [p for p in pictures if not (isinstance(p, Tensor) and p.dtype == torch.uint8)]
    if wrong:
        raise TypeError(
            "pictures should be uint8 tensors [3, H, W], as from photos(folder), but "
            f"{expect.describe(wrong[0])} came."
        )
    small = [tuple(picture.shape[1:]) for picture in pictures if min(picture.shape[1:]) < size]
    if small or not pictures:
        raise ValueError(
            f"pictures should all be at least {size} pixels high and wide, but "
            f"{f'{small[0][0]}x{small[0][1]}' if small else 'none at all'} came."
        )

    def piece(number: int) -> Tensor:
        picture = pictures[number % len(pictures)]
        top, left = (int(torch.randint(side - size + 1, ())) for side in picture.shape[1:])
        turn, mirror = torch.randint(4, ()), torch.rand(()) < 0.5
        cut = torch.rot90(picture[:, top : top + size, left : left + size], int(turn), (1, 2))
        return (cut.flip(2) if mirror else cut) / 127.5 - 1

    return DataLoader(
        range(len(pictures) * repeats),
        expect.whole("batch", batch, 1, len(pictures) * repeats),
        shuffle=True,
        drop_last=True,
        collate_fn=lambda numbers: prepare(torch.stack([piece(number) for number in numbers])),
    )
