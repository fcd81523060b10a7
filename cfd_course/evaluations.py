"""How each shipped checkpoint is measured: what `python -m cfd_course evaluate NAME` runs.

An evaluation is a list of parts, each a name and a function that measures it, so that it can be
stopped between two parts and go on later; and a summary of what they found.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from .datasets.digits import digits
from .datasets.photos import back_project, bicubic, biharmonic_fill, photos, shrink, stored
from .datasets.shapes import COLOUR_OF, SHAPE_OF, SIZE_OF, canonical, parse, sample_scenes
from .guidance import guide
from .metrics import (
    UNREADABLE,
    distortion,
    fine_power,
    frechet_distance,
    luma,
    nearest_distances,
    precision_recall,
    proportion_interval,
    psnr,
    read_captions,
    read_scenes,
    shows,
    spread,
)
from .pipelines import load, start_noise
from .sampling import repaint

Part = tuple[str, Callable[[], dict]]


def share(right: Tensor) -> dict:
    """Of answers that are right or not, [N], bool: the proportion with its 95% interval, and each
    of them, 1 for right, so that anybody can check a few."""
    hits, count = int(right.sum()), len(right)
    low, high = proportion_interval(hits, count)
    return {
        "right": hits,
        "of": count,
        "interval": [round(low, 4), round(high, 4)],
        "each": "".join(map(str, right.int().tolist())),
    }


def mean(values: list[float]) -> dict:
    """A mean with its 95% interval, from the standard error."""
    middle = float(np.mean(values))
    margin = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {
        "mean": round(middle, 3),
        "interval": [round(middle - margin, 3), round(middle + margin, 3)],
    }


# --- Digits ---------------------------------------------------------------------------------------

DIGIT_SCALES = (0, 1, 1.5, 2, 3, 4, 5, 7)


def digit_parts(data: Path | None, model: str = "digits", count: int = 2000) -> Iterator[Part]:
    """`count` digits at each scale, 0 to 9 in turn, 20 steps, seeds 0, 1, 2, ..., judged by the
    classifier; the scales are also compared on 500 other seeds, to choose among them."""
    writer, judge = load(model), load("digit-judge")
    wanted = torch.arange(count) % 10

    def judged(pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] and answers [N]."""
        features = torch.cat([judge.features(row) for row in pictures.split(500)])
        return features, judge.head(features).argmax(1)

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
    for scale in DIGIT_SCALES:
        yield f"choose {scale}", partial(choose, scale)
    for scale in DIGIT_SCALES:
        yield f"scale {scale}", partial(measure, scale)


def digit_summary(found: dict) -> dict:
    """The best scale is the smallest of the equally good ones on the other seeds."""
    best = max(DIGIT_SCALES, key=lambda scale: found[f"choose {scale}"]["right"])
    return {
        "best_scale": best,
        "steps": 20,
        "real": found["real"],
        "rows": [found[f"scale {scale}"] for scale in DIGIT_SCALES],
    }


# --- Text to image --------------------------------------------------------------------------------

CAPTION_SCALES = (0, 1, 1.5, 2, 3, 4, 6, 8)
BINDING_SCALES = (0, 1, 2, 3, 4)


def caption_parts(
    data: Path | None, model: str = "text-to-image", count: int = 500
) -> Iterator[Part]:
    """`count` two-object captions of held-out pairs at each scale, 20 steps, read by the caption
    reader; the scales are also compared on 150 other captions of training pairs, to choose."""
    artist = load(model)

    def captions(split: str, number: int, seed: int) -> list[str]:
        return sample_scenes(number, torch.Generator().manual_seed(seed), split).captions()

    def drawn(asked: list[str], scale: float, seed: int) -> Tensor:
        rows = range(0, len(asked), 100)
        parts = [artist.draw(asked[row : row + 100], scale, seed=seed + row) for row in rows]
        return torch.cat(parts).clamp(-1, 1)

    def measure(split: str, number: int, scale: float, seed: int) -> dict:
        asked = captions(split, number, seed)
        pictures = drawn(asked, scale, seed)
        return {"scale": scale, **share(shows(pictures, asked)), **attributes(pictures, asked)}

    def positions() -> dict:
        """The variance of the objects' places over 64 seeds at scale 1, as a share of the data's;
        over pictures that show what was asked."""
        asked = captions("train", 8, 4_000_000)
        ratios = []
        for caption in asked:
            pictures = drawn([caption] * 64, 1, 0)
            right = shows(pictures, [caption] * 64)
            if int(right.sum()) < 8:
                continue
            data_scenes = parse([caption] * 1000, torch.Generator().manual_seed(0))
            own, real = (read_scenes(p).centres for p in (pictures[right], data_scenes.draw()))
            kept = 1 if " a " not in caption[2:] else 2
            ratios.append(
                math.sqrt(
                    float(own[:, :kept].var(dim=0).sum()) / float(real[:, :kept].var(dim=0).sum())
                )
            )
        return {
            "captions": len(ratios),
            "of": len(asked),
            "ratio": round(float(np.mean(ratios)), 3),
        }

    yield "positions", positions
    for scale in CAPTION_SCALES:
        yield f"choose {scale}", partial(measure, "train", 150, scale, 3_000_000)
    for scale in CAPTION_SCALES:
        yield f"held-out pairs {scale}", partial(measure, "held-out pairs", count, scale, 0)
    for scale in BINDING_SCALES:
        yield f"held-out bindings {scale}", partial(measure, "held-out bindings", 200, scale, 0)


def attributes(pictures: Tensor, asked: list[str]) -> dict:
    """In how many pictures each kind of attribute is right, for every object of the caption, as
    far as the pictures can be read."""
    # What is read knows only "left of" and "above".
    read, wanted = read_scenes(pictures), parse([canonical(caption) for caption in asked])
    objects = wanted.objects
    pairs = (objects >= 0).all(1)
    counts = {"unreadable": read_captions(pictures).count(UNREADABLE)}
    same_number = (objects >= 0) == (read.objects >= 0)
    for name, of in (("size", SIZE_OF), ("colour", COLOUR_OF), ("shape", SHAPE_OF)):
        same = (of[objects] == of[read.objects]) | (objects < 0)
        counts[name] = int((same & same_number).all(1).sum())
    counts["relation"] = int(((wanted.relations == read.relations) | ~pairs).sum())
    return counts


def caption_summary(found: dict) -> dict:
    best = max(CAPTION_SCALES, key=lambda scale: found[f"choose {scale}"]["right"])
    return {
        "best_scale": best,
        "steps": 20,
        "positions": found["positions"],
        "chosen_on_training_pairs": [found[f"choose {scale}"] for scale in CAPTION_SCALES],
        "rows": [found[f"held-out pairs {scale}"] for scale in CAPTION_SCALES],
        "bindings": [found[f"held-out bindings {scale}"] for scale in BINDING_SCALES],
    }


# --- Super-resolution -----------------------------------------------------------------------------

CROP = 112  # pixels, of the middle of each photo, that the samples are drawn for
SAMPLES = 8
# What is compared on the first photos: name: (checkpoint, settings of enlarge).
COMPARED = {
    "input": ("super-resolution-input", {}),
    "levels": ("super-resolution-levels", {}),
    "attention": ("super-resolution-attention", {}),
    "without projection": ("super-resolution", {"project": False}),
    "without noise scaling": ("super-resolution", {"noise_scaling": 1.0}),
    "scale 0": ("super-resolution", {"scale": 0.0}),
    "scale 1.5": ("super-resolution", {"scale": 1.5}),
    "scale 2": ("super-resolution", {"scale": 2.0}),
}
FEW = 10


def _photos_of(data: Path | None, least: int) -> list[Tensor]:
    """The photos of a folder, which should be two or more (for an interval) and large enough."""
    if data is None:
        raise ValueError("--data should be a folder of photos, such as BSD100, but none was given.")
    pictures = photos(data)
    small = [tuple(p.shape[1:]) for p in pictures if min(p.shape[1:]) < least]
    if small or len(pictures) < 2:
        found = f"one of {small[0][0]}x{small[0][1]}" if small else "a single one"
        raise ValueError(
            f"{data} should hold two photos or more, each at least {least} pixels high and wide, "
            f"but {found} came."
        )
    return pictures


def photo_parts(data: Path | None, model: str = "super-resolution") -> Iterator[Part]:
    """BSD100, x4, luma in 0..255, 4 pixels cropped: bicubic and back-projection on the whole
    photos; 8 samples of the middle 112x112 pixels of each; other settings and routes on the first
    10 of these."""
    pictures = _photos_of(data, CROP)

    def baselines() -> dict:
        errors = {"bicubic": [], "back_projection": []}
        for picture in pictures:
            real, low = question(picture, None)
            coarse = bicubic(low)
            errors["bicubic"].append(error(stored(coarse), real))
            errors["back_projection"].append(
                error(stored(back_project(coarse.clamp(-1, 1), low)), real)
            )
        return {name: mean([psnr(e) for e in each]) for name, each in errors.items()}

    def error(picture: Tensor, real: Tensor) -> float:
        return float((brightness(picture) - brightness(real)).square().mean())

    def measure(checkpoint: str, picture: Tensor, **settings) -> dict:
        real, low = question(picture, CROP)
        scaler = load(checkpoint)
        # The seeds of one call differ by 1 from row to row.
        samples = scaler.enlarge(low.expand(SAMPLES, -1, -1, -1), **settings)
        apart = (shrink(samples) - low).square().mean().sqrt() * 127.5
        drawn, right, coarse = map(brightness, (samples, real, stored(bicubic(low))))
        power, real_power, coarse_power = map(fine_power, (drawn, right, coarse))
        return {
            "bicubic": round(float((coarse - right).square().mean()), 4),
            **{name: round(value, 4) for name, value in distortion(drawn, right[0]).items()},
            "power": round(float(power.mean()), 4),
            "real_power": round(float(real_power.mean()), 4),
            "from_input": round(float(apart), 4),
            # Log powers of the blocks: of the first sample, of the bicubic picture, of the photo.
            "blocks": [
                [round(x, 2) for x in each.add(1e-3).log().flatten().tolist()]
                for each in (power[:1], coarse_power, real_power)
            ],
        }

    yield "baselines", baselines
    for number, picture in enumerate(pictures):
        yield f"photo {number}", partial(measure, model, picture)
    for name, (checkpoint, settings) in COMPARED.items():
        for number, picture in enumerate(pictures[:FEW]):
            yield f"{name} {number}", partial(measure, checkpoint, picture, **settings)


def question(picture: Tensor, crop: int | None) -> tuple[Tensor, Tensor]:
    """The middle of a photo, uint8 [3, H, W], and a quarter of its size, as a file would hold it:
    [1, 3, h, w] each."""
    height, width = (side // 4 * 4 if crop is None else crop for side in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    real = picture[None, :, top : top + height, left : left + width] / 127.5 - 1
    return real, stored(shrink(real))


def brightness(pictures: Tensor) -> Tensor:
    return luma(pictures.clamp(-1, 1))[:, 4:-4, 4:-4]


def photo_summary(found: dict) -> dict:
    def row(name: str, parts: list[dict]) -> dict:
        def decibels(kind: str) -> list[float]:
            return [psnr(part[kind]) for part in parts]

        total = {
            kind: sum(part[kind] for part in parts)
            for kind in ("spread", "posterior_mean", "power", "real_power")
        }
        sample, coarse, real = (sum((part["blocks"][i] for part in parts), []) for i in range(3))
        return {
            "name": name,
            "photos": len(parts),
            "bicubic": mean(decibels("bicubic")),
            "single": mean(decibels("single")),
            "gain_of_mean": mean(list(np.subtract(decibels("mean"), decibels("bicubic")))),
            "gain_of_posterior_mean": mean(
                list(np.subtract(decibels("posterior_mean"), decibels("bicubic")))
            ),
            "spread_over_error": round(total["spread"] / total["posterior_mean"], 3),
            "power_over_real": round(total["power"] / total["real_power"], 3),
            "block_correlation": round(float(np.corrcoef(sample, real)[0, 1]), 3),
            "block_correlation_of_bicubic": round(float(np.corrcoef(coarse, real)[0, 1]), 3),
            "from_input": round(max(part["from_input"] for part in parts), 3),
        }

    def parts(name: str, count: int) -> list[dict]:
        return [found[f"{name} {number}"] for number in range(count)]

    count = sum(name.startswith("photo ") for name in found)
    few = min(FEW, count)
    return {
        **found["baselines"],
        "rows": [
            row("all photos", parts("photo", count)),
            row("the first few", parts("photo", few)),
        ]
        + [row(name, parts(name, few)) for name in COMPARED],
        "photos": [
            {name: value for name, value in part.items() if name != "blocks"}
            for part in parts("photo", count)
        ],
    }


# --- Inpainting -----------------------------------------------------------------------------------


def hole_parts(data: Path | None, model: str = "inpainting") -> Iterator[Part]:
    """The middle 64x64 pixels of each photo, with a hole of 24x24 in their middle: 8 samples at
    scale 1, and scikit-image's biharmonic fill; errors in the hole, over all three colours in
    0..255."""
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 20:44, 20:44] = True

    def measure(picture: Tensor, scale: float) -> dict:
        real, _ = question(picture, 64)
        samples = load(model).fill(
            real.expand(SAMPLES, -1, -1, -1), hole.expand(SAMPLES, -1, -1, -1), scale
        )
        smooth = biharmonic_fill(real, hole)
        inside = (slice(None), slice(None), slice(20, 44), slice(20, 44))
        values = [127.5 * (x[inside] + 1) for x in (samples, smooth, real)]
        drawn, other, right = values
        power = [float(fine_power(luma(x[inside]), 24).mean()) for x in (samples, smooth, real)]
        return {
            "scale": scale,
            **{name: round(value, 3) for name, value in distortion(drawn, right[0]).items()},
            "biharmonic": round(float((other - right).square().mean()), 3),
            "power": [round(value, 4) for value in power],
            "step": [round(border_step(x, hole), 3) for x in (samples, smooth, real)],
            "known_changed": int((torch.where(hole, 0, samples - real) != 0).sum()),
        }

    for number, picture in enumerate(_photos_of(data, 64)):
        for scale in (1.0, 1.5, 2.0):
            if scale == 1 or number < FEW:
                yield f"scale {scale:g}: {number}", partial(measure, picture, scale)


def border_step(pictures: Tensor, hole: Tensor) -> float:
    """The mean colour difference, in 0..255, of neighbouring pixels of which one lies in the hole:
    pictures [B, C, H, W] in [-1, 1], hole [1, 1, H, W]."""
    total, count = 0.0, 0
    for axis in (2, 3):
        crossing = hole.diff(dim=axis).expand(len(pictures), pictures.shape[1], -1, -1)
        steps = 127.5 * pictures.diff(dim=axis).abs()[crossing]
        total, count = total + float(steps.sum()), count + steps.numel()
    return total / count


def _pooled_gain(own, other) -> float:
    """Of mean squared errors: decibels between their means. Smooth skies, where both errors are
    below what one sees, count little in it."""
    return psnr(float(np.mean(own))) - psnr(float(np.mean(other)))


def hole_summary(found: dict) -> dict:
    rows = []
    for scale in (1.0, 1.5, 2.0):
        parts = [part for part in found.values() if part["scale"] == scale]
        gains = [psnr(part["mean"]) - psnr(part["biharmonic"]) for part in parts]
        errors = tuple([part[kind] for part in parts] for kind in ("mean", "biharmonic"))
        power = np.sum([part["power"] for part in parts], axis=0)
        steps = np.mean([part["step"] for part in parts], axis=0)
        interval = bootstrap(
            errors, _pooled_gain, paired=True, vectorized=False, method="percentile", rng=0
        ).confidence_interval
        rows.append(
            {
                "scale": scale,
                "photos": len(parts),
                "mean": mean([psnr(part["mean"]) for part in parts]),
                "single": mean([psnr(part["single"]) for part in parts]),
                "biharmonic": mean([psnr(part["biharmonic"]) for part in parts]),
                "gain_of_mean": mean(gains),
                "gain_of_pooled_error": {
                    "mean": round(_pooled_gain(*errors), 3),
                    "interval": [round(float(bound), 3) for bound in interval],
                },
                "spread_over_error": round(
                    sum(part["spread"] for part in parts)
                    / sum(part["posterior_mean"] for part in parts),
                    3,
                ),
                "power_over_real": round(float(power[0] / power[2]), 3),
                "biharmonic_power_over_real": round(float(power[1] / power[2]), 3),
                "step_over_real": round(float(steps[0] / steps[2]), 3),
                "known_changed": sum(part["known_changed"] for part in parts),
            }
        )
    return {"rows": rows, "photos": [part for part in found.values() if part["scale"] == 1]}


# name: calls of the network, and for RePaint jump and resampling
DIGIT_METHODS = {
    "digit-inpainting": (23,),
    "digit-inpainting-attention": (23,),
    "RePaint": (50, 5, 5),  # 230 calls
    "RePaint with as many calls": (23, 23, 1),
}


def digit_hole_parts(data: Path | None, count: int = 300) -> Iterator[Part]:
    """`count` test digits with the middle third hidden, rows 9 to 18, no label given, filled and
    then recognised by the judge."""
    pictures, labels = (x[:count] for x in digits("test", data))
    hole = torch.zeros(count, 1, 28, 28, dtype=torch.bool)
    hole[:, :, 9:19] = True
    judge = load("digit-judge")

    def measure(name: str) -> dict:
        steps, *resampling = DIGIT_METHODS[name]
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
    for name in DIGIT_METHODS:
        yield name, partial(measure, name)


def digit_hole_summary(found: dict) -> dict:
    """Beside each method, how many more digits of a hundred the first one gets right, with the
    paired 95% interval from resampling the digits."""

    def each(name: str) -> np.ndarray:
        return np.array([int(digit) for digit in found[name]["each"]])

    first = each("digit-inpainting")
    rows = []
    for name in DIGIT_METHODS:
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


# name: (its parts, its summary)
EVALUATIONS = {
    "digits": (digit_parts, digit_summary),
    "text-to-image": (caption_parts, caption_summary),
    "super-resolution": (photo_parts, photo_summary),
    "inpainting": (hole_parts, hole_summary),
    "digit-inpainting": (digit_hole_parts, digit_hole_summary),
}
