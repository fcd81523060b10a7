"""The command line: what it writes, and that a user's mistake is one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cfd_course
from cfd_course import recipes
from cfd_course.__main__ import app
from cfd_course.classroom import lessons
from cfd_course.pipelines import digit_network
from cfd_course.training import load_checkpoint, save_checkpoint

# A digits network that trains and draws in no time.
SMALL = {"channels": [8, 8], "patch": 2, "token_channels": 8}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty folder, with the small network for the big one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CFD_DATA", raising=False)
    monkeypatch.setattr(recipes, "DIGITS", recipes.DIGITS | {"network": SMALL, "batch": 4})
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def small(tmp_path):
    """The file of an untrained small digits checkpoint."""
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    recipe = {**recipes.DIGITS, "network": SMALL, "sittings": []}
    save_checkpoint(path, digit_network(**SMALL), recipe)
    return path


def python(*words, cwd) -> subprocess.CompletedProcess:
    """`python -m cfd_course` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(cfd_course.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "cfd_course", *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_names_every_command_and_option(run):
    result = run("--help")
    assert result.exit_code == 0
    for command in ("train", "evaluate", "draw", "info", "copies"):
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
    assert (sitting["steps"], sitting["pictures"], sitting["resumed_at_step"]) == (3, 10_000, 0)


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

    def recipe(out, root, folder, steps, start=None):
        asked.append(root)
        yield 1, 0.5

    monkeypatch.setitem(recipes.RECIPES, "digits", (recipe, 1))
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


def test_evaluate_saves_what_was_measured(run, monkeypatch):
    monkeypatch.setattr(
        recipes, "evaluate_digits", lambda root: {"accuracy": 0.5, "root": str(root)}
    )
    result = run("evaluate", "digits", "--data", "full")
    assert result.exit_code == 0, result.output
    saved = json.loads(Path("data/results/digits.json").read_text())
    assert saved == {"accuracy": 0.5, "root": "full"}


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
    assert sorted(path.name for path in Path("my_course").iterdir()) == [p.name for p in lessons()]
    first = Path("my_course", lessons()[0].name)
    first.write_text("my work")
    assert f"kept as it was: {first}" in run("copies").output
    assert first.read_text() == "my work"
    again = run("copies", "--only", first.stem, "--force")
    assert again.output.split() == ["made", str(first)]
    assert first.read_text() != "my work"


MISTAKES = {
    "no such recipe": (["train", "digit"], "NAME should be one of 'digits'"),
    "no steps": (["train", "digits", "--steps", "0"], "--steps should be at least 1, but 0 came"),
    "no checkpoint": (["train", "digits", "--from", "gone.safetensors"], "gone.safetensors"),
    "nothing to evaluate": (["evaluate", "cats"], "NAME should be one of 'digits', but 'cats'"),
    "no digits": (["draw", "3 x", "a.png"], "DIGITS should be digits"),
    "no picture": (["draw", "3", "a.txt"], "OUT should end in .png"),
    "no model": (["draw", "3", "a.png", "--model", "gone.safetensors"], "gone.safetensors"),
    "no lesson": (["copies", "--only", "99"], "but '99' came"),
}


@pytest.mark.parametrize("words, said", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(run, words, said):
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
