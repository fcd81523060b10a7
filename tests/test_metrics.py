"""Captioned shapes read back without a network: right, and silent where the picture is damaged."""

import math

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from cfd_course import metrics
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
