"""Lesson 04, training and sampling: training_step, update_average, ddpm_step, ddim_step,
middle_guess."""

import torch
import torch.nn.functional as F
from torch import nn

from .. import training
from ..conditions import Condition
from ..schedule import NoiseSchedule
from . import Exercise
from . import points as points

_schedule = NoiseSchedule.cosine(1000)
_coarse = NoiseSchedule.linear(10, 0.05, 0.6)


def _random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- training_step ---


def training_step(network, optimizer, schedule, x_0, condition, t, noise):
    """One step of training: the loss, its gradient, a step of the optimiser. Returns the loss, a
    float. Lines 5 to 7 of the lesson's algorithm; DDPM (2020), algorithm 1."""
    loss = training.noise_loss(network, schedule, x_0, condition, t, noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class _Network(nn.Module):
    """The smallest network to which the picture, the time and the label all matter."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)
        self.time = nn.Linear(1, 1)
        self.label = nn.Embedding(10, 1)

    def forward(self, x_t, t, condition=None):
        h = self.convolution(x_t) + self.time(t[:, None] / 1000)[..., None, None]
        if condition is None:
            return h
        told = condition.present[:, None, None, None]
        return h + told * self.label(condition.tokens)[..., None]


def _training_case(seed: int, optimizer, schedule, labels: list[int], times: list[int]):
    """The arguments of the second step. The first is behind us: its gradients are still there."""
    shape = (len(labels), 1, 4, 3 + seed)

    def case():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network()
        condition = Condition(tokens=torch.tensor(labels)[:, None])
        x_0, noise = _random(seed, *shape), _random(seed + 1, *shape)
        rest = schedule, x_0, condition, torch.tensor(times), noise
        chosen = optimizer(network.parameters())
        _train_once(network, chosen, *rest)
        return network, chosen, *rest

    return case


def _after_training(arguments, result):
    kind = "nothing" if result is None else "number" if isinstance(result, float) else "tensor"
    loss = result.detach() if isinstance(result, torch.Tensor) else result
    return {"loss": loss, "kind": kind} | arguments[0].state_dict()


def _stepped(loss_of, zero=True, back=True, step=True, returned=lambda loss: loss.item()):
    """A training step with another loss, or with a part missing."""

    def answer(network, optimizer, schedule, x_0, condition, t, noise):
        loss = loss_of(network, schedule, x_0, condition, t, noise)
        if zero:
            optimizer.zero_grad()
        if back:
            loss.backward()
        if step:
            optimizer.step()
        return returned(loss)

    return answer


def _guess(network, schedule, x_0, condition, t, noise):
    return network(schedule.add_noise(x_0, t, noise), t, condition)


def _clean_input(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(network(x_0, t, condition), noise)


def _no_condition(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(network(schedule.add_noise(x_0, t, noise), t, None), noise)


def _told_to_nobody(network, schedule, x_0, condition, t, noise):
    return training.noise_loss(network, schedule, x_0, condition.absent(), t, noise)


def _other_noise(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(_guess(network, schedule, x_0, condition, t, noise), torch.randn_like(x_0))


def _against_picture(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(_guess(network, schedule, x_0, condition, t, noise), x_0)


def _summed(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(_guess(network, schedule, x_0, condition, t, noise), noise, reduction="sum")


def _absolute(network, schedule, x_0, condition, t, noise):
    return F.l1_loss(_guess(network, schedule, x_0, condition, t, noise), noise)


def _full_noise(network, schedule, x_0, condition, t, noise):
    return F.mse_loss(network(x_0 + noise, t, condition), noise)


def _rooted(*arguments):
    return training.noise_loss(*arguments).sqrt()


def _summed_by_picture(network, schedule, x_0, condition, t, noise):
    return _summed(network, schedule, x_0, condition, t, noise) / len(x_0)


def _stepped_twice(network, optimizer, *rest):
    loss = _train_once(network, optimizer, *rest)
    optimizer.step()
    return loss


def _asked_again(network, optimizer, *rest):
    _train_once(network, optimizer, *rest)
    return training.noise_loss(network, *rest).item()


_train_once = training_step
training_step = Exercise(
    reference=training_step,
    cases=[
        _training_case(
            0, lambda weights: torch.optim.SGD(weights, 0.2), _schedule, [3, 1, 4], [900, 300, 20]
        ),
        _training_case(
            2, lambda weights: torch.optim.AdamW(weights, 0.05), _coarse, [5, 9], [10, 1]
        ),
    ],
    mistakes=[
        (
            lambda network, optimizer, schedule, x_0, condition, t, noise: None,
            "It returns None so far, and the network has learned nothing: write its body.",
        ),
        (
            _stepped(training.noise_loss, zero=False),
            "The first step would be right, and every later one wrong: when yours begins, the "
            "gradients of the step before are still there, and PyTorch adds to them.",
        ),
        (
            _stepped(training.noise_loss, step=False),
            "The loss is right, but not one weight has moved. Either nobody asked for the "
            "gradient, or it was wiped out before it was used, or it was never used.",
        ),
        (
            _stepped(training.noise_loss, returned=lambda loss: None),
            "The network learns rightly, but nothing comes back: whoever called wants the loss.",
        ),
        (
            _stepped(training.noise_loss, returned=lambda loss: loss),
            "The network learns rightly, but a tensor comes back, and with it the whole record of "
            "how it was computed: keep a few thousand of those and the memory is full. A plain "
            "number was asked for.",
        ),
        (
            _stepped(
                lambda *rest: 2 * training.noise_loss(*rest), returned=lambda loss: loss.item() / 2
            ),
            "The loss is right, but the weights moved by another gradient than that of the loss.",
        ),
        (
            _stepped(_full_noise),
            "The noise is added at full strength whatever t is: make x_t as in lesson 01.",
        ),
        (
            _stepped(_rooted),
            "You take the root of the mean. The mean of the squares itself was asked for.",
        ),
        (
            _stepped(_summed_by_picture),
            "You add the errors of a picture up: larger pictures give a larger loss, and a larger "
            "step. The mean over all values was asked for.",
        ),
        (
            _stepped_twice,
            "The optimizer makes two steps for one gradient.",
        ),
        (
            _asked_again,
            "The network learns rightly, but the loss is that of the network after its step. Keep "
            "the number that was differentiated.",
        ),
        (
            _stepped(_clean_input),
            "The network was shown the clean picture. There is no noise in it to be found.",
        ),
        *[
            (
                _stepped(wrong),
                "The network was not told the condition: a network trained like this would ignore "
                "whichever digit you ask for.",
            )
            for wrong in (_no_condition, _told_to_nobody)
        ],
        (
            _stepped(_other_noise),
            "The network is asked for one noise and marked against another, drawn afresh: nobody "
            "can guess that, and the loss would stay at 1 or above.",
        ),
        (
            _stepped(_against_picture),
            "The network is marked against the clean picture. In this course it predicts the "
            "other ingredient of x_t.",
        ),
        (
            _stepped(_summed),
            "The loss is a sum over all pixels and pictures: it grows with the batch, and so does "
            "the step. A mean was asked for.",
        ),
        (
            _stepped(_absolute),
            "That is the mean of absolute errors. The best guess under it is a median, and Gauss's "
            "noise needs the mean: square the errors.",
        ),
    ],
    points=2,
)

# --- update_average ---


def _averaging_case(seed: int, decay: float):
    """Of networks in which one part, as happens in fine-tuning, is frozen."""

    def case():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            average, network = (
                nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 4))) for _ in "an"
            )
        network[0].requires_grad_(False)
        return average.requires_grad_(False), network, decay

    return case


def _after_averaging(arguments, result):
    average, network, _ = arguments
    state = {f"average.{name}": p.clone() for name, p in average.state_dict().items()}
    state |= {f"network.{name}": p.clone() for name, p in network.state_dict().items()}
    return state | {"the average has a history": any(p.requires_grad for p in average.parameters())}


def _averaged(change, target=0):
    """For every pair of weights: the average's (or the network's, target 1) becomes change()."""

    @torch.no_grad()
    def answer(average, network, decay):
        for pair in zip(average.parameters(), network.parameters(), strict=True):
            pair[target].copy_(change(*pair, decay))

    return answer


def _with_history(average, network, decay):
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.mul_(decay).add_((1 - decay) * fast)


def _first_only(average, network, decay):
    slow, fast = next(average.parameters()), next(network.parameters())
    slow.data.lerp_(fast.data, 1 - decay)


update_average = Exercise(
    reference=training.update_average,
    cases=[_averaging_case(0, 0.9), _averaging_case(1, 0.997), _averaging_case(2, 0.0)],
    mistakes=[
        (
            lambda average, network, decay: None,
            "The weights of the average are what they were. Is the body still empty? Or did you "
            "give a new value to the name, and not to the parameter that it stands for? It has to "
            "be changed in place.",
        ),
        (
            _averaged(lambda slow, fast, decay: (1 - decay) * slow + decay * fast),
            "At a decay of 0.9 yours forgets nine tenths of the average in one step: the two "
            "shares have changed places.",
        ),
        (
            _averaged(lambda slow, fast, decay: fast),
            "After one step the average is the network itself: it has forgotten all that came "
            "before.",
        ),
        (
            _averaged(lambda slow, fast, decay: decay * slow + fast),
            "The two shares add up to more than 1: step by step the weights would grow, to ten "
            "times their size at a decay of 0.9.",
        ),
        (
            _averaged(lambda slow, fast, decay: (slow + fast) / 2),
            "That is the plain mean of the two, whatever the decay.",
        ),
        (
            _averaged(lambda slow, fast, decay: decay * slow + (1 - decay) * fast, target=1),
            "You changed the network and left the average alone: the training would be slowed "
            "down, and nothing averaged.",
        ),
        (
            _with_history,
            "The numbers are right, but PyTorch has recorded the averaging as something to "
            "differentiate: the record grows with each step until the memory is full. This is "
            "bookkeeping, no part of the loss.",
        ),
        (
            _first_only,
            "Only the first parameter has moved: a network has many.",
        ),
    ],
    points=1,
    observe=_after_averaging,
)
training_step.observe = _after_training

# --- ddpm_step ---


def ddpm_step(schedule, x_t, t, noise, fresh):
    """From x_t to x_{t-1}: drawn from q(x_{t-1} | x_t, x_0) at the guess of x_0 that the predicted
    noise gives. fresh: normal numbers in the shape of x_t. DDPM (2020), algorithm 2, with the
    posterior's variance, which is 0 at t = 1."""
    mean, variance = schedule.posterior(schedule.predict_x0(x_t, t, noise), x_t, t)
    return mean + variance.sqrt() * fresh


def _sampling_case(seed: int, schedule, t: int, *shape: int):
    x_t, noise, fresh = (_random(seed + i, *shape) for i in range(3))
    return schedule, x_t, t, noise, fresh


_sampling_cases = [
    lambda: _sampling_case(0, _schedule, 600, 3, 1, 4, 5),
    lambda: _sampling_case(3, NoiseSchedule.linear(1000), 40, 2, 3, 5, 4),
    lambda: _sampling_case(6, _schedule, 1, 1, 2, 3, 4),
    # Ten coarse steps: on a thousand fine ones what belongs to t and to t - 1 is nearly alike.
    lambda: _sampling_case(9, _coarse, 6, 4, 2),
    lambda: _sampling_case(12, _coarse, 10, 5, 1, 2, 3),
    lambda: _sampling_case(15, _coarse, 2, 2, 3),
]


def _posterior(schedule, x_t, t, noise):
    return schedule.posterior(schedule.predict_x0(x_t, t, noise), x_t, t)


def _variance_for_deviation(schedule, x_t, t, noise, fresh):
    mean, variance = _posterior(schedule, x_t, t, noise)
    return mean + variance * fresh


def _beta_variance(schedule, x_t, t, noise, fresh):
    return _posterior(schedule, x_t, t, noise)[0] + schedule.betas[t].sqrt().to(x_t) * fresh


def _beta_variance_but_last(schedule, x_t, t, noise, fresh):
    return _beta_variance(schedule, x_t, t, noise, fresh if t > 1 else 0 * fresh)


def _old_noise(schedule, x_t, t, noise, fresh):
    return ddpm_reference(schedule, x_t, t, noise, noise)


def _full_fresh(schedule, x_t, t, noise, fresh):
    return _posterior(schedule, x_t, t, noise)[0] + (fresh if t > 1 else 0)


def _noise_as_picture(schedule, x_t, t, noise, fresh):
    mean, variance = schedule.posterior(noise, x_t, t)
    return mean + variance.sqrt() * fresh


def _swapped_posterior(schedule, x_t, t, noise, fresh):
    mean, variance = schedule.posterior(x_t, schedule.predict_x0(x_t, t, noise), t)
    return mean + variance.sqrt() * fresh


def _printed(
    share=lambda beta, alpha, bar: beta / (1 - bar).sqrt(),
    fainter=lambda alpha, bar: alpha.sqrt(),
    early=0,
):
    """DDPM algorithm 2 with another share of the noise taken away, or divided by something else."""

    def answer(schedule, x_t, t, noise, fresh):
        tables = schedule.betas[t - early], schedule.alphas[t], schedule.alpha_bars[t]
        beta, alpha, bar = (number.to(x_t) for number in tables)
        mean = (x_t - share(beta, alpha, bar) * noise) / fainter(alpha, bar)
        return mean + _posterior(schedule, x_t, t, noise)[1].sqrt() * fresh

    return answer


ddpm_reference = ddpm_step
ddpm_step = Exercise(
    reference=ddpm_step,
    cases=_sampling_cases,
    mistakes=[
        (
            _variance_for_deviation,
            "The mean is right, but there is too little fresh noise: a variance is the square of "
            "what noise is multiplied by.",
        ),
        (
            lambda schedule, x_t, t, noise, fresh: _posterior(schedule, x_t, t, noise)[0],
            "The mean is right, but that is where you stop: no fresh noise. A thousand such steps "
            "give smooth, average pictures.",
        ),
        (
            _beta_variance,
            "The mean is right. The fresh noise has the other variance that people use, a little "
            "too large here, and with it the last step makes the finished picture noisy.",
        ),
        (
            _beta_variance_but_last,
            "The mean is right, and so is the last step. The fresh noise has the other variance "
            "that people use: that of a step forwards. The exercise asks for the posterior's.",
        ),
        (
            _old_noise,
            "You add the predicted noise a second time, where the fresh one belongs.",
        ),
        (
            _full_fresh,
            "The fresh noise comes in at full strength: one step of a thousand would drown the "
            "picture.",
        ),
        (
            lambda schedule, x_t, t, noise, fresh: schedule.predict_x0(x_t, t, noise),
            "You jump to the guess of the clean picture. It is only a guess yet: go one step of "
            "the way.",
        ),
        (
            _noise_as_picture,
            "The noise was used as if it were the clean picture. Which function turns a guess of "
            "the one into a guess of the other?",
        ),
        (
            _swapped_posterior,
            "The clean picture and the noisy one have changed places: look at the order of the "
            "posterior's arguments.",
        ),
        (
            _printed(fainter=lambda alpha, bar: 1),
            "The noise is taken away rightly, but the step forgets to brighten: each step forwards "
            "made the picture a little fainter.",
        ),
        (
            _printed(lambda beta, alpha, bar: beta),
            "Too little noise is taken away: beta alone is the share of one step, and what it is "
            "a share of is missing.",
        ),
        (
            _printed(lambda beta, alpha, bar: beta / (1 - bar)),
            "The share of the noise that you take away has a root missing below the line.",
        ),
        (
            _printed(lambda beta, alpha, bar: beta / bar.sqrt()),
            "Below the line of the noise's share stands the picture's weight, where the noise's "
            "belongs.",
        ),
        (
            _printed(early=1),
            "beta is that of the step before: all tables are indexed by t itself.",
        ),
        (
            lambda schedule, x_t, t, noise, fresh: (
                _posterior(schedule, x_t, t, noise)[0] + schedule.betas[t].to(x_t) * fresh
            ),
            "The mean is right. The fresh noise is multiplied by beta, which is a variance, "
            "that of a step forwards.",
        ),
        (
            _printed(fainter=lambda alpha, bar: bar.sqrt()),
            "At t = 600 your picture is far too bright: one step is undone with the product of all "
            "the steps.",
        ),
    ],
    points=2,
)

# --- ddim_step ---


def ddim_step(schedule, x_t, t, s, noise):
    """From x_t to x_s, s < t: the guess of x_0 mixed again with the same noise. Song et al., DDIM
    (2021), equation 12 with sigma = 0."""
    x_0 = schedule.predict_x0(x_t, t, noise)
    share = schedule.alpha_bars[s].to(x_t)
    return share.sqrt() * x_0 + (1 - share).sqrt() * noise


def _mixed(x_0_weight, noise_weight, to=lambda t, s: s):
    """The guess of x_0 and the noise, with weights that are functions of alpha_bar."""

    def answer(schedule, x_t, t, s, noise):
        share = schedule.alpha_bars[to(t, s)].to(x_t)
        x_0 = schedule.predict_x0(x_t, t, noise)
        return x_0_weight(share) * x_0 + noise_weight(share) * noise

    return answer


def _root(share):
    return share.sqrt()


def _root_of_rest(share):
    return (1 - share).sqrt()


def _ddim_from_x_t(schedule, x_t, t, s, noise):
    share = schedule.alpha_bars[s].to(x_t)
    return share.sqrt() * x_t + (1 - share).sqrt() * noise


def _ddim_other_noise(schedule, x_t, t, s, noise):
    x_0 = schedule.predict_x0(x_t, t, noise)
    share = schedule.alpha_bars[s].to(x_t)
    return share.sqrt() * x_0 + (1 - share).sqrt() * torch.randn_like(x_t)


def _ddim_ancestral_mean(schedule, x_t, t, s, noise):
    return schedule.posterior(schedule.predict_x0(x_t, t, noise), x_t, t, s)[0]


def _ddim_case(seed: int, schedule, t: int, s: int, *shape: int):
    return schedule, _random(seed, *shape), t, s, _random(seed + 1, *shape)


ddim_step = Exercise(
    reference=ddim_step,
    cases=[
        lambda: _ddim_case(0, _schedule, 600, 400, 3, 1, 4, 5),
        lambda: _ddim_case(2, NoiseSchedule.linear(1000), 350, 349, 2, 3, 5, 4),
        lambda: _ddim_case(4, _schedule, 50, 0, 1, 2, 3, 4),
        lambda: _ddim_case(6, _coarse, 10, 7, 4, 2),
        lambda: _ddim_case(8, _coarse, 6, 1, 5, 1, 2, 3),
    ],
    mistakes=[
        (
            _mixed(_root, _root_of_rest, to=lambda t, s: t),
            "You are back at x_t: mixed for the time you came from, not for the one you go to.",
        ),
        (
            _mixed(_root, _root_of_rest, to=lambda t, s: t - 1),
            "Your step is always one long. This sampler's point is that it may be longer: where "
            "does s come in?",
        ),
        (
            lambda schedule, x_t, t, s, noise: schedule.predict_x0(x_t, t, noise),
            "You stop at the guess of the clean picture. At s > 0 a part of the noise belongs back "
            "in.",
        ),
        (
            _mixed(lambda share: share, lambda share: 1 - share),
            "The weights are shares of variance; values are multiplied by their roots.",
        ),
        (
            _mixed(_root, lambda share: 1 - share),
            "The picture's weight is right, the noise's too small: it is a variance.",
        ),
        (
            _mixed(_root_of_rest, _root),
            "The picture and the noise have each other's weight: at s = 0 yours is pure noise.",
        ),
        (
            _mixed(_root, lambda share: 1),
            "The noise comes back at full strength, even at s = 0, where none should be left.",
        ),
        (
            _mixed(_root, lambda share: 0),
            "The picture has the right weight, but no noise comes back: at s > 0 x_s has some.",
        ),
        (
            _mixed(_root, lambda share: 1 - share.sqrt()),
            "The noise's weight is 1 minus the picture's weight. It is their squares that add up "
            "to 1.",
        ),
        (
            _mixed(lambda share: 1, _root_of_rest),
            "The guess of the picture comes in at full strength: at s > 0 it should be fainter.",
        ),
        (
            _mixed(lambda share: share, _root_of_rest),
            "The noise's weight is right, the picture's too small: it is a variance.",
        ),
        (
            _mixed(_root, _root_of_rest, to=lambda t, s: max(s, 1)),
            "At s = 0 a little noise is left: the last step arrives at the clean picture, and the "
            "table has a row for it.",
        ),
        (
            _ddim_from_x_t,
            "You mix noise into x_t, which has noise in it already. What is mixed is the guess of "
            "the clean picture.",
        ),
        (
            _ddim_other_noise,
            "You mix with noise drawn afresh, so it never comes out the same twice. This sampler "
            "uses the noise that it was given.",
        ),
        (
            _ddim_ancestral_mean,
            "That is the mean of the ancestral step. Without its fresh noise it arrives with too "
            "little noise for the time s.",
        ),
    ],
    points=2,
)

# --- middle_guess ---


def middle_guess(x_0, last_x_0, stride, last_stride):
    """The guess of x_0, continued along the line through the last two to the middle of the stride
    ahead. Lu et al., DPM-Solver++ (2022), algorithm 2."""
    return x_0 + stride / (2 * last_stride) * (x_0 - last_x_0)


def _continued(factor):
    """The guess, moved by a multiple of its last change."""

    def answer(x_0, last_x_0, stride, last_stride):
        return x_0 + factor(stride, last_stride) * (x_0 - last_x_0)

    return answer


middle_guess = Exercise(
    reference=middle_guess,
    cases=[
        lambda: (_random(0, 2, 1, 4, 5), _random(1, 2, 1, 4, 5), 0.8, 0.5),
        lambda: (_random(2, 2, 1, 4, 5), _random(3, 2, 1, 4, 5), 0.3, 0.7),
        lambda: (_random(4, 2, 1, 4, 5), _random(5, 2, 1, 4, 5), 1.7, 0.6),
    ],
    mistakes=[
        (
            _continued(lambda stride, last_stride: 0),
            "You keep the guess as it is: that is DDIM. How did it change in the last stride?",
        ),
        (
            _continued(lambda stride, last_stride: stride / last_stride),
            "You go on to the end of the stride ahead. The guess that serves the whole stride is "
            "the one in its middle.",
        ),
        (
            _continued(lambda stride, last_stride: 0.5),
            "You take both strides for equally long. How far is it to the middle of the stride "
            "ahead, measured in strides behind?",
        ),
        (
            _continued(lambda stride, last_stride: last_stride / (2 * stride)),
            "The longer the stride ahead, the less you go on: the two strides have changed places.",
        ),
        (
            _continued(lambda stride, last_stride: -stride / (2 * last_stride)),
            "You go back towards the last guess. The change goes on: from the last guess to this "
            "one, and further.",
        ),
        (
            _continued(lambda stride, last_stride: -0.5),
            "That is the mean of the two guesses, the middle of the stride behind. You want that "
            "of the stride ahead.",
        ),
        (
            _continued(lambda stride, last_stride: stride / 2),
            "The change in the last stride took the last stride's length. By how much does the "
            "guess change for each unit of the clock?",
        ),
        (
            _continued(lambda stride, last_stride: stride / (2 * last_stride) - 1),
            "You start from the last guess. The newest one is nearer to where you go.",
        ),
    ],
    points=1,
)
