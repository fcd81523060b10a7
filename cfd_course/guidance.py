"""Guidance, without a classifier and by one: turns a network and a condition into a denoiser, also
for pictures larger than the network's."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from . import expect
from .conditions import Condition
from .expect import Count, Pictures, Time, checked
from .schedule import NoiseSchedule
from .unet import Network, ask

Denoiser = Annotated[Callable[[Tensor, int], Tensor], "denoise(x_t, t)"]


@checked
def paper_scale(w: float) -> float:
    """This course's scale for the w of Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022):
    their equation 6, (1 + w) conditional - w null, is null + (1 + w) (conditional - null)."""
    return 1 + w


@checked
def guide(
    network: Network,
    condition: Annotated[Condition, "None means no condition at all."] | None = None,
    scale: float | Callable[..., float] = 1.0,
) -> Callable[..., Tensor]:
    """A denoiser, denoise(x_t, t) -> noise, that follows the condition `scale` times as much:

        null + scale * (conditional - null)

    1 is the plain conditional network, 0 the unconditional one, more than 1 exaggerates.

    network: network(x_t, t, condition) -> noise, a Unet for instance, on whatever device: see ask.
        If it has `encode_tokens`, that runs once, here, and not once a step.
    scale: a number, or a function of t that returns one.

    Both predictions come from one call on a batch of 2B; at scale 1 or 0 only one is needed.
    """
    if condition is None:
        return lambda x_t, t: ask(network, x_t, t, None)
    if hasattr(network, "encode_tokens"):
        with torch.no_grad():
            condition = network.encode_tokens(condition)
    absent = condition.absent()
    both = Condition.concatenate([absent, condition])

    @checked
    def denoise(x_t: Pictures, t: int | Tensor) -> Tensor:
        wanted = f"have one row for each of the condition's {len(condition)} examples"
        expect.that(len(x_t) == len(condition), "x_t", wanted, x_t)
        strength = expect.fits("scale(t)", scale(t), float) if callable(scale) else scale
        if strength == 1:
            return ask(network, x_t, t, condition)
        if strength == 0:
            return ask(network, x_t, t, absent)
        if isinstance(t, Tensor) and t.ndim == 1:
            t = torch.cat([t, t])
        twice = torch.cat([x_t, x_t])
        predicted = expect.alike("what network returned", ask(network, twice, t, both), twice)
        null, conditional = predicted.chunk(2)
        return null + strength * (conditional - null)

    return denoise


Gradient = Annotated[Callable[[Tensor, int], Tensor], "gradient(x_t, t)"]


@checked
def classifier_gradient(
    classifier: Annotated[Callable[[Tensor, int], Tensor], "classifier(x_t, t)"],
    labels: Int[Tensor, "B"],
) -> Gradient:
    """A function of (x_t, t): the gradient of log p(label | x_t) in x_t, shaped like x_t, also
    where no gradients are recorded. classifier(x_t, t) -> the logits, [B, K]."""

    @checked
    def gradient(x_t: Pictures, t: int | Tensor) -> Tensor:
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            wanted = (len(labels), "K")
            logits = expect.tensor("what classifier returned", classifier(x_t, t), wanted)
            rows = torch.arange(len(labels), device=logits.device)
            chosen = logits.log_softmax(dim=1)[rows, labels.to(logits.device)]
            return torch.autograd.grad(chosen.sum(), x_t)[0]

    return gradient


@checked
def guide_by_classifier(
    denoise: Denoiser,
    gradient: Gradient,
    schedule: NoiseSchedule,
    scale: float = 1.0,
) -> Callable[..., Tensor]:
    """A denoiser that goes `scale` times the gradient of a classifier further than this one:
    Dhariwal, Nichol, "Diffusion Models Beat GANs" (2021), algorithm 2. gradient: of log p(label |
    x_t), see classifier_gradient. From an untold denoiser, scale 1 is Bayes' rule."""

    def guided(x_t: Tensor, t: int) -> Tensor:
        noise_share = 1 - float(schedule.alpha_bars[t])
        return denoise(x_t, t) - noise_share**0.5 * scale * gradient(x_t, t)

    return guided


# How methods since 2022 put two denoisers together: a weak one (told nothing, or a bad network) and
# a strong one. With the exact denoisers of a mixture, or with guide(network, condition, 0 and 1).
Asked = Annotated[Callable[[Tensor, int], Tensor], "denoise(x_t, t)"]


@checked
def in_interval(scale: float, low: float, high: float) -> Callable[[int], float]:
    """A scale that depends on t: `scale` where low < t <= high, and 1, no guidance, elsewhere.
    Kynkaanniemi et al., "Applying Guidance in a Limited Interval" (2024)."""
    return lambda t: scale if low < t <= high else 1.0


@checked
def guide_from(
    weak: Asked, strong: Asked, scale: float | Callable[..., float] = 1.0
) -> Callable[..., Tensor]:
    """A denoiser that goes away from a weak one: weak + scale * (strong - weak). Autoguidance if
    the weak one is a bad version of the strong one, told the same: Karras et al., "Guiding a
    Diffusion Model with a Bad Version of Itself" (2024). scale: a number, or a function of t; where
    it is 1 the weak one is not asked."""

    def denoise(x_t: Tensor, t: int) -> Tensor:
        strength = expect.fits("scale(t)", scale(t), float) if callable(scale) else scale
        clear = expect.alike("what strong returned", strong(x_t, t), x_t)
        if strength == 1:
            return clear
        blurred = expect.alike("what weak returned", weak(x_t, t), x_t)
        return blurred + strength * (clear - blurred)

    return denoise


@checked
def guide_guess(
    weak: Asked,
    strong: Asked,
    schedule: NoiseSchedule,
    combine: Annotated[Callable[[Tensor, Tensor], Tensor], "combine(weak, strong)"],
) -> Callable[..., Tensor]:
    """A denoiser whose guess of the clean picture is combine(weak's guess, strong's guess): see
    projected and rescaled."""

    def denoise(x_t: Tensor, t: int) -> Tensor:
        guesses = [schedule.predict_x0(x_t, t, each(x_t, t)) for each in (weak, strong)]
        x_0 = expect.alike("what combine returned", combine(*guesses), x_t)
        return schedule.predict_noise(x_t, t, x_0)

    return denoise


@checked
def projected(null: Pictures, told: Pictures, scale: float) -> Tensor:
    """Two guesses of clean pictures [B, ...] -> told + (scale - 1) * (the part of told - null that
    is orthogonal to told), for each picture. Sadat et al., "Eliminating Oversaturation and
    Artifacts of High Guidance Scales" (2024), the projection with eta = 0; without their threshold
    for the length of told - null and without their momentum."""
    dims = tuple(range(1, told.ndim))
    push = told - null
    along = (push * told).sum(dims, keepdim=True)
    along = along / told.square().sum(dims, keepdim=True).clamp(min=1e-12)
    return told + (scale - 1) * (push - along * told)


@checked
def rescaled(null: Pictures, told: Pictures, scale: float, share: float = 0.7) -> Tensor:
    """Two guesses of clean pictures [B, ...] -> the guided guess, brought back by `share` of the
    way to the standard deviation of told, for each picture. Lin et al., "Common Diffusion Noise
    Schedules and Sample Steps are Flawed" (2024), section 3.4."""
    dims = tuple(range(1, told.ndim))
    guided = null + scale * (told - null)
    ratio = told.std(dims, keepdim=True) / guided.std(dims, keepdim=True).clamp(min=1e-12)
    return (share * ratio + 1 - share) * guided


class Tiled:
    """A network for pictures of one size, made to work on larger ones: overlapping tiles share x_t,
    and their predictions are averaged where they overlap, at every step, so that no border shows.
    Bar-Tal et al., "MultiDiffusion" (2023), section 4.

    batch: tiles at a time.
    """

    @checked
    def __init__(self, network: Network, size: Count, overlap: int, batch: Count = 32):
        expect.that(0 <= overlap < size, "overlap", f"be in 0..{size - 1}", f"{overlap}")
        self.network = network
        self.size = size
        self.stride = size - overlap
        self.batch = batch
        ramp = (torch.arange(size) + 0.5).minimum(size - torch.arange(size) - 0.5)
        self.weight = ramp[:, None].minimum(ramp) / size  # [size, size], most in the middle

    def padding(self, length: int) -> int:
        """How much a height or width must grow for tiles to cover it."""
        return max(self.size - length, 0) + -max(length - self.size, 0) % self.stride

    @checked
    def __call__(self, x_t: Float[Tensor, "B C H W"], t: Time, condition: Condition) -> Tensor:
        """condition: with an image of the size of x_t -> the noise, shaped like x_t"""
        image = condition.image
        right = image is not None and (len(image), *image.shape[2:]) == (len(x_t), *x_t.shape[2:])
        wanted = f"have shape [{len(x_t)}, D, {x_t.shape[2]}, {x_t.shape[3]}]"
        expect.that(right, "the condition's image", wanted, image)
        right = not any(self.padding(side) for side in x_t.shape[2:])
        came = f"{x_t.shape[2]}x{x_t.shape[3]}"
        advice = f"They are {self.size} wide, every {self.stride} pixels. Pad it by padding()."
        expect.that(right, "x_t", "be of a size that the tiles cover", came, advice)
        condition = condition.to(x_t.device)
        tiles, images = self._cut(x_t), self._cut(condition.image)
        present = condition.present.repeat_interleave(len(tiles) // len(x_t))
        noise = torch.cat(
            [
                ask(self.network, part, t, Condition(image=image, present=there))
                for part, image, there in zip(
                    *(parts.split(self.batch) for parts in (tiles, images, present)), strict=True
                )
            ]
        )
        weight = self.weight.to(noise)
        return self._paste(noise * weight, x_t) / self._paste(weight.expand_as(noise), x_t)

    def count(self, height: int, width: int) -> int:
        """How many tiles a picture takes."""
        rows, columns = (
            (side + self.padding(side) - self.size) // self.stride + 1 for side in (height, width)
        )
        return rows * columns

    def _cut(self, pictures: Tensor) -> Tensor:
        tiles = pictures.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # [B * rows * columns, C, size, size]

    def _paste(self, tiles: Tensor, x_t: Tensor) -> Tensor:
        columns = tiles.unflatten(0, (len(x_t), -1)).flatten(2).mT  # [B, C * size * size, tiles]
        return F.fold(columns, x_t.shape[2:], self.size, stride=self.stride)
