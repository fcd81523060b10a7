"""Lesson 08, super-resolution: concatenate, condition_features, back_project."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from ..conditions import with_null_image
from ..datasets.photos import back_project as _back_project
from ..datasets.photos import bicubic, shrink
from ..unet import Unet
from . import Exercise, NotYet
from . import points as points


def _random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _concatenate(x_t, image, present, null):
    """x_t and what the network sees of the condition picture: [B, C + D + 1, H, W]."""
    return torch.cat([x_t, with_null_image(image, present, null)], dim=1)


_concatenate.__name__ = "concatenate"


def _plane(image, present):
    return present.to(image)[:, None, None, None].expand(-1, 1, *image.shape[2:])


def _condition_first(x_t, image, present, null):
    return torch.cat([with_null_image(image, present, null), x_t], dim=1)


def _flag_forgotten(x_t, image, present, null):
    return _concatenate(x_t, image, present, null)[:, :-1]


def _flag_reversed(x_t, image, present, null):
    seen = with_null_image(image, present, null)[:, :-1]
    return torch.cat([x_t, seen, 1 - _plane(image, present)], dim=1)


def _nothing_hidden(x_t, image, present, null):
    return torch.cat([x_t, image, _plane(image, present)], dim=1)


def _zero_for_nothing(x_t, image, present, null):
    return _concatenate(x_t, image, present, torch.zeros_like(null))


def _hidden_by_flag(x_t, image, present, null):
    return _concatenate(x_t * _plane(image, present), image, present, null)


def _added(x_t, image, present, null):
    seen = with_null_image(image, present, null)
    return torch.cat([x_t + seen[:, :-1], seen[:, -1:]], dim=1)


def _null_added(x_t, image, present, null):
    absent = 1 - _plane(image, present)
    seen = image * (1 - absent) + image * absent + absent * null[:, None, None]
    return torch.cat([x_t, seen, 1 - absent], dim=1)


def _condition_alone(x_t, image, present, null):
    return with_null_image(image, present, null)


concatenate = Exercise(
    reference=_concatenate,
    cases=[
        lambda: (
            2 * _random(4, 3, 2, 5, seed=1),
            2 * _random(4, 3, 2, 5, seed=2),
            torch.tensor([False, True, True, False]),
            torch.tensor([0.5, -0.25, 2.0], requires_grad=True),
        ),
        lambda: (
            _random(3, 4, 6, 5, seed=3),
            _random(3, 1, 6, 5, seed=4),
            torch.tensor([False, True, True]),
            torch.tensor([0.7], requires_grad=True),
        ),
    ],
    mistakes=[
        (
            _condition_first,
            "All the planes are there, but the condition comes first. The network's first "
            "planes must be the noisy ones, for it is their noise that it returns.",
        ),
        (
            _flag_forgotten,
            "The colours are right, but one plane is missing: nothing says whether there is a "
            "condition at all.",
        ),
        (
            _flag_reversed,
            "The colours are right, but the last plane is upside down: yours is 1 where there is "
            "no condition.",
        ),
        (
            _nothing_hidden,
            "Every condition picture can be seen, the absent ones as well: the flag says absent, "
            "and the picture stands beside it.",
        ),
        (
            _zero_for_nothing,
            "Where the condition is absent yours shows zeros, which is a grey picture: the "
            "learned null is never used.",
        ),
        (
            _hidden_by_flag,
            "Where the condition is absent, x_t has gone as well. What is noisy is always shown: "
            "without it there is no noise to find.",
        ),
        (
            _added,
            "Yours mixes the condition into x_t, so that nobody can tell which part of a value "
            "is which. Beside each other, not on top of each other.",
        ),
        (
            _null_added,
            "The absent pictures still shine through: the null is laid over them, and they are "
            "still there.",
        ),
        (
            _condition_alone,
            "That is all that there is to know of the condition. But where is the noisy picture?",
        ),
    ],
    points=1,
)


def _network(seed: int, patch: int = 2, channels: tuple[int, ...] = (8, 16, 24)) -> Unet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = Unet(
            channels=channels, condition_channels=3, inject="levels", attention=(), patch=patch
        )
    for number, level in enumerate(unet.condition_levels):
        level.register_forward_pre_hook(functools.partial(_refuse_other_channels, number))
    return unet


def _refuse_other_channels(number: int, level: nn.Conv2d, inputs) -> None:
    """In words, where PyTorch would speak of the sizes of weights."""
    came = inputs[0].shape[1]
    if came != level.in_channels:
        why = "takes what the layer before it returns, bent by SiLU"
        if number == 0:
            why = "takes the picture with each patch of pixels folded into channels"
        raise NotYet(
            f"Layer {number} of unet.condition_levels {why}: {level.in_channels} channels. "
            f"Yours gave it {came}."
        )


def _chain(unet, seen, *, fold=True, before=0, kept_bent=False, bend=F.silu):
    """The way through the layers, bent by SiLU `before` layer 1 (as it should be: 0, before every
    layer but the first) or elsewhere."""
    features, h = [], F.pixel_unshuffle(seen, unet.patch) if fold else seen
    for number, level in enumerate(unet.condition_levels):
        h = level(bend(h) if number > before else h)
        if kept_bent:
            h = F.silu(h)
        features.append(h)
    return features


def _not_bent(unet, seen):
    return _chain(unet, seen, before=len(unet.condition_levels))


def _bent_by_relu(unet, seen):
    return _chain(unet, seen, bend=F.relu)


def _bent_before_the_first(unet, seen):
    return _chain(unet, seen, before=-1)


def _bent_after(unet, seen):
    return _chain(unet, seen, before=len(unet.condition_levels), kept_bent=True)


def _only_the_last(unet, seen):
    return _chain(unet, seen)[-1]


def _coarse_first(unet, seen):
    return _chain(unet, seen)[::-1]


def _without_the_first(unet, seen):
    return _chain(unet, seen)[1:]


def _input_too(unet, seen):
    return [F.pixel_unshuffle(seen, unet.patch), *_chain(unet, seen)]


def _shrunk_fold(unet, seen):
    """Patches averaged and repeated, where they should be folded into the channels."""
    small = F.avg_pool2d(seen, unet.patch).repeat(1, unet.patch**2, 1, 1)
    return _chain(unet, small, fold=False)


condition_features = Exercise(
    reference=Unet.condition_features,
    cases=[
        lambda: (_network(1), 2 * _random(2, 4, 16, 8, seed=5)),
        lambda: (_network(2, patch=4, channels=(8, 24)), _random(3, 4, 8, 16, seed=6)),
    ],
    mistakes=[
        (
            _not_bent,
            "There is nothing between one layer and the next: convolutions in a row are together "
            "one convolution. Something must bend the values between them.",
        ),
        (
            _bent_by_relu,
            "You bend the values with ReLU in place of SiLU. Near 0 the two differ: SiLU lets a "
            "little of what is negative through.",
        ),
        (
            _bent_before_the_first,
            "The very first layer gets a bent picture: SiLU nearly wipes out what is negative, "
            "and that is the dark half of the photo.",
        ),
        (
            _bent_after,
            "What you keep is bent already, so it can hardly be negative: it could only ever "
            "brighten what it is added to. Bend the values on their way into the next layer.",
        ),
        (
            _only_the_last,
            "Only the coarsest features come back. Each level of the U-Net is waiting for its own.",
        ),
        (
            _coarse_first,
            "The right features, in the wrong order: the U-Net begins with the fine ones.",
        ),
        (
            _without_the_first,
            "The finest level gets nothing: there is one entry fewer than there are layers.",
        ),
        (
            _input_too,
            "One entry too many: the picture itself is no feature, the layers' outputs are.",
        ),
        (
            _shrunk_fold,
            "The fine detail of the condition is lost at the door: its patches were averaged. "
            "They have to be folded into the channels, as the U-Net does it with x_t.",
        ),
    ],
    points=2,
)


def _one_round(pictures, low, rounds=5):
    return _back_project(pictures, low, min(rounds, 1))


def _rounds_ignored(pictures, low, rounds=5):
    return _back_project(pictures, low, 1)


def _same_difference(pictures, low, rounds=5):
    return pictures + rounds * bicubic(low - shrink(pictures))


def _wrong_way(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = pictures - bicubic(low - shrink(pictures))
    return pictures


def _difference_alone(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = bicubic(low - shrink(pictures))
    return pictures


def _blocks(pictures, low, rounds=5):
    for _ in range(rounds):
        missing = low - shrink(pictures)
        pictures = pictures + F.interpolate(missing, scale_factor=4, mode="nearest")
    return pictures


def _every_fourth(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = pictures + bicubic(low - pictures[..., ::4, ::4])
    return pictures


def _averaged(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = pictures + bicubic(low - F.avg_pool2d(pictures, 4))
    return pictures


def _against_bicubic(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = pictures + bicubic(low) - pictures
    return pictures


def _clamped(pictures, low, rounds=5):
    for _ in range(rounds):
        pictures = (pictures + bicubic(low - shrink(pictures))).clamp(-1, 1)
    return pictures


def _always_five(pictures, low, rounds=5):
    return _back_project(pictures, low, 5)


def _nearly_right():
    """Pictures that agree with the small ones but for a little."""
    pictures = _random(2, 1, 16, 12, seed=13)
    return pictures, shrink(pictures) + 0.02 * _random(2, 1, 4, 3, seed=14), 4


back_project = Exercise(
    reference=_back_project,
    cases=[
        lambda: (_random(2, 3, 16, 24, seed=7), _random(2, 3, 4, 6, seed=8), 5),
        lambda: (_random(1, 1, 16, 16, seed=9), _random(1, 1, 4, 4, seed=10), 2),
        lambda: (_random(1, 3, 16, 16, seed=11), _random(1, 3, 4, 4, seed=12), 0),
        _nearly_right,
    ],
    mistakes=[
        (
            _one_round,
            "One round is right, but the others are missing: enlarging the difference is only "
            "roughly the reverse of shrinking, so something is left over each time.",
        ),
        (
            _rounds_ignored,
            "Right for one round, but it always does one, whatever `rounds` says.",
        ),
        (
            _same_difference,
            "The same correction is added again and again: it overshoots. After each round, look "
            "anew at what is missing.",
        ),
        (
            _wrong_way,
            "It runs away from the small picture: after each round they agree less than before.",
        ),
        (
            _difference_alone,
            "All that is left is the correction. The picture that it was meant for is gone.",
        ),
        (
            _blocks,
            "Right but for the enlarging: yours adds flat squares of 4 x 4 pixels, whose edges "
            "can be seen.",
        ),
        (
            _every_fourth,
            "Right but for the shrinking: every fourth pixel is not the small picture. A small "
            "pixel stands for a whole neighbourhood.",
        ),
        (
            _averaged,
            "Right but for the shrinking: the small picture was not made by averaging squares. "
            "Use the same function that made it.",
        ),
        (
            _against_bicubic,
            "Whatever comes in, the bicubic picture comes out, and every detail is lost. Compare "
            "the two pictures where they are both small.",
        ),
        (
            _clamped,
            "Right, but for the clamping in each round. Leave clamping to the caller: here it "
            "undoes part of the correction.",
        ),
        (
            _always_five,
            "Right for five rounds, but it always does five, whatever number was asked for.",
        ),
    ],
    points=2,
)
