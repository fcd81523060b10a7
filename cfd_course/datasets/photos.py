"""Photos from a folder of yours, and what the applications ask about them: smaller ones to enlarge,
ones with holes to fill."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from .. import expect

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


def as_tensor(picture: Image.Image) -> Tensor:
    """A PIL image, in greyscale or RGB, as [1, C, H, W] in [-1, 1]."""
    expect.instance("picture", picture, Image.Image)
    expect.choice("the mode of picture", picture.mode, ("L", "RGB"))
    if not picture.width * picture.height:
        raise ValueError(
            f"picture should have pixels, but one of {picture.width}x{picture.height} came."
        )
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


# --- To enlarge ---------------------------------------------------------------------------------


def shrink(pictures: Tensor, factor: int = 4) -> Tensor:
    """[B, C, H, W] -> [B, C, H / factor, W / factor], bicubic, as Pillow does it."""
    _check_pictures(pictures)
    expect.whole("factor", factor, 1)
    if pictures.shape[2] % factor or pictures.shape[3] % factor:
        raise ValueError(
            f"the height and width of pictures should be divisible by {factor}, but "
            f"{pictures.shape[2]}x{pictures.shape[3]} came."
        )
    # With antialias PyTorch takes Pillow's cubic, a = -0.5; without it, another one, a = -0.75.
    return F.interpolate(pictures, scale_factor=1 / factor, mode="bicubic", antialias=True)


def bicubic(pictures: Tensor, factor: int = 4) -> Tensor:
    """[B, C, H, W] -> [B, C, factor * H, factor * W], as Pillow does it."""
    _check_pictures(pictures)
    expect.whole("factor", factor, 1)
    return F.interpolate(pictures, scale_factor=factor, mode="bicubic", antialias=True)


def back_project(pictures: Tensor, low: Tensor, rounds: int = 5) -> Tensor:
    """Pictures [B, C, H, W] moved until, shrunk, they agree with `low` [B, C, H / 4, W / 4]: each
    round adds what is missing, enlarged. Irani, Peleg, "Improving Resolution by Image Registration"
    (1991)."""
    expect.whole("rounds", rounds, 0)
    _check_pictures(pictures)
    count, channels, height, width = pictures.shape
    expect.tensor("low", low, (count, channels, height // 4, width // 4))
    for _ in range(rounds):
        pictures = pictures + bicubic(low - shrink(pictures))
    return pictures


# --- To fill ------------------------------------------------------------------------------------


def box_holes(count: int, size: int, side: int | tuple[int, int], generator=None) -> Tensor:
    """Boxes of side x side, or of (height, width), at random places, [count, 1, size, size], bool,
    True in the hole."""
    _check_holes(count, size, generator)
    height, width = side if isinstance(side, tuple) else (side, side)
    expect.whole("side", height, 1, size)
    expect.whole("side", width, 1, size)
    top = torch.randint(size - height + 1, (count, 1, 1, 1), generator=generator)
    left = torch.randint(size - width + 1, (count, 1, 1, 1), generator=generator)
    row, column = _places(size)
    return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)


def half_holes(count: int, size: int, generator=None) -> Tensor:
    """One half of the picture: left, right, upper or lower, [count, 1, size, size], bool."""
    _check_holes(count, size, generator)
    side = torch.randint(4, (count, 1, 1, 1), generator=generator)
    row, column = _places(size)
    along = torch.where(side < 2, row, column)
    return (along < size // 2) == (side % 2 == 0)


def free_form_holes(count: int, size: int, strokes: int = 4, generator=None) -> Tensor:
    """Strokes of a thick brush, [count, 1, size, size], bool. After Yu et al., "Free-Form Image
    Inpainting with Gated Convolution" (2019), section 3.4, with straight strokes."""
    _check_holes(count, size, generator)
    expect.whole("strokes", strokes, 1)
    ends = torch.rand(count, strokes, 2, 2, generator=generator) * size
    width = size * (0.05 + 0.05 * torch.rand(count, strokes, 1, 1, generator=generator))
    row, column = _places(size)
    place = torch.stack(torch.broadcast_tensors(row, column), dim=-1)[0, 0] + 0.5  # [size, size, 2]
    start, along = ends[:, :, None, None, 0], (ends[..., 1, :] - ends[..., 0, :])[:, :, None, None]
    share = ((place - start) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)
    nearest = start + share.clamp(0, 1)[..., None] * along
    return ((place - nearest).norm(dim=-1) < width).any(dim=1, keepdim=True)


def _check_holes(count, size, generator) -> None:
    expect.whole("count", count, 1)
    expect.whole("size", size, 1)
    expect.random_source("generator", generator)


def _places(size: int) -> tuple[Tensor, Tensor]:
    places = torch.arange(size)
    return places[:, None].expand(1, 1, size, size), places.expand(1, 1, size, size)


def _check_pictures(pictures) -> None:
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    if pictures.numel() == 0:
        raise ValueError(f"pictures should hold pixels, but {expect.describe(pictures)} came.")


def smooth_fill(pictures: Tensor, mask: Tensor, rounds: int = 16) -> Tensor:
    """The pictures [B, C, H, W] with their holes filled as smoothly as can be: about the harmonic
    filling, in which every pixel is the mean of its four neighbours. mask: [B, 1, H, W], bool, True
    in the hole. It looks at known pixels only.

    Filled at half the size first, then smoothed for some rounds, for smoothing alone takes as many
    rounds as the hole has pixels.
    """
    _check_pictures(pictures)
    expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool")
    expect.whole("rounds", rounds, 0)
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


def biharmonic_fill(pictures: Tensor, mask: Tensor) -> Tensor:
    """The pictures [B, C, H, W] with their holes filled by scikit-image's inpaint_biharmonic, which
    carries on the slopes at the border of a hole where smooth_fill only carries on the colours.
    Close to the border that is better, in the middle of a wide hole worse. mask: [B, 1, H, W],
    bool, True in the hole. It looks at known pixels only."""
    from skimage.restoration import inpaint_biharmonic  # takes a second: only where it is needed

    _check_pictures(pictures)
    expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool")
    filled = torch.where(mask, 0, pictures)
    for number in range(len(pictures)):
        if mask[number].any() and not mask[number].all():
            picture, hole = filled[number].cpu().numpy(), mask[number, 0].cpu().numpy()
            filled[number] = torch.from_numpy(inpaint_biharmonic(picture, hole, channel_axis=0))
    return filled


# Between two and three steps of 8 bits: or the grain of a flat sky would count as detail.
FAINTEST = 0.02


def known_detail(
    pictures: Tensor, mask: Tensor, window: int = 9, faintest: float = FAINTEST
) -> tuple[Tensor, Tensor]:
    """What the known pixels of pictures [B, C, H, W] add to the mean of the known ones around them,
    0 in the hole; and how strong that is, its root mean square over the neighbourhood and the
    colours, [B, 1, H, W], filled smoothly into the hole. mask: [B, 1, H, W], bool, True in the
    hole. It looks at known pixels only.

    window: of both means, an odd number of pixels. faintest: no contrast counts as less.
    """
    _check_pictures(pictures)
    expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool")
    expect.number("faintest", faintest, 0)
    if expect.whole("window", window, 1) % 2 == 0:
        raise ValueError(f"window should be odd, to have a middle, but {window} came.")
    known = (~mask).to(pictures)
    share = F.avg_pool2d(known, window, 1, window // 2).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        """Over the known pixels of the window."""
        return F.avg_pool2d(values * known, window, 1, window // 2) / share

    detail = (pictures - mean(pictures)) * known
    power = mean(detail.square().mean(dim=1, keepdim=True)) * known
    return detail, (smooth_fill(power, mask) + faintest**2).sqrt()
