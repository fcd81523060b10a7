"""Lesson 01, forward noising: add_noise, snr, predict_x0."""

import torch

from ..schedule import NoiseSchedule
from . import Exercise
from . import points as points

_schedule = NoiseSchedule.cosine(1000)


def _random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _shares(schedule, t, x):
    return schedule.alpha_bars[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


_each_t = torch.tensor([1, 300, 900])
_last_and_first = torch.tensor([10, 1, 4, 7, 10])  # of ten coarse steps
_cases = [
    lambda: (_schedule, _random(0, 3, 1, 4, 5), 500, _random(1, 3, 1, 4, 5)),
    lambda: (_schedule, _random(2, 3, 2, 5, 4), _each_t.clone(), _random(3, 3, 2, 5, 4)),
    lambda: (NoiseSchedule.linear(1000), _random(4, 1, 3, 4, 2), 1000, _random(5, 1, 3, 4, 2)),
    lambda: (NoiseSchedule.cosine(10), _random(6, 5, 2), _last_and_first, _random(7, 5, 2)),
]


def _no_roots(schedule, x_0, t, noise):
    share = _shares(schedule, t, x_0)
    return share * x_0 + (1 - share) * noise


def _one_root_missing(schedule, x_0, t, noise):
    share = _shares(schedule, t, x_0)
    return share.sqrt() * x_0 + (1 - share) * noise


def _picture_root_missing(schedule, x_0, t, noise):
    share = _shares(schedule, t, x_0)
    return share * x_0 + (1 - share).sqrt() * noise


def _swapped(schedule, x_0, t, noise):
    share = _shares(schedule, t, x_0)
    return (1 - share).sqrt() * x_0 + share.sqrt() * noise


def _alpha_for_alpha_bar(schedule, x_0, t, noise):
    share = schedule.alphas[t].to(x_0.dtype).reshape(-1, *[1] * (x_0.ndim - 1))
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise


def _off_by_one(schedule, x_0, t, noise):
    share = _shares(schedule, t - 1, x_0)
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise


def _noise_not_scaled(schedule, x_0, t, noise):
    return _shares(schedule, t, x_0).sqrt() * x_0 + noise


add_noise = Exercise(
    reference=NoiseSchedule.add_noise,
    cases=_cases,
    mistakes=[
        (
            _no_roots,
            "Its standard deviation at t = 500 is about 0.7, where a picture of unit variance "
            "should stay at 1: the two weights multiply values, so it is their squares that must "
            "add up to 1.",
        ),
        (
            _one_root_missing,
            "The share of the picture is right, the share of the noise too small: 1 - alpha_bar "
            "is its variance, and you multiply by a standard deviation.",
        ),
        (
            _picture_root_missing,
            "The share of the noise is right, the share of the picture too small: alpha_bar is "
            "what is left of its variance, not of its values.",
        ),
        (
            _swapped,
            "The picture gets the noise's weight and the noise the picture's: at t = 1 yours is "
            "nearly pure noise.",
        ),
        (
            _alpha_for_alpha_bar,
            "At t = 500 almost no noise has been added: alphas[t] is what one step keeps; you "
            "need what all the steps up to t keep together.",
        ),
        (
            _off_by_one,
            "It is one step behind: at t = 1 it adds no noise. Here t = 0 is the clean picture, "
            "and the tables are indexed by t itself.",
        ),
        (
            _noise_not_scaled,
            "The noise comes in at full strength at every t: at t = 1 the picture is already "
            "hidden. It needs a weight too.",
        ),
    ],
    points=2,
)

snr = Exercise(
    reference=NoiseSchedule.snr,
    cases=[
        lambda: (_schedule, 500),
        lambda: (_schedule, _each_t.clone()),
        lambda: (NoiseSchedule.linear(1000), 1000),
        lambda: (NoiseSchedule.cosine(10), _last_and_first),
    ],
    mistakes=[
        (
            lambda schedule, t: (schedule.alpha_bars[t] / (1 - schedule.alpha_bars[t])).sqrt(),
            "That is the ratio of the two weights, a ratio of amplitudes. The signal-to-noise "
            "ratio compares variances.",
        ),
        (
            lambda schedule, t: (1 - schedule.alpha_bars[t]) / schedule.alpha_bars[t],
            "It grows with t: yours is noise to signal. The signal stands above the line.",
        ),
        (
            lambda schedule, t: schedule.alphas[t] / schedule.betas[t],
            "That compares what a single step keeps with what it adds. All the steps up to t "
            "count.",
        ),
        (
            lambda schedule, t: (schedule.alpha_bars[t] / (1 - schedule.alpha_bars[t])).log(),
            "That is its logarithm: handy for plots, but not what was asked for here.",
        ),
        (
            lambda schedule, t: schedule.alpha_bars[t],
            "That is the signal's variance alone. What is the noise's, and how do they compare?",
        ),
    ],
    points=1,
)


def _x0_root_missing(schedule, x_t, t, noise):
    share = _shares(schedule, t, x_t)
    return (x_t - (1 - share).sqrt() * noise) / share


def _x0_not_divided(schedule, x_t, t, noise):
    return x_t - (1 - _shares(schedule, t, x_t)).sqrt() * noise


def _x0_noise_not_scaled(schedule, x_t, t, noise):
    return (x_t - noise) / _shares(schedule, t, x_t).sqrt()


def _x0_added(schedule, x_t, t, noise):
    share = _shares(schedule, t, x_t)
    return (x_t + (1 - share).sqrt() * noise) / share.sqrt()


def _x0_multiplied(schedule, x_t, t, noise):
    share = _shares(schedule, t, x_t)
    return (x_t - (1 - share).sqrt() * noise) * share.sqrt()


def _x0_divided_first(schedule, x_t, t, noise):
    share = _shares(schedule, t, x_t)
    return x_t / share.sqrt() - (1 - share).sqrt() * noise


predict_x0 = Exercise(
    reference=NoiseSchedule.predict_x0,
    cases=_cases,
    mistakes=[
        (
            _x0_root_missing,
            "The noise is gone, but the picture comes out too bright: you divide by the share of "
            "the variance, where add_noise multiplied by its root.",
        ),
        (
            _x0_not_divided,
            "The noise is gone, but the picture is still as faint as add_noise made it.",
        ),
        (
            _x0_noise_not_scaled,
            "More noise is taken away than was added: add_noise gave it a weight.",
        ),
        (_x0_added, "The noise got stronger. Undo what add_noise did, in the reverse order."),
        (
            _x0_multiplied,
            "The picture gets fainter instead of stronger: undo a multiplication by its inverse.",
        ),
        (
            _x0_divided_first,
            "Only x_t is divided. The noise that is in x_t must go first, then the rest is "
            "scaled up.",
        ),
    ],
    points=1,
)
