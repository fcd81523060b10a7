"""Data whose exact denoiser is known: mixtures of Gaussians.

Noise turns a mixture into another mixture, component by component, so the density of x_t, its
gradient (the score) and therefore the perfect noise prediction are closed formulas. A mixture can
stand wherever a trained network stands: this is how the mathematics of the course is checked.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import expect
from .expect import Count, Source, Time, checked
from .schedule import NoiseSchedule

Numbers = Tensor | Sequence  # a tensor, or nested lists of numbers
Points = Float[Tensor, "B {self.dimensions}"]


class GaussianMixture:
    """K Gaussians in D dimensions, each with a label.

    means [K, D]; covariances [K, D, D], symmetric and positive definite; weights [K], positive
    (scaled to sum to 1; equal if not given); labels [K], whole numbers (0, 1, 2, ... if not given).
    Everything is kept in float64, on the CPU.
    """

    def __init__(
        self,
        means: Numbers,
        covariances: Numbers,
        weights: Numbers | None = None,
        labels: Numbers | None = None,
    ):
        self.means = _numbers("means", means, Float[Tensor, "K D"])
        count, self.dimensions = self.means.shape
        square = f"{count} {self.dimensions} {self.dimensions}"
        self.covariances = _numbers("covariances", covariances, Float[Tensor, square])
        weights = [1] * count if weights is None else weights
        self.weights = _numbers("weights", weights, Float[Tensor, f"{count}"])
        expect.that((self.weights > 0).all(), "weights", "be positive", str(self.weights.tolist()))
        self.weights = self.weights / self.weights.sum()
        try:
            self.labels = torch.arange(count) if labels is None else torch.as_tensor(labels).cpu()
        except (TypeError, ValueError, RuntimeError, OverflowError):
            expect.that(False, "labels", "be whole numbers", labels, kind=TypeError)
        expect.fits("labels", self.labels, Int[Tensor, f"{count}"])
        lopsided = (self.covariances - self.covariances.mT).abs().max()
        right = lopsided <= 1e-6 * self.covariances.abs().max()
        came = f"entries [i, j] and [j, i] that differ by {lopsided:g}"
        expect.that(right, "covariances", "be symmetric", came)
        # Along its eigenvectors a Gaussian is a product of one-dimensional ones.
        self._variances, self._axes = torch.linalg.eigh(self.covariances)  # [K, D], [K, D, D]
        right = (self._variances > 1e-12 * self._variances.amax(1, keepdim=True)).all()
        came = f"one with the eigenvalue {self._variances.min():g}"
        advice = "Give every direction some width."
        expect.that(right, "covariances", "be positive definite", came, advice)

    def given(self, label: int | None) -> "GaussianMixture":
        """The components with this label, as a mixture of their own: p(x | label)."""
        if label is None:
            return self
        mine = self._with(label)
        return GaussianMixture(
            self.means[mine], self.covariances[mine], self.weights[mine], self.labels[mine]
        )

    def mean(self) -> Tensor:
        """[D]"""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """[D, D]: the spread within the components plus the spread of their means."""
        away = self.means - self.mean()
        within = (self.weights[:, None, None] * self.covariances).sum(0)
        return within + (self.weights[:, None] * away).mT @ away

    @checked
    def sample(self, count: Count, generator: Source = None) -> Tensor:
        """`count` points, [count, D] in float32."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn(count, self.dimensions, dtype=torch.float64, generator=generator)
        along = normal * self._variances[which].sqrt()
        return (self.means[which] + (self._axes[which] @ along[..., None])[..., 0]).float()

    def log_density(self, x: Points, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """log of the density of x_t at x [B, D], where x_t keeps the part alpha_bar (a number or
        [B]) of the data's variance; 1 is the data itself. Returns [B] in float64."""
        return torch.logsumexp(self._component_terms(x, alpha_bar)[0], dim=0)

    def score(self, x: Points, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """The gradient of log_density in x, [B, D]: each component's own gradient
        -C_t^-1 (x - m_t), weighted by the chance that x came from it."""
        terms, gradients = self._component_terms(x, alpha_bar)
        return (terms.softmax(dim=0)[..., None] * gradients).sum(0).to(x)

    def label_probability(self, x: Points, label: int, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """The perfect classifier p(label | x_t = x), by Bayes. Returns [B] in float64."""
        mine = self._with(label)
        return self._component_terms(x, alpha_bar)[0].softmax(dim=0)[mine].sum(0)

    @checked
    def denoiser(self, schedule: NoiseSchedule, label: int | None = None) -> Callable[..., Tensor]:
        """The perfect noise prediction denoise(x_t, t) = E[noise | x_t, label], by Tweedie's
        formula: -sqrt(1 - alpha_bar_t) times the score of x_t."""
        mixture = self.given(label)

        @checked
        def denoise(x_t: Float[Tensor, f"B {self.dimensions}"], t: Time) -> Tensor:
            snr = schedule.snr(t)
            alpha_bar = snr / (1 + snr)
            return -(1 / (1 + snr)).sqrt().reshape(-1, 1).to(x_t) * mixture.score(x_t, alpha_bar)

        return denoise

    def _with(self, label: int) -> Tensor:
        """Which components have this label, [K]."""
        known = self.labels.unique().tolist()
        right = any(type(label) is int and label == each for each in known)
        wanted = f"be one of {', '.join(map(str, known))}"
        expect.that(right, "label", wanted, expect.describe(label))
        return self.labels == label

    @checked
    def _component_terms(self, x: Points, alpha_bar) -> tuple[Tensor, Tensor]:
        """For each component and point: log(weight * density), [K, B]; the gradient of the
        component's log density, [K, B, D]."""
        alpha_bar = expect.numbers("alpha_bar", alpha_bar)
        right = alpha_bar.ndim == 0 or alpha_bar.shape in ((1,), (len(x),))
        wanted = f"be one number, or one for each of the {len(x)} points"
        expect.that(right, "alpha_bar", wanted, expect.describe(alpha_bar))
        right = bool(((alpha_bar > 0) & (alpha_bar <= 1)).all())
        expect.that(right, "alpha_bar", "be in (0, 1]", f"{alpha_bar.min():g}..{alpha_bar.max():g}")
        alpha_bar = alpha_bar.reshape(-1, 1)  # [B or 1, 1]
        away = x.cpu().double() - alpha_bar.sqrt() * self.means[:, None]  # [K, B, D]
        variances = (
            alpha_bar * self._variances[:, None] + 1 - alpha_bar
        )  # [K, B or 1, D], along the axes
        along = away @ self._axes
        log_densities = -0.5 * (along**2 / variances + (2 * math.pi * variances).log()).sum(-1)
        gradients = -(along / variances) @ self._axes.mT
        return self.weights.log()[:, None] + log_densities, gradients


def _numbers(name: str, values: Numbers, hint) -> Tensor:
    return expect.fits(name, expect.numbers(name, values), hint)
