"""How each shipped checkpoint is trained and measured: what `python -m cfd_course train NAME` and
`evaluate NAME` run."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from .datasets import batches
from .datasets.digits import digit_condition, digits
from .metrics import frechet_distance, nearest_distances, proportion_interval, spread
from .pipelines import build, load
from .schedule import NoiseSchedule
from .training import faster_precision, load_checkpoint, load_weights, save_checkpoint, train

DIGITS = {
    "name": "digits",
    "network": {"channels": [48, 96], "patch": 2, "token_channels": 64},
    "schedule_steps": 1000,  # of the cosine schedule
    "batch": 64,
    "learning_rate": 2e-3,
    "drop": 0.1,
    "decay": 0.999,
}


def train_digits(
    out: Path, root: Path | None, folder: Path, steps: int, start: Path | None = None, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """Class-conditional digits. Yields (step number, loss); writes the averaged weights to `out`
    at the end. folder: of the training state. start: a checkpoint whose weights to begin with, for
    another sitting when the folder is gone."""
    torch.manual_seed(seed)
    recipe = {**DIGITS, "sittings": []}
    network = build(recipe)
    if start is not None:
        weights, earlier = load_checkpoint(start)
        load_weights(network, weights, start)
        recipe["sittings"] = earlier["sittings"]
    pictures, labels = digits("train", root)
    stream = batches(pictures, digit_condition(labels), recipe["batch"])
    schedule = NoiseSchedule.cosine(recipe["schedule_steps"])
    # Some processors gain from bfloat16 and others lose. What the first run of a training measured
    # holds for all its runs, so that a resumed one ends with the same weights.
    choice = folder / "precision.txt"
    if not choice.exists():
        folder.mkdir(parents=True, exist_ok=True)
        choice.write_text(faster_precision(network, schedule, next(iter(stream))))
    began, first = time.monotonic(), None
    for step in train(
        network,
        schedule,
        stream,
        steps,
        precision=choice.read_text(),
        seed=seed,
        folder=folder,
        drop=recipe["drop"],
        learning_rate=recipe["learning_rate"],
        decay=recipe["decay"],
    ):
        first = step.number if first is None else first
        yield step.number, step.loss
    recipe["sittings"].append(
        {
            "pictures": len(pictures),
            "steps": steps,
            "seed": seed,
            "precision": choice.read_text(),
            "resumed_at_step": first - 1,
            "seconds": round(time.monotonic() - began),
        }
    )
    save_checkpoint(out, step.average, recipe)


def train_digit_judge(
    out: Path, root: Path | None, folder: Path, steps: int, start: Path | None = None, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """The classifier that judges drawn digits; a few minutes, so it saves no state. Pictures are
    shifted by up to two pixels."""
    torch.manual_seed(seed)
    recipe = {"name": "digit-judge", "batch": 128, "learning_rate": 2e-3, "sittings": []}
    network = build(recipe)
    if start is not None:
        weights, earlier = load_checkpoint(start)
        load_weights(network, weights, start)
        recipe["sittings"] = earlier["sittings"]
    pictures, labels = digits("train", root)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], steps)
    began = time.monotonic()
    for number in range(1, steps + 1):
        rows = torch.randint(len(pictures), (recipe["batch"],))
        shift = torch.randint(-2, 3, (2,)).tolist()
        logits = network(pictures[rows].roll(shift, dims=(2, 3)))
        loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        yield number, loss.item()
    recipe["sittings"].append(
        {
            "pictures": len(pictures),
            "steps": steps,
            "seed": seed,
            "seconds": round(time.monotonic() - began),
        }
    )
    save_checkpoint(out, network, recipe)


# name: (how it is trained, steps of the shipped checkpoint)
RECIPES = {"digits": (train_digits, 6_000), "digit-judge": (train_digit_judge, 3_000)}


def evaluate_digits(
    root: Path | None = None,
    count: int = 1000,
    scales: tuple[float, ...] = (0, 1, 1.5, 2, 3, 5, 7),
    model: str | Path = "digits",
) -> dict:
    """Draw `count` digits at each scale, 0 to 9 in turn, 20 steps, seeds 0, 1, 2, ..., and judge
    them by the classifier. The best scale is chosen on other seeds. root: of the full MNIST; the
    shipped digits if not given."""
    writer, judge = load(model), load("digit-judge")
    real, real_labels = digits("test", root)
    training, _ = digits("train", root)
    wanted = torch.arange(count) % 10

    def judged(pictures):
        """Features [N, D] and answers [N]."""
        rows = pictures.split(500)
        features = torch.cat([judge.features(row) for row in rows])
        return features, judge.head(features).argmax(1)

    def accuracy(answers, labels):
        hits = int((answers == labels).sum())
        low, high = proportion_interval(hits, len(labels))
        return {"right": hits, "of": len(labels), "interval": [round(low, 4), round(high, 4)]}

    real_features, real_answers = judged(real)
    chosen_on = {}
    for scale in scales[1:]:
        drawn = writer.draw(wanted[: count // 4], scale, seed=1_000_000)
        chosen_on[scale] = int((judged(drawn)[1] == wanted[: count // 4]).sum())
    best = max(chosen_on, key=chosen_on.__getitem__)  # the smallest of equals

    rows = []
    for scale in scales:
        drawn = writer.draw(wanted, scale)
        features, answers = judged(drawn)
        row = {"scale": scale, **accuracy(answers, wanted)}
        row["frechet_distance"] = round(frechet_distance(features, real_features), 2)
        row["spread"] = round(spread(features, wanted) / spread(real_features, real_labels), 3)
        row["nearest_training_digit"] = round(float(nearest_distances(drawn, training).median()), 4)
        rows.append(row)
    return {
        "judge_on_test_set": accuracy(real_answers, real_labels),
        "best_scale": best,
        "chosen_on_other_seeds": {str(scale): hits for scale, hits in chosen_on.items()},
        "nearest_training_digit_of_test_set": round(
            float(nearest_distances(real[:count], training).median()), 4
        ),
        "frechet_distance_of_training_digits": round(
            frechet_distance(judged(training[:count])[0], real_features), 2
        ),
        "steps": 20,
        "rows": rows,
    }
