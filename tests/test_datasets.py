"""Digits, captioned shapes, photos, the data folder and batches."""

import io
import itertools
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.measure
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from cfd_course import Condition
from cfd_course.datasets import batches, data_path
from cfd_course.datasets.digits import digit_condition, digits
from cfd_course.datasets.emoji import HANDS, TONE, emoji, plain, spell_out
from cfd_course.datasets.photos import (
    as_image,
    as_tensor,
    back_project,
    bicubic,
    biharmonic_fill,
    box_holes,
    crops,
    free_form_holes,
    half_holes,
    known_detail,
    open_image,
    open_photo,
    photos,
    read_photo,
    shrink,
    smooth_fill,
)
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
    SceneStream,
    canonical,
    coverage,
    parse,
    sample_scenes,
)
from cfd_course.metrics import shows
from cfd_course.text import tokenise

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


@pytest.mark.parametrize("holds", [b"", b"no MNIST"])
def test_damaged_digits_are_named_and_not_downloaded_over(holds, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(holds)
    with pytest.raises(ValueError, match="raw is damaged. Move it away"):
        digits("test", tmp_path)
    assert all(path.read_bytes() == holds for path in raw.iterdir())


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
    with pytest.raises(TypeError, match="labels should be an int tensor"):
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
    with pytest.raises(TypeError, match="generator should be of type Generator"):
        sample_scenes(1, generator=3)


@pytest.mark.parametrize(
    "objects, relation",
    [([96, 0], 0), ([-1, 0], 0), ([0, -2], -1), ([0, -1], 0), ([0, 1], -1), ([0, 1], 4)],
)
def test_scenes_reject(objects, relation):
    with pytest.raises(ValueError, match="objects should be in 0..95 and relations in 0..3"):
        Scenes(torch.tensor([objects]), torch.tensor([relation]), torch.full((1, 2, 2), 16.0))


# --- A stream of scenes ---------------------------------------------------------------------------


def test_a_stream_gives_pictures_of_its_captions():
    captions = []

    def condition(these):
        captions.append(these)
        return tokenise(these)

    stream = SceneStream(300, condition)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = itertools.islice(stream, 2)
        torch.manual_seed(0)
        again = next(iter(stream))
    for (pictures, told), these in zip((first, second), captions, strict=False):
        assert pictures.shape == (300, 3, 32, 32) and len(told) == 300
        assert torch.equal(told.tokens, tokenise(these).tokens)
        assert shows(pictures, these).float().mean() >= 0.99
        names = [name for caption in these for name in objects_of(caption)]
        assert not {name.split(" ", 1)[1] for name in names} & HELD_OUT_BINDINGS
    assert captions[0] != captions[1]
    assert captions[2] == captions[0] and torch.equal(again[0], first[0])


def test_a_stream_rejects():
    with pytest.raises(ValueError, match="size should be at least 1"):
        SceneStream(0, tokenise)
    with pytest.raises(TypeError, match=r"condition should be callable as condition\(captions\)"):
        SceneStream(4, tokenise(["a small red star"]))


# --- Photos from files ----------------------------------------------------------------------------


def chelsea() -> np.ndarray:
    """A photo that no network was trained on, [300, 448, 3]."""
    return skimage.data.chelsea()[:, :448]


def as_batch(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1


SMALL_PHOTO = chelsea()[100:140, 100:160]  # [40, 60, 3]
GREY = SMALL_PHOTO[..., 0]


def test_photos_come_in_the_order_of_their_names(tmp_path):
    for name in ("b.png", "a.PNG", "c.bmp", "d.tiff"):
        Image.fromarray(SMALL_PHOTO[: 20 + ord(name[0]) % 7]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "folder").mkdir()
    found = photos(tmp_path)
    assert [picture.shape[1] for picture in found] == [20 + ord(name) % 7 for name in "abcd"]
    for picture in found:
        assert picture.dtype == torch.uint8
        assert torch.equal(
            picture.permute(1, 2, 0), torch.from_numpy(SMALL_PHOTO[: picture.shape[1]])
        )
    assert len(photos(str(tmp_path))) == 4


def test_folders_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        photos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"should hold pictures \(.jpg, .*\), but there are none"):
        photos(tmp_path)
    with pytest.raises(TypeError, match="folder should be a path"):
        photos(3)
    with pytest.raises(FileNotFoundError, match="there is no file .*none.png"):
        open_photo(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("left", ["nothing", "text", 4, 20, 0.3, 0.8])
def test_a_damaged_file_is_named(suffix, left, tmp_path):
    Image.fromarray(SMALL_PHOTO).save(tmp_path / f"a.{suffix}")
    damaged = tmp_path / f"damaged.{suffix}"
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    if left == "text":
        damaged.write_text("this is no picture at all, however long one looks at it")
    else:
        kept = {"nothing": 0}.get(left, left)
        damaged.write_bytes(whole[: round(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=rf"damaged.{suffix} is not a picture, or damaged"):
        photos(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    Image.fromarray(SMALL_PHOTO).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="huge.png is not a picture, or damaged, or huge"):
        open_photo(tmp_path / "huge.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation, tmp_path):
    """As a camera stores it: the pixels as they were, and how they are to be turned."""
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation](SMALL_PHOTO)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(
        read_photo(tmp_path / "a.png").permute(1, 2, 0), torch.from_numpy(SMALL_PHOTO)
    )


def test_odd_metadata_stop_nothing(tmp_path):
    """An orientation beside entries of odd types: the photo is turned all the same."""
    buffer = io.BytesIO()
    Image.fromarray(SMALL_PHOTO).save(buffer, "JPEG")
    plain = buffer.getvalue()
    odd = [(0x128, 1, 1, 0), (0x10E, 11, 1, 0), (0x11A, 6, 1, 200), (0x128, 4, 1, 2**31 + 5)]
    for number, entry in enumerate(odd):
        body = b"II*\0" + struct.pack("<LH", 8, 2) + struct.pack("<HHLL", 0x112, 3, 1, 6)
        body += struct.pack("<HHLL", *entry) + struct.pack("<L", 0) + bytes(200)
        segment = b"Exif\0\0" + body
        length = struct.pack(">H", len(segment) + 2)
        (tmp_path / f"{number}.jpg").write_bytes(
            plain[:2] + b"\xff\xe1" + length + segment + plain[2:]
        )
    assert [picture.shape for picture in photos(tmp_path)] == [(3, 60, 40)] * 4


def test_a_folder_as_people_have_it(tmp_path, capsys):
    Image.fromarray(SMALL_PHOTO).save(tmp_path / "a.png")
    Image.fromarray(SMALL_PHOTO[:5, :7]).save(tmp_path / "small.png")
    (tmp_path / "._a.png").write_bytes(b"what another system says of a.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "trip.jpg").mkdir()
    (found,) = photos(tmp_path, least=16)
    assert found.shape == (3, 40, 60)
    said = capsys.readouterr().out
    assert "1 pictures; left out 4" in said
    for name in ("._a.png (hidden)", "notes.txt", "trip.jpg (a folder)", "small.png (7x5 pixels)"):
        assert name in said
    with pytest.raises(ValueError, match="of 64 pixels or more a side, but there are none"):
        photos(tmp_path, least=64)
    loader = crops([PLACES, PLACES[:, :5]], 16, 4, lambda pieces: (pieces, None), repeats=4)
    assert next(iter(loader))[0].shape == (4, 3, 16, 16)
    assert "1 of 2 pictures are too small" in capsys.readouterr().out


def kinds_of_files() -> dict[str, tuple[Image.Image, str, np.ndarray]]:
    """kind: (what is in the file, its suffix, what it shows)"""
    whole = Image.fromarray(SMALL_PHOTO)
    transparent = np.dstack([SMALL_PHOTO, np.where(GREY > 100, 255, 0).astype(np.uint8)])
    on_white = np.where(transparent[..., 3:] == 255, SMALL_PHOTO, 255)
    stripes = np.zeros((40, 60), np.uint8)
    stripes[:, ::2] = 1
    palette = Image.fromarray(stripes, "P")
    palette.putpalette([250, 10, 20, 30, 40, 240])
    see_through = palette.copy()
    see_through.info["transparency"] = 1
    colours = np.array([[250, 10, 20], [30, 40, 240]], np.uint8)
    deep = (np.arange(40 * 60).reshape(40, 60) * 27).astype(np.uint16)
    return {
        "RGB": (whole, "png", SMALL_PHOTO),
        "RGBA": (Image.fromarray(transparent), "png", on_white),
        "greyscale": (Image.fromarray(GREY), "png", GREY),
        "greyscale with alpha": (
            Image.fromarray(np.dstack([GREY, transparent[..., 3]]), "LA"),
            "png",
            np.where(transparent[..., 3:] == 255, GREY[..., None], 255).repeat(3, 2),
        ),
        "16 bits": (Image.fromarray(deep), "png", (deep / 257).round().astype(np.uint8)),
        "16 bits TIFF": (Image.fromarray(deep), "tif", (deep / 257).round().astype(np.uint8)),
        "floats": (Image.fromarray(GREY.astype(np.float32) / 255), "tif", GREY),
        "black and white": (
            Image.fromarray(GREY > 100),
            "png",
            (255 * (GREY > 100)).astype(np.uint8),
        ),
        "palette": (palette, "png", colours[stripes]),
        "palette with a transparent colour": (
            see_through,
            "png",
            np.where(stripes[..., None] == 1, 255, colours[stripes]),
        ),
        "CMYK": (whole.convert("CMYK"), "tif", np.array(whole.convert("CMYK").convert("RGB"))),
    }


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", list(kinds_of_files()))
def test_every_kind_of_file(kind, tmp_path):
    picture, suffix, expected = kinds_of_files()[kind]
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    found = open_photo(path)
    assert found.mode == ("L" if expected.ndim == 2 else "RGB")
    assert np.array_equal(np.array(found), expected)
    colour = expected if expected.ndim == 3 else expected[..., None].repeat(3, 2)
    assert torch.equal(read_photo(path).permute(1, 2, 0), torch.from_numpy(colour.astype(np.uint8)))


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", list(kinds_of_files()))
def test_an_image_carries_what_its_file_does(kind, tmp_path):
    """Also after its file is gone."""
    picture, suffix, _ = kinds_of_files()[kind]
    path = tmp_path / f"a.{suffix}"
    picture.save(path, dpi=(300, 300))
    found = open_image(path)
    with Image.open(path) as plain:
        plain.load()
    path.unlink()
    assert (found.mode, found.size, found.tobytes()) == (plain.mode, plain.size, plain.tobytes())
    assert (found.palette and found.getpalette(None)) == (plain.palette and plain.getpalette(None))
    assert found.info.items() >= plain.info.items()


@pytest.mark.parametrize("opened", [open_image, open_photo])
def test_values_that_cannot_be_shown_are_named(opened, tmp_path):
    """By whoever opens the file, also as it is."""
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "bright.tif")
    with pytest.raises(ValueError, match=r"bright.tif is not a picture.*mode F should hold 0 to 1"):
        opened(tmp_path / "bright.tif")


@pytest.mark.parametrize("pixels", [SMALL_PHOTO, GREY], ids=["RGB", "L"])
def test_images_and_tensors(pixels):
    tensor = as_tensor(Image.fromarray(pixels))
    assert tensor.shape == (1, pixels.ndim == 3 and 3 or 1, 40, 60)
    torch.testing.assert_close(
        tensor[0, 0], torch.from_numpy(pixels.reshape(40, 60, -1)[..., 0] / 127.5 - 1).float()
    )
    assert np.array_equal(np.array(as_image(tensor[0])), pixels)
    assert np.array_equal(
        np.array(as_image(3 * tensor[0].sign())), np.where(pixels > 127.5, 255, 0)
    )
    with pytest.raises(TypeError, match="picture should be of type Image"):
        as_tensor(pixels)
    with pytest.raises(ValueError, match="the mode of picture should be one of 'L', 'RGB'"):
        as_tensor(Image.fromarray(pixels).convert("CMYK"))
    with pytest.raises(ValueError, match="picture should have shape"):
        as_image(tensor)
    with pytest.raises(ValueError, match="the channels of picture should be one of 1, 3"):
        as_image(torch.zeros(2, 4, 4))


# --- Pieces of photos -----------------------------------------------------------------------------

# Every pixel says where it comes from: in red its column, in green its row.
PLACES = torch.stack(
    [
        (5 * torch.arange(50)).expand(40, 50),
        (6 * torch.arange(40))[:, None].expand(40, 50),
        torch.zeros(40, 50),
    ]
).byte()


def places_of(pieces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column in PLACES of each pixel of pieces [B, 3, s, s], both [B, s, s]."""
    values = ((pieces + 1) * 127.5).round().long()
    assert not values[:, 2].any()
    return values[:, 1] // 6, values[:, 0] // 5


def test_crops_are_pieces_of_the_photos():
    """Of anywhere, in all eight ways to turn and mirror."""
    loader = crops([PLACES], 16, 50, lambda pieces: (pieces, None), repeats=500)
    assert len(loader) == 10
    turns, tops, lefts = set(), set(), set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batches_ = list(loader)
    for pieces, condition in batches_:
        assert pieces.shape == (50, 3, 16, 16) and pieces.dtype == torch.float32
        assert condition is None
        rows, columns = places_of(pieces)
        for row, column in zip(rows, columns, strict=True):
            top, left = int(row.min()), int(column.min())
            corner = torch.stack([row, column])[:, 0, 0]
            down, right = (torch.stack([row, column])[:, *step] for step in ((1, 0), (0, 1)))
            turns.add((*(down - corner).tolist(), *(right - corner).tolist()))
            tops.add(top)
            lefts.add(left)
            block = {(r, c) for r in range(top, top + 16) for c in range(left, left + 16)}
            assert set(zip(row.flatten().tolist(), column.flatten().tolist(), strict=True)) == block
    assert len(turns) == 8
    assert tops == set(range(40 - 16 + 1)) and lefts == set(range(50 - 16 + 1))


def test_crops_follow_the_seed():
    loader = crops([PLACES, PLACES.flip(2)], 8, 3, lambda pieces: (pieces, None), repeats=4)
    runs = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            runs.append(torch.cat([pieces for pieces, _ in loader]))
    assert len(loader) == 2 and runs[0].shape == (6, 3, 8, 8)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_crops_of_the_whole_photo_and_what_prepare_makes_of_them():
    whole = PLACES[:, :40, :40]
    loader = crops([whole] * 3, 40, 3, lambda pieces: (-pieces, Condition(image=pieces)))
    x_0, condition = next(iter(loader))
    assert torch.equal(x_0, -condition.image) and x_0.shape == (3, 3, 40, 40)


def test_crops_reject():
    def prepare(pieces):
        return pieces, None

    for arguments, words in (
        (([PLACES], 41, 1, prepare), "at least 41 pixels high and wide, but 40x50 came"),
        (([], 8, 1, prepare), "but none at all came"),
        (([PLACES], 0, 1, prepare), "size should be at least 1"),
        (([PLACES], 8, 2, prepare), "batch should be in 1..1, but 2 came"),
        (([PLACES], 8, 1, None), r"prepare should be callable as prepare\(pictures\)"),
        (([PLACES.float()], 8, 1, prepare), "pictures should be uint8 tensors"),
        ((PLACES, 8, 1, prepare), "pictures should be of type list"),
        (([PLACES], 8, 1, prepare, 0), "repeats should be at least 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            crops(*arguments)


# --- To enlarge -----------------------------------------------------------------------------------


def by_pillow(pictures: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Each channel of [1, C, H, W] resized by Pillow in float32."""
    channels = [
        np.array(Image.fromarray(c.numpy()).resize((width, height), Image.Resampling.BICUBIC))
        for c in pictures[0]
    ]
    return torch.from_numpy(np.stack(channels))[None]


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_and_enlarging_are_pillows(factor):
    """To 1e-4 in floats; on files, where Pillow rounds between its two passes, to one step of
    256."""
    photo = chelsea()
    pictures, (height, width) = as_batch(photo), photo.shape[:2]
    small = shrink(pictures, factor)
    assert small.shape == (1, 3, height // factor, width // factor)
    size = (width // factor, height // factor)
    torch.testing.assert_close(small, by_pillow(pictures, *size), atol=1e-4, rtol=0)
    large = bicubic(small, factor)
    torch.testing.assert_close(large, by_pillow(small, width, height), atol=1e-4, rtol=0)
    theirs = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    steps = np.array(as_image(small[0])).astype(int) - np.array(theirs)
    assert abs(steps).max() <= 1


def test_back_projection_comes_to_agree():
    """Each round is nearer, by the root mean square in 0..255; the five of the default reach
    0.2."""
    low = shrink(as_batch(chelsea()))
    left = [
        127.5
        * float((shrink(back_project(bicubic(low), low, rounds)) - low).square().mean().sqrt())
        for rounds in range(8)
    ]
    assert all(after < 0.9 * before for before, after in zip(left, left[1:], strict=False))
    assert left[0] > 1.5 and left[5] < 0.2
    assert torch.equal(back_project(bicubic(low), low), back_project(bicubic(low), low, 5))
    assert torch.equal(back_project(bicubic(low), low, 0), bicubic(low))


def test_back_projection_leaves_what_agrees():
    pictures = as_batch(chelsea())
    torch.testing.assert_close(
        back_project(pictures, shrink(pictures)), pictures, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: shrink(x[..., :6]), "divisible by 4, but 8x6 came"),
        (lambda x: shrink(x, 0), "factor should be at least 1"),
        (lambda x: shrink(x[0]), "pictures should have shape"),
        (lambda x: bicubic(x.byte()), "pictures should be a float tensor"),
        (lambda x: bicubic(x, 1.5), "factor should be a whole number"),
        (lambda x: back_project(x, x), "low should have shape"),
        (lambda x: back_project(x, shrink(x), -1), "rounds should be at least 0"),
    ],
)
def test_resizing_rejects(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(torch.zeros(1, 3, 8, 8))


# --- To fill --------------------------------------------------------------------------------------

HOLES = {
    "box": lambda count, size, generator: box_holes(count, size, 6, generator),
    "half": lambda count, size, generator: half_holes(count, size, generator),
    "free-form": lambda count, size, generator: free_form_holes(count, size, 4, generator),
}


@pytest.mark.parametrize("kind", HOLES)
def test_holes_follow_the_generator(kind):
    one, same, other = (
        HOLES[kind](50, 16, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert one.shape == (50, 1, 16, 16) and one.dtype == torch.bool
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert len({tuple(hole.flatten().tolist()) for hole in one}) >= (4 if kind == "half" else 30)
    assert one.flatten(1).any(1).all() and not one.flatten(1).all(1).any()


def test_boxes_are_squares_of_the_side_anywhere(generator):
    holes = box_holes(400, 8, 6, generator)[:, 0]
    assert (holes.sum((1, 2)) == 36).all()
    rows, columns = holes.any(2), holes.any(1)
    assert (rows.sum(1) == 6).all() and (columns.sum(1) == 6).all()
    corners = set(zip(rows.int().argmax(1).tolist(), columns.int().argmax(1).tolist(), strict=True))
    assert corners == {(top, left) for top in range(3) for left in range(3)}
    assert box_holes(2, 8, 8, generator).all()


@pytest.mark.parametrize("size", [8, 7])
def test_halves_are_halves(size, generator):
    """Each of the four about as often: within five standard deviations."""
    holes = half_holes(400, size, generator)[:, 0]
    left = (torch.arange(size) < size // 2).expand(size, size)
    kinds = torch.stack([left, ~left, left.T, ~left.T])
    which = (holes[:, None] == kinds).flatten(2).all(2)
    assert (which.sum(1) == 1).all()
    assert (which.sum(0) - 100).abs().max() < 5 * math.sqrt(400 * 0.25 * 0.75)


def test_free_form_holes_are_thick_strokes(generator):
    """Each stroke is one piece, nowhere thinner than 3 of 64 pixels, and hides some but not all;
    more strokes hide more."""
    single = free_form_holes(60, 64, 1, generator)
    pieces = [skimage.measure.label(hole[0].numpy()).max() for hole in single]
    assert pieces == [1] * 60
    four = free_form_holes(200, 64, generator=generator)
    assert max(skimage.measure.label(hole[0].numpy()).max() for hole in four) <= 4
    for holes in (single, four):
        core = -F.max_pool2d(-F.pad(holes.float(), [1] * 4, value=1), 3, stride=1)
        assert core.flatten(1).any(1).all()  # a square of 3x3 fits
    shares = [holes.float().mean() for holes in (single, four)]
    assert 0.03 < shares[0] < shares[1] < 0.5


def test_holes_reject():
    for make in (box_holes, half_holes, free_form_holes):
        side = (4,) if make is box_holes else ()
        for arguments, words in (
            ((0, 8, *side), "count should be at least 1"),
            ((2, 0, *side), "size should be at least 1"),
            ((2.0, 8, *side), "count should be a whole number"),
        ):
            with pytest.raises((TypeError, ValueError), match=words):
                make(*arguments)
        with pytest.raises(TypeError, match="generator should be of type Generator"):
            make(2, 8, *side, generator=3)
    with pytest.raises(ValueError, match="side should be in 1..8, but 9 came"):
        box_holes(2, 8, 9)
    with pytest.raises(ValueError, match="strokes should be at least 1"):
        free_form_holes(2, 8, 0)


def test_a_smooth_filling_is_exact_where_all_is_flat_and_close_on_a_slope():
    mask = box_holes(1, 32, (12, 9), torch.Generator().manual_seed(0))
    flat = torch.full((1, 3, 32, 32), 0.25)
    torch.testing.assert_close(smooth_fill(flat, mask), flat)
    slope = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    assert (smooth_fill(slope, mask, 200) - slope).abs().max() < 0.01


def test_a_biharmonic_filling_is_scikit_images_and_carries_slopes_on():
    random = torch.Generator().manual_seed(0)
    mask = F.pad(box_holes(3, 24, (12, 9), random), (4, 4, 4, 4))
    slope = torch.linspace(-1, 1, 32).expand(3, 3, 32, 32)
    torch.testing.assert_close(biharmonic_fill(slope, mask), slope, atol=1e-4, rtol=0)
    pictures = torch.rand(3, 3, 32, 32, generator=random) * 2 - 1
    for filled, picture, hole in zip(biharmonic_fill(pictures, mask), pictures, mask, strict=True):
        colours_last = picture.permute(1, 2, 0).double().numpy()
        expected = inpaint_biharmonic(colours_last, hole[0].numpy(), channel_axis=2)
        expected = torch.from_numpy(expected).permute(2, 0, 1).float()
        torch.testing.assert_close(filled, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fill", [smooth_fill, biharmonic_fill])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 9), (7, 5), (32, 32)])
def test_a_filling_looks_at_known_pixels_only(size, fill):
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, *size, generator=random) * 2 - 1
    mask = torch.rand(2, 1, *size, generator=random) < 0.6
    filled = fill(pictures, mask)
    assert torch.equal(filled[~mask.expand_as(filled)], pictures[~mask.expand_as(filled)])
    assert torch.equal(fill(torch.where(mask, 5.0, pictures), mask), filled)
    assert filled.abs().max() <= 1
    assert torch.equal(fill(pictures, torch.zeros_like(mask)), pictures)
    assert not fill(pictures, torch.ones_like(mask)).any()
    detail, power = known_detail(pictures, mask)
    assert not detail[mask.expand_as(detail)].any() and power.min() >= 0
    for found, again in zip(
        (detail, power), known_detail(torch.where(mask, 5.0, pictures), mask), strict=True
    ):
        assert torch.equal(found, again)


def test_known_detail_is_what_a_pixel_adds_to_the_known_ones_around():
    """Held against numpy, pixel by pixel; in the hole the contrast of the grain around it."""
    random = torch.Generator().manual_seed(0)
    pictures = 0.1 * torch.randn(1, 3, 24, 24, generator=random)
    mask = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    mask[..., 8:14, 10:15] = True
    detail, power = known_detail(pictures, mask, window=5)
    values = np.where(mask[0], np.nan, pictures[0]).astype(float)
    expected = np.full_like(values, np.nan)
    for row, column in np.argwhere(~mask[0, 0].numpy()):
        around = values[:, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        expected[:, row, column] = values[:, row, column] - np.nanmean(around, axis=(1, 2))
    np.testing.assert_allclose(detail[0], np.nan_to_num(expected), atol=1e-6)
    around = expected[:, :5, :5]
    np.testing.assert_allclose(power[0, 0, 2, 2], (around**2).mean(), rtol=1e-5)
    assert ((0.06**2 < power) & (power < 0.14**2))[mask].all()
    flat = torch.full((1, 3, 24, 24), 0.3)
    detail, power = known_detail(flat, mask)
    assert detail.abs().max() < 1e-6 and power.abs().max() < 1e-12
    with pytest.raises(ValueError, match="window should be odd, to have a middle, but 4 came"):
        known_detail(pictures, mask, window=4)


def test_emoji_are_split_as_they_say():
    """What is held out is seen in other hands, in other tones, or not at all."""
    parts = {split: emoji(split, 8) for split in ("train", "pairs", "names", "family")}
    counts = {split: len(part.names) for split, part in parts.items()}
    assert counts == {"train": 11_174, "pairs": 236, "names": 230, "family": 233}
    drawn = {
        split: set(zip(part.names, part.hands.tolist(), strict=True))
        for split, part in parts.items()
    }
    assert sum(map(len, drawn.values())) == sum(counts.values()) == len(set.union(*drawn.values()))
    names = {split: {name for name, _ in found} for split, found in drawn.items()}
    seen = {plain(name) for name in names["train"]}
    assert not names["names"] & seen
    assert all(name in seen and not TONE.search(name) for name in names["pairs"])
    for name, hand in drawn["pairs"]:  # nor in a skin tone
        assert not any(plain(n) == name and h == hand for n, h in drawn["train"] | drawn["family"])
    tones = {TONE.search(name)[1] for name in names["train"] if TONE.search(name)}
    assert not names["family"] & names["train"] and len(tones) == 5
    people = {plain(name) for name in names["train"] if TONE.search(name)}
    assert len({name for name in names["family"] if plain(name) in people}) >= 0.9 * len(
        names["family"]
    )


def test_emoji_look_like_their_names():
    """The heart is red in every hand (a fifth is held out), and the corners are white."""
    pictures, names, hands = emoji("train")
    assert pictures.shape[1:] == (3, 64, 64) and pictures.dtype == torch.uint8
    hearts = pictures[[i for i, name in enumerate(names) if name == "red-heart"]].float()
    assert len(hearts) == 4 and (hearts[:, 0, 28:36, 28:36] > 150).all()
    assert (hearts[:, 1:, 28:36, 28:36] < 150).all() and (hearts[:, :, 0, 0] == 255).all()
    assert set(hands.tolist()) == set(range(len(HANDS)))
    small = emoji("train", 32).pictures
    block = pictures[:50].float().unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (small[:50] - block).abs().max() <= 0.5


def test_an_emoji_in_a_caption_is_spelt_out():
    assert spell_out("a 👩‍✈️ on a 🐎!").split() == "a woman pilot on a horse !".split()
    assert spell_out("❤").split() == spell_out("❤️").split() == ["red", "heart"]
    assert spell_out("👩🏿‍✈️").split() == "woman pilot dark skin tone".split()
    assert spell_out("no emoji: ©") == "no emoji: ©"


@pytest.mark.parametrize("split, size, wanted", [("test", 64, "split"), ("train", 48, "size")])
def test_emoji_of_no_such_split_or_size_are_refused(split, size, wanted):
    with pytest.raises(ValueError, match=f"{wanted} should be "):
        emoji(split, size)
