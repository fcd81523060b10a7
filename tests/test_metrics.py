"""Captioned shapes read back without a network: right, and silent where the picture is damaged.
And numbers for crowds of pictures and for photos, in cases whose answers are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio
from torchvision.transforms.functional import gaussian_blur

from cfd_course import metrics
from cfd_course.datasets.photos import as_image, back_project, bicubic, photos, shrink
from cfd_course.datasets.shapes import (
    GROUND,
    NOTHING,
    OBJECTS,
    RADIUS_OF,
    RELATIONS,
    Scenes,
    canonical,
    parse,
    sample_scenes,
)
from cfd_course.metrics import UNREADABLE, read_captions, read_scenes, shows

# --- Reading captioned scenes ---------------------------------------------------------------------

COUNT = 600  # pictures of each kind; no seed below was used when the reader was tuned


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def share_refused(pictures) -> float:
    return read_captions(pictures).count(UNREADABLE) / len(pictures)


@pytest.mark.parametrize("split", ["train", "held-out pairs", "held-out bindings"])
def test_clean_scenes_are_read(split):
    scenes = sample_scenes(COUNT, seeded(2024), split)
    read = read_captions(scenes.draw())
    right = sum(
        one == canonical(caption) for one, caption in zip(read, scenes.captions(), strict=True)
    )
    assert right / COUNT >= 0.99


def test_every_object_is_read():
    """Each of the 96 by itself, and in each relation to a fixed other one."""
    captions = [f"a {name}" for name in OBJECTS]
    captions += [
        f"a {name} {relation} a large cyan ring" for name in OBJECTS for relation in RELATIONS
    ]
    assert bool(shows(parse(captions, seeded(2025)).draw(), captions).all())


def test_places_are_read():
    """Both centres of scenes with two objects, to a quarter of a pixel."""
    scenes = sample_scenes(COUNT, seeded(2026), "held-out pairs")
    backwards = (scenes.relations % 2 == 1)[
        :, None, None
    ]  # the reader names the left or upper first
    centres = torch.where(backwards, scenes.centres.flip(1), scenes.centres)
    assert float((read_scenes(scenes.draw()).centres - centres).abs().max()) < 0.25


def test_mild_noise_is_read():
    """What a sampler may leave behind: noise of standard deviation 0.05, clipped."""
    scenes = sample_scenes(COUNT, seeded(2027))
    pictures = scenes.draw()
    noisy = pictures + 0.05 * torch.randn(pictures.shape, generator=seeded(2028))
    assert float(shows(noisy.clamp(-1, 1), scenes.captions()).float().mean()) >= 0.99


def test_a_third_object_is_refused():
    """Anywhere apart from the two others."""
    random = seeded(2029)
    scenes = sample_scenes(30 * COUNT, random, "held-out pairs")
    extra = torch.randint(len(OBJECTS), (len(scenes),), generator=random)
    radius = RADIUS_OF[extra][:, None]
    centre = radius + (32 - 2 * radius) * torch.rand(len(scenes), 2, generator=random)
    distance = (scenes.centres - centre[:, None]).abs().amax(dim=2)  # [B, 2]
    free = (distance > RADIUS_OF[scenes.objects] + radius + 1).all(dim=1).nonzero()[:COUNT, 0]
    assert len(free) == COUNT
    pair = Scenes(scenes.objects[free], scenes.relations[free], scenes.centres[free])
    nothing = torch.full((COUNT,), NOTHING)
    third = Scenes(
        torch.stack([extra[free], nothing], dim=1), nothing, centre[free, None].expand(-1, 2, -1)
    )
    pictures = pair.draw() + third.draw() - GROUND[:, None, None]
    assert share_refused(pictures.clamp(-1, 1)) >= 0.95


def cut_in_half(scenes: Scenes, random: torch.Generator, angle: torch.Tensor) -> torch.Tensor:
    """The pictures without one half of one object, cut through the middle of its box."""
    rows = torch.arange(len(scenes))
    second = (torch.rand(len(scenes), generator=random) < 0.5) & (scenes.relations != NOTHING)
    centre = scenes.centres[rows, second.long()]
    radius = RADIUS_OF[scenes.objects[rows, second.long()]]
    middles = torch.arange(32) + 0.5
    x = (middles - centre[:, :1])[:, None, :]
    y = (middles - centre[:, 1:])[:, :, None]
    box = torch.maximum(x.abs(), y.abs()) < radius[:, None, None] + 1
    behind = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None] > 0
    return torch.where((box & behind)[:, None], GROUND[:, None, None], scenes.draw())


@pytest.mark.parametrize("direction", ["any", "along a row or column"])
def test_half_an_object_is_refused(direction):
    random = seeded(2030)
    scenes = sample_scenes(COUNT, random)
    turns = torch.rand(COUNT, generator=random)
    if direction != "any":
        turns = (4 * turns).floor() / 4
    assert share_refused(cut_in_half(scenes, random, 2 * math.pi * turns)) >= 0.95


def test_two_scenes_blended_are_refused():
    one, other = (sample_scenes(COUNT, seeded(seed)).draw() for seed in (2031, 2032))
    assert share_refused((one + other) / 2) >= 0.95


def test_strong_blur_is_refused():
    """Of a standard deviation of two pixels, half the radius of a small object."""
    pictures = sample_scenes(COUNT, seeded(2033)).draw()
    assert share_refused(gaussian_blur(pictures, 13, 2.0)) >= 0.95


def test_what_is_no_scene_is_refused():
    empty = GROUND[:, None, None].expand(1, 3, 32, 32)
    noise = torch.rand(20, 3, 32, 32, generator=seeded(2034)) * 2 - 1
    full = torch.stack([torch.ones(3, 32, 32), -torch.ones(3, 32, 32)])
    assert share_refused(torch.cat([empty, noise, full])) == 1


def test_shows():
    captions = ["a small red star left of a large blue ring", "a large green square"]
    pictures = parse(captions, seeded(0)).draw()
    assert shows(pictures, captions).tolist() == [True, True]
    assert shows(pictures, ["a large blue ring right of a small red star", captions[1]]).all()
    for other in (
        "a small red star right of a large blue ring",
        "a small red star above a large blue ring",
        "a large red star left of a large blue ring",
        "a small blue star left of a large red ring",
        "a small red star",
    ):
        assert shows(pictures, [other, captions[1]]).tolist() == [False, True]
    blank = GROUND[:, None, None].expand(2, 3, 32, 32)
    assert shows(blank, captions).tolist() == [False, False]


def test_the_reader_rejects():
    pictures = torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"pictures should have shape \[B, 3, 32, 32\]"):
        read_captions(torch.zeros(2, 1, 32, 32))
    with pytest.raises(TypeError, match="pictures should be a float tensor"):
        read_captions(pictures.long())
    for wrong in (pictures + 1.5, pictures * math.nan):
        with pytest.raises(ValueError, match=r"pictures should lie in \[-1, 1\]"):
            read_captions(wrong)
    with pytest.raises(TypeError, match="captions should be a list"):
        shows(pictures, "a small red star")
    with pytest.raises(ValueError, match="1 captions and 2 pictures came"):
        shows(pictures, ["a small red star"])
    with pytest.raises(ValueError, match="caption should read like"):
        shows(pictures, ["a small red star", "a dog"])


# --- Counting, and comparing crowds of pictures by their features


def test_proportion_interval_against_wilson_by_hand():
    low, high = metrics.proportion_interval(97, 100)
    z, p, n = 1.959964, 0.97, 100
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert low == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-6)
    assert high == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-6)
    with pytest.raises(ValueError, match="hits"):
        metrics.proportion_interval(5, 4)


def test_spread_is_the_variance_within_labels_alone():
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [100.0, 5.0], [100.0, 9.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert metrics.spread(features, labels) == pytest.approx((2 + 8) / 2)
    with pytest.raises(ValueError, match="at least twice"):
        metrics.spread(features, torch.tensor([0, 0, 1, 2]))


def test_nearest_distances_against_a_loop():
    random = torch.Generator().manual_seed(0)
    pictures, others = torch.rand(2, 7, 1, 3, 3, generator=random)
    wanted = [min(float((p - o).square().mean().sqrt()) for o in others) for p in pictures]
    torch.testing.assert_close(metrics.nearest_distances(pictures, others), torch.tensor(wanted))
    assert float(metrics.nearest_distances(others[:2], others).max()) < 1e-3


def test_frechet_distance_of_two_gaussians_in_closed_form():
    """Diagonal covariances: |m1 - m2|^2 + sum of (s1 - s2)^2, of the samples' own moments."""
    random = torch.Generator().manual_seed(0)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)  # exactly uncorrelated
    a, b = signs * torch.tensor([1.0, 2.0, 3.0]), signs + torch.tensor([1.0, 0.0, 2.0])
    unbiased = (8 / 7) ** 0.5
    wanted = 1 + 4 + (unbiased * torch.tensor([0.0, 1.0, 2.0])).square().sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(float(wanted), rel=1e-3)
    crowd = torch.randn(400, 3, generator=random)
    assert abs(metrics.frechet_distance(crowd, crowd)) < 1e-3


def test_precision_and_recall_of_what_is_known():
    """Two groups of real points, far apart."""
    near, far = torch.randn(2, 40, 3, generator=seeded(0)), torch.tensor([50.0, 0, 0])
    real = torch.cat([near[0], near[1] + far])
    assert metrics.precision_recall(real, real) == (1, 1)
    assert metrics.precision_recall(real + 1000, real) == (0, 0)
    # All that is drawn is real, but only of one group.
    assert metrics.precision_recall(near[0], real) == (1, 0.5)
    # All that is real may be drawn, but half of what is drawn is elsewhere.
    assert metrics.precision_recall(torch.cat([real, real + 1000]), real) == (0.5, 1)
    # One point, drawn again and again, nearly.
    same = near[0][:1] + 1e-3 * torch.randn(40, 3, generator=seeded(1))
    precision, recall = metrics.precision_recall(same, real)
    assert precision == 1 and recall == pytest.approx(1 / 80)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall_against_a_loop(neighbours):
    features, real = (
        torch.randn(30, 2, generator=seeded(2)),
        torch.randn(25, 2, generator=seeded(3)),
    )
    features[:, 0] += 1

    def share(points, crowd):
        among = 0
        for point in points:
            for member in crowd:
                radius = sorted(float((member - other).norm()) for other in crowd)[neighbours]
                if float((point - member).norm()) <= radius:
                    among += 1
                    break
        return among / len(points)

    expected = share(features, real), share(real, features)
    found = metrics.precision_recall(features, real, neighbours)
    assert found == pytest.approx(expected) and 0 < found[0] < 1 and 0 < found[1] < 1


def test_precision_and_recall_reject():
    crowd = torch.randn(5, 2, generator=seeded(0))
    with pytest.raises(ValueError, match="real should have shape"):
        metrics.precision_recall(crowd, crowd[:, :1])
    with pytest.raises(ValueError, match="neighbours should be in 1..4, but 5 came"):
        metrics.precision_recall(crowd, crowd, 5)


# --- Photos ---------------------------------------------------------------------------------------


def photo() -> torch.Tensor:
    """[1, 3, 300, 448] in [-1, 1]"""
    pixels = skimage.data.chelsea()[:, :448]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def test_luma_by_the_formula_and_by_pillow():
    pictures = photo()
    red, green, blue = (pictures[0].double() + 1) / 2
    found = metrics.luma(pictures)
    assert found.shape == (1, 300, 448) and found.dtype == torch.float64
    # ITU-R BT.601: from 16 for black to 235 for white.
    expected = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=0)
    # Pillow's goes from 0 to 255 and is cut off to a whole number.
    full = np.array(as_image(pictures[0]).convert("YCbCr"))[..., 0].astype(float)
    above = found[0].numpy() - (16 + full * 219 / 255)
    assert above.min() > -0.02 and above.max() < 219 / 255 + 0.02
    black_and_white = torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1)
    assert metrics.luma(black_and_white).flatten().tolist() == pytest.approx([16, 235])


def test_psnr_is_skimages():
    real = metrics.luma(photo())
    noisy = real + 10 * torch.randn(real.shape, generator=seeded(0)).double()
    error = float((noisy - real).square().mean())
    expected = peak_signal_noise_ratio(real.numpy(), noisy.numpy(), data_range=255)
    assert metrics.psnr(error) == pytest.approx(expected)
    assert metrics.psnr(255**2) == 0 and metrics.psnr(0) > 100


def posterior_samples(count: int, pixels: int = 100_000):
    """A real answer and samples, both normal around the same mean."""
    mean = torch.randn(pixels, generator=seeded(0)).double()
    draws = torch.randn(count + 1, pixels, generator=seeded(1)).double()
    return mean, mean + 0.5 * draws[0], mean + 0.5 * draws[1:]


@pytest.mark.parametrize("count", [2, 8])
def test_distortion_of_samples_from_the_true_posterior(count):
    """Within five standard deviations of 100,000 pixels: about 0.03 at worst."""
    _, real, samples = posterior_samples(count)
    found = metrics.distortion(samples, real)
    assert found["spread"] == pytest.approx(0.25, rel=0.03)
    assert found["posterior_mean"] == pytest.approx(0.25, rel=0.03)
    assert found["spread"] / found["posterior_mean"] == pytest.approx(1, abs=0.03)
    assert found["single"] == pytest.approx(0.5, rel=0.03)
    assert found["mean"] == pytest.approx(0.25 * (1 + 1 / count), rel=0.03)


def test_distortion_of_a_regression():
    """It says the mean each time: no spread."""
    mean, real, _ = posterior_samples(8)
    found = metrics.distortion(mean.expand(8, -1), real)
    assert found["spread"] == 0
    assert found["single"] == pytest.approx(found["mean"])
    assert found["posterior_mean"] == found["mean"] == pytest.approx(0.25, rel=0.03)


def test_distortion_adds_up():
    """Of any samples at all: single = mean + (K - 1) / K spread."""
    samples = torch.randn(5, 2, 3, 7, generator=seeded(4)).double() * 3 + 1
    found = metrics.distortion(samples, torch.zeros(2, 3, 7).double())
    assert found["single"] == pytest.approx(found["mean"] + 0.8 * found["spread"])
    assert found["posterior_mean"] == pytest.approx(found["mean"] - found["spread"] / 5)


def test_distortion_rejects():
    with pytest.raises(ValueError, match="real should have shape"):
        metrics.distortion(torch.zeros(2, 4), torch.zeros(3))
    with pytest.raises(ValueError, match="the number of samples should be at least 2"):
        metrics.distortion(torch.zeros(1, 3), torch.zeros(3))


def octave_share(side: int) -> float:
    """The share of the frequencies of a block that lie in the finest octave, counted."""
    inside = 0
    for row in range(side):
        for column in range(side):
            distance = math.hypot(min(row, side - row) / side, min(column, side - column) / side)
            inside += 0.25 <= distance <= 0.5
    return inside / side**2


@pytest.mark.parametrize("side", [8, 16])
def test_fine_power_of_white_noise(side):
    """Parseval: the power of all frequencies is the variance, and white noise has the same in each.
    Taking the mean of each block away hardly touches the finest octave."""
    noise = 3 * torch.randn(40, 160, 160, generator=seeded(5))
    power = metrics.fine_power(noise, side)
    assert power.shape == (40, 160 // side, 160 // side)
    assert float(power.mean()) == pytest.approx(9 * octave_share(side), rel=0.02)


@pytest.mark.parametrize(
    "across, down, inside", [(0, 5, 1), (6, 0, 1), (4, 4, 1), (2, 0, 0), (1, 1, 0), (7, 7, 0)]
)
def test_fine_power_of_waves(across, down, inside):
    """A wave of amplitude A has the power A^2 / 2, all in one octave, or in none: here `across` and
    `down` waves in each block of 16 pixels."""
    places = torch.arange(64).double() * 2 * math.pi / 16
    wave = 3 * torch.cos(across * places + down * places[:, None] + 0.4)[None]
    power = metrics.fine_power(wave + 100)
    assert power.shape == (1, 4, 4)
    expected = torch.full_like(power, inside * 4.5)
    torch.testing.assert_close(power, expected, atol=0.05, rtol=0.01)


def test_fine_power_is_of_each_block_by_itself():
    pictures = torch.zeros(1, 40, 50)
    pictures[0, 16:32, 32:48] = torch.randn(16, 16, generator=seeded(6))
    power = metrics.fine_power(pictures)
    assert power.shape == (1, 2, 3)  # what is left at the edges does not count
    assert (power > 1e-6).tolist() == [[[False] * 3, [False, False, True]]]


def test_a_slope_has_no_fine_power():
    """Without a window the jump from one edge of a block to the opposite one would."""
    slope = torch.arange(64.0).expand(1, 64, 64)
    assert float(metrics.fine_power(slope).max()) < 0.01 < 0.01 * float(slope[..., :16].var())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: metrics.luma(x[:, :2]), "pictures should have shape"),
        (lambda x: metrics.luma(x.byte()), "pictures should be a float tensor"),
        (lambda x: metrics.psnr(x), "error should be a number"),
        (lambda x: metrics.fine_power(x), "pictures should have shape"),
        (
            lambda x: metrics.fine_power(x[0], 33),
            "side should be in 2..32, for these pictures, but 33 came",
        ),
    ],
)
def test_numbers_of_photos_reject(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(torch.zeros(1, 3, 32, 32))


BSD100 = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos" / "test"


@pytest.mark.skipif(not BSD100.is_dir(), reason="BSD100 is not in ../shared/data/photos/test")
def test_bicubic_on_bsd100():
    """What papers report for x4, luma, 4 pixels cropped: 25.96 dB. With back-projection, 26.39.
    Both the mean of the pictures' decibels; the small picture is rounded, as a file holds it."""
    found = []
    for picture in photos(BSD100):
        height, width = (side // 4 * 4 for side in picture.shape[1:])
        real = picture[None, :, :height, :width] / 127.5 - 1
        low = (shrink(real).clamp(-1, 1) * 127.5).round() / 127.5
        coarse = bicubic(low)
        errors = [
            (metrics.luma(x.clamp(-1, 1)) - metrics.luma(real))[:, 4:-4, 4:-4].square().mean()
            for x in (coarse, back_project(coarse, low))
        ]
        found.append([metrics.psnr(float(error)) for error in errors])
    plain, projected = np.mean(found, axis=0)
    assert len(found) == 100
    assert plain == pytest.approx(25.96, abs=0.03)
    assert projected == pytest.approx(26.39, abs=0.03)
