"""Digits in few steps: straight paths, and a network that is told the scale and how far it goes.

Along a straight path x_s = (1 - s) x_0 + s noise, s runs from 0, the picture, to 1, the noise. The
networks return the velocity noise - x_0, and are told t = 1000 s.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints import load_checkpoint
from ..conditions import Condition
from ..datasets import data_path
from ..datasets.digits import digit_condition, digits
from ..expect import Pictures, Time, checked
from ..guidance import guide
from ..sampling import euler, last
from ..unet import time_embedding, zeroed
from . import digits as by_noise
from .digit_judge import descend
from .drawing import Artist, Progress, build_schedule, build_unet, start_noise

# The network of the digits. Each recipe begins with the weights of another.
SHARED = {**by_noise.RECIPES["digits"], "batch": 32}
RECIPES = {
    "digits-flow": {**SHARED, "begin": "digits", "learning_rate": 1e-3, "steps": 200},
    "digits-shortcut": {**SHARED, "begin": "digits-flow", "learning_rate": 7e-4, "steps": 200},
}
SCALES, STRIDES = (1.0, 3.0), (1 / 8, 1 / 4, 1 / 2, 1)  # that digits-shortcut learns
Each = Float[Tensor, "B"]


@checked
def straight(x_0: Pictures, s: Each, noise: Pictures) -> tuple[Tensor, Tensor]:
    """x_s and the velocity there: Lipman et al., "Flow Matching for Generative Modeling" (2023),
    section 4.1, example II, with s for their 1 - t and no width left at s = 0."""
    share = _wide(s, x_0)
    return (1 - share) * x_0 + share * noise, noise - x_0


@torch.no_grad()
@checked
def distilled_target(
    teacher: Callable, x_s: Pictures, t: Time, condition: Condition, scale: Each
) -> Tensor:
    """What one call is to learn from two: teacher(x_s, t, condition) told and untold, each
    example at its own scale. Meng et al., "On Distillation of Guided Diffusion Models" (2023),
    section 3.1."""
    null, told = teacher(x_s, t, condition.absent()), teacher(x_s, t, condition)
    return null + _wide(scale, x_s) * (told - null)


@torch.no_grad()
@checked
def shortcut_target(velocity: Callable, x_s: Pictures, s: Each, stride: Each) -> Tensor:
    """What a step of a whole stride is to learn from two of half: the mean of their velocities.
    velocity(x_s, s, stride). Frans et al., "One Step Diffusion via Shortcut Models" (2024)."""
    half = stride / 2
    first = velocity(x_s, s, half)
    second = velocity(x_s - _wide(half, x_s) * first, s - half, half)
    return (first + second) / 2


def _wide(numbers: Tensor, x: Tensor) -> Tensor:
    """One number for each example, [B], shaped to multiply pictures."""
    return numbers.to(x).reshape(-1, *[1] * (x.ndim - 1))


class Told(nn.Module):
    """The digit, the scale and the stride: tokens [B, 3], the last two in thousandths. They become
    one embedding, in all three places: more weight beside the null token. Stride 0: velocity."""

    def __init__(self, channels: int):
        super().__init__()
        self.digit = nn.Embedding(10, channels)
        self.knobs = zeroed(nn.Linear(2 * channels, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """-> [B, 3, channels]"""
        digit, *knobs = tokens.unbind(1)
        embedded = [time_embedding(knob, self.digit.embedding_dim) for knob in knobs]
        one = self.digit(digit) + self.knobs(torch.cat(embedded, dim=1))
        return one[:, None].expand(-1, tokens.shape[1], -1)


def digit_knobs(labels, scale: float | Tensor = 2.0, stride: float | Tensor = 0.0) -> Condition:
    """The condition "this digit, at this scale, for a step of this length", for each of the
    labels [B]; scale, stride: one number, or [B]. Strides that were not learned count as 0."""
    digit = digit_condition(labels).tokens
    scale, stride = (torch.as_tensor(each).to(digit.device) for each in (scale, stride))
    stride = torch.where(stride < min(STRIDES), 0.0, stride)
    knobs = [(1000 * each).round().long().expand(len(digit)) for each in (scale, stride)]
    return Condition(tokens=torch.stack([digit[:, 0], *knobs], dim=1))


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    channels, flow = recipe["network"]["token_channels"], recipe["name"] == "digits-flow"
    encoder = nn.Embedding(10, channels) if flow else Told(channels)
    return build_unet(recipe, image_channels=1, token_encoder=encoder)


def begin(network: nn.Module, recipe: dict) -> None:
    """The weights of the network before; what reads scale and stride stays at 0."""
    weights, _ = load_checkpoint(data_path(f"checkpoints/{recipe['begin']}.safetensors"))
    if isinstance(network.token_encoder, Told):
        weights["token_encoder.digit.weight"] = weights.pop("token_encoder.weight")
    network.load_state_dict(weights, strict=False)


def train(network: nn.Module, recipe: dict, data: Path | None, steps: int) -> Iterator[tuple]:
    """By the mean squared error of the velocity. Some minutes, so it saves no state."""
    from . import load

    flow = recipe["name"] == "digits-flow"
    teacher = None if flow else load(recipe["begin"]).network
    pictures, labels = digits("train", data)

    def loss() -> Tensor:
        rows = torch.randint(len(pictures), (recipe["batch"],))
        x_0, asked = pictures[rows], labels[rows]
        if flow:
            noise, s = torch.randn(x_0.shape), torch.rand(len(rows))
            x_s, target = straight(x_0, s, noise)
            condition = digit_condition(asked).drop(recipe["drop"])
        else:
            x_s, s, condition, target = _to_distil(network, teacher, x_0, asked)
        return (network(x_s, moment(s), condition) - target).square().mean()

    return descend(network, recipe, steps, loss)


def moment(s: Tensor) -> Tensor:
    """What the networks are told for s in 0..1: t in thousandths, 1 at the least."""
    return (1000 * s).round().long().clamp(min=1)


def _to_distil(student: nn.Module, teacher: nn.Module, x_0: Tensor, labels: Tensor):
    """Half of the batch learns the teacher's guided velocity, half to go two steps in one."""
    one, two = slice(None, len(x_0) // 2), slice(len(x_0) // 2, None)
    scale = torch.empty(len(x_0)).uniform_(*SCALES)
    stride = torch.tensor(STRIDES)[torch.randint(len(STRIDES), scale.shape)]
    s, stride[one] = torch.rand(len(x_0)), 0
    s[two] = ((s / stride).floor() + 1)[two] * stride[two]  # a step begins at a multiple
    x_s, _ = straight(x_0, s, torch.randn(x_0.shape))

    def velocity(x_s: Tensor, s: Tensor, stride: Tensor) -> Tensor:
        return student(x_s, moment(s), digit_knobs(labels[two], scale[two], stride))

    told = digit_condition(labels[one])
    guided = distilled_target(teacher, x_s[one], moment(s[one]), told, scale[one])
    longer = shortcut_target(velocity, x_s[two], s[two], stride[two])
    return x_s, s, digit_knobs(labels, scale, stride), torch.cat([guided, longer])


class FewSteps(Artist):
    """Draws digits along straight paths. network: its velocity; told the digit, or the scale and
    the stride as well."""

    def draw(self, asked, scale=2.0, steps=4, seed=0, progress: Progress = iter) -> Tensor:
        """One picture for each digit that is asked for, [B, 1, 28, 28]. A network that is told the
        scale is called once a step; another twice, as guidance does."""
        condition = self.condition(asked)
        x_1 = start_noise(len(condition), self.shape, seed).to(condition.present.device)
        if isinstance(self.network.token_encoder, Told):
            condition, scale = digit_knobs(condition.tokens[:, 0], scale, 1 / max(steps, 1)), 1.0
        velocity = guide(self.network, condition, scale)
        return last(iter(progress(euler(velocity, x_1, steps))))


def pipeline(network: nn.Module, recipe: dict) -> FewSteps:
    """Draws digits, [B, 1, 28, 28], in few steps."""
    return FewSteps(network, build_schedule(recipe), digit_condition, (1, 28, 28))
