"""The shipped digits: what `load` gives, and what it says of files that are not its own."""

import json

import pytest
import torch
from scipy.stats import binomtest

from cfd_course.datasets import data_path
from cfd_course.datasets.digits import digits
from cfd_course.pipelines import DigitJudge, Writer, build, load, start_noise
from cfd_course.recipes import DIGITS
from cfd_course.training import save_checkpoint


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


def test_the_judge_reads_real_digits(judge):
    """At least 99% of all 10,000 (see results/digits.json); here of the 2,000 shipped ones."""
    pictures, labels = digits("test")
    assert (judge(pictures).argmax(1) == labels).float().mean() >= 0.99


def test_the_committed_table_is_what_the_checkpoint_does(writer, judge):
    """100 of the 1,000 digits of each of two rows, drawn again: as often right as the table says,
    within the 99.9% interval of a hundred tries."""
    results = json.loads(data_path("results/digits.json").read_text())
    assert results["judge_on_test_set"]["right"] >= 0.99 * results["judge_on_test_set"]["of"]
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
    recipe = {**DIGITS, "network": {"channels": [8], "patch": 2, "token_channels": 8}}
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, build(recipe), recipe)
    assert isinstance(load(path), Writer) and isinstance(load(str(path)), Writer)
    assert isinstance(load("digit-judge"), DigitJudge)
    with pytest.raises(ValueError, match="mine.safetensors belongs to another network"):
        wider = {**recipe, "network": {**recipe["network"], "channels": [16]}}
        save_checkpoint(path, build(recipe), wider)
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
