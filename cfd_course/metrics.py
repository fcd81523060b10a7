"""How good pictures are, how faithful to what was asked, and how diverse. All is measured on the
CPU, wherever the pictures lie."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, MinLen
from jaxtyping import Float, Int
from scipy.stats import binomtest
from skimage.color import rgb2ycbcr
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from . import expect
from .datasets.shapes import (
    COLOUR_OF,
    GROUND,
    NOTHING,
    PALETTE,
    RELATIONS,
    SHAPES,
    SIDE,
    Scenes,
    canonical,
    coverage,
)
from .expect import Count, Pictures, checked

Features = Float[Tensor, "N D"]
Planes = Float[Tensor, "B H W"]

# --- Counting, and comparing crowds of pictures by their features ---------------------------------


@checked
def proportion_interval(hits: Annotated[int, Ge(0)], count: Count) -> tuple[float, float]:
    """The 95% interval of Wilson (1927) for a proportion of which `hits` of `count` were seen."""
    expect.that(hits <= count, "hits", f"be in 0..{count}", f"{hits}")
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return interval.low, interval.high


@checked
def spread(features: Features, labels: Int[Tensor, "N"]) -> float:
    """How different pictures of the same label are: the variance within each label, summed over
    the features, averaged over the labels."""
    features, labels = features.cpu(), labels.cpu()
    groups = [features[labels == label] for label in labels.unique()]
    least = min(map(len, groups))
    expect.that(least > 1, "labels", "each occur at least twice", "one that occurs once")
    return float(torch.stack([group.var(dim=0).sum() for group in groups]).mean())


@checked
def nearest_distances(pictures: Pictures, others: Float[Tensor, "M *shape"]) -> Tensor:
    """The root mean squared difference of each picture [N, ...] to the nearest of the others
    [M, ...], [N]: near 0 for a picture that was copied."""
    flat, others = pictures.cpu().flatten(1), others.cpu().flatten(1)
    nearest = [torch.cdist(rows, others).amin(dim=1) for rows in flat.split(500)]
    return torch.cat(nearest) / flat.shape[1] ** 0.5


@checked
def frechet_distance(features: Features, real: Float[Tensor, "M D"]) -> float:
    """The Frechet distance of two crowds of features [N, D] and [M, D], each taken for a Gaussian:
    torchmetrics' computation with features of our own. Heusel et al. (2017), equation 6. It falls
    with N for crowds from the same source, so only compare at the same N and M."""
    given = nn.Identity()
    given.num_features = features.shape[1]
    distance = FrechetInceptionDistance(feature=given)
    distance.update(features.cpu(), real=False)
    distance.update(real.cpu(), real=True)
    return float(distance.compute())


@checked
def precision_recall(
    features: Features, real: Float[Tensor, "M D"], neighbours: Count = 3
) -> tuple[float, float]:
    """Precision: the share of drawn pictures that lie among the real ones; recall: the share of
    real ones that lie among the drawn. Among a crowd lies what is no further from one of its
    members than that member's k-th nearest neighbour in the crowd. Kynkaanniemi et al. (2019),
    "Improved Precision and Recall", equations 1 and 2."""
    features, real = features.cpu(), real.cpu()
    most = min(len(features), len(real)) - 1
    expect.that(neighbours <= most, "neighbours", f"be in 1..{most}", f"{neighbours}")

    def share_among(points: Tensor, crowd: Tensor) -> float:
        # The nearest of all is the point itself, at distance 0.
        radii = torch.cdist(crowd, crowd).kthvalue(neighbours + 1, dim=1).values
        return float((torch.cdist(points, crowd) <= radii).any(dim=1).float().mean())

    return share_among(features, real), share_among(real, features)


# --- Photos ---------------------------------------------------------------------------------------


@checked
def luma(pictures: Float[Tensor, "B 3 H W"]) -> Tensor:
    """Brightness in 0..255, as super-resolution papers measure it: Y of YCbCr, ITU-R BT.601.
    In [-1, 1] -> [B, H, W], float64."""
    values = rgb2ycbcr((pictures.cpu().double().numpy() + 1) / 2, channel_axis=1)
    return torch.from_numpy(values[:, 0])


@checked
def psnr(error: float) -> float:
    """The peak signal-to-noise ratio in decibels, of a mean squared error of values in 0..255."""
    return 10 * math.log10(255**2 / max(error, 1e-12))


@checked
def distortion(
    samples: Float[Tensor, "K *shape"], real: Float[Tensor, "*shape"]
) -> dict[str, float]:
    """How far samples [K, ...] for one question are from its real answer [...], in values squared.

    "single": a sample's mean squared error. "mean": that of the mean of all K. "spread": S^2, the
    unbiased variance between samples. "posterior_mean": what remains of "mean" without the noise of
    only K samples, mean - S^2 / K. Samples from the true posterior vary around its mean as much as
    the real answer does: spread / posterior_mean is 1 for them, and 0 for a regression.
    """
    samples, real = samples.cpu(), real.cpu()
    expect.that(len(samples) > 1, "the number of samples", "be at least 2", f"{len(samples)}")
    spread_ = float(samples.var(dim=0).mean())
    mean = float((samples.mean(dim=0) - real).square().mean())
    return {
        "single": float((samples - real).square().mean()),
        "mean": mean,
        "spread": spread_,
        "posterior_mean": mean - spread_ / len(samples),
    }


@checked
def fine_power(pictures: Planes, side: Annotated[int, Ge(2)] = 16) -> Tensor:
    """The power of the finest octave, 0.25 to 0.5 cycles a pixel, in each block of side x side
    pixels: [B, H, W] -> [B, H // side, W // side]. White noise of variance 1 has the share of the
    frequencies that lie in that octave.

    Each block fades out to its edges (Hann window), or the jumps from one edge to the opposite one
    would count as fine detail, and there is more in them than in a blurred photo.
    """
    most = min(pictures.shape[1:])
    expect.that(side <= most, "side", f"be in 2..{most}, for these pictures", f"{side}")
    pictures = pictures.cpu()
    blocks = pictures.unfold(1, side, side).unfold(2, side, side)
    window = torch.hann_window(side, dtype=pictures.dtype)
    window = window[:, None] * window
    blocks = (blocks - blocks.mean(dim=(3, 4), keepdim=True)) * window
    rows = torch.fft.fftfreq(side).abs()
    distance = torch.hypot(rows[:, None], rows)
    octave = (distance >= 0.25) & (distance <= 0.5)
    power = torch.fft.fft2(blocks).abs().square() / (side**2 * window.square().sum())
    return (power * octave).sum(dim=(3, 4))


# --- Reading captioned scenes (datasets.shapes) without a network ---------------------------------

Scenery = Float[Tensor, f"B 3 {SIDE} {SIDE}"]
UNREADABLE = "unreadable"
# A pixel this far from the ground in RGB shows something; the colours are at least 1.15 away.
SEEN = 0.5
# Unreadable is a picture whose mean squared difference from the scene that was read, drawn again,
# exceeds this in some window of 5x5 pixels. Noise of standard deviation 0.1 makes half of it.
TOLERANCE = 0.04


@checked
def read_captions(pictures: Scenery) -> list[str]:
    """What the pictures [B, 3, 32, 32] show, in canonical captions (only "left of" and "above"),
    or "unreadable" where that, drawn again, looks different."""
    scenes = read_scenes(pictures)
    different = (pictures.float().cpu() - scenes.draw()).square().mean(dim=1, keepdim=True)
    different = F.avg_pool2d(different, 5, stride=1, padding=2).amax(dim=(1, 2, 3))
    return [
        caption if near else UNREADABLE
        for caption, near in zip(scenes.captions(), (different < TOLERANCE).tolist(), strict=True)
    ]


@checked
def shows(pictures: Scenery, captions: Annotated[Sequence[str], MinLen(1)]) -> Tensor:
    """Whether each of the pictures [B, 3, 32, 32] shows what its caption says, [B], bool.
    Captions of the same meaning count as the same; an unreadable picture shows nothing."""
    read = read_captions(pictures)
    came = f"{len(captions)} captions and {len(read)} pictures"
    expect.that(len(captions) == len(read), "captions", "be one for each picture", came)
    asked = [canonical(caption) for caption in captions]
    return torch.tensor([a == b for a, b in zip(read, asked, strict=True)])


@torch.no_grad()
@checked
def read_scenes(pictures: Scenery) -> Scenes:
    """The scenes nearest to the pictures [B, 3, 32, 32] in [-1, 1], whether they are near or not.

    Cuts the picture in two along its widest empty strip; finds the colour of each part, then how
    much of each pixel that colour covers; of the 12 shapes and sizes, centred on it, keeps the one
    that covers most nearly the same.
    """
    pictures = pictures.float().cpu()
    right = bool((pictures.abs() <= 1).all())
    advice = "Use pictures.clamp(-1, 1)."
    expect.that(right, "pictures", "lie in [-1, 1]", "some values outside, or NaN,", advice)
    away = pictures - GROUND[:, None, None]
    seen = away.norm(dim=1) > SEEN  # [B, 32, 32]
    across, x = _widest_gap(seen.any(dim=1))
    down, y = _widest_gap(seen.any(dim=2))
    sideways, single = across > down, (across == 0) & (down == 0)
    middles = torch.arange(SIDE) + 0.5
    first = torch.where(
        sideways[:, None, None], middles < x[:, None, None], (middles < y[:, None])[..., None]
    )
    first = first | single[:, None, None]
    # The soft edges of an object lie within a pixel of what is seen of it.
    near = F.max_pool2d(seen[:, None].float(), 3, stride=1, padding=1)
    parts = near * torch.stack([first, ~first], dim=1)  # [B, 2, 32, 32]

    # Whatever the coverage, a pixel differs from the ground in the direction of its colour.
    contrasts = PALETTE - GROUND  # [8, 3]
    light = torch.einsum("bphw,bchw->bpc", parts, away)
    colours = (light @ F.normalize(contrasts, dim=1).mT).argmax(dim=2)  # [B, 2]
    scaled = (contrasts / contrasts.square().sum(dim=1, keepdim=True))[colours]
    covered = torch.einsum("bpc,bchw->bphw", scaled, away) * parts
    covered = covered.flatten(0, 1)  # [2B, 32, 32]

    kinds = (COLOUR_OF == 0).nonzero()[:, 0]  # [12], one object of each size and shape
    middle = torch.full((len(kinds), 2), SIDE / 2)
    centres = _centroid(covered) + (middle - _centroid(coverage(kinds, middle)))[:, None]
    errors = [
        (coverage(kind.expand(len(centre)), centre) - covered).square().sum(dim=(1, 2))
        for kind, centre in zip(kinds, centres, strict=True)
    ]
    best = torch.stack(errors).argmin(dim=0)  # [2B]
    objects = (kinds[best] + colours.flatten() * len(SHAPES)).reshape(-1, 2)
    objects[:, 1] = torch.where(single, NOTHING, objects[:, 1])
    relation = torch.where(sideways, RELATIONS.index("left of"), RELATIONS.index("above"))
    relations = torch.where(single, NOTHING, relation)
    centres = centres[best, torch.arange(len(best))].reshape(-1, 2, 2)
    return Scenes(objects, relations, centres)


def _widest_gap(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row of occupied [B, N], bool: the width of the widest gap between two occupied
    places, 0 if there is none, and where its middle lies, both [B]."""
    places = torch.arange(occupied.shape[1])
    last = torch.where(occupied, places, -1).cummax(dim=1).values
    before = F.pad(last[:, :-1], (1, 0), value=-1)  # the nearest occupied place to the left
    width = torch.where(occupied & (before >= 0), places - before - 1, 0)
    width, end = width.max(dim=1)
    return width, end - width / 2


def _centroid(covered: Tensor) -> Tensor:
    """Where the middle of what is covered lies: [N, 32, 32] -> [N, 2], x and y in pixels."""
    middles = torch.arange(SIDE) + 0.5
    area = covered.sum(dim=(1, 2)).clamp(min=1e-6)
    return (
        torch.stack([covered.sum(dim=1) @ middles, covered.sum(dim=2) @ middles], 1) / area[:, None]
    )
