"""Lesson 18, the bridge to Diffusers: their_clock, scheduler_config, from_diffusers, bytes_a_step.

None of it needs Diffusers: what their options mean and how their U-Net is called stands below, and
tests/test_bridge.py holds it against the installed version.
"""

import difflib
import math
import operator
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .. import expect
from ..bridge import from_diffusers as _from_diffusers
from ..bridge import scheduler_config as _scheduler_config
from ..conditions import Condition
from ..sampling import timesteps
from ..schedule import NoiseSchedule
from . import Exercise, NotYet
from . import points as points

_LIST = (list, tuple, range, Tensor, np.ndarray)


def _as_tensor(value):
    """A list of numbers, of whatever kind, as a tensor on the CPU; anything else as it comes."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    if isinstance(value, (list, tuple)):
        value = [float(v) if isinstance(v, Tensor) and v.numel() == 1 else v for v in value]
    try:
        return torch.as_tensor(np.asarray(value)) if isinstance(value, _LIST) else value
    except (TypeError, ValueError, RuntimeError):
        return value


# --- their_clock ----------------------------------------------------------------------------------


def their_clock(alpha_bars, visited):
    return alpha_bars[1:], [t - 1 for t in visited[:-1]]


_their_clock = their_clock


def _clock_case(schedule, *steps):
    return lambda: (schedule.alpha_bars.clone(), timesteps(schedule, *steps))


def _both(arguments, result):
    """The table and the times, in whatever kind of list they came."""
    if result is None:
        return None
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        said = expect.describe(result)
        raise NotYet(f"Two things should come back, their table and their times, but {said} did.")
    table, times = map(_as_tensor, result)
    if isinstance(times, Tensor) and not times.is_complex() and times.ndim == 1:
        whole = bool((times.double() == times.double().round()).all())
        times = times.long() if whole else times
    return {"the table": table, "the times": times}


def _clock(table=lambda bars: bars[1:], times=lambda visited: [t - 1 for t in visited[:-1]]):
    return lambda alpha_bars, visited: (table(alpha_bars), times(visited))


their_clock = Exercise(
    reference=their_clock,
    cases=[
        _clock_case(NoiseSchedule.cosine(10)),
        _clock_case(NoiseSchedule.linear(12, 0.01, 0.3), 5),
        _clock_case(NoiseSchedule.cosine(1000), 20),
        _clock_case(NoiseSchedule.scaled_linear(1000), 7, 2.0),
        _clock_case(NoiseSchedule.cosine(3), 1),
        _clock_case(NoiseSchedule.cosine(1200), 6),
    ],
    observe=_both,
    mistakes=[
        (
            _clock(lambda bars: bars, lambda visited: visited[:-1]),
            "Table and times fit each other, but both are ours: theirs has no entry for the clean "
            "picture, so its first, number 0, is our t = 1.",
        ),
        (
            _clock(lambda bars: bars),
            "The times are right. Your table still begins with the clean picture, alpha_bar = 1, "
            "and has one entry more than theirs: at their time they would find our t - 1.",
        ),
        (
            _clock(lambda bars: bars[:-1]),
            "The times are right. Your table lost the wrong end: the clean picture is still in it, "
            "and t = T, where sampling begins, is not.",
        ),
        (
            _clock(lambda bars: bars[1:] / bars[:-1]),
            "The times are right. Your table holds what is left of one step, alpha; the table of "
            "products is asked for, as ours is.",
        ),
        (
            _clock(lambda bars: 1 - bars[1:]),
            "The times are right. Your table holds the share of the noise; theirs, like ours, "
            "holds that of the picture.",
        ),
        (
            _clock(lambda bars: bars[1:].sqrt()),
            "The times are right. Your table holds square roots: they take those later, as we do.",
        ),
        (
            _clock(times=lambda visited: visited[:-1]),
            "The table is right. Your times still count from 1: with them they would take each "
            "share one step too late, and past the end of the table for t = T.",
        ),
        (
            _clock(times=lambda visited: [t - 1 for t in visited]),
            "The table is right. There is a -1 among your times: where sampling ends nobody asks "
            "the network, and their lists leave it out.",
        ),
        (
            _clock(times=lambda visited: [max(t - 1, 0) for t in visited]),
            "The table is right. Your last time is one too many, a second 0: where sampling ends "
            "nobody asks the network, and their lists leave it out.",
        ),
        (
            _clock(times=lambda visited: visited[1:]),
            "The table is right. Your times left the first one out instead of counting from 0: "
            "that is the same only where every stride is 1.",
        ),
        (
            _clock(times=lambda visited: visited),
            "The table is right. Your times are ours, with the 0 of the clean picture at the end.",
        ),
        (
            _clock(times=lambda visited: [t - 1 for t in visited[1:]]),
            "The table is right. Your times are those at which the steps arrive; theirs, as one "
            "asks the network there, are those from which they start.",
        ),
        (
            _clock(times=lambda visited: [t + 1 for t in visited[:-1]]),
            "The table is right. Your times moved the other way: our 1 is their 0.",
        ),
        (
            _clock(times=lambda visited: [t - 1 for t in visited[:-1]][::-1]),
            "The table is right, and so are your times, but they run from clean to noisy.",
        ),
        (
            lambda alpha_bars, visited: _their_clock(alpha_bars, visited)[::-1],
            "Both are right, but in the other order: the table first.",
        ),
    ],
    points=1,
)

# --- scheduler_config -----------------------------------------------------------------------------

# The options of their DDIMScheduler with their defaults.
DDIM = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": True,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "clip_sample_range": 1.0,
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
}


def _betas(options) -> Tensor:
    first, last, steps = (options[k] for k in ("beta_start", "beta_end", "num_train_timesteps"))
    kind = options["beta_schedule"]
    if options["trained_betas"] is not None:
        betas = _as_tensor(options["trained_betas"])
        right = isinstance(betas, Tensor) and betas.ndim == 1 and not betas.is_complex()
        if not right:
            said = expect.describe(options["trained_betas"])
            raise NotYet(f"trained_betas should be a list of numbers, one a step, but {said} came.")
        return betas.double()
    if kind == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=0.999)
    raise NotYet(f"Their DDIMScheduler knows no beta_schedule {kind!r}.")


def ddim_times(options, count: int) -> list[int]:
    """The timesteps that a DDIMScheduler visits in so many steps."""
    total, kind = options["num_train_timesteps"], options["timestep_spacing"]
    if kind == "leading":
        times = np.arange(count)[::-1] * (total // count) + options["steps_offset"]
    elif kind == "trailing":
        times = np.round(np.arange(total, 0, -total / count)) - 1
    elif kind == "linspace":
        times = np.linspace(0, total - 1, count).round()[::-1]
    else:
        raise NotYet(f"Their timestep_spacing is leading, trailing or linspace, not {kind!r}.")
    return [int(t) for t in times]


def _read(arguments, config):
    """What a DDIMScheduler with these options does."""
    if config is None:
        return None
    if not isinstance(config, Mapping):
        said = expect.describe(config)
        raise NotYet(f"A dict of options should come back, {{name: value}}, but {said} did.")
    config = {name: value for name, value in config.items() if str(name)[:1] != "_"}
    for name in config.keys() - DDIM.keys():  # theirs come with _class_name and the like
        near = difflib.get_close_matches(str(name), DDIM, n=1)
        advice = f" Did you mean {near[0]}?" if near else ""
        raise NotYet(f"Their DDIMScheduler has no option {name!r}.{advice}")
    options = {**DDIM, **config}
    total = options["num_train_timesteps"]
    if not hasattr(total, "__index__") or isinstance(total, bool) or operator.index(total) < 1:
        raise NotYet(f"num_train_timesteps should be how many steps there are, not {total!r}.")
    options["num_train_timesteps"] = total = operator.index(total)
    betas = _betas(options)
    bars = (1 - betas).cumprod(0)
    clips, most = bool(options["clip_sample"]), options["clip_sample_range"]
    if options["thresholding"]:
        clips, most = True, options["sample_max_value"]
    if clips:  # where nothing is clipped, nobody reads the number
        try:
            most = float(most)
        except (TypeError, ValueError):
            raise NotYet(f"Guesses are clipped, but not at a number: at {most!r}.") from None
    return {
        "alpha_bar at each of their times": bars,
        "steps in all": total,
        "times of a run of 4 steps": torch.tensor(ddim_times(options, min(4, total))),
        "alpha_bar where the last step lands": 1.0
        if options["set_alpha_to_one"]
        else float(bars[0]),
        "what the network predicts": str(options["prediction_type"]),
        "guesses are clipped": clips,
        "guesses are clipped at": most if clips else 0.0,
        "the threshold depends on the picture": bool(options["thresholding"]) and most != 1,
        "the betas are rescaled": bool(options["rescale_betas_zero_snr"]),
    }


def _but(**changes):
    """A wrong scheduler_config: the right one with something changed, or left out where a change
    is a name for `DDIM`'s default."""

    def scheduler_config(schedule, clip):
        found = _scheduler_config(schedule, clip)
        for name, change in changes.items():
            found[name] = change(schedule, clip) if callable(change) else change
        return found

    return scheduler_config


def _ends(schedule, clip):
    """Only where the betas begin and end, and a straight line between."""
    found = _scheduler_config(schedule, clip)
    del found["trained_betas"]
    ends = {"beta_start": float(schedule.betas[1]), "beta_end": float(schedule.betas[-1])}
    return {**found, **ends, "beta_schedule": "linear"}


def _by_name(kind):
    def scheduler_config(schedule, clip):
        found = _scheduler_config(schedule, clip)
        del found["trained_betas"]
        return {**found, "beta_schedule": kind}

    return scheduler_config


_LEADING = (
    "The betas are right, but the run does not begin where all is noise: by default they space "
    "their steps so that the first, at t = T, is left out. Which of their three spacings is ours?"
)
_ONE_BETA = "One beta too many: our table begins with t = 0, the clean picture, and theirs doesn't."

scheduler_config = Exercise(
    reference=_scheduler_config,
    cases=[
        lambda: (NoiseSchedule.linear(12, 0.01, 0.3), 0.5),
        lambda: (NoiseSchedule.cosine(20), 1.0),
        lambda: (NoiseSchedule([0.3, 0.02, 0.4, 0.1, 0.25, 0.07, 0.5]), None),
        lambda: (NoiseSchedule.scaled_linear(1000), 1.5),
        lambda: (NoiseSchedule.cosine(1000), 1.0),
    ],
    observe=_read,
    mistakes=[
        (_but(timestep_spacing="leading"), _LEADING),
        (_but(timestep_spacing="leading", steps_offset=1), _LEADING),
        (
            _but(timestep_spacing="linspace"),
            "The run begins at t = T, but its last stop before the picture is their time 0, which "
            "ours passes over: the strides are not ours. Look at the third of their spacings.",
        ),
        (_but(trained_betas=lambda s, clip: s.betas.tolist()), _ONE_BETA),
        (
            _but(
                trained_betas=lambda s, clip: s.betas.tolist(),
                num_train_timesteps=lambda s, clip: len(s.betas),
            ),
            _ONE_BETA,
        ),
        (
            _but(trained_betas=lambda s, clip: s.betas[:-1].tolist()),
            "As many betas as there are steps, but the first is that of the clean picture, 0, and "
            "the last one is missing.",
        ),
        (
            _but(trained_betas=lambda s, clip: s.alphas[1:].tolist()),
            "Those are the alphas, what a step leaves; asked for is what it adds.",
        ),
        (
            _but(trained_betas=lambda s, clip: s.alpha_bars[1:].tolist()),
            "Those are the alpha_bars, what is left after all steps so far: they multiply up what "
            "they are given, so it has to be step by step.",
        ),
        (
            _but(trained_betas=lambda s, clip: (1 - s.alpha_bars[1:]).tolist()),
            "Those are the shares of the noise after all steps so far: they multiply up what they "
            "are given, so it has to be step by step.",
        ),
        (
            _by_name("squaredcos_cap_v2"),
            "That is a schedule by its name, whatever schedule came. And by name even the cosine "
            "is another: ours ends at alpha_bar = 1e-5, theirs goes on down.",
        ),
        (
            _by_name("linear"),
            "The schedule that came is not used: that is their default, a line from 0.0001 to "
            "0.02.",
        ),
        (
            _ends,
            "The ends are right, but between them the betas of this schedule do not lie on a line.",
        ),
        (
            _but(num_train_timesteps=1000),
            "A schedule need not have 1000 steps: that is only their default.",
        ),
        (
            _but(num_train_timesteps=lambda s, clip: len(s.betas)),
            "One step too many: our tables have T + 1 entries, for t = 0 is in them.",
        ),
        (
            _but(clip_sample=True, clip_sample_range=1.0),
            "Guesses are always clipped at 1, their default; what came as `clip` is not used.",
        ),
        (
            _but(clip_sample_range=1.0),
            "Whether to clip is right, but it is always at 1, their default.",
        ),
        (
            _but(clip_sample=True),
            "Where `clip` is None nothing should be clipped, and yours still clips: by default "
            "they do.",
        ),
        (_but(clip_sample=False), "Guesses are never clipped, whatever `clip` says."),
        (
            _but(
                clip_sample=False,
                thresholding=lambda s, clip: clip is not None,
                sample_max_value=lambda s, clip: clip or 1.0,
            ),
            "That is dynamic thresholding: it divides each picture by a threshold of its own, and "
            "never cuts below 1. Clipping is another option.",
        ),
        (
            _but(prediction_type="v_prediction"),
            "Our networks predict the noise; yours says that what they return is the velocity.",
        ),
        (
            _but(prediction_type="sample"),
            "Our networks predict the noise; yours says that what they return is the picture.",
        ),
        (
            _but(set_alpha_to_one=False),
            "The last step should land on the clean picture, alpha_bar = 1; yours stops one step "
            "before it.",
        ),
        (
            _but(rescale_betas_zero_snr=True),
            "Your option changes the betas once more, so that nothing of the picture is left at "
            "t = T. The network was not trained on that.",
        ),
    ],
    points=3,
)

# --- from_diffusers -------------------------------------------------------------------------------


class _Output:
    """What their models return: the prediction by its name, or by its number."""

    def __init__(self, sample):
        self.sample = sample

    def __getitem__(self, key):
        return self.sample if key in (0, "sample") else (self.sample,)[key]

    def to_tuple(self):
        return (self.sample,)

    def __repr__(self):
        return "UNet2DConditionOutput(sample=tensor)"


class TheirUnet(nn.Module):
    """Is called as their UNet2DConditionModel, predicts something that depends on everything, and
    counts its calls."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.size = nn.Parameter(torch.ones(()))  # somebody may want to train it further

    @property
    def device(self):
        return self.size.device

    def forward(
        self,
        sample,
        timestep,
        encoder_hidden_states,
        class_labels=None,
        timestep_cond=None,
        attention_mask=None,
        cross_attention_kwargs=None,
        added_cond_kwargs=None,
        down_block_additional_residuals=None,
        mid_block_additional_residual=None,
        down_intrablock_additional_residuals=None,
        encoder_attention_mask=None,
        return_dict=True,
    ):
        self.calls += 1
        tokens = encoder_hidden_states
        if not isinstance(sample, Tensor) or not isinstance(tokens, Tensor):
            raise TypeError("the U-Net takes x, timestep, encoder_hidden_states, in this order")
        if tokens.ndim != 3 or len(tokens) != len(sample):
            raise ValueError(
                f"the U-Net got {len(sample)} pictures but tokens of shape {list(tokens.shape)}"
            )
        mask = tokens.new_ones(tokens.shape[:2])
        if encoder_attention_mask is not None:
            mask = encoder_attention_mask.float()
        weights = torch.cos(1 + torch.arange(tokens.shape[1] * tokens.shape[2]).float())
        told = (tokens * mask[..., None]).flatten(1) @ weights.to(tokens)
        times = torch.as_tensor(timestep, device=sample.device).float().expand(len(sample)) / 10
        told = (told + times.sin()).reshape(-1, *[1] * (sample.ndim - 1))
        predicted = self.size * (2 * sample.sin() + told * (2 * sample).cos())
        return _Output(predicted) if return_dict else (predicted,)


def _unet_case(seed, length, width):
    def arguments():
        null = torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))
        return TheirUnet(), null

    return arguments


def _ask(arguments, network):
    """What the network returns for pictures told, told nothing, and mixed, at one time and at
    several, and how many calls of their U-Net each took."""
    if network is None:
        return None
    if not callable(network):
        said = expect.describe(network)
        raise NotYet(
            f"A network should come back, a function of x_t, t and condition, but {said} did."
        )
    unet, null = arguments
    random = torch.Generator().manual_seed(11)
    seen = {}
    for name, present, t in (
        ("all told", [True, True, True], 31),
        ("some told", [True, False, True, False, False], 1),
        ("none told", [False, False], 77),
        ("each at its own t", [False, True, True, False], torch.tensor([8, 40, 1, 23])),
    ):
        count = len(present)
        tokens = torch.randn(count, *null.shape[1:], generator=random)
        x_t = torch.randn(count, 3, 6, 7, generator=random)
        condition = Condition(tokens=tokens, present=torch.tensor(present))
        kept, before = [x_t.clone(), tokens.clone()], unet.calls
        seen[name] = network(x_t, t, condition)
        seen[f"calls of the U-Net, {name}"] = unet.calls - before
        left = torch.equal(x_t, kept[0]) and torch.equal(condition.tokens, kept[1])
        seen[f"x_t and tokens are left as they came, {name}"] = left
    return seen


def _wrapped(tokens=None, t=lambda t: t - 1, end=lambda output: output.sample):
    """A wrong from_diffusers: with other tokens(condition, null), times or results."""

    def right(condition, null):
        return torch.where(condition.present[:, None, None], condition.tokens, null)

    def from_diffusers(unet, null):
        def network(x_t, time, condition):
            return end(unet(x_t, t(time), (tokens or right)(condition, null)))

        return network

    return from_diffusers


def _overwritten(condition, null):
    """Writes into the tokens that came."""
    condition.tokens[~condition.present] = null
    return condition.tokens


def _everybody(condition, null):
    return null.expand(len(condition), -1, -1)


def _together(decide):
    """All or nothing: one decision for the whole batch."""

    def tokens(condition, null):
        told = bool(decide(condition.present))
        return condition.tokens if told else _everybody(condition, null)

    return tokens


def _twice(unet, null):
    def network(x_t, t, condition):
        told = unet(x_t, t - 1, condition.tokens).sample
        untold = unet(x_t, t - 1, _everybody(condition, null)).sample
        return torch.where(condition.present[:, None, None, None], told, untold)

    return network


def _guided(unet, null):
    def network(x_t, t, condition):
        both = torch.cat([_everybody(condition, null), condition.tokens])
        times = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
        untold, told = unet(torch.cat([x_t, x_t]), times - 1, both).sample.chunk(2)
        return untold + 7.5 * (told - untold)

    return network


from_diffusers = Exercise(
    reference=_from_diffusers,
    cases=[
        _unet_case(0, 4, 6),
        _unet_case(1, 2, 9),
        _unet_case(2, 1, 3),
    ],
    observe=_ask,
    mistakes=[
        (
            _wrapped(t=lambda t: t),
            "The condition arrives as it should, but at another time: theirs counts from 0, so "
            "yours tells their U-Net of more noise than there is.",
        ),
        (
            _wrapped(t=lambda t: t + 1),
            "The condition arrives as it should, but the time moved the wrong way: our t = 1 is "
            "their 0.",
        ),
        (
            _wrapped(t=lambda t: 1000 - t),
            "The condition arrives as it should, but time runs backwards: with them too a large "
            "time is a noisy picture.",
        ),
        (
            _wrapped(end=lambda output: output),
            "It returns what their U-Net returns, an object; a network of ours returns the tensor "
            "in it.",
        ),
        (
            _wrapped(end=lambda output: (output.sample,)),
            "It returns a tuple with the noise in it; a network of ours returns the tensor itself.",
        ),
        (
            _wrapped(lambda condition, null: condition.tokens),
            "Whoever should be told nothing is told all the same: `present` is not used, so the "
            "two predictions of guidance would be equal.",
        ),
        (
            _wrapped(_everybody),
            "Nobody is told anything: each example gets the null, also where a condition is "
            "present.",
        ),
        (
            _wrapped(
                lambda condition, null: torch.where(
                    condition.present[:, None, None], null, condition.tokens
                )
            ),
            "The wrong way round: where the condition is present the null goes in.",
        ),
        (
            _wrapped(lambda condition, null: condition.tokens * condition.present[:, None, None]),
            "Absent tokens become zeros. Their U-Net never saw zeros in training: told nothing is "
            "the null that comes with it, the encoded empty caption.",
        ),
        (
            _wrapped(
                lambda condition, null: torch.where(
                    condition.present[:, None, None],
                    condition.tokens,
                    null.mean(1, keepdim=True),
                )
            ),
            "The null is a sequence, a token after the other; yours puts their mean in the place "
            "of each.",
        ),
        (
            _wrapped(
                lambda condition, null: torch.where(
                    condition.present[:, None, None], condition.tokens, null[:, :1]
                )
            ),
            "The null is a sequence; yours puts its first token in the place of each.",
        ),
        (
            _wrapped(_overwritten),
            "The noise is right, but the null is written into the condition's own tokens, and who "
            "asks again with this condition finds the caption gone. Make new tokens: torch.where.",
        ),
        *[
            (
                _wrapped(_together(decide)),
                "One decision for the whole batch. Each example has its own: guidance asks for "
                "told and untold ones in one call.",
            )
            for decide in (Tensor.all, Tensor.any, lambda present: present[0])
        ],
        (
            _wrapped(end=lambda output: -output.sample),
            "The sign: their U-Net, like ours, returns the noise that was added.",
        ),
        (
            _twice,
            "The noise is right, but the U-Net ran twice for it. Choose each example's tokens "
            "first, then ask once.",
        ),
        (
            _guided,
            "That is guidance already. Return the plain prediction: `guide` asks this network for "
            "told and untold, and knows the scale.",
        ),
    ],
    points=4,
)

# --- bytes_a_step ---------------------------------------------------------------------------------


def bytes_a_step(parameters, processes, bytes):
    return 2 * (processes - 1) / processes * parameters * bytes


bytes_a_step = Exercise(
    reference=bytes_a_step,
    cases=[
        lambda n=n: n
        for n in ((8, 4, 4), (1_287_972, 2, 4), (859_520_964, 8, 2), (500, 1, 4), (7_900, 1000, 4))
    ],
    mistakes=[
        (
            lambda parameters, processes, bytes: (processes - 1) / processes * parameters * bytes,
            "That is half of it, one round: after it each process holds the sum of one part only. "
            "The sums must go round as well.",
        ),
        (
            lambda parameters, processes, bytes: 2 * parameters * bytes,
            "Nearly: one of the parts need not be sent in each round, for it is at home already. "
            "What does a single process have to send?",
        ),
        (
            lambda parameters, processes, bytes: parameters * bytes,
            "That is the size of the gradient. It does not depend on how many processes there "
            "are, and a single one would have to send something.",
        ),
        (
            lambda parameters, processes, bytes: 2 * (processes - 1) * parameters * bytes,
            "That is what all processes send together; asked for is what one sends.",
        ),
        (
            lambda parameters, processes, bytes: (processes - 1) * parameters * bytes,
            "That would be sending all of the gradient to each of the others. In a ring each "
            "sends parts, and only to its neighbour.",
        ),
        (
            lambda parameters, processes, bytes: 2 * parameters * bytes / processes,
            "That is one part, sent twice. A process sends a part to its neighbour several times "
            "in each round: how often?",
        ),
        (
            lambda parameters, processes, bytes: parameters * bytes / processes,
            "That is the size of one part. How many parts does a process send in the two rounds?",
        ),
        (
            lambda parameters, processes, bytes: (
                4 * (processes - 1) / processes * parameters * bytes
            ),
            "That is twice what a process sends: what arrives at it is not counted.",
        ),
        (
            lambda parameters, processes, bytes: processes * parameters * bytes,
            "That grows with the number of processes; what makes a ring good is that it hardly "
            "does.",
        ),
        (
            lambda parameters, processes, bytes: 2 * (processes - 1) / processes * parameters,
            "Those are numbers; each takes several bytes.",
        ),
        (
            lambda parameters, processes, bytes: (
                16 * (processes - 1) / processes * parameters * bytes
            ),
            "Those are bits.",
        ),
        (
            lambda parameters, processes, bytes: (
                2 * (processes - 1) / processes * parameters / bytes
            ),
            "A number takes several bytes: multiply where you divide.",
        ),
    ],
    points=1,
)
