"""Data whose exact denoiser is known: mixtures of Gaussians.

Noise turns a mixture into another mixture, component by component, so the density of x_t, its
gradient (the score) and therefore the perfect noise prediction are closed formulas. A mixture can
stand wherever a trained network stands: this is how the mathematics of the course is checked.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import expect
from .schedule import NoiseSchedule

Numbers = Tensor | Sequence  # a tensor, or nested lists of numbers


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
        self.means = expect.numbers("means", means)
        expect.tensor("means", self.means, ("K", "D"))
        count, dimensions = self.means.shape
        self.covariances = expect.numbers("covariances", covariances)
        expect.tensor("covariances", self.covariances, (count, dimensions, dimensions))
        self.weights = expect.numbers("weights", [1] * count if weights is None else weights)
        expect.tensor("weights", self.weights, (count,))
        if not bool((self.weights > 0).all()):
            raise ValueError(f"weights should be positive, but {self.weights.tolist()} came.")
        self.weights = self.weights / self.weights.sum()
        try:
            labels = torch.arange(count) if labels is None else torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise TypeError(
                f"labels should be whole numbers, but {expect.describe(labels)} came."
            ) from error
        self.labels = expect.tensor("labels", labels, (count,), "int")
        lopsided = (self.covariances - self.covariances.mT).abs().max()
        if lopsided > 1e-6 * self.covariances.abs().max():
            raise ValueError(
                "covariances should be symmetric, but entries [i, j] and [j, i] came that differ "
                f"by {lopsided:g}."
            )
        # Along its eigenvectors a Gaussian is a product of one-dimensional ones.
        self._variances, self._axes = torch.linalg.eigh(self.covariances)  # [K, D], [K, D, D]
        if not bool((self._variances > 1e-12 * self._variances.amax(1, keepdim=True)).all()):
            raise ValueError(
                "covariances should be positive definite, but one came with the eigenvalue "
                f"{self._variances.min():g}. Give every direction some width."
            )

    def given(self, label: int | None) -> "GaussianMixture":
        """The components with this label, as a mixture of their own: p(x | label)."""
        if label is None:
            return self
        mine = self.labels == expect.choice("label", label, self.labels.unique().tolist())
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

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """`count` points, [count, D] in float32."""
        expect.whole("count", count, 1)
        expect.random_source("generator", generator)
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        along = normal * self._variances[which].sqrt()
        return (self.means[which] + (self._axes[which] @ along[..., None])[..., 0]).float()

    def log_density(self, x: Tensor, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """log of the density of x_t at x [B, D], where x_t keeps the share alpha_bar (a number or
        [B]) of the data's variance; 1 is the data itself. Returns [B] in float64."""
        return torch.logsumexp(self._component_terms(x, alpha_bar)[0], dim=0)

    def score(self, x: Tensor, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """The gradient of log_density in x, [B, D]: each component's own gradient
        -C_t^-1 (x - m_t), weighted by the chance that x came from it."""
        terms, gradients = self._component_terms(x, alpha_bar)
        return (terms.softmax(dim=0)[..., None] * gradients).sum(0).to(x)

    def label_probability(self, x: Tensor, label: int, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """The perfect classifier p(label | x_t = x), by Bayes. Returns [B] in float64."""
        expect.choice("label", label, self.labels.unique().tolist())
        chances = self._component_terms(x, alpha_bar)[0].softmax(dim=0)
        return chances[self.labels == label].sum(0)

    def denoiser(self, schedule: NoiseSchedule, label: int | None = None) -> Callable[..., Tensor]:
        """The perfect noise prediction denoise(x_t, t) = E[noise | x_t, label], by Tweedie's
        formula: -sqrt(1 - alpha_bar_t) times the score of x_t."""
        expect.instance("schedule", schedule, NoiseSchedule)
        mixture = self.given(label)

        def denoise(x_t: Tensor, t) -> Tensor:
            expect.tensor("x_t", x_t, ("B", mixture.means.shape[1]))
            snr = schedule.snr(t)
            if snr.ndim and len(snr) != len(x_t):
                raise ValueError(
                    f"t should be one number, or one for each of the {len(x_t)} examples of x_t, "
                    f"but {expect.describe(t)} came."
                )
            alpha_bar = snr / (1 + snr)
            return -(1 / (1 + snr)).sqrt().reshape(-1, 1).to(x_t) * mixture.score(x_t, alpha_bar)

        return denoise

    def _component_terms(self, x: Tensor, alpha_bar) -> tuple[Tensor, Tensor]:
        """For each component and point: log(weight * density), [K, B]; the gradient of the
        component's log density, [K, B, D]."""
        dimensions = self.means.shape[1]
        expect.tensor("x", x, ("B", dimensions))
        share = expect.numbers("alpha_bar", alpha_bar)
        if not bool(((share > 0) & (share <= 1)).all()):
            raise ValueError(
                f"alpha_bar should be in (0, 1], but {share.min():g}..{share.max():g} came."
            )
        if share.ndim > 1 or (share.ndim == 1 and len(share) not in (1, len(x))):
            raise ValueError(
                f"alpha_bar should be one number, or one for each of the {len(x)} points, but "
                f"{expect.describe(share)} came."
            )
        share = share.reshape(-1, 1)  # [B or 1, 1]
        away = x.cpu().double() - share.sqrt() * self.means[:, None]  # [K, B, D]
        variances = share * self._variances[:, None] + 1 - share  # [K, B or 1, D], along the axes
        along = away @ self._axes
        log_densities = -0.5 * (along**2 / variances + (2 * math.pi * variances).log()).sum(-1)
        gradients = -(along / variances) @ self._axes.mT
        return self.weights.log()[:, None] + log_densities, gradients
