"""What enlarging photos and filling holes in them share."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from .. import expect
from ..conditions import Condition
from ..datasets.photos import crops, photos
from ..guidance import Tiled, guide
from ..pictures import CUT, FURTHER, as_tensor, flat, is_deep, upright
from ..sampling import dpm_solver, last, timesteps
from ..schedule import NoiseSchedule
from ..unet import ask
from .drawing import Progress

PHOTO_STEPS = 25  # of the sampler

# The settings that the networks for photos have in common.
RECIPE = {
    "network": {"channels": [48, 64, 96], "attention": [], "patch": 2, "condition_channels": 3},
    "velocity": True,
    "schedule_steps": 1000,
    "size": 64,
    "batch": 16,
    "learning_rate": 1e-3,
    "drop": 0.1,
    "decay": 0.9995,
}


def with_network(recipe: dict, **settings) -> dict:
    """The recipe with some settings of its network changed."""
    return {**recipe, "network": {**recipe["network"], **settings}}


def by_attention(recipe: dict) -> dict:
    """The recipe with the condition's picture attended to."""
    settings = {"condition_channels": 0, "attention": [2], "token_channels": 96, "placed": True}
    channels = recipe["network"]["condition_channels"]
    return {**with_network(recipe, **settings), "patch_tokens": channels}


def photo_batches(recipe: dict, data: Path | None, prepare):
    """Pieces of the photos in the folder `data`, as `prepare` makes (x_0, condition) of them."""
    if data is None:
        raise ValueError(
            "--data should be a folder of pictures to train on, such as the train and test parts "
            "of BSDS500, but none was given."
        )
    pictures = photos(data, least=recipe["size"])
    batch = min(recipe["batch"], 8 * len(pictures))
    return crops(pictures, recipe["size"], batch, prepare, repeats=8)


def draw_what_lacks(
    tiled: Tiled,
    schedule: NoiseSchedule,
    condition: Condition,
    gain: Tensor | float,
    mend: Callable[[Tensor], Tensor],
    *,
    x_T: Tensor,
    scale: float,
    steps: int,
    progress: Progress,
) -> Tensor:
    """Pictures [B, C, H, W] in [-1, 1], of which the network draws `gain` times what the plain ones
    lack, that are the condition's first planes. mend: puts every guess of the pictures right where
    something is known about them."""
    plain = condition.image[:, : x_T.shape[1]]

    def mended(x_0: Tensor) -> Tensor:
        return gain * (mend((plain + x_0 / gain).clamp(-1, 1)) - plain)

    sampler = dpm_solver(guide(tiled, condition, scale), schedule, x_T, steps, mended)
    return (plain + last(iter(progress(sampler))) / gain).clamp(-1, 1)


def estimate(tiled: Tiled, condition: Condition, channels: int, tiles: int) -> float:
    """About how many seconds the network takes for so many tiles, from one call that it tries.
    condition: of a batch of tiles."""
    began = time.perf_counter()
    ask(tiled.network, condition.image[:, :channels], 1, condition)
    return (time.perf_counter() - began) * tiles / len(condition)


def calls(schedule: NoiseSchedule, steps: int, scale: float) -> int:
    """How often a run asks the network for each tile."""
    timesteps(schedule, steps)  # says what is wrong with steps
    return steps * (1 if expect.number("scale", scale) in (0, 1) else 2)


def as_pictures(photo, channels: int = 3) -> Tensor:
    """What came, as [B, C, H, W] in [-1, 1]; an image turned upright and without its transparency,
    which is put back into what is returned."""
    if isinstance(photo, Image.Image):
        photo = upright(photo)
        if is_deep(photo):
            photo = flat(photo)
        # Pillow converts La to nothing else, and palettes with a warning.
        photo = photo.convert({"La": "LA", "P": "RGBA"}.get(photo.mode, photo.mode))
        return as_tensor(photo.convert("L" if channels == 1 else "RGB"))
    expect.tensor("photo", photo, ("B", channels, "H", "W"))
    if photo.numel() == 0 or not bool((photo.abs() <= 1).all()):
        raise ValueError(
            f"photo should hold pixels in [-1, 1], but {expect.describe(photo)} came, "
            "empty, or with values outside or NaN."
        )
    return photo.float().cpu()


def finished(picture: Image.Image, photo: Image.Image) -> Image.Image:
    """The picture with the photo's resolution and, where it fits, its colour profile; and a warning
    of what it no longer carries."""
    info = photo.info
    same = picture.mode in (photo.mode, "RGBA", "LA") or photo.mode in ("1", "P")
    kept = ("dpi", "icc_profile") if same else ("dpi",)
    picture.info = {key: value for key, value in info.items() if key in kept}
    texts = {key for key, value in info.items() if isinstance(value, (str, bytes, dict))}
    texts -= {"icc_profile", "transparency", "compression", "version", "mp"}
    texts |= {270, 271, 272, 315, 33432, 33723, 34665} & {*getattr(photo, "tag_v2", ())}  # of TIFF
    known = photo.mode == picture.mode or photo.mode not in ("CMYK", "YCbCr", "LAB", "HSV")
    parts = {
        "colour profile": "icc_profile" in info and not same,
        CUT: CUT in info or (is_deep(photo) and not is_deep(picture)),
        f"mode {photo.mode} (it is {picture.mode} now)": not known,
        "metadata": texts,
        "gamma": "gamma" in info,
        FURTHER: info.get(FURTHER, False),
    }
    lost = [name for name, is_lost in parts.items() if is_lost]
    if lost:
        warnings.warn(f"not kept of the photo: its {', its '.join(lost)}.", stacklevel=3)
    return picture
