"""Digits against calls of the network: every sampler of the course with guidance in two calls a
step, flow matching, guidance distilled into one call, and shortcuts."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.digits import digit_condition, digits
from ..guidance import guide
from ..metrics import frechet_distance
from ..pipelines import load, start_noise
from ..pipelines.few_steps import digit_knobs
from ..sampling import ddim, ddpm, dpm_solver, euler, last
from .common import Part, share
from .digit_classifier import interval

SCALE = 2.0
CALLS = (1, 2, 4, 8, 16, 32, 100)
MOST = {"ddpm": 100, "shortcut": 8}  # others: 16
SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm_solver": dpm_solver}
METHODS = (*SAMPLERS, "flow", "distilled", "shortcut")


def draw(method: str, calls: int, x_T: Tensor, labels: Tensor) -> Tensor:
    """Digits [B, 1, 28, 28] from so many calls of the network, clamped to -1..1."""
    if method in ("distilled", "shortcut"):
        told = digit_knobs(labels, SCALE, 1 / calls if method == "shortcut" else 0.0)
        steps = euler(guide(load("digits-shortcut").network, told), x_T, calls)
    elif method == "flow":
        ask = guide(load("digits-flow").network, digit_condition(labels), SCALE)
        steps = euler(ask, x_T, calls // 2)
    else:
        writer = load("digits")
        ask = guide(writer.network, digit_condition(labels), SCALE)
        steps = SAMPLERS[method](ask, writer.schedule, x_T, calls // 2)
    return last(steps).clamp(-1, 1)


def parts(data: Path | None, count: int = 40) -> Iterator[Part]:
    """`count` digits for each method and number of calls, 0 to 9 in turn, seeds 0, 1, 2, ..."""
    judge, wanted = load("digit-judge"), torch.arange(count) % 10
    real = judge.features(digits("test", data)[0])

    def measure(method: str, calls: int) -> dict:
        torch.manual_seed(0)  # the fresh noise of ddpm
        began, x_T = time.process_time(), start_noise(count, (1, 28, 28))
        features = judge.features(draw(method, calls, x_T, wanted))
        seconds = time.process_time() - began
        return {
            "method": method,
            "calls": calls,
            **share(judge.logits(features).argmax(1) == wanted),
            "frechet_distance": interval(lambda x: frechet_distance(x, real), features),
            "processor_seconds_for_16": round(16 * seconds / count, 2),
        }

    for method in METHODS:
        for calls in CALLS:
            one = method in ("distilled", "shortcut")  # guidance in one call
            if (1 if one else 2) <= calls <= MOST.get(method, 16):
                yield f"{method} {calls}", partial(measure, method, calls)


def summary(found: dict) -> dict:
    """All rows, in the order of METHODS and CALLS."""
    return {"scale": SCALE, "rows": list(found.values())}
