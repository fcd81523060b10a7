"""Lesson 13, latent diffusion: sample_latents, kl_to_standard_normal, latent_spread,
draw_in_latents."""

import torch
import torch.nn.functional as F

from ..sampling import ddim, last
from ..schedule import NoiseSchedule
from . import Exercise
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _gaussian(seed: int, *shape, spread: float = 1.0):
    """A mean and a log of a variance that both learn."""
    mean, log_variance = (_random(seed + n, *shape) for n in range(2))
    log_variance = spread * log_variance - 0.8
    return (1.5 * mean + 0.4).requires_grad_(), log_variance.requires_grad_()


# --- sample_latents -------------------------------------------------------------------------------


def sample_latents(mean, log_variance, noise):
    """Latents with this mean and variance, made of standard noise, all of one shape [B, ...]:
    Kingma, Welling, "Auto-Encoding Variational Bayes" (2014), section 2.4."""
    return mean + (log_variance / 2).exp() * noise


def _sample_case(seed: int, *shape, spread: float = 1.0):
    return lambda: (*_gaussian(seed, *shape, spread=spread), _random(seed + 2, *shape))


sample_latents = Exercise(
    reference=sample_latents,
    cases=[
        _sample_case(0, 3, 4, 2, 5),
        _sample_case(10, 1, 2, 3, 3),
        _sample_case(20, 5, 7, spread=2.0),
        _sample_case(30, 2, 6, 4, 1, spread=0.3),
        _sample_case(40, 3, 10, spread=6.0),
    ],
    mistakes=[
        (
            lambda mean, log_variance, noise: mean + log_variance.exp() * noise,
            "exp(log_variance) is the variance. Noise is multiplied by a standard deviation.",
        ),
        (
            lambda mean, log_variance, noise: mean + log_variance * noise,
            "You multiply by the logarithm of the variance, which may be negative. Undo the "
            "logarithm, then take the root.",
        ),
        (
            lambda mean, log_variance, noise: mean + log_variance.abs().sqrt() * noise,
            "You take the root of the logarithm. The logarithm has to be undone first.",
        ),
        (
            lambda mean, log_variance, noise: mean + log_variance.exp().square() * noise,
            "That is the variance squared. A standard deviation is its root.",
        ),
        (
            lambda mean, log_variance, noise: mean + (-log_variance / 2).exp() * noise,
            "The sign of the logarithm got turned: where the encoder is unsure, yours adds least.",
        ),
        (
            lambda mean, log_variance, noise: mean + noise,
            "The variance is not used: every latent gets noise of variance 1.",
        ),
        (
            lambda mean, log_variance, noise: mean + 0 * log_variance * noise,
            "That is the mean alone, without any noise.",
        ),
        (
            lambda mean, log_variance, noise: (log_variance / 2).exp() * noise,
            "The mean is missing: only noise is left, and no picture.",
        ),
        (
            lambda mean, log_variance, noise: (log_variance / 2).exp() * (mean + noise),
            "The mean is multiplied as well. Only the noise is.",
        ),
        (
            lambda mean, log_variance, noise: mean - (log_variance / 2).exp() * noise,
            "The noise is subtracted. As likely as the right sample, but not the one asked for: "
            "mean plus noise.",
        ),
    ],
    points=2,
)


# --- kl_to_standard_normal ------------------------------------------------------------------------


def kl_to_standard_normal(mean, log_variance):
    """How far each picture's Gaussian is from the standard normal, [B, ...] -> [B]: Kingma,
    Welling (2014), appendix B, with the sign turned."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def _kl_case(seed: int, *shape, spread: float = 1.0):
    return lambda: _gaussian(seed, *shape, spread=spread)


def _each(term, join=lambda x: x.flatten(1).sum(1), factor=0.5):
    """A wrong KL: of another term, or joined otherwise."""
    return lambda mean, log_variance: factor * join(term(mean, log_variance))


def _right(mean, log_variance):
    return mean.square() + log_variance.exp() - 1 - log_variance


kl_to_standard_normal = Exercise(
    reference=kl_to_standard_normal,
    cases=[
        _kl_case(0, 3, 4, 2, 5),
        _kl_case(10, 1, 2, 3, 3),
        _kl_case(20, 5, 7, spread=2.0),
        _kl_case(30, 2, 6, 4, 1, spread=0.3),
        _kl_case(40, 3, 10, spread=6.0),
        _kl_case(50, 4, 1, spread=0.3),
    ],
    mistakes=[
        (
            _each(_right, lambda x: x.flatten(1).mean(1)),
            "It is the mean over a picture's latents. Independent numbers add up: their KL is the "
            "sum. (Whoever takes the mean here has quietly divided the weight by their number.)",
        ),
        *[
            (
                _each(_right, join),
                "One number came for the whole batch. Each picture has its own Gaussian, so one "
                "number for each is asked for: [B].",
            )
            for join in (
                lambda x: x.sum(),
                lambda x: x.mean(),
                lambda x: x.flatten(1).sum(1).mean(),
            )
        ],
        (
            _each(_right, lambda x: x.sum(0).flatten()),
            "You sum over the batch and keep the latents. It should be the other way round.",
        ),
        (
            _each(_right, lambda x: x.sum(1)),
            "Only the dimension 1 is summed. All but the first one belong to a picture.",
        ),
        (
            _each(_right, lambda x: x),
            "Nothing is summed: a number for each latent came. One for each picture is asked for.",
        ),
        (
            _each(_right, factor=1.0),
            "It is twice as much as it should be: the half in front is missing.",
        ),
        (
            _each(_right, factor=-0.5),
            "The sign is turned: a KL is never below 0. (Kingma and Welling write minus the KL, "
            "for they maximise.)",
        ),
        (
            _each(lambda m, v: m.square() + v.exp() - v),
            "It is not 0 for the standard normal itself (mean 0, variance 1), as it should be.",
        ),
        (
            _each(lambda m, v: m.square() + v.exp() - 1 + v),
            "The logarithm has the wrong sign: yours would make variances shrink towards 0 and "
            "praise that.",
        ),
        (
            _each(lambda m, v: v.exp() - 1 - v),
            "The mean is missing: latents may then drift as far from 0 as they like.",
        ),
        (
            _each(lambda m, v: m + v.exp() - 1 - v),
            "The mean should be squared: being too low is as bad as being too high.",
        ),
        (
            _each(lambda m, v: m.abs() + v.exp() - 1 - v),
            "It is the mean's square that counts, not its size.",
        ),
        (
            _each(lambda m, v: m.square() + (v / 2).exp() - 1 - v),
            "exp(log_variance / 2) is the standard deviation. The formula wants the variance.",
        ),
        (
            _each(lambda m, v: m.square() + v.exp().square() - 1 - v),
            "exp(log_variance) is the variance already: do not square it.",
        ),
        (
            _each(lambda m, v: m.square() + v - 1 - v.abs().log()),
            "You take log_variance for the variance itself. Undo the logarithm first.",
        ),
        (
            _each(lambda m, v: (m.square() + 1) * (-v).exp() - 1 + v),
            "That is the KL the other way round, from the standard normal to the latents. It is "
            "not symmetric.",
        ),
    ],
    points=3,
)


# --- latent_spread --------------------------------------------------------------------------------


def latent_spread(latents):
    """The standard deviation of all the numbers in latents [N, ...] together, one number: Rombach
    et al. (2022), appendix G."""
    return float(latents.std())


def _spread_case(seed: int, size: float, *shape):
    """Latents whose channels and pictures differ in mean and size."""

    def arguments():
        x = _random(seed, *shape)
        middle = _random(seed + 1, 1, shape[1], *[1] * (len(shape) - 2))
        sizes = torch.linspace(0.4, 1.6, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        return (size * (sizes * x + middle + 0.7),)

    return arguments


latent_spread = Exercise(
    reference=latent_spread,
    cases=[
        _spread_case(0, 5.0, 12, 4, 9, 11),
        _spread_case(10, 0.2, 7, 3, 16, 8),
        _spread_case(20, 1.3, 260, 11),
        _spread_case(30, 11.0, 1, 8, 24, 20),
    ],
    mistakes=[
        (
            lambda latents: float(latents.var()),
            "That is the variance. Divided by it, latents would not have variance 1; divided by "
            "its root they do.",
        ),
        (
            lambda latents: 1 / float(latents.std()),
            "That is one over it: Stable Diffusion's famous 0.18215 is such a number, by which "
            "latents are multiplied. Here the spread itself is asked for.",
        ),
        (
            lambda latents: float(latents.square().mean().sqrt()),
            "That is the root of the mean square, which grows with the mean. A standard deviation "
            "is measured around the mean.",
        ),
        (
            lambda latents: latents.flatten(1).std(1),
            "That is one number for each picture. Then a pale picture could not be told from a "
            "strong one any more: one number for all is asked for.",
        ),
        (
            lambda latents: float(latents.flatten(1).std(1).mean()),
            "That is the mean of the pictures' own spreads. How pictures differ from each other "
            "counts as well: take all numbers together.",
        ),
        (
            lambda latents: latents.transpose(0, 1).flatten(1).std(1),
            "That is one number for each channel. It can be done, but how strong a channel is "
            "against the others would be lost: one number for all is asked for.",
        ),
        (
            lambda latents: float(latents.transpose(0, 1).flatten(1).std(1).mean()),
            "That is the mean of the channels' own spreads. How channels differ in their means "
            "counts as well: take all numbers together.",
        ),
        (
            lambda latents: latents.std(0),
            "That is one number for each place. One number for all is asked for.",
        ),
        (
            lambda latents: float(latents.abs().max()),
            "That is the largest value. One outlier would decide the scale of everything.",
        ),
        (
            lambda latents: float(latents.abs().mean()),
            "That is the mean size. The schedule reckons with variances: take the standard "
            "deviation.",
        ),
        (
            lambda latents: float(latents[0].std()),
            "Only the first picture is measured.",
        ),
        (
            lambda latents: float(latents.mean()),
            "That is the mean. How far values lie around it is asked for.",
        ),
    ],
    points=1,
)


# --- draw_in_latents ------------------------------------------------------------------------------


def draw_in_latents(denoise, schedule, decode, spread, x_T, steps):
    """Pictures from noise, by way of latents: DDIM in `steps` steps without clipping, then back to
    the autoencoder's own scale, then decoded."""
    return decode(spread * last(ddim(denoise, schedule, x_T, steps, clip=None)))


_schedule = NoiseSchedule.cosine(1000)


def _decoder():
    """A function that makes pictures twice as large, in three colours, and not linear; `count`
    says of how many latents."""

    def decode(z):
        decode.count += len(z)
        return _decoded(z)

    decode.count = 0
    return decode


def _decoded(z):
    colours = torch.stack([z[:, 0], (z[:, 1:] / 2).sin().mean(1), z.square().mean(1) / 9], 1)
    return F.interpolate(colours / 3, scale_factor=2, mode="nearest")


def _draw_case(seed: int, spread: float, steps: int, *shape, schedule=_schedule):
    def arguments():
        middle = _random(seed, 1, *shape[1:])

        def denoise(x_t, t):
            """Exact for latents of variance 1 around the middle."""
            share = float(schedule.alpha_bars[t])
            away = x_t - share**0.5 * middle.to(x_t)
            return (1 - share) ** 0.5 * away + 0.05 * x_t.sin()

        return denoise, schedule, _decoder(), spread, _random(seed + 1, *shape), steps

    return arguments


def _drawn(arguments, pictures):
    """The pictures, and how many latents were decoded for them, together or one by one."""
    if pictures is None:
        return None
    return {"pictures": pictures, "how many latents were decoded": arguments[2].count}


def _decoded_at_each_step(denoise, schedule, decode, spread, x_T, steps):
    for step in ddim(denoise, schedule, x_T, steps, clip=None):
        pictures = decode(spread * step.x_t)
    return pictures


def _draw(
    clip=None,
    before=lambda z, spread: spread * z,
    after=lambda x, spread: x,
    begin=lambda x_T, spread: x_T,
):
    """A draw_in_latents with one thing changed."""

    def draw_in_latents(denoise, schedule, decode, spread, x_T, steps):
        drawn = last(ddim(denoise, schedule, begin(x_T, spread), steps, clip=clip))
        return after(decode(before(drawn, spread)), spread)

    return draw_in_latents


def _not_decoded(denoise, schedule, decode, spread, x_T, steps):
    return spread * last(ddim(denoise, schedule, x_T, steps, clip=None))


def _in_pixels(denoise, schedule, decode, spread, x_T, steps):
    return last(ddim(denoise, schedule, decode(spread * x_T), steps, clip=None))


def _first_step(denoise, schedule, decode, spread, x_T, steps):
    return decode(spread * next(iter(ddim(denoise, schedule, x_T, steps, clip=None))).x_t)


def _first_guess(denoise, schedule, decode, spread, x_T, steps):
    return decode(spread * next(iter(ddim(denoise, schedule, x_T, steps, clip=None))).x_0)


draw_in_latents = Exercise(
    reference=draw_in_latents,
    cases=[
        _draw_case(0, 4.13, 10, 3, 4, 3, 2),
        _draw_case(10, 0.317, 7, 1, 2, 2, 5),
        _draw_case(20, 1.74, 4, 2, 3, 4, 4, schedule=NoiseSchedule.linear(10, 0.05, 0.6)),
        _draw_case(30, 0.83, 25, 4, 4, 2, 3),
    ],
    mistakes=[
        (
            _draw(clip=1.0),
            "The guesses are clipped to -1..1, as pixels are, by the sampler's default. Latents of "
            "variance 1 often lie outside: tell it clip=None.",
        ),
        (
            _draw(before=lambda z, spread: z),
            "The latents are decoded as they come. The diffusion worked on latents that had been "
            "divided by the spread: bring them back first.",
        ),
        (
            _draw(before=lambda z, spread: z / spread),
            "You divide by the spread once more. It was divided by on the way in, so on the way "
            "out one multiplies.",
        ),
        (
            _draw(before=lambda z, spread: spread**0.5 * z),
            "You multiply by the root of the spread. It is a standard deviation already.",
        ),
        (
            _draw(before=lambda z, spread: z, after=lambda x, spread: spread * x),
            "The picture is multiplied, not the latents. The decoder wants its own scale before it "
            "begins.",
        ),
        *[
            (
                _draw(begin=begin),
                "The noise is scaled at the start. Scaled latents have variance 1, and so has the "
                "noise that they become: x_T stays as it is.",
            )
            for begin in (lambda x_T, spread: spread * x_T, lambda x_T, spread: x_T / spread)
        ],
        (
            _draw(before=lambda z, spread: spread * z.clamp(-1, 1)),
            "The latents are cut off at -1 and 1. That is a range for pixels.",
        ),
        (
            _not_decoded,
            "Latents came back, and no pictures: the decoder is missing.",
        ),
        (
            _in_pixels,
            "You decode first and then take the noise away. The denoiser knows latents only: "
            "decode once, at the end.",
        ),
        (
            _decoded_at_each_step,
            "The pictures are right, but the decoder ran at every step. What it makes on the way "
            "nobody needs: decode once, at the end.",
        ),
        (
            _first_step,
            "Only one step was taken. A sampler is a stream of steps: last(...) gives the last.",
        ),
        (
            _first_guess,
            "That is the first guess of the clean latents, a blur. Go through all the steps.",
        ),
    ],
    observe=_drawn,
    points=3,
)
