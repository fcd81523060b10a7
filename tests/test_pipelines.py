"""The shipped digits; what `load` gives, and what it says of files that are not its own; and the
applications around small random networks, whose pictures are nothing but must have every property
that does not come from training."""

import json
import math
import struct
import warnings
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin
from scipy.stats import binomtest
from torch import nn

from cfd_course import Condition, NoiseSchedule, Unet, pipelines
from cfd_course.checkpoints import load_checkpoint, save_checkpoint
from cfd_course.datasets import data_path
from cfd_course.datasets.digits import digit_condition, digits
from cfd_course.datasets.emoji import TONE, names_of
from cfd_course.datasets.emoji import emoji as real_emoji
from cfd_course.datasets.photos import (
    as_image,
    as_tensor,
    bicubic,
    biharmonic_fill,
    known_detail,
    open_image,
    shrink,
    smooth_fill,
    stored,
)
from cfd_course.guidance import guide
from cfd_course.pipelines import (
    APPLICATIONS,
    HOLE_GAIN,
    RECIPES,
    Artist,
    DigitJudge,
    Mender,
    Scaler,
    Tiled,
    build,
    emoji,
    emoji_autoencoder,
    emoji_enlarger,
    emoji_judge,
    emoji_latents,
    emoji_mender,
    few_steps,
    load,
    start_noise,
    to_enlarge,
    to_fill,
    two_towers,
    with_hole,
    with_hole_and_detail,
)
from cfd_course.pipelines.emoji_judge import EmojiJudge
from cfd_course.pipelines.inpainting import photo_holes
from cfd_course.sampling import dpm_solver, last
from cfd_course.text import tokenise
from cfd_course.unet import PatchTokens, Velocity
from cfd_course.words import word_vectors

# The recipes, with networks that draw in no time.
SMALL = {
    name: {
        "name": name,
        **recipe,
        "network": {**recipe["network"], "channels": [8, 8], "attention": [1]},
    }
    for name, recipe in RECIPES.items()
    if "network" in recipe
}


@pytest.fixture(scope="module")
def writer():
    return load("digits")


@pytest.fixture(scope="module")
def judge():
    return load("digit-judge")


def test_a_picture_follows_from_its_own_seed_alone(writer):
    three = writer.draw([3, 1, 4], scale=2, steps=3, seed=5)
    assert three.shape == (3, 1, 28, 28)
    assert torch.equal(three, writer.draw([3, 1, 4], scale=2, steps=3, seed=5))
    one = writer.draw(torch.tensor([4]), scale=2, steps=3, seed=7)
    torch.testing.assert_close(three[2:], one, atol=1e-3, rtol=0)
    assert not torch.equal(start_noise(1, (4,), seed=0), start_noise(1, (4,), seed=1))


def test_shipped_sizes(writer, judge):
    assert data_path("checkpoints/digits.safetensors").stat().st_size < 3e6
    assert data_path("checkpoints/digit-judge.safetensors").stat().st_size < 2e6
    assert data_path("checkpoints/digit-classifier.safetensors").stat().st_size < 1e6
    assert data_path("checkpoints/emoji-autoencoder.safetensors").stat().st_size < 1e6
    assert data_path("checkpoints/emoji-latents.safetensors").stat().st_size < 3e6
    for name in ("emoji-towers", "emoji-prior", "emoji-decoder"):
        assert data_path(f"checkpoints/{name}.safetensors").stat().st_size < 1.5e6
    assert data_path("checkpoints/digits-weak.safetensors").stat().st_size < 1e6


def test_the_judge_reads_real_digits(judge):
    """At least 99% of all 10,000 (see results/digits.json); here of the 2,000 shipped ones."""
    pictures, labels = digits("test")
    assert (judge(pictures).argmax(1) == labels).float().mean() >= 0.99


def test_the_committed_table_is_what_the_checkpoint_does(writer, judge):
    """100 of the 2,000 digits of each of two rows, drawn again: as often right as the table says,
    within the 99.9% interval of a hundred tries."""
    results = json.loads(data_path("results/digits.json").read_text())
    real = results["real"]["judge"]
    assert real["right"] >= 0.99 * real["of"]
    rows = {row["scale"]: row for row in results["rows"]}
    assert {0, 1, results["best_scale"]} <= rows.keys() and len(rows) >= 5
    wanted = torch.arange(100) % 10
    for scale in (1, results["best_scale"]):
        right = int((judge(writer.draw(wanted, scale)).argmax(1) == wanted).sum())
        interval = binomtest(right, 100).proportion_ci(0.999, method="wilson")
        assert interval.low <= rows[scale]["right"] / rows[scale]["of"] <= interval.high


def test_guidance_on_the_shipped_digits(writer, judge):
    """Told nothing the digits are any; told, nearly all are right."""
    wanted = torch.arange(50) % 10
    for scale, low, high in ((0, 0, 20), (2, 45, 50)):
        right = int((judge(writer.draw(wanted, scale)).argmax(1) == wanted).sum())
        assert low <= right <= high, scale


def test_a_file_of_ones_own_loads_by_its_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    kinds = {  # by how a name begins
        "digits-flow": few_steps.FewSteps,
        "digits-shortcut": few_steps.FewSteps,
        "digits": Artist,
        "text-to-image": Artist,
        "emoji-enlarger": emoji_enlarger.Enlarger,
        "emoji-mender": emoji_mender.EmojiMender,
        "emoji-latents": Artist,
        "emoji-pixels": Artist,
        "emoji": emoji.EmojiArtist,
        "super-resolution": Scaler,
        "inpainting": Mender,
        "digit-inpainting": Mender,
    }
    for name, recipe in SMALL.items():
        save_checkpoint(path, build(recipe), recipe)
        wanted = next(kind for start, kind in kinds.items() if name.startswith(start))
        assert type(load(path)) is type(load(str(path))) is wanted, name
    assert isinstance(load("digit-judge"), DigitJudge)
    recipe = SMALL["digits"]
    save_checkpoint(path, build(recipe), recipe)
    with pytest.raises(ValueError, match="mine.safetensors belongs to another network"):
        wider = {**recipe, "network": {**recipe["network"], "channels": [16, 16]}}
        save_checkpoint(path, build(recipe), wider)
        load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "zigzag"},
        {"schedule_steps": 10**12},
        {"network": {"channels": 8}},
        {"network": {"foo": 1}},
        {"network": None},
        {"name": None},
    ],
)
def test_a_recipe_that_cannot_be_followed_is_named(wrong, tmp_path):
    path, recipe = tmp_path / "mine.safetensors", SMALL["digits"]
    save_checkpoint(path, build(recipe), recipe | wrong)
    with pytest.raises(ValueError, match="mine.safetensors holds a recipe that cannot be followed"):
        load(path)
    save_checkpoint(path, build(recipe), {})
    with pytest.raises(ValueError, match="mine.safetensors holds a recipe that cannot be followed"):
        load(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    path, recipe = tmp_path / "mine.safetensors", SMALL["digits"]
    save_checkpoint(path, build(recipe), recipe)
    weights, _ = load_checkpoint(path)
    weights["null_token"][0] = math.nan
    metadata = {"recipe": json.dumps(recipe)}
    safetensors.torch.save_file(weights, path, metadata=metadata)
    with pytest.raises(ValueError, match="mine.safetensors is damaged: null_token"):
        load(path)


def test_names_that_are_not_shipped_are_answered_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="digit-judge, digits"):
        load("cats")
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(TypeError, match="name"):
        load(3)
    with pytest.raises((TypeError, ValueError), match="digit"):
        load("digits").draw([3, 11])


# --- Captions -------------------------------------------------------------------------------------

CAPTION = "a small red star above a large blue circle"
SCHEDULE = NoiseSchedule.cosine(100)


def randomly(network: nn.Module) -> nn.Module:
    """With all its parameters moved at random, or it would return zeros."""
    source = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=source)
    return network.eval().requires_grad_(False)


def test_an_artist_draws_captions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        artist = Artist(randomly(build(SMALL["text-to-image"])), SCHEDULE, tokenise, (3, 32, 32))
    captions = ["a large green square", CAPTION]
    both = artist.draw(captions, steps=3, seed=5)
    assert both.shape == (2, 3, 32, 32) and both.abs().max() <= 1
    assert torch.equal(both, artist.draw(captions, steps=3, seed=5))
    alone = artist.draw(CAPTION, steps=3, seed=6)
    torch.testing.assert_close(alone, both[1:], atol=1e-3, rtol=0)
    for other in (
        artist.draw(captions[0], steps=3, seed=6),
        artist.draw(CAPTION, steps=3, seed=7),
        artist.draw(CAPTION, scale=1, steps=3, seed=6),
    ):
        assert (other - alone).abs().max() > 1e-3
    with pytest.raises(ValueError, match="the word 'rde' .* is unknown. Did you mean 'red'"):
        artist.draw("a small rde star")
    with pytest.raises(ValueError, match="an empty one came"):
        artist.draw("")
    with pytest.raises(ValueError, match="captions should be a list of at least 1"):
        artist.draw([])


# --- Tiles ----------------------------------------------------------------------------------------


def randn(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixelwise(x_t, t, condition):
    """A network that looks at one pixel at a time."""
    present = condition.present[:, None, None, None]
    return (x_t * t).sin() + torch.where(present, condition.image[:, :1], 7.0)


@pytest.mark.parametrize("size, overlap", [(8, 3), (8, 0), (8, 7), (5, 2), (1, 0)])
def test_padding_is_the_least_that_tiles_cover(size, overlap):
    tiled = Tiled(pixelwise, size, overlap)
    covered = {size + n * (size - overlap) for n in range(100)}
    for length in range(1, 50):
        grown = min(whole for whole in covered if whole >= length)
        assert tiled.padding(length) == grown - length


def test_one_tile_is_the_plain_network():
    network = randomly(Unet(3, (8, 8), condition_channels=2, heads=2))
    x_t, condition = randn(2, 3, 16, 16), Condition(image=randn(2, 2, 16, 16, seed=1))
    expected = network(x_t, 7, condition)
    found = Tiled(network, 16, 4)(x_t, 7, condition)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size, overlap", [(8, 3), (8, 0), (8, 7), (6, 4)])
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_tiles_of_a_pixelwise_network_show_nowhere(size, overlap, batch):
    """Of any size; and the condition and its absence go with their tiles."""
    tiled = Tiled(pixelwise, size, overlap, batch=batch)
    for height, width in ((size, size), (size, 30), (23, 11)):
        height, width = (side + tiled.padding(side) for side in (height, width))
        x_t, image = randn(3, 2, height, width), randn(3, 4, height, width, seed=1)
        condition = Condition(image=image, present=torch.tensor([True, False, True]))
        found = tiled(x_t, 2, condition)
        torch.testing.assert_close(found, pixelwise(x_t, 2, condition), atol=1e-5, rtol=1e-5)


def test_overlapping_tiles_are_averaged_by_weight():
    """Two tiles of 4x4 that share two columns, the first of zeros and the second of ones. In the
    second row of the third column the first has 1.5 pixels to its edge and the second 0.5."""

    def network(x_t, t, condition):
        return torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 4, 4)

    picture = torch.zeros(1, 1, 4, 6)
    found = Tiled(network, 4, 2)(picture, 1, Condition(image=picture))[0, 0]
    edge, middle = [0, 0, 0.5, 0.5, 1, 1], [0, 0, 0.25, 0.75, 1, 1]
    torch.testing.assert_close(found, torch.tensor([edge, middle, middle, edge]))


def test_tiles_are_told_their_own_part():
    told = []

    def watched(x_t, t, condition):
        told.append(condition)
        return pixelwise(x_t, t, condition)

    picture = torch.arange(8.0 * 20).reshape(1, 1, 8, 20)
    present = torch.tensor([False])
    Tiled(watched, 8, 2, batch=2)(picture, 1, Condition(image=picture, present=present))
    assert [len(condition) for condition in told] == [2, 1]
    images = torch.cat([condition.image for condition in told])
    assert torch.equal(images, torch.cat([picture[..., i : i + 8] for i in (0, 6, 12)]))
    assert not any(condition.present.any() for condition in told)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Tiled(None, 8, 2), "network should be callable"),
        (lambda: Tiled(pixelwise, 0, 0), "size should be at least 1"),
        (lambda: Tiled(pixelwise, 8, 8), "overlap should be in 0..7, but 8 came"),
        (lambda: Tiled(pixelwise, 8, 2, batch=0), "batch should be at least 1"),
        (
            lambda: Tiled(pixelwise, 8, 2)(randn(1, 1, 8, 15), 1, Condition(randn(1, 1, 8, 15))),
            "x_t should be of a size that the tiles cover, but 8x15 came",
        ),
        (
            lambda: Tiled(pixelwise, 8, 2)(randn(1, 8, 8), 1, Condition(randn(1, 1, 8, 8))),
            "x_t should have shape",
        ),
    ],
)
def test_tiles_refuse(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


# --- What super-resolution and inpainting learn from ----------------------------------------------


def photo(height: int = 24, width: int = 20, top: int = 60, left: int = 150) -> torch.Tensor:
    """A piece of a photo, [1, 3, height, width] in [-1, 1]."""
    return as_tensor(Image.fromarray(skimage.data.chelsea()[top:, left:][:height, :width].copy()))


def test_what_super_resolution_learns():
    """Of a photo with half the contrast it is the same, but for the grey levels of its file."""
    pictures = torch.cat([photo(32, 48), photo(32, 48, top=100)])
    (x_0, condition), (fainter, _) = (to_enlarge(contrast * pictures) for contrast in (1, 0.5))
    coarse, detail = condition.image.split(3, dim=1)
    low = torch.cat([as_tensor(as_image(each)) for each in shrink(pictures)])  # of 8 bits
    torch.testing.assert_close(coarse, bicubic(low))
    assert condition.present.all()
    of_low, power = known_detail(low, torch.zeros(2, 1, 8, 12, dtype=torch.bool), window=3)
    contrast = (power + 0.02**2).sqrt()
    torch.testing.assert_close(detail, bicubic(of_low / contrast))
    contrast = F.interpolate(contrast, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(coarse + x_0 * contrast, pictures)
    assert (fainter - x_0).square().mean() < 0.02 * x_0.square().mean()
    with pytest.raises(ValueError, match="divisible by 4"):
        to_enlarge(photo(30, 32))


def test_a_hole_is_smooth_and_marked():
    pictures, mask = photo(8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 2:5, 3:] = True
    image = with_hole(pictures, mask).image
    assert image.shape == (1, 4, 8, 8)
    assert torch.equal(image[:, :3], smooth_fill(pictures, mask))
    assert torch.equal(image[:, :3][~mask.expand(1, 3, 8, 8)], pictures[~mask.expand(1, 3, 8, 8)])
    assert torch.equal(image[:, 3:], torch.where(mask, 1.0, -1.0))
    with pytest.raises(TypeError, match="mask should be a bool tensor"):
        with_hole(pictures, mask.float())
    with pytest.raises(ValueError, match="mask should have shape"):
        with_hole(pictures, mask[..., :4])


def test_what_inpainting_learns():
    """Three quarters of the holes are boxes or halves, within five standard deviations of 2,000."""
    pictures = randn(50, 3, 16, 16).clamp(-1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [to_fill(pictures) for _ in range(40)]
    for x_0, condition in made:
        assert torch.equal(x_0, HOLE_GAIN * (pictures - condition.image[:, :3]))
        assert not x_0[(condition.image[:, 3:] < 0).expand_as(x_0)].any()
    image = torch.cat([condition.image for _, condition in made])
    mask = image[:, 3] > 0
    expected = with_hole(pictures.repeat(40, 1, 1, 1), mask[:, None])
    assert torch.equal(image, expected.image)
    height, width = mask.any(2).sum(1), mask.any(1).sum(1)
    full = mask.sum((1, 2)) == height * width
    short, long = torch.minimum(height, width), torch.maximum(height, width)
    boxes = full & (short >= 4) & (short <= 8)  # the halves are among them
    assert abs(int(boxes.sum()) - 1500) < 5 * (2000 * 0.25 * 0.75) ** 0.5
    assert set(short[boxes].tolist()) == {4, 5, 6, 7, 8} and set(long[boxes].tolist()) > {4, 16}
    assert 0.3 < (height > width)[boxes & (short != long)].float().mean() < 0.7
    assert mask.flatten(1).any(1).all() and not mask.flatten(1).all(1).any()
    with pytest.raises(ValueError, match="pictures should be square"):
        to_fill(pictures[..., :8])


def test_what_inpainting_learns_relative_to_the_detail_around_the_hole():
    """Of a picture with half the contrast it is the same, apart from what counts as faintest."""
    pictures = randn(4, 3, 16, 16).clamp(-1, 1)
    made = []
    for contrast in (1, 0.5):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made.append(to_fill(contrast * pictures, photo_holes, with_hole_and_detail))
    (x_0, condition), (fainter, _) = made
    torch.testing.assert_close(fainter, x_0, atol=0, rtol=0.05)
    base, apart, detail, strength, marks = condition.image.split((3, 3, 3, 1, 1), dim=1)
    hole = marks > 0
    smooth, sloping = smooth_fill(pictures, hole), biharmonic_fill(pictures, hole)
    known, power = known_detail(pictures, hole)
    contrast = (power + 0.01**2).sqrt()
    torch.testing.assert_close(apart, ((sloping - smooth) / contrast).clamp(-1.5, 1.5))
    torch.testing.assert_close(base, smooth + contrast * apart)
    torch.testing.assert_close(detail * contrast, known)
    torch.testing.assert_close((strength - 2.5).exp(), contrast)
    torch.testing.assert_close(base + x_0 * contrast, pictures)
    assert not x_0[~hole.expand_as(x_0)].any() and not detail[hole.expand_as(detail)].any()


def test_slopes_are_not_carried_on_without_end():
    """On the right half of a slope, that is hidden, biharmonic filling leaves -1..1."""
    slope = torch.linspace(-0.5, 1.4, 32).expand(1, 3, 32, 32).clamp(-1, 1)
    slope = slope * torch.linspace(0.5, 1, 32)[:, None]
    mask = hole((32, 32), ALL, slice(16, 32))
    condition, gain = with_hole_and_detail(slope, mask)
    base, apart, *_ = condition.image.split(3, dim=1)
    assert apart.abs().max() == 1.5
    far = (biharmonic_fill(slope, mask) - smooth_fill(slope, mask)).abs().max()
    assert (base - smooth_fill(slope, mask)).abs().max() < 0.8 * far
    torch.testing.assert_close((base - smooth_fill(slope, mask)) * gain, apart)


def test_the_holes_in_photos():
    """Half are boxes of up to half the side, a quarter strips from side to side, no thicker than a
    quarter, and none are halves: within five standard deviations of 2,000."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [photo_holes(50, 32)[:, 0] for _ in range(40)]
    mask = torch.cat(made)
    height, width = mask.any(2).sum(1), mask.any(1).sum(1)
    full = mask.sum((1, 2)) == height * width
    short, long = torch.minimum(height, width), torch.maximum(height, width)
    boxes, strips = full & (short >= 8) & (long <= 16), full & (long == 32)
    deviation = (2000 * 0.25 * 0.75) ** 0.5
    assert abs(int(boxes.sum()) - 1000) < 5 * deviation
    assert abs(int(strips.sum()) - 500) < 5 * deviation
    assert set(short[strips].tolist()) == {4, 5, 6, 7, 8}
    assert 0.3 < (height > width)[strips].float().mean() < 0.7


# --- To enlarge -----------------------------------------------------------------------------------


def told_by_a_picture(route: str, condition_channels: int, channels: int = 3) -> nn.Module:
    """A random network for tiles of 16 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if route == "attention":
            unet = Unet(channels, (8, 8), token_channels=8, heads=2, patch=2, placed=True)
            network = PatchTokens(unet, condition_channels)
        else:
            settings = {"attention": (), "heads": 2, "patch": 2}
            network = Unet(channels, (8, 8), condition_channels, route, **settings)
    return randomly(Velocity(network, SCHEDULE))


@pytest.fixture(params=["input", "levels", "attention"])
def scaler(request):
    return Scaler(told_by_a_picture(request.param, 6), SCHEDULE, size=16)


@pytest.fixture
def plain_scaler():
    return Scaler(told_by_a_picture("input", 6), SCHEDULE, size=16)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 5), (4, 4), (7, 13)])
def test_pictures_of_any_size_are_enlarged(scaler, size):
    low = photo(*size)
    large = scaler.enlarge(low, steps=2)
    assert large.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert large.isfinite().all() and large.abs().max() <= 1
    image = scaler.enlarge(as_image(low[0]), steps=2)
    assert image.size == (4 * size[1], 4 * size[0])
    torch.testing.assert_close(as_tensor(image), large, atol=0.5 / 127.5 + 1e-5, rtol=0)


@pytest.mark.parametrize(
    "mode, out", [("RGB", "RGB"), ("L", "L"), ("LA", "LA"), ("1", "L"), ("RGBA", "RGBA")]
)
def test_enlarged_images_are_of_the_kind_that_came(plain_scaler, mode, out):
    image = as_image(photo(5, 6)[0]).convert(mode)
    large = plain_scaler.enlarge(image, steps=2)
    assert isinstance(large, Image.Image) and (large.mode, large.size) == (out, (24, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_enlarged_tensors_are_of_the_kind_that_came(plain_scaler, dtype):
    low = torch.cat([photo(5, 6), photo(5, 6, top=100)])
    large = plain_scaler.enlarge(low.to(dtype), steps=2)
    assert large.dtype == dtype and large.shape == (2, 3, 20, 24)
    torch.testing.assert_close(large.float(), plain_scaler.enlarge(low, steps=2), atol=0.1, rtol=0)


def test_seeds_reproduce_an_enlarged_picture(plain_scaler):
    low = torch.cat([photo(6, 9), photo(6, 9, top=100)])
    large = plain_scaler.enlarge(low, steps=4, seed=3)
    assert torch.equal(large, plain_scaler.enlarge(low, steps=4, seed=3))
    alone = plain_scaler.enlarge(low[1:], steps=4, seed=4)  # picture i comes from seed + i alone
    torch.testing.assert_close(alone, large[1:], atol=1e-3, rtol=0)
    for other in (
        plain_scaler.enlarge(low, steps=4, seed=4),
        plain_scaler.enlarge(low, steps=4, seed=3, scale=3),
        plain_scaler.enlarge(low, steps=4, seed=3, project=False),
    ):
        assert (other - large).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["tensor", "image"])
def test_projected_an_enlarged_picture_agrees_with_its_input(scaler, kind):
    """Shrunk again, to 2/255 RMS, and whatever the network says; without the projection it would
    not."""
    low = photo()
    left = {}
    for project in (True, False):
        if kind == "tensor":
            large = scaler.enlarge(low, project=project, steps=8)
        else:
            large = as_tensor(scaler.enlarge(as_image(low[0]), project=project, steps=8))
        left[project] = 127.5 * float((shrink(large) - low).square().mean().sqrt())
    assert left[True] < 2 < left[False]


def test_a_network_that_lacks_nothing_gives_the_bicubic_picture():
    """Where the guess of what is lacking is 0, what comes out is bicubic, across all tiles."""
    network = Velocity(Unet(3, (8, 8), condition_channels=6, heads=2, patch=2), SCHEDULE)

    def nothing_lacks(x_t, t, condition):
        return SCHEDULE.predict_noise(x_t, t, torch.zeros_like(x_t))

    scaler = Scaler(network, SCHEDULE, size=16)
    scaler.tiled.network = nothing_lacks
    low = photo(10, 13)  # whole tiles: padding changes what bicubic makes of an edge
    found = scaler.enlarge(low, project=False, steps=5)
    torch.testing.assert_close(found, bicubic(low).clamp(-1, 1), atol=1e-3, rtol=0)


def test_a_network_relative_to_the_detail_there_is_draws_in_units_of_it():
    """One that sees x_0 = 1 everywhere adds as much as the detail of the small photo is strong."""

    def network(x_t, t, condition):
        return SCHEDULE.predict_noise(x_t, t, torch.ones_like(x_t))

    low = 0.5 * photo(4, 4)
    scaler = Scaler(network, SCHEDULE, 16)
    large = scaler.enlarge(low, steps=4, project=False)
    _, power = known_detail(low, torch.zeros(1, 1, 4, 4, dtype=torch.bool), window=3)
    contrast = (power + 0.02**2).sqrt()
    contrast = F.interpolate(contrast, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(large, bicubic(low) + contrast, atol=1e-3, rtol=0)
    scaler = Scaler(told_by_a_picture("input", 6), SCHEDULE, 16)
    assert scaler.estimate(4, 4, steps=4) > 0


@pytest.mark.parametrize("scale, size", [(1.0, (5, 17)), (3.0, (9, 4)), (0.0, (1, 1))])
def test_the_estimate_counts_the_tiles(plain_scaler, monkeypatch, scale, size):
    """Were one batch of tiles to take a second."""
    rows, inner = [], plain_scaler.tiled.network

    def counting(x_t, t, condition):
        rows.append(len(x_t))
        return inner(x_t, t, condition)

    plain_scaler.tiled.network = counting
    plain_scaler.enlarge(photo(*size), scale=scale, steps=4)
    tiles = sum(rows)
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(pipelines.photo, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    seconds = plain_scaler.estimate(*size, steps=4, scale=scale)
    assert seconds == pytest.approx(tiles / rows[-1])


def test_progress_sees_every_step(plain_scaler):
    seen = []

    def watch(steps):
        for step in steps:
            seen.append(step.t)
            yield step

    plain_scaler.enlarge(photo(2, 2), progress=watch)
    assert len(seen) == 25 and seen[-1] == 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"photo": photo()[:, :1]}, "photo should have shape"),
        ({"photo": photo()[0]}, "photo should have shape"),
        ({"photo": photo() + 1}, "photo should hold pixels in"),
        ({"photo": photo() * torch.nan}, "photo should hold pixels in"),
        ({"photo": photo()[..., :0]}, "photo should have shape"),
        ({"photo": np.zeros((4, 4, 3))}, "photo should be a float tensor"),
        ({"photo": "cat.jpg"}, "photo should be a float tensor"),
        ({"photo": Image.new("I;16", (4, 4))}, "photo should have 8 bits a colour"),
        ({"photo": Image.new("F", (4, 4))}, "photo should have 8 bits a colour"),
        ({"scale": "strong"}, "scale should be a number"),
        ({"steps": 0}, "steps should be at least 1"),
        ({"steps": 101}, "steps should be in 1..100"),
        ({"seed": -1}, "seed should be in 0.."),
    ],
)
def test_a_scaler_refuses(plain_scaler, settings, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plain_scaler.enlarge(**{"photo": photo(4, 4), **settings})


def test_a_scalers_tiles_shrink_to_whole_pixels():
    with pytest.raises(ValueError, match="size should be divisible by 16, but 20 came"):
        Scaler(told_by_a_picture("input", 6), SCHEDULE, size=20)


# --- To fill --------------------------------------------------------------------------------------


@pytest.fixture(params=["input", "attention"])
def mender(request):
    return Mender(told_by_a_picture(request.param, 4), SCHEDULE, channels=3, size=16)


@pytest.fixture
def plain_mender():
    return Mender(told_by_a_picture("input", 4), SCHEDULE, channels=3, size=16)


def hole(size, rows: slice, columns: slice, count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, 1, *size, dtype=torch.bool)
    mask[..., rows, columns] = True
    return mask


ALL = slice(None)
HOLES = {  # the last three are thick: filled at half the size, or at a quarter
    "a pixel": ((1, 1), ALL, ALL),
    "a line": ((1, 9), ALL, slice(2, 5)),
    "a corner": ((17, 16), slice(12, None), slice(9, None)),
    "right half": ((21, 33), ALL, slice(17, None)),
    "everything": ((12, 19), ALL, ALL),
    "box": ((40, 37), slice(11, 31), slice(8, 30)),
    "thick to the edge": ((33, 45), slice(13, None), slice(20, None)),
    "thicker": ((71, 70), slice(8, 60), slice(9, 66)),
}


@pytest.mark.parametrize("name", HOLES)
def test_what_is_known_stays_and_what_is_hidden_is_not_looked_at(mender, name):
    """Bit for bit."""
    size, rows, columns = HOLES[name]
    pictures, mask = photo(*size), hole(*HOLES[name])
    known = ~mask.expand_as(pictures)
    filled = mender.fill(pictures, mask, steps=2)
    assert filled.shape == pictures.shape and filled.isfinite().all() and filled.abs().max() <= 1
    assert torch.equal(filled[known], pictures[known])
    assert not torch.equal(filled[~known], pictures[~known])
    other = torch.where(mask, -pictures, pictures)
    assert torch.equal(mender.fill(other, mask, steps=2), filled)


def test_only_what_is_thick_is_filled_at_half_the_size(plain_mender):
    """What the sampler is asked to fill: a piece of this size, with so many pixels hidden."""
    asked, sample = [], plain_mender._sample

    def watched(known, gap, *settings):
        asked.append((*known.shape[2:], int(gap.sum())))
        return sample(known, gap, *settings)

    plain_mender._sample = watched
    for thickness, wanted in ((7, (24, 24, 49)), (16, (24, 24, 64)), (20, (16, 16, 25))):
        asked.clear()
        rows = slice(20, 20 + thickness)
        plain_mender.fill(photo(64, 64), hole((64, 64), rows, rows), steps=1)
        assert asked == [wanted]  # as it is, at half the size, at a quarter
    asked.clear()
    plain_mender.fill(photo(200, 240), hole((200, 240), slice(99, 101), slice(50, 52)), steps=1)
    assert asked == [(24, 24, 4)]  # near the hole: 8 + 2 + 8, and what tiles want


@pytest.mark.parametrize("mode, out", [("RGB", "RGB"), ("L", "L"), ("LA", "LA"), ("1", "L")])
@pytest.mark.parametrize("kind", ["L", "1", "RGB"])
def test_filled_images_are_of_the_kind_that_came(plain_mender, mode, out, kind):
    image = as_image(photo(11, 18)[0]).convert(mode)
    mask = hole((11, 18), slice(3, 8), slice(4, 20))
    white = Image.fromarray((255 * mask[0, 0]).byte().numpy()).convert(kind)
    filled = plain_mender.fill(image, white, steps=2)
    assert (filled.mode, filled.size) == (out, (18, 11))
    known = ~mask[0, 0].numpy()
    before, after = np.array(image.convert(out)), np.array(filled)
    assert np.array_equal(after[known], before[known])
    assert not np.array_equal(after[~known], before[~known])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_filled_tensors_are_of_the_kind_that_came(plain_mender, dtype):
    pictures, mask = photo(9, 12).to(dtype), hole((9, 12), slice(2, 5), slice(2, 5))
    filled = plain_mender.fill(pictures, mask, steps=2)
    known = ~mask.expand_as(pictures)
    assert filled.dtype == dtype and torch.equal(filled[known], pictures[known])


def of_every_mode() -> dict[str, Image.Image]:
    """Images of 18x11 pixels, of all that Pillow opens."""
    image = as_image(photo(11, 18)[0])
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    plain, indexed = image.convert("RGB"), image.convert("RGB").quantize(30)
    modes = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "1", "I", "F")
    found = {mode: plain.convert(mode) for mode in modes} | {"RGBA": image, "P": indexed}
    found["F"] = Image.fromarray(np.array(found["F"]) / 255)
    found["I;16"] = Image.fromarray(np.array(found["L"]).astype(np.uint16) * 201)
    found["transparent P"] = indexed.copy()
    found["transparent P"].info["transparency"] = 3
    return found


@pytest.mark.parametrize("kind", of_every_mode())
def test_all_other_pixels_stay_as_they_are_in_every_mode(plain_mender, kind):
    """In the mode that came; of a palette, the colours and their transparency."""
    image, mask = of_every_mode()[kind], hole((11, 18), slice(3, 8), slice(4, 20))
    image.info["icc_profile"] = b"a profile"
    filled = plain_mender.fill(image, as_image(2.0 * mask[0] - 1), steps=1)
    mode = {"1": "L", "P": "RGB", "transparent P": "RGBA"}.get(kind, kind)
    assert (filled.mode, filled.size) == (mode, image.size)
    known = ~mask[0, 0].numpy()
    before = np.array(image if image.mode == mode else image.convert(mode))
    assert np.array_equal(np.array(filled)[known], before[known])
    assert not np.array_equal(np.array(filled)[~known], before[~known])
    if image.mode == mode:
        assert filled.info["icc_profile"] == b"a profile"


def test_what_an_enlarged_photo_carries_is_kept_or_said(plain_scaler):
    image = of_every_mode()["RGBA"]
    image.info["icc_profile"] = b"a profile"
    large = plain_scaler.enlarge(image, steps=1)
    alpha = image.getchannel("A").resize(large.size, Image.Resampling.BICUBIC)
    assert np.array_equal(np.array(large.getchannel("A")), np.array(alpha))
    assert large.info["icc_profile"] == b"a profile"
    with pytest.warns(UserWarning, match="not kept of the photo: .*its mode CMYK"):
        plain_scaler.enlarge(image.convert("CMYK"), steps=1)
    image.info["exif"] = Image.Exif().tobytes()
    with pytest.warns(UserWarning, match="not kept of the photo: its metadata"):
        plain_scaler.enlarge(image, steps=1)


def of_16_bits(colours: int) -> bytes:
    """A PNG of 18x11 pixels, RGB (2) or RGBA (6), as Pillow writes none."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    random, samples = np.random.default_rng(0), {2: 3, 6: 4}[colours]
    rows = random.integers(0, 65536, (11, 18 * samples)).astype(">u2")
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", struct.pack(">IIBBBBB", 18, 11, 16, colours, 0, 0, 0))
        + part(b"gAMA", struct.pack(">I", 100_000))
        + part(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + part(b"IEND", b"")
    )


def odd_file(kind: str, folder: Path) -> Path:
    path = folder / kind
    rgb = as_image(photo(11, 18)[0])
    more = {"save_all": True, "append_images": [rgb.rotate(180), rgb.transpose(0)]}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[315] = "an artist"
    text = PngImagePlugin.PngInfo()
    text.add_text("Copyright", "mine")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    indexed = rgb.quantize(30)
    if kind.startswith("16"):
        path.write_bytes(of_16_bits(6 if "a" in path.stem else 2))
        return path
    picture, settings = {
        "animated.gif": (rgb, more),
        "animated.webp": (rgb, {**more, "lossless": True}),
        "animated.png": (rgb, more),
        "pages.tif": (rgb, more),
        "turned.jpg": (rgb, {**more, "format": "MPO", "exif": exif}),
        "still.gif": (indexed, {"comment": b"hello"}),
        "artist.tif": (rgb, {"tiffinfo": tags}),
        "text.png": (rgb, {"pnginfo": text}),
        "profile.png": (indexed, {"icc_profile": profile, "dpi": (300, 300)}),
        "clear.png": (indexed, {"transparency": bytes([0, 128] + [255] * 28)}),
        "plain.png": (rgb, {}),
    }[kind]
    picture.save(path, **settings)
    return path


ODD = {
    "16.png": "bits beyond 8, its gamma",
    "16a.png": "bits beyond 8, its gamma",
    "animated.gif": "further pictures",
    "animated.webp": "further pictures",
    "animated.png": "further pictures",
    "pages.tif": "further pictures",
    "turned.jpg": "metadata, its further pictures",
    "still.gif": "metadata",
    "artist.tif": "metadata",
    "text.png": "metadata",
    "profile.png": None,
    "clear.png": None,
    "plain.png": None,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_an_odd_file_holds_is_kept_or_said(plain_mender, kind, tmp_path):
    """Its known pixels as they are, and each thing that is lost by its name."""
    image = open_image(odd_file(kind, tmp_path))
    mask = hole(image.size[::-1], slice(3, 8), slice(4, 8))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        filled = plain_mender.fill(image, as_image(2.0 * mask[0] - 1), steps=1)
    lost = [str(each.message) for each in said if each.category is UserWarning]
    assert lost == ([f"not kept of the photo: its {ODD[kind]}."] if ODD[kind] else [])
    known = ~mask[0, 0].numpy()
    before, after = (np.array(each.convert("RGBA")) for each in (image, filled))
    assert np.array_equal(after[known], before[known])
    assert filled.info == {k: v for k, v in image.info.items() if k in ("dpi", "icc_profile")}
    assert ("icc_profile" in filled.info) == (kind == "profile.png")


@pytest.mark.parametrize("most", [255.0, float("nan")])
def test_values_that_are_no_colours_are_refused(plain_mender, plain_scaler, most, tmp_path):
    image = Image.fromarray(np.full((6, 9), most, dtype=np.float32))
    white = as_image(2.0 * hole((6, 9), slice(2, 4), slice(5, 8))[0] - 1)
    with pytest.raises(ValueError, match="mode F should hold 0 to 1, but from .* Scale the values"):
        plain_mender.fill(image, white, steps=1)
    image.save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif is not a picture, or .*mode F should hold 0 to 1"):
        open_image(tmp_path / "a.tif")


def test_an_image_is_turned_upright(plain_scaler, plain_mender):
    """Orientation 6: the pixels lie on their left side."""
    image = as_image(photo(6, 9)[0])
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    large = plain_scaler.enlarge(turned, steps=1)
    assert np.array_equal(np.array(large), np.array(plain_scaler.enlarge(image, steps=1)))
    mask = as_image(2.0 * hole((6, 9), slice(2, 4), slice(5, 8))[0] - 1)
    filled = plain_mender.fill(turned, mask, steps=1)
    assert np.array_equal(np.array(filled), np.array(plain_mender.fill(image, mask, steps=1)))


def test_each_hole_is_filled_by_itself(plain_mender):
    """Whatever other pictures, and other holes far away, come with it."""
    pictures = torch.cat([photo(80, 80), photo(80, 80, top=100)])
    thin, thick = (hole((80, 80), rows, rows) for rows in (slice(8, 11), slice(40, 70)))
    alone = plain_mender.fill(pictures[:1], thin, steps=3)
    beside = plain_mender.fill(pictures, torch.cat([thin, thick]), steps=3)
    both = plain_mender.fill(pictures[:1], thin | thick, steps=3)
    torch.testing.assert_close(beside[:1], alone, atol=1e-4, rtol=0)
    spot = thin.expand_as(alone)
    torch.testing.assert_close(both[spot], alone[spot], atol=1e-4, rtol=0)
    other = torch.where(thin | thick, -pictures[:1], pictures[:1])
    assert torch.equal(
        plain_mender.fill(other, thin | thick, steps=3)[(thin | thick).expand_as(other)],
        both[(thin | thick).expand_as(both)],
    )


def test_two_specks_far_apart_cost_little(plain_mender):
    rows, inner = [], plain_mender.tiled.network

    def counting(x_t, t, condition):
        rows.append(len(x_t))
        return inner(x_t, t, condition)

    plain_mender.tiled.network = counting
    specks = hole((300, 300), slice(0, 2), slice(0, 2)) | hole((300, 300), slice(298, 300), ALL)
    specks[..., 298:, :290] = False
    plain_mender.fill(photo(300, 300, top=0, left=0), specks, steps=1)
    assert sum(rows) <= 8


def test_the_estimate_of_a_filling_counts_its_tiles(plain_mender, monkeypatch):
    """Were one tile to take a second."""
    rows, inner = [], plain_mender.tiled.network
    plain_mender.tiled.network = lambda x, t, c: rows.append(len(x)) or inner(x, t, c)
    pictures, mask = photo(40, 40), hole((40, 40), slice(4, 6), slice(4, 30))
    plain_mender.fill(pictures, mask, scale=2.0, steps=3)
    tiles = sum(rows)
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(pipelines.photo, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    seconds = plain_mender.estimate(pictures, mask, steps=3, scale=2.0)
    assert seconds * rows[-1] == pytest.approx(tiles)


def test_without_a_hole_nothing_changes(plain_mender):
    pictures, mask = photo(), torch.zeros(1, 1, 24, 20, dtype=torch.bool)
    assert torch.equal(plain_mender.fill(pictures, mask), pictures)
    image = as_image(pictures[0])
    assert np.array_equal(np.array(plain_mender.fill(image, Image.new("L", image.size))), image)


def test_seeds_reproduce_a_filling(plain_mender):
    pictures, mask = photo(), hole((24, 20), slice(5, 12), slice(5, 12))
    filled = plain_mender.fill(pictures, mask, steps=4, seed=3)
    assert torch.equal(filled, plain_mender.fill(pictures, mask, steps=4, seed=3))
    for other in (
        plain_mender.fill(pictures, mask, steps=4, seed=4),
        plain_mender.fill(pictures, mask, steps=4, seed=3, scale=3),
    ):
        assert (other - filled).abs().max() > 1e-2
    pair = plain_mender.fill(pictures.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1), steps=4, seed=3)
    torch.testing.assert_close(pair[:1], filled, atol=1e-3, rtol=0)
    assert (pair[1] - pair[0]).abs().max() > 1e-2  # another seed, another filling


def test_the_network_sees_the_hole_as_in_training():
    """Filled smoothly and marked."""
    mender = Mender(told_by_a_picture("input", 4), SCHEDULE, channels=3, size=16)
    conditions, inner = [], mender.tiled.network

    def watched(x_t, t, condition):
        conditions.append(condition)
        return inner(x_t, t, condition)

    mender.tiled.network = watched
    pictures, mask = photo(16, 16), hole((16, 16), slice(3, 9), slice(5, 11))
    mender.fill(pictures, mask, steps=1)
    (condition,) = conditions
    assert torch.equal(condition.image, with_hole(pictures, mask).image)


def test_a_network_relative_to_the_detail_draws_in_units_of_it():
    """One that sees x_0 = 1 everywhere adds as much as the detail around the hole is strong."""

    def network(x_t, t, condition):
        assert condition.image.shape == (1, 11, 16, 16)
        return SCHEDULE.predict_noise(x_t, t, torch.ones_like(x_t))

    pictures, mask = 0.2 * photo(16, 16), hole((16, 16), slice(3, 9), slice(5, 11))
    mender = Mender(network, SCHEDULE, 3, 16, with_hole_and_detail)
    filled = mender.fill(pictures, mask, steps=4)
    contrast = (known_detail(pictures, mask)[1] + 0.01**2).sqrt()
    smooth, sloping = smooth_fill(pictures, mask), biharmonic_fill(pictures, mask)
    apart = ((sloping - smooth) / contrast).clamp(-1.5, 1.5)
    expected = torch.where(mask, smooth + contrast * (apart + 1), pictures)
    torch.testing.assert_close(filled, expected, atol=1e-3, rtol=0)


def test_digits_are_filled():
    recipe = SMALL["digit-inpainting"]
    mender = Mender(randomly(build(recipe)), SCHEDULE, channels=1, size=28)
    pictures, mask = digits("test")[0][:3], hole((28, 28), slice(9, 19), ALL, count=3)
    filled = mender.fill(pictures, mask, steps=2)
    known = ~mask
    assert filled.shape == (3, 1, 28, 28) and torch.equal(filled[known], pictures[known])
    assert not torch.equal(filled[mask], pictures[mask])
    image = mender.fill(as_image(pictures[0]), as_image(2.0 * mask[0] - 1), steps=2)
    assert image.mode == "L" and image.size == (28, 28)
    coloured = Image.merge("RGB", [as_image(pictures[0])] * 2 + [Image.new("L", (28, 28), 90)])
    image = np.array(mender.fill(coloured, as_image(2.0 * mask[0] - 1), steps=2))
    assert (image == np.array(coloured))[~mask[0, 0].numpy()].all()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"photo": photo(8, 8)[:, :1]}, "photo should have shape"),
        ({"photo": photo(8, 8) - 1}, "photo should hold pixels in"),
        ({"photo": None}, "photo should be a float tensor"),
        ({"mask": torch.ones(1, 1, 8, 7).bool()}, "mask should have shape"),
        ({"mask": torch.ones(1, 1, 8, 8)}, "mask should be a bool tensor"),
        ({"mask": None}, "mask should be a bool tensor"),
        (
            {"mask": Image.new("L", (7, 8))},
            "mask should be as large as the photo, 8x8 pixels, but 7x8 came",
        ),
        (
            {"mask": Image.new("L", (8, 8), 1)},
            "mask should be white, 255, in the hole, but the brightest pixel of the one that came "
            "is 1",
        ),
        ({"scale": None}, "scale should be a number"),
        ({"steps": 101}, "steps should be in 1..100"),
        ({"seed": 0.5}, "seed should be a whole number"),
    ],
)
def test_a_mender_refuses(plain_mender, settings, words):
    good = {"photo": photo(8, 8), "mask": hole((8, 8), slice(2, 5), slice(2, 5))}
    with pytest.raises((TypeError, ValueError), match=words):
        plain_mender.fill(**{**good, **settings})


@pytest.fixture(scope="module")
def emoji_artist():
    torch.manual_seed(0)
    network = build(SMALL["emoji"])
    for parameter in network.parameters():  # an untrained network says the same to everybody
        parameter.data += 0.05 * torch.randn_like(parameter)
    return emoji.pipeline(network.eval(), SMALL["emoji"])


def test_emoji_are_drawn_from_words_and_hand(emoji_artist):
    draw = partial(emoji_artist.draw, steps=2)
    alone = draw("a woman who flies planes", hand="blob")
    assert alone.shape == (1, 3, 32, 32) and alone.isfinite().all()
    assert torch.equal(alone, draw(["a woman who flies planes"], hand="blob"))
    assert not torch.allclose(alone, draw("a woman who flies planes", hand="noto"))
    assert not torch.allclose(alone, draw("a red heart", hand="blob"))
    assert torch.equal(draw("❤️"), draw("red heart"))
    both = draw(["a red heart", "a fox"], hand=["noto", "fluent"])
    torch.testing.assert_close(both[:1], draw("a red heart", hand="noto"), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="hand should be one of 'noto', 'blob', .*'picasso'"):
        draw("a fox", hand="picasso")


def test_emoji_are_learned_under_their_names_and_keywords():
    torch.manual_seed(0)
    stream = emoji.batches({"batch": 64, "workers": 0}, None)
    pictures, condition = next(iter(stream))
    assert pictures.shape == (64, 3, 32, 32) and pictures.abs().max() <= 1
    hands = condition.tokens[:, 0] - len(word_vectors())
    assert len(condition) == 64 and set(hands.tolist()) == {1, 2, 3, 4, 5}
    assert condition.mask[:, 1].all()  # every caption has words
    again = next(iter(stream))[1]
    assert again.tokens.shape != condition.tokens.shape or (again.tokens != condition.tokens).any()


def test_every_caption_can_be_told():
    torch.manual_seed(0)
    for name in names_of():
        captions = [emoji.caption(f"{name}") for _ in range(3)]
        assert emoji.emoji_condition(captions, "noto").mask[:, 1].all()


@pytest.mark.parametrize(
    "caption, told",
    [
        ("a woman who flies planes", "woman pilot a woman who flies planes"),
        ("hot coffee in the morning", "hot beverage hot coffee in the morning"),
        ("fox", "fox"),
        ("My red heart", "My red heart"),
        ("a woman pilot dark skin tone", "a woman pilot dark skin tone"),
        ("❤️", " red heart "),
        ("", ""),
        ("heart " * 30, "heart " * 30),
    ],
)
def test_own_words_are_told_with_the_nearest_known_name(caption, told):
    assert emoji.in_known_words(caption) == told
    theirs = emoji.own_words([caption, "fox"], ["blob", "noto"])
    mine = emoji.emoji_condition([told, "fox"], ["blob", "noto"])
    assert torch.equal(theirs.tokens, mine.tokens)


def test_no_name_that_is_held_out_stands_beside_own_words():
    away = names_of("names")
    assert away and not set(away) & set(names_of("train"))
    assert set(away) | set(names_of("train")) <= set(names_of())
    for name in away:
        said = name.replace("-", " ")
        told = emoji.in_known_words(said).removesuffix(said).strip().replace(" ", "-")
        assert told in names_of("train")


@pytest.mark.parametrize("wrong", [3, [3], [], [None]], ids=str)
def test_emoji_captions_are_texts(wrong):
    with pytest.raises(TypeError, match="captions should be a list of captions, but"):
        load("emoji").draw(wrong, steps=1)


def test_drawn_emoji_are_enlarged():
    artist = load("emoji")
    small = artist.draw("a red heart", steps=5, seed=3).clamp(-1, 1)
    large = artist.draw("a red heart", steps=5, seed=3, size=128)
    assert large.shape == (1, 3, 128, 128) and large.abs().max() <= 1
    assert (shrink(large) - small).square().mean().sqrt() < 0.1  # it agrees with the small one
    with pytest.raises(ValueError, match="size should be one of 32, 128, but 64"):
        artist.draw("a fox", size=64)


def test_the_enlarger_learns_what_a_noisy_bicubic_picture_lacks():
    torch.manual_seed(0)
    pictures = torch.rand(64, 3, 32, 32) * 2 - 1
    lack, condition = emoji_enlarger.to_enlarge(pictures)
    plain, level = condition.image[:, :3], (condition.image[:, 3] + 1) / 2
    torch.testing.assert_close(plain + lack / emoji_enlarger.GAIN, pictures)
    assert level.std(dim=(1, 2)).max() < 1e-6 and 0 <= level.min() and level.max() <= 1
    noise = (plain - bicubic(stored(shrink(pictures)))).flatten(1).std(1)
    level = emoji_enlarger.NOISIEST * level[:, 0, 0]
    assert torch.corrcoef(torch.stack([noise, level]))[0, 1] > 0.95


def test_the_enlarger_is_told_of_the_noise_that_it_adds():
    torch.manual_seed(0)
    network = build(SMALL["emoji-enlarger"]).eval()  # untrained: it finds that nothing lacks
    enlarger = emoji_enlarger.pipeline(network, SMALL["emoji-enlarger"])
    low = torch.rand(2, 3, 8, 8) * 2 - 1
    assert enlarger.enlarge(low, steps=2).shape == (2, 3, 32, 32)
    first, again, other = (enlarger.enlarge(low, steps=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="noise should be in"):
        enlarger.enlarge(low, noise=0.5)
    with pytest.raises(ValueError, match="pictures should have shape"):
        enlarger.enlarge(low[:, :1])


@pytest.fixture(scope="module")
def emoji_mender_():
    torch.manual_seed(0)
    network = build(SMALL["emoji-mender"])
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return emoji_mender.pipeline(network.eval(), SMALL["emoji-mender"])


def test_emoji_are_mended_as_the_words_say(emoji_mender_):
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, :, 4:20, 8:24] = mask[1, :, 10:30, 2:9] = True
    fill = partial(emoji_mender_.fill, pictures, mask, steps=2)
    silent, said = fill(), fill("a fox")
    known = ~mask.expand_as(pictures)
    for filled in (silent, said):
        assert torch.equal(filled[known], pictures[known])
    assert not torch.allclose(silent, said) and not torch.allclose(said, fill("a fox", "blob"))
    assert torch.equal(fill("a fox", words_scale=0.0), fill("a cow", words_scale=0.0))
    assert not torch.allclose(said, fill("a fox", scale=2.0))
    both = fill(["a fox", ""], ["blob", None])
    torch.testing.assert_close(both[1], silent[1], atol=1e-4, rtol=0)
    hidden = torch.where(mask, 0.3, pictures)
    torch.testing.assert_close(
        emoji_mender_.fill(hidden, mask, "a fox", steps=2)[mask.expand_as(said)],
        said[mask.expand_as(said)],
    )
    with pytest.raises(ValueError, match="words should be one for each of the pictures, but 3"):
        fill(["a", "b", "c"])
    with pytest.raises(ValueError, match="hand should be None or one of noto"):
        fill("a fox", "picasso")


def test_a_mender_begins_as_the_artist():
    network = build({"name": "emoji-mender", **RECIPES["emoji-mender"]})
    emoji_mender.begin(network, {})
    artist = load("emoji")
    condition = artist.condition(["a red heart", "a fox"])
    x_t, image = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 32, 32)
    told = replace(condition, image=image)
    with torch.no_grad():
        answers = network.eval()(x_t, 500, told), artist.network(x_t, 500, condition)
    torch.testing.assert_close(*answers)


def test_an_emoji_network_is_saved_without_the_frozen_vectors(tmp_path, emoji_artist):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, emoji_artist.network, SMALL["emoji"])
    assert path.stat().st_size < 2e6  # the vectors alone are 15 MB in float16
    drawn = load(path).draw("a fox", steps=2)
    torch.testing.assert_close(drawn, emoji_artist.draw("a fox", steps=2), atol=0.02, rtol=0)


def test_the_judge_of_emoji_tells_name_hand_and_tone():
    names, tones = emoji_judge.labels(["red-heart", "woman-pilot-dark-skin-tone"])
    assert [names_of()[name] for name in names] == ["red-heart", "woman-pilot"]
    assert tones.tolist() == [0, 5]
    torch.manual_seed(0)
    judge = EmojiJudge().eval()
    logits = judge(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert [tuple(each.shape) for each in logits] == [(2, len(names_of())), (2, 5), (2, 6)]


def test_the_judge_of_emoji_learns():
    torch.manual_seed(0)
    judge = EmojiJudge()
    recipe = {"batch": 32, "learning_rate": 2e-3}
    losses = [loss for _, loss, _ in emoji_judge.train(judge, recipe, None, 20)]
    assert sum(losses[-5:]) < sum(losses[:5]) - 1


def test_the_classifier_reads_digits_under_noise_and_knows_when_it_cannot():
    """Of 500 test digits: at least 97% at t = 1, 90% half way; at T it hardly prefers any."""
    classifier = load("digit-classifier")
    pictures, labels = (x[:500] for x in digits("test"))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    schedule = NoiseSchedule.cosine(1000)
    for t, least in ((1, 0.97), (500, 0.9)):
        read = classifier(schedule.add_noise(pictures, t, noise), t).argmax(1)
        assert (read == labels).float().mean() >= least
    assert classifier(noise, 1000).softmax(1).amax() < 0.5
    times = torch.tensor([1, 500])
    both = classifier(pictures[:2], times)
    torch.testing.assert_close(both[:1], classifier(pictures[:1], 1), rtol=1e-3, atol=1e-4)


def test_the_classifier_of_noisy_digits_learns():
    torch.manual_seed(0)
    recipe = {**RECIPES["digit-classifier"], "batch": 32, "name": "digit-classifier"}
    network = build(recipe)
    losses = [
        loss for _, loss, _ in APPLICATIONS["digit-classifier"].train(network, recipe, None, 150)
    ]
    assert sum(losses[-10:]) < sum(losses[:10]) - 2


def test_the_autoencoder_keeps_what_one_sees():
    """Held-out faces come back with 22 dB or more, from a twelfth of their numbers, of variance
    about 1."""
    autoencoder = load("emoji-autoencoder")
    x = torch.cat([emoji_autoencoder.faces(split).pictures for split in ("pairs", "names")])
    x = x / 127.5 - 1
    z = autoencoder.encode(x)
    assert z.shape == (len(x), 4, 16, 16) and 12 * z.numel() == x.numel()
    assert 0.9 < float(z.std()) < 1.1
    errors = (autoencoder.decode(z).clamp(-1, 1) - x).square().flatten(1).mean(1)
    assert float((10 * torch.log10(4 / errors)).mean()) > 22
    torch.testing.assert_close(autoencoder.encode(x[:1]), z[:1], rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="divisible by 4"):
        autoencoder.encode(torch.zeros(1, 3, 30, 32))


def test_the_autoencoder_learns_and_measures_its_spread():
    torch.manual_seed(0)
    recipe = {**RECIPES["emoji-autoencoder"], "batch": 8, "name": "emoji-autoencoder"}
    network = build(recipe)
    assert float(network.spread) == 1
    losses = [loss for _, loss, _ in emoji_autoencoder.train(network, recipe, None, 12)]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.3
    pictures = emoji_autoencoder.faces().pictures / 127.5 - 1
    with torch.no_grad():
        assert float(network.encode(pictures).std()) == pytest.approx(1, abs=1e-3)


def test_faces_are_drawn_in_latents_and_not_clipped():
    artist = load("emoji-latents")
    drawn = artist.draw(["noto", "blob"], scale=1, steps=3)
    assert drawn.shape == (2, 3, 64, 64) and artist.clip is None
    torch.testing.assert_close(artist.draw("noto", 1, 3), drawn[:1], rtol=1e-3, atol=1e-3)
    x_T = start_noise(2, (4, 16, 16))
    denoise = guide(artist.network, emoji_latents.hand_condition(["noto", "blob"]), 1)
    z = last(dpm_solver(denoise, artist.schedule, x_T, 3, clip=None))
    torch.testing.assert_close(load("emoji-autoencoder").decode(z), drawn)
    with pytest.raises(ValueError, match="hand should be"):
        artist.draw(["rembrandt"])


def test_batches_of_latents_are_encoded_faces():
    recipe = RECIPES["emoji-latents"]
    x_0, condition = next(iter(emoji_latents.batches(recipe, None)))
    assert x_0.shape == (recipe["batch"], 4, 16, 16) and len(condition) == recipe["batch"]
    assert 0.7 < float(x_0.std()) < 1.3
    pixels, _ = next(iter(emoji_latents.batches(RECIPES["emoji-pixels"], None)))
    assert pixels.shape == (recipe["batch"], 3, 64, 64) and float(pixels.abs().max()) <= 1


def test_few_steps_begin_with_the_network_before_them():
    """Scale and stride are not yet heard: it is the second network, told the digit three times."""
    recipe = {"name": "digits-shortcut", **RECIPES["digits-shortcut"]}
    network = build(recipe)
    few_steps.begin(network, recipe)
    flow = load("digits-flow").network
    x_s, labels = torch.randn(3, 1, 28, 28), torch.tensor([3, 1, 4])
    thrice = Condition(tokens=labels[:, None].expand(-1, 3))
    with torch.no_grad():
        for scale, stride in ((2.5, 0.25), (1.0, 0.0)):
            found = network(x_s, 400, few_steps.digit_knobs(labels, scale, stride))
            torch.testing.assert_close(found, flow(x_s, 400, thrice))


@pytest.mark.parametrize(("name", "steps"), [("digits-flow", 8), ("digits-shortcut", 2)])
def test_digits_in_few_steps(judge, name, steps):
    drawer, asked = load(name), list(range(10)) * 2
    assert data_path(f"checkpoints/{name}.safetensors").stat().st_size < 3e6
    drawn = drawer.draw(asked, steps=steps)
    assert drawn.shape == (20, 1, 28, 28)
    right = judge(drawn.clamp(-1, 1)).argmax(1) == torch.tensor(asked)
    assert right.float().mean() >= 0.9
    torch.testing.assert_close(
        drawer.draw([5], steps=steps, seed=5), drawn[5:6], rtol=1e-3, atol=1e-3
    )


def test_at_scale_3_guidance_distilled_is_nearer_than_one_told_call():
    flow, student = load("digits-flow").network, load("digits-shortcut").network
    pictures, labels = (x[:40] for x in digits("test"))
    s = torch.full((40,), 0.5)
    x_s, _ = few_steps.straight(pictures, s, torch.randn(pictures.shape))
    t, condition = few_steps.moment(s), digit_condition(labels)
    target = few_steps.distilled_target(flow, x_s, t, condition, torch.full((40,), 3.0))
    with torch.no_grad():
        single = flow(x_s, t, condition)
        distilled = student(x_s, t, few_steps.digit_knobs(labels, 3.0))
    assert (distilled - target).square().mean() < (single - target).square().mean()


def test_two_half_steps_arrive_where_the_target_says():
    """A velocity that depends on everything; in float64, by hand."""

    def velocity(x, s, stride):
        return x * s[:, None] + stride[:, None] ** 2

    x, s, stride = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.25])
    first = torch.tensor([[1.25], [2 * 0.5 + 0.125**2]])
    middle = x - stride[:, None] / 2 * first
    second = middle * torch.tensor([[0.5], [0.375]]) + (stride[:, None] / 2) ** 2
    found = few_steps.shortcut_target(velocity, x, s, stride)
    torch.testing.assert_close(found, (first + second) / 2)


@pytest.mark.parametrize("name", ["digits-flow", "digits-shortcut"])
def test_few_steps_learn(name):
    """From untrained weights, a small network: the error of the velocity falls."""
    torch.manual_seed(0)
    recipe = {**SMALL[name], "learning_rate": 5e-3}
    network = build(recipe)
    losses = [loss for _, loss, _ in few_steps.train(network, recipe, None, 40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_contrastive_loss_by_hand():
    """Two pairs whose cosines are known, of any length; and nothing told apart costs log B."""
    z_i = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    z_t = torch.tensor([[0.6, 0.8], [0.0, 5.0]])
    logits = torch.tensor([[0.6, 0.0], [0.8, 1.0]]) / 0.5
    rows = (logits.logsumexp(1) - logits.diagonal()).mean()
    columns = (logits.logsumexp(0) - logits.diagonal()).mean()
    found = two_towers.contrastive_loss(z_i, z_t, 0.5)
    torch.testing.assert_close(found, (rows + columns) / 2)
    same = torch.ones(7, 3)
    assert float(two_towers.contrastive_loss(same, same, 0.07)) == pytest.approx(math.log(7))


def test_towers_find_names_that_they_never_saw():
    """Of 56 held-out names their own is the nearest for 40% of the pictures or more; chance: 2%."""
    towers, held_out = load("emoji-towers"), real_emoji("names", 32)
    names = sorted(set(held_out.names))
    z_i = towers.of_pictures(held_out.pictures / 127.5 - 1)
    z_t = towers.of_texts([name.replace("-", " ") for name in names])
    for z in (z_i, z_t):
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
    nearest = (z_i @ z_t.T).argmax(1).tolist()
    right = [names[row] == name for row, name in zip(nearest, held_out.names, strict=True)]
    assert len(names) > 50 and sum(right) > 0.4 * len(right)
    with pytest.raises(TypeError, match="list of captions"):
        towers.of_texts("a cat")


def test_the_prior_draws_what_the_text_says():
    """Embeddings of length 1, which differ with the seed; among all names that of the text is one
    of the nearest five to most of them, as it is for real pictures. Chance: 3 in 1,000."""
    towers, prior = load("emoji-towers"), load("emoji-prior")
    rows = torch.arange(0, len(names_of()), 20)
    z_t = towers.of_texts([name.replace("-", " ") for name in names_of()])
    drawn, others = (prior.draw(z_t[rows], scale=2, seed=seed) for seed in (0, 1000))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(len(rows)))
    assert 0.3 < float((drawn * others).sum(1).mean()) < 0.95
    nearest = (drawn @ z_t.T).topk(5, dim=1).indices
    assert float((nearest == rows[:, None]).any(1).float().mean()) > 0.7
    first = prior.draw(z_t[rows[:1]], scale=2)
    torch.testing.assert_close(first, drawn[:1], rtol=1e-3, atol=1e-3)


def test_a_prior_guesses_the_embedding_and_says_it_as_noise():
    recipe = {"name": "emoji-prior", **RECIPES["emoji-prior"]}
    network = build(recipe)
    x_t, t = torch.randn(3, 64), torch.tensor([1, 500, 1000])
    condition = two_towers.said(torch.randn(3, 64))
    guess, noise = network.guess(x_t, t, condition), network(x_t, t, condition)
    again = network.schedule.predict_x0(x_t, t, noise)
    torch.testing.assert_close(again, guess, rtol=1e-3, atol=1e-3)
    untold = network.guess(x_t, t, condition.absent())
    torch.testing.assert_close(
        network.guess(x_t, t, two_towers.said(torch.randn(3, 64)).absent()), untold
    )
    z_i = torch.randn(3, 64)
    loss = two_towers.prior_loss(network.guess, network.schedule, z_i, condition, t, x_t)
    shown = network.guess(network.schedule.add_noise(z_i, t, x_t), t, condition)
    torch.testing.assert_close(loss, (shown - z_i).square().mean())


def test_variations_show_what_the_embedding_holds():
    """Of 20 emoji of the training split, each drawn from its embedding alone: the picture tower
    sees in nearly all of them the one that was told, and no other of the 20."""
    towers, decoder = load("emoji-towers"), load("emoji-decoder")
    seen = real_emoji("train", 32)
    plain = [row for row, name in enumerate(seen.names) if not TONE.search(name)]
    z_i = towers.of_pictures(seen.pictures[plain[:: len(plain) // 20][:20]] / 127.5 - 1)
    drawn = decoder.draw(z_i, scale=2, steps=10)
    assert drawn.shape == (20, 3, 32, 32)
    nearest = (towers.of_pictures(drawn.clamp(-1, 1)) @ z_i.T).argmax(1)
    assert int((nearest == torch.arange(20)).sum()) >= 18


@pytest.mark.parametrize(
    ("name", "steps", "batch", "less"),
    [("emoji-towers", 12, 24, 0.05), ("emoji-prior", 24, 24, 0.05), ("emoji-decoder", 2, 4, None)],
)
def test_towers_prior_and_decoder_learn(name, steps, batch, less):
    """From untrained weights; of the decoder it is the beginning that brings it close."""
    torch.manual_seed(0)
    recipe = {"name": name, **RECIPES[name], "batch": batch, "begin_steps": 12}
    network = build(recipe)
    if name == "emoji-decoder":
        heard = load("emoji").network.encode_tokens(emoji.told(["a red heart"], ["noto"])).tokens
        z_i = torch.randn(4, 64)
        far = float((network(z_i).detach().mean((0, 1)) - heard.mean((0, 1))).norm())
        two_towers.begin(network, recipe)
        near = float((network(z_i).detach().mean((0, 1)) - heard.mean((0, 1))).norm())
        assert near < far
    before = [p.clone() for p in network.parameters()]
    losses = [loss for _, loss, _ in two_towers.train(network, recipe, None, steps)]
    assert all(map(math.isfinite, losses))
    assert any(not torch.equal(*both) for both in zip(before, network.parameters(), strict=True))
    if less is not None:
        assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - less
