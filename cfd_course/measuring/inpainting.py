"""Of filled photos: the error in the hole, the spread, and the seam."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from ..metrics import distortion, fine_power, luma, psnr
from ..pictures import biharmonic_fill
from ..pipelines import load
from .common import FEW, SAMPLES, Part, mean, photos_of, question


def parts(data: Path | None, model: str = "inpainting") -> Iterator[Part]:
    """The middle 64x64 pixels of each photo, with a hole of 24x24 in their middle: 8 samples at
    scale 1, and scikit-image's biharmonic fill; errors in the hole, over all three colours in
    0..255."""
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 20:44, 20:44] = True

    def measure(picture: Tensor, scale: float) -> dict:
        real, _ = question(picture, 64)
        samples = load(model).fill(
            real.expand(SAMPLES, -1, -1, -1), hole.expand(SAMPLES, -1, -1, -1), scale
        )
        smooth = biharmonic_fill(real, hole)
        inside = (slice(None), slice(None), slice(20, 44), slice(20, 44))
        values = [127.5 * (x[inside] + 1) for x in (samples, smooth, real)]
        drawn, other, right = values
        power = [float(fine_power(luma(x[inside]), 24).mean()) for x in (samples, smooth, real)]
        return {
            "scale": scale,
            **{name: round(value, 3) for name, value in distortion(drawn, right[0]).items()},
            "biharmonic": round(float((other - right).square().mean()), 3),
            "power": [round(value, 4) for value in power],
            "step": [round(border_step(x, hole), 3) for x in (samples, smooth, real)],
            "known_changed": int((torch.where(hole, 0, samples - real) != 0).sum()),
        }

    for number, picture in enumerate(photos_of(data, 64)):
        for scale in (1.0, 1.5, 2.0):
            if scale == 1 or number < FEW:
                yield f"scale {scale:g}: {number}", partial(measure, picture, scale)


def border_step(pictures: Tensor, hole: Tensor) -> float:
    """The mean colour difference, in 0..255, of neighbouring pixels of which one lies in the hole:
    pictures [B, C, H, W] in [-1, 1], hole [1, 1, H, W]."""
    total, count = 0.0, 0
    for axis in (2, 3):
        crossing = hole.diff(dim=axis).expand(len(pictures), pictures.shape[1], -1, -1)
        steps = 127.5 * pictures.diff(dim=axis).abs()[crossing]
        total, count = total + float(steps.sum()), count + steps.numel()
    return total / count


def _pooled_gain(own, other) -> float:
    """Of mean squared errors: decibels between their means. Smooth skies, where both errors are
    below what one sees, count little in it."""
    return psnr(float(np.mean(own))) - psnr(float(np.mean(other)))


def summary(found: dict) -> dict:
    rows = []
    for scale in (1.0, 1.5, 2.0):
        of_scale = [part for part in found.values() if part["scale"] == scale]
        gains = [psnr(part["mean"]) - psnr(part["biharmonic"]) for part in of_scale]
        errors = tuple([part[kind] for part in of_scale] for kind in ("mean", "biharmonic"))
        power = np.sum([part["power"] for part in of_scale], axis=0)
        steps = np.mean([part["step"] for part in of_scale], axis=0)
        interval = bootstrap(
            errors, _pooled_gain, paired=True, vectorized=False, method="percentile", rng=0
        ).confidence_interval
        rows.append(
            {
                "scale": scale,
                "photos": len(of_scale),
                "mean": mean([psnr(part["mean"]) for part in of_scale]),
                "single": mean([psnr(part["single"]) for part in of_scale]),
                "biharmonic": mean([psnr(part["biharmonic"]) for part in of_scale]),
                "gain_of_mean": mean(gains),
                "gain_of_pooled_error": {
                    "mean": round(_pooled_gain(*errors), 3),
                    "interval": [round(float(bound), 3) for bound in interval],
                },
                "spread_over_error": round(
                    sum(part["spread"] for part in of_scale)
                    / sum(part["posterior_mean"] for part in of_scale),
                    3,
                ),
                "power_over_real": round(float(power[0] / power[2]), 3),
                "biharmonic_power_over_real": round(float(power[1] / power[2]), 3),
                "step_over_real": round(float(steps[0] / steps[2]), 3),
                "known_changed": sum(part["known_changed"] for part in of_scale),
            }
        )
    return {"rows": rows, "photos": [part for part in found.values() if part["scale"] == 1]}
