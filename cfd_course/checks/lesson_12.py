"""Lesson 12, classifier guidance: classifier_gradient, guide_by_classifier, guided_step,
implicit_gradient."""

import torch
import torch.nn.functional as F
from torch import nn

from .. import expect
from ..guidance import classifier_gradient as _classifier_gradient
from ..guidance import guide_by_classifier as _guide_by_classifier
from ..sampling import clip_guess
from ..schedule import NoiseSchedule
from ..unet import at_home
from . import Exercise, NotYet
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class _Classifier(nn.Module):
    """Logits that depend on every pixel and on the time. shape: of a picture. sharp: how far apart
    they lie."""

    def __init__(self, classes: int, *shape: int, sharp: float = 1.0):
        super().__init__()
        self.shape = shape
        size = torch.Size(shape).numel()
        self.weight = nn.Parameter(sharp * _random(classes, classes, size) / size**0.5)
        self.bias = nn.Parameter(_random(size, classes))

    def forward(self, x_t, t):
        if x_t.device != self.weight.device:
            return at_home(self, x_t, t)
        times = 1 + torch.as_tensor(t, device=x_t.device).float().reshape(-1, 1) / 500
        return 3 * (times * x_t.flatten(1).to(self.weight)).sin() @ self.weight.mT + self.bias


def _classifier_case(labels: list[int], classes: int, *shape: int, sharp: float = 1.0):
    return lambda: (_Classifier(classes, *shape, sharp=sharp), torch.tensor(labels))


NOT_RECORDED = (
    "Samplers call it under torch.no_grad(), where nothing is recorded, and there yours stops. "
    "Inside your function switch recording on again: with torch.enable_grad(): ..."
)
NOTHING_TO_FOLLOW = (
    "There is nothing to take a gradient of: x_t must ask for gradients before the classifier sees "
    "it."
)
NOT_ONE_NUMBER = (
    "torch.autograd.grad follows a single number, and there is one for each picture. Sum them: no "
    "picture changes another's."
)


def _function(result, what: str):
    """The function that should have come back."""
    if not callable(result):
        raise NotYet(
            f"A {what} should come back, a function of x_t and t that a sampler calls later, but "
            f"{expect.describe(result)} did. Return the function itself, without calling it."
        )
    return result


def _gradients(arguments, gradient):
    """What the function returns for pictures at two times, and for others at the first of them,
    called as samplers call it."""
    if gradient is None:
        return None
    _function(gradient, "gradient")
    classifier, labels = arguments
    seen, weights = {}, list(classifier.parameters())
    for each in weights:  # what a training under way has gathered
        each.grad = torch.ones_like(each)
    for of, t, seed in (("", 400, 400), ("", 1, 1), (" of other pictures", 400, 2)):
        x_t = _random(seed, len(labels), *classifier.shape)
        kept = x_t.clone()
        try:
            with torch.no_grad():
                seen[f"gradient{of} at t = {t}"] = found = gradient(x_t, t)
                recorded = torch.is_grad_enabled()
        except RuntimeError as error:
            if "scalar outputs" in str(error):
                raise NotYet(NOT_ONE_NUMBER) from None
            if "does not require grad" not in str(error):
                raise
            try:
                gradient(kept.clone(), t)
            except RuntimeError:
                raise NotYet(NOTHING_TO_FOLLOW) from None
            raise NotYet(NOT_RECORDED) from None
        seen["x_t is left as it came"] = torch.equal(x_t, kept) and not x_t.requires_grad
        seen["the sampler's no_grad() still holds afterwards"] = not recorded
        one = isinstance(found, torch.Tensor) and found.shape == x_t.shape  # a gradient at all
        seen["what came back records gradients itself"] = one and found.requires_grad
    seen["the classifier's own gradients are left alone"] = all(
        each.grad is not None and bool((each.grad == 1).all()) for each in weights
    )
    return seen


def _of(chosen, change=lambda gradient: gradient, ask=lambda classifier, x, t: classifier(x, t)):
    """A wrong classifier_gradient: the gradient of something else, chosen(logits, labels) -> a
    number, or with something done to it."""

    def classifier_gradient(classifier, labels):
        def gradient(x_t, t):
            with torch.enable_grad():
                x = x_t.detach().requires_grad_()
                wanted = chosen(ask(classifier, x, t), labels)
                return change(torch.autograd.grad(wanted, x)[0])

        return gradient

    return classifier_gradient


def _log_probability(logits, labels):
    return logits.log_softmax(1)[range(len(labels)), labels].sum()


def _not_recorded(classifier, labels):
    def gradient(x_t, t):
        x = x_t.detach().requires_grad_()
        return torch.autograd.grad(_log_probability(classifier(x, t), labels), x)[0]

    return gradient


def _nothing_to_follow(classifier, labels):
    def gradient(x_t, t):
        with torch.enable_grad():
            frozen = classifier(x_t, t).detach()
            return torch.autograd.grad(_log_probability(frozen, labels), x_t)[0]

    return gradient


def _not_summed(classifier, labels):
    def gradient(x_t, t):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            logs = classifier(x, t).log_softmax(1)[range(len(labels)), labels]
            return torch.autograd.grad(logs, x)[0]

    return gradient


def _marks_x_t(classifier, labels):
    def gradient(x_t, t):
        with torch.enable_grad():
            x_t.requires_grad_()
            return torch.autograd.grad(_log_probability(classifier(x_t, t), labels), x_t)[0]

    return gradient


def _backward(classifier, labels):
    def gradient(x_t, t):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            _log_probability(classifier(x, t), labels).backward()
            return x.grad

    return gradient


def _recorded(classifier, labels):
    def gradient(x_t, t):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            wanted = _log_probability(classifier(x, t), labels)
            return torch.autograd.grad(wanted, x, create_graph=True)[0]

    return gradient


def _no_gradient(classifier, labels):
    return lambda x_t, t: classifier(x_t, t).log_softmax(1)[range(len(labels)), labels]


def _of_each(x):
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


classifier_gradient = Exercise(
    reference=_classifier_gradient,
    cases=[
        _classifier_case([3, 1, 4], 5, 2, 3, 4),
        _classifier_case([0, 6, 2, 5], 7, 6),
        _classifier_case([2, 0], 3, 1, 5, 2),
        _classifier_case([1], 4, 3, 3),
        _classifier_case([1, 0, 2], 3, 2, 3, sharp=8.0),
    ],
    mistakes=[
        (
            _of(lambda logits, labels: logits[range(len(labels)), labels].sum()),
            "That is the gradient of the label's logit. It raises that label without lowering the "
            "others; a probability weighs it against them all.",
        ),
        (
            _of(lambda logits, labels: logits.softmax(1)[range(len(labels)), labels].sum()),
            "That is the gradient of the probability itself. Bayes' rule turned products into sums "
            "by a logarithm, and the logarithm is missing.",
        ),
        *[
            (
                _of(lambda logits, labels, how=how: F.cross_entropy(logits, labels, reduction=how)),
                "It leads away from the label: a loss falls where the probability rises. The sign "
                "is wrong.",
            )
            for how in ("mean", "sum")
        ],
        *[
            (
                _of(chosen),
                "It is too small, by the number of pictures: a mean over the batch makes each "
                "picture's gradient depend on how many others there are. Sum instead.",
            )
            for chosen in (
                lambda logits, labels: -F.cross_entropy(logits, labels),
                lambda logits, labels: logits.softmax(1)[range(len(labels)), labels].log().mean(),
            )
        ],
        (
            _of(lambda logits, labels: logits.log_softmax(1).sum()),
            "All labels are followed at once, the asked one no more than the others.",
        ),
        (
            _of(lambda logits, labels: logits.log_softmax(1)[:, labels].sum()),
            "Each picture follows the labels of all pictures: [:, labels] takes all of them from "
            "every row. Of row i only the label i is asked for.",
        ),
        (
            _of(lambda logits, labels: logits.log_softmax(1)[:, labels[0]].sum()),
            "Every picture follows the label of the first one.",
        ),
        (
            _of(lambda logits, labels: logits.log_softmax(1)[0, labels[0]]),
            "Only the first picture of the batch gets a gradient, and the others 0.",
        ),
        (
            _of(lambda logits, labels: logits.log_softmax(1).amax(1).sum()),
            "It follows the label that the classifier finds most probable already, whatever was "
            "asked for.",
        ),
        (
            _of(lambda logits, labels: logits.log_softmax(0)[range(len(labels)), labels].sum()),
            "The softmax runs over the pictures of the batch. A picture's labels compete with each "
            "other: dimension 1.",
        ),
        (
            _of(lambda logits, labels: F.logsigmoid(logits)[range(len(labels)), labels].sum()),
            "With a sigmoid each label is a question of its own, yes or no. Here one of them is "
            "right, so they share a softmax.",
        ),
        (
            _of(_log_probability, lambda gradient: gradient / _of_each(gradient)),
            "Each gradient is brought to length 1. Its length says how much is still missing, and "
            "fades as soon as the classifier is sure.",
        ),
        (
            _of(_log_probability, lambda gradient: gradient / gradient.norm()),
            "The gradient is brought to length 1. Its length says how much is still missing, and "
            "fades as soon as the classifier is sure.",
        ),
        (
            _of(_log_probability, torch.sign),
            "Only the signs are left. How much each pixel matters is lost.",
        ),
        *[
            (
                _of(_log_probability, ask=lambda classifier, x, t, when=when: classifier(x, when)),
                "The classifier is asked about another time than t, whatever t is: it would look "
                "for another amount of noise than x_t has.",
            )
            for when in (0, 1)
        ],
        (
            _of(_log_probability, lambda gradient: (gradient,)),
            "The gradient is right, but it comes in a tuple: torch.autograd.grad returns one for "
            "each tensor that it was asked about. Take the first, [0].",
        ),
        (_not_summed, NOT_ONE_NUMBER),
        (_not_recorded, NOT_RECORDED),
        (_nothing_to_follow, NOTHING_TO_FOLLOW),
        (
            _marks_x_t,
            "The gradient is right, but x_t itself is marked to record from now on, and a "
            "sampler goes on with that x_t. Mark a copy: x_t.detach().",
        ),
        (
            _backward,
            "The gradient is right, but the classifier's own gradients are no longer what they "
            "were: backward() fills those of all its weights as well, in the middle of a training, "
            "say. torch.autograd.grad takes the one that you want.",
        ),
        (
            _recorded,
            "The gradient is right, but it still records how it was made, and with it a sampler's "
            "pictures would record every step. That is what create_graph=True is for: leave it "
            "out.",
        ),
        (
            _no_gradient,
            "That is the logarithm of the probability. What is asked for is its gradient, one "
            "number for every pixel of x_t.",
        ),
    ],
    observe=_gradients,
    points=4,
)


_schedule = NoiseSchedule.cosine(1000)


def _waves(x_t, t):
    return (2 * x_t).sin() + t / 700


def _slopes(x_t, t):
    return (3 * x_t).cos() - 0.4 * x_t + t / 900


def _guide_case(scale: float, schedule=_schedule):
    return lambda: (_waves, _slopes, schedule, scale)


def _guided(arguments, denoise):
    """What the denoiser returns for pictures and points at the schedule's ends and between, and
    for others at a time that it was asked about before."""
    if denoise is None:
        return None
    _function(denoise, "denoiser")
    steps = arguments[2].steps
    return {
        f"noise at {when}": denoise(_random(t + more, *shape), t)
        for when, t, more, shape in (
            ("t = 1", 1, 0, (3, 5)),
            ("t = T / 2", steps // 2, 0, (2, 1, 4, 3)),
            ("t = T - 1", steps - 1, 0, (4, 2)),
            ("t = 1 of other pictures", 1, 1, (3, 5)),
        )
    }


def _put(formula):
    """A wrong guide_by_classifier: formula(noise, gradient, scale, share), where share is alpha_bar
    at t."""

    def guide_by_classifier(denoise, gradient, schedule, scale):
        return lambda x_t, t: formula(
            denoise(x_t, t), gradient(x_t, t), scale, schedule.alpha_bars[t].float()
        )

    return guide_by_classifier


def _other_table(table):
    def guide_by_classifier(denoise, gradient, schedule, scale):
        return lambda x_t, t: (
            denoise(x_t, t) - table(schedule, t).float() * scale * gradient(x_t, t)
        )

    return guide_by_classifier


def _moves_x_t(denoise, gradient, schedule, scale):
    return lambda x_t, t: denoise(x_t + scale * gradient(x_t, t), t)


def _reads_the_noise(denoise, gradient, schedule, scale):
    def guided(x_t, t):
        noise = denoise(x_t, t)
        return noise - float(1 - schedule.alpha_bars[t]) ** 0.5 * scale * gradient(noise, t)

    return guided


guide_by_classifier = Exercise(
    reference=_guide_by_classifier,
    cases=[
        _guide_case(2.75),
        _guide_case(1.0, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _guide_case(-1.5),
        _guide_case(0.4, schedule=NoiseSchedule.linear(1000)),
        _guide_case(0.0),
        _guide_case(7.3, schedule=NoiseSchedule.cosine(40)),
    ],
    mistakes=[
        (
            _put(lambda noise, g, scale, a: noise + (1 - a).sqrt() * scale * g),
            "It leads away from the label: the noise is what gets subtracted from x_t, so noise "
            "and score have opposite signs.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - scale * g),
            "A gradient of a logarithm is a score, and a score is not yet a noise: the factor "
            "between the two is missing.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - (1 - a) * scale * g),
            "Between score and noise lies a standard deviation, and 1 - alpha_bar is a variance: a "
            "root is missing.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - a.sqrt() * scale * g),
            "That is the share of the picture. Between score and noise stands the share of the "
            "noise.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - scale * g / (1 - a).sqrt()),
            "The factor between score and noise is right, but you go the other way: from noise to "
            "score one divides, from score to noise one multiplies.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - (1 - a).sqrt() * (scale - 1) * g),
            "Yours is one behind: at scale 1 the classifier is not heard at all. The denoiser here "
            "knows nothing of the label, so scale 1 is Bayes' rule.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - (1 - a).sqrt() * (scale + 1) * g),
            "Yours is one ahead: at scale 0 nothing should be left but the denoiser's own noise.",
        ),
        (
            _put(lambda noise, g, scale, a: scale * (noise - (1 - a).sqrt() * g)),
            "The scale multiplies the noise as well. It belongs to the gradient alone.",
        ),
        (
            _put(lambda noise, g, scale, a: (1 - scale) * noise - (1 - a).sqrt() * scale * g),
            "The noise is weighed less, the larger the scale. A gradient is added to a whole "
            "score, not mixed with it.",
        ),
        (
            _put(lambda noise, g, scale, a: -(1 - a).sqrt() * scale * g),
            "That is the push alone: at scale 0 nothing is left, not even the denoiser's noise.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - (1 - a).sqrt() * g),
            "The scale changes nothing.",
        ),
        (
            _other_table(lambda schedule, t: (1 - schedule.alphas[t]).sqrt()),
            "You use alpha or beta, of one step; what all steps up to t kept is alpha_bar.",
        ),
        (
            lambda denoise, gradient, schedule, scale: denoise,
            "The denoiser comes back as it went in: the gradient is not heard.",
        ),
        (
            _put(lambda noise, g, scale, a: noise - ((1 - a) / a).sqrt() * scale * g),
            "You multiply by the noise's share relative to the picture's. Between score and noise "
            "stands the noise's share alone.",
        ),
        (
            _put(lambda noise, g, scale, a: scale * g - noise / (1 - a).sqrt()),
            "That is the score. Samplers ask for noise: multiply by what stands between the two.",
        ),
        (
            _reads_the_noise,
            "The classifier is shown the denoiser's noise. It reads noisy pictures: show it x_t.",
        ),
        (
            _moves_x_t,
            "You move x_t by the gradient and ask there. The denoiser should be asked about x_t "
            "itself, and the gradient changes its answer.",
        ),
    ],
    observe=_guided,
    points=2,
)


def guided_step(schedule, x_t, t, s, noise, gradient, scale):
    """Mean and variance of the Gaussian from which x_s is drawn: Dhariwal, Nichol, "Diffusion
    Models Beat GANs" (2021), algorithm 1. x_t, noise, gradient [B, ...]; t > s >= 0."""
    x_0, _ = clip_guess(schedule, x_t, t, noise)
    mean, variance = schedule.posterior(x_0, x_t, t, s)
    return mean + scale * variance * gradient, variance


def _step_case(t: int, s: int, scale: float, *shape: int, schedule=_schedule):
    def arguments():
        x_t, noise, gradient = (_random(10 * t + n, *shape) for n in range(3))
        return schedule, x_t, t, s, noise, 2 * gradient, scale

    return arguments


def _mean_and_variance(arguments, result):
    """Both by name; the variance may be one number, or one for each pixel."""
    if result is None:
        return None
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise NotYet(
            f"Two things should come back, mean and variance, but {expect.describe(result)} did."
        )
    mean, variance = result
    if not isinstance(mean, torch.Tensor) or mean.shape != arguments[1].shape:
        raise NotYet(
            f"The mean should come first, shaped like x_t, {list(arguments[1].shape)}, but "
            f"{expect.describe(mean)} did."
        )
    variance = torch.as_tensor(variance)
    try:
        return {"mean": mean, "variance": variance.to(mean).expand(mean.shape)}
    except RuntimeError:
        return {"mean": mean, "variance": variance}


def _step(
    shift=lambda mean, variance, gradient, scale: mean + scale * variance * gradient,
    clip=lambda x_0: x_0.clamp(-1, 1),
    to=lambda t, s: s,
    spread=lambda variance, scale: variance,
):
    """A guided_step with one thing changed."""

    def guided_step(schedule, x_t, t, s, noise, gradient, scale):
        x_0 = clip(schedule.predict_x0(x_t, t, noise))
        mean, variance = schedule.posterior(x_0, x_t, t, to(t, s))
        return shift(mean, variance, gradient, scale), spread(variance, scale)

    return guided_step


def _noise_for_guess(schedule, x_t, t, s, noise, gradient, scale):
    mean, variance = schedule.posterior(noise.clamp(-1, 1), x_t, t, s)
    return mean + scale * variance * gradient, variance


def _in_the_noise(schedule, x_t, t, s, noise, gradient, scale):
    noise = noise - float(1 - schedule.alpha_bars[t]) ** 0.5 * scale * gradient
    return schedule.posterior(schedule.predict_x0(x_t, t, noise).clamp(-1, 1), x_t, t, s)


def _both_ways(schedule, x_t, t, s, noise, gradient, scale):
    mean, variance = _in_the_noise(schedule, x_t, t, s, noise, gradient, scale)
    return mean + scale * variance * gradient, variance


def _in_the_guess(schedule, x_t, t, s, noise, gradient, scale):
    x_0 = schedule.predict_x0(x_t, t, noise).clamp(-1, 1) + scale * gradient
    return schedule.posterior(x_0, x_t, t, s)


def _fresh_noise_of_the_chain(schedule, x_t, t, s, noise, gradient, scale):
    mean, variance = schedule.posterior(schedule.predict_x0(x_t, t, noise).clamp(-1, 1), x_t, t, s)
    beta = 1 - float(schedule.alpha_bars[t] / schedule.alpha_bars[s])
    return mean + scale * beta * gradient, variance


def _one_beta(schedule, x_t, t, s, noise, gradient, scale):
    mean, variance = schedule.posterior(schedule.predict_x0(x_t, t, noise).clamp(-1, 1), x_t, t, s)
    return mean + scale * float(schedule.betas[t]) * gradient, variance


guided_step = Exercise(
    reference=guided_step,
    cases=[
        _step_case(600, 560, 2.75, 2, 1, 4, 5),
        _step_case(980, 940, 1.0, 3, 2, 5, 4),
        _step_case(40, 25, -1.5, 4, 3),
        _step_case(9, 6, 0.4, 3, 1, 2, 6, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _step_case(300, 299, 5.5, 1, 3, 4, 2),
        _step_case(30, 0, 3.0, 2, 7),
    ],
    mistakes=[
        (
            _step(lambda mean, variance, gradient, scale: mean - scale * variance * gradient),
            "It goes down the gradient, away from the label. The noise changes its sign, for it is "
            "subtracted; a mean goes where the gradient points.",
        ),
        (
            _step(
                lambda mean, variance, gradient, scale: mean + scale * variance.sqrt() * gradient
            ),
            "The gradient is multiplied by the standard deviation. In the derivation above it is "
            "the variance.",
        ),
        (
            _step(lambda mean, variance, gradient, scale: mean + scale * gradient),
            "The gradient comes in at full length, whatever the size of the step. How far a step "
            "may be led astray is for its variance to say.",
        ),
        (
            _step(lambda mean, variance, gradient, scale: mean + variance * gradient),
            "The scale changes nothing.",
        ),
        (
            _step(lambda mean, variance, gradient, scale: scale * (mean + variance * gradient)),
            "The scale multiplies the mean as well. It belongs to the gradient alone.",
        ),
        (
            _step(lambda mean, variance, gradient, scale: mean + (scale - 1) * variance * gradient),
            "Yours is one behind: at scale 1 the classifier is not heard at all.",
        ),
        (
            _step(spread=lambda variance, scale: scale * variance),
            "The mean is right, and the variance has grown with the scale. The classifier moves "
            "the Gaussian; its width stays.",
        ),
        (
            _step(spread=lambda variance, scale: variance.sqrt()),
            "The mean is right, but a standard deviation comes back beside it, not the variance.",
        ),
        (
            _step(clip=lambda x_0: x_0),
            "The guess of x_0 may leave -1 to 1, where no picture is. At large t it does, far. Cut "
            "it off there, as in lesson 06.",
        ),
        (
            _step(clip=lambda x_0: x_0.clamp(0, 1)),
            "The guess of x_0 is cut off at 0, middle grey. Pictures run from -1 to 1.",
        ),
        (
            _step(lambda mean, variance, gradient, scale: mean + scale * variance**2 * gradient),
            "The gradient is multiplied by the square of the variance: once is enough.",
        ),
        (
            _one_beta,
            "The gradient is multiplied by beta, the variance of one step forward. Here it is the "
            "variance of the step back, which posterior returns.",
        ),
        (
            _step(to=lambda t, s: t - 1),
            "The step goes back by 1 and not to s. posterior can be told where to.",
        ),
        (
            _noise_for_guess,
            "The noise is given, and posterior wants the clean picture: guess it first.",
        ),
        (
            _in_the_noise,
            "You put the gradient into the noise. That is the other way, the one of exercise 2; "
            "here the mean of the step is moved.",
        ),
        (
            _both_ways,
            "The gradient comes in twice, by the noise and by the mean. Each is a way of its own.",
        ),
        (
            _in_the_guess,
            "The gradient is added to the guess of x_0. It moves the mean of x_s.",
        ),
        (
            _fresh_noise_of_the_chain,
            "The gradient is multiplied by the variance of the noise that was added between s and "
            "t. The step back has a smaller one, that of the posterior.",
        ),
    ],
    observe=_mean_and_variance,
    points=3,
)


def implicit_gradient(schedule, null, told, t):
    """The gradient of log p(c | x_t) that two predictions of the noise hold, [B, ...]: Ho,
    Salimans, "Classifier-Free Diffusion Guidance" (2022), section 3.2."""
    return (null - told) / float(1 - schedule.alpha_bars[t]) ** 0.5


def _two_noises(t: int, seed: int, *shape: int, schedule=_schedule):
    return lambda: (schedule, *(_random(seed + n, *shape) for n in range(2)), t)


def _turned(formula):
    """A wrong implicit_gradient: formula(null, told, share), where share is alpha_bar at t."""
    return lambda schedule, null, told, t: formula(null, told, schedule.alpha_bars[t].float())


implicit_gradient = Exercise(
    reference=implicit_gradient,
    cases=[
        _two_noises(600, 0, 2, 1, 4, 5),
        _two_noises(950, 10, 3, 2),
        _two_noises(20, 20, 1, 3, 4, 2),
        _two_noises(4, 30, 4, 2, 3, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _two_noises(1, 40, 5, 2, 2),
    ],
    mistakes=[
        (
            _turned(lambda null, told, a: (told - null) / (1 - a).sqrt()),
            "It points away from the condition: noise and score have opposite signs.",
        ),
        (
            _turned(lambda null, told, a: told - null),
            "That is the difference of the noises, which points away from what was asked for. A "
            "score has the other sign, and another length.",
        ),
        (
            _turned(lambda null, told, a: null - told),
            "The direction is right. The length is still that of a noise, not that of a score.",
        ),
        (
            _turned(lambda null, told, a: (null - told) * (1 - a).sqrt()),
            "The factor between noise and score is right, but you go the other way: from score to "
            "noise one multiplies, from noise to score one divides.",
        ),
        (
            _turned(lambda null, told, a: (null - told) / (1 - a)),
            "1 - alpha_bar is a variance, and between noise and score lies a standard deviation.",
        ),
        (
            _turned(lambda null, told, a: (null - told) / a.sqrt()),
            "That is the share of the picture. Between noise and score stands the share of the "
            "noise.",
        ),
        (
            _turned(lambda null, told, a: -told / (1 - a).sqrt()),
            "That is the score of pictures that fit the condition, told and whole. What the "
            "classifier adds is what the untold one lacks of it.",
        ),
        (
            _turned(lambda null, told, a: -null / (1 - a).sqrt()),
            "That is the score of all pictures, without any condition.",
        ),
        (
            _turned(lambda null, told, a: -(null + told) / (1 - a).sqrt()),
            "The two scores are added. Bayes' rule, read from right to left, subtracts one from "
            "the other.",
        ),
        (
            lambda schedule, null, told, t: (null - told) / schedule.betas[t].float().sqrt(),
            "You use alpha or beta, of one step; what all steps up to t kept is alpha_bar.",
        ),
        (
            _turned(lambda null, told, a: (null - told) * (a / (1 - a)).sqrt()),
            "You multiply by the picture's share as well. Between noise and score stands the "
            "noise's share alone.",
        ),
        (
            _turned(lambda null, told, a: (told - null) / (1 - a)),
            "Two things: noise and score have opposite signs, and 1 - alpha_bar is a variance, "
            "where a standard deviation stands between them.",
        ),
        (
            _turned(lambda null, told, a: (told - null) * (1 - a).sqrt()),
            "Two things: noise and score have opposite signs, and from noise to score one divides.",
        ),
    ],
    points=2,
)
