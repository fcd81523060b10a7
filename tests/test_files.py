"""Files are whole or as they were, on every system."""

import os

import pytest
import safetensors.torch
import torch

from cfd_course import NoiseSchedule
from cfd_course.checks import lesson_01, sandbox
from cfd_course.files import replacing
from tests import windows


@pytest.fixture(params=["here", "on Windows"])
def system(request, monkeypatch):
    if request.param == "on Windows":
        windows.play(monkeypatch)


def test_a_file_takes_its_name_when_it_is_whole(system, tmp_path):
    path = tmp_path / "ᾱ.txt"
    for text in ("first", "second"):
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
            assert partial != path and partial.parent == path.parent
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["ᾱ.txt"]


def test_on_failure_what_was_there_stays(system, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_bytes(b"half")
        1 / 0  # noqa: B018
    assert (os.listdir(tmp_path), path.read_bytes()) == (["file"], b"before")


def test_nothing_is_left_where_the_name_cannot_be_taken(system, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "taken") as partial:
        partial.write_bytes(b"all")
    assert os.listdir(tmp_path) == ["taken"]


def test_what_torch_and_safetensors_write_is_replaced(system, tmp_path):
    path, weights = tmp_path / "weights", {"weight": torch.ones(2, dtype=torch.int64)}
    for write in (torch.save, safetensors.torch.save_file):
        with replacing(path) as partial:
            write(weights, partial)
    assert os.listdir(tmp_path) == ["weights"]


def test_an_answer_is_checked_and_put_down_on_windows(tmp_path, monkeypatch, capsys):
    windows.play(monkeypatch)
    monkeypatch.setattr(sandbox, "resource", None)
    monkeypatch.chdir(tmp_path)

    def mine(schedule, x_0, t, noise):
        print("ᾱ")  # which cp1252 lacks; what an answer prints while it is checked is lost
        alpha_bar = schedule.alpha_bars[t].to(x_0).reshape(-1, *[1] * (x_0.ndim - 1))
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise

    assert lesson_01.add_noise(mine) is mine, capsys.readouterr().out
    assert lesson_01.add_noise(lambda schedule, x_0, t, noise: x_0) is NoiseSchedule.add_noise


def test_the_stand_in_refuses_what_windows_refuses(tmp_path, monkeypatch):
    windows.play(monkeypatch)
    path = tmp_path / "file"
    path.write_text("ä\n")
    assert path.read_bytes() == b"\xe4\r\n"
    with open(path, "rb") as file:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(file.fileno())
        with pytest.raises(PermissionError, match="used by another process"):
            os.replace(path, tmp_path / "other")
    os.replace(path, tmp_path / "other")
    assert not hasattr(os, "geteuid")
