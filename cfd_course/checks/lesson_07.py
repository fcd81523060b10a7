"""Lesson 07, measuring guidance: frechet_distance, precision_recall, interval_scale."""

import torch
from torch import Tensor

from .. import expect
from ..metrics import frechet_distance as _frechet_distance
from ..metrics import precision_recall as _precision_recall
from . import Exercise, NotYet
from . import points as points


def _crowds(dimensions, count, real_count, seed, shift=0.7, width=1.5):
    """Features of two crowds, each stretched along other axes, the second one also moved."""
    random = torch.Generator().manual_seed(seed)
    axes = torch.randn(2, dimensions, dimensions, generator=random)
    features = torch.randn(count, dimensions, generator=random) @ axes[0]
    real = width * torch.randn(real_count, dimensions, generator=random) @ axes[1]
    return features, real + shift


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive semidefinite matrix."""
    values, axes = torch.linalg.eigh(matrix)
    return axes @ values.clamp(min=0).sqrt().diag() @ axes.mT


def _from_moments(formula, correction=1):
    """A wrong `frechet_distance` that differs in what it makes of the difference of the means and
    of the two covariances."""

    def frechet_distance(features, real):
        first, second = (torch.cov(x.T.double(), correction=correction) for x in (features, real))
        apart = features.double().mean(0) - real.double().mean(0)
        return float(formula(apart, first, second))

    return frechet_distance


def _overlap(first, second):
    """The trace of the square root of the product of two covariances."""
    return torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()


def _right(apart, first, second):
    return apart.square().sum() + (first + second).trace() - 2 * _overlap(first, second)


frechet_distance = Exercise(
    reference=_frechet_distance,
    cases=[
        lambda: _crowds(3, 40, 60, seed=0),
        lambda: _crowds(5, 80, 50, seed=1, shift=2.0),
        lambda: _crowds(2, 50, 50, seed=2, shift=-1.0, width=0.5),
    ],
    mistakes=[
        (
            _from_moments(lambda apart, c, d: _right(0 * apart, c, d)),
            "Two crowds of the same shape are the same to yours, however far apart they stand: "
            "their means are missing.",
        ),
        (
            _from_moments(lambda apart, c, d: apart.square().sum()),
            "Only where the crowds stand is compared: a crowd that has shrunk to one point in the "
            "right place would count as perfect.",
        ),
        (
            _from_moments(lambda apart, c, d: _right(0 * apart, c, d) + apart.norm()),
            "A crowd moved twice as far should cost four times as much; with yours it costs twice "
            "as much.",
        ),
        (
            _from_moments(lambda apart, c, d: _right(0 * apart, c, d) + apart.square().mean()),
            "The means are averaged over the features: with more features yours grows too slowly.",
        ),
        (
            _from_moments(_right, correction=0),
            "Very near. Your covariances are a little too small, more so for small crowds: what is "
            "the sum divided by?",
        ),
        (
            _from_moments(
                lambda apart, c, d: apart.square().sum() + (c + d).trace() - _overlap(c, d)
            ),
            "A crowd compared with itself should be at distance 0, but with yours it is not.",
        ),
        (
            _from_moments(
                lambda apart, c, d: (
                    apart.square().sum() + (c + d).trace() - 2 * (c @ d).clamp(min=0).sqrt().trace()
                )
            ),
            "You take the root of each entry. The root of a matrix is another matrix, which "
            "multiplied with itself gives the first.",
        ),
        (
            _from_moments(
                lambda apart, c, d: (
                    apart.square().sum()
                    + (c + d).trace()
                    - 2 * torch.linalg.eigvals(c * d).real.clamp(min=0).sqrt().sum()
                )
            ),
            "You multiply the two covariances entry by entry. The formula's product is that of "
            "matrices.",
        ),
        (
            _from_moments(
                lambda apart, c, d: (
                    apart.square().sum() + (c + d).trace() - 2 * (_root(c) @ _root(d)).trace()
                )
            ),
            "You multiply two roots. With matrices that is not the root of the product, unless "
            "both crowds are stretched along the same axes.",
        ),
        (
            _from_moments(
                lambda apart, c, d: apart.square().sum() + (c + d).trace() - 2 * (c @ d).trace()
            ),
            "Measured in features twice as large, the distance should be four times as large. One "
            "of your terms grows sixteen times: a root is missing.",
        ),
        (
            _from_moments(
                lambda apart, c, d: (
                    apart.square().sum()
                    + (c.diagonal().sqrt() - d.diagonal().sqrt()).square().sum()
                )
            ),
            "Each feature is compared by itself. Two crowds whose features rise and fall together, "
            "and two where they don't, are the same to yours.",
        ),
        (
            _from_moments(lambda apart, c, d: _right(apart, c, d).clamp(min=0).sqrt()),
            "Yours is the root of what everybody reports: the name says distance, but it stays "
            "squared.",
        ),
    ],
    points=4,
)


def _radii(crowd, neighbours):
    return torch.cdist(crowd, crowd).kthvalue(neighbours + 1, dim=1).values


def _with_share(share):
    """A wrong `precision_recall` that differs in share(points, crowd, neighbours): how many of the
    points lie among the crowd."""

    def precision_recall(features, real, neighbours=3):
        return (
            float(share(features, real, neighbours)),
            float(share(real, features, neighbours)),
        )

    return precision_recall


def _swapped(features, real, neighbours=3):
    return _precision_recall(features, real, neighbours)[::-1]


def _same_twice(features, real, neighbours=3):
    precision, _ = _precision_recall(features, real, neighbours)
    return precision, precision


def _always_three(features, real, neighbours=3):
    return _precision_recall(features, real)


def _itself_counted(points, crowd, neighbours):
    radii = torch.cdist(crowd, crowd).kthvalue(neighbours, dim=1).values
    return (torch.cdist(points, crowd) <= radii).any(dim=1).float().mean()


def _own_radius(points, crowd, neighbours):
    near = torch.cdist(points, crowd) <= _radii(points, neighbours)[:, None]
    return near.any(dim=1).float().mean()


def _one_radius(points, crowd, neighbours):
    near = torch.cdist(points, crowd) <= _radii(crowd, neighbours).mean()
    return near.any(dim=1).float().mean()


def _nearest_only(points, crowd, neighbours):
    distance, nearest = torch.cdist(points, crowd).min(dim=1)
    return (distance <= _radii(crowd, neighbours)[nearest]).float().mean()


def _every_member(points, crowd, neighbours):
    return (torch.cdist(points, crowd) <= _radii(crowd, neighbours)).all(dim=1).float().mean()


def _pairs(points, crowd, neighbours):
    return (torch.cdist(points, crowd) <= _radii(crowd, neighbours)).float().mean()


def _members_visited(points, crowd, neighbours):
    return (torch.cdist(points, crowd) <= _radii(crowd, neighbours)).any(dim=0).float().mean()


precision_recall = Exercise(
    reference=_precision_recall,
    cases=[
        lambda: (*_crowds(2, 60, 80, seed=3), 3),
        lambda: (*_crowds(3, 70, 60, seed=4, shift=1.5), 1),
        lambda: (*_crowds(2, 80, 60, seed=5, width=0.5), 5),
        lambda: (*_crowds(3, 150, 120, seed=6, shift=1.0), 4),
    ],
    mistakes=[
        (
            _swapped,
            "Both shares are right, but in the other order: precision, about the drawn pictures, "
            "comes first.",
        ),
        (
            _same_twice,
            "The second is the first again. Recall asks the other way round: whose neighbourhoods, "
            "and who is looked for in them?",
        ),
        (
            _with_share(_itself_counted),
            "Your neighbourhoods are too small: the nearest member of a crowd to one of its own "
            "members is that member itself, at distance 0, and yours counts it.",
        ),
        (
            _with_share(_own_radius),
            "You give a neighbourhood to the one who is looked for. It belongs to the members of "
            "the crowd that it is looked for among.",
        ),
        (
            _with_share(_one_radius),
            "All your neighbourhoods have the same size. Where a crowd is thin they should be "
            "wide, and where it is dense, narrow.",
        ),
        (
            _with_share(_nearest_only),
            "You only ask the nearest member of the crowd. One further away may have a "
            "neighbourhood wide enough to hold the point.",
        ),
        (
            _with_share(_every_member),
            "Hardly anything lies among the crowd: yours wants to be inside every member's "
            "neighbourhood at once.",
        ),
        (
            _with_share(_pairs),
            "That is the share of pairs. A point that lies in many neighbourhoods counts once, "
            "not many times.",
        ),
        (
            _with_share(_members_visited),
            "You count the members whose neighbourhood somebody is in. Asked for is the share of "
            "those who are in one.",
        ),
        (
            _always_three,
            "It takes three neighbours whatever `neighbours` says; the second case asks for 1.",
        ),
    ],
    points=3,
)


def _interval_scale(scale: float, low: int, high: int):
    """A scale for `guide` that depends on t: `scale` from low to high, both included, and 1, the
    plain conditional network, elsewhere. Kynkaanniemi et al., "Applying Guidance in a Limited
    Interval Improves Sample and Distribution Quality in Diffusion Models" (2024)."""
    return lambda t: scale if low <= t <= high else 1.0


_interval_scale.__name__ = "interval_scale"


def _values(arguments, scale_at):
    """The scales at both borders and around them."""
    if scale_at is None:
        return None
    if not callable(scale_at):
        raise NotYet(
            "A number came back. guide needs something that it can call with t at every step."
            if isinstance(scale_at, (int, float))
            else f"A function of t should come back, but {expect.describe(scale_at)} did."
        )
    _, low, high = arguments
    times = sorted({1, low - 1, low, low + 1, (low + high) // 2, high - 1, high, high + 1, 1000})
    times = [t for t in times if 1 <= t <= 1000]
    return {f"t = {t}": expect.number(f"the scale at t = {t}", scale_at(t)) for t in times}


def _made_of(rule):
    """A wrong `interval_scale` that differs in the scale it gives: rule(t, scale, low, high)."""
    return lambda scale, low, high: lambda t: rule(t, scale, low, high)


interval_scale = Exercise(
    reference=_interval_scale,
    cases=[
        lambda: (2.75, 200, 800),
        lambda: (5.5, 100, 300),
        lambda: (0.5, 600, 900),
        lambda: (-1.5, 1, 40),
        lambda: (20.25, 990, 1000),
    ],
    observe=_values,
    mistakes=[
        (
            lambda scale, low, high: scale,
            "A number came back. guide needs something that it can call with t at every step.",
        ),
        (
            lambda scale, low, high: lambda t: scale,
            "The scale is the same at every t: the interval changes nothing.",
        ),
        (
            lambda scale, low, high: lambda t: 1.0,
            "It is 1 at every t. t runs over 1 to 1000, as low and high do.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if low <= t <= high else 0.0),
            "Outside the interval yours doesn't listen to the condition at all: that is what a "
            "scale of 0 means.",
        ),
        (
            _made_of(lambda t, scale, low, high: 1.0 if low <= t <= high else scale),
            "Inside and outside have changed places: yours is strong where it should be plain.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if low < t < high else 1.0),
            "Right, but for t = low and t = high themselves, which belong to the interval.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if low < t <= high else 1.0),
            "Right, but for t = low, which belongs to the interval too.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if low <= t < high else 1.0),
            "Right, but for t = high, which belongs to the interval too.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if t >= low else 1.0),
            "It is strong at large t as well, in the noisiest part of the process: `high` is not "
            "used.",
        ),
        (
            _made_of(lambda t, scale, low, high: scale if t <= high else 1.0),
            "It is strong down to the clean picture: `low` is not used.",
        ),
        (
            _made_of(lambda t, scale, low, high: int(scale) if low <= t <= high else 1.0),
            "The scale is cut to a whole number inside the interval.",
        ),
        (
            _made_of(lambda t, scale, low, high: 1 + scale if low <= t <= high else 1.0),
            "Inside the interval it is one too much: that is the paper's way of counting. Here 1 "
            "is the plain conditional network.",
        ),
    ],
    points=2,
)
