"""Lesson 16, guidance since 2022: in_interval, plus_step, projected, rescaled."""

import math

import torch

from .. import expect
from ..guidance import in_interval as _in_interval
from ..guidance import projected as _projected
from ..guidance import rescaled as _rescaled
from ..sampling import clip_guess
from ..schedule import NoiseSchedule
from . import Exercise, NotYet
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- in_interval ---


def _scales(arguments, found):
    """The scale at the interval's ends, beside them, in its middle, and far outside."""
    if found is None:
        return None
    if not callable(found):
        raise NotYet(
            "A function of t should come back, which guide asks for the scale at each step, but "
            f"{expect.describe(found)} did. Return the function itself, without calling it."
        )
    _, low, high = arguments
    first, final = math.floor(low), math.floor(high)  # t is whole, whatever the bounds are
    times = {1, first, first + 1, (first + final) // 2, final - 1, final, final + 1, final + 200}
    return {f"scale at t = {t}": found(t) for t in sorted(times) if t > 0}


def _where(inside, outside=1.0):
    """A wrong in_interval: inside(t, low, high) says where the scale counts."""

    def in_interval(scale, low, high):
        elsewhere = outside(scale) if callable(outside) else outside
        return lambda t: scale if inside(t, low, high) else elsewhere

    return in_interval


def _usual(t, low, high):
    return low < t <= high


def _changed(inside, outside):
    """A wrong in_interval: inside(scale) in place of the scale."""
    return lambda scale, low, high: lambda t: inside(scale) if _usual(t, low, high) else outside


def _fading(scale, low, high):
    def at(t):
        away = abs(t - (low + high) / 2) / ((high - low) / 2)
        return 1 + (scale - 1) * max(0.0, 1 - away)

    return at


in_interval = Exercise(
    reference=_in_interval,
    cases=[
        lambda: (2.75, 200, 700),
        lambda: (8.0, 1, 9),
        lambda: (0.5, 350, 354),
        lambda: (4.0, 120, 980),
        lambda: (-1.5, 3, 8),
        lambda: (2.25, 0, 1000),
        lambda: (3.5, 250.75, 625.25),
        lambda: (0.0, 30, 46),
    ],
    mistakes=[
        (
            _where(lambda t, low, high: not _usual(t, low, high)),
            "Inside and outside have changed places: the scale should count between low and high.",
        ),
        (
            _where(lambda t, low, high: low <= t <= high),
            "It is right but at t = low, where the interval ends: low itself does not belong to "
            "it.",
        ),
        (
            _where(lambda t, low, high: low < t < high),
            "It is right but at t = high: high itself belongs to the interval.",
        ),
        (
            _where(lambda t, low, high: low <= t < high),
            "Both ends are the other way round: high belongs to the interval, low does not.",
        ),
        (
            _where(_usual, 0.0),
            "Outside, your scale is 0: that is the untold network, which draws any digit. No "
            "guidance is the told network, and which scale is that?",
        ),
        (
            _where(_usual, lambda scale: None),
            "Outside, nothing comes back. A step needs a scale there as well.",
        ),
        (
            _where(lambda t, low, high: t > low),
            "Only the lower end counts. At the noisy end guidance should be off as well.",
        ),
        (
            _where(lambda t, low, high: t <= high),
            "Only the upper end counts. At the clean end guidance should be off as well.",
        ),
        (
            _where(lambda t, low, high: True),
            "The scale is the same at every t, as it was in 2022.",
        ),
        *[
            (
                _where(inside),
                "Your scale is nearly always 1: no t lies between your bounds, or a single one. "
                "low and high count as t does, in whole numbers up to T, and low is the smaller.",
            )
            for inside in (
                lambda t, low, high: low / 1000 < t <= high / 1000,
                lambda t, low, high: high < t <= low,
            )
        ],
        (
            _changed(lambda scale: 1 + scale, 1.0),
            "In the interval your scale is one too large. 1 + w is for a paper's w; scale is this "
            "course's.",
        ),
        (
            _changed(lambda scale: scale - 1, 0.0),
            "Your scale is one too small everywhere: that is a paper's w, of which 0 means no "
            "guidance. guide wants this course's scale.",
        ),
        (
            _where(lambda t, low, high: 200 < t <= 700),
            "The bounds 200 and 700 are written in: low and high should count.",
        ),
        (
            _changed(lambda scale: scale or 1.0, 1.0),
            "A scale of 0 becomes 1: Python takes 0 for false, in `... and scale or 1` as well. 0 "
            "is a scale like any other, the untold network.",
        ),
        (
            _fading,
            "The scale fades towards the ends of the interval. Here it is switched on and off.",
        ),
    ],
    observe=_scales,
    points=1,
)


# --- plus_step ---


def plus_step(schedule, x_t, t, s, null, told, scale):
    """A step of CFG++ from t to s: Chung et al. (2024). x_t and the two predictions of
    the noise, null and told, [B, ...]; t > s >= 0. Returns x_s."""
    x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
    return _mixed(schedule, x_0, s, null)


def _mixed(schedule, x_0, s, noise):
    """add_noise, also at s = 0."""
    a = float(schedule.alpha_bars[s])
    return math.sqrt(a) * x_0 + math.sqrt(1 - a) * noise


_schedule = NoiseSchedule.cosine(1000)


def _plus_case(t: int, s: int, scale: float, *shape: int, schedule=_schedule):
    def arguments():
        x_t, null, told = (_random(10 * t + n, *shape) for n in range(3))
        return schedule, x_t, t, s, null, told, scale

    return arguments


def _plus(
    guided=lambda null, told, scale: null + scale * (told - null),
    clip=lambda x_0: x_0.clamp(-1, 1),
    back=lambda null, told, guided: null,
    to=lambda t, s: s,
):
    """A plus_step with one thing changed."""

    def plus_step(schedule, x_t, t, s, null, told, scale):
        noise = guided(null, told, scale)
        x_0 = clip(schedule.predict_x0(x_t, t, noise))
        return _mixed(schedule, x_0, to(t, s), back(null, told, noise))

    return plus_step


def _as_2022(schedule, x_t, t, s, null, told, scale):
    x_0, noise = clip_guess(schedule, x_t, t, null + scale * (told - null))
    return _mixed(schedule, x_0, s, noise)


def _null_of_the_guess(schedule, x_t, t, s, null, told, scale):
    _, noise = clip_guess(schedule, x_t, t, null)
    x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
    return _mixed(schedule, x_0, s, noise)


def _weights(picture, noise):
    """A plus_step that mixes with other weights."""

    def plus_step(schedule, x_t, t, s, null, told, scale):
        x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
        a = float(schedule.alpha_bars[s])
        return picture(a) * x_0 + noise(a) * null

    return plus_step


def _by_add_noise(schedule, x_t, t, s, null, told, scale):
    x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
    return schedule.add_noise(x_0, s, null)


def _guess_at_s(schedule, x_t, t, s, null, told, scale):
    x_0 = schedule.predict_x0(x_t, s, null + scale * (told - null)).clamp(-1, 1)
    return _mixed(schedule, x_0, s, null)


def _alpha(schedule, x_t, t, s, null, told, scale):
    x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
    a = float(schedule.alphas[s])
    return math.sqrt(a) * x_0 + math.sqrt(1 - a) * null


def _clipped_first(schedule, x_t, t, s, null, told, scale):
    a, b = (schedule.predict_x0(x_t, t, noise).clamp(-1, 1) for noise in (null, told))
    return _mixed(schedule, a + scale * (b - a), s, null)


def _mean_of_ddpm(schedule, x_t, t, s, null, told, scale):
    x_0, _ = clip_guess(schedule, x_t, t, null + scale * (told - null))
    return schedule.posterior(x_0, x_t, t, s)[0]


plus_step = Exercise(
    reference=plus_step,
    cases=[
        _plus_case(600, 560, 0.6, 2, 1, 4, 5),
        _plus_case(9, 6, 0.35, 3, 1, 2, 6, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _plus_case(950, 900, 1.0, 3, 2, 5, 4),
        _plus_case(40, 25, 1.3, 4, 3),
        _plus_case(300, 299, 0.15, 1, 3, 4, 2),
        _plus_case(4, 2, 0.45, 2, 3, 3, schedule=NoiseSchedule.cosine(10)),
        _plus_case(30, 0, 0.7, 2, 7),
        _plus_case(500, 450, 0.0, 5, 2),
    ],
    mistakes=[
        (
            _as_2022,
            "That is the step of 2022: the guided noise is put back. CFG++ guesses with the guided "
            "noise, and puts another one back.",
        ),
        (
            _plus(back=lambda null, told, guided: guided),
            "The guided noise is put back, as it was in 2022. CFG++ guesses with the guided noise, "
            "and puts another one back.",
        ),
        (
            _plus(back=lambda null, told, guided: told),
            "The told noise is put back. In CFG++ it is the one that knows nothing of the label.",
        ),
        (
            _plus(guided=lambda null, told, scale: told),
            "The guess is made from the told noise alone: the scale changes nothing.",
        ),
        (
            _plus(guided=lambda null, told, scale: null),
            "The guess is made from the null noise: nobody asks for the label any more.",
        ),
        (
            _plus(
                guided=lambda null, told, scale: null,
                back=lambda null, told, guided: told,
            ),
            "The two roles have changed places: guess with guidance, put the null noise back.",
        ),
        (
            _plus(guided=lambda null, told, scale: told + scale * (told - null)),
            "Your scale is one too large: at scale 1 the guess should be the told one's.",
        ),
        (
            _plus(guided=lambda null, told, scale: told + scale * (null - told)),
            "At scale 0 nobody should ask for the label, but there yours is the told one: null "
            "and told have changed places.",
        ),
        (
            _plus(clip=lambda x_0: x_0),
            "The guess of x_0 may leave -1 to 1, where no picture is. Cut it off there, as in "
            "lesson 06.",
        ),
        (
            _plus(to=lambda t, s: t),
            "You mix again at t, where the step began. It should arrive at s.",
        ),
        (
            _plus(to=lambda t, s: t - 1),
            "The step goes back by 1 and not to s.",
        ),
        (
            _null_of_the_guess,
            "You put back the noise that fits a clipped guess of the null. It is the null noise "
            "itself, as the network returned it.",
        ),
        (
            _weights(lambda a: a, lambda a: 1 - a),
            "The weights of picture and noise are alpha_bar and 1 - alpha_bar: two roots are "
            "missing.",
        ),
        (
            _weights(lambda a: math.sqrt(a), lambda a: 1 - math.sqrt(a)),
            "The noise is weighed by 1 - sqrt(alpha_bar_s). It is the root of 1 - alpha_bar_s.",
        ),
        (
            _weights(lambda a: math.sqrt(a), lambda a: -math.sqrt(1 - a)),
            "The noise that is put back has the wrong sign.",
        ),
        (
            _alpha,
            "You mix with alpha_s, which counts the noise of one step alone. alpha_bar_s counts "
            "all noise up to s.",
        ),
        (
            _by_add_noise,
            "add_noise begins at t = 1 and refuses s = 0, the clean picture. Mix the two yourself, "
            "with alpha_bar_s.",
        ),
        (
            _guess_at_s,
            "The guess is made as if x_t were at s. Its noise is that of t.",
        ),
        (
            _clipped_first,
            "You clip both guesses and guide then. Guide first: what leaves -1..1 is the guided "
            "guess.",
        ),
        (
            _plus(clip=lambda x_0: x_0.clamp(0, 1)),
            "The guess is clipped to 0..1. Pictures lie between -1 and 1.",
        ),
        (
            _weights(lambda a: math.sqrt(1 - a), lambda a: math.sqrt(a)),
            "The weights of picture and noise have changed places.",
        ),
        (
            _weights(lambda a: math.sqrt(a), lambda a: 0.0),
            "No noise is put back: x_s would be too clean for the network, which is told s.",
        ),
        (
            _mean_of_ddpm,
            "That is the mean of DDPM's step. CFG++ is a DDIM step: mix the guess with a noise.",
        ),
    ],
    points=3,
)


# --- projected and rescaled ---


def _guesses(seed: int, *shape: int):
    """Two guesses of clean pictures, alike, and neither of mean 0."""
    told = 0.6 * _random(seed, *shape) + 0.3
    return told + 0.4 * _random(seed + 1, *shape) - 0.2 * told, told


def _projected_case(seed: int, scale: float, *shape: int):
    return lambda: (*_guesses(seed, *shape), scale)


def _inner(a, b, dims=None):
    dims = tuple(range(1, a.ndim)) if dims is None else dims
    return (a * b).sum(dims, keepdim=True)


def _onto(
    push=lambda null, told: told - null,
    axis=lambda null, told: told,
    part=lambda push, axis, inner: push - inner(push, axis) / inner(axis, axis) * axis,
    inner=_inner,
    put=lambda null, told, scale, part: told + (scale - 1) * part,
):
    """A projected with one thing changed."""

    def projected(null, told, scale):
        away = part(push(null, told), axis(null, told), inner)
        return put(null, told, scale, away)

    return projected


def _whole_batch(a, b):
    return (a * b).sum()


def _along_the_last(a, b):
    return (a * b).sum(-1, keepdim=True)


def _over_channels(a, b):
    return (a * b).sum(1, keepdim=True)


projected = Exercise(
    reference=_projected,
    cases=[
        _projected_case(0, 2.75, 2, 1, 4, 5),
        _projected_case(2, 8.0, 3, 2, 5, 4),
        _projected_case(4, 1.0, 4, 3),
        _projected_case(6, 0.4, 5, 2),
        _projected_case(8, -1.5, 1, 3, 4, 2),
        _projected_case(10, 3.0, 3, 4, 2),
    ],
    mistakes=[
        (
            _onto(part=lambda push, axis, inner: push),
            "Nothing is taken away: that is guidance as it was in 2022.",
        ),
        (
            _onto(part=lambda push, axis, inner: inner(push, axis) / inner(axis, axis) * axis),
            "You keep the part that lies along told, which only adds contrast, and throw the other "
            "away. It should be the other way round.",
        ),
        (
            _onto(
                part=lambda push, axis, inner: push + inner(push, axis) / inner(axis, axis) * axis
            ),
            "The part along told is doubled, not taken away: a sign is wrong.",
        ),
        (
            _onto(part=lambda push, axis, inner: push - inner(push, axis) * axis),
            "The inner product with told grows with told's length. Divide by what makes a unit "
            "vector of it: told's own inner product with itself.",
        ),
        (
            _onto(
                part=lambda push, axis, inner: (
                    push - inner(push, axis) / inner(axis, axis).sqrt() * axis
                )
            ),
            "You divide by told's length once. told stands in the formula twice, so its length has "
            "to be divided out twice.",
        ),
        (
            _onto(part=lambda push, axis, inner: push - inner(push, axis) / inner(axis, axis)),
            "You subtract a number. What is taken away is a picture: that number times told.",
        ),
        (
            _onto(axis=lambda null, told: null),
            "You project onto null. Orthogonal should it be to told.",
        ),
        (
            _onto(axis=lambda null, told: told - told.mean(tuple(range(1, told.ndim)), True)),
            "You subtract told's mean first. The inner product is that of the pictures as they "
            "are.",
        ),
        *[
            (
                _onto(inner=inner),
                "The inner product runs over the whole batch: each picture's result depends on "
                "the others.",
            )
            for inner in (_whole_batch,)
        ],
        *[
            (
                _onto(inner=inner),
                "The inner product runs over one dimension only. A picture is one vector: sum "
                "over all dimensions but the first.",
            )
            for inner in (_along_the_last, _over_channels)
        ],
        (
            _onto(
                inner=lambda a, b: (a * b).sum(0, keepdim=True),
            ),
            "The inner product runs over the pictures of the batch. Sum over all other dimensions.",
        ),
        (
            _onto(put=lambda null, told, scale, part: told + scale * part),
            "Your scale is one too large: at scale 1 the told guess should come back.",
        ),
        (
            _onto(put=lambda null, told, scale, part: null + scale * part),
            "You start at null. Its difference to told has lost a part by now, so scale 1 would no "
            "longer lead to told: start there, with scale - 1.",
        ),
        (
            _onto(put=lambda null, told, scale, part: null + (scale - 1) * part),
            "You start at null: at scale 1 the told guess should come back.",
        ),
        (
            _onto(put=lambda null, told, scale, part: (scale - 1) * part),
            "That is the push alone. It is added to told.",
        ),
        (
            _onto(put=lambda null, told, scale, part: told - (scale - 1) * part),
            "It pushes towards null, away from what was asked for.",
        ),
        (
            _onto(push=lambda null, told: null - told),
            "It pushes towards null, away from what was asked for.",
        ),
    ],
    points=4,
)


def _rescaled_case(seed: int, scale: float, share: float, *shape: int):
    return lambda: (*_guesses(seed, *shape), scale, share)


def _deviation(x):
    return x.std(tuple(range(1, x.ndim)), keepdim=True)


def _resized(
    size=_deviation,
    like=lambda null, told: told,
    ratio=lambda wanted, came: wanted / came,
    guided=lambda null, told, scale: null + scale * (told - null),
    mix=lambda share, ratio, guided: (share * ratio + 1 - share) * guided,
):
    """A rescaled with one thing changed."""

    def rescaled(null, told, scale, share):
        came = guided(null, told, scale)
        return mix(share, ratio(size(like(null, told)), size(came)), came)

    return rescaled


def _centred(null, told, scale, share):
    guided = null + scale * (told - null)
    middle = guided.mean(tuple(range(1, guided.ndim)), keepdim=True)
    resized = (guided - middle) * _deviation(told) / _deviation(guided) + middle
    return share * resized + (1 - share) * guided


def _towards_told(null, told, scale, share):
    guided = null + scale * (told - null)
    return share * told + (1 - share) * guided


rescaled = Exercise(
    reference=_rescaled,
    cases=[
        _rescaled_case(20, 2.75, 0.7, 2, 1, 4, 5),
        _rescaled_case(22, 18.0, 0.45, 3, 2, 5, 4),
        _rescaled_case(24, 1.0, 0.7, 4, 3),
        _rescaled_case(26, 5.5, 0.0, 5, 4),
        _rescaled_case(28, 3.0, 1.0, 3, 3, 4, 2),
        _rescaled_case(30, -1.5, 0.25, 3, 4, 2),
        _rescaled_case(32, 0.4, 0.8, 2, 3, 3),
    ],
    mistakes=[
        (
            _resized(mix=lambda share, ratio, guided: ratio * guided),
            "The share changes nothing: the guided guess is brought back all the way.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: guided),
            "Nothing is brought back: that is guidance as it was in 2022.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: ((1 - share) * ratio + share) * guided),
            "share and 1 - share have changed places: at share 0 nothing should be brought back.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: share * ratio * guided),
            "What is left of the guided guess is missing: the two shares should add up to 1.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: (share * ratio + share) * guided),
            "Both parts are weighed by share. They should add up to 1: share and 1 - share.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: share * ratio + 1 - share * guided),
            "Brackets are missing: the whole sum, share * ratio + 1 - share, multiplies the "
            "guided guess.",
        ),
        (
            lambda null, told, scale, share: (
                _rescaled(null, told, scale, 1.0) * share + (1 - share) * told
            ),
            "What is not brought back is the guided guess, not told.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: (share * ratio + 1) * guided),
            "The shares of the two pictures add up to more than 1.",
        ),
        (
            _resized(mix=lambda share, ratio, guided: ratio**share * guided),
            "You take a power of the ratio. The two pictures are averaged, with share and "
            "1 - share.",
        ),
        (
            _resized(ratio=lambda wanted, came: came / wanted),
            "The ratio is upside down: a guess that has grown grows further.",
        ),
        (
            _resized(size=lambda x: _deviation(x).square()),
            "That is the ratio of the variances. A picture times a number has a standard deviation "
            "that many times as large.",
        ),
        (
            _resized(size=lambda x: x.std()),
            "One standard deviation is taken of the whole batch: each picture should get its own.",
        ),
        (
            _resized(size=lambda x: x.std(0, keepdim=True)),
            "The standard deviation is taken over the batch, pixel by pixel. Each picture has one, "
            "over all its pixels.",
        ),
        *[
            (
                _resized(size=lambda x, d=d: x.std(d, keepdim=True)),
                "The standard deviation is taken over one dimension only. Each picture has one, "
                "over all its pixels.",
            )
            for d in (-1, 1)
        ],
        (
            _resized(size=lambda x: x.std((-2, -1), keepdim=True) if x.ndim > 3 else _deviation(x)),
            "Each channel gets a standard deviation of its own. Each picture has one, over all "
            "channels and pixels, or colours would shift.",
        ),
        (
            _resized(size=lambda x: x.square().sum(tuple(range(1, x.ndim)), True).sqrt()),
            "That is the length of a picture, which its mean brightness counts in. Take the "
            "standard deviation.",
        ),
        (
            _resized(like=lambda null, told: null),
            "You bring it back to the contrast of null. It is told's that is right.",
        ),
        (
            _resized(guided=lambda null, told, scale: told + scale * (told - null)),
            "Your scale is one too large: at scale 1 the told guess should come back.",
        ),
        (
            _resized(guided=lambda null, told, scale: told),
            "The scale changes nothing.",
        ),
        (
            _centred,
            "You keep the mean and shrink what lies around it. In the paper the whole guess is "
            "multiplied.",
        ),
        (
            _towards_told,
            "You average the guided guess with told: that is a smaller scale, and no rescaling.",
        ),
    ],
    points=3,
)
