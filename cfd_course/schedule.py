"""Everything about the forward process: how fast a picture turns into noise.

Symbols, as in Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models" (DDPM, 2020):
beta_t is the variance of the noise added at step t, alpha_t = 1 - beta_t, and
alpha_bar_t = alpha_1 * ... * alpha_t is the share of the picture's variance left after t steps.
t runs over 1..T; t = 0 is the clean picture, alpha_bar_0 = 1.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from . import expect
from .expect import Count, Pictures, Share, Time, checked

# Below this share the picture can no longer be told from rounding errors, and dividing by
# sqrt(alpha_bar) blows every error up. The cosine schedule would go on down to 0.
FLOOR = 1e-5
# The smallest beta. Much less would vanish in 1 - beta, and a step would add no noise.
LEAST = 1e-12
Beta = Annotated[float, Interval(ge=LEAST, le=1)]


class NoiseSchedule:
    """The tables `betas`, `alphas`, `alpha_bars`, each [T + 1], indexed by t itself. They are
    float64, which not every device knows, so they stay on the CPU; what the methods below make of
    them goes, in the pictures' own numbers, to where the pictures are.

    betas: the variances beta_1 .. beta_T, a tensor or a list, each in 1e-12..1. Where alpha_bar
    would fall below 1e-5 the last steps are replaced by a geometric descent to 1e-5, so every step
    still adds noise.
    """

    def __init__(self, betas: Tensor | Sequence[float]):
        betas = expect.numbers("betas", betas)
        right = betas.ndim == 1 and len(betas) and bool(((betas >= LEAST) & (betas <= 1)).all())
        wanted = f"be a row of numbers in {LEAST:g}..1"
        span = f", from {betas.min():g} to {betas.max():g}," if betas.numel() else ""
        expect.that(right, "betas", wanted, expect.describe(betas) + span)
        self.alphas = torch.cat([torch.ones(1, dtype=torch.float64), 1 - betas])
        self.alpha_bars = self.alphas.cumprod(0)
        last = int((self.alpha_bars > FLOOR).sum()) - 1  # the last t above the floor
        tail = len(betas) - last
        if tail:
            above = float(self.alpha_bars[last])
            parts = torch.arange(1, tail + 1, dtype=torch.float64) / tail
            self.alpha_bars[last + 1 :] = above * (FLOOR / above) ** parts
            self.alphas[last + 1 :] = self.alpha_bars[last + 1 :] / self.alpha_bars[last:-1]
        self.betas = 1 - self.alphas

    @classmethod
    @checked
    def linear(cls, steps: Count = 1000, first: Beta = 1e-4, last: Beta = 0.02) -> "NoiseSchedule":
        """DDPM section 4: betas evenly spaced. The ends were chosen for 1000 steps; with fewer
        steps and the same ends, x_T is still partly the picture."""
        return cls(torch.linspace(first, last, steps, dtype=torch.float64))

    @classmethod
    @checked
    def scaled_linear(
        cls, steps: Count = 1000, first: Beta = 0.00085, last: Beta = 0.012
    ) -> "NoiseSchedule":
        """Rombach et al., "Latent Diffusion Models" (2022): square roots of beta evenly spaced."""
        return cls(torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2)

    @classmethod
    @checked
    def cosine(cls, steps: Count = 1000, offset: Share = 0.008) -> "NoiseSchedule":
        """Nichol, Dhariwal, "Improved DDPM" (2021), equation 17:
        alpha_bar_t = f(t) / f(0), f(t) = cos^2(pi/2 * (t/T + offset) / (1 + offset))."""
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos(math.pi / 2 * (t + offset) / (1 + offset)) ** 2
        return cls(1 - f[1:] / f[:-1])

    @property
    def steps(self) -> int:
        """T, the number of noising steps."""
        return len(self.betas) - 1

    @checked
    def add_noise(self, x_0: Pictures, t: Time, noise: Pictures) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise. DDPM equation 4."""
        alpha_bar = self._alpha_bar(t, x_0, noise)
        return alpha_bar.sqrt().to(x_0) * x_0 + (1 - alpha_bar).sqrt().to(x_0) * noise

    @checked
    def predict_x0(self, x_t: Pictures, t: Time, noise: Pictures) -> Tensor:
        """The clean picture, if `noise` is what was added: add_noise solved for x_0. DDPM
        equation 15."""
        alpha_bar = self._alpha_bar(t, x_t, noise)
        return (x_t - (1 - alpha_bar).sqrt().to(x_t) * noise) / alpha_bar.sqrt().to(x_t)

    @checked
    def predict_noise(self, x_t: Pictures, t: Time, x_0: Pictures) -> Tensor:
        """The noise, if `x_0` is the clean picture: add_noise solved for the noise."""
        alpha_bar = self._alpha_bar(t, x_t, x_0)
        return (x_t - alpha_bar.sqrt().to(x_t) * x_0) / (1 - alpha_bar).sqrt().to(x_t)

    @checked
    def posterior(
        self, x_0: Pictures, x_t: Pictures, t: Time, s: Time | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_s | x_t, x_0) for s < t (s = t - 1 if not given). DDPM
        equations 6 and 7, with alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha:

        mean = sqrt(alpha_bar_s) beta / (1 - alpha_bar_t) x_0
             + sqrt(alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t) x_t
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta

        The variance is one number per example, [B or 1, 1, ...].
        """
        s = t - 1 if s is None else s
        alpha_bar_t = self._alpha_bar(t, x_t, x_0)
        alpha_bar_s = self._alpha_bar(s, x_t, x_0, name="s", low=0)
        right = bool((alpha_bar_s > alpha_bar_t).all())
        expect.that(right, "s", f"be smaller than t = {t}", f"s = {s}", "It is nearer the picture.")
        alpha = alpha_bar_t / alpha_bar_s
        beta, rest = 1 - alpha, 1 - alpha_bar_t
        of_x_0 = alpha_bar_s.sqrt() * beta / rest
        of_x_t = alpha.sqrt() * (1 - alpha_bar_s) / rest
        mean = of_x_0.to(x_t) * x_0 + of_x_t.to(x_t) * x_t
        return mean, ((1 - alpha_bar_s) / rest * beta).to(x_t)

    @checked
    def snr(self, t: Time) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), in float64. Kingma et al.,
        "Variational Diffusion Models" (2021), section 3.1."""
        alpha_bar = self.alpha_bars[expect.time("t", t, 1, self.steps)]
        return alpha_bar / (1 - alpha_bar)

    def _alpha_bar(self, t, x: Tensor, other: Tensor, name: str = "t", low: int = 1) -> Tensor:
        """alpha_bar_t, shaped to multiply pictures, which lie in one place."""
        if other.device != x.device:
            places = f"some on {x.device} and some on {other.device}"
            advice = "Move them with .to(device)."
            expect.that(False, "the pictures", "lie in one place", places, advice)
        alpha_bar = self.alpha_bars[expect.time(name, t, low, self.steps)]
        return alpha_bar.reshape(-1, *[1] * (x.ndim - 1))
