"""Lesson 02, reverse denoising: posterior, noise_loss, score."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import MultivariateNormal

from ..conditions import Condition
from ..mixtures import GaussianMixture
from ..schedule import NoiseSchedule
from ..training import noise_loss as _noise_loss
from . import Exercise
from . import points as points

# The first call in a process imports sympy, and MultivariateNormal makes it: not to be counted
# against an answer's time.
torch.broadcast_shapes((1,), (1,))

_schedule = NoiseSchedule.cosine(1000)
_coarse = NoiseSchedule.linear(10, 0.05, 0.6)
_each_t = torch.tensor([2, 300, 900])


def _random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _at(table, t, x):
    return table[t].reshape(-1, *[1] * (x.ndim - 1))


def _wrong_posterior(
    *,
    before=1,
    here=0,
    own="alphas",
    early_of="alpha_bars",
    roots=True,
    swapped=False,
    rest="here",
    variance=None,
):
    """The posterior with something wrong in it. before, here: which alpha_bar stands for t - 1 and
    for t (how many steps behind t); own, early_of: the tables that stand for alpha_t and, before
    t, for alpha_bar; rest: what stands below the line; variance: of (beta, before, here)."""

    def wrong(schedule, x_0, x_t, t):
        beta, alpha = _at(schedule.betas, t, x_t), _at(getattr(schedule, own), t, x_t)
        early = _at(getattr(schedule, early_of), t - before, x_t)
        late = _at(schedule.alpha_bars, t - here, x_t)
        below = {"here": 1 - late, "before": 1 - early, "none": 1}[rest]
        power = 0.5 if roots else 1
        of_x_0, of_x_t = early**power * beta / below, alpha**power * (1 - early) / below
        if swapped:
            of_x_0, of_x_t = of_x_t, of_x_0
        right = (1 - early) / below * beta
        spread = right if variance is None else variance(beta, early, late)
        return (of_x_0 * x_0 + of_x_t * x_t).float(), spread.float()

    return wrong


posterior = Exercise(
    reference=NoiseSchedule.posterior,
    cases=[
        lambda: (_schedule, _random(0, 3, 1, 4, 5), _random(1, 3, 1, 4, 5), 500),
        lambda: (_schedule, _random(2, 3, 2, 5, 4), _random(3, 3, 2, 5, 4), _each_t.clone()),
        lambda: (NoiseSchedule.linear(1000), _random(4, 2, 1, 3, 4), _random(5, 2, 1, 3, 4), 1),
        # Ten coarse steps: on a thousand fine ones what belongs to t and to t - 1 is nearly alike.
        lambda: (_coarse, _random(6, 4, 2), _random(7, 4, 2), 6),
        lambda: (_coarse, _random(8, 4, 2), _random(9, 4, 2), torch.tensor([10, 1, 2, 8])),
    ],
    mistakes=[
        (
            _wrong_posterior(variance=lambda beta, early, late: beta),
            "The mean is right. Your variance is that of a step forward, when x_0 is unknown; "
            "knowing x_0 as well leaves less room, and at t = 1 none at all.",
        ),
        (
            _wrong_posterior(
                variance=lambda beta, early, late: ((1 - early) / (1 - late) * beta).sqrt()
            ),
            "The mean is right. The second result is a standard deviation, and the variance was "
            "asked for.",
        ),
        (
            _wrong_posterior(variance=lambda beta, early, late: (1 - late) / (1 - early) * beta),
            "The mean is right. The variance has a fraction upside down: at t = 1 it is infinite, "
            "where it should be zero.",
        ),
        (
            _wrong_posterior(swapped=True),
            "The two weights have changed places: at t = 1 your mean is x_t, though then x_{t-1} "
            "is the clean picture itself.",
        ),
        (
            _wrong_posterior(roots=False),
            "The variance is right, the mean too faint: its weights multiply values, so what is a "
            "share of the variance needs something done to it first.",
        ),
        (
            _wrong_posterior(own="alpha_bars"),
            "The weight of x_0 is right. In the weight of x_t you use what is left after all the "
            "steps up to t, where only the step from t - 1 to t is meant.",
        ),
        (
            _wrong_posterior(early_of="alphas"),
            "One step before you need the share left after all steps (alpha_bars), not what one "
            "step leaves (alphas).",
        ),
        (
            _wrong_posterior(before=0),
            "Every alpha_bar of yours is the one at t. x_{t-1} lies one step before, and at t = 1 "
            "you should get the clean picture with no variance.",
        ),
        (
            _wrong_posterior(before=0, here=1),
            "The times are crossed: you take alpha_bar at t where t - 1 is meant, and the other "
            "way round.",
        ),
        (
            _wrong_posterior(rest="before"),
            "What stands below the line is taken at t - 1. It should say how noisy x_t is; yours "
            "divides by zero at t = 1.",
        ),
        (
            _wrong_posterior(rest="none"),
            "Something below the line is missing: at t = 1 your mean is a far too faint picture, "
            "though x_0 itself is known.",
        ),
    ],
    points=2,
)


class _Network(nn.Module):
    """What it returns depends on everything that it is told, and on a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t, condition=None):
        told = 0.0 if condition is None else 0.3 * condition.tokens.float().mean(1)
        turned = torch.sin(self.weight * x_t + (told + t).reshape(-1, *[1] * (x_t.ndim - 1)))
        return 2.5 * turned  # a guess may leave -1..1, as noise does


def _wrong_loss(
    *,
    sees=lambda schedule, x_0, t, noise: schedule.add_noise(x_0, t, noise),
    target=lambda x_0, noise: noise,
    time=lambda schedule, t: t,
    told=True,
    reduce=F.mse_loss,
):
    """The loss with something wrong in it: in what the network sees, in what it should say, in the
    time or condition it is told, or in how the error is measured."""

    def wrong(network, schedule, x_0, condition, t, noise):
        seen = sees(schedule, x_0, t, noise)
        guess = network(seen, time(schedule, t), condition if told else None)
        return reduce(guess, target(x_0, noise))

    return wrong


def _other_noise_for_all(network, schedule, x_0, condition, t, noise):
    return _noise_loss(network, schedule, x_0, condition, t, torch.randn_like(x_0))


noise_loss = Exercise(
    reference=_noise_loss,
    cases=[
        lambda: (
            *(_Network(), _schedule, _random(0, 3, 1, 4, 5), None),
            *(_each_t.clone(), _random(1, 3, 1, 4, 5)),
        ),
        lambda: (
            *(_Network(), NoiseSchedule.linear(1000), _random(2, 4, 2, 3, 5)),
            Condition(tokens=torch.tensor([[1], [5], [9], [2]])),
            *(torch.tensor([1000, 40, 7, 1]), _random(3, 4, 2, 3, 5)),
        ),
        lambda: (
            *(_Network(), _coarse, _random(4, 6, 2), None),
            *(torch.tensor([10, 1, 4, 4, 2, 9]), _random(5, 6, 2)),
        ),
    ],
    mistakes=[
        (
            _wrong_loss(target=lambda x_0, noise: x_0),
            "The network's guess is compared with the clean picture. It was asked for something "
            "else.",
        ),
        (
            _wrong_loss(sees=lambda schedule, x_0, t, noise: x_0),
            "The network gets to see the clean picture: there is no noise in it to find.",
        ),
        (
            _wrong_loss(sees=lambda schedule, x_0, t, noise: x_0 + noise),
            "The noise is added at full strength whatever t is: make x_t as in lesson 01.",
        ),
        (
            _wrong_loss(
                sees=lambda schedule, x_0, t, noise: schedule.add_noise(
                    x_0, t, torch.randn_like(x_0)
                )
            ),
            "The noise in the picture is another noise than the one the guess is compared with: "
            "nobody could guess it.",
        ),
        (
            _other_noise_for_all,
            "You draw noise of your own, and the argument `noise` is not used. As a loss it would "
            "train, but whoever calls it twice with the same noise expects the same number.",
        ),
        (
            _wrong_loss(told=False),
            "The network never gets the condition: it could not learn to draw what it is asked "
            "for.",
        ),
        (
            _wrong_loss(time=lambda schedule, t: t - 1),
            "The network is told a time one step too early: here t runs from 1 to T, and goes to "
            "the network as it is.",
        ),
        (
            _wrong_loss(time=lambda schedule, t: t / schedule.steps),
            "The network is told t as a fraction of T. It expects the whole number.",
        ),
        (
            _wrong_loss(reduce=lambda guess, noise: F.mse_loss(guess, noise, reduction="sum")),
            "You add the errors of all values up, so larger pictures or batches give a larger "
            "loss. The mean was asked for.",
        ),
        (
            _wrong_loss(reduce=lambda guess, noise: (guess - noise).square().flatten(1).mean(1)),
            "One loss for each example came. A single number for the whole batch was asked for.",
        ),
        (
            _wrong_loss(reduce=F.l1_loss),
            "You average absolute errors. Their minimum is at the median, not at the mean: square "
            "them.",
        ),
        (
            _wrong_loss(reduce=lambda guess, noise: F.mse_loss(guess, noise).sqrt()),
            "You take a square root at the end: the mean of the squares itself was asked for.",
        ),
        (
            _wrong_loss(reduce=lambda guess, noise: (guess - noise).mean()),
            "Errors above and below cancel: your loss can be negative. Square before averaging.",
        ),
    ],
    points=2,
)


def _wrong_score(
    *,
    mean=lambda mean, alpha_bar: alpha_bar**0.5 * mean,
    spread=lambda covariance, alpha_bar, one: alpha_bar * covariance + (1 - alpha_bar) * one,
    chances=lambda log_weights, logs: (log_weights + logs).softmax(1),
    pull=lambda covariances, away: -torch.linalg.solve(covariances, away[..., None])[..., 0],
    last=lambda score, alpha_bar: score,
):
    """The score with something wrong in it: in where noise takes the means and covariances of the
    components, in the chances, in each component's pull, or in what is done to the sum."""

    def wrong(mixture, x, alpha_bar):
        one = torch.eye(x.shape[1], dtype=torch.float64)
        means, covariances = mean(mixture.means, alpha_bar), mixture.covariances
        covariances = spread(covariances, alpha_bar, one)
        away = x.double()[:, None] - means
        logs = MultivariateNormal(means, covariances).log_prob(x.double()[:, None])
        weighed = chances(mixture.weights.log(), logs)[..., None]
        return last((weighed * pull(covariances, away)).sum(1), alpha_bar).to(x.dtype)

    return wrong


def _score_of_one(mixture, x, alpha_bar):
    mean = (mixture.weights[:, None] * mixture.means).sum(0)
    covariance = (mixture.weights[:, None, None] * mixture.covariances).sum(0)
    return GaussianMixture([mean.tolist()], [covariance.tolist()]).score(x, alpha_bar)


_mixture = GaussianMixture(
    means=[[-1.5, -0.5], [1.0, -1.0], [0.5, 1.5]],
    covariances=[[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]], [[0.2, -0.1], [-0.1, 0.2]]],
    weights=[0.6, 0.3, 0.1],
)
_in_space = GaussianMixture(
    means=[[-1.0, 0.5, 0.2], [0.8, -0.6, 1.1]],
    covariances=[
        [[0.5, 0.1, -0.2], [0.1, 0.3, 0.05], [-0.2, 0.05, 0.4]],
        [[0.2, -0.1, 0.0], [-0.1, 0.6, 0.1], [0.0, 0.1, 0.3]],
    ],
    weights=[0.35, 0.65],
)


score = Exercise(
    reference=GaussianMixture.score,
    cases=[
        lambda: (_mixture, _random(0, 8, 2), 0.5),
        lambda: (_mixture, _random(1, 7, 2), 0.9),
        lambda: (_mixture, _random(2, 1, 2), 0.05),
        lambda: (_mixture, _random(3, 5, 2), 1.0),
        lambda: (_in_space, _random(4, 4, 3), 0.7),
    ],
    mistakes=[
        (
            _wrong_score(last=lambda score, alpha_bar: -score),
            "Every arrow points exactly the wrong way, downhill: away from the data.",
        ),
        (
            _wrong_score(last=lambda score, alpha_bar: -((1 - alpha_bar) ** 0.5) * score),
            "That is already the guess of the noise. The score itself is asked for; the denoiser "
            "is built from it later.",
        ),
        (
            _wrong_score(chances=lambda log_weights, logs: (log_weights + logs).exp()),
            "Your arrows vanish in empty places, where they should be longest: the chances of the "
            "components do not add up to 1 for each x. (What you have is the gradient of the "
            "density, not of its logarithm.)",
        ),
        (
            _wrong_score(chances=lambda log_weights, logs: log_weights.exp().expand_as(logs)),
            "Every component pulls with its fixed weight wherever x is. A far component should "
            "hardly count: how likely is it that this x came from it?",
        ),
        (
            _wrong_score(chances=lambda log_weights, logs: logs.softmax(1)),
            "All components count as equally frequent: mixture.weights has been forgotten.",
        ),
        (
            _wrong_score(chances=lambda log_weights, logs: (log_weights.exp() + logs).softmax(1)),
            "A weight is added to a log density: it must be a logarithm too.",
        ),
        (
            _wrong_score(chances=lambda log_weights, logs: (log_weights + logs).softmax(0)),
            "The chances add up to 1 over the points, for each component. They should do so over "
            "the components, for each point.",
        ),
        (
            _wrong_score(mean=lambda mean, alpha_bar: mean),
            "Your components stay where they are, but noise makes everything fainter: the centres "
            "move towards 0 as t grows.",
        ),
        (
            _wrong_score(mean=lambda mean, alpha_bar: alpha_bar * mean),
            "The centres move towards 0 too fast: a mean is a value, not a variance.",
        ),
        (
            _wrong_score(spread=lambda covariance, alpha_bar, one: covariance),
            "Your components are as narrow as those of the clean data: what does noise do to a "
            "covariance?",
        ),
        (
            _wrong_score(
                spread=lambda covariance, alpha_bar, one: covariance + (1 - alpha_bar) * one
            ),
            "Your components are too wide: the noise has been added, but the data's own spread "
            "has not become fainter.",
        ),
        (
            _wrong_score(
                spread=lambda covariance, alpha_bar, one: (
                    alpha_bar**0.5 * covariance + (1 - alpha_bar) * one
                )
            ),
            "Your components are too wide: a covariance is a variance, of which alpha_bar itself "
            "is the share that is left.",
        ),
        (
            _wrong_score(spread=lambda covariance, alpha_bar, one: alpha_bar * covariance),
            "Your components shrink as t grows: the noise itself is missing from their "
            "covariances.",
        ),
        (
            _wrong_score(
                spread=lambda covariance, alpha_bar, one: (
                    alpha_bar * covariance + (1 - alpha_bar) * torch.ones_like(covariance)
                )
            ),
            "Your noise is the same in both coordinates, as if they shared it: the identity matrix "
            "has ones on its diagonal only.",
        ),
        (
            _wrong_score(
                pull=lambda covariances, away: -torch.einsum("kde,bke->bkd", covariances, away)
            ),
            "You multiply by the covariance: wide components pull harder than narrow ones. It "
            "should be the other way round.",
        ),
        (
            _wrong_score(pull=lambda covariances, away: -away),
            "Every component pulls as if its covariance were the identity, however narrow it is.",
        ),
        (
            _wrong_score(
                pull=lambda covariances, away: -away / covariances.diagonal(dim1=-2, dim2=-1)
            ),
            "You divide by the diagonals of the covariances. A component that lies askew pulls in "
            "another direction: what undoes a product with a matrix?",
        ),
        (
            _wrong_score(
                chances=lambda log_weights, logs: F.one_hot(
                    (log_weights + logs).argmax(1), len(log_weights)
                ).double()
            ),
            "Only the likeliest component pulls at each point. All of them do, each by its chance.",
        ),
        (
            _score_of_one,
            "That is the score of a single component, with the mean of their means and of their "
            "covariances. The mixture is not that: near a component it looks like that one.",
        ),
    ],
    points=3,
)
