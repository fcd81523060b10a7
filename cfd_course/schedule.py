"""Everything about the forward process: how fast a picture turns into noise.

Symbols, as in Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models" (DDPM, 2020):
beta_t is the variance of the noise added at step t, alpha_t = 1 - beta_t, and
alpha_bar_t = alpha_1 * ... * alpha_t is the share of the picture's variance left after t steps.
t runs over 1..T; t = 0 is the clean picture, alpha_bar_0 = 1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import expect

# Below this share the picture can no longer be told from rounding errors, and dividing by
# sqrt(alpha_bar) blows every error up. The cosine schedule would go on down to 0.
FLOOR = 1e-5
# The smallest beta. Much less would vanish in 1 - beta, and a step would add no noise.
LEAST = 1e-12


class NoiseSchedule:
    """The tables `betas`, `alphas`, `alpha_bars`, each [T + 1] in float64, indexed by t itself.

    betas: the variances beta_1 .. beta_T, each in 1e-12..1. Where alpha_bar would fall below 1e-5
    the last steps are replaced by a geometric descent to 1e-5, so every step still adds noise.
    """

    def __init__(self, betas: Tensor | Sequence[float]):
        betas = expect.tensor("betas", expect.numbers("betas", betas), ("T",))
        if not bool(((betas >= LEAST) & (betas <= 1)).all()):
            raise ValueError(
                f"betas should be in {LEAST:g}..1, but {betas.min():g}..{betas.max():g} came."
            )
        clean = torch.ones(1, dtype=torch.float64, device=betas.device)
        self.alphas = torch.cat([clean, 1 - betas])
        self.alpha_bars = self.alphas.cumprod(0)
        last = int((self.alpha_bars > FLOOR).sum()) - 1  # the last t above the floor
        tail = len(betas) - last
        if tail:
            above = float(self.alpha_bars[last])
            shares = torch.arange(1, tail + 1, dtype=torch.float64, device=betas.device) / tail
            self.alpha_bars[last + 1 :] = above * (FLOOR / above) ** shares
            self.alphas[last + 1 :] = self.alpha_bars[last + 1 :] / self.alpha_bars[last:-1]
        self.betas = 1 - self.alphas

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> "NoiseSchedule":
        """DDPM section 4: betas evenly spaced. The ends were chosen for 1000 steps; with fewer
        steps and the same ends, x_T is still partly the picture."""
        expect.whole("steps", steps, 1)
        first, last = _beta("first", first), _beta("last", last)
        return cls(torch.linspace(first, last, steps, dtype=torch.float64))

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, first: float = 0.00085, last: float = 0.012
    ) -> "NoiseSchedule":
        """Rombach et al., "Latent Diffusion Models" (2022): square roots of beta evenly spaced."""
        expect.whole("steps", steps, 1)
        roots = torch.linspace(
            _beta("first", first) ** 0.5, _beta("last", last) ** 0.5, steps, dtype=torch.float64
        )
        return cls(roots**2)

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008) -> "NoiseSchedule":
        """Nichol, Dhariwal, "Improved DDPM" (2021), equation 17:
        alpha_bar_t = f(t) / f(0), f(t) = cos^2(pi/2 * (t/T + offset) / (1 + offset))."""
        expect.whole("steps", steps, 1)
        expect.number("offset", offset, 0, 1)
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos(math.pi / 2 * (t + offset) / (1 + offset)) ** 2
        return cls(1 - f[1:] / f[:-1])

    @property
    def steps(self) -> int:
        """T, the number of noising steps."""
        return len(self.betas) - 1

    def to(self, device: str | torch.device) -> "NoiseSchedule":
        """The same schedule with its tables on another device. Only for speed: the methods below
        take tensors from any device."""
        device = expect.device("device", device)
        moved = object.__new__(NoiseSchedule)
        for table in ("betas", "alphas", "alpha_bars"):
            setattr(moved, table, getattr(self, table).to(device))
        return moved

    def add_noise(self, x_0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise. DDPM equation 4.

        x_0, noise: [B, ...]; t: a whole number or [B], in 1..T. Returns the shape of x_0.
        """
        alpha_bar = self._share(t, x_0=x_0, noise=noise)
        return alpha_bar.sqrt().to(x_0) * x_0 + (1 - alpha_bar).sqrt().to(x_0) * noise

    def predict_x0(self, x_t: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """The clean picture, if `noise` is what was added: add_noise solved for x_0. DDPM
        equation 15. Arguments as in add_noise."""
        alpha_bar = self._share(t, x_t=x_t, noise=noise)
        return (x_t - (1 - alpha_bar).sqrt().to(x_t) * noise) / alpha_bar.sqrt().to(x_t)

    def predict_noise(self, x_t: Tensor, t: int | Tensor, x_0: Tensor) -> Tensor:
        """The noise, if `x_0` is the clean picture: add_noise solved for the noise."""
        alpha_bar = self._share(t, x_t=x_t, x_0=x_0)
        return (x_t - alpha_bar.sqrt().to(x_t) * x_0) / (1 - alpha_bar).sqrt().to(x_t)

    def posterior(
        self, x_0: Tensor, x_t: Tensor, t: int | Tensor, s: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_s | x_t, x_0) for s < t (s = t - 1 if not given). DDPM
        equations 6 and 7, with alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha:

        mean = sqrt(alpha_bar_s) beta / (1 - alpha_bar_t) x_0
             + sqrt(alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t) x_t
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta

        x_0, x_t: [B, ...]; t: a whole number or [B], in 1..T; s likewise, in 0..t - 1. Returns the
        mean in the shape of x_t, and the variance as one number per example, [B or 1, 1, ...].
        """
        alpha_bar_t = self._share(t, x_0=x_0, x_t=x_t)
        if s is None:
            s = t - 1
        alpha_bar_s = self._share(s, low=0, name="s", x_0=x_0, x_t=x_t)
        if not bool((alpha_bar_s > alpha_bar_t).all()):
            raise ValueError(
                f"s should be smaller than t, but s = {s} and t = {t} came: the posterior goes "
                "towards the picture."
            )
        alpha = alpha_bar_t / alpha_bar_s
        beta = 1 - alpha
        rest = 1 - alpha_bar_t
        mean = (alpha_bar_s.sqrt() * beta / rest).to(x_t) * x_0 + (
            alpha.sqrt() * (1 - alpha_bar_s) / rest
        ).to(x_t) * x_t
        return mean, ((1 - alpha_bar_s) / rest * beta).to(x_t)

    def snr(self, t: int | Tensor) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), in float64; t as in add_noise.
        Kingma et al., "Variational Diffusion Models" (2021), section 3.1."""
        alpha_bar = self.alpha_bars[_timestep("t", t, 1, self.steps).to(self.alpha_bars.device)]
        return alpha_bar / (1 - alpha_bar)

    def _share(self, t, *, low=1, name="t", **tensors) -> Tensor:
        """alpha_bar_t, shaped to multiply the tensors, which must be alike."""
        (first_name, first), (second_name, second) = tensors.items()
        expect.tensor(
            first_name, first, None, advice="Pictures are floats in [-1, 1]: convert with .float()."
        )
        if first.ndim == 0:
            raise ValueError(f"{first_name} should have shape [B, ...], but a single number came.")
        expect.tensor(second_name, second, tuple(first.shape))
        if second.device != first.device:
            raise ValueError(
                f"{first_name} is on {first.device} but {second_name} on {second.device}: "
                "move one with .to(device)."
            )
        t = _timestep(name, t, low, self.steps)
        if t.ndim and len(t) != len(first):
            raise ValueError(
                f"{name} should be one number, or one for each of the {len(first)} examples of "
                f"{first_name}, but {expect.describe(t)} came."
            )
        # Still float64, which not every device knows: the callers move their float32 results.
        share = self.alpha_bars[t.to(self.alpha_bars.device)]
        return share.reshape(-1, *[1] * (first.ndim - 1))


def _beta(name, value):
    return expect.number(name, value, LEAST, 1)


def _timestep(name, t, low, high) -> Tensor:
    if isinstance(t, int) and not isinstance(t, bool):
        t = torch.tensor(t)
    advice = f"It counts noising steps: whole numbers in {low}..{high}, t = 0 is the clean picture."
    expect.tensor(name, t, None, "int", advice)
    if t.ndim > 1 or t.numel() == 0:
        raise ValueError(f"{name} should have shape [] or [B], but {expect.describe(t)} came.")
    if int(t.min()) < low or int(t.max()) > high:
        raise ValueError(
            f"{name} should be in {low}..{high}, but {int(t.min())}..{int(t.max())} came. {advice}"
        )
    return t
