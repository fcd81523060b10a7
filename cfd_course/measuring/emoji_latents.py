"""Faces drawn in latents, what the autoencoder alone costs, and the speed beside pixels: Rombach et
al., "Latent Diffusion Models" (2022), section 4.1, in miniature."""

import time
from collections import deque
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.emoji import HANDS
from ..metrics import frechet_distance
from ..pipelines import RECIPES, Artist, build, load
from ..pipelines.drawing import build_schedule
from ..pipelines.emoji_autoencoder import faces
from ..pipelines.emoji_latents import batches, pipeline
from ..training import train
from .common import Part, decibels, mean
from .digit_classifier import interval

STEPS = 20


def parts(data: Path | None, count: int = 120) -> Iterator[Part]:
    """`count` faces: real ones, the same through the autoencoder, and drawn in their hands in
    latents and, by a network trained for as long, in pixels, seeds 0, 1, 2, ..., without guidance;
    against all real ones. And how fast a network of
    the same widths is in latents and in pixels."""
    drawn, judge, autoencoder = faces(), load("emoji-judge"), load("emoji-autoencoder")
    everything = drawn.pictures / 127.5 - 1
    rows = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))[:count]

    def features(pictures: Tensor) -> Tensor:
        """As the judge sees 64x64 pictures: at half their size."""
        return judge.features(F.avg_pool2d(pictures.clamp(-1, 1), 2))

    real_features = cache(lambda: features(everything))

    def distance(pictures: Tensor) -> dict:
        return interval(lambda x: frechet_distance(x, real_features()), features(pictures))

    def through(pictures: Tensor) -> Tensor:
        return autoencoder.decode(autoencoder.encode(pictures))

    def reconstructed() -> dict:
        held_out = torch.cat([faces(split).pictures for split in ("pairs", "names")]) / 127.5 - 1
        error = mean(decibels(through(held_out), held_out))
        return {"frechet_distance": distance(through(everything[rows])), "held_out": error}

    def drawn_by(artist: Artist) -> dict:
        hands = [HANDS[hand] for hand in drawn.hands[rows]]
        pictures = [artist.draw(hands[n : n + 40], 1, STEPS, n) for n in range(0, count, 40)]
        return {"frechet_distance": distance(torch.cat(pictures))}

    yield "real", lambda: {"frechet_distance": distance(everything[rows])}
    yield "reconstructed", reconstructed
    yield "drawn in latents", lambda: drawn_by(load("emoji-latents"))
    yield "drawn in pixels", lambda: drawn_by(trained("emoji-pixels", data))
    for name in ("emoji-latents", "emoji-pixels"):
        yield name, partial(speed, name, data)


def trained(name: str, data: Path | None) -> Artist:
    """A network that is not shipped, trained by its recipe: some minutes."""
    recipe = {"name": name, **RECIPES[name]}
    torch.manual_seed(0)
    settings = {key: recipe[key] for key in ("drop", "learning_rate", "decay", "target")}
    stream = batches(recipe, data)
    steps = train(build(recipe), build_schedule(recipe), stream, recipe["steps"], **settings)
    (step,) = deque(steps, maxlen=1)
    return pipeline(step.average.eval().requires_grad_(False), recipe)


def speed(name: str, data: Path | None) -> dict:
    """In drawing 20 faces and in training: it does not hang on what a network has learned."""
    recipe = {"name": name, **RECIPES[name]}
    network = build(recipe)
    run = train(network, build_schedule(recipe), batches(recipe, data), 5)
    times = [time.process_time() for _ in run]  # the first step also warms up
    began = time.process_time()
    pipeline(network.eval().requires_grad_(False), recipe).draw(HANDS * 4, 1, STEPS)
    return {
        "pictures_a_processor_second": round(20 / (time.process_time() - began), 2),
        "processor_seconds_a_training_step": round((times[-1] - times[0]) / 4, 3),
    }


def summary(found: dict) -> dict:
    return {"steps": STEPS, **found}
