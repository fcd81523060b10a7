"""Holes of several kinds in pictures, for inpainting to be trained on."""

import torch
from torch import Tensor

from .. import expect
from ..expect import Count, Source, checked


@checked
def box_holes(
    count: Count, size: Count, side: int | tuple[int, int], generator: Source = None
) -> Tensor:
    """Boxes of side x side, or of (height, width), at random places, [count, 1, size, size], bool,
    True in the hole."""
    height, width = side if isinstance(side, tuple) else (side, side)
    expect.whole("side", height, 1, size)
    expect.whole("side", width, 1, size)
    top = torch.randint(size - height + 1, (count, 1, 1, 1), generator=generator)
    left = torch.randint(size - width + 1, (count, 1, 1, 1), generator=generator)
    row, column = _places(size)
    return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)


@checked
def half_holes(count: Count, size: Count, generator: Source = None) -> Tensor:
    """One half of the picture: left, right, upper or lower, [count, 1, size, size], bool."""
    side = torch.randint(4, (count, 1, 1, 1), generator=generator)
    row, column = _places(size)
    along = torch.where(side < 2, row, column)
    return (along < size // 2) == (side % 2 == 0)


@checked
def free_form_holes(
    count: Count, size: Count, strokes: Count = 4, generator: Source = None
) -> Tensor:
    """Strokes of a thick brush, [count, 1, size, size], bool. After Yu et al., "Free-Form Image
    Inpainting with Gated Convolution" (2019), section 3.4, with straight strokes."""
    ends = torch.rand(count, strokes, 2, 2, generator=generator) * size
    width = size * (0.05 + 0.05 * torch.rand(count, strokes, 1, 1, generator=generator))
    row, column = _places(size)
    place = torch.stack(torch.broadcast_tensors(row, column), dim=-1)[0, 0] + 0.5  # [size, size, 2]
    start, along = ends[:, :, None, None, 0], (ends[..., 1, :] - ends[..., 0, :])[:, :, None, None]
    share = ((place - start) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)
    nearest = start + share.clamp(0, 1)[..., None] * along
    return ((place - nearest).norm(dim=-1) < width).any(dim=1, keepdim=True)


def _places(size: int) -> tuple[Tensor, Tensor]:
    places = torch.arange(size)
    return places[:, None].expand(1, 1, size, size), places.expand(1, 1, size, size)
