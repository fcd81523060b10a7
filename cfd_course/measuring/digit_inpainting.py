"""Of filled digits: how many are still what they were."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from ..datasets.digits import digits
from ..guidance import guide
from ..pipelines import load, start_noise
from ..sampling import repaint
from .common import Part, share

# name: calls of the network, and for RePaint jump and resampling
METHODS = {
    "digit-inpainting": (23,),
    "digit-inpainting-attention": (23,),
    "RePaint": (50, 5, 5),  # 230 calls
    "RePaint with as many calls": (23, 23, 1),
}


def parts(data: Path | None, count: int = 300) -> Iterator[Part]:
    """`count` test digits with the middle third hidden, rows 9 to 18, no label given, filled and
    then recognised by the judge."""
    pictures, labels = (x[:count] for x in digits("test", data))
    hole = torch.zeros(count, 1, 28, 28, dtype=torch.bool)
    hole[:, :, 9:19] = True
    judge = load("digit-judge")

    def measure(name: str) -> dict:
        steps, *resampling = METHODS[name]
        if not resampling:
            filled = load(name).fill(pictures, hole, steps=steps)
        else:
            writer, calls = load("digits"), 0

            def denoise(x_t: Tensor, t: int) -> Tensor:
                nonlocal calls
                calls += 1
                return network(x_t, t)

            network = guide(writer.network)
            x_T = start_noise(count, (1, 28, 28))
            for step in repaint(
                denoise,
                writer.schedule,
                x_T,
                pictures,
                hole,
                steps,
                *resampling,
                generator=torch.Generator().manual_seed(0),
            ):
                filled = step.x_t
            steps = calls
        right = judge(filled).argmax(1) == labels
        return {"calls": steps, **share(right)}

    def untouched() -> dict:
        return share(judge(pictures).argmax(1) == labels)

    yield "untouched", untouched
    for name in METHODS:
        yield name, partial(measure, name)


def summary(found: dict) -> dict:
    """Beside each method, how many more digits of a hundred the first one gets right, with the
    paired 95% interval from resampling the digits."""

    def each(name: str) -> np.ndarray:
        return np.array([int(digit) for digit in found[name]["each"]])

    first = each("digit-inpainting")
    rows = []
    for name in METHODS:
        row = {"name": name, **found[name]}
        difference = 100 * (first - each(name))
        if difference.any():
            interval = bootstrap(
                (difference,), np.mean, method="percentile", rng=0
            ).confidence_interval
            row["first_is_better_by"] = {
                "mean": round(float(difference.mean()), 2),
                "interval": [round(float(interval.low), 2), round(float(interval.high), 2)],
            }
        rows.append(row)
    return {"untouched": found["untouched"], "rows": rows}
