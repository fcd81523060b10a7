"""Lesson 14's miniature of Saharia et al., "Imagen" (2022): three ways to tell a small network
words, an enlarger with and without noise over what it enlarges, ways to keep guesses in range.

    python data/results/cascade.py FOLDER [text] [enlarging] [thresholds]

Trained networks are kept in FOLDER, so that a second run only measures. Writes cascade.json and
cascade.webp beside itself. The first part needs the extra: pip install "cfd-course[text]".
"""

import copy
import json
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfd_course import Condition, NoiseSchedule, train
from cfd_course.datasets.emoji import HANDS, TONE, emoji, names_of
from cfd_course.guidance import guide
from cfd_course.measuring.common import mean, share
from cfd_course.measuring.digit_classifier import interval
from cfd_course.measuring.emoji import phrases
from cfd_course.metrics import frechet_distance
from cfd_course.pictures import as_image, bicubic, stored
from cfd_course.pipelines import load
from cfd_course.pipelines.drawing import build_unet, start_noise
from cfd_course.pipelines.emoji import caption
from cfd_course.pipelines.emoji_enlarger import GAIN
from cfd_course.pipelines.emoji_judge import labels
from cfd_course.sampling import dpm_solver, dynamic_threshold, last
from cfd_course.text import FrozenText
from cfd_course.words import PADDING, WordEncoder, word_pieces, word_vectors

HERE = Path(__file__).parent
SCHEDULE = NoiseSchedule.cosine(1000)
HAND = HANDS[0]
STEPS, BATCH, CAPTIONS = 1200, 64, 8  # of training; captions for each name
SCALE, SMALL = 4, 16
ENLARGER_STEPS, ENLARGER_BATCH, NOISIEST, LEVELS = 800, 32, 0.3, (0.0, 0.1, 0.3)
SCALES, ASKED, GUESSES = (1, 3, 8, 15), 48, 10
SHOWN = 10  # pictures of each row in cascade.webp


@cache
def plain_emoji(size: int) -> tuple[Tensor, list[str]]:
    """One hand's pictures of the training split in [-1, 1], without skin tones and flags."""
    drawn = emoji("train", size)
    rows = [
        row
        for row, (name, hand) in enumerate(zip(drawn.names, drawn.hands, strict=True))
        if HANDS[hand] == HAND and not TONE.search(name) and not name.startswith("flag-")
    ]
    return drawn.pictures[rows] / 127.5 - 1, [drawn.names[row] for row in rows]


@cache
def captions() -> list[str]:
    """CAPTIONS for each name in turn, the first of them the name itself."""
    _, names = plain_emoji(SMALL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        said = [
            [name.replace("-", " "), *(caption(name) for _ in range(CAPTIONS - 1))]
            for name in names
        ]
    return [each for row in said for each in row]


# --- Three encoders -------------------------------------------------------------------------------
# Each is a table of vectors, and for every text the rows in it that its words have.


def pieces(text: str) -> list[int]:
    return (word_pieces([text]).tokens[0] - 1).tolist()


def own(said: list[str], asked: list[str]) -> tuple[Tensor, dict[str, list[int]]]:
    """Vectors that are trained with the network, one for each piece of a word in a caption. It has
    none for other words, which it does not hear."""
    known = sorted({piece for text in said for piece in pieces(text)})
    row = {piece: number for number, piece in enumerate(known)}
    told = {text: [row[piece] for piece in pieces(text) if piece in row] for text in said + asked}
    return nn.Parameter(torch.randn(len(known), word_vectors().shape[1])), told


def vectors(said: list[str], asked: list[str]) -> tuple[Tensor, dict[str, list[int]]]:
    """A frozen vector for each piece of a word, whatever stands beside it."""
    return word_vectors(), {text: pieces(text) for text in said + asked}


def sentences(said: list[str], asked: list[str]) -> tuple[Tensor, dict[str, list[int]]]:
    """The frozen sentence encoder's vector for each piece of each text, which depends on all of the
    text."""
    encoder, found, told, count = FrozenText(), [], {}, 0
    texts = sorted(set(said + asked))
    for first in range(0, len(texts), 64):
        some = texts[first : first + 64]
        encoded = encoder(some)
        for text, tokens, mask in zip(some, encoded.tokens, encoded.mask, strict=True):
            found.append(tokens[mask])
            told[text] = list(range(count, count + len(found[-1])))
            count += len(found[-1])
    table = torch.cat(found)
    return table / table.square().mean().sqrt(), told


ENCODERS = {"own": own, "vectors": vectors, "sentences": sentences}


def condition(told: dict[str, list[int]], texts: list[str]) -> Condition:
    """Texts as rows of a table, counted from 1."""
    rows = [told[text] for text in texts]
    tokens = torch.full((len(rows), max(1, *map(len, rows))), PADDING)
    for row, each in zip(tokens, rows, strict=True):
        row[: len(each)] = torch.tensor(each, dtype=torch.long) + 1
    return Condition(tokens=tokens, mask=tokens != PADDING)


class Captioned:
    """Endless batches of pictures, each with one of its captions."""

    def __init__(self, told: dict[str, list[int]]):
        self.told = told

    def __iter__(self) -> Iterator[tuple[Tensor, Condition]]:
        pictures, _ = plain_emoji(SMALL)
        while True:
            rows = torch.randint(len(pictures), (BATCH,))
            chosen = CAPTIONS * rows + torch.randint(CAPTIONS, (BATCH,))
            yield pictures[rows], condition(self.told, [captions()[row] for row in chosen])


def artist(table: Tensor) -> nn.Module:
    """The untrained network; what differs between the three is the table."""
    torch.manual_seed(0)
    encoder = WordEncoder(96, learned=0, layers=1)
    del encoder.vectors
    encoder.vectors = table  # a parameter is trained, anything else is left alone
    encoder.project = nn.Linear(table.shape[1], 96)
    network = {"channels": [32, 64], "attention": [1], "patch": 2, "token_channels": 96}
    recipe = {"network": network, "velocity": True, "schedule_steps": SCHEDULE.steps}
    return build_unet(recipe, token_encoder=encoder)


@torch.no_grad()
def draw(network: nn.Module, told: dict, texts: list[str], seed: int = 0) -> Tensor:
    """[B, 3, 16, 16] in [-1, 1]"""
    x_T, drawn = start_noise(len(texts), (3, SMALL, SMALL), seed), []
    for first in range(0, len(texts), 50):
        denoise = guide(network, condition(told, texts[first : first + 50]), SCALE)
        drawn.append(last(dpm_solver(denoise, SCHEDULE, x_T[first : first + 50], 20)))
    return torch.cat(drawn).clamp(-1, 1)


def judged(pictures: Tensor, wanted: list[list[str]]) -> dict:
    """Whether the first five names that the judge reads hold a right one; and how far up a right
    one stands among all names: the share that the judge finds less likely, 0.5 by chance. Pictures
    of 32 pixels."""
    logits = load("emoji-judge")(pictures)[0]
    number = {name: index for index, name in enumerate(names_of())}
    right, heights = [], []
    for row, names in zip(logits, wanted, strict=True):
        rows = [number[name] for name in names if name in number]
        right.append(bool(set(row.topk(5).indices.tolist()) & set(rows)))
        heights.append(float((row[:, None] < row[rows]).float().mean()))
    return {**share(torch.tensor(right)), "height": mean(heights)}


def learned(folder: Path, name: str, network: nn.Module, run) -> nn.Module:
    """The network as it was kept in the folder, or as its training leaves it."""
    path, average = folder / f"{name}.pt", copy.deepcopy(network)
    if not path.exists():
        for step in run(network):
            average = step.average
            if step.number % 200 == 0:
                print(name, step.number, round(step.loss, 4), flush=True)
        torch.save(average.state_dict(), path)
    average.load_state_dict(torch.load(path))
    return average.eval()


def text(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """What is drawn of phrases that no caption holds, and of names, by networks that were trained
    alike and told by each of the encoders."""
    asked, right = [phrase for phrase, _ in phrases()], [names for _, names in phrases()]
    _, names = plain_emoji(SMALL)
    some = np.random.default_rng(1).permutation(len(names))[:100]
    away = names_of("names")
    held_out = [name.replace("-", " ") for name in away]
    heard = {piece for said in captions() for piece in pieces(said)}
    new = torch.tensor([any(piece not in heard for piece in pieces(each)) for each in asked])
    tables = {name: encoder(captions(), asked + held_out) for name, encoder in ENCODERS.items()}
    networks = {name: (artist(table), told) for name, (table, told) in tables.items()}
    train_together(folder, networks)
    rows, pictures = {}, {}
    for name, (network, told) in networks.items():
        network.load_state_dict(torch.load(folder / f"{name}.pt"))
        network.eval()
        drawn = draw(network, told, asked)
        found = judged(bicubic(drawn, 2), right)
        hits = torch.tensor([each == "1" for each in found["each"]])
        known = draw(network, told, [captions()[CAPTIONS * row] for row in some])
        far = draw(network, told, held_out)
        rows[name] = {
            "phrases": found,
            "phrases_with_a_new_word": share(hits[new]),
            "names_in_training": judged(bicubic(known, 2), [[names[row]] for row in some]),
            "names_held_out": judged(bicubic(far, 2), [[each] for each in away]),
            "parameters": sum(p.numel() for p in network.parameters()),
        }
        pictures[name] = drawn
        right_ones = {key: of["right"] for key, of in rows[name].items() if key != "parameters"}
        print(name, right_ones, flush=True)
    # What is hit by chance: the pictures of one phrase, judged by the next one's names.
    chance = judged(bicubic(pictures["sentences"], 2), right[1:] + right[:1])
    setting = {"steps": STEPS, "batch": BATCH, "scale": SCALE, "captions": len(captions())}
    return {**setting, "rows": rows, "wrong_phrase": chance}, pictures


def train_together(folder: Path, networks: dict) -> None:
    """The three in turn, step by step, so that all see the same pictures, captions and noise, and
    are as far at any time."""
    if all((folder / f"{name}.pt").exists() for name in networks):
        return
    settings = {"drop": 0.1, "decay": 0.998, "target": "velocity", "learning_rate": 2e-3}
    runs = [
        train(network, SCHEDULE, Captioned(told), STEPS, **settings)
        for network, told in networks.values()
    ]
    for steps in zip(*runs, strict=True):
        if steps[0].number % 100 == 0:
            print(steps[0].number, [round(step.loss, 4) for step in steps], flush=True)
    for name, step in zip(networks, steps, strict=True):
        torch.save(step.average.state_dict(), folder / f"{name}.pt")


# --- Enlarging ------------------------------------------------------------------------------------


def with_level(low: Tensor, level: Tensor) -> Condition:
    """Small pictures, enlarged twice, and a plane that says how much noise lies over each."""
    large = bicubic(low, 2)
    plane = (2 * level / NOISIEST - 1)[:, None, None, None].expand(-1, 1, *large.shape[2:])
    return Condition(image=torch.cat([large, plane], dim=1))


class Small:
    """Endless batches: GAIN times what the bicubic version lacks, given that version, under noise
    up to `noisiest`."""

    def __init__(self, noisiest: float):
        self.noisiest = noisiest

    def __iter__(self) -> Iterator[tuple[Tensor, Condition]]:
        pictures, _ = plain_emoji(32)
        while True:
            x_0 = pictures[torch.randint(len(pictures), (ENLARGER_BATCH,))]
            low = stored(F.avg_pool2d(x_0, 2))
            level = self.noisiest * torch.rand(len(low)).square()
            told = with_level(low + level[:, None, None, None] * torch.randn_like(low), level)
            yield GAIN * (x_0 - told.image[:, :3]), told


@torch.no_grad()
def enlarge(network: nn.Module, low: Tensor, level: float) -> Tensor:
    """[B, 3, 16, 16] -> [B, 3, 32, 32]"""
    noise = torch.randn(low.shape, generator=torch.Generator().manual_seed(0))
    told = with_level(low + level * noise, torch.full((len(low),), level))
    plain = told.image[:, :3]

    def possible(x_0: Tensor) -> Tensor:
        return GAIN * ((plain + x_0 / GAIN).clamp(-1, 1) - plain)

    x_T = start_noise(len(low), (3, 32, 32))
    drawn = last(dpm_solver(guide(network, told), SCHEDULE, x_T, 10, possible))
    return (plain + drawn / GAIN).clamp(-1, 1)


def enlarging(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Small pictures that the shipped network drew, made half as large, and real ones, enlarged by
    two networks, one of which learned with noise over the small pictures and is told how much."""
    real, names = plain_emoji(32)
    some = np.random.default_rng(2).permutation(len(names))[:200]
    asked = [captions()[CAPTIONS * row] for row in some]
    drawn = torch.cat(
        [
            load("emoji").draw(asked[r : r + 50], 3, GUESSES, seed=r)
            for r in range(0, len(asked), 50)
        ]
    )
    drawn = stored(F.avg_pool2d(drawn.clamp(-1, 1), 2))
    lows = {"drawn": drawn, "real": stored(F.avg_pool2d(real[some], 2))}
    networks = {}
    for name, noisiest in (("without", 0.0), ("with", NOISIEST)):
        torch.manual_seed(0)
        recipe = {"channels": [32, 64], "attention": [], "patch": 2, "condition_channels": 4}
        settings = {"drop": 0.0, "decay": 0.995, "target": "velocity", "learning_rate": 2e-3}
        run = partial(
            train, schedule=SCHEDULE, batches=Small(noisiest), steps=ENLARGER_STEPS, **settings
        )
        unet = build_unet({"network": recipe, "velocity": True, "schedule_steps": SCHEDULE.steps})
        networks[name] = learned(folder, name, unet, run)
    judge = load("emoji-judge")
    crowd = judge.features(real).detach()
    wanted, _ = labels([names[row] for row in some])
    rows, pictures = [], {}

    def measured(kind: str, name: str, level: float, large: Tensor) -> None:
        with torch.no_grad():
            right = judge(large)[0].argmax(1) == wanted
            distance = interval(lambda x: frechet_distance(x, crowd), judge.features(large))
        row = {"small": kind, "enlarger": name, "level": level, "names": share(right)}
        rows.append(row | {"frechet_distance": distance})
        pictures[kind, name, level] = large
        print(kind, name, level, row["names"]["right"], distance, flush=True)

    for kind, low in lows.items():
        measured(kind, "bicubic", 0.0, bicubic(low, 2).clamp(-1, 1))
        measured(kind, "without", 0.0, enlarge(networks["without"], low, 0.0))
        for level in LEVELS:
            measured(kind, "with", level, enlarge(networks["with"], low, level))
    setting = {"steps": ENLARGER_STEPS, "batch": ENLARGER_BATCH, "noisiest": NOISIEST}
    shown = {"drawn": drawn, "without": pictures["drawn", "without", 0.0]}
    shown |= {f"with {level}": pictures["drawn", "with", level] for level in LEVELS}
    return {**setting, "rows": rows}, shown


# --- Thresholds -----------------------------------------------------------------------------------

THRESHOLDS = {"static": 1.0} | {
    f"dynamic {p}": partial(dynamic_threshold, percentile=p) for p in (0.995, 0.9)
}


def looks(pictures: Tensor) -> dict:
    """How saturated pictures in [-1, 1] are: the share of values at the ends, within 2 of 255; the
    mean distance between a pixel's largest and smallest colour, 0 to 2; the mean."""
    ends = (pictures.abs() > 1 - 4 / 255).float().mean()
    chroma = (pictures.amax(1) - pictures.amin(1)).mean()
    each = zip(("at_the_ends", "chroma", "mean"), (ends, chroma, pictures.mean()), strict=True)
    return {name: round(float(value), 4) for name, value in each}


def loud(scale: float, threshold: str, count: int = ASKED) -> tuple[Tensor, list[list[str]]]:
    """What the shipped network draws of the first phrases, and the names that would be right."""
    painter, asked = load("emoji"), phrases()[:count]
    painter.clip = THRESHOLDS[threshold]
    hands = [HANDS[row % len(HANDS)] for row in range(count)]
    drawn = []
    for row in range(0, count, 40):
        some = [phrase for phrase, _ in asked[row : row + 40]]
        drawn.append(painter.draw(some, scale, GUESSES, seed=row, hand=hands[row : row + 40]))
    return torch.cat(drawn).clamp(-1, 1), [names for _, names in asked]


def thresholds(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """The shipped network at rising scales."""
    rows = []
    for scale in SCALES:
        for name in THRESHOLDS:
            drawn, right = loud(scale, name)
            rows.append({"scale": scale, "threshold": name, **judged(drawn, right), **looks(drawn)})
            print({key: value for key, value in rows[-1].items() if key != "each"}, flush=True)
    real = emoji("train", 32)
    first = {name: row for row, name in reversed([*enumerate(real.names)])}
    seen = [first[name] for names in right for name in names if name in first]
    return {"steps": GUESSES, "rows": rows, "real": looks(real.pictures[seen] / 127.5 - 1)}, {}


def kept(rows: dict[str, Tensor], folder: Path) -> None:
    """The first pictures of each row, one row below the other, in a file without loss."""
    path = folder / "rows.pt"
    rows = (torch.load(path) if path.exists() else {}) | rows
    torch.save(rows, path)
    cells = [F.interpolate(row[:SHOWN], 32, mode="nearest") for row in rows.values()]
    sheet = torch.cat([torch.cat(row.unbind(), dim=2) for row in cells], dim=1)
    as_image(sheet).save(HERE / "cascade.webp", lossless=True)


def main(folder: Path, asked: list[str]) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    path = HERE / "cascade.json"
    for part in (text, enlarging, thresholds):
        if part.__name__ in asked or not asked:
            measured, rows = part(folder)
            found = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(found | {part.__name__: measured}, indent=1) + "\n")
            kept({name: row[:SHOWN] for name, row in rows.items()}, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
