"""How each shipped checkpoint is trained: what `python -m cfd_course train NAME` runs."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .checkpoints import load_checkpoint, load_weights, save_checkpoint
from .datasets import batches
from .datasets.digits import digit_condition, digits
from .datasets.photos import crops, photos
from .datasets.shapes import SceneStream
from .files import replacing
from .pipelines import build, build_schedule, to_enlarge, to_fill
from .text import tokenise
from .training import train


def _digit_stream(recipe: dict, data: Path | None):
    pictures, labels = digits("train", data)
    return batches(pictures, digit_condition(labels), recipe["batch"])


def _scene_stream(recipe: dict, data: Path | None):
    return SceneStream(recipe["batch"], tokenise)


def _photo_stream(prepare):
    def stream(recipe: dict, data: Path | None):
        if data is None:
            raise ValueError(
                "--data should be a folder of pictures to train on, such as the train and test "
                "parts of BSDS500, but none was given."
            )
        prepared = partial(prepare, relative=recipe.get("relative", False))
        return crops(photos(data), recipe["size"], recipe["batch"], prepared, repeats=8)

    return stream


class _Holes(Dataset):
    """Digits with new holes in every pass."""

    def __init__(self, pictures: Tensor):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, numbers: list[int]):
        return to_fill(self.pictures[numbers])


def _digit_hole_stream(recipe: dict, data: Path | None):
    pictures, _ = digits("train", data)
    return DataLoader(
        _Holes(pictures),
        recipe["batch"],
        shuffle=True,
        drop_last=True,
        collate_fn=lambda batch: batch,
    )


_SUPER_RESOLUTION = {
    "network": {
        "channels": [48, 64, 96],
        "attention": [],
        "patch": 2,
        "condition_channels": 3,
    },
    "velocity": True,
    "schedule_steps": 1000,
    "size": 64,
    "batch": 16,
    "learning_rate": 1e-3,
    "drop": 0.1,
    "decay": 0.9995,
}
_DIGIT_INPAINTING = {
    "network": {
        "image_channels": 1,
        "channels": [32, 64],
        "patch": 2,
        "condition_channels": 2,
    },
    "velocity": True,
    "target": "velocity",
    "schedule_steps": 1000,
    "size": 28,
    "batch": 64,
    "learning_rate": 2e-3,
    "drop": 0.1,
    "decay": 0.999,
}


def _with(recipe: dict, **network) -> dict:
    return {**recipe, "network": {**recipe["network"], **network}}


# Of each diffusion network: its recipe, the steps of a sitting, and where its batches come from.
DIFFUSION = {
    "digits": (
        {
            "network": {"channels": [48, 96], "patch": 2, "token_channels": 64},
            "schedule_steps": 1000,
            "batch": 64,
            "learning_rate": 2e-3,
            "drop": 0.1,
            "decay": 0.999,
        },
        6_000,
        _digit_stream,
    ),
    # The linear schedule spends nearly half its steps where more than 95% is noise, and the
    # velocity's error counts there: that is where a scene of flat colours is laid out.
    "text-to-image": (
        {
            "network": {
                "channels": [48, 96, 176],
                "attention": [1, 2],
                "patch": 2,
                "token_channels": 128,
            },
            "velocity": True,
            "target": "velocity",
            "schedule": "linear",
            "schedule_steps": 1000,
            "batch": 32,
            "learning_rate": 1e-3,
            "drop": 0.1,
            "decay": 0.9995,
        },
        13_000,
        _scene_stream,
    ),
    "super-resolution": (
        {
            **_with(_SUPER_RESOLUTION, condition_channels=6),
            "target": "between",
            "relative": True,
        },
        18_000,
        _photo_stream(to_enlarge),
    ),
    # The three routes for the condition, trained alike.
    "super-resolution-input": (_SUPER_RESOLUTION, 1_500, _photo_stream(to_enlarge)),
    "super-resolution-levels": (
        _with(_SUPER_RESOLUTION, inject="levels"),
        1_500,
        _photo_stream(to_enlarge),
    ),
    "super-resolution-attention": (
        _with(_SUPER_RESOLUTION, inject="attention", attention=[2]),
        1_500,
        _photo_stream(to_enlarge),
    ),
    "inpainting": (
        {
            **_with(_SUPER_RESOLUTION, channels=[48, 64, 96, 128], condition_channels=11),
            "target": "velocity",
            "relative": True,
            "quiet": True,
        },
        14_000,
        _photo_stream(to_fill),
    ),
    "digit-inpainting": (_DIGIT_INPAINTING, 4_000, _digit_hole_stream),
    "digit-inpainting-attention": (
        _with(_DIGIT_INPAINTING, inject="attention"),
        4_000,
        _digit_hole_stream,
    ),
}


def train_network(
    name: str,
    out: Path,
    data: Path | None,
    folder: Path,
    steps: int,
    start: Path | None = None,
    seed: int = 0,
) -> Iterator[tuple[int, float]]:
    """Train a network of DIFFUSION. Yields (step number, loss); writes the averaged weights to
    `out` at the end. data: the folder of its training data. folder: of the training state. start: a
    checkpoint whose weights to begin with, for another sitting when the folder is gone."""
    recipe, _, stream_of = DIFFUSION[name]
    network, recipe = _begin({"name": name, **recipe}, start, seed)
    stream = stream_of(recipe, data)
    schedule = build_schedule(recipe)
    begun = {"recipe": recipe, "data": data and str(data), "from": start and str(start)}
    _settled(folder / "begun.json", begun)
    began, first = time.monotonic(), None
    for step in train(
        network,
        schedule,
        stream,
        steps,
        seed=seed,
        folder=folder,
        drop=recipe["drop"],
        learning_rate=recipe["learning_rate"],
        decay=recipe["decay"],
        target=recipe.get("target", "noise"),
    ):
        first = step.number if first is None else first
        yield step.number, step.loss
    recipe["sittings"].append(
        {
            "steps": step.number,
            "seed": seed,
            "resumed_at_step": first - 1,
            "seconds": round(time.monotonic() - began),
        }
    )
    save_checkpoint(out, step.average, recipe)


def _settled(path: Path, begun: dict) -> None:
    """All runs of a training must begin with the same recipe, data and weights, which stand
    here."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(begun, indent=1) + "\n", encoding="utf-8")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before = {key: found[key] for key in begun}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read. Move the folder {path.parent} away to start again. ({error})"
        ) from error
    for key, value in json.loads(json.dumps(begun)).items():
        if before[key] != value:
            raise ValueError(
                f"the training in {path.parent} was begun with another {key}: {before[key]}, "
                f"not {value}. Use the same, or another --folder."
            )


def _begin(recipe: dict, start: Path | None, seed: int) -> tuple[nn.Module, dict]:
    """The network with which a sitting begins, and its recipe with the sittings before."""
    torch.manual_seed(seed)
    network = build(recipe)
    sittings = []
    if start is not None:
        weights, earlier = load_checkpoint(start)
        load_weights(network, weights, start)
        sittings = earlier.get("sittings", [])
    return network, {**recipe, "sittings": sittings}


def train_digit_judge(
    out: Path, data: Path | None, folder: Path, steps: int, start: Path | None = None, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """The classifier that judges drawn digits; a few minutes, so it saves no state. Pictures are
    shifted by up to two pixels."""
    recipe = {"name": "digit-judge", "batch": 128, "learning_rate": 2e-3}
    network, recipe = _begin(recipe, start, seed)
    pictures, labels = digits("train", data)
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
RECIPES = {name: (partial(train_network, name), steps) for name, (_, steps, _) in DIFFUSION.items()}
RECIPES["digit-judge"] = (train_digit_judge, 3_000)
