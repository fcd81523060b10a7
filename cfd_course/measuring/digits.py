"""Of the drawn digits: how many are right, and how varied they are."""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.digits import digits
from ..metrics import frechet_distance, nearest_distances, precision_recall, spread
from ..pipelines import load
from .common import Part, share

SCALES = (0, 1, 1.5, 2, 3, 4, 5, 7)


def parts(data: Path | None, model: str = "digits", count: int = 2000) -> Iterator[Part]:
    """`count` digits at each scale, 0 to 9 in turn, 20 steps, seeds 0, 1, 2, ..., judged by the
    classifier; the scales are also compared on 500 other seeds, to choose among them."""
    writer, judge = load(model), load("digit-judge")
    wanted = torch.arange(count) % 10

    def judged(pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] and answers [N]."""
        features = torch.cat([judge.features(row) for row in pictures.split(500)])
        return features, judge.logits(features).argmax(1)

    @cache
    def real() -> tuple[Tensor, Tensor, Tensor]:
        pictures, labels = digits("test", data)
        features, answers = judged(pictures)
        return features, answers, labels

    def measure_real() -> dict:
        features, answers, labels = real()
        training, _ = digits("train", data)
        own, _ = judged(training[:count])
        return {
            "judge": share(answers == labels),
            "frechet_distance": round(frechet_distance(own, features), 2),
            "nearest_training_digit": round(
                float(nearest_distances(digits("test", data)[0][:1000], training).median()), 4
            ),
        }

    def choose(scale: float) -> dict:
        few = wanted[:500]
        answers = judged(writer.draw(few, scale, seed=1_000_000))[1]
        return share(answers == few)

    def measure(scale: float) -> dict:
        features, answers, labels = real()
        drawn = writer.draw(wanted, scale)
        own, own_answers = judged(drawn)
        precision, recall = precision_recall(own, features[:count])
        training, _ = digits("train", data)
        return {
            "scale": scale,
            **share(own_answers == wanted),
            "frechet_distance": round(frechet_distance(own, features), 2),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
            "spread": round(spread(own, wanted) / spread(features, labels), 3),
            "nearest_training_digit": round(
                float(nearest_distances(drawn[:1000], training).median()), 4
            ),
        }

    yield "real", measure_real
    for scale in SCALES:
        yield f"choose {scale}", partial(choose, scale)
    for scale in SCALES:
        yield f"scale {scale}", partial(measure, scale)


def summary(found: dict) -> dict:
    """The best scale is the smallest of the equally good ones on the other seeds."""
    best = max(SCALES, key=lambda scale: found[f"choose {scale}"]["right"])
    return {
        "best_scale": best,
        "steps": 20,
        "real": found["real"],
        "rows": [found[f"scale {scale}"] for scale in SCALES],
    }
