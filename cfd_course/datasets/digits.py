"""Handwritten digits: MNIST of LeCun, Cortes and Burges."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import expect
from ..conditions import Condition
from . import data_path


def digits(split: str = "train", root: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Pictures [N, 1, 28, 28] in [-1, 1] and labels [N].

    split: "train" or "test". root: a folder that holds MNIST as torchvision lays it out, for all
    60,000 + 10,000 digits; downloaded by torchvision where it is missing. Not given: the 10,000 +
    2,000 digits that come with the course, or, where the environment variable CFD_DATA names such
    a folder, all of that folder's.
    """
    expect.choice("split", split, ("train", "test"))
    if root is None:
        root = os.environ.get("CFD_DATA")
    if root is None:
        with np.load(data_path("digits.npz")) as file:
            pictures, labels = file[f"{split}_pictures"], file[f"{split}_labels"]
        pictures, labels = torch.from_numpy(pictures), torch.from_numpy(labels)
    else:
        from torchvision.datasets import MNIST  # half a second that the shipped digits don't need

        train = split == "train"
        try:
            full = MNIST(root, train=train)
        except Exception as error:  # of a damaged file torchvision asserts, reshapes, counts
            if "not found" not in str(error):
                raise ValueError(
                    f"{Path(root) / 'MNIST' / 'raw'} is damaged. Move it away, and it will be "
                    f"downloaded again. ({error})"
                ) from error
            full = MNIST(root, train=train, download=True)
        pictures, labels = full.data, full.targets
    return pictures[:, None] / 127.5 - 1, labels.long()


def digit_condition(labels) -> Condition:
    """The condition "draw this digit", for each of the labels [B], a tensor or a list of 0..9."""
    if not isinstance(labels, (Tensor, list, tuple, range)):
        raise TypeError(
            f"labels should be a tensor or a list of digits, but {expect.describe(labels)} came."
        )
    if not isinstance(labels, Tensor):
        labels = torch.tensor([expect.whole("each digit", label, 0, 9) for label in labels])
    expect.tensor("labels", labels, ("B",), "int")
    if int(labels.min()) < 0 or int(labels.max()) > 9:
        raise ValueError(f"labels should be digits 0..9, but {labels.unique().tolist()} came.")
    return Condition(tokens=labels[:, None])
