"""Pictures as tensors and as images; smaller and larger ones; and fillings of holes that need no
network."""

import contextlib
import re
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from . import expect
from .expect import Count, checked

Batch = Float[Tensor, "B C H W"]
Holes = Bool[Tensor, "B 1 H W"]  # True in the hole

# EXIF's orientation: how the pixels are to be turned.
TURNS = (
    "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()
)
# In an image's info, by `upright`: whether its file holds more than was read.
CUT, FURTHER = "bits beyond 8", "further pictures"


def upright(picture: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say. Data that cannot be read turn nothing, and are left
    out of an image that is turned: it is the pixels that count."""
    if not is_deep(picture) and re.search(";16|65535", str(getattr(picture, "tile", ""))):
        picture.info[CUT] = True
    try:
        picture.info[FURTHER] = picture.info.get(FURTHER) or getattr(picture, "n_frames", 1) > 1
        exif = picture.getexif()
        turn = dict(enumerate(TURNS, 2)).get(exif.get(0x0112))
    except Exception:  # Pillow's reader raises whatever odd data lead it to
        turn = None
    if turn is None:
        return picture
    turned = picture.transpose(Image.Transpose[turn])
    turned.info = {key: value for key, value in picture.info.items() if key != "exif"}
    with contextlib.suppress(Exception):
        rest = Image.Exif()
        rest.load(exif.tobytes())
        rest.pop(0x0112)
        turned.info["exif"] = rest.tobytes()
    return turned


def is_deep(picture: Image.Image) -> bool:
    """Whether the image has more than 8 bits a colour."""
    return picture.mode.startswith(("I", "F"))


def largest_value(picture: Image.Image) -> int:
    """What white is in an image of more than 8 bits."""
    return 65535 if picture.mode.startswith("I") else 1


def flat(picture: Image.Image, background: str = "white") -> Image.Image:
    """The image in greyscale ("L") if it has no colours, else in RGB. Whatever is transparent shows
    the background; more than 8 bits become 8."""
    if is_deep(picture):
        values = np.array(picture, dtype=np.float64) / (top := largest_value(picture))
        came = f"from {values.min() * top:g} to {values.max() * top:g}"
        inside = bool((abs(values - 0.5) <= 0.5).all())
        expect.that(inside, f"mode {picture.mode}", f"hold 0 to {top}", came, "Scale the values.")
        picture = Image.fromarray((values * 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def as_tensor(picture: Image.Image) -> Tensor:
    """A PIL image, in greyscale or RGB, as [1, C, H, W] in [-1, 1]."""
    expect.instance("picture", picture, Image.Image)
    expect.choice("the mode of picture", picture.mode, ("L", "RGB"))
    size = f"one of {picture.width}x{picture.height}"
    expect.that(picture.width * picture.height, "picture", "have pixels", size)
    values = torch.from_numpy(np.array(picture))
    return values.reshape(1, picture.height, picture.width, -1).permute(0, 3, 1, 2) / 127.5 - 1


def as_image(picture: Tensor) -> Image.Image:
    """[C, H, W] in [-1, 1], of one or three channels, as a PIL image."""
    expect.tensor("picture", picture, ("1 or 3", "H", "W"))
    expect.choice("the channels of picture", len(picture), (1, 3))
    values = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    return Image.fromarray(values.squeeze(2).numpy())


def stored(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1], any shape, rounded to what a file of 8 bits holds."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


# --- Smaller and larger ------------------------------------------------------------------------


@checked
def shrink(pictures: Batch, factor: Count = 4) -> Tensor:
    """[B, C, H, W] -> [B, C, H / factor, W / factor], bicubic, as Pillow does it."""
    expect.divisible("the height and width of pictures", pictures.shape[2:], factor)
    # With antialias PyTorch takes Pillow's cubic, a = -0.5; without it, another one, a = -0.75.
    return F.interpolate(pictures, scale_factor=1 / factor, mode="bicubic", antialias=True)


@checked
def bicubic(pictures: Batch, factor: Count = 4) -> Tensor:
    """[B, C, H, W] -> [B, C, factor * H, factor * W], as Pillow does it."""
    return F.interpolate(pictures, scale_factor=factor, mode="bicubic", antialias=True)


def back_project(pictures: Tensor, low: Tensor, rounds: int = 5) -> Tensor:
    """Pictures [B, C, H, W] moved until, shrunk, they agree with `low` [B, C, H / 4, W / 4]: each
    round adds what is missing, enlarged. Irani, Peleg, "Improving Resolution by Image Registration"
    (1991)."""
    expect.whole("rounds", rounds, 0)
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    count, channels, height, width = pictures.shape
    expect.tensor("low", low, (count, channels, height // 4, width // 4))
    for _ in range(rounds):
        pictures = pictures + bicubic(low - shrink(pictures))
    return pictures


# --- Without a hole ----------------------------------------------------------------------------


@checked
def smooth_fill(pictures: Batch, mask: Holes, rounds: Annotated[int, Ge(0)] = 16) -> Tensor:
    """The pictures [B, C, H, W] with their holes filled as smoothly as can be: about the harmonic
    filling, in which every pixel is the mean of its four neighbours. mask: [B, 1, H, W], bool, True
    in the hole. It looks at known pixels only.

    Filled at half the size first, then smoothed for some rounds, for smoothing alone takes as many
    rounds as the hole has pixels.
    """
    if not mask.any():
        return pictures
    known = (~mask).to(pictures)
    if max(pictures.shape[2:]) == 1:
        return pictures * known
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    half = F.avg_pool2d(pictures * known, 2, ceil_mode=True) / share.clamp(min=1e-6)
    half = smooth_fill(half * (share > 0), share == 0, rounds)
    filled = F.interpolate(half, size=pictures.shape[2:], mode="bilinear", align_corners=False)
    filled = torch.where(mask, filled, pictures)
    around = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).to(pictures) / 4
    around = around.expand(pictures.shape[1], 1, 3, 3)
    for _ in range(rounds):
        mean = F.conv2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), around, groups=len(around))
        filled = torch.where(mask, mean, pictures)
    return filled


@checked
def biharmonic_fill(pictures: Batch, mask: Holes) -> Tensor:
    """The pictures [B, C, H, W] with their holes filled by scikit-image's inpaint_biharmonic, which
    carries on the slopes at the border of a hole where smooth_fill only carries on the colours.
    Close to the border that is better, in the middle of a wide hole worse. mask: [B, 1, H, W],
    bool, True in the hole. It looks at known pixels only."""
    from skimage.restoration import inpaint_biharmonic  # takes a second: only where it is needed

    filled = torch.where(mask, 0, pictures)
    for number in range(len(pictures)):
        if mask[number].any() and not mask[number].all():
            picture, hole = filled[number].cpu().numpy(), mask[number, 0].cpu().numpy()
            filled[number] = torch.from_numpy(inpaint_biharmonic(picture, hole, channel_axis=0))
    return filled


@checked
def known_detail(pictures: Batch, mask: Holes, window: Count = 9) -> tuple[Tensor, Tensor]:
    """What the known pixels of pictures [B, C, H, W] add to the mean of the known ones around them,
    0 in the hole; and how strong that is, its mean square over the neighbourhood and the colours,
    [B, 1, H, W], filled smoothly into the hole. mask: [B, 1, H, W], bool, True in the hole. It
    looks at known pixels only. window: of both means, an odd number of pixels.
    """
    expect.that(window % 2, "window", "be odd, to have a middle", str(window))
    known = (~mask).to(pictures)
    share = F.avg_pool2d(known, window, 1, window // 2).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        """Over the known pixels of the window."""
        return F.avg_pool2d(values * known, window, 1, window // 2) / share

    detail = (pictures - mean(pictures)) * known
    power = mean(detail.square().mean(dim=1, keepdim=True)) * known
    return detail, smooth_fill(power, mask)
