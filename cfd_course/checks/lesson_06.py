"""Lesson 06, classifier-free guidance: guide, paper_scale, clip_guess."""

import torch
from torch import nn

from .. import expect
from ..conditions import Condition
from ..guidance import guide as _guide
from ..guidance import paper_scale as _paper_scale
from ..sampling import clip_guess as _clip_guess
from ..schedule import NoiseSchedule
from . import Exercise, NotYet, _difference
from . import points as points


class _Network(nn.Module):
    """Predicts something that depends on everything, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x_t, t, condition):
        self.batches.append(len(x_t))
        if len(condition) != len(x_t):
            raise ValueError(
                f"the network got {len(x_t)} pictures but {len(condition)} rows of conditions"
            )
        label = torch.where(condition.present, condition.tokens[:, 0].float(), -2.0)
        times = torch.as_tensor(t).float().expand(len(x_t)) / 1000
        told = (label * (1 + times)).reshape(-1, *[1] * (x_t.ndim - 1))
        return 2 * x_t.sin() + told * (2 * x_t).cos()


def _case(scale, *labels):
    def arguments():
        return _Network(), Condition(tokens=torch.tensor(labels)[:, None]), scale

    return arguments


def _use(arguments, denoise):
    """What the denoiser returns for pictures and for points, at two times, and how many calls of
    the network that took."""
    if denoise is None:
        return None
    if not callable(denoise):
        raise NotYet(
            "A denoiser should come back, a function of x_t and t that a sampler calls later, but "
            f"{expect.describe(denoise)} did. Return the function itself, without calling it."
        )
    network, condition, _ = arguments
    random = torch.Generator().manual_seed(7)
    seen = {}
    for t, shape in ((400, (5,)), (9, (2, 3, 4))):
        x_t = torch.randn(len(condition), *shape, generator=random)
        seen[f"noise at t = {t}"] = denoise(x_t, t)
        seen[f"calls of the network up to t = {t}"] = len(network.batches)
    # Another picture at a time that has been: what was said of the first is not true of it.
    seen["noise of another picture"] = denoise(torch.randn(x_t.shape, generator=random), 9)
    return seen


def _predictions(network, condition, x_t, t):
    both = Condition.concatenate([condition.absent(), condition])
    return network(torch.cat([x_t, x_t]), t, both).chunk(2)


def _combined(formula):
    """A wrong `guide` that differs in how it puts the two predictions together."""

    def guide(network, condition, scale):
        return lambda x_t, t: formula(*_predictions(network, condition, x_t, t), scale)

    return guide


def _resized(noise, like, size):
    return noise * size(like) / size(noise)


def _deviation_of_all(x):
    return x.std()


def _deviation_of_each(x):
    return x.flatten(1).std(1).reshape(-1, *[1] * (x.ndim - 1))


def _paired(pictures, halves):
    """Unlike the conditions, which stand one after the other, the pictures or the predictions take
    turns."""

    def guide(network, condition, scale):
        both = Condition.concatenate([condition.absent(), condition])

        def denoise(x_t, t):
            null, told = halves(network(pictures(x_t), t, both))
            return null + scale * (told - null)

        return denoise

    return guide


def _in_a_row(x_t):
    return torch.cat([x_t, x_t])


def _in_turns(x_t):
    return x_t.repeat_interleave(2, dim=0)


def _every_other(predictions):
    return predictions[::2], predictions[1::2]


def _two_calls(network, condition, scale):
    def denoise(x_t, t):
        null, told = network(x_t, t, condition.absent()), network(x_t, t, condition)
        return null + scale * (told - null)

    return denoise


def _same_condition_twice(network, condition, scale):
    def denoise(x_t, t):
        both = Condition.concatenate([condition, condition])
        null, told = network(torch.cat([x_t, x_t]), t, both).chunk(2)
        return null + scale * (told - null)

    return denoise


def _zero_for_null(network, condition, scale):
    def denoise(x_t, t):
        zero = Condition(tokens=torch.zeros_like(condition.tokens))
        both = Condition.concatenate([zero, condition])
        null, told = network(torch.cat([x_t, x_t]), t, both).chunk(2)
        return null + scale * (told - null)

    return denoise


guide = Exercise(
    reference=_guide,
    cases=[
        _case(2.75, 3, 1, 4),
        _case(1.5, 5, 9),
        _case(-2.25, 2, 6, 5, 3),
        _case(0.0, 7),
        _case(0.4, 8, 1, 0),
    ],
    observe=_use,
    mistakes=[
        (
            _combined(lambda null, told, scale: told + scale * (told - null)),
            "That is the other convention: yours counts the extra push from the conditional "
            "prediction on, so that your scale 0 is the plain conditional network. Here it is 1.",
        ),
        (
            _combined(lambda null, told, scale: told + scale * (null - told)),
            "The bigger the scale, the further yours moves away from the condition: the two halves "
            "seem to have changed places. Which half of the batch was told?",
        ),
        (
            _combined(lambda null, told, scale: null - scale * (told - null)),
            "It pushes away from the condition: at scale 1 it does not give the conditional "
            "prediction back.",
        ),
        (
            _combined(lambda null, told, scale: scale * told + (scale - 1) * null),
            "The two weights should add up to 1 at every scale, and yours add up to 2 s - 1. A "
            "sign before the unconditional prediction is wrong.",
        ),
        (
            _combined(lambda null, told, scale: null + (scale - 1) * (told - null)),
            "Yours is one behind: at scale 1 it is still the unconditional prediction.",
        ),
        *[
            (
                _combined(lambda null, told, scale, cut=cut: null + cut(scale) * (told - null)),
                "The scale is cut to a whole number: with yours 1.5 is the same as a number next "
                "to it.",
            )
            for cut in (int, round)
        ],
        *[
            (
                _combined(
                    lambda null, told, scale, size=size: _resized(
                        null + scale * (told - null), told, size
                    )
                ),
                "The guided noise is brought back to the size of the conditional prediction. Some "
                "do that against washed out pictures (rescaled guidance); the formula here "
                "doesn't.",
            )
            for size in (_deviation_of_all, _deviation_of_each, torch.Tensor.norm)
        ],
        (
            _combined(lambda null, told, scale: null + scale * told),
            "At scale 1 it should give the conditional prediction alone, but yours is the sum of "
            "both. The scale multiplies what the condition changes, not the whole prediction.",
        ),
        (
            _combined(lambda null, told, scale: scale * (told - null)),
            "That is the push alone. At scale 0 nothing should be left but the unconditional "
            "prediction; with yours nothing is left at all.",
        ),
        (
            _combined(lambda null, told, scale: scale * told),
            "The unconditional prediction is not used: a larger scale only makes the noise "
            "larger, not clearer about the condition.",
        ),
        (
            _combined(lambda null, told, scale: (null + scale * told) / (1 + scale)),
            "That is an average of the two, which lies between them. Guidance goes past the "
            "conditional one.",
        ),
        (
            _two_calls,
            "The noise is right, but the network ran twice. One call on a batch of twice the "
            "length does the same work with fewer, larger products.",
        ),
        *[
            (
                _paired(pictures, halves),
                "Pictures and conditions are paired wrongly: row i and row B + i of the batch "
                "should be the same picture.",
            )
            for pictures, halves in (
                (_in_turns, lambda predictions: predictions.chunk(2)),
                (_in_turns, _every_other),
            )
        ],
        (
            _paired(_in_a_row, _every_other),
            "What the network returned is cut up in another order than that of its batch: row i "
            "and row B + i belong to the same picture.",
        ),
        (
            _same_condition_twice,
            "Both halves were told the condition, so their difference is 0 and the scale changes "
            "nothing.",
        ),
        (
            _zero_for_null,
            "The first half was told zeros: that is the label 0, a legitimate condition (lesson "
            "05), not the absence of one.",
        ),
    ],
    points=4,
)

paper_scale = Exercise(
    reference=_paper_scale,
    cases=[lambda w=w: (w,) for w in (0.0, 3.0, -1.0, 0.525, 12.73, -1.6)],
    mistakes=[
        (lambda w: w, "At w = 0 the paper has the plain conditional network; yours has scale 0."),
        (
            lambda w: w - 1,
            "You went the other way: that turns the course's scale into the paper's w. Try w = 0.",
        ),
        (
            lambda w: 1 - w,
            "At w = 0 it is right, but a larger w should push harder, and yours pushes backwards.",
        ),
        (
            lambda w: 1 / (1 + w) if w != -1 else torch.inf,
            "At w = 0 it is right, but a larger w should give a larger scale.",
        ),
        (
            lambda w: 2 * w,
            "It is right at one place only. Which scale is the paper's w = 0, and which its -1?",
        ),
        (
            lambda w: (1 + w) / 2,
            "It grows half as fast as it should. Compare what multiplies the conditional "
            "prediction in both formulas.",
        ),
    ],
    points=1,
)

_schedule = NoiseSchedule.cosine(1000)


def _clip_case(t, clip, seed, *shape, schedule=_schedule, size=1.5):
    def arguments():
        random = torch.Generator().manual_seed(seed)
        x_t, noise = torch.randn(2, *shape, generator=random)
        return schedule, size * x_t, t, noise, clip

    return arguments


def _noise_kept(schedule, x_t, t, noise, clip):
    return schedule.predict_x0(x_t, t, noise).clamp(-clip, clip), noise


def _not_clipped(schedule, x_t, t, noise, clip):
    return schedule.predict_x0(x_t, t, noise), noise


def _noise_clipped(schedule, x_t, t, noise, clip):
    noise = noise.clamp(-clip, clip)
    return schedule.predict_x0(x_t, t, noise), noise


def _clipped_at_zero(schedule, x_t, t, noise, clip):
    x_0 = schedule.predict_x0(x_t, t, noise).clamp(0, clip)
    return x_0, schedule.predict_noise(x_t, t, x_0)


def _always_one(schedule, x_t, t, noise, clip):
    x_0 = schedule.predict_x0(x_t, t, noise).clamp(-1, 1)
    return x_0, schedule.predict_noise(x_t, t, x_0)


def _rescaled(schedule, x_t, t, noise, clip):
    x_0 = schedule.predict_x0(x_t, t, noise)
    x_0 = clip * x_0 / x_0.abs().amax()
    return x_0, schedule.predict_noise(x_t, t, x_0)


def _wrong_order(schedule, x_t, t, noise, clip):
    return _clip_guess(schedule, x_t, t, noise, clip)[::-1]


def _x_t_clipped(schedule, x_t, t, noise, clip):
    x_t = x_t.clamp(-clip, clip)
    return schedule.predict_x0(x_t, t, noise), noise


def _other_noise(got, wanted):
    pair = isinstance(got, (tuple, list)) and len(got) == 2
    if pair and _difference(got[0], wanted[0]) is None and got[1].shape == wanted[1].shape:
        return (
            "The guess is right. Mixed with your noise as lesson 01 does, it does not give x_t "
            "again."
        )


clip_guess = Exercise(
    reference=_clip_guess,
    cases=[
        _clip_case(600, 1.0, 0, 2, 1, 4, 5),
        _clip_case(950, 1.0, 1, 3, 2, 5, 4),
        _clip_case(300, 0.5, 2, 1, 3, 4, 2),
        _clip_case(6, 1.7, 3, 4, 2, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _clip_case(10, 0.75, 4, 5, 3, schedule=NoiseSchedule.cosine(10)),
        _clip_case(20, 3.0, 5, 2, 3, size=0.5),  # nothing to clip
    ],
    mistakes=[
        (
            _noise_kept,
            "The guess is clipped, but the noise is still the old one: mixed again, the two no "
            "longer give x_t, so a sampler's next step starts beside where it is.",
        ),
        (_not_clipped, "Nothing is clipped: the guess still leaves -clip..clip."),
        (
            _noise_clipped,
            "You clip the noise. Noise may have any size; it is the picture that stays within "
            "bounds.",
        ),
        (
            _clipped_at_zero,
            "Everything darker than middle grey is gone: pictures run from -1 (black) to 1, not "
            "from 0.",
        ),
        (_always_one, "It clips at 1 whatever `clip` says; the third case asks for 0.5."),
        (
            _rescaled,
            "The whole guess is divided by its largest value, so one bright pixel makes all the "
            "others fade. Clipping only touches what is out of bounds.",
        ),
        (_wrong_order, "Both results are right, but in the other order: the picture first."),
        (
            _x_t_clipped,
            "You clip the noisy picture. x_t is meant to leave the bounds, it has noise in it; "
            "the guess of the clean picture is not.",
        ),
    ],
    otherwise=_other_noise,
    points=2,
)
