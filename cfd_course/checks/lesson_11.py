"""Lesson 11, the debugging clinic: twenty-five broken pieces.

The first mistake of each exercise, mistakes[0], is the broken piece itself, the one that the lesson
shows as broken_NAME; the others are mends that do not mend it. So "every broken piece fails its
check and every mended one passes" is what the tests say of mistakes and references anyway.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..datasets.shapes import VOCABULARY
from ..schedule import NoiseSchedule
from . import Exercise, NotYet
from . import points as points
from .coins import left_to_chance, no_pattern

_schedule = NoiseSchedule.cosine(1000)
_coarse = NoiseSchedule.linear(10, 0.05, 0.6)


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _learned(seed: int, *shape: int) -> Tensor:
    """As between the layers of a network: a gradient must find its way through."""
    return _random(seed, *shape).requires_grad_()


def _expect_one_each(result, count: int, what: str) -> None:
    if not isinstance(result, Tensor) or result.shape != (count,):
        raise NotYet(
            f"A tensor of shape [{count}] should come back, {what}, but {expect.describe(result)} "
            "did."
        )


def _only_used(generator: torch.Generator) -> dict[str, bool]:
    """Whether an answer drew from the generator, and from nothing else."""
    seeded = torch.Generator().manual_seed(generator.initial_seed()).get_state()
    others = torch.Generator().manual_seed(0).get_state()
    return {
        "the generator was used": not torch.equal(generator.get_state(), seeded),
        "no other random numbers were used": torch.equal(torch.get_rng_state(), others),
    }


# --- Ward 1: the schedule ---------------------------------------------------------------------


def alpha_bars(steps):
    """alpha_bar_1 .. alpha_bar_T, [T], of betas evenly spaced from 0.0001 to 0.02: DDPM section
    4."""
    return (1 - _betas(steps)).cumprod(0)


def _betas(steps):
    return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)  # float32 will do as well


alpha_bars = Exercise(
    reference=alpha_bars,
    cases=[lambda: (1000,), lambda: (300,), lambda: (10,)],
    mistakes=[
        (
            lambda steps: (1 - torch.linspace(0, 1, steps) ** 2).cumprod(0),
            "Already a third of the way everything is noise, and the last steps add none, for "
            "there is nothing left to cover. A beta of 1 wipes the picture out in a single step.",
        ),
        (
            lambda steps: (1 - torch.linspace(1e-4, 0.02, steps) ** 2).cumprod(0),
            "The ends are mended, but the betas are still squared: they should be evenly spaced.",
        ),
        (
            lambda steps: 1 - _betas(steps),
            "Those are the single steps' alphas: each says what one step leaves. Of the picture "
            "there is 98% left at the end; what do a thousand steps leave together?",
        ),
        (
            lambda steps: 1 - _betas(steps).cumsum(0),
            "Your table goes below 0: a share of the picture can't be negative. Each step takes "
            "its part of what is left, not of the whole.",
        ),
        (
            lambda steps: _betas(steps).cumprod(0),
            "After two steps nothing is left: you multiply what each step takes away instead of "
            "what it leaves.",
        ),
        (
            lambda steps: (1 - _betas(steps)).sqrt().cumprod(0),
            "Yours falls half as fast on a logarithmic scale: it is the factor of the picture, and "
            "the table holds the share of its variance.",
        ),
        (
            lambda steps: (1 - _betas(steps).flip(0)).cumprod(0),
            "The end is right and the way is not: the large betas come first, so that the picture "
            "is lost in the beginning, and the network has nothing to do later.",
        ),
        (
            lambda steps: (1 - torch.linspace(1e-4**0.5, 0.02**0.5, steps) ** 2).cumprod(0),
            "That is Stable Diffusion's kind of spacing, even in the square roots. A fine "
            "schedule, but the betas themselves were to be evenly spaced.",
        ),
        (
            lambda steps: torch.cat([torch.ones(1), (1 - _betas(steps)).cumprod(0)]),
            "The numbers are right, with t = 0 in front of them. This table begins at t = 1.",
        ),
        (
            lambda steps: (1 - torch.linspace(1e-4, 0.02, 1000)[:steps]).cumprod(0),
            "Your betas are those of 1000 steps, whatever `steps` is: with fewer they never get to "
            "0.02.",
        ),
        (
            lambda steps: (1 - torch.linspace(1e-4, 0.02, steps + 1)[1:]).cumprod(0),
            "Your betas begin one place too late: the first of them is to be 0.0001.",
        ),
        (
            lambda steps: (1 - torch.linspace(1e-4, 0.02, steps + 1)[:-1]).cumprod(0),
            "Your betas end one place too early: the last of them is to be 0.02.",
        ),
        (
            lambda steps: (1 - _betas(steps) * 1000 / steps).cumprod(0),
            "You make the betas larger where there are fewer steps. A good idea in general, but "
            "these were to go from 0.0001 to 0.02 whatever `steps` is.",
        ),
        (
            lambda steps: torch.exp(-_betas(steps).cumsum(0)),
            "Close, and not it: e to the power of -beta is a little more than 1 - beta, and a "
            "thousand times a little is much.",
        ),
    ],
)


def share_at(alpha_bars, t):
    """alpha_bar_t, [B], for t [B] in 1..T, from a table [T] that begins with alpha_bar_1."""
    return alpha_bars[t - 1]


share_at = Exercise(
    reference=share_at,
    cases=[
        lambda: (torch.tensor([0.9, 0.7, 0.4, 0.2, 0.1, 0.05]), torch.tensor([1, 4, 2, 5])),
        lambda: (torch.tensor([0.95, 0.9, 0.6, 0.3, 0.2]), torch.tensor([3, 1])),
        # The last of all, where the broken one stops with an error.
        lambda: (torch.tensor([0.8, 0.5, 0.002]), torch.tensor([2, 3])),
    ],
    mistakes=[
        (
            lambda alpha_bars, t: alpha_bars[t],
            "Every answer is the neighbour's: asked for t = 1 it reads the second number. And for "
            "the last t there is no neighbour.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[t - 2],
            "Now it is one too early, and t = 1 reads the last number of the table: in Python -1 "
            "is a place too, which is why nothing crashes.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[-t],
            "You read the table from its end: t = 1 gets what belongs to T.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[: len(t)],
            "It returns the first numbers of the table, whatever t is.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[t] / alpha_bars[t - 1],
            "That is what one step leaves of the step before; the share of all the steps together "
            "was asked for.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[t - 1].sqrt(),
            "The place is right, but you return the square root. This function only looks up.",
        ),
        (
            lambda alpha_bars, t: 1 - alpha_bars[t - 1],
            "The place is right, but that is the noise's share, not the picture's.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[(t - 1).clamp(max=len(alpha_bars) - 2)],
            "The last entry of the table is missed: for t = T its neighbour comes back.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[:-1][(t - 1) % (len(alpha_bars) - 1)],
            "The last entry of the table is missed: t = T gets what belongs to t = 1.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[:-1][t - 1],
            "The last entry of the table is missed: there is none for t = T.",
        ),
        (
            lambda alpha_bars, t: torch.cat([alpha_bars[:-1], torch.zeros(1)])[t - 1],
            "The last entry of the table is missed: T has a share of its own, which is not 0.",
        ),
        (
            lambda alpha_bars, t: alpha_bars[(t - 2).clamp(min=0)],
            "One too early: from t = 2 on it reads the number before.",
        ),
    ],
)


def add_noise(alpha_bars, x_0, t, noise):
    """x_t [B, C, H, W], each picture at its own t [B]; alpha_bars [T + 1]."""
    return _mixed(alpha_bars[t][:, None, None, None], x_0, noise)


def _mixed(share, x_0, noise):
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise


def _all_alike(size: int, schedule: NoiseSchedule):
    """As many pictures as rows, columns and channels, so that nothing crashes."""
    t = torch.linspace(2, schedule.steps, size).long()
    shape = [size] * 4
    return schedule.alpha_bars.float(), _random(1, *shape), t, _random(2, *shape)


add_noise = Exercise(
    reference=add_noise,
    cases=[lambda: _all_alike(4, _schedule), lambda: _all_alike(3, _coarse)],
    mistakes=[
        (
            lambda alpha_bars, x_0, t, noise: _mixed(alpha_bars[t], x_0, noise),
            "Every picture is clean on its left and noisy on its right: the t's of the batch were "
            "spread over the columns. The last dimension of x_0 is its width.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: _mixed(alpha_bars[t][:, None], x_0, noise),
            "Every picture is clean at its top and noisy at its bottom: now the t's run down the "
            "rows.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: _mixed(alpha_bars[t][:, None, None], x_0, noise),
            "Each channel has its own noise level, and all the pictures have the same: the t's "
            "went to the colours.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: add_noise.reference(alpha_bars, x_0, t - 1, noise),
            "One place off: this table has T + 1 entries and begins with alpha_bar_0 = 1, so read "
            "row t.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: _mixed(alpha_bars[t[0]], x_0, noise),
            "All pictures are as noisy as the first one.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: _mixed(alpha_bars[t].mean(), x_0, noise),
            "All pictures are equally noisy: the t's were averaged away.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: (
                alpha_bars[t][:, None, None, None] * x_0
                + (1 - alpha_bars[t][:, None, None, None]) * noise
            ),
            "Each picture has its own t now. But x_t is too dull in the middle of the way: shares "
            "of variance were used as factors.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: (
                alpha_bars[t][:, None, None, None].sqrt() * x_0
                + (1 - alpha_bars[t][:, None, None, None].sqrt()) * noise
            ),
            "Each picture has its own t now. But the noise's weight is 1 minus the picture's: "
            "their squares should add up to 1.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: (
                x_0 + (1 - alpha_bars[t][:, None, None, None]).sqrt() * noise
            ),
            "The noise comes in as it should, but the picture never fades.",
        ),
        (
            lambda alpha_bars, x_0, t, noise: (
                alpha_bars[t][:, None, None, None].sqrt() * x_0 + noise
            ),
            "The picture fades as it should, but the noise is there in full from the first step.",
        ),
    ],
)


def step_mean(schedule, x_t, t, noise):
    """The mean of x_(t-1), if `noise` is in x_t: DDPM equation 11. x_t, noise [B, ...]; t a whole
    number."""
    beta, alpha, alpha_bar = _of(schedule, t)
    return (x_t - beta / (1 - alpha_bar) ** 0.5 * noise) / alpha**0.5


def _of(schedule, t):
    return [float(table[t]) for table in (schedule.betas, schedule.alphas, schedule.alpha_bars)]


def _mean_by(formula):
    """A wrong step_mean: formula(x_t, noise, beta, alpha, alpha_bar)."""
    return lambda schedule, x_t, t, noise: formula(x_t, noise, *_of(schedule, t))


def _one_early(schedule, x_t, t, noise):
    return step_mean.reference(schedule, x_t, t - 1, noise)


def _one_bar_early(schedule, x_t, t, noise):
    beta, alpha, _ = _of(schedule, t)
    alpha_bar = _of(schedule, t - 1)[2]
    return (x_t - beta / (1 - alpha_bar) ** 0.5 * noise) / alpha**0.5


step_mean = Exercise(
    reference=step_mean,
    cases=[
        lambda: (_schedule, _random(1, 3, 4), 400, _random(2, 3, 4)),
        lambda: (NoiseSchedule.linear(50, 1e-3, 0.3), _random(3, 2, 5), 20, _random(4, 2, 5)),
        lambda: (_schedule, _random(5, 2, 1, 3, 4), 900, _random(6, 2, 1, 3, 4)),
        lambda: (_coarse, _random(7, 5, 2), 10, _random(8, 5, 2)),
        lambda: (_schedule, 4 * _random(9, 4, 3), 1, _random(10, 4, 3)),
    ],
    mistakes=[
        (
            _mean_by(
                lambda x, e, beta, alpha, bar: (x - beta / (1 - alpha) ** 0.5 * e) / alpha**0.5
            ),
            "It takes away many times too much noise. `noise` is all the noise in x_t, "
            "gathered in t steps; how much of it is one step's part?",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: (x - beta * e) / alpha**0.5),
            "It takes away a little too little: nothing tells it how much of x_t is noise by now.",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: x - beta / (1 - bar) ** 0.5 * e),
            "The noise is right, but the step forgets to brighten: on the way there each step made "
            "the picture a little duller.",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: (x - beta / (1 - bar) ** 0.5 * e) / bar**0.5),
            "It brightens by what all the steps so far have dulled, in each step again: the "
            "picture grows beyond bounds.",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: (x - (1 - bar) ** 0.5 * e) / bar**0.5),
            "That is the guess of x_0: it goes all the way. One step was asked for.",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: (x + beta / (1 - bar) ** 0.5 * e) / alpha**0.5),
            "It adds noise instead of taking it away.",
        ),
        (
            _mean_by(lambda x, e, beta, alpha, bar: (x - beta / (1 - bar) * e) / alpha**0.5),
            "The right share, but as a variance: noise is scaled by a standard deviation.",
        ),
        *[
            (
                wrong,
                "One place off: these tables have T + 1 entries and begin with t = 0, where "
                "alpha_bar is 1, so read row t.",
            )
            for wrong in (_one_early, _one_bar_early)
        ],
    ],
)

# --- Ward 2: the network ----------------------------------------------------------------------


def time_features(t, frequencies):
    """Sines, then cosines, of t times each frequency: t [B], frequencies [F] -> [B, 2 F]."""
    angles = _angles(t, frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _angles(t, frequencies):
    return t.float()[:, None] * frequencies


def _twice(x):
    return torch.cat([x, x], dim=1)


time_features = Exercise(
    reference=time_features,
    cases=[
        lambda: (torch.tensor([1, 500, 1000]), torch.tensor([1.0, 0.1, 0.01, 0.001])),
        lambda: (torch.tensor([7, 8]), torch.tensor([1.0, 0.03])),
    ],
    mistakes=[
        (
            lambda t, frequencies: _twice(_angles(t, frequencies)),
            "The features reach 1000 at the end and 1 in the beginning: late times shout, and "
            "neighbours such as 500 and 501 look the same to the network.",
        ),
        (
            lambda t, frequencies: _twice(_angles(t, frequencies) / 1000),
            "They stay small now, but there is still only one slope: 500 and 501 differ by a "
            "thousandth in every feature.",
        ),
        (
            lambda t, frequencies: _twice(_angles(t, frequencies).sin()),
            "Both halves are the same. A sine alone can't tell the two sides of its hill apart.",
        ),
        (
            lambda t, frequencies: torch.cat(
                [_angles(t, frequencies).cos(), _angles(t, frequencies).sin()], dim=1
            ),
            "Both kinds are there, but in the other order. Weights that were trained with the one "
            "order are lost with the other.",
        ),
        (
            lambda t, frequencies: torch.stack(
                [_angles(t, frequencies).sin(), _angles(t, frequencies).cos()], dim=2
            ).flatten(1),
            "Sines and cosines take turns. All the sines were to stand first.",
        ),
        (
            lambda t, frequencies: _twice(_angles(t, frequencies).tanh()),
            "From t = 3 on the first features are all 1: what is squashed can't be told apart.",
        ),
        (
            lambda t, frequencies: _twice(_angles(t, frequencies).log()),
            "The logarithm brings the range down, but late times come to lie ever closer together.",
        ),
    ],
)


def residual(x, conv_1, conv_2):
    """x [B, C, H, W] and what two convolutions, with a ReLU between them, have to add to it."""
    return x + conv_2(F.relu(conv_1(x)))


def _two_convolutions(seed: int, batch: int, channels: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    return _random(seed, batch, channels, 5, 4), *convolutions


residual = Exercise(
    reference=residual,
    cases=[lambda: _two_convolutions(0, 2, 4), lambda: _two_convolutions(1, 3, 3)],
    mistakes=[
        (
            lambda x, conv_1, conv_2: F.relu(x + conv_2(F.relu(conv_1(x)))),
            "No number that leaves the block is ever negative. Noise is negative half of the time, "
            "and with each block the features drift further up.",
        ),
        (
            lambda x, conv_1, conv_2: x + F.relu(conv_2(F.relu(conv_1(x)))),
            "Better, but the branch can only add, never take away: the features still drift up.",
        ),
        (
            lambda x, conv_1, conv_2: F.relu(x) + conv_2(F.relu(conv_1(x))),
            "The shortcut is cut short: whatever was negative in x is lost on the way.",
        ),
        (
            lambda x, conv_1, conv_2: conv_2(F.relu(conv_1(x))),
            "The shortcut is gone: what leaves the block has forgotten x.",
        ),
        (
            lambda x, conv_1, conv_2: x + conv_2(conv_1(x)),
            "Two convolutions with nothing between them are one convolution.",
        ),
        (
            lambda x, conv_1, conv_2: x + conv_2(F.relu(x + conv_1(x))),
            "There are two shortcuts now. One, around both convolutions, was asked for.",
        ),
        (
            lambda x, conv_1, conv_2: x + conv_1(F.relu(conv_2(x))),
            "The two convolutions have changed places.",
        ),
    ],
)


def as_rows(x):
    """A row of channels for each place: [B, C, H, W] -> [B, H * W, C]."""
    return x.flatten(2).transpose(1, 2)


as_rows = Exercise(
    reference=as_rows,
    cases=[lambda: (_learned(0, 2, 3, 4, 4),), lambda: (_learned(1, 3, 4, 2, 5),)],
    mistakes=[
        (
            lambda x: x.reshape(len(x), -1, x.shape[1]),
            "The shape is right and the numbers are scrambled: the first row holds three "
            "neighbouring pixels of the first channel instead of one pixel's three channels. "
            "Reshaping never moves a number.",
        ),
        (
            lambda x: x.flatten(2),
            "The channels come before the places still: [B, C, H * W].",
        ),
        (
            lambda x: x.permute(0, 3, 2, 1).flatten(1, 2),
            "Each row is one pixel, but they are read column by column: back in the picture "
            "everything would lie on its side.",
        ),
        (
            lambda x: x.permute(0, 2, 3, 1),
            "The channels come last, as they should, but height and width are still two "
            "dimensions.",
        ),
        (
            lambda x: x.permute(1, 2, 3, 0).flatten(1, 2),
            "The batch and the channels have changed places.",
        ),
        (
            lambda x: x.flatten(2).transpose(1, 2).flip(1),
            "The rows are right but they begin at the bottom right.",
        ),
    ],
)


def attend(queries, keys, values, heads):
    """Attention in `heads` parts of the channels, each by itself. queries [B, N, C], keys and
    values [B, M, C] -> [B, N, C]."""
    return _attended(queries, keys, values, heads, (queries.shape[2] // heads) ** -0.5)


def _split(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _join(x):
    return x.transpose(1, 2).flatten(2)


def _attended(queries, keys, values, heads, factor, dim=-1):
    queries, keys, values = (_split(x, heads) for x in (queries, keys, values))
    return _join((factor * queries @ keys.mT).softmax(dim) @ values)


def _scrambled_heads(queries, keys, values, heads):
    width = queries.shape[2] // heads
    queries, keys, values = (x.reshape(len(x), heads, -1, width) for x in (queries, keys, values))
    return (queries @ keys.mT / width**0.5).softmax(-1).matmul(values).transpose(1, 2).flatten(2)


def _joined_without_turning(queries, keys, values, heads):
    split = [_split(x, heads) for x in (queries, keys, values)]
    return F.scaled_dot_product_attention(*split).reshape(queries.shape)


def _interleaved_heads(queries, keys, values, heads):
    split = [x.unflatten(2, (-1, heads)).permute(0, 3, 1, 2) for x in (queries, keys, values)]
    return F.scaled_dot_product_attention(*split).permute(0, 2, 3, 1).flatten(2)


def _heads_case(seed: int, batch: int, places: int, words: int, channels: int, heads: int):
    counts = places, words, words
    queries, keys, values = (
        (1.5 * _random(seed + i, batch, count, channels)).requires_grad_()
        for i, count in enumerate(counts)
    )
    return queries, keys, values, heads


attend = Exercise(
    reference=attend,
    cases=[
        lambda: _heads_case(0, 2, 5, 3, 8, 2),
        lambda: _heads_case(3, 3, 4, 6, 18, 3),
        lambda: _heads_case(6, 1, 2, 7, 5, 1),
    ],
    mistakes=[
        (
            lambda q, k, v, heads: _attended(q, k, v, 1, (q.shape[2] // heads) ** -0.5),
            "There is one head, whatever `heads` says: each place has one list of weights for all "
            "its channels, and since the factor is that of a narrow head, the list is too sharp.",
        ),
        (
            lambda q, k, v, heads: _attended(q, k, v, 1, q.shape[2] ** -0.5),
            "A proper attention, with a single head. `heads` still has no effect.",
        ),
        (
            lambda q, k, v, heads: _attended(q, k, v, heads, q.shape[2] ** -0.5),
            "The heads are there, but their weights are too even: each head's dot product is "
            "shorter than the factor supposes.",
        ),
        (
            lambda q, k, v, heads: _attended(q, k, v, heads, 1.0),
            "The heads are there, but their weights are too sharp: nothing makes up for the number "
            "of products in a sum.",
        ),
        (
            _scrambled_heads,
            "The shapes are right, but a head now holds pieces of several places: the numbers were "
            "cut up in the order in which they lie in memory.",
        ),
        (
            _joined_without_turning,
            "Each head is right, but put together again in the wrong order: one place gets pieces "
            "of several.",
        ),
        (
            _interleaved_heads,
            "Each head takes every so-many-th channel instead of a block of neighbours. It would "
            "train as well, but no weights from elsewhere fit it.",
        ),
        (
            lambda q, k, v, heads: _attended(q, k, v, heads, (q.shape[2] // heads) ** -0.5, -2),
            "The weights of a place don't add up to 1; those of a key do.",
        ),
        (
            lambda q, k, v, heads: _attended(q, k, v, heads, (q.shape[2] // heads) ** -0.5, 1),
            "The softmax goes over the heads: what one says of a key depends on the others. Each "
            "head has weights of its own, which add up to 1 over the keys.",
        ),
        *[
            (
                wrong,
                "The number of heads and their width are exchanged: `heads` heads, each C / heads "
                "channels wide.",
            )
            for wrong in (
                lambda q, k, v, heads: _attended(
                    q, k, v, q.shape[2] // heads, (q.shape[2] // heads) ** -0.5
                ),
                lambda q, k, v, heads: _attended(q, k, v, q.shape[2] // heads, heads**-0.5),
            )
        ],
        (
            lambda q, k, v, heads: (
                _attended(q, k, v, heads, (q.shape[2] // heads) ** -0.5)
                .unflatten(2, (heads, -1))
                .mean(2)
            ),
            "The heads are averaged. Each has channels of the result to itself, side by side.",
        ),
    ],
)


def look_at_words(x, attend, words):
    """x [B, N, C] with what its places hear from the words [B, L, C]; attend(x, words) is that."""
    return x + attend(x, words)


def _attention(x, words):
    return (x @ words.mT).softmax(-1) @ words


look_at_words = Exercise(
    reference=look_at_words,
    cases=[
        lambda: (_learned(0, 2, 6, 4), _attention, _learned(1, 2, 3, 4)),
        lambda: (_learned(2, 3, 5, 2), _attention, _learned(3, 3, 1, 2)),
    ],
    mistakes=[
        (
            lambda x, attend, words: attend(x, words),
            "Only the words are left, and with a single word every place says the same: the "
            "picture is gone.",
        ),
        (
            lambda x, attend, words: x * attend(x, words),
            "Where a word says 0 the picture goes out, and where it says -1 it turns over: the "
            "words should have something to add to it.",
        ),
        (
            lambda x, attend, words: (x + attend(x, words)) / 2,
            "The picture is there, at half its strength, and after ten such layers at a "
            "thousandth of it.",
        ),
        (
            lambda x, attend, words: x + attend(x, x),
            "The picture looks at itself. Nobody listens to the words.",
        ),
        (
            lambda x, attend, words: x,
            "Nobody listens to the words.",
        ),
        (
            lambda x, attend, words: x + words.mean(1, keepdim=True),
            "Every place hears the same mean of all the words, instead of those that fit it.",
        ),
        (
            lambda x, attend, words: torch.cat([x, attend(x, words)], dim=2),
            "Both are there, side by side: that doubles the channels, which the next layer does "
            "not expect.",
        ),
    ],
)


def decoder_channels(base):
    """(channels that come in, channels that leave) of the three decoder blocks, coarse to fine."""
    return [(8 * base, 2 * base), (4 * base, base), (2 * base, base)]


decoder_channels = Exercise(
    reference=decoder_channels,
    cases=[lambda: (64,), lambda: (16,)],
    mistakes=[
        (
            lambda b: [(4 * b + 2 * b, 2 * b), (2 * b + b, b), (b + 3, b)],
            "The first block expects 6 times base channels, and 8 times base arrive. Each skip was "
            "counted with the channels of the level above it.",
        ),
        (
            lambda b: [(8 * b, 2 * b), (2 * b + b, b), (b + 3, b)],
            "The first block is mended, and the second one stops now, for the same reason.",
        ),
        (
            lambda b: [(8 * b, 2 * b), (4 * b, b), (b + 3, b)],
            "Two blocks are mended. The last one expects x_t itself as its skip, but what arrives "
            "is the first encoder's output.",
        ),
        (
            lambda b: [(4 * b, 2 * b), (2 * b, b), (b, b)],
            "Only what comes from below is counted. The skip is concatenated to it.",
        ),
        (
            lambda b: [(2 * b, b), (4 * b, b), (8 * b, 2 * b)],
            "The numbers are right, and in the order of the encoder. The decoder begins at the "
            "coarse end.",
        ),
        (
            lambda b: [(8 * b, 4 * b), (6 * b, 2 * b), (3 * b, b)],
            "That would fit together too, with wider outputs than the ones that were asked for: "
            "keep those, and mend what comes in.",
        ),
    ],
)


def enlarge_to(h, skip):
    """h [B, C, ...], by its nearest pixels, at the height and width of skip [B, D, H, W]."""
    return F.interpolate(h, size=skip.shape[2:], mode="nearest")


def _padded_to(h, skip):
    h = F.interpolate(h, scale_factor=2, mode="nearest")
    return F.pad(h, (0, skip.shape[3] - h.shape[3], 0, skip.shape[2] - h.shape[2]))


enlarge_to = Exercise(
    reference=enlarge_to,
    cases=[
        lambda: (_learned(0, 2, 3, 3, 3), _random(1, 2, 5, 7, 7)),
        lambda: (_learned(2, 1, 3, 2, 3), _random(3, 1, 4, 5, 6)),
    ],
    mistakes=[
        (
            lambda h, skip: F.interpolate(h, scale_factor=2, mode="nearest"),
            "3 pixels become 6, and the skip has 7: halving 7 lost one, and doubling does not "
            "bring it back.",
        ),
        (
            _padded_to,
            "The size fits, but the last column and row are zeros: a seam at the right and the "
            "bottom of every picture.",
        ),
        (
            lambda h, skip: F.interpolate(h, size=skip.shape[2], mode="nearest"),
            "Right for square pictures. The second case is wider than high.",
        ),
        (
            lambda h, skip: F.interpolate(h, size=(7, 7), mode="nearest"),
            "Right for pictures of 28 pixels. The second case has others.",
        ),
        (
            lambda h, skip: F.interpolate(h, size=skip.shape[2:], mode="bilinear"),
            "The size is right; the pixels are blended with their neighbours. The nearest were "
            "asked for.",
        ),
        (
            lambda h, skip: F.interpolate(h, size=h.shape[2:], mode="nearest"),
            "It stays as small as it was.",
        ),
        (
            lambda h, skip: F.interpolate(h, size=skip.shape[3:1:-1], mode="nearest"),
            "Height and width have changed places.",
        ),
    ],
)

# --- Ward 3: training -------------------------------------------------------------------------


def to_range(pictures):
    """Bytes 0..255, uint8 [B, C, H, W], as the floats from -1 to 1 that a network takes."""
    return pictures.float() / 127.5 - 1


to_range = Exercise(
    reference=to_range,
    cases=[
        lambda: (torch.arange(0, 256, dtype=torch.uint8).reshape(1, 1, 16, 16),),
        lambda: (torch.tensor([5, 10, 200, 128], dtype=torch.uint8).reshape(1, 1, 2, 2),),
        lambda: (torch.arange(90, 150, dtype=torch.uint8).reshape(2, 3, 2, 5),),
    ],
    mistakes=[
        (
            lambda pictures: pictures / 255,
            "Black is 0 here, which is the network's middle grey. Noise has the mean 0, and so "
            "should pictures have, roughly.",
        ),
        (
            lambda pictures: pictures / 255 - 0.5,
            "Middle grey is right now, but black and white are only halfway: half the contrast, a "
            "quarter of the variance.",
        ),
        (
            lambda pictures: pictures / 127.5,
            "Black is 0 and white is 2.",
        ),
        (
            lambda pictures: (pictures - 128) / 127.5,
            "Black came out as middle grey or brighter: a byte can't be negative, 0 - 128 wraps "
            "around. Become a float first.",
        ),
        (
            lambda pictures: 2 * pictures / 255 - 1,
            "Whatever is brighter than middle grey comes out dark: a byte holds 255 at most, and "
            "twice a bright one wraps around. Become a float first.",
        ),
        (
            lambda pictures: 1 - pictures / 127.5,
            "Black and white have changed places.",
        ),
        (
            lambda pictures: (pictures - pictures.float().mean()) / pictures.float().std(),
            "Each batch is stretched by its own mean and spread: the same grey has another value "
            "in every batch, and nothing stays within -1..1.",
        ),
        (
            lambda pictures: pictures / 128 - 1,
            "White is 0.992: 255 is one less than 256.",
        ),
    ],
)


def draw_times(count, steps, generator):
    """A t in 1..steps for each of `count` examples, all equally likely, independent, [count]."""
    return torch.randint(1, steps + 1, (count,), generator=generator)


def _facts_of_times(arguments, t):
    count, steps, generator = arguments
    if t is None:
        return None
    several = "one number for each example, of which several may have the same t"
    _expect_one_each(t, count, several)
    if t.is_floating_point():
        return "numbers that are not whole"
    shares = torch.bincount(t.clamp(0, steps + 1), minlength=steps + 2) / count
    return {
        "t = 0 never comes": bool(shares[0] == 0),
        "t = T comes": bool(shares[steps] > 0),
        "nothing above T comes": bool(shares[steps + 1] == 0),
        "examples differ": len(t.unique()) > 1,
        "all are equally likely": bool(((shares[1:-1] * steps - 1).abs() < 0.25).all()),
        "they come in no order": len(t.unique()) == 1 or no_pattern(t),
        "how often each comes is left to chance": len(shares[1:-1].unique()) > 1,
        **_only_used(generator),
    }


draw_times = Exercise(
    reference=draw_times,
    cases=[
        lambda: (8000, 8, torch.Generator().manual_seed(1)),
        lambda: (8000, 10, torch.Generator().manual_seed(2)),
    ],
    observe=_facts_of_times,
    mistakes=[
        (
            lambda count, steps, g: torch.randint(1, steps + 1, (1,), generator=g).expand(count),
            "All examples of a batch share one t: a batch is either easy or hard, and the loss "
            "jumps up and down. Each example needs its own.",
        ),
        (
            lambda count, steps, g: torch.randint(0, steps, (count,), generator=g),
            "t = 0 comes, which is the clean picture without any noise to predict, and T never "
            "does, where every drawing starts.",
        ),
        (
            lambda count, steps, g: torch.randint(1, steps, (count,), generator=g),
            "T never comes: the upper end of randint is not included. Drawing starts there.",
        ),
        (
            lambda count, steps, g: 1 + (steps - 1) * torch.rand(count, generator=g),
            "The t's have digits after the point. They count steps.",
        ),
        (
            lambda count, steps, g: (
                (1 + (steps - 1) * torch.rand(count, generator=g)).round().long()
            ),
            "The first and the last t come half as often as the others: only half an interval is "
            "rounded to each.",
        ),
        (
            lambda count, steps, g: torch.randint(1, steps + 1, (count,)),
            "The generator is not used, so nobody can repeat this training.",
        ),
        (
            lambda count, steps, g: torch.randint(
                1, steps + 1, (count // 2,), generator=g
            ).repeat_interleave(2),
            "Neighbours share a t. Each example needs its own.",
        ),
        (
            lambda count, steps, g: torch.arange(count) % steps + 1,
            "The t's come in their order: the first examples of a batch are always the easy ones.",
        ),
        (
            lambda count, steps, g: torch.randint(0, steps + 1, (count,), generator=g),
            "Now T comes, but t = 0 comes as well: there is no noise to predict in it.",
        ),
    ],
)


def told(count, drop, generator):
    """Whether each of `count` examples is told its condition, bool [count]: each is dropped with
    the probability `drop`, by itself."""
    return torch.rand(count, generator=generator) >= drop


def _facts_of_told(arguments, mask):
    count, drop, generator = arguments
    if mask is None:
        return None
    _expect_one_each(mask, count, "True or False for each example")
    if mask.dtype != torch.bool:
        return "numbers instead of True and False"
    share, many = float(mask.float().mean()), count > 100_001
    steps = 200 if many else 10
    return {
        "the share of the told": f"{round(steps * share) / steps:.1%}",
        "each example decides for itself": 0 < share < 1,
        "they come in no order": share in (0, 1) or many or no_pattern(mask),
        "how many are told is left to chance": not many or left_to_chance(~mask, drop),
        **_only_used(generator),
    }


told = Exercise(
    reference=told,
    cases=[
        lambda: (8000, 0.1, torch.Generator().manual_seed(1)),
        lambda: (8000, 0.3, torch.Generator().manual_seed(2)),
        lambda: (100_001, 0.004, torch.Generator().manual_seed(3)),
        lambda: (200_000, 0.125, torch.Generator().manual_seed(4)),
    ],
    observe=_facts_of_told,
    mistakes=[
        (
            lambda count, drop, g: (torch.rand(1, generator=g) < drop).expand(count),
            "Two faults: a whole batch is told or not told together, and with drop = 0.1 it is "
            "told once in ten times instead of nine times.",
        ),
        (
            lambda count, drop, g: (torch.rand(1, generator=g) >= drop).expand(count),
            "One of two faults is mended: a whole batch still shares one decision.",
        ),
        (
            lambda count, drop, g: torch.rand(count, generator=g) < drop,
            "One of two faults is mended: each example decides for itself. But drop = 0.1 keeps "
            "one in ten: the network hardly ever learns what the condition means.",
        ),
        (
            lambda count, drop, g: torch.randn(count, generator=g) >= drop,
            "About half are told, whatever `drop` is: these random numbers are not even between 0 "
            "and 1.",
        ),
        (
            lambda count, drop, g: (torch.rand(count, generator=g) >= drop).float(),
            "The decisions are right, but they are numbers. True and False can pick and be turned "
            "round.",
        ),
        (
            lambda count, drop, g: torch.rand(count) >= drop,
            "The generator is not used, so nobody can repeat this training.",
        ),
        (
            lambda count, drop, g: torch.randperm(count, generator=g) >= round(drop * count),
            "It always drops the same number of examples, as if drawn from an urn without putting "
            "back: whether one is told depends on the others. Each decides by itself.",
        ),
        (
            lambda count, drop, g: (
                torch.rand((count + 1) // 2, generator=g).repeat_interleave(2)[:count] >= drop
            ),
            "Neighbours share a decision. Each example needs its own.",
        ),
        (
            lambda count, drop, g: torch.randint(100, (count,), generator=g) >= int(100 * drop),
            "The probability is cut to whole percents: with drop = 0.004 nobody is dropped.",
        ),
        (
            lambda count, drop, g: torch.arange(count) >= drop * count,
            "It is always the first examples of a batch that are not told.",
        ),
    ],
)


def hide_labels(labels, told, classes):
    """The labels [B], each in 0..classes - 1, with the number `classes` where told [B] is
    False."""
    return torch.where(told, labels, classes)


hide_labels = Exercise(
    reference=hide_labels,
    cases=[
        lambda: (
            torch.tensor([3, 0, 4, 1, 2]),
            torch.tensor([True, False, False, True, False]),
            5,
        ),
        lambda: (torch.tensor([0, 9, 9]), torch.tensor([False, True, False]), 10),
        lambda: (torch.tensor([2, 0, 1, 1]), torch.tensor([True, False, True, True]), 7),
        lambda: (torch.tensor([3, 0]), torch.tensor([False, False]), 5),
    ],
    mistakes=[
        (
            lambda labels, told, classes: labels * told,
            "Who is told nothing is told 0, and 0 is a label like the others: the network learns "
            '"a 0, or else anything" for both.',
        ),
        (
            lambda labels, told, classes: (labels + 1) * told,
            "No label looks like nothing now, but all labels have moved by one.",
        ),
        (
            lambda labels, told, classes: torch.where(told, labels, classes - 1),
            "Who is told nothing is told the last label, for labels begin at 0.",
        ),
        (
            lambda labels, told, classes: torch.where(told, labels, -1),
            "-1 has no row in a table of embeddings: an error at best, and the table's last row "
            "where negative places count from the end.",
        ),
        (
            lambda labels, told, classes: torch.where(told, classes, labels),
            "It hides the labels of those who should be told.",
        ),
        (
            lambda labels, told, classes: torch.where(told, labels, torch.randint(classes, (1,))),
            "Who is told nothing is told some label, which is wrong nearly always: the network "
            "learns to mistrust all of them.",
        ),
        (
            lambda labels, told, classes: torch.where(told, labels, classes + 1),
            "There is a gap: the next free number was asked for.",
        ),
        (
            lambda labels, told, classes: labels[told],
            "The batch got shorter: pictures and labels no longer belong together. All stay, and "
            "some are not told.",
        ),
    ],
)


def train_on(network, optimizer, batches):
    """Take a step on each of the batches (x, wanted). Returns the losses."""
    losses = []
    for x, wanted in batches:
        loss = (network(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _training_case(seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)
    batches = [(_random(seed + i, 8 - i, 3), _random(seed + 10 + i, 8 - i, 2)) for i in range(4)]
    return network, optimizer, batches


def _trained(arguments, losses):
    if losses is None:
        return None
    if isinstance(losses, (list, tuple)) and any(isinstance(loss, Tensor) for loss in losses):
        raise NotYet(
            "The losses came back as tensors, each with all that it was computed from: keep a few "
            "thousand, and the memory is full. Plain numbers were asked for."
        )
    return {"losses": losses, **arguments[0].state_dict()}


def _loop(*actions: str):
    """A wrong train_on, that does these things in this order: "zero", "backward", "step"."""

    def train_on(network, optimizer, batches):
        losses = []
        for x, wanted in batches:
            loss = (network(x) - wanted).square().mean()
            for action in actions:
                {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}[
                    action
                ]()
            losses.append(loss.item())
        return losses

    return train_on


def _one_step_at_the_end(network, optimizer, batches):
    losses = _loop("backward")(network, optimizer, batches)
    optimizer.step()
    return losses


def _last_loss_only(network, optimizer, batches):
    return _loop("zero", "backward", "step")(network, optimizer, batches)[-1]


def _new_optimizer(network, optimizer, batches):
    losses = []
    for batch in batches:
        fresh = type(optimizer)(network.parameters(), **optimizer.defaults)
        losses += _loop("zero", "backward", "step")(network, fresh, [batch])
    return losses


train_on = Exercise(
    reference=train_on,
    cases=[lambda: _training_case(0), lambda: _training_case(50)],
    observe=_trained,
    mistakes=[
        (
            _loop("backward", "step"),
            "The first step is right, and each later one walks along the gradients of all the "
            "batches before it as well: the loss swings up and down.",
        ),
        (
            _loop("backward", "zero", "step"),
            "The loss never moves: no step is taken, or it's taken along gradients that were wiped "
            "out before anyone walked along them.",
        ),
        (
            _loop("step", "zero", "backward"),
            "Each step walks along the gradient of the batch before, and the last batch's gradient "
            "is never used.",
        ),
        (
            _one_step_at_the_end,
            "There is one step after all the batches, along the sum of their gradients.",
        ),
        (
            _last_loss_only,
            "The training is right. The losses of all the batches were asked for, in a list.",
        ),
        (
            _loop("zero", "backward", "step", "step"),
            "Each gradient is walked along twice.",
        ),
        (
            _new_optimizer,
            "The weights move, but more slowly from the second step on: the optimizer is a new one "
            "each time, and has forgotten its momentum.",
        ),
    ],
)


def preview(network, average, x):
    """What the averaged network says to x, as it is meant to be used; training goes on as if
    nobody had looked."""
    average.eval()
    with torch.no_grad():
        return average(x)


def _preview_case(seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both = [nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 4)) for _ in "na"]
    return *both, _random(seed, 5, 4)  # both in training mode, as modules are born


def _seen(arguments, result):
    if result is None:
        return None
    if not isinstance(result, Tensor):
        raise NotYet(f"A prediction should come back, but {expect.describe(result)} did.")
    return {
        "prediction": result,
        "a graph hangs on it": result.requires_grad,
        "the network is still training": arguments[0].training,
        "the network's weights can still learn": all(
            weight.requires_grad for weight in arguments[0].parameters()
        ),
    }


def _preview_by(which: int, mode: str, graph: bool, also: str = ""):
    """A wrong preview: by network 0 or 1, in "eval" or "train" mode."""

    def preview(network, average, x):
        chosen = (network, average)[which]
        chosen.train(mode == "train")
        if also == "both":
            network.eval()
        with torch.set_grad_enabled(graph):
            return chosen(x)

    return preview


preview = Exercise(
    reference=preview,
    cases=[lambda: _preview_case(0), lambda: _preview_case(1)],
    observe=_seen,
    mistakes=[
        (
            lambda network, average, x: network(x),
            "It asks the network that is being trained, with dropout at work and a graph behind "
            "every answer: ask twice, and it says two different things.",
        ),
        (
            _preview_by(0, "train", graph=False),
            "No graph any more. But it is the network in training, and dropout is at work.",
        ),
        (
            _preview_by(0, "eval", graph=False),
            "The same answer twice, but not the averaged network's. And afterwards the training "
            "goes on without dropout: the network was never set back.",
        ),
        (
            _preview_by(1, "train", graph=False),
            "The averaged network, at last. Modules are born in training mode, copies too: dropout "
            "is at work in it.",
        ),
        (
            _preview_by(1, "eval", graph=True),
            "The prediction is right, but each one drags a graph along: after a thousand steps of "
            "a sampler the memory is full.",
        ),
        (
            _preview_by(1, "train", graph=True),
            "The averaged network, but in training mode, and with a graph behind every answer.",
        ),
        (
            _preview_by(1, "eval", graph=False, also="both"),
            "The prediction is right, but looking has changed the training: the network was set "
            "to evaluation too, and stays there.",
        ),
    ],
)

# --- Ward 4: guidance and sampling ------------------------------------------------------------


def guided(null, told, scale):
    """The guided noise, of which scale 0 is the untold and 1 the told prediction; all [B, ...]."""
    return null + scale * (told - null)


guided = Exercise(
    reference=guided,
    cases=[
        lambda: (_random(0, 2, 3), _random(1, 2, 3), 0.0),
        lambda: (_random(2, 2, 3), _random(3, 2, 3), 1.0),
        lambda: (_random(4, 3, 1, 2, 4), _random(5, 3, 1, 2, 4), 4.6),
        lambda: (_random(6, 4, 2), _random(7, 4, 2), 1.5),
        lambda: (_random(8, 4, 2), _random(9, 4, 2), -2.25),
    ],
    mistakes=[
        (
            lambda null, told, scale: told + scale * (told - null),
            "Your 0 is the told prediction and your 1 is already twice the push. The formula is "
            "one of the two that are in use, but not the one whose 0 means untold.",
        ),
        (
            lambda null, told, scale: null + min(scale, 1) * (told - null),
            "Right up to 1, and then it stops. Guidance is no interpolation: it is meant to go "
            "past the told prediction.",
        ),
        (
            lambda null, told, scale: scale * told + (scale - 1) * null,
            "The two weights should add up to 1 at every scale, and yours add up to 2 s - 1. A "
            "sign before the untold prediction is wrong.",
        ),
        *[
            (
                lambda null, told, scale, cut=cut: null + cut(scale) * (told - null),
                "The scale is cut to a whole number: with yours 1.5 is the same as a number next "
                "to it.",
            )
            for cut in (int, round)
        ],
        (
            lambda null, told, scale: (null + scale * told) / (1 + scale),
            "A weighted mean of the two always lies between them, however large the scale is.",
        ),
        (
            lambda null, told, scale: told + scale * (null - told),
            "The two ends have changed places: your 0 is the told one, and large scales push away "
            "from the condition.",
        ),
        (
            lambda null, told, scale: null + scale * told,
            "At scale 1 it is the sum of both predictions: about twice as much noise as there is.",
        ),
        (
            lambda null, told, scale: scale * told,
            "The untold prediction is not used: a larger scale only makes everything larger.",
        ),
        (
            lambda null, told, scale: null + (scale - 1) * (told - null),
            "Yours is one behind: at scale 1 it is still untold.",
        ),
    ],
)


def both_at_once(network, x_t, t, condition):
    """The untold and the told prediction, in this order, from one call of the network on a batch
    of twice the length."""
    return _both(network, x_t, t, [condition.absent(), condition])


def _both(network, x_t, t, conditions):
    both = Condition.concatenate(conditions)
    return tuple(network(torch.cat([x_t, x_t]), t, both).chunk(2))


class _Network(nn.Module):
    """Says something that depends on everything, and counts how often it is asked."""

    asked = 0

    def forward(self, x_t, t, condition):
        self.asked += 1
        label = torch.where(condition.present, condition.tokens[:, 0].float(), -2.0)
        told = (label * (1 + t / 1000)).reshape(-1, *[1] * (x_t.ndim - 1))
        return 2 * x_t.sin() + told * (2 * x_t).cos()


def _asked_once(arguments, result):
    if not isinstance(result, (tuple, list)):
        return result
    return {
        "untold and told": tuple(result),
        "the network is asked once": arguments[0].asked == 1,
    }


def _condition_case(seed: int, shape: tuple[int, ...], *labels: int):
    tokens = torch.tensor(labels)[:, None]
    x_t = _random(seed, len(labels), *shape)
    return _Network(), x_t, 100 * seed + 100, Condition(tokens=tokens)


def _interleaved(network, x_t, t, condition):
    both = Condition.concatenate([condition.absent(), condition])
    return tuple(network(x_t.repeat_interleave(2, dim=0), t, both).chunk(2))


def _every_other(network, x_t, t, condition):
    both = network(torch.cat([x_t, x_t]), t, Condition.concatenate([condition.absent(), condition]))
    return both[::2], both[1::2]


def _zeros_for_null(network, x_t, t, condition):
    zeros = Condition(tokens=torch.zeros_like(condition.tokens))
    return _both(network, x_t, t, [zeros, condition])


both_at_once = Exercise(
    reference=both_at_once,
    cases=[
        lambda: _condition_case(1, (1, 4, 2), 3, 1, 4),
        lambda: _condition_case(2, (2, 3, 5), 5, 9),
    ],
    observe=_asked_once,
    mistakes=[
        (
            lambda network, x_t, t, condition: _both(
                network, x_t, t, [condition, condition.absent()]
            ),
            "The names have changed places: what you return as untold was told. Guidance would "
            "push away from what was asked for, and the harder, the larger the scale.",
        ),
        (
            lambda network, x_t, t, condition: _both(network, x_t, t, [condition, condition]),
            "Both halves were told, so their difference is 0 and no scale has any effect.",
        ),
        (
            lambda network, x_t, t, condition: _both(
                network, x_t, t, [condition.absent(), condition.absent()]
            ),
            "Neither half was told: the network draws whatever it likes, at every scale.",
        ),
        (
            _interleaved,
            "The pictures stand as 1, 1, 2, 2, ... and the conditions as untold, untold, ..., "
            "told, told: pictures meet conditions that belong to others.",
        ),
        (
            _every_other,
            "The network's answers were cut up in another order than the one in which its "
            "questions were put together.",
        ),
        (
            _zeros_for_null,
            "The first half was told the label 0. That is not nothing.",
        ),
        (
            lambda network, x_t, t, condition: (
                network(x_t, t, condition.absent()),
                network(x_t, t, condition),
            ),
            "Both predictions are right, but the network ran twice. One call on a batch of twice "
            "the length was asked for.",
        ),
    ],
)


def ddim_step(schedule, x_t, t, s, noise):
    """x_s by DDIM, equation 12 with no fresh noise, with the guess of x_0 clipped to -1..1 and
    the noise recomputed."""
    x_0 = schedule.predict_x0(x_t, t, noise).clamp(-1, 1)
    return _again(schedule, x_0, schedule.predict_noise(x_t, t, x_0), s)


def _again(schedule, x_0, noise, t):
    return _mixed(schedule.alpha_bars[t].to(x_0), x_0, noise)


def _guess(schedule, x_t, t, noise):
    return schedule.predict_x0(x_t, t, noise)


def _clipped_too_late(schedule, x_t, t, s, noise):
    return _again(schedule, _guess(schedule, x_t, t, noise), noise, s).clamp(-1, 1)


def _from_clipped(schedule, x_t, t, s, noise):
    x_0 = _guess(schedule, x_t, t, noise).clamp(0, 1)
    return _again(schedule, x_0, schedule.predict_noise(x_t, t, x_0), s)


def _not_moved(schedule, x_t, t, s, noise):
    x_0 = _guess(schedule, x_t, t, noise).clamp(-1, 1)
    return _again(schedule, x_0, schedule.predict_noise(x_t, t, x_0), t)


def _variances_as_factors(schedule, x_t, t, s, noise):
    x_0 = _guess(schedule, x_t, t, noise).clamp(-1, 1)
    share = float(schedule.alpha_bars[s])
    return share * x_0 + (1 - share) * schedule.predict_noise(x_t, t, x_0)


ddim_step = Exercise(
    reference=ddim_step,
    cases=[
        lambda: (_schedule, 1.5 * _random(0, 2, 1, 4, 5), 800, 750, _random(1, 2, 1, 4, 5)),
        lambda: (_schedule, 1.5 * _random(2, 3, 2, 5, 4), 500, 400, _random(3, 3, 2, 5, 4)),
        lambda: (_coarse, 1.5 * _random(4, 5, 2), 6, 3, _random(5, 5, 2)),
        lambda: (_schedule, 1.5 * _random(6, 1, 3, 2, 4), 60, 0, _random(7, 1, 3, 2, 4)),
        lambda: (_schedule, 0.5 * _random(8, 4, 2), 50, 30, _random(9, 4, 2)),
    ],
    mistakes=[
        (
            lambda schedule, x_t, t, s, noise: _again(
                schedule, _guess(schedule, x_t, t, noise).clamp(-1, 1), noise, s
            ),
            "The guess is clipped, and mixed with a noise that belongs to the guess before that: "
            "together they no longer make x_t, so each step starts beside where the last one "
            "ended.",
        ),
        (
            lambda schedule, x_t, t, s, noise: _again(
                schedule, _guess(schedule, x_t, t, noise), noise, s
            ),
            "Nothing is clipped now: consistent, but the guesses leave -1..1 again, and push each "
            "other further out.",
        ),
        (
            lambda schedule, x_t, t, s, noise: _again(
                schedule, _guess(schedule, x_t, t, noise), noise.clamp(-1, 1), s
            ),
            "You clip the noise, which may have any size; it's the picture that has bounds.",
        ),
        (
            _clipped_too_late,
            "You clip x_s, which is meant to leave the bounds, for it has noise in it.",
        ),
        (
            lambda schedule, x_t, t, s, noise: _again(
                schedule, _guess(schedule, x_t, t, noise).clamp(-1, 1), torch.randn_like(x_t), s
            ),
            "DDIM draws nothing new: twice the same input gives two results.",
        ),
        (
            _from_clipped,
            "Whatever is darker than middle grey is lost. Pictures run from -1.",
        ),
        (
            _not_moved,
            "It mixes the two again for the t it came from, so it stands still.",
        ),
        (
            _variances_as_factors,
            "The guess and the noise are right. They were mixed by their shares of the variance, "
            "so that x_s came out too small.",
        ),
    ],
)


def ancestral_step(schedule, x_t, t, s, x_0, z):
    """x_s drawn around the posterior's mean, with the variance 1 - alpha_bar_t / alpha_bar_s; z is
    the fresh noise, of which the last step (s = 0) adds none: DDPM algorithm 2."""
    mean = schedule.posterior(x_0, x_t, t, s)[0]
    return mean + _step_variance(schedule, t, s) ** 0.5 * z if s > 0 else mean


def _step_variance(schedule, t, s):
    return float(1 - schedule.alpha_bars[t] / schedule.alpha_bars[s])


def _step_by(spread):
    """A wrong ancestral_step: spread(variance, t, s) times z."""

    def ancestral_step(schedule, x_t, t, s, x_0, z):
        mean = schedule.posterior(x_0, x_t, t, s)[0]
        return mean + spread(_step_variance(schedule, t, s), t, s) * z

    return ancestral_step


def _own_variance(schedule, x_t, t, s, x_0, z):
    mean, variance = schedule.posterior(x_0, x_t, t, s)
    return mean + variance**0.5 * z


def _step_case(t: int, s: int, schedule=_schedule, shape=(2, 1, 3, 4)):
    x_t, x_0, z = (_random(seed, *shape) for seed in range(3))
    return schedule, x_t, t, s, x_0, z


ancestral_step = Exercise(
    reference=ancestral_step,
    cases=[
        lambda: _step_case(600, 500),
        lambda: _step_case(100, 0),
        lambda: _step_case(1000, 900),
        lambda: _step_case(1, 0),
        lambda: _step_case(2, 1),
        lambda: _step_case(10, 6, _coarse, (3, 2)),
    ],
    mistakes=[
        (
            _step_by(lambda variance, t, s: variance**0.5),
            "The finished pictures are grainy: the step that arrives at t = 0 adds noise like all "
            "the others, and nobody takes it away again.",
        ),
        (
            _step_by(lambda variance, t, s: variance**0.5 if t > 1 else 0.0),
            "That spares the last step only if the strides are of length 1. A stride from 100 to 0 "
            "is the last one too.",
        ),
        (
            _step_by(lambda variance, t, s: variance**0.5 if s > 1 else 0.0),
            "The last step adds none, but neither does the one that arrives at t = 1.",
        ),
        (
            _step_by(lambda variance, t, s: 0.0),
            "No step adds any noise: the draws all gather near the mean, too smooth and too alike.",
        ),
        (
            _step_by(lambda variance, t, s: variance if s > 0 else 0.0),
            "The last step is right; in the others a variance was used where a standard deviation "
            "belongs, so that they add too little.",
        ),
        (
            _own_variance,
            "The last step is clean, but you changed the variance of all the others too. Keep the "
            "one that was there.",
        ),
        (
            _step_by(lambda variance, t, s: variance**0.5 if t < 1000 else 0.0),
            "The first step adds none now. It's the last one that shouldn't.",
        ),
        (
            _step_by(lambda variance, t, s: 1.0 if s > 0 else 0.0),
            "The last step is right, and all the others add noise at its full strength.",
        ),
    ],
)

# --- Ward 5: the applications -----------------------------------------------------------------


def masked_input(pictures, mask):
    """What an inpainting network sees beside x_t, [B, C + 1, H, W]: the pictures with 0 in the
    hole, and a last plane of 1 in the hole and -1 elsewhere."""
    return torch.cat([pictures.masked_fill(mask, 0), 2.0 * mask - 1], dim=1)


def _hole_case(seed: int, channels: int):
    mask = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    mask[0, :, 1:3, 2:], mask[1, :, :2, 1:3] = True, True
    return _random(seed, 2, channels, 4, 5), mask


masked_input = Exercise(
    reference=masked_input,
    cases=[
        lambda: _hole_case(0, 3),
        lambda: _hole_case(1, 1),
        # As high as wide, and one without a hole.
        lambda: (_random(2, 2, 2, 3, 3), torch.arange(18).reshape(2, 1, 3, 3) % 9 % 5 == 1),
        lambda: (_random(3, 1, 2, 3, 4), torch.zeros(1, 1, 3, 4, dtype=torch.bool)),
    ],
    mistakes=[
        (
            lambda pictures, mask: pictures.masked_fill(mask, 0),
            "A grey hole and a grey wall look the same: nothing says which pixels are to be "
            "filled.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures, 2.0 * mask - 1], dim=1),
            "The plane is there, and the hole is not: the network sees what it should invent.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(mask, 0), 1 - 2.0 * mask], 1),
            "The plane is there, and says the opposite: white where all is known.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(mask, 0), mask.float()], 1),
            "The plane is there, but runs from 0 to 1; the others run from -1.",
        ),
        (
            lambda pictures, mask: torch.cat([2.0 * mask - 1, pictures.masked_fill(mask, 0)], 1),
            "The plane comes first. A network trained with it in the last place would take it for "
            "a colour.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(~mask, 0), 2.0 * mask - 1], 1),
            "It shows the hole and hides everything around it.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(mask, -1), 2.0 * mask - 1], 1),
            "The hole is black; 0, the middle, was asked for.",
        ),
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(~mask, 0), 1 - 2.0 * mask], 1),
            "You read the mask as True where the picture is known, in both places. Here True marks "
            "the hole.",
        ),
    ],
)


def enlarged(low, size):
    """The small pictures [B, C, h, w] at the size (H, W) of x_t, bicubic."""
    return F.interpolate(low, size=size, mode="bicubic", align_corners=False)


def _tiled(low, size):
    times = [-(-large // small) for large, small in zip(size, low.shape[2:], strict=True)]
    return low.repeat(1, 1, *times)[..., : size[0], : size[1]]


def _in_the_corner(low, size):
    return F.pad(low, (0, size[1] - low.shape[3], 0, size[0] - low.shape[2]))


def _by_mode(mode, **settings):
    return lambda low, size: F.interpolate(low, size=size, mode=mode, **settings)


enlarged = Exercise(
    reference=enlarged,
    cases=[lambda: (_random(0, 2, 3, 4, 4), (16, 16)), lambda: (_random(1, 1, 1, 3, 5), (6, 10))],
    mistakes=[
        (
            lambda low, size: low,
            "It is still small. A convolution looks at the same place of all its planes, so x_t "
            "and the small picture must have the same size before they can be concatenated.",
        ),
        (
            _tiled,
            "The size is right, and every pixel sees the wrong place: the small picture is "
            "repeated like a bathroom tile.",
        ),
        (
            lambda low, size: low.repeat(1, 1, 4, 4),
            "That is row F of the wall: sixteen small copies.",
        ),
        (
            _in_the_corner,
            "The size is right: the small picture stands in one corner, and the rest is grey.",
        ),
        (
            _by_mode("nearest"),
            "Every pixel sees its place now. It comes in squares, though: bicubic was asked for.",
        ),
        (
            _by_mode("bilinear"),
            "Every pixel sees its place now, along straight lines between the old pixels. Bicubic "
            "was asked for.",
        ),
        (
            _by_mode("bicubic", align_corners=True),
            "Nearly: the corners' middles were pinned, which shifts what is between, by up to half "
            "an old pixel. Pixels are squares, with edges.",
        ),
        (
            lambda low, size: F.interpolate(low.mT, size=size, mode="bicubic", align_corners=False),
            "It lies on its side: height and width have changed places.",
        ),
    ],
)


def caption_vector(tokens, mask):
    """One vector for each caption, the mean of its words: tokens [B, L, D], mask [B, L], False for
    padding -> [B, D]."""
    counts = mask.to(tokens)[..., None]
    return (tokens * counts).sum(1) / counts.sum(1)


def _caption_case(seed: int, *lengths: int):
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    return (1 + _random(seed, len(lengths), 5, 4)).requires_grad_(), mask


caption_vector = Exercise(
    reference=caption_vector,
    cases=[lambda: _caption_case(0, 3, 5), lambda: _caption_case(1, 1, 4, 2)],
    mistakes=[
        (
            lambda tokens, mask: tokens.mean(1),
            "Padding counts as words: the shorter a caption, the more of its vector says nothing.",
        ),
        (
            lambda tokens, mask: (tokens * mask[..., None]).mean(1),
            "The padding is silent, but still counted: a short caption speaks more quietly than a "
            "long one.",
        ),
        (
            lambda tokens, mask: (tokens * mask[..., None]).sum(1),
            "The padding is silent, but a long caption speaks louder than a short one.",
        ),
        (
            lambda tokens, mask: tokens.masked_fill(~mask[..., None], -torch.inf).amax(1),
            "That is the largest of the words in each channel. A mean was asked for.",
        ),
        (
            lambda tokens, mask: tokens[:, 0],
            "Only the first word is heard.",
        ),
        (
            lambda tokens, mask: tokens,
            "The words are all there, as a sequence still. A residual block has room for one "
            "vector.",
        ),
        (
            lambda tokens, mask: tokens[mask].mean(0).expand(len(tokens), -1),
            "All the captions of the batch are mixed into one.",
        ),
    ],
)


def word_numbers(captions, vocabulary):
    """The numbers of each caption's words: their places in the vocabulary, counted from 1, for 0
    is the padding. A list for each caption."""
    return _numbered(captions, list(vocabulary), first=1)


def _numbered(captions, words, first):
    return [[words.index(word) + first for word in caption.split()] for caption in captions]


def _filled_up(captions, vocabulary):
    rows = _numbered(captions, list(vocabulary), 1)
    longest = max(map(len, rows))
    return [row + [0] * (longest - len(row)) for row in rows]


def _own_words(captions):
    return sorted({word for caption in captions for word in caption.split()})


word_numbers = Exercise(
    reference=word_numbers,
    cases=[
        lambda: (["a small red star", "a blue ring"], VOCABULARY),
        lambda: (["a red star left of a blue cross"], VOCABULARY),
        lambda: (["a green square"], ("square", "a", "green")),
    ],
    mistakes=[
        (
            lambda captions, vocabulary: _numbered(captions, _own_words(captions), 1),
            "Every batch numbers its own words: red is one number here and another number there, "
            "and nothing that was learned about either is of use.",
        ),
        (
            lambda captions, vocabulary: _numbered(captions, list(vocabulary), 0),
            "The same word has the same number everywhere. But one word has the padding's.",
        ),
        (
            _filled_up,
            "The numbers are right, but short rows were filled up with 0: here each list is as "
            "long as its caption.",
        ),
        (
            lambda captions, vocabulary: _numbered(captions, sorted(vocabulary), 1),
            "The same word has the same number everywhere, but it's another one than in training: "
            "the vocabulary was sorted, and its own order was meant.",
        ),
        (
            lambda captions, vocabulary: [
                list(range(1, len(caption.split()) + 1)) for caption in captions
            ],
            "Those are the places of the words in their caption: all captions of four words are "
            "the same.",
        ),
        (
            lambda captions, vocabulary: [
                [len(w) for w in caption.split()] for caption in captions
            ],
            "Words of the same length have the same number.",
        ),
        (
            lambda captions, vocabulary: [[ord(c) for c in caption] for caption in captions],
            "Those are letters. The vocabulary holds words.",
        ),
        (
            lambda captions, vocabulary: sum(_numbered(captions, list(vocabulary), 1), []),
            "The captions have become one long row: where does the second one begin?",
        ),
    ],
)
