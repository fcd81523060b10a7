"""What enlarging photos and filling holes in them share."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from .. import expect
from ..conditions import Condition
from ..datasets.photos import crops, photos
from ..guidance import Tiled, guide
from ..pictures import as_image, as_tensor
from ..sampling import dpm_solver, last
from ..schedule import NoiseSchedule
from .drawing import Progress, start_noise

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


def photo_batches(recipe: dict, data: Path | None, prepare):
    """Pieces of the photos in the folder `data`, as `prepare` makes (x_0, condition) of them."""
    if data is None:
        raise ValueError(
            "--data should be a folder of pictures to train on, such as the train and test parts "
            "of BSDS500, but none was given."
        )
    return crops(photos(data), recipe["size"], recipe["batch"], prepare, repeats=8)


def draw_what_lacks(
    tiled: Tiled,
    schedule: NoiseSchedule,
    condition: Condition,
    gain: Tensor | float,
    mend: Callable[[Tensor], Tensor],
    *,
    channels: int,
    scale: float,
    steps: int,
    seed: int,
    progress: Progress,
    soften: Callable[[Tensor], Tensor] = lambda noise: noise,
) -> Tensor:
    """Pictures [B, C, H, W] in [-1, 1], of which the network draws `gain` times what the plain ones
    lack, that are the condition's first planes. mend: puts every guess of the pictures right where
    something is known about them."""
    plain = condition.image[:, :channels]

    def mended(x_0: Tensor) -> Tensor:
        return gain * (mend((plain + x_0 / gain).clamp(-1, 1)) - plain)

    guided = guide(tiled, condition, scale)
    x_T = start_noise(len(plain), tuple(plain.shape[1:]), seed)
    sampler = dpm_solver(lambda x_t, t: soften(guided(x_t, t)), schedule, x_T, steps, mended)
    return (plain + last(iter(progress(sampler))) / gain).clamp(-1, 1)


def as_pictures(photo, channels: int = 3) -> Tensor:
    """What came, as [B, C, H, W] in [-1, 1]."""
    if isinstance(photo, Image.Image):
        if photo.mode.startswith(("I", "F")):
            raise ValueError(
                f"photo should have 8 bits a colour, but one of mode {photo.mode!r} came. "
                "datasets.photos.open_photo converts it."
            )
        return as_tensor(photo.convert("L" if channels == 1 else "RGB"))
    expect.tensor("photo", photo, ("B", channels, "H", "W"))
    if photo.numel() == 0 or not bool((photo.abs() <= 1).all()):
        raise ValueError(
            f"photo should hold pixels in [-1, 1], but {expect.describe(photo)} came, "
            "empty, or with values outside or NaN."
        )
    return photo.float()


def as_came(pictures: Tensor, photo) -> Tensor | Image.Image:
    if isinstance(photo, Image.Image):
        return as_image(pictures[0]).convert("L" if photo.mode in ("1", "L", "LA") else "RGB")
    return pictures.to(photo)
