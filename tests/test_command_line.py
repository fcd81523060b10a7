"""The command line: what it writes, and that a user's mistake is one line."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cfd_course
from cfd_course import measuring
from cfd_course.__main__ import DRAWS, ENLARGES, FILLS, MEASURED_WITH, app
from cfd_course.checkpoints import load_checkpoint, save_checkpoint
from cfd_course.classroom import lessons
from cfd_course.datasets import data_path
from cfd_course.pipelines import RECIPES, Artist, Mender, Scaler, build, load, sitting
from tests import windows

# Networks that train and draw in no time.
SMALL = {
    name: {**recipe, "network": {**recipe["network"], "channels": [8, 8], "attention": [1]}}
    for name, recipe in RECIPES.items()
    if "network" in recipe
}
CAPTION = "a small red star above a large blue circle"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty folder, with the small network for the big one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CFD_DATA", raising=False)
    monkeypatch.setitem(RECIPES, "digits", SMALL["digits"] | {"batch": 4})
    return lambda *words, **console: CliRunner(**console).invoke(app, list(map(str, words)))


@pytest.fixture
def model(tmp_path):
    """model(name): the file of an untrained small checkpoint."""

    def save(name: str) -> Path:
        torch.manual_seed(0)
        path = tmp_path / f"{name}.safetensors"
        recipe = {"name": name, **SMALL[name], "sittings": []}
        save_checkpoint(path, build(recipe), recipe)
        return path

    return save


@pytest.fixture
def small(model):
    return model("digits")


@pytest.fixture
def picture(tmp_path):
    """picture(name, mode, (width, height)): a file of random pixels."""

    def save(name: str, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> Path:
        random = np.random.default_rng(0)
        bands = len(Image.new(mode, (1, 1)).getbands())
        kind, top = (np.uint16, 65536) if mode == "I;16" else (np.uint8, 256)
        values = random.integers(0, top, (size[1], size[0], bands)).astype(kind)
        path = tmp_path / name
        Image.fromarray(values[..., 0] if bands == 1 else values).save(path)
        return path

    return save


def python(*words, cwd) -> subprocess.CompletedProcess:
    """`python -m cfd_course` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(cfd_course.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "cfd_course", *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_help_names_every_command_and_option(run):
    result = run("--help")
    assert result.exit_code == 0
    for command in ("train", "evaluate", "draw", "enlarge", "fill", "info", "copies"):
        assert command in result.output
    options = run("train", "--help").output
    for option in ("--steps", "--data", "--folder", "--from", "--out", "CFD_DATA"):
        assert option in options


def test_train_writes_a_checkpoint_with_its_recipe(run):
    result = run("train", "digits", "--steps", 3)
    assert result.exit_code == 0, result.output
    out = Path("training/digits/digits.safetensors")
    assert str(out) in result.output
    _, recipe = load_checkpoint(out)
    sitting = recipe["sittings"][0]
    assert (sitting["steps"], sitting["resumed_at_step"]) == (3, 0)


def test_train_goes_on_from_a_saved_state_and_from_a_checkpoint(run):
    assert run("train", "digits", "--steps", 2, "--folder", "state").exit_code == 0
    longer = run("train", "digits", "--steps", 4, "--folder", "state", "--out", "a.safetensors")
    assert longer.exit_code == 0, longer.output
    assert load_checkpoint("a.safetensors")[1]["sittings"][0]["resumed_at_step"] == 2

    words = ("--from", "a.safetensors", "--folder", "other", "--out", "b.safetensors")
    again = run("train", "digits", "--steps", 1, *words)
    assert again.exit_code == 0, again.output
    sittings = load_checkpoint("b.safetensors")[1]["sittings"]
    assert [sitting["steps"] for sitting in sittings] == [4, 1]


def test_train_takes_the_data_folder_from_the_option_or_the_environment(run, monkeypatch):
    asked = []

    def train_network(name, out, root, folder, steps, start=None):
        asked.append(root)
        yield 1, 0.5

    monkeypatch.setattr(sitting, "train_network", train_network)
    assert run("train", "digits").exit_code == 0
    monkeypatch.setenv("CFD_DATA", "here")
    assert run("train", "digits").exit_code == 0
    assert run("train", "digits", "--data", "there").exit_code == 0
    assert asked == [None, Path("here"), Path("there")]


def test_draw_writes_the_picture_that_the_network_draws(run, small):
    result = run("draw", "3 1 4", "a.png", "--model", small, "--steps", 2, "--seed", 5)
    assert result.exit_code == 0, result.output
    picture = Image.open("a.png")
    assert (picture.mode, picture.size) == ("L", (3 * 112, 112))
    # The third digit, every fourth pixel, is within half a grey level of what the network drew.
    drawn = torch.from_numpy(np.array(picture.crop((224, 0, 336, 112))))
    wanted = cfd_course.pipelines.load(small).draw([4], steps=2, seed=7)[0, 0].clamp(-1, 1)
    assert (drawn[::4, ::4] / 127.5 - 1 - wanted).abs().max() <= 0.5 / 127.5 + 1e-5
    assert run("draw", "314", "b.png", "--model", small, "--steps", 2, "--seed", 5).exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_draw_draws_an_emoji_in_a_hand(run, model, tmp_path):
    file = model("emoji")
    done = run("draw", "a cute puppy", "out.png", "--hand", "blob", "--steps", 2, "--model", file)
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (256, 256)
    done = run("draw", "a cute puppy", "out.png", "--hand", "picasso", "--model", file)
    assert done.exit_code == 1 and "hand should be one of 'noto'" in " ".join(done.output.split())


def test_draw_knows_every_shipped_network_that_draws(run):
    """And so do enlarge and fill; the others are refused with the names of those."""
    kinds = {"draw": (Artist, DRAWS), "enlarge": (Scaler, ENLARGES), "fill": (Mender, FILLS)}
    shipped = {path.stem: load(path) for path in data_path("checkpoints").glob("*.safetensors")}
    for command, (kind, names) in kinds.items():
        found = {name for name, pipeline in shipped.items() if isinstance(pipeline, kind)}
        assert found - {"emoji-prior"} == set(names), command  # which draws embeddings
    for name in DRAWS:
        assert name in run("draw", "--help").output.replace("\n", "")


@pytest.mark.parametrize(
    "text, name, size",
    [
        ("a red heart", "emoji-decoder", (256, 256)),
        ("noto, blob", "emoji-latents", (512, 256)),
        ("3 1", "digits-flow", (224, 112)),
        ("31", "digits-shortcut", (224, 112)),
        ("31", "digits-weak", (224, 112)),
        ("a cat", "emoji", (256, 256)),
    ],
)
def test_draw_asks_each_network_for_what_it_draws(run, text, name, size):
    done = run("draw", text, "a.png", "--model", name, "--steps", 1)
    assert done.exit_code == 0, done.output
    with Image.open("a.png") as picture:
        assert picture.size == size


def test_a_caption_reaches_the_decoder_by_way_of_towers_and_prior(run):
    """What is drawn is what the three draw one by one, from the seed's own embedding."""
    done = run(
        "draw", "a red heart", "a.png", "--model", "emoji-decoder", "--seed", 3, "--steps", 3
    )
    assert done.exit_code == 0, done.output
    z_i = load("emoji-prior").draw(load("emoji-towers").of_texts(["a red heart"]), seed=3)
    wanted = load("emoji-decoder").draw(z_i, steps=3, seed=3)[0].clamp(-1, 1)
    drawn = torch.from_numpy(np.array(Image.open("a.png"))).permute(2, 0, 1)[:, ::8, ::8]
    assert (drawn / 127.5 - 1 - wanted).abs().max() <= 0.5 / 127.5 + 1e-4


def test_draw_reads_a_caption(run, model):
    path = model("text-to-image")
    result = run("draw", CAPTION, "a.png", "--model", path, "--steps", 2, "--scale", 1)
    assert result.exit_code == 0, result.output
    picture = Image.open("a.png")
    assert (picture.mode, picture.size) == ("RGB", (256, 256))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "P", "1"])
def test_enlarge_takes_every_kind_of_picture(run, model, picture, mode):
    if mode in ("P", "1"):
        path = picture("photo.png")
        Image.open(path).convert(mode).save(path)
    else:
        path = picture("photo.png", mode)
    result = run("enlarge", path, "a.png", "--model", model("super-resolution"), "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "20x12 to 80x48: about" in result.output
    grey = mode in ("L", "I;16", "1")
    kept = "L" if grey else "RGBA" if mode == "RGBA" else "RGB"
    assert (Image.open("a.png").mode, Image.open("a.png").size) == (kept, (80, 48))
    assert ("more than 8 bits a colour" in result.output) == (mode == "I;16")


def test_what_a_file_cannot_hold_is_said(run, model, picture):
    path = picture("photo.png", "RGBA")
    result = run("enlarge", path, "a.jpg", "--model", model("super-resolution"), "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "JPEG can't hold mode RGBA" in result.output and Image.open("a.jpg").mode == "RGB"


def test_a_real_full_disk_is_named_and_leaves_what_was_there(run, small, model, small_disk):
    disk, fill = small_disk
    (disk / "a.png").write_bytes(b"what was there")
    for left in (0, 4):
        fill(left)
        result = run("draw", "314", disk / "a.png", "--model", small, "--steps", 1)
        assert result.exit_code == 1 and not result.output.count("Traceback")
        assert f"{disk / 'a.png'} could not be written; what was there is kept" in result.stderr
        assert (disk / "a.png").read_bytes() == b"what was there"
        assert {path.name for path in disk.iterdir()} == {"a.png", ".filling"}
    fill(1000)
    assert run("draw", "314", disk / "a.png", "--model", small, "--steps", 1).exit_code == 0


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg", "a.gif"])
def test_a_format_that_changes_pixels_is_said(run, model, picture, name):
    photo = picture("photo.png", "RGBA" if name == "a.webp" else "RGB", size=(70, 66))
    mask = np.zeros((66, 70), np.uint8)
    mask[20:30, 25:45] = 255
    Image.fromarray(mask).save("mask.png")
    result = run("fill", photo, "mask.png", name, "--model", model("inpainting"), "--steps", 1)
    assert result.exit_code == 0, result.output
    mode = Image.open(photo).mode
    before, after = (np.array(Image.open(each).convert(mode)) for each in (photo, name))
    assert np.array_equal(before[mask == 0], after[mask == 0]) == (name not in ("a.jpg", "a.gif"))
    assert ("changes pixels a little" in result.output) == (name in ("a.jpg", "a.gif"))


def test_whole_numbers_of_16_bits_stay_in_a_png(run, model, picture):
    values = np.array(Image.open(picture("photo.png", "I;16", (70, 66)))).astype(np.int32)
    Image.fromarray(values).save("photo.tif")
    mask = np.zeros((66, 70), np.uint8)
    mask[20:30, 25:45] = 255
    Image.fromarray(mask).save("mask.png")
    words = ("--model", model("inpainting"), "--steps", 1)
    assert run("fill", "photo.tif", "mask.png", "a.png", *words).exit_code == 0
    assert np.array_equal(np.array(Image.open("a.png"))[mask == 0], values[mask == 0])


def test_a_profile_of_other_colours_is_not_kept(run, model, picture):
    profile = bytes(16) + b"CMYK" + bytes(112)
    Image.open(picture("photo.png")).convert("CMYK").save("photo.tif", icc_profile=profile)
    for out, words in (("a.png", "its colour profile, its mode CMYK"), ("b.tif", "its mode CMYK")):
        result = run(
            "enlarge", "photo.tif", out, "--model", model("super-resolution"), "--steps", 1
        )
        assert result.exit_code == 0 and words in result.output
        assert "icc_profile" not in Image.open(out).info
    Image.fromarray(np.array([[0] * 19 + [255]] * 12, np.uint8)).save("mask.png")
    words = ("--model", model("inpainting"), "--steps", 1)
    assert run("fill", "photo.tif", "mask.png", "c.tif", *words).exit_code == 0
    assert Image.open("c.tif").info["icc_profile"] == profile
    result = run("fill", "photo.tif", "mask.png", "d.png", *words)
    assert result.exit_code == 0 and "not kept of the photo: its colour profile" in result.output
    assert "icc_profile" not in Image.open("d.png").info


def test_enlarge_turns_a_photo_upright(run, model, picture, tmp_path):
    photo = Image.open(picture("photo.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo.save(tmp_path / "turned.jpg", exif=exif)
    words = ("--model", model("super-resolution"), "--steps", 1)
    assert run("enlarge", "turned.jpg", "a.png", *words).exit_code == 0
    assert Image.open("a.png").size == (48, 80)


def test_enlarge_refuses_the_very_large_unless_forced(run, model, tmp_path):
    # 10,000 pixels a side, in a small file.
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    result = run("enlarge", "huge.png", "a.png", "--model", model("super-resolution"))
    assert result.exit_code == 1
    assert "40000x40000, more than 4 megapixels" in result.stderr and "--force" in result.stderr
    # A limit that a small picture exceeds, for --force to lift.
    Image.new("RGB", (2, 2)).save(tmp_path / "tiny.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfd_course.__main__.LARGEST", 63)
        words = ("enlarge", "tiny.png", "a.png", "--model", model("super-resolution"))
        assert run(*words, "--steps", 1).exit_code == 1
        assert run(*words, "--steps", 1, "--force").exit_code == 0


def test_fill_leaves_the_rest_as_it_was(run, model, picture):
    photo = picture("photo.png", size=(70, 66))
    mask = np.zeros((66, 70), np.uint8)
    mask[20:30, 25:45] = 255
    Image.fromarray(mask).save("mask.png")
    result = run("fill", photo, "mask.png", "a.png", "--model", model("inpainting"), "--steps", 2)
    assert result.exit_code == 0, result.output
    before, after = np.array(Image.open(photo)), np.array(Image.open("a.png"))
    assert (before == after)[mask == 0].all()
    assert (before != after)[mask == 255].any(axis=-1).mean() > 0.9


def test_fill_refuses_a_mask_of_another_size(run, model, picture):
    photo = picture("photo.png")
    Image.fromarray(np.array([[0, 255, 255]], np.uint8)).save("mask.png")
    result = run("fill", photo, "mask.png", "a.png", "--model", model("inpainting"))
    assert result.exit_code == 1
    assert "mask should be as large as the photo, 20x12 pixels, but 3x1 came" in result.stderr


def test_evaluate_goes_on_where_it_was_stopped(run, monkeypatch):
    measured = []

    def parts(data):
        def measure(name):
            measured.append(name)
            if name == "b" and len(measured) < 3:
                raise ValueError("interrupted")
            return {"name": name, "data": str(data)}

        for name in "ab":
            yield name, lambda name=name: measure(name)

    monkeypatch.setitem(measuring.EVALUATIONS, "digits", (parts, lambda found: {"found": found}))
    assert run("evaluate", "digits", "--data", "full").exit_code == 1
    assert not Path("data/results/digits.json").exists()
    result = run("evaluate", "digits", "--data", "full")
    assert result.exit_code == 0, result.output
    assert measured == ["a", "b", "b"]
    saved = json.loads(Path("data/results/digits.json").read_text(encoding="utf-8"))
    assert saved == {"found": {name: {"name": name, "data": "full"} for name in "ab"}}
    assert list(Path("data/results").iterdir()) == [Path("data/results/digits.json")]


def test_every_shipped_network_is_measured_or_it_is_said_where(run):
    for path in data_path("checkpoints").glob("*.safetensors"):
        with_another = MEASURED_WITH.get(path.stem)
        assert path.stem.endswith("-judge") or (with_another or path.stem) in measuring.EVALUATIONS
        assert with_another is None or path.stem not in measuring.EVALUATIONS


def test_evaluate_with_a_few_pictures(run, monkeypatch):
    """They are as many as was said, and don't take the place of the result of all."""
    parts = lambda data, count=100: [("one", lambda: {"of": count})]  # noqa: E731
    monkeypatch.setitem(measuring.EVALUATIONS, "digits", (parts, lambda found: found))
    assert run("evaluate", "digits", "--count", 30).exit_code == 0
    assert json.loads(Path("data/results/digits-30.json").read_bytes()) == {"one": {"of": 30}}
    assert run("evaluate", "digits").exit_code == 0
    assert json.loads(Path("data/results/digits.json").read_bytes()) == {"one": {"of": 100}}


def test_evaluate_never_mixes_two_evaluations(run, monkeypatch):
    def parts(data, model="digits"):
        yield "a", lambda: {"model": model, "data": str(data)}
        yield "b", lambda: 1 / 0

    monkeypatch.setitem(measuring.EVALUATIONS, "digits", (parts, lambda found: found))
    assert isinstance(run("evaluate", "digits", "--data", "full").exception, ZeroDivisionError)
    result = run("evaluate", "digits", "--data", "other")
    partial = Path("data/results/digits.json.partial")
    assert result.exit_code == 1 and f"{partial} was begun with other arguments" in result.stderr
    lines = partial.read_text(encoding="utf-8")
    for damaged in ("null", '[["a"], 1]', '["a", null]', "\udcff"):
        partial.write_bytes((lines + damaged).encode(errors="surrogateescape"))
        result = run("evaluate", "digits", "--data", "full")
        assert result.exit_code == 1 and "line 3 of" in result.stderr


def test_photos_to_evaluate_on_are_several_and_large(run, picture):
    Path("photos").mkdir()
    for name, size, said in (
        ("a", (90, 64), "but a single one came"),
        ("b", (90, 63), "at least 64 pixels high and wide, but one of 63x90 came"),
    ):
        picture(f"photos/{name}.png", size=size)
        result = run("evaluate", "inpainting", "--data", "photos")
        assert result.exit_code == 1 and said in result.stderr


def test_the_result_of_an_evaluation_may_have_any_name(run, monkeypatch):
    def parts(data):
        yield "a", lambda: {"found": 1}

    monkeypatch.setitem(measuring.EVALUATIONS, "digits", (parts, lambda found: found))
    assert run("evaluate", "digits", "--out", "my.partial").exit_code == 0
    assert json.loads(Path("my.partial").read_text(encoding="utf-8")) == {"a": {"found": 1}}
    assert not Path("my.partial.partial").exists()


def test_a_training_goes_on_as_it_began_or_not_at_all(run, small):
    words = ("train", "digits", "--folder", "state")
    assert run(*words, "--steps", 3).exit_code == 0
    result = run(*words, "--steps", 1)
    assert result.exit_code == 0, result.output
    (sitting,) = load_checkpoint(Path("state/digits.safetensors"))[1]["sittings"]
    assert sitting["steps"] == 3  # what the network had, not what was asked for
    result = run(*words, "--steps", 5, "--from", small)
    assert "the training in state was begun with another from: None" in result.stderr
    Path("state/begun.json").write_text("{}", encoding="utf-8")
    result = run(*words, "--steps", 5)
    assert result.exit_code == 1 and "begun.json cannot be read" in result.stderr


def test_a_full_disk_leaves_what_was_there(run, small, monkeypatch):
    Path("a.png").write_text("an older picture", encoding="utf-8")

    def full(self, path, format):
        Path(path).write_text("half", encoding="utf-8")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", full)
    result = run("draw", "3", "a.png", "--model", small, "--steps", 1)
    assert result.exit_code == 1 and "no space left" in result.stderr
    assert Path("a.png").read_text(encoding="utf-8") == "an older picture"
    assert [path.name for path in Path().glob("a.png*")] == ["a.png"]


def test_what_is_transparent_in_a_mask_is_no_hole(run, model, picture):
    photo = picture("photo.png", size=(70, 66))
    mask = np.zeros((66, 70, 4), np.uint8)
    mask[20:30, 25:45] = 255  # white strokes on a transparent layer
    Image.fromarray(mask).save("mask.png")
    words = ("fill", photo, "mask.png", "a.png", "--model", model("inpainting"), "--steps", 1)
    assert run(*words).exit_code == 0
    before, after = np.array(Image.open(photo)), np.array(Image.open("a.png"))
    assert (before == after)[mask[..., 3] == 0].all()
    for colour in ("white", "black"):
        Image.new("L", (70, 66), colour).save("mask.png")
        result = run(*words)
        assert result.exit_code == 1 and f"it is {colour} everywhere" in result.stderr


def test_info_names_versions_and_every_shipped_checkpoint(run):
    result = run("info")
    assert result.exit_code == 0, result.output
    assert cfd_course.__version__ in result.output and torch.__version__ in result.output
    for path in cfd_course.datasets.data_path("checkpoints").glob("*.safetensors"):
        assert path.stem in result.output
        steps = load_checkpoint(path)[1]["sittings"][-1]["steps"]
        assert f"steps {steps}" in result.output


def test_copies_says_what_it_made_and_kept(run):
    result = run("copies")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("my_course").glob("*.ipynb")) == [
        p.name for p in lessons()
    ]
    first = Path("my_course", lessons()[0].name)
    first.write_text("my work", encoding="utf-8")
    assert f"kept as it was: {first}" in run("copies").output
    assert first.read_text(encoding="utf-8") == "my work"
    again = run("copies", "--only", first.stem, "--force")
    assert again.output.split() == ["made", str(first)]
    assert first.read_text(encoding="utf-8") != "my work"


@pytest.mark.parametrize("only", [("02,01_forward_noising",), ("01", "--only", "02")])
def test_copies_of_some_lessons(run, only):
    assert run("copies", "--only", *only).exit_code == 0
    assert [path.name[:2] for path in sorted(Path("my_course").glob("*.ipynb"))] == ["01", "02"]


MISTAKES = {
    "no such recipe": (["train", "digit"], "NAME should be one of 'digits'"),
    "no steps": (["train", "digits", "--steps", "0"], "--steps should be at least 1, but 0 came"),
    "no checkpoint": (["train", "digits", "--from", "gone.safetensors"], "gone.safetensors"),
    "nothing to evaluate": (["evaluate", "cats"], "NAME should be one of 'digits'"),
    "no photos": (["train", "inpainting"], "--data should be a folder of pictures"),
    "nothing to draw": (["draw", " ", "a.png"], "TEXT should be a caption"),
    "unknown word": (["draw", "a small rad star", "a.png"], "Did you mean 'red'"),
    "no folder": (["draw", "3", "gone/a.png"], "there is no folder gone"),
    "no photo": (["enlarge", "gone.png", "a.png"], "there is no file gone.png"),
    "no image": (["enlarge", "text.jpg", "a.png"], "text.jpg is not a picture, or damaged"),
    "wrong model": (
        ["enlarge", "dot.png", "a.png", "--model", "digits"],
        "--model should be one that enlarges, but 'digits' came",
    ),
    "no mask": (["fill", "dot.png", "gone.png", "a.png"], "there is no file gone.png"),
    "no picture": (["draw", "3", "a.txt"], "OUT should be a picture file that ends in .png"),
    "no model": (["draw", "3", "a.png", "--model", "gone.safetensors"], "gone.safetensors"),
    "no checkpoint file": (["train", "digits", "--out", "d.pt"], "ends in .safetensors, but d.pt"),
    "a folder for a result": (["evaluate", "digits", "--out", "."], "but the folder . came"),
    "no model to compare": (
        ["evaluate", "digit-inpainting", "--model", "inpainting"],
        "--model is not for it",
    ),
    "another kind to compare": (
        ["evaluate", "digits", "--model", "digit-judge"],
        "--model should be one that does what digits does",
    ),
    "draws embeddings": (
        ["draw", "a red heart", "a.png", "--model", "emoji-prior"],
        "emoji-prior draws embeddings, not pictures. Say --model emoji-decoder.",
    ),
    "draws nothing": (
        ["draw", "a red heart", "a.png", "--model", "emoji-towers"],
        "one that draws pictures, but 'emoji-towers' came. Shipped: digits, ",
    ),
    "no words for digits": (
        ["draw", "a red heart", "a.png", "--model", "digits-flow"],
        "digits-flow draws digits",
    ),
    "no words for faces": (
        ["draw", "a happy face", "a.png", "--model", "emoji-latents"],
        "TEXT should be some of noto, blob",
    ),
    "no hand for a decoder": (
        ["draw", "a cat", "a.png", "--model", "emoji-decoder", "--hand", "noto"],
        "one that draws emoji in a hand, but 'emoji-decoder' came",
    ),
    "measured elsewhere": (["evaluate", "emoji-prior"], "evaluate emoji-decoder"),
    "a judge": (["evaluate", "digit-judge"], "How often it is right"),
    "too few": (["evaluate", "digits", "--count", "3"], "--count should be at least 20"),
    "all photos": (["evaluate", "inpainting", "--count", "20"], "--count is not for it"),
    "no step back": (["enlarge", "dot.png", "a.png", "--steps", "-1"], "steps should be"),
    "no scale": (["enlarge", "dot.png", "a.png", "--scale", "nan"], "scale should be"),
    "no seed": (["draw", "3", "a.png", "--seed", "99999999999"], "seed should be in 0.."),
    "a format for reading": (["draw", "3", "a.psd"], "OUT should be a picture file"),
    "no lesson": (["copies", "--only", "99"], "but '99' came"),
}


@pytest.mark.parametrize("words, said", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(run, words, said):
    Path("text.jpg").write_text("not a picture", encoding="utf-8")
    Image.new("RGB", (1, 1)).save("dot.png")
    result = run(*words)
    assert result.exit_code == 1
    assert said in result.stderr and result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.output


def test_a_process_of_its_own(tmp_path, small):
    drawn = python("draw", "7", "seven.png", "--model", small, "--steps", "2", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert Image.open(tmp_path / "seven.png").size == (112, 112)
    wrong = python("train", "cats", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "Traceback" not in wrong.stderr and "should be one of" in wrong.stderr


# --- On Windows, whose older consoles cannot show every name ---


@pytest.fixture
def on_windows(run, monkeypatch):
    windows.play(monkeypatch)
    return lambda *words: run(*words, charset="cp1252")


@pytest.mark.parametrize(
    "words",
    [
        ("draw", "31", "{}.png", "--steps", 2),
        ("train", "digits", "--steps", 1, "--folder", "{}"),
        ("copies", "--only", "01", "--to", "{}"),
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_the_console_cannot_show(words, tmp_path, on_windows):
    name = "снег"
    result = on_windows(*[str(word).format(name) for word in words])
    assert result.exit_code == 0, result.output
    assert r"\u0441\u043d\u0435\u0433" in result.output
    assert [path.name for path in tmp_path.iterdir()] in ([name], [f"{name}.png"])


def test_a_mistake_that_the_console_cannot_show(on_windows):
    result = on_windows("enlarge", "снег.png", "out.png")
    assert result.exit_code == 1 and r"\u0441" in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_evaluation_goes_on_on_windows(on_windows, monkeypatch, tmp_path):
    parts = {"один": lambda: {"value": 1}, "two": lambda: {"value": 1 / 0}}
    parts_and_summary = (lambda data: parts.items(), lambda found: found)
    monkeypatch.setitem(measuring.EVALUATIONS, "digits", parts_and_summary)
    first = on_windows("evaluate", "digits", "--out", "ü.json")
    assert isinstance(first.exception, ZeroDivisionError)
    parts["two"] = lambda: {"value": 2}
    assert on_windows("evaluate", "digits", "--out", "ü.json").exit_code == 0
    found = json.loads((tmp_path / "ü.json").read_bytes().decode("utf-8"))
    assert found == {"один": {"value": 1}, "two": {"value": 2}}
    assert [path.name for path in tmp_path.iterdir()] == ["ü.json"]


def test_a_folder_that_takes_no_files_is_named_before_the_work(tmp_path, run, monkeypatch):
    def refuse(*_, **named):
        raise PermissionError(13, "Permission denied", str(named["dir"]))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # os.access says what root may do
    result = run("draw", "3", tmp_path / "out.png")
    assert result.exit_code == 1 and "nothing can be written into the folder" in result.output
