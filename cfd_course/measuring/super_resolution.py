"""Of enlarged photos: distortion, spread, and whether the detail is in the right places."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from ..metrics import distortion, fine_power, luma, psnr
from ..pictures import back_project, bicubic, shrink, stored
from ..pipelines import load
from .common import FEW, SAMPLES, Part, mean, photos_of, question

CROP = 112  # pixels, of the middle of each photo, that the samples are drawn for
# What is compared on the first photos: settings of enlarge.
COMPARED = {
    "without projection": {"project": False},
    "scale 0": {"scale": 0.0},
    "scale 1.5": {"scale": 1.5},
    "scale 2": {"scale": 2.0},
}


def parts(data: Path | None, model: str = "super-resolution") -> Iterator[Part]:
    """BSD100, x4, luma in 0..255, 4 pixels cropped: bicubic and back-projection on the whole
    photos; 8 samples of the middle 112x112 pixels of each; other settings on the first 10."""
    pictures = photos_of(data, CROP)

    def baselines() -> dict:
        errors = {"bicubic": [], "back_projection": []}
        for picture in pictures:
            real, low = question(picture, None)
            coarse = bicubic(low)
            errors["bicubic"].append(error(stored(coarse), real))
            errors["back_projection"].append(
                error(stored(back_project(coarse.clamp(-1, 1), low)), real)
            )
        return {name: mean([psnr(e) for e in each]) for name, each in errors.items()}

    def error(picture: Tensor, real: Tensor) -> float:
        return float((brightness(picture) - brightness(real)).square().mean())

    scaler = load(model)

    def measure(picture: Tensor, **settings) -> dict:
        real, low = question(picture, CROP)
        # The seeds of one call differ by 1 from row to row.
        samples = scaler.enlarge(low.expand(SAMPLES, -1, -1, -1), **settings)
        apart = (shrink(samples) - low).square().mean().sqrt() * 127.5
        drawn, right, coarse = map(brightness, (samples, real, stored(bicubic(low))))
        power, real_power, coarse_power = map(fine_power, (drawn, right, coarse))
        return {
            "bicubic": round(float((coarse - right).square().mean()), 4),
            **{name: round(value, 4) for name, value in distortion(drawn, right[0]).items()},
            "power": round(float(power.mean()), 4),
            "real_power": round(float(real_power.mean()), 4),
            "from_input": round(float(apart), 4),
            # Log powers of the blocks: of the first sample, of the bicubic picture, of the photo.
            "blocks": [
                [round(x, 2) for x in each.add(1e-3).log().flatten().tolist()]
                for each in (power[:1], coarse_power, real_power)
            ],
        }

    yield "baselines", baselines
    for number, picture in enumerate(pictures):
        yield f"photo {number}", partial(measure, picture)
    for name, settings in COMPARED.items():
        for number, picture in enumerate(pictures[:FEW]):
            yield f"{name} {number}", partial(measure, picture, **settings)


def brightness(pictures: Tensor) -> Tensor:
    return luma(pictures.clamp(-1, 1))[:, 4:-4, 4:-4]


def summary(found: dict) -> dict:
    def row(name: str, parts: list[dict]) -> dict:
        def decibels(kind: str) -> list[float]:
            return [psnr(part[kind]) for part in parts]

        total = {
            kind: sum(part[kind] for part in parts)
            for kind in ("spread", "posterior_mean", "power", "real_power")
        }
        sample, coarse, real = (sum((part["blocks"][i] for part in parts), []) for i in range(3))
        return {
            "name": name,
            "photos": len(parts),
            "bicubic": mean(decibels("bicubic")),
            "single": mean(decibels("single")),
            "gain_of_mean": mean(list(np.subtract(decibels("mean"), decibels("bicubic")))),
            "gain_of_posterior_mean": mean(
                list(np.subtract(decibels("posterior_mean"), decibels("bicubic")))
            ),
            "spread_over_error": round(total["spread"] / total["posterior_mean"], 3),
            "power_over_real": round(total["power"] / total["real_power"], 3),
            "block_correlation": round(float(np.corrcoef(sample, real)[0, 1]), 3),
            "block_correlation_of_bicubic": round(float(np.corrcoef(coarse, real)[0, 1]), 3),
            "from_input": round(max(part["from_input"] for part in parts), 3),
        }

    def measured(name: str, count: int) -> list[dict]:
        return [found[f"{name} {number}"] for number in range(count)]

    count = sum(name.startswith("photo ") for name in found)
    few = min(FEW, count)
    return {
        **found["baselines"],
        "rows": [
            row("all photos", measured("photo", count)),
            row("the first few", measured("photo", few)),
        ]
        + [row(name, measured(name, few)) for name in COMPARED],
        "photos": [
            {name: value for name, value in part.items() if name != "blocks"}
            for part in measured("photo", count)
        ],
    }
