"""Checkpoints: what is saved comes back, whatever else is there is named, under kill -9 too."""

import copy
import json
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from cfd_course.checkpoints import load_checkpoint, load_weights, save_checkpoint
from cfd_course.schedule import NoiseSchedule

from .conftest import same_weights, small_network

SCHEDULE = NoiseSchedule.cosine(100)
from_a_server = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if from_a_server else "spawn")
if from_a_server:
    PROCESSES.set_forkserver_preload(["cfd_course.training"])  # which has PyTorch loaded
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one, and it kills


RECIPE = {"name": "small", "sittings": [{"steps": 3, "seed": 0}], "words": "é"}


def test_checkpoint_round_trip(tmp_path):
    network, path = small_network(), tmp_path / "new folder" / "small.safetensors"
    save_checkpoint(path, network.to(memory_format=torch.channels_last), RECIPE)
    with safetensors.safe_open(path, framework="pt") as file:  # as anybody else would read it
        assert json.loads(file.metadata()["recipe"]) == RECIPE
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    weights, recipe = load_checkpoint(path)
    assert recipe == RECIPE
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    other = small_network(seed=1)
    load_weights(other, weights, path)
    assert same_weights(other, network.half().float())
    assert [file.name for file in path.parent.iterdir()] == ["small.safetensors"]


def test_checkpoint_keeps_counters(tmp_path):
    network = nn.BatchNorm1d(2)
    network.num_batches_tracked += 70_001  # more than float16 can count
    save_checkpoint(tmp_path / "a.safetensors", network, RECIPE)
    assert load_checkpoint(tmp_path / "a.safetensors")[0]["num_batches_tracked"] == 70_001


@pytest.mark.parametrize("length", [0, 1, 8, 100, "half", "all but one"])
def test_truncated_checkpoint_is_named(length, tmp_path):
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_network(), RECIPE)
    size = path.stat().st_size
    os.truncate(path, {"half": size // 2, "all but one": size - 1}.get(length, length))
    with pytest.raises(ValueError, match=r"small\.safetensors is damaged or not a safetensors"):
        load_checkpoint(path)


def test_foreign_checkpoint_is_named(tmp_path):
    path = tmp_path / "foreign.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*foreign\.safetensors"):
        load_checkpoint(path)
    torch.save(small_network().state_dict(), path)
    with pytest.raises(ValueError, match=r"foreign\.safetensors is damaged or not a safetensors"):
        load_checkpoint(path)
    for metadata in (None, {"other": "1"}, {"recipe": "not JSON"}, {"recipe": "3"}):
        safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata)
        with pytest.raises(ValueError, match=r"foreign\.safetensors holds no recipe"):
            load_checkpoint(path)


def test_weights_of_another_network_are_named(tmp_path):
    path = tmp_path / "small.safetensors"
    weights = small_network().state_dict()
    with pytest.raises(ValueError, match=r"small\.safetensors belongs to another .* has shape \["):
        load_weights(small_network(width=16), weights, path)
    network = small_network(seed=1)
    before = copy.deepcopy(network)
    for wrong, words in (
        ({**weights, "extra": torch.zeros(1)}, "extra is not in this network"),
        ({name: w for name, w in weights.items() if name != "conv_in.bias"}, "bias is missing"),
    ):
        with pytest.raises(ValueError, match=words):
            load_weights(network, wrong, path)
    assert same_weights(network, before)


def test_a_refused_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_network(), RECIPE)
    before = path.read_bytes()
    astray = small_network()
    for value in (math.nan, 1e5):  # float16 ends at 65504
        nn.init.constant_(astray.conv_in.bias, value)
        with pytest.raises(ValueError, match=r"conv_in\.bias holds a NaN, or numbers too large"):
            save_checkpoint(path, astray, RECIPE)
    with pytest.raises(TypeError, match="recipe should be of type dict"):
        save_checkpoint(path, small_network(), "recipe")
    with pytest.raises(TypeError, match="JSON"):
        save_checkpoint(path, small_network(), {"schedule": SCHEDULE})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.safetensors"]


def kill_in_checkpoint(path):
    save = safetensors.torch.save_file

    def fatal(weights, partial, metadata):
        save(weights, partial, metadata)
        os.truncate(partial, Path(partial).stat().st_size // 2)
        os.kill(os.getpid(), KILL)

    safetensors.torch.save_file = fatal
    save_checkpoint(path, small_network(seed=1), RECIPE)


def test_a_killed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_network(), RECIPE)
    before = path.read_bytes()
    process = PROCESSES.Process(target=kill_in_checkpoint, args=(path,))
    process.start()
    process.join(600)
    assert abs(process.exitcode) == KILL
    assert path.read_bytes() == before


class Tied(nn.Module):
    """Two names for one weight, and views of one tensor."""

    def __init__(self, dtype):
        super().__init__()
        both = torch.arange(6.0).reshape(2, 3).to(dtype)
        self.register_buffer("first", both[0])
        self.register_buffer("turned", both.mT)
        self.register_buffer("again", self.turned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
def test_shared_tensors_and_views_are_saved(dtype, tmp_path):
    path = tmp_path / "tied.safetensors"
    save_checkpoint(path, Tied(dtype), RECIPE)
    weights, _ = load_checkpoint(path)
    other = Tied(dtype)
    other.turned = torch.zeros(3, 2, dtype=dtype)
    load_weights(other, weights, path)
    assert torch.equal(other.turned, Tied(dtype).turned)


def test_what_no_checkpoint_can_hold_is_named_and_the_disk_not_blamed(tmp_path):
    with pytest.raises(ValueError, match="the network's first holds .* complex"):
        save_checkpoint(tmp_path / "a.safetensors", Tied(torch.complex64), RECIPE)
