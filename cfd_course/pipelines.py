"""The applications: `load(name)` gives a trained network with what belongs around it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .datasets import data_path
from .datasets.digits import digit_condition
from .datasets.photos import bicubic, box_holes, free_form_holes, half_holes, shrink
from .guidance import guide
from .sampling import dpm_solver, last
from .schedule import NoiseSchedule
from .text import TextEncoder
from .training import load_checkpoint, load_weights
from .unet import Unet, Velocity


def start_noise(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """x_T for `count` pictures, [count, *shape]. Picture i comes from seed + i alone, so it is the
    same in whatever batch it is drawn."""
    expect.whole("count", count, 1)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape should be a tuple of sizes, but {expect.describe(shape)} came.")
    for size in shape:
        expect.whole("each size in shape", size, 1)
    expect.whole("seed", seed, 0)
    return torch.stack(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed + index))
            for index in range(count)
        ]
    )


class Writer:
    """Draws handwritten digits."""

    def __init__(self, network: Unet, schedule: NoiseSchedule):
        self.network = network
        self.schedule = schedule

    def draw(
        self, digits: list[int] | Tensor, scale: float = 2.0, steps: int = 20, seed: int = 0
    ) -> Tensor:
        """One picture for each of the digits, [B, 1, 28, 28] in [-1, 1]. scale: see guide; steps:
        of dpm_solver; seed: of the first picture, the next one has seed + 1."""
        condition = digit_condition(digits)
        x_T = start_noise(len(condition), (1, 28, 28), seed)
        denoise = guide(self.network, condition, scale)
        return last(dpm_solver(denoise, self.schedule, x_T, steps))


# The network of super-resolution draws GAIN times what the bicubic picture lacks: as varied as its
# noise, where the lack itself is much smaller. Li et al., "SRDiff" (2022), section 3.2.
GAIN = 8.0


def to_enlarge(pictures: Tensor) -> tuple[Tensor, Condition]:
    """What super-resolution learns from pictures [B, 3, H, W]: GAIN times what their bicubic
    version lacks, given that version."""
    coarse = bicubic((shrink(pictures).clamp(-1, 1) * 127.5).round() / 127.5)  # as a file holds it
    return GAIN * (pictures - coarse), Condition(image=coarse)


def with_hole(pictures: Tensor, mask: Tensor) -> Condition:
    """The condition "fill the hole": the pictures [B, C, H, W] with grey in the hole, and one more
    plane that says where it is; mask [B, 1, H, W], bool, True in the hole."""
    expect.tensor("pictures", pictures, ("B", "C", "H", "W"))
    expect.tensor("mask", mask, (len(pictures), 1, *pictures.shape[2:]), "bool")
    return Condition(image=torch.cat([pictures.masked_fill(mask, 0), 2.0 * mask - 1], dim=1))


def known_patches(mask: Tensor, size: int) -> Tensor:
    """Which size x size patches are known to the last pixel, row by row: mask [B, 1, H, W], True in
    the hole -> [B, patches]. For a Unet that attends to known patches only."""
    expect.tensor("mask", mask, ("B", 1, "H", "W"), "bool")
    return ~F.pixel_unshuffle(mask.float(), size).bool().any(dim=1).flatten(1)


def to_fill(pictures: Tensor) -> tuple[Tensor, Condition]:
    """What inpainting learns from square pictures [B, C, H, W]: the pictures, given what a hole
    leaves of them. Half the holes are boxes of a quarter to a half of the side, a quarter free-form
    strokes, a quarter halves of the picture."""
    count, size = len(pictures), pictures.shape[2]
    side = int(torch.randint(size // 4, size // 2 + 1, ()))
    kinds = torch.stack(
        [
            box_holes(count, size, side),
            free_form_holes(count, size),
            half_holes(count, size),
        ]
    )
    kind = torch.tensor([0, 0, 1, 2])[torch.randint(4, (count,))]
    return pictures, with_hole(pictures, kinds[kind, torch.arange(count)])


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
    network = Unet(**settings)
    if recipe.get("velocity", False):
        network = Velocity(network, build_schedule(recipe))
    return network.to(memory_format=torch.channels_last)


def build_schedule(recipe: dict) -> NoiseSchedule:
    """The schedule that a checkpoint's recipe names."""
    return getattr(NoiseSchedule, recipe.get("schedule", "cosine"))(recipe["schedule_steps"])


def load(name: str | Path):
    """A shipped model by its name, "digits" (a Writer) or "digit-judge" (a DigitJudge); or one of
    the same kinds that you trained, by the path of its .safetensors file."""
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
    network = build(recipe)
    load_weights(network, weights, path)
    network.eval().requires_grad_(False)
    if recipe["name"] == "digit-judge":
        return network
    return Writer(network, build_schedule(recipe))
