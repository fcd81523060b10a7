"""Digits, captioned shapes, the data folder and batches."""

import math
import re
import time
from pathlib import Path

import pytest
import torch

from cfd_course import Condition
from cfd_course.datasets import batches, data_path
from cfd_course.datasets.digits import digit_condition, digits
from cfd_course.datasets.shapes import (
    COLOURS,
    GROUND,
    HELD_OUT_PAIRS,
    OBJECTS,
    RADII,
    RELATIONS,
    SHAPES,
    VOCABULARY,
    Scenes,
    canonical,
    coverage,
    parse,
    sample_scenes,
)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_mnist = pytest.mark.skipif(
    not (SHARED / "MNIST" / "raw").exists(), reason="the full MNIST is not in ../shared/data"
)
SPLITS = ("train", "held-out pairs", "held-out bindings")
HELD_OUT_BINDINGS = {"orange cross", "yellow star", "purple square", "white circle"}


# --- The data folder and batches ------------------------------------------------------------------


def test_data_path():
    assert data_path("digits.npz").is_file()
    with pytest.raises(FileNotFoundError, match="holds no digits.zip: looked in"):
        data_path("digits.zip")


def test_batches_keep_rows_together():
    """Each pass deals every row at most once, in another order, and leaves the rest out."""
    x_0 = torch.arange(10.0)[:, None, None, None].expand(10, 1, 2, 2)
    stream = batches(x_0, Condition(tokens=torch.arange(10)[:, None]), size=3)
    orders = []
    for _ in range(3):
        dealt = list(stream)
        assert [picture.shape for picture, _ in dealt] == [(3, 1, 2, 2)] * 3
        for picture, condition in dealt:
            assert torch.equal(picture[:, 0, 0, 0].long(), condition.tokens[:, 0])
        orders.append([int(row) for _, condition in dealt for row in condition.tokens])
        assert len(set(orders[-1])) == 9
    assert orders[0] != orders[1] or orders[1] != orders[2]


def test_batches_without_condition():
    pictures, condition = next(iter(batches(torch.zeros(4, 1, 2, 2), None, size=4)))
    assert pictures.shape == (4, 1, 2, 2) and condition is None


def test_batches_reject():
    x_0, condition = torch.zeros(4, 1, 2, 2), Condition(tokens=torch.zeros(3, 1).long())
    with pytest.raises(ValueError, match="as many rows, but 4 and 3 came"):
        batches(x_0, condition, 2)
    with pytest.raises(ValueError, match="size should be in 1..4, but 5 came"):
        batches(x_0, None, 5)
    with pytest.raises(TypeError, match="x_0 should be a float tensor"):
        batches([1.0], None, 1)


# --- Digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("split, count", [("train", 10_000), ("test", 2_000)])
def test_shipped_digits(split, count, monkeypatch):
    monkeypatch.delenv("CFD_DATA", raising=False)
    pictures, labels = digits(split)
    assert pictures.shape == (count, 1, 28, 28) and pictures.dtype == torch.float32
    assert pictures.min() == -1 and pictures.max() == 1
    assert labels.shape == (count,) and labels.dtype == torch.int64
    # MNIST holds between 9% and 11.3% of each digit; these are no stranger.
    shares = labels.bincount(minlength=10) / count
    assert len(shares) == 10 and bool(((shares > 0.08) & (shares < 0.13)).all())


@needs_mnist
@pytest.mark.parametrize(
    "split, count, shipped", [("train", 60_000, 10_000), ("test", 10_000, 2_000)]
)
def test_shipped_digits_open_the_full_set(split, count, shipped, monkeypatch):
    monkeypatch.delenv("CFD_DATA", raising=False)
    pictures, labels = digits(split)
    all_pictures, all_labels = digits(split, root=SHARED)
    assert all_pictures.shape == (count, 1, 28, 28) and all_labels.shape == (count,)
    assert torch.equal(all_pictures[:shipped], pictures)
    assert torch.equal(all_labels[:shipped], labels)


@needs_mnist
def test_digits_from_the_environment(monkeypatch):
    monkeypatch.setenv("CFD_DATA", str(SHARED))
    assert len(digits("test")[0]) == 10_000


def test_digits_reject():
    with pytest.raises(ValueError, match="split should be one of 'train', 'test'"):
        digits("valid")
    for wrong in ([3, 10], torch.tensor([-1]), torch.tensor([10])):
        with pytest.raises(ValueError, match="0..9"):
            digit_condition(wrong)
    with pytest.raises(TypeError, match="each digit should be a whole number"):
        digit_condition(["three"])
    with pytest.raises(TypeError, match="labels should be a int tensor"):
        digit_condition(torch.tensor([1.0]))


def test_digit_condition():
    assert digit_condition([3, 1]).tokens.tolist() == [[3], [1]]
    assert digit_condition(torch.tensor([3, 1])).tokens.tolist() == [[3], [1]]


# --- Captioned shapes -----------------------------------------------------------------------------


def objects_of(caption: str) -> list[str]:
    """["small red star", "large blue circle"]"""
    return re.findall(r"a (\w+ \w+ \w+)", caption)


def relation_of(caption: str) -> str:
    return next(relation for relation in RELATIONS if f" {relation} a " in caption)


def test_there_are_as_many_as_promised():
    assert (len(COLOURS), len(SHAPES), len(RADII), len(RELATIONS)) == (8, 6, 2, 4)
    assert len(set(OBJECTS)) == 96
    words = {word for caption in sample_scenes(5_000).captions() for word in caption.split()}
    assert words == set(VOCABULARY) and len(VOCABULARY) == len(words)


def test_pictures(generator):
    pictures = sample_scenes(200, generator).draw()
    assert pictures.shape == (200, 3, 32, 32) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() <= 1
    assert torch.equal(pictures[:, :, 0, 0], GROUND.expand(200, 3))  # nothing reaches a corner


def test_the_seed_decides():
    one, same, other = (
        sample_scenes(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one.captions() == same.captions() and torch.equal(one.draw(), same.draw())
    assert one.captions() != other.captions()


# In units of the squared radius, by school geometry. The triangle is 1.73 high, its base
# 2 * 1.73 * tan(30 degrees); the star is ten triangles with sides 1 and 0.45 around its middle.
AREAS = {
    "circle": math.pi,
    "square": 1.76**2,
    "triangle": 1.73**2 * math.tan(math.pi / 6),
    "star": 5 * 0.45 * math.sin(math.pi / 5),
    "cross": 2 * 2 * 0.66 - 0.66**2,
    "ring": math.pi * (1 - 0.44**2),
}


@pytest.mark.parametrize("size", RADII)
@pytest.mark.parametrize("shape", SHAPES)
def test_smooth_edges_keep_the_area(size, shape, generator):
    """Averaged over where it lies on the grid of pixels, a drawn shape has the area of the true
    one. (Corners sharper than a pixel lose a little.)"""
    number = torch.tensor(OBJECTS.index(f"{size} red {shape}")).expand(200)
    covered = coverage(number, 16 + torch.rand(200, 2, generator=generator))
    area = AREAS[shape] * RADII[size] ** 2
    assert float(covered.sum((1, 2)).mean()) == pytest.approx(area, rel=0.04)


def test_edges_are_soft():
    """The edges of this square lie 1.76 * 6.5 / 2 = 5.72 pixels from 16: at 10.28 and 21.72."""
    square = torch.tensor([OBJECTS.index("large red square")])
    row = coverage(square, torch.tensor([[16.0, 16.0]]))[0, 16]
    assert row[9:12].tolist() == pytest.approx([0, 0.72, 1], abs=1e-4)
    assert row[20:23].tolist() == pytest.approx([1, 0.72, 0], abs=1e-4)
    with pytest.raises(ValueError, match="objects should be in 0..95, or -1"):
        coverage(square + 96, torch.tensor([[16.0, 16.0]]))


def test_an_object_has_its_colour(generator):
    """The pixels that the object covers whole are exactly of its colour."""
    names = [f"a large {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    scenes = parse(names, generator)
    whole = coverage(scenes.objects[:, 0], scenes.centres[:, 0]) == 1
    for name, picture, inside in zip(names, scenes.draw(), whole, strict=True):
        colour = torch.tensor(COLOURS[name.split()[2]]) / 127.5 - 1
        assert inside.any() and torch.allclose(picture[:, inside], colour[:, None], atol=1e-5)


def test_relations_are_unambiguous(generator):
    """Seen in the pixels alone: an empty strip along the named axis, none across, and the first
    object on its side of the strip."""
    captions = [
        f"a {first} red circle {relation} a {second} blue {shape}"
        for relation in RELATIONS for first in RADII for second in RADII for shape in SHAPES
    ] * 20  # fmt: skip
    pictures = parse(captions, generator).draw() - GROUND[:, None, None]

    def span(seen, dimension):
        """The first and last row (0) or column (1) in which something is seen."""
        places = seen.any(dim=1 - dimension).nonzero()
        return int(places.min()), int(places.max())

    # Red shows in the red channel, blue in the blue one.
    for caption, red, blue in zip(captions, pictures[:, 0], pictures[:, 2], strict=True):
        red, blue = red > 0.3, blue > 0.3
        relation = relation_of(caption)
        along = 1 if relation in ("left of", "right of") else 0
        near, far = (red, blue) if relation in ("left of", "above") else (blue, red)
        assert span(near, along)[1] + 1 < span(far, along)[0], caption
        one, other = span(red, 1 - along), span(blue, 1 - along)
        assert one[0] <= other[1] and other[0] <= one[1], caption


def test_nothing_is_cut_off(generator):
    """Every object keeps its whole box inside the picture."""
    scenes = sample_scenes(5_000, generator)
    for place in (0, 1):
        there = scenes.objects[:, place] >= 0
        radii = torch.tensor(
            [RADII[OBJECTS[number].split()[0]] for number in scenes.objects[there, place]]
        )
        centres = scenes.centres[there, place]
        assert bool((centres >= radii[:, None]).all() and (centres <= 32 - radii[:, None]).all())


def test_a_tenth_of_the_pairs_is_held_out():
    assert torch.equal(HELD_OUT_PAIRS, HELD_OUT_PAIRS.mT)
    assert int(HELD_OUT_PAIRS.triu().sum()) == round(96 * 97 / 2 / 10)


def test_the_splits_share_nothing(generator):
    """By the words of the captions: no unordered pair and no binding of training is in the
    held-out splits, and in those is nothing else."""
    captions = {split: sample_scenes(30_000, generator, split).captions() for split in SPLITS}
    objects = {split: [objects_of(c) for c in captions[split]] for split in SPLITS}
    bindings = {
        split: [{name.split(" ", 1)[1] for name in names} for names in objects[split]]
        for split in SPLITS
    }
    pairs = {
        split: {frozenset(names) for names in objects[split] if len(names) == 2} for split in SPLITS
    }
    trained = set().union(*bindings["train"])
    assert len(trained) == 44 and not trained & HELD_OUT_BINDINGS
    assert all(names & HELD_OUT_BINDINGS for names in bindings["held-out bindings"])
    assert set().union(*bindings["held-out pairs"]) <= trained
    assert not pairs["train"] & pairs["held-out pairs"]
    assert all(len(names) == 2 for names in objects["held-out pairs"])
    # 88 objects with known bindings make 3,916 pairs; training sees those that are not held out.
    known = [i for i, name in enumerate(OBJECTS) if name.split(" ", 1)[1] in trained]
    held_out = int(HELD_OUT_PAIRS[known][:, known].triu().sum())
    assert len(pairs["held-out pairs"]) == held_out
    assert 0.99 < len(pairs["train"]) / (len(known) * (len(known) + 1) // 2 - held_out) <= 1


def test_held_out_pairs_come_in_every_order_and_relation(generator):
    captions = set(sample_scenes(60_000, generator, "held-out pairs").captions())
    first, second = objects_of(min(captions))
    for relation in RELATIONS:
        assert f"a {first} {relation} a {second}" in captions
        assert f"a {second} {relation} a {first}" in captions


def test_one_scene_in_five_has_one_object(generator):
    """Binomial: within five standard deviations."""
    captions = sample_scenes(20_000, generator).captions()
    singles = sum(len(objects_of(caption)) == 1 for caption in captions)
    assert abs(singles - 4_000) < 5 * math.sqrt(20_000 * 0.2 * 0.8)


def test_parse_understands_every_caption(generator):
    captions = sample_scenes(2_000, generator).captions()
    assert parse(captions, generator).captions() == captions


@pytest.mark.parametrize(
    "caption, same",
    [
        ("a large green square", "a large green square"),
        (
            "a small red star right of a large blue ring",
            "a large blue ring left of a small red star",
        ),
        ("a small red star below a large blue ring", "a large blue ring above a small red star"),
        (
            "a small red star left of a large blue ring",
            "a small red star left of a large blue ring",
        ),
        ("a small red star above a large blue ring", "a small red star above a large blue ring"),
    ],
)
def test_canonical(caption, same):
    assert canonical(caption) == same == canonical(same)


@pytest.mark.parametrize(
    "caption",
    [
        "", "a red star", "a small pink star", "small red star", "a small red star ", 3, None,
        "a small red star beside a large blue ring", "a small red star above", "A small red star",
        "a small red star above a large blue ring above a small red star",
    ],
)  # fmt: skip
def test_wrong_captions(caption):
    with pytest.raises(ValueError, match="caption should read like"):
        canonical(caption)
    with pytest.raises(ValueError, match="caption should read like"):
        parse(["a small red star", caption])


@pytest.mark.parametrize("captions", [[], "a small red star", 3, None])
def test_parse_wants_a_list(captions):
    with pytest.raises(ValueError, match="captions should be a list"):
        parse(captions)


def test_sample_scenes_rejects():
    with pytest.raises(ValueError, match="count should be at least 1, but 0 came"):
        sample_scenes(0)
    with pytest.raises(ValueError, match="split should be one of 'train', 'held-out pairs'"):
        sample_scenes(1, split="test")
    with pytest.raises(TypeError, match="generator should be a torch.Generator"):
        sample_scenes(1, generator=3)


@pytest.mark.parametrize(
    "objects, relation",
    [([96, 0], 0), ([-1, 0], 0), ([0, -2], -1), ([0, -1], 0), ([0, 1], -1), ([0, 1], 4)],
)
def test_scenes_reject(objects, relation):
    with pytest.raises(ValueError, match="objects should be in 0..95 and relations in 0..3"):
        Scenes(torch.tensor([objects]), torch.tensor([relation]), torch.full((1, 2, 2), 16.0))


def test_scenes_are_drawn_fast():
    """At least 5,000 a second on one core, captions included: by the processor's clock, so that
    other programs don't count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(5):
            began = time.process_time()
            scenes = sample_scenes(1_000)
            scenes.draw()
            scenes.captions()
            seconds.append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    assert 1_000 / min(seconds) > 5_000
