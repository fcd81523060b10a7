"""Lesson 09, inpainting: masked, composite, repaint_step."""

import torch
from torch import nn

from .. import expect
from ..conditions import Condition
from ..pipelines import with_hole
from ..sampling import clip_guess
from ..schedule import NoiseSchedule
from . import Exercise, NotYet
from . import points as points


def composite(known, filled, mask):
    """known where mask is False, filled where it is True, bit for bit. known, filled
    [B, C, H, W], of any content where they are not asked for; mask [B, 1, H, W], bool."""
    return torch.where(mask, filled, known)


def _pictures(seed: int, *shape: int):
    """Some of their values lie beyond -1..1, which is nobody's business here."""
    return 3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1.5


def _mask(count: int = 2):
    """Another hole for each picture; wider than high, so that a turned one is noticed."""
    mask = torch.zeros(count, 1, 6, 8, dtype=torch.bool)
    for index in range(count):
        mask[index, :, 1 + index : 3 + index, 2 : 7 - index] = True
    return mask


def _composite_case(hidden: float, channels: int):
    def arguments():
        mask = _mask()
        known = _pictures(0, 2, channels, 6, 8).masked_fill(mask, hidden)
        known[..., 0, 0] = 0  # grey is a colour like any other
        return known, _pictures(1, 2, channels, 6, 8), mask

    return arguments


def _chosen(arguments, result):
    known, filled, mask = arguments
    if not isinstance(result, torch.Tensor) or result.shape != known.shape:
        return result
    hole = mask.expand_as(known)
    return {
        "the picture": result,
        "known pixels come back bit for bit": torch.equal(result[~hole], known[~hole]),
        "filled pixels come back bit for bit": torch.equal(result[hole], filled[hole]),
    }


composite = Exercise(
    reference=composite,
    cases=[_composite_case(0.0, 3), _composite_case(float("nan"), 3), _composite_case(0.5, 1)],
    observe=_chosen,
    mistakes=[
        (
            lambda known, filled, mask: torch.where(mask, known, filled),
            "It is the wrong way round: the hole still shows what was there, and everything else "
            "was painted over. Masks are True in the hole.",
        ),
        (
            lambda known, filled, mask: mask * filled + (1 - mask.float()) * known,
            "It is right as long as everything is a number. But what lies in the hole of `known` "
            "may be NaN (a camera's dead pixel, a missing measurement), and NaN times 0 is NaN. "
            "Choose between the two; don't weigh them.",
        ),
        (
            lambda known, filled, mask: known + filled * mask,
            "The filling is laid on top of what was in the hole, as if two slides were projected "
            "onto each other. That is right only where the hole holds zeros.",
        ),
        (
            lambda known, filled, mask: known.masked_fill(mask, 0) + filled,
            "The hole is right, but what is known has the network's own version added to it.",
        ),
        (
            lambda known, filled, mask: filled.masked_fill(~mask, 0),
            "The hole is right, and all around it is grey: the known pixels got lost.",
        ),
        (
            lambda known, filled, mask: torch.where(known == 0, filled, known),
            "It fills what is grey, and grey is a colour that a picture may have: the top left "
            "pixel is known to be grey, and the hole need not be. Only the mask knows.",
        ),
        (
            lambda known, filled, mask: known.masked_scatter(mask, filled),
            "masked_scatter does not choose place by place: it takes the values of `filled` from "
            "its beginning, one after the other, so the hole gets what belongs to the top.",
        ),
        (
            lambda known, filled, mask: torch.where(mask[:1], filled, known),
            "The first picture is right, and all the others get the first one's hole.",
        ),
        (
            lambda known, filled, mask: filled,
            "That is the network's picture as it came. It looks right, but it agrees with the "
            "known pixels only roughly, and they were asked for bit for bit.",
        ),
    ],
    points=1,
)


def _told(arguments, result):
    """What the condition says, and whether the pictures were left alone."""
    if result is None:
        return None
    if isinstance(result, torch.Tensor):
        return "a tensor"
    if not isinstance(result, Condition):
        raise NotYet(f"A Condition should come back, but {expect.describe(result)} did.")
    if result.image is None:
        return "no image"
    pictures, _ = arguments
    return {
        "image": result.image,
        "the condition is present": bool(result.present.all()),
        "it holds an image alone": result.tokens is None and result.mask is None,
        "the pictures are as they came": torch.equal(pictures, _pictures(2, *pictures.shape)),
    }


def _with(pictures, plane):
    return Condition(image=torch.cat([pictures, plane.to(pictures)], dim=1))


def _in_place(pictures, mask):
    pictures[mask.expand_as(pictures)] = 0
    return _with(pictures, 2.0 * mask - 1)


def masked(pictures, mask):
    """The condition "fill the hole": an image [B, C + 1, H, W], the pictures [B, C, H, W] with 0 in
    the hole and a plane that is 1 in the hole and -1 elsewhere. mask [B, 1, H, W], bool."""
    return _with(pictures.masked_fill(mask, 0), 2.0 * mask - 1)


masked = Exercise(
    reference=masked,
    cases=[
        lambda: (_pictures(2, 2, 3, 6, 8), _mask()),
        # In the last picture nothing is missing.
        lambda: (_pictures(2, 3, 1, 6, 8), torch.cat([_mask(), torch.zeros_like(_mask(1))])),
    ],
    mistakes=[
        (
            lambda pictures, mask: torch.cat([pictures.masked_fill(mask, 0), 2.0 * mask - 1], 1),
            "The tensor is right. What the network takes is a Condition that holds it as its "
            "image.",
        ),
        (
            lambda pictures, mask: Condition(image=pictures.masked_fill(mask, 0)),
            "The hole is grey, and nothing says that it is a hole: a wall may be grey as well. The "
            "mask is missing.",
        ),
        (
            lambda pictures, mask: _with(pictures, 2.0 * mask - 1),
            "It gives the answer away: what the hole hides is still in the picture. The loss of "
            "such a training is wonderful, and the network can do nothing but copy.",
        ),
        (
            lambda pictures, mask: _with(pictures.masked_fill(~mask, 0), 2.0 * mask - 1),
            "It hides what is known and shows what is hidden. Masks are True in the hole.",
        ),
        (
            lambda pictures, mask: _with(pictures.masked_fill(~mask, 0), 1 - 2.0 * mask),
            "You read the mask as True where the picture is known, in both places: consistent, and "
            "the most common mix-up of all. Here True marks the hole.",
        ),
        (
            lambda pictures, mask: _with(pictures.masked_fill(mask, 0), 1 - 2.0 * mask),
            "The mask's plane says the opposite: the hole should be white in it, as in the masks "
            "themselves. A network could learn that as well, if all who use it know.",
        ),
        (
            lambda pictures, mask: _with(pictures.masked_fill(mask, 0), mask),
            "The mask's plane runs from 0 to 1. All planes of a picture run from -1 to 1 in this "
            "course, and this one should as well.",
        ),
        (
            lambda pictures, mask: _with(pictures.masked_fill(mask, -1), 2.0 * mask - 1),
            "The hole is black. A network could be trained with that as well; what was asked for "
            "is grey, the middle of the range.",
        ),
        (
            with_hole,
            "That is the package's condition, whose hole is filled smoothly instead of with grey. "
            "The lesson comes to it later; here, write the plain one.",
        ),
        (
            lambda pictures, mask: Condition(
                image=torch.cat([2.0 * mask - 1, pictures.masked_fill(mask, 0)], dim=1)
            ),
            "Both parts are there, in another order: the picture's colours come first, the mask's "
            "plane last.",
        ),
        (
            _in_place,
            "The condition is right, but your function paints the hole into `pictures` itself. In "
            "training they are x_0 as well: the network would learn to draw grey boxes. Make a "
            "new tensor.",
        ),
    ],
    points=2,
    observe=_told,
)


def repaint_step(denoise, schedule, x_t, t, s, known, mask, generator=None):
    """x_s from x_t, where known pixels are known: Lugmayr et al., "RePaint" (2022), algorithm 1,
    the two halves of a step and their combination. x_t, known [B, C, H, W]; mask [B, 1, H, W],
    True in the hole; t > s >= 0."""
    x_0, _ = clip_guess(schedule, x_t, t, denoise(x_t, t))
    mean, variance = schedule.posterior(x_0, x_t, t, s)
    drawn = mean + variance.sqrt() * _randn(x_t, generator)
    return torch.where(mask, drawn, _noised(schedule, known, t, s, _randn(known, generator)))


def _randn(x, generator):
    return torch.randn(x.shape, generator=generator)


def _noised(schedule, known, t, s, noise):
    """Known pixels at s, which may be 0."""
    return schedule.add_noise(known, s, noise) if s > 0 else known


_schedule = NoiseSchedule.cosine(1000)
_SIDE = 128  # so many pixels that a mean and a standard deviation are known to about 0.003


class _Denoiser(nn.Module):
    """Says something that depends on everything, and counts how often it is asked."""

    asked, seen = 0, None

    def forward(self, x_t, t):
        self.asked, self.seen = self.asked + 1, x_t.clone()
        return 0.5 * x_t + 0.5 - t / 1000


def _step_case(t: int, s: int, schedule=_schedule):
    def arguments():
        rows = torch.tensor([0.9, -1.4])[:, None, None, None]
        mask = torch.zeros(2, 1, _SIDE, _SIDE, dtype=torch.bool)
        mask[..., _SIDE // 2 :], mask[1, :, :9] = True, True
        picture = torch.ones(2, 3, _SIDE, _SIDE)
        generator = torch.Generator().manual_seed(4)
        return _Denoiser(), schedule, rows * picture, t, s, (rows - 0.3) * picture, mask, generator

    return arguments


def _step_seen(arguments, result):
    """Means and standard deviations, in and around the hole, in steps so coarse that it does not
    matter in which order the random numbers were drawn."""
    if result is None:
        return None
    denoise, schedule, x_t, t, s, _, mask, generator = arguments
    expect.tensor("the result", result, tuple(x_t.shape))
    fresh = torch.Generator().manual_seed(generator.initial_seed())
    # Counted from where the right values lie, so that these lie in the middle of a step.
    middles = _step_expected(schedule, t, s)
    seen = {}
    for index in range(2):
        for place, values in (
            ("in the hole", result[index][:, mask[index, 0]]),
            ("where it is known", result[index][:, ~mask[index, 0]]),
        ):
            for what, value in (("mean", values.mean()), ("standard deviation", values.std())):
                name = f"the {what} {place}, picture {index}"
                middle = middles[name]
                seen[name] = middle + 0.04 * round((float(value) - middle) / 0.04)
                if what != "mean":
                    seen[name] = max(seen[name], 0.0)
    return {
        **seen,
        **_facts_of_noise(result),
        "the denoiser is asked once": denoise.asked == 1,
        "the denoiser is asked about x_t": denoise.seen is not None
        and denoise.seen.shape == x_t.shape
        and torch.equal(denoise.seen, _step_case(t, s, schedule)()[2]),
        "the generator was used": not torch.equal(fresh.get_state(), generator.get_state()),
    }


def _facts_of_noise(result) -> dict[str, bool]:
    """Of the normal numbers in the hole and beside it: no row of them, of a picture and a channel,
    is like another; and four times in five they lie within 1.28 standard deviations."""
    halves = result[..., 9:, : _SIDE // 2], result[..., 9:, _SIDE // 2 :]
    rows = torch.cat([half.flatten(2).flatten(0, 1) for half in halves])
    rows = rows - rows.mean(1, keepdim=True)
    spread = rows.std(1, keepdim=True)
    alike = torch.corrcoef(rows).nan_to_num() - torch.eye(len(rows))
    quiet = bool(spread.min() < 0.05)
    within = (rows.abs() < 1.2816 * spread).float().mean()
    return {
        "each picture and channel has noise of its own": quiet or bool(alike.amax() < 0.2),
        "the noise is normal": quiet or abs(float(within) - 0.8) < 0.03,
    }


def _step_expected(schedule, t: int, s: int) -> dict[str, float]:
    denoise, _, x_t, _, _, known, _, _ = _step_case(t, s, schedule)()
    expected = {}
    for index in range(2):
        x, clean = (picture[index, :1, 0, 0].double() for picture in (x_t, known))
        guess = schedule.predict_x0(x, t, denoise(x, t)).clamp(-1, 1)
        mean, variance = schedule.posterior(guess, x, t, s)
        share = float(schedule.alpha_bars[s])
        for name, value in (
            ("mean in the hole", mean),
            ("standard deviation in the hole", variance**0.5),
            ("mean where it is known", share**0.5 * clean),
            ("standard deviation where it is known", (1 - share) ** 0.5),
        ):
            expected[f"the {name}, picture {index}"] = float(value)
    return expected


def _wrong_step(
    *,
    clip=lambda x_0: x_0.clamp(-1, 1),
    ask=lambda t, s: t,
    to=lambda t, s: s,
    spread=lambda variance: variance.sqrt(),
    noised=_noised,
    put=lambda mask, drawn, beside: torch.where(mask, drawn, beside),
    seeded=True,
):
    """A repaint_step with one thing changed."""

    def step(denoise, schedule, x_t, t, s, known, mask, generator=None):
        random = generator if seeded else None
        x_0 = clip(schedule.predict_x0(x_t, t, denoise(x_t, ask(t, s))))
        mean, variance = schedule.posterior(x_0, x_t, t, to(t, s))
        drawn = mean + spread(variance) * _randn(x_t, random)
        return put(mask, drawn, noised(schedule, known, t, s, _randn(known, random)))

    return step


def _paper_box(schedule, known, t, s, noise):
    share = schedule.alpha_bars[s].to(known)
    return share.sqrt() * known + (1 - share) * noise


def _guess_put_right(denoise, schedule, x_t, t, s, known, mask, generator=None):
    x_0 = torch.where(mask, schedule.predict_x0(x_t, t, denoise(x_t, t)).clamp(-1, 1), known)
    mean, variance = schedule.posterior(x_0, x_t, t, s)
    return mean + variance.sqrt() * _randn(x_t, generator)


def _noised_again(denoise, schedule, x_t, t, s, known, mask, generator=None):
    x_0 = schedule.predict_x0(x_t, t, denoise(x_t, t)).clamp(-1, 1)
    drawn = _noised(schedule, x_0, t, s, _randn(x_t, generator))
    return torch.where(mask, drawn, _noised(schedule, known, t, s, _randn(known, generator)))


def _noise_for_guess(denoise, schedule, x_t, t, s, known, mask, generator=None):
    mean, variance = schedule.posterior(denoise(x_t, t).clamp(-1, 1), x_t, t, s)
    drawn = mean + variance.sqrt() * _randn(x_t, generator)
    return torch.where(mask, drawn, _noised(schedule, known, t, s, _randn(known, generator)))


repaint_step = Exercise(
    reference=repaint_step,
    cases=[
        _step_case(980, 940),
        _step_case(600, 560),
        _step_case(400, 300),
        _step_case(20, 0),
        _step_case(9, 6, NoiseSchedule.linear(10, 0.05, 0.6)),
        _step_case(3, 1, NoiseSchedule.linear(10, 0.05, 0.6)),
    ],
    mistakes=[
        (
            _wrong_step(put=lambda mask, drawn, beside: torch.where(mask, beside, drawn)),
            "The two halves are right and change places: the hole gets the hidden picture, and "
            "what was known is invented. Masks are True in the hole.",
        ),
        (
            _wrong_step(noised=lambda schedule, known, t, s, noise: known),
            "The known pixels come in clean, beside a hole that is still noisy. The network has "
            "never seen such a picture; it expects the same noise everywhere.",
        ),
        (
            _wrong_step(
                noised=lambda schedule, known, t, s, noise: schedule.add_noise(known, t, noise)
            ),
            "The known pixels have more noise than the hole: they stand at the time where the step "
            "began, and the hole at the time where it arrived. At the end, at 0, they would not "
            "even be clean.",
        ),
        (
            _wrong_step(
                noised=lambda schedule, known, t, s, noise: (
                    schedule.add_noise(known, t, noise) if s > 0 else known
                )
            ),
            "The known pixels have more noise than the hole: they stand at the time where the step "
            "began, and the hole at the time where it arrived.",
        ),
        (
            _noised_again,
            "In the hole the guess of x_0 is noised again, as if it were the picture: the noise "
            "of x_t is forgotten. A step goes from x_t, through the posterior.",
        ),
        (
            _wrong_step(noised=_paper_box),
            "The known pixels have a little too little noise: the share 1 - alpha_bar is a "
            "variance, and you multiply the noise by it as if it were a standard deviation.",
        ),
        (
            _wrong_step(spread=lambda variance: 0),
            "The hole gets the mean of the posterior and no fresh noise. Step by step it would "
            "come out too smooth for its surroundings.",
        ),
        (
            _wrong_step(spread=lambda variance: variance),
            "The fresh noise in the hole is too weak: posterior gives a variance, and noise is "
            "multiplied by a standard deviation.",
        ),
        (
            _wrong_step(clip=lambda x_0: x_0),
            "The guess of x_0 may leave -1 to 1, where no picture is. At large t it does, far. Cut "
            "it off there, as in lesson 06.",
        ),
        (
            _wrong_step(to=lambda t, s: t - 1),
            "The hole goes back by a single step while the known pixels go to s. The steps here "
            "are longer than 1; posterior can be told where to.",
        ),
        (
            _wrong_step(ask=lambda t, s: s),
            "The network is asked about s, but what it is shown is x_t. It would look for less "
            "noise than there is.",
        ),
        (
            _wrong_step(seeded=False),
            "The picture is right, but it can't be drawn again: the noise doesn't come from the "
            "generator.",
        ),
        (
            _guess_put_right,
            "You put the known pixels into the guess of x_0 and go on from there. It is a way too, "
            "the one of this course's pipelines; but in RePaint the known pixels of x_s are drawn "
            "afresh from the picture, without any trace of x_t.",
        ),
        (
            _noise_for_guess,
            "What the network returns is the noise, and posterior wants the clean picture.",
        ),
    ],
    points=3,
    observe=_step_seen,
)
