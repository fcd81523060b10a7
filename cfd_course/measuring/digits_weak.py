"""Digits drawn by guidance as it was in 2022, and by five methods since, at the same number of
network calls: lesson 16."""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.digits import digit_condition, digits
from ..guidance import guide, guide_from, guide_guess, in_interval, projected, rescaled
from ..pipelines import load, start_noise
from ..sampling import cfg_plus, ddim, last
from .common import Part
from .digit_classifier import crowd

STEPS = 10  # of DDIM with two calls of a network each; at scale 1, where one will do, twice that
# In the interval only every other step asks twice: the same 20 calls buy 13 steps.
LOW, HIGH, LONGER = 200, 700, 13
SCALES = {
    "everywhere": (1, 2, 4, 8),
    "interval": (4, 8),
    "autoguidance": (2, 4),
    "CFG++": (0.4, 0.8),
    "projected": (4, 8),
    "rescaled": (4, 8),
}


def draw(method: str, scale: float, strong, weak, labels: Tensor, x_T: Tensor) -> Tensor:
    """A batch by one of the methods. strong, weak: Artists."""
    condition, schedule = digit_condition(labels), strong.schedule
    null, told = (guide(strong.network, condition, each) for each in (0.0, 1.0))
    if method == "CFG++":
        return last(cfg_plus(null, told, schedule, x_T, STEPS, scale))
    if method == "autoguidance":
        denoise = guide_from(guide(weak.network, condition), told, scale)
    elif method == "interval":
        denoise = guide_from(null, told, in_interval(scale, LOW, HIGH))
        return last(ddim(denoise, schedule, x_T, LONGER))
    elif method == "everywhere":
        denoise = guide_from(null, told, scale)
    else:
        rule = {"projected": projected, "rescaled": rescaled}[method]
        denoise = guide_guess(null, told, schedule, partial(rule, scale=scale))
    return last(ddim(denoise, schedule, x_T, 2 * STEPS if scale == 1 else STEPS))


def parts(data: Path | None, count: int = 100) -> Iterator[Part]:
    """`count` digits for each method and scale, 0 to 9 in turn, seeds 0, 1, 2, ..."""
    strong, weak, judge = load("digits"), load("digits-weak"), load("digit-judge")
    wanted = torch.arange(count) % 10
    real_features = cache(lambda: judge.features(digits("test", data)[0]))

    def measure(method: str, scale: float) -> dict:
        drawn = draw(method, scale, strong, weak, wanted, start_noise(count, strong.shape))
        found = crowd(judge, drawn.clamp(-1, 1), wanted, real_features())
        return {"method": method, "scale": scale, **found}

    for method, scales in SCALES.items():
        for scale in scales:
            yield f"{method} {scale}", partial(measure, method, scale)


def summary(found: dict) -> dict:
    """All rows, in the order of SCALES."""
    return {"steps": STEPS, "calls": 2 * STEPS, "rows": list(found.values())}
