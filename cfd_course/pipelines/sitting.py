"""How each shipped network is trained: what `python -m cfd_course train NAME` runs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..checkpoints import load_checkpoint, load_weights, save_checkpoint
from ..files import replacing
from ..training import train
from . import APPLICATIONS, RECIPES, build
from .drawing import build_schedule


def train_network(
    name: str,
    out: Path,
    data: Path | None,
    folder: Path,
    steps: int,
    start: Path | None = None,
    seed: int = 0,
) -> Iterator[tuple[int, float]]:
    """Train a network of RECIPES. Yields (step number, loss); writes the averaged weights to `out`
    at the end. data: the folder of its training data. folder: of the training state. start: a
    checkpoint whose weights to begin with, for another sitting when the folder is gone."""
    recipe = {"name": name, **RECIPES[name]}
    torch.manual_seed(seed)
    network = build(recipe)
    sittings = []
    if start is not None:
        weights, earlier = load_checkpoint(start)
        load_weights(network, weights, start)
        sittings = earlier.get("sittings", [])
    application = APPLICATIONS[name]
    if start is None and hasattr(application, "begin"):
        application.begin(network, recipe)
    began, first = time.monotonic(), None
    if hasattr(application, "train"):
        run = application.train(network, recipe, data, steps)
    else:
        run = _diffusion(network, recipe, data, folder, steps, start, seed)
    for number, loss, average in run:  # noqa: B007
        first = number if first is None else first
        yield number, loss
    sitting = {
        "steps": number,
        "seed": seed,
        "resumed_at_step": first - 1,
        "seconds": round(time.monotonic() - began),
    }
    save_checkpoint(out, average, {**recipe, "sittings": [*sittings, sitting]})


def _diffusion(
    network: nn.Module, recipe: dict, data, folder: Path, steps: int, start, seed: int
) -> Iterator[tuple[int, float, nn.Module]]:
    stream = APPLICATIONS[recipe["name"]].batches(recipe, data)
    _begin_alike(
        folder / "begun.json",
        {"recipe": recipe, "data": data and str(data), "from": start and str(start)},
    )
    for step in train(
        network,
        build_schedule(recipe),
        stream,
        steps,
        seed=seed,
        folder=folder,
        drop=recipe["drop"],
        learning_rate=recipe["learning_rate"],
        decay=recipe["decay"],
        target=recipe.get("target", "noise"),
        precision="bf16" if torch.cuda.is_available() else "no",
    ):
        yield step.number, step.loss, step.average


def _begin_alike(path: Path, begun: dict) -> None:
    """All runs of a training must begin with the same recipe, data and weights."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(begun, indent=1) + "\n", encoding="utf-8")
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
