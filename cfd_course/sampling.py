"""Samplers: turn a denoiser and a schedule into pictures, one step at a time.

A denoiser is any callable denoise(x_t, t) -> noise. Each sampler is a generator of steps; in each
it asks the denoiser for the noise, guesses the clean picture from it, and moves to a smaller t.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float
from torch import Tensor

from . import expect
from .expect import Count, Pictures, Share, Source, Time, checked
from .guidance import Denoiser
from .schedule import NoiseSchedule

Noise = Float[Tensor, "B D *shape"]
# How many, or the t's to visit, or all.
Steps = Annotated[int | Sequence[int], "Or a list of t's like timesteps(schedule, 20)."] | None
Clip = Annotated[float, Ge(1e-6)] | Callable[[Tensor], Tensor] | None  # see clip_guess


@dataclass(frozen=True, eq=False)
class Step:
    """The state after a step. t: where it arrived, 0 at the end; x_t: the picture there; noise and
    x_0: what the step took for the noise and for the clean picture, after clipping."""

    t: int
    x_t: Tensor
    noise: Tensor
    x_0: Tensor


@checked
def timesteps(
    schedule: NoiseSchedule,
    steps: Count | None = None,
    power: Annotated[float, Interval(ge=1, le=10)] = 1.0,
) -> list[int]:
    """The t's that a sampler visits: T first, `steps` strides, and always 0 at the end. All T + 1
    if `steps` is not given.

    power: 1 for equal strides; 2 for strides that shrink towards the clean end, where fine detail
    is decided: DDIM (2021), appendix D.2, "quadratic".
    """
    total = schedule.steps
    steps = total if steps is None else steps
    advice = f"The schedule has {total} steps."
    expect.that(steps <= total, "steps", f"be in 1..{total}", f"{steps}", advice)
    exact = [total * (1 - index / steps) ** power for index in range(steps + 1)]
    return [max(round(t), steps - index) for index, t in enumerate(exact)]  # no t comes twice


@checked
def clip_guess(
    schedule: NoiseSchedule, x_t: Pictures, t: Time, noise: Pictures, clip: Clip = 1.0
) -> tuple[Tensor, Tensor]:
    """The guess of the clean picture, kept within -clip..clip, and the noise that goes with it.

    Pictures never leave -1..1; a guess that does (it happens at large guidance scales) would push
    every later step further out. The noise is recomputed, so that x_t is still the mixture of the
    two. Saharia et al., "Imagen" (2022), section 2.3, static thresholding.

    clip: None for no clipping; or a function from the guess to a better one, that puts right what
    is known about the picture.
    """
    x_0 = schedule.predict_x0(x_t, t, noise)
    if clip is None:
        return x_0, noise
    if callable(clip):
        x_0 = expect.alike("what clip returned", clip(x_0), x_0)
    else:
        x_0 = x_0.clamp(-clip, clip)
    return x_0, schedule.predict_noise(x_t, t, x_0)


@checked
def dynamic_threshold(x_0: Pictures, percentile: Share = 0.995) -> Tensor:
    """Guesses of clean pictures [B, ...], each brought back into -1..1: s is the size that this
    share of its values stay below, but at least 1; what is larger is cut off at s, then all is
    divided by s. For a sampler's clip. Saharia et al., "Imagen" (2022), section 2.3, dynamic
    thresholding; 0.995 as in Diffusers."""
    s = x_0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1)
    s = s.reshape(-1, *[1] * (x_0.ndim - 1))
    return x_0.clamp(-s, s) / s


@checked
def ddpm(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Noise,
    steps: Steps = None,
    variance: Literal["posterior", "beta"] = "posterior",
    clip: Clip = 1.0,
    generator: Source = None,
) -> Iterator[Step]:
    """Ancestral sampling: draw x_s from q(x_s | x_t, x_0) at the guess of x_0. DDPM (2020),
    algorithm 2. The last step adds no noise.

    x_T: [B, ...], pure noise. steps: how many, all T if not given; or the t's to visit, down to 0,
    say timesteps(schedule, 25, power=2). variance: "posterior" or
    "beta", the two choices of DDPM section 3.2. clip: see clip_guess. generator: of the noise.
    """
    x_t = x_T
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        x_t, spread = schedule.posterior(x_0, x_t, t, s)
        if variance == "beta":
            spread = 1 - schedule.alpha_bars[t] / schedule.alpha_bars[s]
        if s > 0:
            x_t = x_t + math.sqrt(spread.item()) * _randn_like(x_t, generator)
        yield Step(s, x_t, noise, x_0)


@checked
def ddim(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Noise,
    steps: Steps = 50,
    eta: Share = 0.0,
    clip: Clip = 1.0,
    generator: Source = None,
) -> Iterator[Step]:
    """Song, Meng, Ermon, "Denoising Diffusion Implicit Models" (2021), equations 12 and 16:
    mix the guess of x_0 again, with the same noise, as x_s. eta: the share of fresh noise, 0 for
    none (deterministic), 1 for about as much as ddpm. Other arguments as in ddpm."""
    x_t = x_T
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        alpha_bar_t, alpha_bar_s = schedule.alpha_bars[[t, s]].tolist()
        fresh = eta * math.sqrt(
            (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        )
        x_t = math.sqrt(alpha_bar_s) * x_0 + math.sqrt(max(1 - alpha_bar_s - fresh**2, 0)) * noise
        if fresh > 0:
            x_t = x_t + fresh * _randn_like(x_t, generator)
        yield Step(s, x_t, noise, x_0)


@checked
def cfg_plus(
    null: Denoiser,
    told: Denoiser,
    schedule: NoiseSchedule,
    x_T: Noise,
    steps: Steps = 50,
    scale: float = 0.6,
    clip: Clip = 1.0,
) -> Iterator[Step]:
    """Chung et al., "CFG++: Manifold-Constrained Classifier Free Guidance" (2024), for DDIM:
    ddim, but the guess of x_0 from the guided noise is mixed with the noise of the null denoiser,
    which is told nothing. scale: their lambda, 0 for what null draws, at most 1. Other arguments as
    in ddpm."""
    x_t = x_T
    for t, s in _strides(schedule, steps):
        noise = _ask(null, x_t, t)
        guided = noise + scale * (_ask(told, x_t, t) - noise)
        x_0, _ = clip_guess(schedule, x_t, t, guided, clip)
        alpha_bar_s = float(schedule.alpha_bars[s])
        x_t = math.sqrt(alpha_bar_s) * x_0 + math.sqrt(1 - alpha_bar_s) * noise
        yield Step(s, x_t, noise, x_0)


@checked
def dpm_solver(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Noise,
    steps: Steps = 20,
    clip: Clip = 1.0,
) -> Iterator[Step]:
    """DPM-Solver++(2M) of Lu et al. (2022), algorithm 2: a second-order multistep method in the
    half log-SNR, lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)).

    The guess of x_0 is continued along the line through the last two guesses. The first step has
    no earlier guess and the last one no finite lambda to arrive at: both are DDIM steps.
    Deterministic. Arguments as in ddpm.
    """
    x_t = x_T
    earlier, stride = None, None  # the last step's guess, and its stride in lambda
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        alpha_bar_t, alpha_bar_s = schedule.alpha_bars[[t, s]].tolist()
        ahead = x_0
        if s > 0:
            last_stride, stride = stride, _half_log_snr(alpha_bar_s) - _half_log_snr(alpha_bar_t)
            if earlier is not None:
                ahead = x_0 + stride / (2 * last_stride) * (x_0 - earlier)
        earlier = x_0
        kept = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))  # of x_t
        x_t = kept * x_t + (math.sqrt(alpha_bar_s) - kept * math.sqrt(alpha_bar_t)) * ahead
        yield Step(s, x_t, noise, x_0)


@checked
def euler(
    velocity: Annotated[Callable[[Tensor, int], Tensor], "velocity(x_s, t), t = 1000 s"],
    x_1: Noise,
    steps: Count = 20,
) -> Iterator[Step]:
    """Along the straight path x_s = (1 - s) x_0 + s noise, from s = 1 down to 0 in equal strides:
    x -> x - stride * velocity. Lipman et al., "Flow Matching" (2023), equation 20 with time turned
    round; Liu et al., "Rectified Flow" (2023), equation 1.

    velocity(x_s, t) -> noise - x_0, as far as it can be told; t = 1000 s, rounded. Steps arrive at
    such a t. The pictures are not clipped.
    """
    x_s = x_1
    for index in range(steps, 0, -1):
        s, after = index / steps, (index - 1) / steps
        v = _ask(velocity, x_s, round(1000 * s))
        x_0, noise = x_s - s * v, x_s + (1 - s) * v
        x_s = x_s - (s - after) * v
        yield Step(round(1000 * after), x_s, noise, x_0)


@checked
def repaint(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Noise,
    known: Noise,
    mask: Bool[Tensor, "B 1 H W"],
    steps: Count = 50,
    jump: Count = 5,
    resampling: Count = 5,
    clip: Clip = 1.0,
    generator: Source = None,
) -> Iterator[Step]:
    """Lugmayr et al., "RePaint" (2022), algorithm 1: fill a hole with a network that never saw
    one. ddpm, but after each step the known pixels are put back, noised to where the step arrived.
    So that the two parts come to agree, it adds the noise of the last `jump` steps again and
    repeats them, until they were taken `resampling` times; at the same places as the authors' code,
    which are one step from the end, jump + 1 steps, and so on.

    known: the picture, [B, C, H, W], of any content in the hole; mask: [B, 1, H, W], True in the
    hole. Other arguments as in ddpm. Calls of the network: steps + (steps / jump - 1) * jump *
    (resampling - 1), 230 as it stands.
    """
    right = mask.shape[2:] == x_T.shape[2:]
    expect.that(right, "mask", f"be of the size of x_T, {list(x_T.shape)}", mask)
    x_t = x_T
    visited = timesteps(schedule, steps)[::-1]  # clean first
    repeats = {place: resampling - 1 for place in range(1, steps - jump + 1, jump)}
    place = steps
    while place > 0:
        t, s = visited[place], visited[place - 1]
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        x_t, spread = schedule.posterior(x_0, x_t, t, s)
        beside = known
        if s > 0:
            x_t = x_t + math.sqrt(spread.item()) * _randn_like(x_t, generator)
            beside = schedule.add_noise(known, s, _randn_like(known, generator))
        x_t = torch.where(mask, x_t, beside)
        place -= 1
        yield Step(s, x_t, noise, x_0)
        if repeats.get(place, 0) > 0:
            repeats[place] -= 1
            place += jump
            kept = schedule.alpha_bars[visited[place]] / schedule.alpha_bars[s]
            fresh = math.sqrt(1 - kept.item()) * _randn_like(x_t, generator)
            x_t = math.sqrt(kept.item()) * x_t + fresh


@checked
def last(steps: Iterator) -> Tensor:
    """Run a sampler to its end and return the picture."""
    final = None
    for step in steps:
        final = step
    return expect.fits("the last of steps", final, Step).x_t


def _half_log_snr(alpha_bar: float) -> float:
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def _strides(schedule: NoiseSchedule, steps: Steps) -> list[tuple[int, int]]:
    """(from, to) of each step."""
    if steps is None or isinstance(steps, int):
        visited = timesteps(schedule, steps)
    else:
        visited = list(steps)
        falls = all(t > s for t, s in zip(visited, visited[1:], strict=False))
        right = falls and len(visited) > 1 and visited[0] <= schedule.steps and visited[-1] == 0
        wanted = f"fall from at most {schedule.steps} to 0, like timesteps(schedule, 20)"
        expect.that(right, "steps", wanted, f"{visited[:12]}")
    return list(zip(visited[:-1], visited[1:], strict=True))


def _ask(denoise, x_t: Tensor, t: int) -> Tensor:
    with torch.no_grad():
        noise = denoise(x_t, t)
    advice = "A denoiser returns the noise in x_t, in the shape of x_t."
    return expect.alike("what denoise returned", noise, x_t, advice)


def _randn_like(x: Tensor, generator) -> Tensor:
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
