"""Lesson 14, a cascade with a frozen language model: dynamic_threshold, noisy_condition, pooled."""

import torch
import torch.nn.functional as F

from ..pictures import bicubic
from ..pipelines.emoji_enlarger import NOISIEST, with_level
from ..sampling import dynamic_threshold as _dynamic_threshold
from . import Exercise
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- dynamic_threshold ---


def _guess_case(seed: int, percentile: float, sizes: list[float], *shape: int):
    """Guesses of pictures, each of another size, darker than bright, and one channel paler."""

    def arguments():
        x = _random(seed, len(sizes), *shape) - 0.6
        x = x * torch.tensor(sizes).reshape(-1, *[1] * len(shape))
        x[:, 0] = x[:, 0] * 0.7
        return x, percentile

    return arguments


def _sizes(x_0, percentile, dims=1):
    """The percentile of the sizes of each picture's values, in x_0's dimensions."""
    s = x_0.abs().flatten(dims).quantile(percentile, dim=-1)
    return s.reshape(*s.shape, *[1] * (x_0.ndim - s.ndim))


def _limit(
    size=_sizes, floor=lambda s: s.clamp(min=1), bring=lambda x, s: x.maximum(-s).minimum(s) / s
):
    """A dynamic_threshold with one thing changed."""
    return lambda x_0, percentile: bring(x_0, floor(size(x_0, percentile)))


def _signed(x_0, percentile):
    s = x_0.flatten(1).quantile(percentile, dim=1)
    return s.reshape(-1, *[1] * (x_0.ndim - 1))


def _largest(x_0, percentile):
    return _sizes(x_0, 1.0)


def _spread(x_0, percentile):
    return x_0.flatten(1).std(1).reshape(-1, *[1] * (x_0.ndim - 1))


dynamic_threshold = Exercise(
    reference=_dynamic_threshold,
    cases=[
        _guess_case(0, 0.9, [0.2, 2.0, 0.9, 4.0], 3, 6, 5),
        _guess_case(10, 0.995, [1.5, 0.3], 3, 16, 16),
        _guess_case(20, 0.75, [1.2, 3.0, 0.5], 2, 7),
        _guess_case(30, 0.5, [6.0], 4, 3, 2),
    ],
    mistakes=[
        (
            _limit(floor=lambda s: s),
            "It is wrong where s is below 1: a guess that never left the range, a pale one say, "
            "is stretched until it fills it. s is at least 1.",
        ),
        (
            _limit(floor=lambda s: s.clamp(max=1)),
            "s is held below 1, where it should be at least 1.",
        ),
        (
            lambda x_0, percentile: x_0.clamp(-1, 1),
            "That is static thresholding: what is too large is cut off at 1.",
        ),
        (
            _limit(bring=lambda x, s: x.maximum(-s).minimum(s)),
            "What is larger than s is cut off, but then nothing brings s back to 1: divide.",
        ),
        (
            _limit(bring=lambda x, s: x / s),
            "Everything is divided by s, but what was larger than s is still larger than 1. Cut it "
            "off.",
        ),
        (
            _limit(bring=lambda x, s: x.clamp(-1, 1) / s),
            "You cut off at 1 and divide by s: what was at 1 is now grey, and the differences "
            "beyond 1 are lost as before. Cut off at s.",
        ),
        (
            _limit(bring=lambda x, s: (x / s).maximum(-s).minimum(s)),
            "You divide first, and then cut off at s. After the division the limit is 1.",
        ),
        (
            _limit(bring=lambda x, s: torch.where(s > 1, x / s, x)),
            "Everything is divided by s, but what was larger than s is still larger than 1. Cut it "
            "off.",
        ),
        (
            _limit(bring=lambda x, s: torch.where(s > 1, x.maximum(-s).minimum(s) / s, x)),
            "A picture whose s is below 1 comes back as it is, with the few values that are beyond "
            "1. They are cut off as well.",
        ),
        (
            _limit(bring=lambda x, s: x.clamp(max=1e9).minimum(s) / s),
            "Only values that are too bright are cut off. Dark ones, below -s, are still there.",
        ),
        (
            _limit(size=lambda x_0, percentile: _sizes(x_0, percentile, 0)),
            "One s came for the whole batch: one wild picture turns all the others grey. Each has "
            "its own.",
        ),
        (
            _limit(size=lambda x_0, percentile: _sizes(x_0, percentile, 2)),
            "Each channel got an s of its own, which changes the colours. There is one for a "
            "picture.",
        ),
        (
            _limit(size=lambda x_0, percentile: _sizes(x_0, percentile, x_0.ndim - 1)),
            "Each row of a picture got an s of its own. There is one for a picture.",
        ),
        (
            _limit(size=_signed),
            "The percentile is of the values as they are, so dark ones don't count, however large. "
            "It is their size that counts.",
        ),
        (
            _limit(size=_largest),
            "s is the largest value: a single wild pixel turns its whole picture grey. Hence the "
            "percentile.",
        ),
        (
            _limit(size=lambda x_0, percentile: _sizes(x_0, 1 - percentile)),
            "1 - percentile is asked for: that leaves nearly all values above s.",
        ),
        (
            _limit(size=lambda x_0, percentile: percentile * _largest(x_0, percentile)),
            "A share of the largest value is no percentile: that is the value that a share of all "
            "values stay below.",
        ),
        (
            _limit(size=_spread),
            "s is the standard deviation. A percentile of the sizes is asked for.",
        ),
        (
            lambda x_0, percentile: x_0,
            "The guesses come back as they were.",
        ),
        (
            lambda x_0, percentile: _sizes(x_0, percentile).clamp(min=1),
            "s comes back. The guesses, cut off and divided, are asked for.",
        ),
    ],
    points=3,
)


# --- noisy_condition ---


def noisy_condition(low, level, noise):
    """What an enlarger is told, [B, C + 1, 4 h, 4 w]: small pictures low [B, C, h, w] under level
    [B] times noise, like low, enlarged; and a plane from -1 for no noise to 1 for NOISIEST. Saharia
    et al. (2022), section 2.4; Ho et al. (2022), on conditioning augmentation."""
    return with_level(low + level[:, None, None, None] * noise, level).image


def _small_case(seed: int, *shape: int, ends: bool = False):
    """ends: two of the levels are none and NOISIEST."""

    def arguments():
        low = (0.7 * _random(seed, *shape)).clamp(-1, 1)
        level = NOISIEST * torch.rand(shape[0], generator=torch.Generator().manual_seed(seed))
        if ends:
            level[0], level[1] = 0, NOISIEST
        return low, level, _random(seed + 1, *shape)

    return arguments


def _each(level):
    return level[:, None, None, None]


def _tell(
    noisy=lambda low, level, noise: low + _each(level) * noise,
    large=bicubic,
    plane=lambda level: 2 * level / NOISIEST - 1,
    join=lambda large, plane: [large, plane],
):
    """A noisy_condition with one thing changed."""

    def noisy_condition(low, level, noise):
        enlarged = large(noisy(low, level, noise))
        told = _each(plane(level)).expand(-1, 1, *enlarged.shape[2:])
        return torch.cat(join(enlarged, told), dim=1)

    return noisy_condition


def _as_a_picture(low, level, noise):
    large = bicubic(low + _each(level) * noise)
    return torch.cat([large, _each(2 * level / NOISIEST - 1).expand_as(large)], dim=1)


def _after_enlarging(low, level, noise):
    noise = F.interpolate(noise, scale_factor=4, mode="nearest")
    return torch.cat(
        [
            bicubic(low) + _each(level) * noise,
            _each(2 * level / NOISIEST - 1).expand_as(noise[:, :1]),
        ],
        dim=1,
    )


noisy_condition = Exercise(
    reference=noisy_condition,
    cases=[
        _small_case(0, 4, 3, 6, 5),
        _small_case(10, 2, 3, 8, 8),
        _small_case(20, 3, 1, 4, 7, ends=True),
        _small_case(30, 1, 2, 3, 3),
    ],
    mistakes=[
        (
            _tell(noisy=lambda low, level, noise: low),
            "The level is told, but no noise lies over the picture: told so, the network takes "
            "true detail for noise.",
        ),
        (
            _tell(plane=lambda level: -torch.ones_like(level)),
            "The noise is there, but the network is told that there is none: it takes the noise "
            "for detail, and draws it large.",
        ),
        (
            _tell(plane=torch.zeros_like),
            "The plane is 0 whatever the level: the network is not told how much noise there is.",
        ),
        (
            _tell(plane=lambda level: level),
            "The plane holds the level itself, 0 to NOISIEST. The network was told it from -1 to "
            "1.",
        ),
        (
            _tell(plane=lambda level: level / NOISIEST),
            "The plane goes from 0 to 1. The network was told it from -1 to 1.",
        ),
        (
            _tell(plane=lambda level: 1 - 2 * level / NOISIEST),
            "The plane's sign is turned: no noise is -1, the most is 1.",
        ),
        (
            _tell(plane=lambda level: 2 * level - 1),
            "The level is at most NOISIEST, not 1: with yours the plane never comes near to 1.",
        ),
        (
            _tell(noisy=lambda low, level, noise: low + noise),
            "The noise is added as it is, whatever the level.",
        ),
        (
            _tell(noisy=lambda low, level, noise: low + _each(level).square() * noise),
            "The level is the noise's standard deviation: don't square it.",
        ),
        (
            _tell(noisy=lambda low, level, noise: low + _each(level).sqrt() * noise),
            "The level is the noise's standard deviation already: no root.",
        ),
        (
            _tell(noisy=lambda low, level, noise: low - _each(level) * noise),
            "The noise is subtracted. As likely, but not the sum that was asked for.",
        ),
        (
            _tell(
                noisy=lambda low, level, noise: (
                    (1 - _each(level).square()).sqrt() * low + _each(level) * noise
                )
            ),
            "You make the picture paler where noise is added, so that the variance stays. The "
            "paper does, but our network did not learn with it: low itself plus noise.",
        ),
        (
            _tell(noisy=lambda low, level, noise: (1 - _each(level)) * low + _each(level) * noise),
            "You mix the picture with noise. The picture stays as it is, noise is added.",
        ),
        (
            _tell(noisy=lambda low, level, noise: (low + _each(level) * noise).clamp(-1, 1)),
            "Noisy pictures are cut off at -1 and 1. The network has seen them go beyond, and on "
            "white ground half of the noise would be gone.",
        ),
        (
            _tell(noisy=lambda low, level, noise: low + level.mean() * noise),
            "All pictures get the same noise. Each has a level of its own.",
        ),
        (
            _tell(
                noisy=lambda low, level, noise: low + level[0] * noise,
                plane=lambda level: (2 * level[0] / NOISIEST - 1).expand_as(level),
            ),
            "All pictures get the first one's level.",
        ),
        (
            _tell(noisy=lambda low, level, noise: _each(level) * noise),
            "Only noise is left: the small picture is missing.",
        ),
        (
            _after_enlarging,
            "The noise is added to the enlarged picture. It belongs onto the small one: its faults "
            "are what it is to hide.",
        ),
        (
            _tell(large=lambda x: F.interpolate(x, scale_factor=4, mode="nearest")),
            "Each small pixel became a square of 4x4. The network knows bicubic enlargements.",
        ),
        (
            _tell(large=lambda x: F.interpolate(x, scale_factor=4, mode="bilinear")),
            "You enlarge bilinearly. The network knows bicubic enlargements.",
        ),
        (
            _tell(large=lambda x: x),
            "Nothing is enlarged: the network works at four times the size.",
        ),
        (
            _tell(join=lambda large, plane: [plane, large]),
            "The plane stands first. It comes after the picture's channels.",
        ),
        (
            _tell(join=lambda large, plane: [large]),
            "The plane is missing: the network is not told how much noise there is.",
        ),
        (
            _as_a_picture,
            "The level fills as many planes as the picture has channels. One is enough.",
        ),
    ],
    forbids=(with_level,),
    points=3,
)


# --- pooled ---


def pooled(tokens, mask):
    """The mean of each text's tokens [B, L, D] where mask [B, L] is True, [B, D]; zeros where it
    holds none. What joins the time embedding: Saharia et al. (2022), section 2.5."""
    counts = mask.to(tokens)[..., None]
    return (tokens * counts).sum(1) / counts.sum(1).clamp(min=1)


def _tokens_case(seed: int, lengths: list[int], longest: int, channels: int):
    """Texts of different lengths, with something in the padding; of one of two lots, the tokens
    that count need not come first, and all of them can learn."""

    def arguments():
        tokens = _random(seed, len(lengths), longest, channels) + 0.5
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        if seed % 20:
            mask = mask[:, torch.arange(longest).roll(1)]
            tokens.requires_grad_()
        return tokens, mask

    return arguments


def _pool(
    join=lambda tokens, weight: (tokens * weight).sum(1),
    over=lambda weight, longest: weight.sum(1).clamp(min=1),
    seen=lambda mask: mask,
):
    """A pooled with one thing changed."""

    def pooled(tokens, mask):
        weight = seen(mask).to(tokens)[..., None]
        return join(tokens, weight) / over(weight, tokens.shape[1])

    return pooled


def _unweighted(tokens, weight):
    return tokens.sum(1)


def _last(tokens, mask):
    return tokens[torch.arange(len(tokens)), (mask.sum(1) - 1).clamp(min=0)]


pooled = Exercise(
    reference=pooled,
    cases=[
        _tokens_case(0, [3, 7, 1, 5], 7, 6),
        _tokens_case(10, [4, 0, 2], 6, 3),
        _tokens_case(20, [2], 5, 8),
        _tokens_case(30, [6, 6], 6, 2),
    ],
    mistakes=[
        (
            lambda tokens, mask: tokens.mean(1),
            "Padding is averaged in: the same words mean something else beside a longer caption.",
        ),
        (
            _pool(over=lambda weight, longest: longest),
            "Padding adds nothing, but it is counted: short captions come out too small. Divide "
            "by the number of tokens that count.",
        ),
        (
            _pool(join=_unweighted),
            "You divide by the right number, but the padding is still in the sum.",
        ),
        (
            _pool(over=lambda weight, longest: 1),
            "That is the sum: long captions come out larger. The mean is asked for.",
        ),
        (
            _pool(over=lambda weight, longest: weight.sum(1)),
            "A text without words gives NaN: nothing divided by 0. Zeros should come.",
        ),
        (
            _pool(over=lambda weight, longest: weight.sum(1) + 1),
            "You divide by one more than there are, presumably to avoid dividing by 0. Then every "
            "mean is too small.",
        ),
        (
            _pool(over=lambda weight, longest: weight.sum(1).clamp(min=1).sqrt()),
            "You divide by the root of the number of tokens.",
        ),
        (
            _pool(over=lambda weight, longest: weight.sum().clamp(min=1)),
            "You divide by the number of tokens in the whole batch. Each text has its own number.",
        ),
        (
            _pool(over=lambda weight, longest: weight.sum(1).mean()),
            "You divide by the mean number of tokens. Each text has its own number.",
        ),
        (
            _pool(seen=torch.logical_not),
            "The mask is turned round: True says that a token counts.",
        ),
        (
            lambda tokens, mask: tokens[:, 0],
            "That is the first token alone, as one takes from BERT's [CLS]. The mean is asked for.",
        ),
        (
            _last,
            "That is the last token alone. The mean is asked for.",
        ),
        (
            lambda tokens, mask: tokens.masked_fill(~mask[..., None], -torch.inf).amax(1),
            "That is the largest of each channel. The mean is asked for.",
        ),
        (
            lambda tokens, mask: tokens[mask].mean(0),
            "One vector came for the whole batch. Each text has its own.",
        ),
        (
            lambda tokens, mask: tokens * mask[..., None],
            "The padding is hidden, but nothing is averaged: [B, L, D] came, [B, D] is asked for.",
        ),
        (
            lambda tokens, mask: F.normalize(_pool()(tokens, mask), dim=1),
            "The mean is brought to length 1. Here it stays as it is.",
        ),
        (
            lambda tokens, mask: (tokens * mask[..., None]).mean(2),
            "You average over the channels of each token. Average over the tokens.",
        ),
        (
            lambda tokens, mask: (tokens * mask[..., None]).mean(0),
            "You average over the batch. Average over the tokens of each text.",
        ),
    ],
    points=2,
)
