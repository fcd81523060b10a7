"""Lesson 17, few steps: straight, follow, distilled_target, shortcut_target."""

import torch
from torch import nn

from .. import expect
from ..conditions import Condition
from ..pipelines.few_steps import distilled_target as _distilled_target
from ..pipelines.few_steps import shortcut_target as _shortcut_target
from ..pipelines.few_steps import straight as _straight
from ..sampling import euler, last
from ..unet import at_home
from . import Exercise, NotYet
from . import points as points


def _random(seed: int, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _share(seed: int, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _wide(numbers, x):
    return numbers.reshape(-1, *[1] * (x.ndim - 1))


# --- straight ---


def _straight_case(seed: int, *shape: int, s=None):
    def arguments():
        times = _share(seed, shape[0]) if s is None else torch.tensor(s)
        return 2 * _random(seed + 1, *shape), times, 1.5 * _random(seed + 2, *shape)

    return arguments


def _point_and_velocity(arguments, result):
    """Both by name."""
    if result is None:
        return None
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise NotYet(
            f"Two things should come back, x_s and the velocity, but {expect.describe(result)} did."
        )
    return dict(zip(("x_s", "velocity"), result, strict=True))


def _path(
    point=lambda x, s, e: (1 - s) * x + s * e,
    velocity=lambda x, s, e, x_s: e - x,
    share=lambda s, x: _wide(s, x),
):
    """A straight with one thing changed."""

    def straight(x_0, s, noise):
        wide = share(s, x_0)
        x_s = point(x_0, wide, noise)
        return x_s, velocity(x_0, wide, noise, x_s)

    return straight


straight = Exercise(
    reference=_straight,
    cases=[
        _straight_case(1, 3, 2, 4, 5),
        _straight_case(2, 4, 2),
        _straight_case(3, 5, 1, 3, 3, s=[0.0, 1.0, 0.5, 0.01, 0.99]),
        _straight_case(4, 1, 6),
        _straight_case(5, 2, 2, 2),
    ],
    mistakes=[
        (
            _path(point=lambda x, s, e: s * x + (1 - s) * e),
            "The path is turned round: at s = 0 the picture should be clean, and at s = 1 all "
            "noise. (The paper counts the other way.)",
        ),
        (
            _path(velocity=lambda x, s, e, x_s: x - e),
            "The velocity points to the picture. It says how x_s changes as s grows, and s grows "
            "towards the noise.",
        ),
        (
            _path(point=lambda x, s, e: s * x + (1 - s) * e, velocity=lambda x, s, e, x_s: x - e),
            "Path and velocity fit each other, but both are the paper's, whose time is 1 at the "
            "picture. Here s = 0 is the picture.",
        ),
        (
            _path(point=lambda x, s, e: (1 - s).sqrt() * x + s.sqrt() * e),
            "With roots the variance is kept, as in lesson 01, and the path is bent. The straight "
            "one mixes in plain shares.",
        ),
        (
            _path(point=lambda x, s, e: (1 - s**2).sqrt() * x + s * e),
            "With a root the variance is kept, as in lesson 01, and the path is bent: the "
            "picture's share is plain, too.",
        ),
        (
            _path(point=lambda x, s, e: x + s * e),
            "The picture should fade as the noise comes: at s = 1 some of it is still there.",
        ),
        (
            _path(velocity=lambda x, s, e, x_s: e),
            "That velocity is the noise alone. As s grows the noise comes and the picture goes.",
        ),
        (
            _path(velocity=lambda x, s, e, x_s: e - x_s),
            "That is what is left of the way from x_s to the noise. The velocity is the same all "
            "along the path: take its derivative in s.",
        ),
        (
            _path(velocity=lambda x, s, e, x_s: x_s - x),
            "That is the way made so far. The velocity is the same all along the path: take its "
            "derivative in s.",
        ),
        (
            _path(velocity=lambda x, s, e, x_s: s * e - (1 - s) * x),
            "The velocity does not depend on s: take the derivative of x_s in s once more.",
        ),
        (
            _path(share=lambda s, x: s[0]),
            "Every example has an s of its own: yours uses the first one's for all.",
        ),
        (
            _path(share=lambda s, x: s.mean()),
            "Every example has an s of its own: yours uses their mean for all.",
        ),
        (
            lambda x_0, s, noise: _straight(x_0, s, noise)[::-1],
            "The two are in the other order: x_s first, then the velocity.",
        ),
    ],
    observe=_point_and_velocity,
    points=2,
)


# --- follow ---


def follow(velocity, x_1, steps):
    """The picture at the end of the path: sampling.euler's."""
    return last(euler(velocity, x_1, steps))


@expect.checked
def _moment(t: expect.Time) -> float:
    """t, where a network would take it: 500.0 it refuses."""
    return float(t)


class _Field:
    """A velocity that depends on place and time, and remembers when it was asked."""

    def __init__(self, bend: float):
        self.bend = bend
        self.times = []

    def __call__(self, x_s, t):
        if isinstance(t, torch.Tensor) and t.numel() > 1:
            raise NotYet("Give the velocity one whole number t, not one for each example.")
        self.times.append(_moment(t))
        return (self.bend * x_s).sin() + x_s / 3 + (self.times[-1] / 1000) ** 2 - 0.4


def _follow_case(steps: int, bend: float, *shape: int):
    return lambda: (_Field(bend), 1.5 * _random(steps, *shape), steps)


def _arrival(arguments, result):
    """The picture, and when the velocity was asked."""
    if result is None:
        return None
    told = " ".join(f"{t:g}" for t in arguments[0].times[:200])  # a text: t is to be exact
    return {"x_0": result, "the t's that velocity was told": told}


def _walk(
    told=lambda s, after, number: round(1000 * s),
    move=lambda x, v, stride, s: x - stride * v,
    begin=lambda steps: steps,
    ends=lambda x: x,
    each=lambda x: x,
):
    """A follow with one thing changed."""

    def follow(velocity, x_1, steps):
        x_s = x_1
        for index in range(begin(steps), 0, -1):
            s, after = index / steps, (index - 1) / steps
            v = velocity(x_s, told(s, after, steps - index))
            x_s = each(move(x_s, v, 1 / steps, s))
        return ends(x_s)

    return follow


def _asked_at_the_start(velocity, x_1, steps):
    x_s = x_1
    for index in range(steps, 0, -1):
        x_s = x_s - velocity(x_1, round(1000 * index / steps)) / steps
    return x_s


NOW = "A step starts at s and ends a stride lower: the velocity is asked where it starts."
follow = Exercise(
    reference=follow,
    cases=[
        _follow_case(4, 1.0, 2, 1, 3, 4),
        _follow_case(1, 0.7, 3, 2),
        _follow_case(3, 2.0, 5, 2),
        _follow_case(7, 1.3, 1, 2, 2, 2),
        _follow_case(50, 0.5, 2, 3),
    ],
    mistakes=[
        (
            _walk(move=lambda x, v, stride, s: x + stride * v),
            "You walk away from the picture: the velocity points to the noise, and s falls.",
        ),
        (
            _walk(move=lambda x, v, stride, s: x - v),
            "Each step takes the whole way: a step is as long as its stride, 1 / steps.",
        ),
        (
            _walk(move=lambda x, v, stride, s: x - s * v),
            "Each step goes all the way to s = 0, and the next starts there. Go on by one stride.",
        ),
        (
            _walk(move=lambda x, v, stride, s: x - v / 1000),
            "Each step is a thousandth long. t counts in thousandths; a stride is 1 / steps.",
        ),
        (
            _walk(told=lambda s, after, number: s),
            "The velocity is told s itself, between 0 and 1. The networks are told t = 1000 s, a "
            "whole number.",
        ),
        (
            _walk(told=lambda s, after, number: 1000),
            "The velocity is told the same t at every step. It should be told where x_s is now.",
        ),
        (_walk(told=lambda s, after, number: round(1000 * after)), NOW),
        (
            _walk(told=lambda s, after, number: round(1000 * max(after, 0.001))),
            f"{NOW} Yours is told the end of the step.",
        ),
        (
            _walk(told=lambda s, after, number: round(1000 * (1 - s))),
            "Your clock runs the other way: x_1 is noise, and there t is 1000.",
        ),
        (
            _asked_at_the_start,
            "The velocity is asked about x_1 at every step. Ask about x_s, where you are now.",
        ),
        (
            _walk(begin=lambda steps: steps - 1),
            "The first step is missing: it starts at s = 1, where t = 1000.",
        ),
        (
            _walk(told=lambda s, after, number: round(1000 * s) - 1),
            "t is one too small: 1000 at the beginning.",
        ),
        (
            _walk(each=lambda x: x.clamp(-1, 1)),
            "Every x_s is clipped. On the way there is noise in it, which may well pass 1.",
        ),
        (
            _walk(ends=lambda x: x.clamp(-1, 1)),
            "The result is clipped. That is for whoever shows it; a path is not always one of "
            "pictures.",
        ),
    ],
    observe=_arrival,
    points=3,
)


# --- distilled_target ---


class _Teacher(nn.Module):
    """A velocity that depends on pictures, time and digit, or on nothing of it told."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.8))

    def forward(self, x_s, t, condition):
        if x_s.device != self.weight.device:
            return at_home(self, x_s, t, condition)
        times = torch.as_tensor(t, device=x_s.device).float().expand(len(x_s)) / 1000
        digit = torch.where(condition.present, condition.tokens[:, 0].float() + 1, -2.0)
        return (self.weight * x_s + _wide(digit, x_s)).sin() + _wide(times, x_s)


def _distilled_case(scales: list[float], *shape: int, t=None):
    def arguments():
        count = len(scales)
        times = torch.randint(1, 1001, (count,), generator=torch.Generator().manual_seed(count))
        tokens = torch.arange(count)[:, None] * 3 % 10
        condition = Condition(tokens=tokens)
        x_s = 2 * _random(count, count, *shape)
        # As `load` leaves a network: not in training.
        return _Teacher().eval(), x_s, times if t is None else t, condition, torch.tensor(scales)

    return arguments


def _target(arguments, result):
    """The target, whether gradients would flow through it, and whether a loss could keep it."""
    if result is None:
        return None
    if not isinstance(result, torch.Tensor):
        raise NotYet(f"A tensor should come back, but {expect.describe(result)} did.")
    return {
        "target": result,
        "gradients are recorded through it": result.requires_grad,
        "it was made in inference_mode, so no loss may keep it": result.is_inference(),
    }


def _mixed(formula, quiet=torch.no_grad):
    """A wrong distilled_target: formula(null, told, scale)."""

    def distilled_target(teacher, x_s, t, condition, scale):
        with quiet():
            null, told = teacher(x_s, t, condition.absent()), teacher(x_s, t, condition)
            return formula(null, told, _wide(scale, x_s))

    return distilled_target


RECORDED = (
    "The numbers are right, but gradients are recorded through the target. It is what the student "
    "should reach, and holds still: torch.no_grad()."
)
NOT_KEPT = (
    "The numbers are right, but what is made in inference_mode() is no target: F.mse_loss keeps it "
    "for the way back, and PyTorch refuses. torch.no_grad() is enough."
)

distilled_target = Exercise(
    reference=_distilled_target,
    cases=[
        _distilled_case([1.5, 3.0, 2.25], 2, 4, 5),
        _distilled_case([0.0, 1.0, 4.0, 2.0, -1.0], 3),
        _distilled_case([2.5, 7.5], 1, 2, 2, t=333),
        _distilled_case([2.75, 1.25, 0.5, 6.0], 2, 4, 4),
        _distilled_case([0.25], 1, 3, 3),
    ],
    mistakes=[
        (
            _mixed(lambda null, told, scale: told + scale * (told - null)),
            "You start from the told prediction: that is the paper's w. In this course's scale 0 "
            "is untold and 1 is told.",
        ),
        (
            _mixed(lambda null, told, scale: told + (scale - 2) * (told - null)),
            "Yours is one behind: at scale 1 the told prediction alone should be left.",
        ),
        (
            _mixed(lambda null, told, scale: null + scale * (null - told)),
            "You walk away from what was asked for: told minus null.",
        ),
        (
            _mixed(lambda null, told, scale: told + scale * (null - told)),
            "Told and untold have changed places.",
        ),
        (
            _mixed(lambda null, told, scale: scale * (told - null)),
            "That is the push alone: where is the prediction that it starts from?",
        ),
        (_mixed(lambda null, told, scale: told), "The scale changes nothing: that is scale 1."),
        (_mixed(lambda null, told, scale: null), "That is the untold prediction alone, scale 0."),
        (
            _mixed(lambda null, told, scale: scale * told),
            "The told prediction is only made longer. Guidance lengthens its difference from the "
            "untold one.",
        ),
        (
            _mixed(lambda null, told, scale: null + scale.mean() * (told - null)),
            "Every example has a scale of its own: yours uses their mean for all.",
        ),
        (
            _mixed(lambda null, told, scale: null + scale[0] * (told - null)),
            "Every example has a scale of its own: yours uses the first one's for all.",
        ),
        (
            _mixed(lambda null, told, scale: null + scale.clamp(0, 1) * (told - null)),
            "Your scale stays between 0 and 1. Guidance goes beyond the told prediction.",
        ),
        (
            _mixed(lambda null, told, scale: null + scale * (told - null), quiet=torch.enable_grad),
            RECORDED,
        ),
        (
            _mixed(
                lambda null, told, scale: null + scale * (told - null), quiet=torch.inference_mode
            ),
            NOT_KEPT,
        ),
    ],
    observe=_target,
    points=3,
)


# --- shortcut_target ---


class _Velocity(nn.Module):
    """A velocity that depends on place, time and stride."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.1))
        self.count = 0  # of places that it was asked about

    def forward(self, x_s, s, stride):
        if x_s.device != self.weight.device:
            return at_home(self, x_s, s, stride)
        self.count += len(x_s)
        wide, far = (
            _wide(torch.as_tensor(each, device=x_s.device).float().expand(len(x_s)), x_s)
            for each in (s, stride)
        )
        return (self.weight * x_s + 2 * wide).sin() + 0.5 * x_s * wide + 3 * far**2


def _shortcut_case(s: list[float], stride: list[float], *shape: int):
    return lambda: (
        _Velocity(),
        2 * _random(len(s), len(s), *shape),
        torch.tensor(s),
        torch.tensor(stride),
    )


def _target_in_two(arguments, result):
    """As _target, and of how many places the network was asked, together or one by one."""
    found = _target(arguments, result)
    return found and {**found, "how many places velocity was asked about": arguments[0].count}


def _two_steps(
    near=lambda d: d / 2,
    move=lambda x, d, v: x - d / 2 * v,
    later=lambda s, d: s - d / 2,
    far=lambda d: d / 2,
    mean=lambda first, second, d: (first + second) / 2,
    quiet=torch.no_grad,
):
    """A shortcut_target with one thing changed."""

    def shortcut_target(velocity, x_s, s, stride):
        with quiet():
            wide = _wide(stride, x_s)
            first = velocity(x_s, s, near(stride))
            second = velocity(move(x_s, wide, first), later(s, stride), far(stride))
            return mean(first, second, wide)

    return shortcut_target


shortcut_target = Exercise(
    reference=_shortcut_target,
    cases=[
        _shortcut_case([1.0, 0.5, 0.75], [1.0, 0.25, 0.5], 2, 4, 5),
        _shortcut_case([0.5, 1.0, 0.25, 0.125], [0.5, 0.5, 0.25, 0.125], 2),
        _shortcut_case([1.0, 1.0], [0.125, 1.0], 1, 2, 2),
        _shortcut_case([0.08], [0.08], 1, 3, 3),
        _shortcut_case([1.0, 0.5, 0.5, 1.0], [0.25, 0.5, 0.125, 1.0], 3, 4, 4),
    ],
    mistakes=[
        (
            _two_steps(mean=lambda a, b, d: a + b),
            "The velocities are added. A step of a whole stride goes as far as two of half with "
            "their mean.",
        ),
        (
            _two_steps(mean=lambda a, b, d: d * (a + b) / 2),
            "That is how far the two steps get. A velocity is asked for: the way over the stride.",
        ),
        (_two_steps(mean=lambda a, b, d: a), "Only the first of the two steps is used."),
        (_two_steps(mean=lambda a, b, d: b), "Only the second of the two steps is used."),
        (
            _two_steps(move=lambda x, d, v: x),
            "The second step starts where the first one did: move x_s first.",
        ),
        (
            _two_steps(move=lambda x, d, v: x + d / 2 * v),
            "Between the steps you walk towards the noise: s falls, so the velocity is subtracted.",
        ),
        (
            _two_steps(move=lambda x, d, v: x - d * v),
            "The first step goes the whole stride. It has half of it to go.",
        ),
        (
            _two_steps(move=lambda x, d, v: x - v),
            "The first step goes the whole way, as long as the velocity. It has half a stride to "
            "go.",
        ),
        (
            _two_steps(later=lambda s, d: s),
            "The second step is told the time of the first: it starts half a stride later.",
        ),
        (
            _two_steps(move=lambda x, d, v: x + d / 2 * v, later=lambda s, d: s + d / 2),
            "You walk towards the noise, in place and time. To draw, s falls.",
        ),
        (
            _two_steps(later=lambda s, d: s + d / 2),
            "The second step's time runs towards the noise: s falls.",
        ),
        (
            _two_steps(later=lambda s, d: s - d),
            "The second step is told the time at which it ends, not the one at which it starts.",
        ),
        (
            _two_steps(near=lambda d: d, far=lambda d: d),
            "The network is told the whole stride for steps of half: that is the answer that is "
            "still to be learned.",
        ),
        (
            _two_steps(near=lambda d: 0 * d, far=lambda d: 0 * d),
            "The network is told a stride of 0. These are steps of half a stride.",
        ),
        (
            _two_steps(far=lambda d: d),
            "The second step is told the whole stride. Both go half of it.",
        ),
        (_two_steps(quiet=torch.enable_grad), RECORDED.replace("student", "network")),
        (_two_steps(quiet=torch.inference_mode), NOT_KEPT),
    ],
    observe=_target_in_two,
    points=4,
)
