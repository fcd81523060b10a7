"""Lesson 15, two towers: contrastive_loss, slerp, move_by_text, prior_loss, better_of_two."""

import torch
import torch.nn.functional as F
from torch import nn

from ..conditions import Condition
from ..pipelines import two_towers
from ..schedule import NoiseSchedule
from ..unet import at_home
from . import Exercise
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unit(seed: int, *shape):
    return F.normalize(_random(seed, *shape), dim=1)


# --- contrastive_loss -----------------------------------------------------------------------------


def _pairs(seed: int, count: int, width: int, temperature: float):
    """Pairs that belong together a little, of many lengths, all of which learn."""

    def arguments():
        z_i, other = _random(seed, count, width), _random(seed + 1, count, width)
        lengths = 0.5 + 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(seed))
        z_t = lengths * (z_i + 1.5 * other)
        return (2 * z_i).requires_grad_(), z_t.requires_grad_(), temperature

    return arguments


def _logits(z_i, z_t, temperature):
    return F.normalize(z_i, dim=1) @ F.normalize(z_t, dim=1).T / temperature


def _own(logits):
    return torch.arange(len(logits))


def _both(logits):
    return (F.cross_entropy(logits, _own(logits)) + F.cross_entropy(logits.T, _own(logits))) / 2


def _of(join, logits=_logits):
    """A wrong loss: of other logits, or of them joined otherwise."""
    return lambda z_i, z_t, temperature: join(logits(z_i, z_t, temperature))


contrastive_loss = Exercise(
    reference=two_towers.contrastive_loss,
    cases=[
        _pairs(0, 5, 8, 0.2),
        _pairs(10, 3, 16, 0.02),
        _pairs(20, 8, 4, 1.0),
        _pairs(30, 2, 6, 0.5),
    ],
    mistakes=[
        *[
            (
                _of(_both, lambda z_i, z_t, temperature, a=a, b=b: a(z_i) @ b(z_t).T / temperature),
                f"{said} not brought to length 1: whoever makes long embeddings then wins without "
                "pointing anywhere better.",
            )
            for a, b, said in (
                (lambda z: z, lambda z: z, "The embeddings are"),
                (lambda z: z, lambda z: F.normalize(z, dim=1), "The pictures' embeddings are"),
                (lambda z: F.normalize(z, dim=1), lambda z: z, "The texts' embeddings are"),
            )
        ],
        (
            _of(_both, lambda z_i, z_t, t: F.normalize(z_i, dim=0) @ F.normalize(z_t, dim=0).T / t),
            "You bring the columns to length 1. Each embedding is a row: dim=1.",
        ),
        (
            _of(_both, lambda z_i, z_t, t: _logits(z_i, z_t, 1 / t)),
            "You multiply by the temperature. A low temperature makes differences count more: "
            "divide by it.",
        ),
        (
            _of(_both, lambda z_i, z_t, t: _logits(z_i, z_t, 1.0)),
            "The temperature is not used.",
        ),
        (
            _of(_both, lambda z_i, z_t, t: _logits(z_i, z_t, t**0.5)),
            "You divide by the root of the temperature. That is attention's habit; here it is the "
            "temperature itself.",
        ),
        (
            _of(lambda logits: F.cross_entropy(logits, _own(logits))),
            "Only half of it is there: pictures look for their texts. Texts should look for their "
            "pictures as well.",
        ),
        (
            _of(lambda logits: F.cross_entropy(logits.T, _own(logits))),
            "Only half of it is there: texts look for their pictures. Pictures should look for "
            "their texts as well.",
        ),
        (
            _of(lambda logits: 2 * _both(logits)),
            "It is twice as much as it should be: the mean of the two directions, not their sum.",
        ),
        (
            _of(lambda logits: _both(logits) * len(logits)),
            "It is summed over the batch. The mean is asked for, or large batches would take "
            "larger steps.",
        ),
        (
            _of(lambda logits: -_both(logits)),
            "The sign is turned: going down yours drives pairs apart.",
        ),
        (
            _of(lambda logits: -logits.diagonal().mean()),
            "Only the own pairs are looked at. Nothing keeps the others away, and the best would "
            "be the same embedding for everything.",
        ),
        (
            _of(
                lambda logits: (
                    (
                        F.cross_entropy(logits, 0 * _own(logits))
                        + F.cross_entropy(logits.T, 0 * _own(logits))
                    )
                    / 2
                )
            ),
            "Every picture is sent to the first text. The right answer of row i is i.",
        ),
        (
            _of(lambda logits: -logits.softmax(1).diagonal().mean()),
            "It is the probability of the own text. Its logarithm is what a cross-entropy counts.",
        ),
        (
            _of(lambda logits: F.mse_loss(logits, torch.eye(len(logits)))),
            "You ask for a table of ones and zeros. A pair need only fit better than the others: "
            "a softmax over each row.",
        ),
    ],
    points=3,
)


# --- slerp ----------------------------------------------------------------------------------------

NEAR = 1e-3  # an angle below which the sphere is flat


def _angle(a, b):
    return (a * b).sum(1, keepdim=True).clamp(-1, 1).acos()


def _mixed(a, b, of_a, of_b):
    return of_a * a + of_b * b


def slerp(a, b, share):
    """From a to b, [B, D] of length 1, along the shortest way on the sphere, at a constant speed:
    Shoemake, "Animating Rotation with Quaternion Curves" (1985). Where a and b nearly
    agree that way is a straight line."""
    angle = _angle(a, b)
    safe = angle.clamp(min=NEAR)
    of_a, of_b = ((part * safe).sin() / safe.sin() for part in (1 - share, share))
    near = angle < NEAR
    return _mixed(a, b, of_a.where(~near, 1 - share), of_b.where(~near, share))


def _ends(
    seed: int, share: float, count: int, width: int, agree: tuple[int, ...] = (), apart: float = 9
):
    """Some rows agree: to the last digit, but for the last of them, which nearly does. The first
    is longer than 1 by rounding. apart: how far the others are from each other; less is nearer."""

    def arguments():
        a, b = _unit(seed, count, width), _unit(seed + 1, count, width)
        b = F.normalize(a + apart * b, dim=1) if apart < 9 else b
        for number, row in enumerate(agree):
            a[row] = torch.eye(width)[number]  # of length 1 without any rounding
            b[row] = F.normalize(a[row] + (number == len(agree) - 1) * 9e-4 * b[row], dim=0)
        a[agree[:1]] *= 1 + 1.2e-7
        b[agree[:1]] *= 1 + 1.2e-7
        return a, b, share

    return arguments


def _unclamped(a, b, share):
    return slerp.reference(a, b, share) + 0 * (a * b).sum(1, keepdim=True).acos()


def _unguarded(a, b, share):
    angle = _angle(a, b)
    return _mixed(a, b, *((p * angle).sin() / angle.sin() for p in (1 - share, share)))


def _one_angle(a, b, share):
    angle = ((a * b).sum() / len(a)).clamp(-1, 1).acos()
    return _mixed(a, b, *((p * angle).sin() / angle.sin() for p in (1 - share, share)))


def _guard_for_all(a, b, share):
    if bool((_angle(a, b) < NEAR).any()):
        return torch.lerp(a, b, share)
    return slerp.reference(a, b, share)


def _guarded(weights):
    """A slerp with other weights, but right where a and b agree."""

    def slerp(a, b, share):
        angle = _angle(a, b)
        near = angle < NEAR
        of_a, of_b = weights(angle.clamp(min=NEAR), share)
        return _mixed(a, b, torch.where(near, 1 - share, of_a), torch.where(near, share, of_b))

    return slerp


slerp = Exercise(
    reference=slerp,
    cases=[
        _ends(0, 0.3, 4, 8),
        _ends(10, 0.5, 1, 3),
        _ends(20, 0.8, 6, 16, agree=(1, 3, 4)),
        _ends(30, 0.25, 2, 64, agree=(0,)),
        _ends(40, 1.0, 3, 5),
        _ends(50, 0.6, 4, 7, apart=0.3),
        _ends(60, 0.4, 4, 7, apart=-0.3),
    ],
    mistakes=[
        (
            lambda a, b, share: torch.lerp(a, b, share),
            "That is the straight line through the sphere: what lies on it is shorter than 1. Go "
            "along the surface: the share belongs inside the sine, beside the angle.",
        ),
        (
            lambda a, b, share: F.normalize(torch.lerp(a, b, share), dim=1),
            "That is the straight line, brought back to the surface. It is the right way, but not "
            "at a constant speed: in the middle it hurries. Use the angle.",
        ),
        (
            lambda a, b, share: slerp.reference(b, a, share),
            "a and b have changed places: at share 0 it should be a.",
        ),
        (
            _unguarded,
            "Where a and b agree the angle is 0, and 0 is divided by 0. There, row by row, take "
            "the straight line.",
        ),
        (
            _unclamped,
            "Rounding leaves the cosine of some rows a little above 1, where acos is NaN. Bring it "
            "into -1..1 first.",
        ),
        (
            _guard_for_all,
            "Where one row's a and b agree, all the rows go along the straight line. Decide it for "
            "each row: torch.where.",
        ),
        (
            _guarded(lambda angle, share: (((1 - share) * angle).sin(), (share * angle).sin())),
            "The weights are not divided by the sine of the whole angle.",
        ),
        (
            _guarded(
                lambda angle, share: (
                    ((1 - share) * angle).cos() / angle.cos(),
                    (share * angle).cos() / angle.cos(),
                )
            ),
            "You took the cosine where the sine belongs.",
        ),
        (
            _one_angle,
            "One angle is used for the whole batch. Each pair has its own: sum over dim=1 only.",
        ),
        (
            _guarded(lambda angle, share: ((share * angle).cos(), (share * angle).sin())),
            "cos and sin of the share would be right if a and b stood at a right angle. They "
            "seldom do.",
        ),
        (
            lambda a, b, share: F.normalize((1 - share) ** 0.5 * a + share**0.5 * b, dim=1),
            "Roots are for mixing independent noises. Here the angle between a and b decides.",
        ),
    ],
    points=3,
)


# --- move_by_text ---------------------------------------------------------------------------------


def move_by_text(z_i, z_from, z_to, share):
    """A picture's embedding turned towards the difference of two texts', all [B, D] of length 1:
    Ramesh et al., "unCLIP" (2022), section 3.3."""
    return slerp.reference(z_i, F.normalize(z_to - z_from, dim=1), share)


def _move(seed: int, share: float, count: int, width: int):
    return lambda: (*(_unit(seed + n, count, width) for n in range(3)), share)


def _towards(target, walk=slerp.reference):
    """A move towards something else."""
    return lambda z_i, z_from, z_to, share: walk(z_i, target(z_i, z_from, z_to), share)


def _difference(z_i, z_from, z_to):
    return F.normalize(z_to - z_from, dim=1)


move_by_text = Exercise(
    reference=move_by_text,
    cases=[
        _move(0, 0.3, 4, 8),
        _move(10, 0.5, 1, 12),
        _move(20, 0.15, 3, 64),
        _move(30, 0.9, 2, 5),
    ],
    mistakes=[
        (
            _towards(lambda z_i, z_from, z_to: _difference(z_i, z_to, z_from)),
            "The difference is turned round: it should lead from z_from to z_to.",
        ),
        (
            _towards(lambda z_i, z_from, z_to: z_to - z_from),
            "The difference does not have length 1. Bring it onto the sphere first.",
        ),
        (
            _towards(lambda z_i, z_from, z_to: z_to),
            "You turn towards the new text itself: the picture would forget all else. Only what "
            "distinguishes the two texts is asked for.",
        ),
        (
            _towards(lambda z_i, z_from, z_to: F.normalize(z_to + z_from, dim=1)),
            "That is the sum of the two texts. What one has and the other has not is their "
            "difference.",
        ),
        (
            _towards(lambda z_i, z_from, z_to: F.normalize(z_to - z_i, dim=1)),
            "The difference is taken from the picture. It is that of the two texts: pictures and "
            "texts lie apart, and that gap would come in.",
        ),
        (
            _towards(lambda z_i, z_from, z_to: F.normalize(z_to - z_from, dim=0)),
            "You bring the columns to length 1. Each embedding is a row: dim=1.",
        ),
        (
            lambda z_i, z_from, z_to, share: slerp.reference(
                _difference(z_i, z_from, z_to), z_i, share
            ),
            "The picture and the difference have changed places: at share 0 it should be the "
            "picture.",
        ),
        (
            lambda z_i, z_from, z_to, share: F.normalize(z_i + share * (z_to - z_from), dim=1),
            "You add the difference and go back to the sphere. The task asks to turn: slerp.",
        ),
        (
            lambda z_i, z_from, z_to, share: z_i + share * (z_to - z_from),
            "You add the difference: that leaves the sphere. Turn instead: slerp.",
        ),
        (
            _towards(_difference, torch.lerp),
            "That is the straight line, and leaves the sphere. Use slerp.",
        ),
        (
            lambda z_i, z_from, z_to, share: slerp.reference(z_from, z_to, share),
            "The picture is not used: that is the way from one text to the other.",
        ),
    ],
    points=2,
)


# --- prior_loss -----------------------------------------------------------------------------------

_schedule = NoiseSchedule.cosine(1000)
_few = NoiseSchedule.linear(10, 0.05, 0.6)


class _Guess(nn.Module):
    """Of everything that it is told it makes something."""

    def __init__(self, seed: int, width: int, steps: int):
        super().__init__()
        self.weight = nn.Parameter(_random(seed, width, width) / width**0.5)
        self.steps = steps

    def forward(self, x_t, t, condition):
        if x_t.device != self.weight.device:
            return at_home(self, x_t, t, condition)
        share = torch.as_tensor(t, device=x_t.device).expand(len(x_t))[:, None] / self.steps
        told = condition.tokens[:, 0] * condition.present[:, None]
        return x_t @ self.weight + 0.5 * share + 0.7 * told.roll(1, dims=1)


def _prior_case(seed: int, count: int, width: int, schedule=_schedule):
    def arguments():
        guess = _Guess(seed, width, schedule.steps)
        z_i = width**0.5 * _unit(seed + 1, count, width)
        condition = Condition(tokens=_unit(seed + 2, count, width)[:, None])
        source = torch.Generator().manual_seed(seed)
        t = torch.randint(1, schedule.steps + 1, (count,), generator=source)
        return guess, schedule, z_i, condition, t, _random(seed + 3, count, width)

    return arguments


def _prior(target=lambda z_i, x_t, noise: z_i, seen=lambda z_i, x_t: x_t, join=F.mse_loss):
    """A wrong loss: for another target, of another state, or joined otherwise."""

    def prior_loss(guess, schedule, z_i, condition, t, noise):
        x_t = schedule.add_noise(z_i, t, noise)
        return join(guess(seen(z_i, x_t), t, condition), target(z_i, x_t, noise))

    return prior_loss


def _as_noise(guess, schedule, z_i, condition, t, noise):
    x_t = schedule.add_noise(z_i, t, noise)
    return F.mse_loss(schedule.predict_x0(x_t, t, guess(x_t, t, condition)), z_i)


def _of_noise(guess, schedule, z_i, condition, t, noise):
    x_t = schedule.add_noise(z_i, t, noise)
    return F.mse_loss(schedule.predict_noise(x_t, t, guess(x_t, t, condition)), noise)


def _untold(guess, schedule, z_i, condition, t, noise):
    nothing = Condition(tokens=0 * condition.tokens)
    return F.mse_loss(guess(schedule.add_noise(z_i, t, noise), t, nothing), z_i)


def _towards_text(guess, schedule, z_i, condition, t, noise):
    x_t = schedule.add_noise(z_i, t, noise)
    return F.mse_loss(guess(x_t, t, condition), condition.tokens[:, 0])


def _from_text(guess, schedule, z_i, condition, t, noise):
    x_t = schedule.add_noise(condition.tokens[:, 0], t, noise)
    return F.mse_loss(guess(x_t, t, condition), z_i)


def _scaled(by):
    """A loss for embeddings of another length."""

    def prior_loss(guess, schedule, z_i, condition, t, noise):
        z_i = by(z_i)
        return F.mse_loss(guess(schedule.add_noise(z_i, t, noise), t, condition), z_i)

    return prior_loss


def _no_shares(guess, schedule, z_i, condition, t, noise):
    return F.mse_loss(guess(z_i + noise, t, condition), z_i)


prior_loss = Exercise(
    reference=two_towers.prior_loss,
    cases=[
        _prior_case(0, 4, 8),
        _prior_case(10, 1, 6),
        _prior_case(20, 5, 16, _few),
        _prior_case(30, 3, 4),
    ],
    mistakes=[
        (
            _prior(lambda z_i, x_t, noise: noise),
            "You compare with the noise, as networks of pictures do. This one guesses the "
            "embedding itself.",
        ),
        (
            _prior(lambda z_i, x_t, noise: x_t),
            "You compare with what the network was shown. Copying would be perfect.",
        ),
        (
            _prior(lambda z_i, x_t, noise: noise - z_i),
            "That is the velocity of lesson 17. Here the network guesses the embedding itself.",
        ),
        (
            _prior(seen=lambda z_i, x_t: z_i),
            "The network is shown the clean embedding: there is nothing to guess.",
        ),
        (
            _no_shares,
            "The noise is added as it is. The schedule says how much of either there is at t: "
            "add_noise.",
        ),
        (
            _as_noise,
            "You take the answer for noise and turn it into an embedding. It is one already.",
        ),
        (
            _of_noise,
            "You turn the guess into noise and count the error of that: at small t it would be "
            "enormous. Compare embeddings.",
        ),
        (
            _scaled(lambda z_i: z_i.shape[1] ** 0.5 * z_i),
            "You multiply the embeddings by the root of their width: z_i has been already.",
        ),
        (
            _scaled(lambda z_i: F.normalize(z_i, dim=1)),
            "You bring the embeddings to length 1. As they come their numbers have a mean square "
            "of 1, as the schedule wants it: leave them.",
        ),
        (
            _untold,
            "The text is not told: such a prior draws anything.",
        ),
        (
            _towards_text,
            "You compare with the text's embedding. The prior leads from there to a picture's.",
        ),
        (
            _from_text,
            "The noise is put on the text's embedding. The text is only told, the picture's "
            "embedding is what noise hides.",
        ),
        (
            _prior(join=lambda a, b: (a - b).square().sum()),
            "The squares are summed up. Take their mean.",
        ),
        (
            _prior(join=lambda a, b: (a - b).square().sum(1).mean()),
            "The squares are summed over each embedding. Take the mean over everything.",
        ),
        (
            _prior(join=lambda a, b: (a - b).abs().mean()),
            "That is the mean absolute error. The best guess would be the median; take squares.",
        ),
        (
            _prior(join=lambda a, b: F.mse_loss(a, b).sqrt()),
            "That is the root of the mean square. Leave the root out.",
        ),
        (
            _prior(join=lambda a, b: 1 - F.cosine_similarity(a, b).mean()),
            "You compare directions only. The paper takes the mean squared error.",
        ),
    ],
    points=2,
)


# --- better_of_two --------------------------------------------------------------------------------


def better_of_two(first, second, z_t):
    """Of two guesses for each text the one with the larger dot product with the text, all [B, D]:
    Ramesh et al., "unCLIP" (2022), section 2.2."""
    better = (first * z_t).sum(1, keepdim=True) >= (second * z_t).sum(1, keepdim=True)
    return torch.where(better, first, second)


def _two(seed: int, count: int, width: int):
    return lambda: tuple(_unit(seed + n, count, width) for n in range(3))


def _whole_batch(first, second, z_t):
    return first if (first * z_t).sum() >= (second * z_t).sum() else second


def _by(score):
    """The better one by another measure."""

    def better_of_two(first, second, z_t):
        a, b = (score(z, z_t) for z in (first, second))
        return torch.where(a >= b, first, second)

    return better_of_two


better_of_two = Exercise(
    reference=better_of_two,
    cases=[_two(0, 7, 8), _two(10, 5, 4), _two(20, 12, 64), _two(31, 1, 3)],
    mistakes=[
        (
            _whole_batch,
            "One decision is made for the whole batch. Each text has its own two guesses.",
        ),
        (
            _by(lambda z, z_t: -(z * z_t).sum(1, keepdim=True)),
            "You keep the worse one: the larger dot product is nearer to the text.",
        ),
        (
            _by(lambda z, z_t: z * z_t),
            "You decide for each number of an embedding, and mix the two. Sum over dim=1 first.",
        ),
        (
            lambda first, second, z_t: torch.maximum(first, second),
            "That is the larger of the two in each number, whatever the text.",
        ),
        (
            lambda first, second, z_t: first,
            "The first one always comes back.",
        ),
        (
            lambda first, second, z_t: second,
            "The second one always comes back.",
        ),
        (
            lambda first, second, z_t: F.normalize(first + second, dim=1),
            "That is the middle of the two, which may be like neither. Choose one.",
        ),
        (
            lambda first, second, z_t: (first + second) / 2,
            "That is the mean of the two, which may be like neither. Choose one.",
        ),
        (
            lambda first, second, z_t: torch.maximum((first * z_t).sum(1), (second * z_t).sum(1)),
            "The larger dot product came back. The embedding that it belongs to is asked for.",
        ),
        (
            _by(lambda z, z_t: z.norm(dim=1, keepdim=True)),
            "You compare lengths. The text should decide.",
        ),
        (
            _by(lambda z, z_t: (z * z_t).sum(1, keepdim=True).abs()),
            "You look at the size of the dot product. A large negative one points away from the "
            "text.",
        ),
    ],
    points=2,
)
