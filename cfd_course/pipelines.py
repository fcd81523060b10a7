"""The applications: `load(name)` gives a trained network with what belongs around it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from . import expect
from .datasets import data_path
from .datasets.digits import digit_condition
from .guidance import guide
from .sampling import dpm_solver, last
from .schedule import NoiseSchedule
from .training import load_checkpoint, load_weights
from .unet import Unet


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


def digit_network(channels: list[int], patch: int, token_channels: int) -> Unet:
    """The untrained network of `load("digits")`."""
    embedding = nn.Embedding(10, token_channels)
    network = Unet(1, tuple(channels), token_encoder=embedding, patch=patch)
    return network.to(memory_format=torch.channels_last)


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


def build(recipe: dict) -> nn.Module:
    """The untrained network that a checkpoint's recipe describes."""
    if recipe["name"] == "digit-judge":
        return DigitJudge()
    return digit_network(**recipe["network"])


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
    return Writer(network, NoiseSchedule.cosine(recipe["schedule_steps"]))
