"""Holes in photos, filled."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..datasets.holes import box_holes, free_form_holes, half_holes
from ..guidance import Tiled
from ..pictures import as_tensor, bicubic, biharmonic_fill, known_detail, smooth_fill
from ..schedule import NoiseSchedule
from ..unet import KnownPixels
from .drawing import Progress, build_schedule, build_unet
from .photo import (
    PHOTO_STEPS,
    RECIPE,
    as_came,
    as_pictures,
    draw_what_lacks,
    photo_batches,
    with_network,
)

RECIPES = {
    "inpainting": {
        **with_network(RECIPE, channels=[48, 64, 96, 128], condition_channels=11),
        "target": "velocity",
        "relative": True,
        "quiet": True,
        "steps": 14_000,
    }
}

# NOISE_SCALING for fill, of the grey part of the noise only: in a hole, what scaling adds to the
# colours is confetti. Chosen on 50 photos of the training set, where samples then have the power of
# the real ones.
HOLE_NOISE_SCALING = 1.004

# The networks of inpainting draw HOLE_GAIN times what the smooth filling lacks, likewise. In photos
# what is to be drawn is twenty-five times weaker in a sky than in a bush: there, the gain is what
# makes the known detail around the hole equally strong everywhere.
HOLE_GAIN = 2.0


# No contrast counts as less. A sky is filled to a grey level or two, and what it lacks must not
# drown in the noise.
FAINTEST = 0.01


def with_hole(pictures: Tensor, mask: Tensor) -> Condition:
    """The condition "fill the hole": the pictures [B, C, H, W] with their holes filled smoothly,
    and one more plane that says where they are; mask [B, 1, H, W], bool, True in the hole."""
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    return Condition(image=torch.cat([smooth_fill(pictures, mask), 2.0 * mask - 1], dim=1))


def with_hole_and_detail(pictures: Tensor, mask: Tensor) -> tuple[Condition, Tensor]:
    """The condition "fill the hole", for networks that draw relative to the detail around it: the
    pictures [B, C, H, W] with the biharmonic filling, but no further from the smooth one than 1.5
    times the contrast; how far that is, and the known detail, both as strong everywhere; how strong
    it was, in logarithms; and where the holes are, [B, 3 C + 2, H, W]. And the gain that makes it
    so, [B, 1, H, W]."""
    detail, power = known_detail(pictures, mask)
    contrast = (power + FAINTEST**2).sqrt()
    smooth = smooth_fill(pictures, mask)
    # Slopes that are carried on far from the border shoot out.
    apart = ((biharmonic_fill(pictures, mask) - smooth) / contrast).clamp(-1.5, 1.5)
    strength = contrast.log() + 2.5  # about 0 on average
    planes = [smooth + contrast * apart, apart, detail / contrast, strength, 2.0 * mask - 1]
    return Condition(image=torch.cat(planes, dim=1)), 1 / contrast


def told_smoothly(pictures: Tensor, mask: Tensor) -> tuple[Condition, float]:
    """The condition with_hole, and the gain that goes with it."""
    return with_hole(pictures, mask), HOLE_GAIN


def mixed_holes(count: int, size: int, longest: int, others: Callable[..., Tensor]) -> Tensor:
    """Holes to learn from, [count, 1, size, size], bool: half are boxes, from a quarter to a half
    of the picture in one direction and from that to `longest` in the other; a quarter are free-form
    strokes, a quarter what others(count, size, short) gives for the boxes' shorter side."""
    short = int(torch.randint(size // 4, size // 2 + 1, ()))
    long = int(torch.randint(short, longest + 1, ()))
    kinds = [
        box_holes(count, size, (short, long)),
        box_holes(count, size, (long, short)),
        free_form_holes(count, size),
        others(count, size, short),
    ]
    kind = torch.randint(4, (count,))
    return torch.stack(kinds)[kind, torch.arange(count)]


def holes_and_halves(count: int, size: int) -> Tensor:
    """Mixed holes, with boxes as wide as the picture, and halves."""
    return mixed_holes(count, size, size, lambda count, size, _: half_holes(count, size))


def photo_holes(count: int, size: int) -> Tensor:
    """Mixed holes without a box wider than half the picture, and with strips from side to side, but
    no halves: of their far side the detail that is known says too little."""

    def strips(count: int, size: int, short: int) -> Tensor:
        thick = (short + 1) // 2
        return box_holes(count, size, (thick, size) if torch.rand(()) < 0.5 else (size, thick))

    return mixed_holes(count, size, size // 2, strips)


def to_fill(
    pictures: Tensor, holes=holes_and_halves, tell=told_smoothly
) -> tuple[Tensor, Condition]:
    """What inpainting learns from square pictures [B, C, H, W]: gain times what the plain filling
    of a hole lacks, which is nothing at known pixels; given that filling and the hole.

    holes: holes(count, size), what makes them. tell: what makes the condition, whose first planes
    are the plain filling, and the gain."""
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    count, channels, size, width = pictures.shape
    if width != size or size < 4:
        raise ValueError(
            "pictures should be square, of 4 pixels a side or more, but "
            f"{expect.describe(pictures)} came."
        )
    condition, gain = tell(pictures, holes(count, size))
    return gain * (pictures - condition.image[:, :channels]), condition


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    unet = build_unet(recipe)
    attended = unet.network.factor if recipe["network"].get("inject") == "attention" else None
    return KnownPixels(unet, build_schedule(recipe), attended, recipe.get("quiet", False))


def batches(recipe: dict, data: Path | None):
    """Pieces of photos with holes."""
    prepare = partial(to_fill, holes=photo_holes, tell=with_hole_and_detail)
    return photo_batches(recipe, data, prepare)


def pipeline(network: nn.Module, recipe: dict) -> "Mender":
    """Fills holes in photos."""
    return Mender(network, build_schedule(recipe), 3, recipe["size"], with_hole_and_detail)


class Mender:
    """Fills holes in pictures.

    size: of the network's pictures; channels: theirs. tell: what makes the condition, whose first
    planes are the plain filling, and the gain.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        channels: int,
        size: int,
        tell=told_smoothly,
    ):
        self.tiled = Tiled(network, size, size // 2)
        self.schedule = schedule
        self.channels = channels
        self.tell = tell

    def fill(
        self,
        photo: Tensor | Image.Image,
        mask: Tensor | Image.Image,
        scale: float = 1.0,
        steps: int = PHOTO_STEPS,
        seed: int = 0,
        progress: Progress = iter,
    ) -> Tensor | Image.Image:
        """The photo with its hole filled, of the kind that came: a tensor [B, C, H, W] in [-1, 1],
        or a PIL image. What is known stays as it is, bit for bit. Another seed, another filling.

        mask: True (white) in the hole: [B, 1, H, W], bool, or a PIL image of the photo's size.
        A hole too thick for the network's tiles is filled at half the size, and is softer.
        """
        pictures = as_pictures(photo, self.channels)
        hole = _as_mask(mask, pictures)
        sample = partial(self._sample, scale=scale, steps=steps, seed=seed, progress=progress)
        filled = self._fill(pictures, hole, sample) if hole.any() else pictures
        if isinstance(photo, Image.Image):
            # Where it is known, the very pixels that came, whatever the mode did to them.
            filled = as_came(filled, photo)
            return Image.composite(filled, photo.convert(filled.mode), _white(hole))
        return torch.where(hole, filled.to(photo), photo)

    def _fill(self, pictures: Tensor, hole: Tensor, sample: Callable[..., Tensor]) -> Tensor:
        size = self.tiled.size
        thick = size // 4 * 2 + 1
        core = -F.max_pool2d(-hole.float(), thick, stride=1, padding=thick // 2)
        if core.any() and min(pictures.shape[2:]) >= 2 * size:
            even = F.pad(
                pictures, (0, pictures.shape[3] % 2, 0, pictures.shape[2] % 2), mode="replicate"
            )
            wide = F.pad(hole.float(), (0, hole.shape[3] % 2, 0, hole.shape[2] % 2))
            half = self._fill(F.avg_pool2d(even, 2), F.max_pool2d(wide, 2) > 0, sample)
            grown = bicubic(half, 2)[..., : hole.shape[2], : hole.shape[3]].clamp(-1, 1)
            return torch.where(hole, grown, pictures)
        # Only what lies near the hole is worked on.
        rows, columns = (hole.any(dim=(0, 1, axis)).nonzero()[:, 0] for axis in (3, 2))
        near = tuple(
            slice(max(0, int(found[0]) - size // 2), min(side, int(found[-1]) + 1 + size // 2))
            for found, side in zip((rows, columns), pictures.shape[2:], strict=True)
        )
        part, gap = pictures[:, :, *near], hole[:, :, *near]
        height, width = part.shape[2:]
        margin = (0, self.tiled.padding(width), 0, self.tiled.padding(height))
        known = F.pad(part, margin, mode="replicate")
        gap = F.pad(gap.float(), margin, mode="replicate") > 0  # no known pixel copies a hidden one

        pictures = pictures.clone()
        pictures[:, :, *near] = sample(known, gap)[..., :height, :width]
        return pictures

    def _sample(self, known, hole, scale, steps, seed, progress) -> Tensor:
        less = 1 - 1 / HOLE_NOISE_SCALING if self.tell is with_hole_and_detail else 0
        filled = draw_what_lacks(
            self.tiled,
            self.schedule,
            *self.tell(known, hole),
            mend=lambda pictures: torch.where(hole, pictures, known),
            channels=self.channels,
            scale=scale,
            steps=steps,
            seed=seed,
            progress=progress,
            soften=lambda noise: noise - less * noise.mean(dim=1, keepdim=True),
        )
        return torch.where(hole, filled, known)


def _as_mask(mask, pictures: Tensor) -> Tensor:
    if isinstance(mask, Image.Image):
        height, width = pictures.shape[2:]
        if mask.size != (width, height):
            raise ValueError(
                f"mask should be as large as the photo, {width}x{height} pixels, but "
                f"{mask.width}x{mask.height} came."
            )
        if mask.mode.startswith(("I", "F")):
            raise ValueError(
                f"mask should have 8 bits, but one of mode {mask.mode!r} came. "
                "datasets.photos.open_photo converts it."
            )
        mask = mask.convert("L")
        if 0 < mask.getextrema()[1] < 128:
            raise ValueError(
                "mask should be white, 255, in the hole, but the brightest pixel of the one that "
                f"came is {mask.getextrema()[1]}."
            )
        return as_tensor(mask) > 0
    return expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool")


def _white(hole: Tensor) -> Image.Image:
    return Image.fromarray((hole[0, 0] * 255).byte().numpy())
