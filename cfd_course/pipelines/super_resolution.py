"""Photos enlarged four times."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..guidance import Tiled
from ..pictures import (
    as_image,
    back_project,
    bicubic,
    is_deep,
    known_detail,
    shrink,
    stored,
    upright,
)
from ..schedule import NoiseSchedule
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
    "super-resolution": {
        **with_network(RECIPE, condition_channels=6),
        "target": "between",
        "steps": 18_000,
    }
}

# Between two and three steps of 8 bits: or the grain of a flat sky would count as detail.
FAINTEST = 0.02


def coarse_and_detail(low: Tensor) -> tuple[Condition, Tensor]:
    """The condition "enlarge": small pictures [B, 3, h, w], enlarged, and their detail, enlarged
    and as strong everywhere. And the gain that makes it so, [B, 1, 4 h, 4 w]: the network draws
    that many times what the bicubic picture lacks, as varied as its noise, where the lack itself is
    much smaller. Li et al., "SRDiff" (2022), section 3.2, have one gain for all."""
    nothing = torch.zeros_like(low[:, :1], dtype=torch.bool)
    detail, power = known_detail(low, nothing, window=3)
    contrast = (power + FAINTEST**2).sqrt()
    image = torch.cat([bicubic(low), bicubic(detail / contrast)], dim=1)
    return Condition(image=image), 1 / F.interpolate(contrast, scale_factor=4, mode="bilinear")


def to_enlarge(pictures: Tensor) -> tuple[Tensor, Condition]:
    """What super-resolution learns from pictures [B, 3, H, W]: gain times what their bicubic
    version lacks, given that version."""
    condition, gain = coarse_and_detail(stored(shrink(pictures)))
    return gain * (pictures - condition.image[:, :3]), condition


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    return build_unet(recipe)


def batches(recipe: dict, data: Path | None):
    """Pieces of photos."""
    return photo_batches(recipe, data, to_enlarge)


def pipeline(network: nn.Module, recipe: dict) -> "Scaler":
    """Enlarges photos."""
    return Scaler(network, build_schedule(recipe), recipe["size"])


class Scaler:
    """Enlarges photos four times. size: of the network's tiles."""

    factor = 4

    def __init__(self, network: nn.Module, schedule: NoiseSchedule, size: int = 64):
        if expect.whole("size", size, 16) % 16:
            raise ValueError(f"size should be divisible by 16, but {size} came.")
        self.tiled = Tiled(network, size, overlap=size // 4)
        self.schedule = schedule

    def enlarge(
        self,
        photo: Tensor | Image.Image,
        scale: float = 1.0,
        steps: int = PHOTO_STEPS,
        seed: int = 0,
        project: bool = True,
        progress: Progress = iter,
    ) -> Tensor | Image.Image:
        """A photo of four times the height and width, of the kind that came: a tensor [B, 3, h, w]
        in [-1, 1], or a PIL image. Another seed, other details.

        project: keep every guess in agreement with the photo, see back_project.
        """
        if isinstance(photo, Image.Image):
            return self._image(photo, scale, steps, seed, project, progress)
        low = as_pictures(photo)
        height, width = (self.factor * side for side in low.shape[2:])
        margin = [self.tiled.padding(side) // self.factor for side in (height, width)]
        low = F.pad(low, (0, margin[1], 0, margin[0]), mode="replicate")
        large = draw_what_lacks(
            self.tiled,
            self.schedule,
            *coarse_and_detail(low),
            mend=lambda pictures: back_project(pictures, low) if project else pictures,
            x_T=start_noise(len(low), (3, *(self.factor * side for side in low.shape[2:])), seed),
            scale=scale,
            steps=steps,
            progress=progress,
        )
        return large[..., :height, :width].to(photo)

    def _image(self, photo: Image.Image, *settings) -> Image.Image:
        """In greyscale if it came without colours, and with its transparency, made as large."""
        came, advice = f"one of mode {photo.mode!r}", "datasets.photos.open_photo converts it."
        expect.that(not is_deep(photo), "photo", "have 8 bits a colour", came, advice)
        large = as_image(self.enlarge(as_pictures(photo), *settings)[0])
        if photo.mode in ("1", "L", "LA", "La"):
            large = large.convert("L")
        if photo.has_transparency_data:
            alpha = upright(photo).convert("RGBA").getchannel("A")
            large.putalpha(alpha.resize(large.size, Image.Resampling.BICUBIC))
        return finished(large, photo)

    def estimate(
        self, height: int, width: int, steps: int = PHOTO_STEPS, scale: float = 1.0
    ) -> float:
        """About how many seconds it takes to enlarge a photo of this size, from one batch of tiles
        that it tries."""
        tiles = calls(self.schedule, steps, scale)
        tiles *= self.tiled.count(self.factor * height, self.factor * width)
        side = self.tiled.size // self.factor
        condition, _ = coarse_and_detail(torch.zeros(min(self.tiled.batch, tiles), 3, side, side))
        return estimate(self.tiled, condition, 3, tiles)
