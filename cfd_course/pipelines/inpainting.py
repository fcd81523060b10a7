"""Holes in photos, filled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_dilation, label
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..datasets.holes import box_holes, free_form_holes, half_holes
from ..guidance import Tiled
from ..pictures import (
    as_image,
    as_tensor,
    bicubic,
    biharmonic_fill,
    flat,
    is_deep,
    known_detail,
    largest_value,
    smooth_fill,
    upright,
)
from ..schedule import NoiseSchedule
from ..unet import KnownPixels
from .drawing import Progress, build_schedule, build_unet, start_noise
from .photo import (
    PHOTO_STEPS,
    RECIPE,
    as_pictures,
    calls,
    draw_what_lacks,
    estimate,
    finished,
    photo_batches,
    with_network,
)

RECIPES = {
    "inpainting": {
        **with_network(RECIPE, channels=[48, 64, 96, 128], condition_channels=11),
        "target": "velocity",
        "quiet": True,
        "steps": 14_000,
    }
}

# Numbers that were chosen, not derived. The shipped networks were trained with them;
# data/results/inpainting.json and digit-inpainting.json are measured with all of them.
#
# HOLE_GAIN: digits. The network draws this times what the smooth filling lacks, so that it is about
#   as varied as the noise. In photos what is to be drawn is twenty-five times weaker in a sky than
#   in a bush: there the gain is what makes the known detail around the hole equally strong.
# FAINTEST: photos. No contrast counts as less: a sky is filled to a grey level or two, and what it
#   lacks must not drown in the noise.
# FURTHEST: photos. The biharmonic filling is no further from the smooth one than so many contrasts:
#   slopes that are carried on far from the border shoot out.
# USUAL: photos. Minus the logarithm of a usual contrast, so that the plane of it is about 0.
HOLE_GAIN = 2.0
FAINTEST = 0.01
FURTHEST = 1.5
USUAL = 2.5


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
    apart = ((biharmonic_fill(pictures, mask) - smooth) / contrast).clamp(-FURTHEST, FURTHEST)
    strength = contrast.log() + USUAL
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
    attended = unet.network.network.factor if "patch_tokens" in recipe else None
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
        """The photo with its holes filled, of the kind that came: a tensor [B, C, H, W] in [-1, 1],
        or a PIL image. What is known stays as it is, bit for bit. Another seed, another filling.
        Each hole of each picture is filled by itself.

        mask: True (white) in the hole: [B, 1, H, W], bool, or a PIL image of the photo's size.
        A hole too thick for the network's tiles is filled at half the size, and is softer.
        """
        expect.whole("seed", seed, 0)
        if isinstance(photo, Image.Image):
            pictures = as_pictures(photo, self.channels)
            hole = _as_mask(mask, pictures)
            filled = self.fill(pictures, hole, scale, steps, seed, progress)
            return _set_in(photo, as_image(filled[0]), hole)
        pictures = as_pictures(photo, self.channels)
        hole = _as_mask(mask, pictures)
        filled, alike = pictures.clone(), {}
        for job in self._jobs(pictures, hole):
            alike.setdefault(job.known.shape, []).append(job)
        for shape, jobs in alike.items():
            drawn = self._sample(
                torch.cat([job.known for job in jobs]),
                torch.cat([job.hole for job in jobs]),
                torch.cat([start_noise(1, tuple(shape[1:]), seed + job.row) for job in jobs]),
                scale,
                steps,
                progress,
            )
            for job, picture in zip(jobs, drawn.split(1), strict=True):
                row = filled[job.row : job.row + 1]
                row.copy_(torch.where(job.wanted, job.set_in(picture), row))
        return torch.where(hole.to(photo.device), filled.to(photo), photo)

    def estimate(self, photo, mask, steps: int = PHOTO_STEPS, scale: float = 1.0) -> float:
        """About how many seconds it takes to fill these holes, from a batch of tiles it tries."""
        pictures = as_pictures(photo, self.channels)
        jobs = self._jobs(pictures, _as_mask(mask, pictures))
        tiles = sum(self.tiled.count(*job.known.shape[2:]) for job in jobs)
        tiles *= calls(self.schedule, steps, scale)
        size, count = self.tiled.size, min(self.tiled.batch, max(tiles, 1))
        known = torch.zeros(count, self.channels, size, size)
        hole = torch.zeros(count, 1, size, size, dtype=torch.bool)
        hole[..., size // 4 : size // 2, size // 4 : size // 2] = True
        return estimate(self.tiled, self.tell(known, hole)[0], self.channels, tiles)

    def _jobs(self, pictures: Tensor, hole: Tensor) -> list["Job"]:
        """Each hole of each picture by itself."""
        core = self._core(hole)
        return [
            self._job(row, pictures[row : row + 1], hole[row : row + 1], wanted)
            for row in range(len(pictures))
            for wanted in separate(hole[row, 0], core[row, 0], self.tiled.size // 16)
        ]

    def _core(self, hole: Tensor) -> Tensor:
        """The pixels of a hole that are so deep in it that the network's tiles don't reach out."""
        thick = self.tiled.size // 4 * 2 + 1
        return -F.max_pool2d(-hole.float(), thick, stride=1, padding=thick // 2) > 0

    def _job(self, row: int, picture: Tensor, hole: Tensor, wanted: Tensor) -> "Job":
        height, width = picture.shape[2:]
        if self._core(wanted).any() and min(height, width) >= 2 * self.tiled.size:
            odd = (0, width % 2, 0, height % 2)
            half = F.avg_pool2d(F.pad(picture, odd, mode="replicate"), 2)
            halves = (F.max_pool2d(F.pad(m.float(), odd), 2) > 0 for m in (hole, wanted))
            job = self._job(row, half, *halves)

            def grow(drawn: Tensor) -> Tensor:
                return bicubic(job.set_in(drawn), 2)[..., :height, :width].clamp(-1, 1)

            return replace(job, wanted=wanted, set_in=grow)
        # Only what lies near the hole is worked on.
        reach = self.tiled.size // 2
        near = tuple(
            slice(max(0, int(found[0]) - reach), int(found[-1]) + 1 + reach)
            for found in (wanted.any(dim=(0, 1, axis)).nonzero()[:, 0] for axis in (3, 2))
        )
        part, gap = picture[:, :, *near], hole[:, :, *near]
        high, wide = part.shape[2:]
        margin = (0, self.tiled.padding(wide), 0, self.tiled.padding(high))
        known = F.pad(part, margin, mode="replicate")
        gap = F.pad(gap.float(), margin, mode="replicate") > 0  # no known pixel copies a hidden one

        def paste(drawn: Tensor) -> Tensor:
            whole = picture.clone()
            whole[:, :, *near] = drawn[..., :high, :wide]
            return whole

        return Job(row, wanted, known, gap, paste)

    def _sample(self, known, hole, x_T, scale, steps, progress) -> Tensor:
        return draw_what_lacks(
            self.tiled,
            self.schedule,
            *self.tell(known, hole),
            mend=lambda pictures: torch.where(hole, pictures, known),
            x_T=x_T,
            scale=scale,
            steps=steps,
            progress=progress,
        )


@dataclass(frozen=True, eq=False)
class Job:
    """One hole to fill: the picture's row in the batch; which pixels are wanted, [1, 1, H, W]; what
    the network is given, known [1, C, h, w] and hole [1, 1, h, w], of which other holes near by are
    a part; and what sets [1, C, h, w], drawn, into the picture."""

    row: int
    wanted: Tensor
    known: Tensor
    hole: Tensor
    set_in: Callable[[Tensor], Tensor]


def separate(hole: Tensor, core: Tensor, near: int) -> list[Tensor]:
    """The holes of a picture, [H, W], one by one, as [1, 1, H, W]: what touches is one hole, and
    what is thin and lies within 2 * near pixels. core: what is thick of them, [H, W]."""
    touching, _ = label(hole.numpy(), np.ones((3, 3)))
    thick = np.unique(touching[core.numpy()])
    thin = hole.numpy() & ~np.isin(touching, thick)
    joined = binary_dilation(thin, np.ones((3, 3)), iterations=near) if near else thin
    groups, count = label(joined, np.ones((3, 3)))
    found = [touching == number for number in thick]
    found += [thin & (groups == number) for number in range(1, count + 1)]
    return [torch.from_numpy(each)[None, None] for each in found]


def _as_mask(mask, pictures: Tensor) -> Tensor:
    if isinstance(mask, Image.Image):
        height, width = pictures.shape[2:]
        mask = flat(upright(mask), "black").convert("L")
        wanted, came = f"photo, {width}x{height} pixels", f"{mask.width}x{mask.height}"
        expect.that(mask.size == (width, height), "mask", f"be as large as the {wanted}", came)
        if 0 < mask.getextrema()[1] < 128:
            raise ValueError(
                "mask should be white, 255, in the hole, but the brightest pixel of the one that "
                f"came is {mask.getextrema()[1]}."
            )
        return as_tensor(mask) > 0
    return expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool").cpu()


def _set_in(photo: Image.Image, filled: Image.Image, hole: Tensor) -> Image.Image:
    """The photo with the filling in its hole. All other pixels are the very ones that came, in its
    own mode; where a filling can't be had in that mode, as they look in RGB."""
    upright_photo, where = upright(photo), hole[0, 0].numpy()
    if is_deep(photo):
        values = np.array(upright_photo)
        grey = np.array(filled.convert("L")) / 255 * largest_value(photo)
        values[where] = (grey if photo.mode == "F" else grey.round())[where]
        return finished(Image.fromarray(values), photo)
    base = upright_photo.convert("LA") if photo.mode == "La" else upright_photo
    if base.mode in ("1", "P", "PA", "RGBa", "LAB", "HSV"):
        clear = "A" if base.has_transparency_data else ""
        base = base.convert(("L" if base.mode == "1" else "RGB") + clear)
    elif "transparency" in base.info:  # a colour that stands for it
        base = base.convert("RGBA")
    white = Image.fromarray((where * 255).astype(np.uint8))
    return finished(Image.composite(filled.convert(base.mode), base, white), photo)
