"""Samplers: turn a denoiser and a schedule into pictures, one step at a time.

A denoiser is any callable denoise(x_t, t) -> noise. Each sampler is a generator of steps; in each
it asks the denoiser for the noise, guesses the clean picture from it, and moves to a smaller t.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import expect
from .schedule import NoiseSchedule

Denoiser = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """The state after a step. t: where it arrived, 0 at the end; x_t: the picture there; noise and
    x_0: what the step took for the noise and for the clean picture, after clipping."""

    t: int
    x_t: Tensor
    noise: Tensor
    x_0: Tensor


def timesteps(schedule: NoiseSchedule, steps: int | None = None) -> list[int]:
    """The t's that a sampler visits: T first, `steps` equal strides, and always 0 at the end.
    All T + 1 if `steps` is not given."""
    expect.instance("schedule", schedule, NoiseSchedule)
    total = schedule.steps
    if steps is None:
        steps = total
    expect.whole("steps", steps, 1, total, f"The schedule has {total} steps.")
    return [round(total - index * total / steps) for index in range(steps + 1)]


def clip_guess(
    schedule: NoiseSchedule, x_t: Tensor, t: int, noise: Tensor, clip: float | None = 1.0
) -> tuple[Tensor, Tensor]:
    """The guess of the clean picture, kept within -clip..clip, and the noise that goes with it.

    Pictures never leave -1..1; a guess that does (it happens at large guidance scales) would push
    every later step further out. The noise is recomputed, so that x_t is still the mixture of the
    two. Saharia et al., "Imagen" (2022), section 2.3, static thresholding. None: no clipping.
    """
    expect.instance("schedule", schedule, NoiseSchedule)
    x_0 = schedule.predict_x0(x_t, t, noise)
    if clip is None:
        return x_0, noise
    expect.number("clip", clip, 1e-6)
    x_0 = x_0.clamp(-clip, clip)
    return x_0, schedule.predict_noise(x_t, t, x_0)


def ddpm(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    steps: int | None = None,
    variance: str = "posterior",
    clip: float | None = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Ancestral sampling: draw x_s from q(x_s | x_t, x_0) at the guess of x_0. DDPM (2020),
    algorithm 2. The last step adds no noise.

    x_T: [B, ...], pure noise. steps: how many, all T if not given. variance: "posterior" or
    "beta", the two choices of DDPM section 3.2. clip: see clip_guess. generator: of the noise.
    """
    expect.choice("variance", variance, ("posterior", "beta"))
    x_t = _start(denoise, x_T, clip, generator)
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        x_t, spread = schedule.posterior(x_0, x_t, t, s)
        if variance == "beta":
            spread = 1 - schedule.alpha_bars[t] / schedule.alpha_bars[s]
        if s > 0:
            x_t = x_t + math.sqrt(spread.item()) * _randn_like(x_t, generator)
        yield Step(s, x_t, noise, x_0)


def ddim(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    steps: int | None = 50,
    eta: float = 0.0,
    clip: float | None = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Song, Meng, Ermon, "Denoising Diffusion Implicit Models" (2021), equations 12 and 16:
    mix the guess of x_0 again, with the same noise, as x_s. eta: the share of fresh noise, 0 for
    none (deterministic), 1 for about as much as ddpm. Other arguments as in ddpm."""
    expect.number("eta", eta, 0, 1)
    x_t = _start(denoise, x_T, clip, generator)
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        share_t, share_s = schedule.alpha_bars[[t, s]].tolist()
        fresh = eta * math.sqrt((1 - share_s) / (1 - share_t) * (1 - share_t / share_s))
        x_t = math.sqrt(share_s) * x_0 + math.sqrt(max(1 - share_s - fresh**2, 0)) * noise
        if fresh > 0:
            x_t = x_t + fresh * _randn_like(x_t, generator)
        yield Step(s, x_t, noise, x_0)


def dpm_solver(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    steps: int | None = 20,
    clip: float | None = 1.0,
) -> Iterator[Step]:
    """DPM-Solver++(2M) of Lu et al. (2022), algorithm 2: a second-order multistep method in the
    half log-SNR, lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)).

    The guess of x_0 is continued along the line through the last two guesses. The first step has
    no earlier guess and the last one no finite lambda to arrive at: both are DDIM steps.
    Deterministic. Arguments as in ddpm.
    """
    x_t = _start(denoise, x_T, clip, None)
    earlier, stride = None, None  # the last step's guess, and its stride in lambda
    for t, s in _strides(schedule, steps):
        x_0, noise = clip_guess(schedule, x_t, t, _ask(denoise, x_t, t), clip)
        share_t, share_s = schedule.alpha_bars[[t, s]].tolist()
        ahead = x_0
        if s > 0:
            last_stride, stride = stride, _half_log_snr(share_s) - _half_log_snr(share_t)
            if earlier is not None:
                ahead = x_0 + stride / (2 * last_stride) * (x_0 - earlier)
        earlier = x_0
        kept = math.sqrt((1 - share_s) / (1 - share_t))  # of x_t
        x_t = kept * x_t + (math.sqrt(share_s) - kept * math.sqrt(share_t)) * ahead
        yield Step(s, x_t, noise, x_0)


def last(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return the picture."""
    expect.instance("steps", steps, Iterator)
    final = None
    for step in steps:
        final = step
    return expect.instance("the last of steps", final, Step).x_t


def _half_log_snr(share: float) -> float:
    return 0.5 * math.log(share / (1 - share))


def _start(denoise, x_T, clip, generator) -> Tensor:
    expect.callable_("denoise", denoise, "denoise(x_t, t)")
    expect.random_source("generator", generator)
    if clip is not None:
        expect.number("clip", clip, 1e-6)
    expect.tensor("x_T", x_T, None)
    if x_T.ndim < 2 or x_T.numel() == 0:
        raise ValueError(f"x_T should have shape [B, ...], but {expect.describe(x_T)} came.")
    return x_T


def _strides(schedule, steps) -> list[tuple[int, int]]:
    """(from, to) of each step."""
    visited = timesteps(schedule, steps)
    return list(zip(visited[:-1], visited[1:], strict=True))


def _ask(denoise, x_t: Tensor, t: int) -> Tensor:
    with torch.no_grad():
        noise = denoise(x_t, t)
    advice = "A denoiser returns the noise in x_t, in the shape of x_t."
    return expect.tensor("what denoise returned", noise, tuple(x_t.shape), advice=advice)


def _randn_like(x: Tensor, generator) -> Tensor:
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
