"""Where pictures come from: digits, captioned shapes."""

from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader

from .. import expect
from ..conditions import Condition


def data_path(name: str) -> Path:
    """The path of a file of the course's data folder, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "data", package.parent / "data"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"the course's data folder holds no {name}: looked in {package / 'data'} and "
        f"{package.parent / 'data'}."
    )


def batches(x_0: Tensor, condition: Condition | None, size: int) -> DataLoader:
    """(x_0, condition) in shuffled batches of `size`, for train(). The last, incomplete batch of
    each pass is left out."""
    expect.tensor("x_0", x_0, None)
    if x_0.numel() == 0 or x_0.ndim == 0:
        raise ValueError(f"x_0 should have shape [N, ...], but {expect.describe(x_0)} came.")
    expect.whole("size", size, 1, len(x_0))
    if condition is not None and len(expect.instance("condition", condition, Condition)) != len(
        x_0
    ):
        raise ValueError(
            f"x_0 and condition should have as many rows, but {len(x_0)} and {len(condition)} came."
        )

    def rows(numbers: list[int]):
        return x_0[numbers], None if condition is None else condition[numbers]

    return DataLoader(range(len(x_0)), size, shuffle=True, drop_last=True, collate_fn=rows)
