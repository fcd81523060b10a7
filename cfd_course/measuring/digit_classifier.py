"""Digits drawn by classifier guidance, without a classifier, and by both, at equal scales:
Dhariwal, Nichol, "Diffusion Models Beat GANs" (2021), section 4, in miniature."""

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.digits import digit_condition, digits
from ..guidance import classifier_gradient, guide, guide_by_classifier
from ..metrics import frechet_distance, precision_recall
from ..pipelines import DigitJudge, load, start_noise
from ..sampling import dpm_solver, last
from .common import Part, share

SCALES = (1, 1.5, 2, 3, 5, 8)
# The scale without a classifier, and that of the classifier. By Bayes' rule the three would do the
# same, were all networks perfect. The last is the paper's: a network that is told, and guided.
METHODS = {
    "classifier-free": lambda scale: (scale, 0),
    "classifier": lambda scale: (0, scale),
    "both": lambda scale: (1, scale - 1),
}
GROUPS, STUDENT = 10, 2.26  # of pictures, for intervals; the 97.5% point of t with 9 degrees


def interval(measure: Callable[[Tensor], float], features: Tensor) -> dict:
    """What is measured on features [N, D], with its 95% interval, by a jackknife that leaves out
    one group of neighbours after the other: how much other seeds would change it, at this N. (Every
    tenth picture would not do for a group: they show the same digit.)"""
    group, value = torch.arange(len(features)) * GROUPS // len(features), measure(features)
    without = torch.tensor([measure(features[group != number]) for number in range(GROUPS)])
    margin = STUDENT * float((GROUPS - 1) * without.var(correction=0)) ** 0.5
    ends = [round(value - margin, 3), round(value + margin, 3)]
    return {"value": round(value, 3), "interval": ends}


def crowd(judge: DigitJudge, drawn: Tensor, wanted: Tensor, real: Tensor) -> dict:
    """How many of some drawn digits are as wanted, and how they lie to the features of real ones,
    of which precision and recall take as many as were drawn."""
    features = judge.features(drawn)
    measures = {
        "frechet_distance": lambda x: frechet_distance(x, real),
        "precision": lambda x: precision_recall(x, real[: len(drawn)])[0],
        "recall": lambda x: precision_recall(x, real[: len(drawn)])[1],
    }
    found = {name: interval(each, features) for name, each in measures.items()}
    return share(judge.logits(features).argmax(1) == wanted) | found


def parts(data: Path | None, count: int = 300) -> Iterator[Part]:
    """`count` digits for each method and scale, 0 to 9 in turn, 20 steps, seeds 0, 1, 2, ..."""
    writer, judge, classifier = load("digits"), load("digit-judge"), load("digit-classifier")
    wanted = torch.arange(count) % 10
    real_features = cache(lambda: judge.features(digits("test", data)[0]))

    def draw(free: float, by: float) -> Tensor:
        drawn, noise = [], start_noise(count, writer.shape).split(100)
        for x_T, labels in zip(noise, wanted.split(100), strict=True):
            denoise = guide(writer.network, digit_condition(labels), free)
            if by:
                gradient = classifier_gradient(classifier, labels)
                denoise = guide_by_classifier(denoise, gradient, writer.schedule, by)
            drawn.append(last(dpm_solver(denoise, writer.schedule, x_T, 20)))
        return torch.cat(drawn).clamp(-1, 1)

    def measure(method: str, scale: float) -> dict:
        began = time.process_time()
        drawn = draw(*METHODS[method](scale))
        seconds = time.process_time() - began
        return {
            "method": method,
            "scale": scale,
            **crowd(judge, drawn, wanted, real_features()),
            "processor_seconds_for_100": round(100 * seconds / count, 1),
        }

    for method in METHODS:
        for scale in SCALES:
            if scale > 1 or method != "both":  # at 1 it is classifier-free
                yield f"{method} {scale}", partial(measure, method, scale)


def summary(found: dict) -> dict:
    """All rows, in the order of METHODS and SCALES."""
    return {"steps": 20, "rows": list(found.values())}
