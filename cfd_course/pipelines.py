"""The applications: `load(name)` gives a trained network with what belongs around it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from . import expect
from .checkpoints import load_checkpoint, load_weights
from .conditions import Condition
from .datasets import data_path
from .datasets.digits import digit_condition
from .datasets.photos import (
    as_image,
    as_tensor,
    back_project,
    bicubic,
    biharmonic_fill,
    box_holes,
    free_form_holes,
    half_holes,
    known_detail,
    shrink,
    smooth_fill,
    stored,
)
from .guidance import guide
from .sampling import Step, dpm_solver, last, timesteps
from .schedule import NoiseSchedule
from .text import TextEncoder, tokenise
from .unet import KnownPixels, Unet, Velocity

# Wraps the steps of a sampler, say functools.partial(tqdm, total=20).
Progress = Callable[[Iterator[Step]], Iterable[Step]]


def start_noise(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """x_T for `count` pictures, [count, *shape]. Picture i comes from seed + i alone, so it is the
    same in whatever batch it is drawn."""
    expect.whole("count", count, 1)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape should be a tuple of sizes, but {expect.describe(shape)} came.")
    for size in shape:
        expect.whole("each size in shape", size, 1)
    expect.whole("seed", seed, 0, 2**32 - count, "torch tells no larger ones apart.")
    return torch.stack(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed + index))
            for index in range(count)
        ]
    )


def _run(progress: Progress, denoise, schedule: NoiseSchedule, x_T: Tensor, steps, clip=1.0):
    """The end of dpm_solver, its steps wrapped by progress."""
    return last(iter(progress(dpm_solver(denoise, schedule, x_T, steps, clip))))


class Writer:
    """Draws handwritten digits."""

    def __init__(self, network: Unet, schedule: NoiseSchedule):
        self.network = network
        self.schedule = schedule

    def draw(
        self,
        digits: list[int] | Tensor,
        scale: float = 2.0,
        steps: int = 20,
        seed: int = 0,
        progress: Progress = iter,
    ) -> Tensor:
        """One picture for each of the digits, [B, 1, 28, 28] in [-1, 1]. scale: see guide; steps:
        of dpm_solver; seed: of the first picture, the next one has seed + 1; progress: see
        Progress."""
        condition = digit_condition(digits)
        x_T = start_noise(len(condition), (1, 28, 28), seed)
        denoise = guide(self.network, condition, scale)
        return _run(progress, denoise, self.schedule, x_T, steps)


class Artist:
    """Draws what a caption says."""

    def __init__(self, network: nn.Module, schedule: NoiseSchedule):
        self.network = network
        self.schedule = schedule

    def draw(
        self,
        captions: str | Sequence[str],
        scale: float = 2.0,
        steps: int = 20,
        seed: int = 0,
        progress: Progress = iter,
    ) -> Tensor:
        """One picture for each caption, [B, 3, 32, 32] in [-1, 1]. Arguments as for
        Writer.draw."""
        condition = tokenise([captions] if isinstance(captions, str) else captions)
        x_T = start_noise(len(condition), (3, 32, 32), seed)
        denoise = guide(self.network, condition, scale)
        return _run(progress, denoise, self.schedule, x_T, steps)


class Tiled:
    """A network for pictures of one size, made to work on larger ones: overlapping tiles share x_t,
    and their predictions are averaged where they overlap, at every step, so that no border shows.
    Bar-Tal et al., "MultiDiffusion" (2023), section 4.

    batch: tiles at a time.
    """

    def __init__(self, network: Callable[..., Tensor], size: int, overlap: int, batch: int = 32):
        self.network = expect.callable_("network", network, "network(x_t, t, condition)")
        self.size = expect.whole("size", size, 1)
        self.stride = size - expect.whole("overlap", overlap, 0, size - 1)
        self.batch = expect.whole("batch", batch, 1)
        ramp = (torch.arange(size) + 0.5).minimum(size - torch.arange(size) - 0.5)
        self.weight = ramp[:, None].minimum(ramp) / size  # [size, size], most in the middle

    def padding(self, length: int) -> int:
        """How much a height or width must grow for tiles to cover it."""
        return max(self.size - length, 0) + -max(length - self.size, 0) % self.stride

    def __call__(self, x_t: Tensor, t: int, condition: Condition) -> Tensor:
        """x_t [B, C, H, W], t, a condition with an image [B, D, H, W] -> the noise [B, C, H, W]"""
        expect.tensor("x_t", x_t, ("B", "C", "H", "W"))
        expect.instance("condition", condition, Condition)
        wanted = (len(x_t), "D", *x_t.shape[2:])
        expect.tensor("the condition's image", condition.image, wanted)
        if any(self.padding(side) for side in x_t.shape[2:]):
            raise ValueError(
                f"x_t should be of a size that the tiles cover, but {x_t.shape[2]}x{x_t.shape[3]} "
                f"came, for tiles of {self.size} every {self.stride} pixels. Pad it by padding()."
            )
        tiles, images = self._cut(x_t), self._cut(condition.image)
        present = condition.present.repeat_interleave(len(tiles) // len(x_t))
        noise = torch.cat(
            [
                self.network(part, t, Condition(image=image, present=there))
                for part, image, there in zip(
                    *(parts.split(self.batch) for parts in (tiles, images, present)), strict=True
                )
            ]
        )
        total = self._paste(noise * self.weight, x_t)
        return total / self._paste(self.weight.expand_as(noise), x_t)

    def _cut(self, pictures: Tensor) -> Tensor:
        tiles = pictures.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # [B * rows * columns, C, size, size]

    def _paste(self, tiles: Tensor, x_t: Tensor) -> Tensor:
        columns = tiles.unflatten(0, (len(x_t), -1)).flatten(2).mT  # [B, C * size * size, tiles]
        return F.fold(columns, x_t.shape[2:], self.size, stride=self.stride)


PHOTO_STEPS = 25  # of the sampler

# The network of super-resolution draws GAIN times what the bicubic picture lacks: as varied as its
# noise, where the lack itself is much smaller. Li et al., "SRDiff" (2022), section 3.2.
GAIN = 8.0

# Errors of the guesses add up over the steps, and the samples come out too much alike. Taking away
# a little less noise than was predicted makes up for it: Ning et al., "Elucidating the Exposure
# Bias in Diffusion Models" (2024), "epsilon scaling". Chosen between what photos of the training
# set ask for, which is more, and the photos of scikit-image, which is none.
NOISE_SCALING = 1.0015


def coarse_and_detail(low: Tensor) -> tuple[Condition, Tensor]:
    """The condition "enlarge", for networks that draw relative to the detail there is: small
    pictures [B, 3, h, w], enlarged, and their detail, enlarged and as strong everywhere. And the
    gain that makes it so, [B, 1, 4 h, 4 w]."""
    nothing = torch.zeros_like(low[:, :1], dtype=torch.bool)
    detail, contrast = known_detail(low, nothing, window=3)
    image = torch.cat([bicubic(low), bicubic(detail / contrast)], dim=1)
    return Condition(image=image), 1 / F.interpolate(contrast, scale_factor=4, mode="bilinear")


def _asked_to_enlarge(low: Tensor, relative: bool) -> tuple[Condition, Tensor | float]:
    """The condition, whose first planes are the bicubic picture, and the gain."""
    return coarse_and_detail(low) if relative else (Condition(image=bicubic(low)), GAIN)


def to_enlarge(pictures: Tensor, relative: bool = False) -> tuple[Tensor, Condition]:
    """What super-resolution learns from pictures [B, 3, H, W]: GAIN times what their bicubic
    version lacks, given that version. relative: with the gain and the condition of
    coarse_and_detail."""
    condition, gain = _asked_to_enlarge(stored(shrink(pictures)), relative)
    return gain * (pictures - condition.image[:, :3]), condition


# NOISE_SCALING for fill, of the grey part of the noise only: in a hole, what scaling adds to the
# colours is confetti. Chosen on 50 photos of the training set, where samples then have the power of
# the real ones.
HOLE_NOISE_SCALING = 1.004

# The networks of inpainting draw HOLE_GAIN times what the smooth filling lacks, likewise. In photos
# what is to be drawn is twenty-five times weaker in a sky than in a bush: there, the gain is what
# makes the known detail around the hole equally strong everywhere.
HOLE_GAIN = 2.0


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
    # A sky is filled to a grey level or two, and what it lacks must not drown in the noise.
    detail, contrast = known_detail(pictures, mask, faintest=0.01)
    smooth = smooth_fill(pictures, mask)
    # Slopes that are carried on far from the border shoot out.
    apart = ((biharmonic_fill(pictures, mask) - smooth) / contrast).clamp(-1.5, 1.5)
    strength = contrast.log() + 2.5  # about 0 on average
    planes = [smooth + contrast * apart, apart, detail / contrast, strength, 2.0 * mask - 1]
    return Condition(image=torch.cat(planes, dim=1)), 1 / contrast


def _asked_to_fill(
    pictures: Tensor, mask: Tensor, relative: bool
) -> tuple[Condition, Tensor | float]:
    """The condition, whose first planes are the picture filled, and the gain."""
    return (
        with_hole_and_detail(pictures, mask) if relative else (with_hole(pictures, mask), HOLE_GAIN)
    )


def to_fill(pictures: Tensor, relative: bool = False) -> tuple[Tensor, Condition]:
    """What inpainting learns from square pictures [B, C, H, W]: HOLE_GAIN times what the smooth
    filling of a hole lacks, which is nothing at known pixels; given that filling and the hole.

    Half the holes are boxes, from a quarter to a half of the picture in one direction and from that
    to the whole of it in the other; a quarter are free-form strokes, a quarter halves.

    relative: what the filling of with_hole_and_detail lacks, with its gain and condition. No box is
    then wider than half the picture, and strips from side to side take the place of halves, of
    whose far side the detail that is known says too little.
    """
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    count, size = len(pictures), pictures.shape[2]
    if pictures.shape[3] != size or size < 4:
        raise ValueError(
            "pictures should be square, of 4 pixels a side or more, but "
            f"{expect.describe(pictures)} came."
        )
    short = int(torch.randint(size // 4, size // 2 + 1, ()))
    long = int(torch.randint(short, (size // 2 if relative else size) + 1, ()))
    kinds = [
        box_holes(count, size, (short, long)),
        box_holes(count, size, (long, short)),
        free_form_holes(count, size),
    ]
    if relative:
        thick = (short + 1) // 2
        strip = (thick, size) if torch.rand(()) < 0.5 else (size, thick)
        kinds.append(box_holes(count, size, strip))
    else:
        kinds.append(half_holes(count, size))
    kind = torch.randint(4, (count,))
    mask = torch.stack(kinds)[kind, torch.arange(count)]
    condition, gain = _asked_to_fill(pictures, mask, relative)
    return gain * (pictures - condition.image[:, : pictures.shape[1]]), condition


class Scaler:
    """Enlarges photos four times."""

    factor = 4

    def __init__(
        self, network: nn.Module, schedule: NoiseSchedule, size: int = 64, relative: bool = False
    ):
        if expect.whole("size", size, 16) % 16:
            raise ValueError(f"size should be divisible by 16, but {size} came.")
        self.tiled = Tiled(network, size, overlap=size // 4)
        self.schedule = schedule
        self.relative = relative

    def enlarge(
        self,
        photo: Tensor | Image.Image,
        scale: float = 1.0,
        steps: int = PHOTO_STEPS,
        seed: int = 0,
        project: bool = True,
        noise_scaling: float = NOISE_SCALING,
        progress: Progress = iter,
    ) -> Tensor | Image.Image:
        """A photo of four times the height and width, of the kind that came: a tensor [B, 3, h, w]
        in [-1, 1], or a PIL image. Another seed, other details.

        project: keep every guess in agreement with the photo, see back_project. noise_scaling: what
        the predicted noise is divided by; the larger, the more detail, and at last grain.
        """
        low = _as_pictures(photo)
        expect.number("noise_scaling", noise_scaling, 0.5, 2)
        height, width = (self.factor * side for side in low.shape[2:])
        margin = [self.tiled.padding(side) // self.factor for side in (height, width)]
        low = F.pad(low, (0, margin[1], 0, margin[0]), mode="replicate")
        condition, gain = _asked_to_enlarge(low, self.relative)
        coarse = condition.image[:, :3]

        def agree(x_0: Tensor) -> Tensor:
            picture = (coarse + x_0 / gain).clamp(-1, 1)
            return gain * ((back_project(picture, low) if project else picture) - coarse)

        guided = guide(self.tiled, condition, scale)

        def denoise(x_t: Tensor, t: int) -> Tensor:
            return guided(x_t, t) / noise_scaling

        x_T = start_noise(len(low), tuple(coarse.shape[1:]), seed)
        x_0 = _run(progress, denoise, self.schedule, x_T, steps, agree)
        return _as_came((coarse + x_0 / gain)[..., :height, :width].clamp(-1, 1), photo)

    def estimate(
        self, height: int, width: int, steps: int = PHOTO_STEPS, scale: float = 1.0
    ) -> float:
        """About how many seconds it takes to enlarge a photo of this size, from one batch of tiles
        that it tries."""
        timesteps(self.schedule, steps)  # says what is wrong with steps
        expect.number("scale", scale)
        tiles = steps * (1 if scale in (0, 1) else 2)
        for side in (self.factor * height, self.factor * width):
            tiles *= (side + self.tiled.padding(side) - self.tiled.size) // self.tiled.stride + 1
        side = self.tiled.size // self.factor
        condition, _ = _asked_to_enlarge(
            torch.zeros(min(self.tiled.batch, tiles), 3, side, side), self.relative
        )
        began = time.perf_counter()
        self.tiled.network(condition.image[:, :3], 1, condition)
        return (time.perf_counter() - began) * tiles / len(condition)


class Mender:
    """Fills holes in pictures.

    relative: for a network that draws relative to the detail there is, see with_hole_and_detail.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        channels: int,
        size: int,
        relative: bool = False,
    ):
        self.tiled = Tiled(network, size, size // 2)
        self.schedule = schedule
        self.channels = channels
        self.relative = relative

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
        pictures = _as_pictures(photo, self.channels)
        hole = _as_mask(mask, pictures)
        sample = partial(self._sample, scale=scale, steps=steps, seed=seed, progress=progress)
        filled = self._fill(pictures, hole, sample) if hole.any() else pictures
        if isinstance(photo, Image.Image):
            # Where it is known, the very pixels that came, whatever the mode did to them.
            filled = _as_came(filled, photo)
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
        condition, gain = _asked_to_fill(known, hole, self.relative)
        plain = condition.image[:, : self.channels]

        def keep(x_0: Tensor) -> Tensor:
            picture = (plain + x_0 / gain).clamp(-1, 1)
            return torch.where(hole, gain * (picture - plain), 0)

        guided = guide(self.tiled, condition, scale)
        less = 1 - 1 / HOLE_NOISE_SCALING if self.relative else 0

        def denoise(x_t: Tensor, t: int) -> Tensor:
            noise = guided(x_t, t)
            return noise - less * noise.mean(dim=1, keepdim=True)

        x_T = start_noise(len(known), tuple(known.shape[1:]), seed)
        x_0 = _run(progress, denoise, self.schedule, x_T, steps, keep)
        return torch.where(hole, plain + x_0 / gain, known)


def _as_pictures(photo, channels: int = 3) -> Tensor:
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


def _as_came(pictures: Tensor, photo) -> Tensor | Image.Image:
    if isinstance(photo, Image.Image):
        return as_image(pictures[0]).convert("L" if photo.mode in ("1", "L", "LA") else "RGB")
    return pictures.to(photo)


def _white(hole: Tensor) -> Image.Image:
    return Image.fromarray((hole[0, 0] * 255).byte().numpy())


class DigitJudge(nn.Module):
    """A small convolutional classifier of digits: what the drawn digits are judged by."""

    feature_channels = 128

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, self.feature_channels)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(self.feature_channels, 10)

    def features(self, pictures: Tensor) -> Tensor:
        """[B, 1, 28, 28] in [-1, 1] -> [B, feature_channels]"""
        expect.tensor("pictures", pictures, ("B", 1, 28, 28))
        return self.body(pictures).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 1, 28, 28] -> the logit of each digit, [B, 10]"""
        return self.head(self.features(pictures))


# What turns tokens into embeddings, of the networks that are told by tokens.
TOKEN_ENCODERS = {
    "digits": lambda channels: nn.Embedding(10, channels),
    "text-to-image": TextEncoder,
}


def build(recipe: dict) -> nn.Module:
    """The untrained network that a checkpoint's recipe describes."""
    if recipe["name"] == "digit-judge":
        return DigitJudge()
    settings = dict(recipe["network"])
    if recipe["name"] == "digits":
        settings.setdefault("image_channels", 1)
    if recipe["name"] in TOKEN_ENCODERS:
        settings["token_encoder"] = TOKEN_ENCODERS[recipe["name"]](settings["token_channels"])
    network = unet = Unet(**settings)
    if recipe.get("velocity", False):
        network = Velocity(network, build_schedule(recipe))
    if "inpainting" in recipe["name"]:
        attended = unet.factor if unet.inject == "attention" else None
        quiet = recipe.get("quiet", False)
        network = KnownPixels(network, build_schedule(recipe), attended, quiet)
    return network.to(memory_format=torch.channels_last)


def build_schedule(recipe: dict) -> NoiseSchedule:
    """The schedule that a checkpoint's recipe names."""
    return getattr(NoiseSchedule, recipe.get("schedule", "cosine"))(recipe["schedule_steps"])


def load(name: str | Path):
    """A shipped model by its name: "digits" (a Writer), "text-to-image" (an Artist),
    "super-resolution" (a Scaler; also "-input", "-levels", "-attention"), "inpainting" and
    "digit-inpainting" (Menders), "digit-judge" (a DigitJudge); or one of the same kinds that you
    trained, by the path of its .safetensors file."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name should be a name or a path, but {expect.describe(name)} came.")
    path = Path(name)
    if path.suffix != ".safetensors":
        try:
            path = data_path(f"checkpoints/{name}.safetensors")
        except FileNotFoundError as error:
            shipped = sorted(file.stem for file in data_path("checkpoints").glob("*.safetensors"))
            raise ValueError(
                f"name should be one of {', '.join(shipped)}, or the path of a .safetensors file, "
                f"but {name!r} came."
            ) from error
    weights, recipe = load_checkpoint(path)
    try:
        network = build(recipe)
        pipeline = _around(network, recipe)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds a recipe that cannot be followed here: is it of another version of the "
            f"course? ({type(error).__name__}: {error})"
        ) from error
    load_weights(network, weights, path)
    network.eval().requires_grad_(False)
    return pipeline


def _around(network: nn.Module, recipe: dict):
    """A network with what belongs around it."""
    kind = recipe["name"]
    if kind == "digit-judge":
        return network
    schedule = build_schedule(recipe)
    if kind == "digits":
        return Writer(network, schedule)
    if kind == "text-to-image":
        return Artist(network, schedule)
    if kind.startswith("super-resolution"):
        return Scaler(network, schedule, recipe["size"], recipe.get("relative", False))
    channels = recipe["network"].get("image_channels", 3)
    return Mender(network, schedule, channels, recipe["size"], recipe.get("relative", False))
