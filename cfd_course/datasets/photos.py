"""Photos from a folder of yours, and pieces of them to train on."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from .. import expect
from ..pictures import (  # noqa: F401
    as_image,
    as_tensor,
    back_project,
    bicubic,
    biharmonic_fill,
    flat,
    known_detail,
    shrink,
    smooth_fill,
    stored,
    upright,
)
from .holes import box_holes, free_form_holes, half_holes  # noqa: F401

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def photos(folder: str | Path, least: int = 1) -> list[Tensor]:
    """All pictures of a folder, in the order of their names, turned upright, in RGB:
    uint8 tensors [3, H, W]. Hidden files, what is no picture by its name, and pictures of less than
    `least` pixels in height or width are left out, and named. A damaged file is an error."""
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder should be a path, but {expect.describe(folder)} came.")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    found, left_out = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            left_out.append(f"{path.name} (hidden)")
        elif path.suffix.lower() not in SUFFIXES or not path.is_file():
            left_out.append(f"{path.name} ({'a folder' if path.is_dir() else 'no picture'})")
        else:
            picture = read_photo(path)
            height, width = picture.shape[1:]
            if min(height, width) < least:
                left_out.append(f"{path.name} ({width}x{height} pixels)")
            else:
                found.append(picture)
    if left_out:
        names = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        print(f"{folder}: {len(found)} pictures; left out {len(left_out)}: {names}")
    if not found:
        size = "" if least == 1 else f" of {least} pixels or more a side"
        raise ValueError(
            f"{folder} should hold pictures ({', '.join(SUFFIXES)}){size}, but there are none."
        )
    return found


def read_photo(path: str | Path) -> Tensor:
    """One picture, turned upright, in RGB, uint8 [3, H, W]."""
    picture = open_photo(path).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def open_photo(path: str | Path) -> Image.Image:
    """One picture, turned upright, in greyscale ("L") if it has no colours, else in RGB. Whatever
    is transparent shows white; 16 bits become 8."""
    return _opened(path)[1]


def open_image(path: str | Path) -> Image.Image:
    """One picture, turned upright, with all that it carries."""
    return _opened(path)[0]


def _opened(path: str | Path) -> tuple[Image.Image, Image.Image]:
    """What open_image and open_photo return. Both need both: flattening reads the file to its end,
    and says what is wrong with its values."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path should be a path, but {expect.describe(path)} came.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, not yet a bomb
            with Image.open(path) as file:
                picture = upright(file)
                return picture, flat(picture.copy())  # Pillow's convert may change a palette
    # Pillow's readers, and libraries behind them, raise whatever odd bytes lead them to.
    except Exception as error:
        words = "is not a picture, or damaged, or huge. Another program may save it as PNG"
        raise ValueError(f"{path} {words}. ({error})") from error


def crops(pictures: list[Tensor], size: int, batch: int, prepare, repeats: int = 1) -> DataLoader:
    """Square pieces [batch, 3, size, size] in [-1, 1] from random places of the photos, mirrored
    and turned by quarters at random, as `prepare` turns them into (x_0, condition). A pass takes
    `repeats` pieces from each photo; smaller photos are left out."""
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
    large = [picture for picture in pictures if min(picture.shape[1:]) >= size]
    if not large:
        found = ", ".join(f"{p.shape[1]}x{p.shape[2]}" for p in pictures[:5]) or "none at all"
        raise ValueError(
            f"pictures should be at least {size} pixels high and wide, but {found} came."
        )
    if len(large) < len(pictures):
        print(f"{len(pictures) - len(large)} of {len(pictures)} pictures are too small: left out.")
    pictures = large

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
