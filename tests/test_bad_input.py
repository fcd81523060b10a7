"""Every argument of every public function refuses what it cannot use, in words of ours.

Each pair of a function and one of its arguments is tried with bad values that hypothesis makes up,
the other arguments being good. The error must be ours, not torch's: raised by a `raise` statement
of the package, a TypeError or ValueError that names the argument, says what came and what should
have come. A bad value that gives a result is a failure too.
"""

import ast
import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cfd_course
from cfd_course import (
    Condition,
    GaussianMixture,
    NoiseSchedule,
    Unet,
    ddim,
    ddpm,
    dpm_solver,
    guide,
    paper_scale,
    repaint,
    train,
)
from cfd_course.conditions import with_null_image, with_null_token
from cfd_course.datasets import batches
from cfd_course.datasets.digits import digit_condition, digits
from cfd_course.datasets.photos import (
    as_image,
    as_tensor,
    back_project,
    bicubic,
    box_holes,
    crops,
    free_form_holes,
    half_holes,
    open_photo,
    read_photo,
    shrink,
)
from cfd_course.datasets.shapes import SceneStream, sample_scenes
from cfd_course.guidance import guide_from, in_interval
from cfd_course.metrics import (
    distortion,
    fine_power,
    frechet_distance,
    luma,
    nearest_distances,
    precision_recall,
    proportion_interval,
    psnr,
    spread,
)
from cfd_course.pipelines import (
    Artist,
    Mender,
    Scaler,
    Tiled,
    load,
    start_noise,
    to_enlarge,
    to_fill,
    with_hole,
)
from cfd_course.sampling import clip_guess, dynamic_threshold, last, timesteps
from cfd_course.text import TextEncoder, tokenise
from cfd_course.training import learning_rate_at, noise_loss, update_average
from cfd_course.unet import (
    Attention,
    KnownPixels,
    PatchTokens,
    ResidualBlock,
    Velocity,
    known_patches,
    place_embedding,
    time_embedding,
)

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = 15  # bad values tried for each argument
LEAST = 3  # different ones among them

# ---- Bad values ------------------------------------------------------------------------------

FLOATS = (torch.float32, torch.float64)
INTS = (torch.int32, torch.int64)
OTHERS = (torch.complex64, torch.uint8)
JUNK = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=2),
    st.complex_numbers(),
    st.sampled_from([{}, {"t": 1}, object, float("nan"), NotImplemented]),
)
NOTHING = st.none()


def tensors(sizes, dtypes):
    return st.builds(torch.ones, sizes, dtype=st.sampled_from(dtypes))


def other_sizes(*sizes, free=()):
    """Shapes that don't fit: another number of dimensions, an empty one, or another size of one
    that isn't free."""

    def fits(found):
        return len(found) == len(sizes) and all(
            size > 0 and (index in free or size == want)
            for index, (size, want) in enumerate(zip(found, sizes, strict=True))
        )

    any_rank = st.lists(st.integers(1, 4), max_size=5)
    same_rank = st.tuples(*[st.integers(0, 6)] * len(sizes))
    return st.one_of(any_rank, same_rank).map(tuple).filter(lambda found: not fits(found))


def not_tensor(*sizes, of=FLOATS, free=(), none=False):
    """Bad for a tensor of this shape and kind; the sizes of the free dimensions are arbitrary."""
    wrong = [d for d in (*FLOATS, *INTS, torch.bool, *OTHERS) if d not in of]
    return st.one_of(
        JUNK,
        st.lists(st.floats(0, 1), max_size=2),
        tensors(other_sizes(*sizes, free=free), of),
        tensors(st.just(sizes), wrong),
        *([] if none else [NOTHING]),
    )


def not_whole(low, high=None, none=False):
    return st.one_of(
        JUNK,
        st.booleans(),
        st.floats(),
        st.just(torch.tensor(low)),
        st.integers(max_value=low - 1),
        *([st.integers(min_value=high + 1)] if high is not None else []),
        *([] if none else [NOTHING]),
    )


def not_number(low=None, high=None, none=False):
    return st.one_of(
        JUNK,
        st.booleans(),
        st.sampled_from([float("nan"), float("inf"), float("-inf"), torch.ones(2)]),
        *([st.floats(max_value=low, exclude_max=True)] if low is not None else []),
        *([st.floats(min_value=high, exclude_min=True)] if high is not None else []),
        *([] if none else [NOTHING]),
    )


def not_time(low, high, count):
    """Bad for whole numbers in low..high (None: no end), one, or one for each of `count`."""
    below = st.integers(-50, low - 1)
    outside = below if high is None else st.one_of(below, st.integers(high + 1, high + 50))
    return st.one_of(
        JUNK,
        NOTHING,
        st.booleans(),
        st.floats(),
        outside,
        outside.map(torch.tensor),
        outside.map(lambda t: torch.tensor([low] * (count - 1) + [t])),
        tensors(other_sizes(count).filter(len), INTS),
        tensors(st.just((count,)), (*FLOATS, torch.bool)),
    )


def not_numbers(*sizes, free=(), positive=False):
    """Bad for nested lists, or a tensor, of finite real numbers in this shape."""
    broken = [float("nan"), float("inf"), *([-1.0, -1e-9] if positive else [])]
    return st.one_of(
        JUNK,
        st.sampled_from(["a", None, 1j, [1, [2]]]).map(lambda bad: [bad]),
        tensors(other_sizes(*sizes, free=free), FLOATS),
        tensors(st.just(sizes), (torch.bool, torch.complex64)),
        st.sampled_from(broken).map(lambda bad: torch.full(sizes, bad)),
    )


NOT_GENERATOR = st.one_of(JUNK, st.integers(), st.booleans())
NOT_CALLABLE = st.one_of(
    st.none(), st.text(), st.integers(), st.lists(st.integers()), tensors(st.just((2,)), FLOATS)
)
NOT_DEVICE = st.one_of(st.text(max_size=6).filter(lambda s: s != "cpu"), JUNK, st.booleans())
# Of another class, whichever was wanted.
NOT_OBJECT = st.one_of(JUNK, NOTHING, st.integers(), st.lists(st.integers()), st.just(Condition))
NOT_CONDITION = st.one_of(JUNK, st.integers(), tensors(st.just((2, 1)), INTS))
# Of a number or a function: whatever can be called is one.
NOT_CLIP = not_number(0, none=True).filter(lambda bad: not callable(bad))
NOT_SCALE = not_number().filter(lambda bad: not callable(bad))
NOT_PATH = st.one_of(NOTHING, st.integers(), st.floats(), st.just({}), st.lists(st.integers()))
NOT_CAPTIONS = st.one_of(
    JUNK, NOTHING, st.integers(), st.just([]), st.one_of(NOTHING, st.integers()).map(lambda x: [x])
)
NOT_IN = st.one_of(JUNK, NOTHING, st.integers(), st.booleans(), st.floats())

# ---- Public functions, their good arguments, and what is bad in place of each ------------------


@dataclass
class Call:
    """function(**good) works; bad: for each argument, what must be refused in its place. Where two
    arguments must fit together, either may be named, see `partners`."""

    name: str
    function: Callable
    good: dict
    bad: dict
    partners: dict = field(default_factory=dict)


SCHEDULE = NoiseSchedule.cosine(10)
MIXTURE = GaussianMixture([[0.0, 0.0], [1.0, 1.0]], [[[1.0, 0], [0, 1.0]]] * 2)
PICTURE = torch.zeros(2, 1, 4, 4)
POINTS = torch.zeros(3, 2)
TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])
BOTH = Condition(image=torch.zeros(2, 2, 4, 4), tokens=TOKENS)
CAPTIONED = Condition(tokens=TOKENS)


def identity(x_t, t, condition=None):
    return x_t


@functools.cache
def tiny_unet():
    return Unet(1, (8, 8), condition_channels=2, token_encoder=nn.Embedding(10, 4)).eval()


def patchy_unet():
    return Unet(1, (8, 8), token_channels=8, placed=True)


def run(sampler):
    return lambda **arguments: last(sampler(**arguments))


class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition):
        return self.weight * x_t


def pair(name):
    """x_0 and x_t, or x_t and noise: whichever differs from the other may be named."""
    return {"x_0": (name,), "x_t": (name,)}


# A float tensor of any shape but [], for the shape that others must follow.
NOT_PICTURE = st.one_of(
    JUNK, NOTHING, tensors(other_sizes(2, 1, 4, 4), FLOATS), tensors(st.just((2, 1, 4, 4)), INTS)
)

SAMPLER = {"denoise": identity, "schedule": SCHEDULE, "x_T": PICTURE, "steps": 2}
NOT_SAMPLER = {
    "denoise": NOT_CALLABLE,
    "schedule": NOT_OBJECT,
    "x_T": st.one_of(JUNK, NOTHING, tensors(st.sampled_from([(), (3,), (0, 2)]), FLOATS)),
    "steps": not_whole(1, 10, none=True),
    "clip": NOT_CLIP,
}


@functools.cache
def tiny(application):
    """The application around an untrained network, for tiles of 16 pixels."""
    if application == "artist":
        unet = Unet(3, (8, 8), token_encoder=TextEncoder(8, 1, 2), token_channels=8)
        return Artist(unet, SCHEDULE, tokenise, (3, 32, 32))
    if application == "scaler":
        return Scaler(Unet(3, (8, 8), condition_channels=6), SCHEDULE, 16)
    return Mender(Unet(3, (8, 8), condition_channels=4), SCHEDULE, 3, 16)


PHOTO = torch.zeros(1, 3, 8, 8)
CHELSEA = Path(skimage.data.__file__).with_name("chelsea.png")
DRAWING = {"scale": NOT_SCALE, "steps": not_whole(1, 10), "seed": not_whole(0)}
GENERATOR = {"generator": NOT_GENERATOR}

CALLS = [
    Call(
        "NoiseSchedule",
        NoiseSchedule,
        {"betas": [0.1, 0.2]},
        {"betas": st.one_of(NOTHING, not_numbers(2, free=(0,), positive=True))},
    ),
    *(
        Call(
            f"NoiseSchedule.{maker.__name__}",
            maker,
            {"steps": 10, "first": 0.1, "last": 0.2},
            {"steps": not_whole(1), "first": not_number(0, 1), "last": not_number(0, 1)},
        )
        for maker in (NoiseSchedule.linear, NoiseSchedule.scaled_linear)
    ),
    Call(
        "NoiseSchedule.cosine",
        NoiseSchedule.cosine,
        {"steps": 10, "offset": 0.01},
        {"steps": not_whole(1), "offset": not_number(0, 1)},
    ),
    Call(
        "NoiseSchedule.add_noise",
        SCHEDULE.add_noise,
        {"x_0": PICTURE, "t": 3, "noise": PICTURE},
        {"x_0": NOT_PICTURE, "t": not_time(1, 10, 2), "noise": not_tensor(2, 1, 4, 4)},
        pair("noise"),
    ),
    Call(
        "NoiseSchedule.predict_x0",
        SCHEDULE.predict_x0,
        {"x_t": PICTURE, "t": 3, "noise": PICTURE},
        {"x_t": NOT_PICTURE, "t": not_time(1, 10, 2), "noise": not_tensor(2, 1, 4, 4)},
        pair("noise"),
    ),
    Call(
        "NoiseSchedule.predict_noise",
        SCHEDULE.predict_noise,
        {"x_t": PICTURE, "t": 3, "x_0": PICTURE},
        {"x_t": NOT_PICTURE, "t": not_time(1, 10, 2), "x_0": not_tensor(2, 1, 4, 4)},
        {"x_t": ("x_0",)},
    ),
    Call(
        "NoiseSchedule.posterior",
        SCHEDULE.posterior,
        {"x_0": PICTURE, "x_t": PICTURE, "t": 3, "s": 1},
        {
            "x_0": NOT_PICTURE,
            "x_t": not_tensor(2, 1, 4, 4),
            "t": not_time(2, 10, 2),
            "s": not_time(0, 2, 2).filter(lambda s: s is not None),
        },
        {"x_0": ("x_t",)},
    ),
    Call("NoiseSchedule.snr", SCHEDULE.snr, {"t": 3}, {"t": not_time(1, 10, 1)}),
    Call(
        "GaussianMixture",
        GaussianMixture,
        {
            "means": torch.zeros(3, 2),
            "covariances": torch.eye(2).repeat(3, 1, 1),
            "weights": [1, 1, 2],
            "labels": [0, 1, 1],
        },
        {
            "means": st.one_of(NOTHING, not_numbers(3, 2)),
            "covariances": st.one_of(
                NOTHING,
                not_numbers(3, 2, 2),
                st.floats(-5, 0).map(lambda bad: bad * torch.eye(2).repeat(3, 1, 1)),
                st.floats(0.1, 5).map(lambda bad: torch.eye(2) + torch.tensor([[0, bad], [0, 0]])),
            ),
            "weights": not_numbers(3, positive=True),
            "labels": not_tensor(3, of=INTS, none=True),
        },
        {"means": ("covariances",)},
    ),
    Call("GaussianMixture.given", MIXTURE.given, {"label": 1}, {"label": not_whole(0, 1, True)}),
    Call(
        "GaussianMixture.sample",
        MIXTURE.sample,
        {"count": 2, "generator": None},
        {"count": not_whole(1), "generator": NOT_GENERATOR},
    ),
    *(
        Call(
            f"GaussianMixture.{method.__name__}",
            method,
            {"x": POINTS, "alpha_bar": 0.5},
            {
                "x": not_tensor(3, 2, free=(0,)),
                "alpha_bar": st.one_of(not_numbers(3), st.floats(-3, 0), st.floats(1.1, 3)).filter(
                    lambda bad: not isinstance(bad, torch.Tensor) or bad.shape not in ((), (1,))
                ),
            },
        )
        for method in (MIXTURE.log_density, MIXTURE.score)
    ),
    Call(
        "GaussianMixture.label_probability",
        MIXTURE.label_probability,
        {"x": POINTS, "label": 1},
        {"x": not_tensor(3, 2, free=(0,)), "label": not_whole(0, 1)},
    ),
    Call(
        "GaussianMixture.denoiser",
        MIXTURE.denoiser,
        {"schedule": SCHEDULE, "label": None},
        {"schedule": NOT_OBJECT, "label": not_whole(0, 1, none=True)},
    ),
    Call(
        "the mixture's denoiser",
        MIXTURE.denoiser(SCHEDULE),
        {"x_t": POINTS, "t": 3},
        {"x_t": not_tensor(3, 2, free=(0,)), "t": not_time(1, 10, 3)},
    ),
    Call(
        "Condition",
        Condition,
        {
            "image": torch.zeros(2, 2, 4, 4),
            "tokens": TOKENS,
            "mask": TOKENS > 1,
            "present": torch.tensor([True, False]),
        },
        {
            "image": not_tensor(2, 2, 4, 4, free=(1, 2, 3), none=True),
            "tokens": not_tensor(2, 3, of=INTS, none=True).filter(
                lambda bad: not isinstance(bad, torch.Tensor) or bad.ndim != 3
            ),
            "mask": not_tensor(2, 3, of=(torch.bool,), none=True),
            "present": not_tensor(2, of=(torch.bool,), none=True),
        },
        {"tokens": ("mask",)},
    ),
    Call(
        "Condition.drop",
        BOTH.drop,
        {"probability": 0.5, "generator": None},
        {"probability": not_number(0, 1), "generator": NOT_GENERATOR},
    ),
    Call("Condition.to", BOTH.to, {"device": "cpu"}, {"device": NOT_DEVICE}),
    Call(
        "Condition.__getitem__",
        BOTH.__getitem__,
        {"rows": 1},
        {
            "rows": st.one_of(
                JUNK, NOTHING, st.floats(), st.integers(min_value=2), st.integers(max_value=-3)
            ).filter(lambda bad: bad != "")
        },
    ),
    Call(
        "Condition.concatenate",
        Condition.concatenate,
        {"parts": [BOTH, BOTH]},
        {
            "parts": st.one_of(
                NOT_OBJECT,
                NOT_OBJECT.map(lambda bad: [BOTH, bad]),
                st.integers(1, 9).map(lambda n: [BOTH, Condition(image=torch.zeros(1, n, 4, 4))]),
            )
        },
    ),
    Call(
        "with_null_image",
        with_null_image,
        {"image": BOTH.image, "present": BOTH.present, "null": torch.zeros(2)},
        {
            "image": not_tensor(2, 2, 4, 4, free=(2, 3)),
            "present": not_tensor(2, of=(torch.bool,)),
            "null": not_tensor(2),
        },
        {"image": ("present", "null")},
    ),
    Call(
        "with_null_token",
        with_null_token,
        {
            "tokens": torch.zeros(2, 3, 4),
            "mask": BOTH.mask,
            "present": BOTH.present,
            "null": torch.zeros(4),
        },
        {
            "tokens": not_tensor(2, 3, 4),
            "mask": not_tensor(2, 3, of=(torch.bool,)),
            "present": not_tensor(2, of=(torch.bool,)),
            "null": not_tensor(4),
        },
        {"tokens": ("mask", "null")},
    ),
    Call("paper_scale", paper_scale, {"w": 1.0}, {"w": not_number()}),
    Call(
        "guide",
        guide,
        {"network": identity, "condition": CAPTIONED, "scale": 3.0},
        {"network": NOT_CALLABLE, "condition": NOT_CONDITION, "scale": not_number()},
    ),
    Call(
        "guide_from",
        guide_from,
        {"weak": identity, "strong": identity, "scale": 3.0},
        {"weak": NOT_CALLABLE, "strong": NOT_CALLABLE, "scale": not_number()},
    ),
    Call(
        "dynamic_threshold",
        dynamic_threshold,
        {"x_0": torch.zeros(2, 1, 3, 3), "percentile": 0.995},
        {"x_0": st.one_of(JUNK, NOTHING), "percentile": not_number(0, 1)},
    ),
    Call(
        "in_interval",
        in_interval,
        {"scale": 3.0, "low": 200.0, "high": 700.0},
        {"scale": not_number(), "low": not_number(), "high": not_number()},
    ),
    Call(
        "what guide returns",
        lambda x_t, t, scale, returned: guide(
            lambda *_: PICTURE.repeat(2, 1, 1, 1) if returned is None else returned,
            CAPTIONED,
            lambda t: scale,
        )(x_t, t),
        {"x_t": PICTURE, "t": 3, "scale": 3.0, "returned": None},
        {
            "x_t": not_tensor(2, 1, 4, 4),
            "scale": not_number(),
            "returned": not_tensor(4, 1, 4, 4, none=True),
        },
        {"x_t": ("what network returned",)},
    ),
    Call(
        "guide of a Unet",
        lambda x_t, t: guide(tiny_unet(), BOTH, 3.0)(x_t, t),
        {"x_t": PICTURE, "t": 3},
        {"x_t": not_tensor(2, 1, 4, 4), "t": not_time(1, None, 2)},
        {"x_t": ("the condition's image",)},
    ),
    Call(
        "timesteps",
        timesteps,
        {"schedule": SCHEDULE, "steps": 5, "power": 2.0},
        {
            "schedule": NOT_OBJECT,
            "steps": not_whole(1, 10, none=True),
            "power": not_number(1, 10),
        },
    ),
    Call(
        "clip_guess",
        clip_guess,
        {"schedule": SCHEDULE, "x_t": PICTURE, "t": 3, "noise": PICTURE, "clip": 1.0},
        {
            "schedule": NOT_OBJECT,
            "x_t": NOT_PICTURE,
            "t": not_time(1, 10, 2),
            "noise": not_tensor(2, 1, 4, 4),
            "clip": NOT_CLIP,
        },
        pair("noise"),
    ),
    Call(
        "what a clip returns",
        lambda returned: clip_guess(SCHEDULE, PICTURE, 3, PICTURE, lambda guess: returned),
        {"returned": PICTURE},
        {"returned": not_tensor(2, 1, 4, 4)},
    ),
    Call(
        "ddpm",
        run(ddpm),
        {**SAMPLER, "variance": "beta", "clip": 1.0, "generator": None},
        {**NOT_SAMPLER, "variance": NOT_IN, "generator": NOT_GENERATOR},
    ),
    Call(
        "ddim",
        run(ddim),
        {**SAMPLER, "eta": 0.5, "clip": 1.0, "generator": None},
        {**NOT_SAMPLER, "eta": not_number(0, 1), "generator": NOT_GENERATOR},
    ),
    Call("dpm_solver", run(dpm_solver), {**SAMPLER, "clip": 1.0}, NOT_SAMPLER),
    Call(
        "a sampler's list of steps",
        lambda steps: run(ddim)(denoise=identity, schedule=SCHEDULE, x_T=PICTURE, steps=steps),
        {"steps": (10, 5, 0)},
        {
            "steps": st.one_of(
                st.just([]),
                st.lists(st.integers(1, 10), max_size=4),
                st.integers(1, 10).map(lambda t: [t, t, 0]),
                not_whole(0, 10).map(lambda bad: [10, bad, 0]),
                st.just(torch.tensor([10, 5, 0])),
                st.binary(min_size=1),
            )
        },
    ),
    Call(
        "repaint",
        run(repaint),
        {
            **SAMPLER,
            "known": PICTURE,
            "mask": PICTURE > 0,
            "jump": 1,
            "resampling": 2,
            "clip": 1.0,
            "generator": None,
        },
        {
            **NOT_SAMPLER,
            "steps": not_whole(1, 10),
            "known": not_tensor(2, 1, 4, 4),
            "mask": not_tensor(2, 1, 4, 4, of=(torch.bool,)),
            "jump": not_whole(1),
            "resampling": not_whole(1),
            **GENERATOR,
        },
    ),
    *(
        Call(
            f"what a denoiser returns to {sampler.__name__}",
            lambda returned, sampler=sampler: last(
                sampler(lambda x, t: returned, SCHEDULE, PICTURE, 2)
            ),
            {"returned": PICTURE},
            {"returned": not_tensor(2, 1, 4, 4)},
        )
        for sampler in (ddpm, ddim, dpm_solver)
    ),
    Call(
        "last",
        last,
        {"steps": dpm_solver(identity, SCHEDULE, PICTURE, 2)},
        {"steps": st.one_of(NOT_OBJECT, st.builds(lambda bad: iter([bad]), NOT_OBJECT))},
    ),
    Call(
        "Unet",
        Unet,
        {
            "image_channels": 1,
            "channels": (8, 16),
            "condition_channels": 2,
            "inject": "input",
            "token_encoder": nn.Embedding(10, 4),
            "token_channels": 4,
            "attention": (1,),
            "heads": 4,
            "patch": 1,
            "placed": False,
        },
        {
            "image_channels": not_whole(1),
            "channels": st.one_of(
                JUNK,
                NOTHING,
                st.integers(),
                not_whole(8).map(lambda bad: (8, bad)),
                st.integers(9, 200).filter(lambda n: n % 8).map(lambda bad: (8, bad)),
            ),
            "condition_channels": not_whole(0),
            "inject": NOT_IN,
            "placed": st.one_of(JUNK, NOTHING, st.integers()),
            "token_encoder": st.one_of(JUNK, st.integers(), st.just(identity)),
            "token_channels": not_whole(0),
            "attention": st.one_of(
                JUNK, st.integers(), not_whole(0, 1).map(lambda bad: (0, bad))
            ).filter(lambda bad: bad != ""),
            "heads": not_whole(1),
            "patch": not_whole(1),
        },
    ),
    Call(
        "Unet.forward",
        lambda **arguments: tiny_unet()(**arguments),
        {"x_t": PICTURE, "t": torch.tensor([3, 4]), "condition": BOTH},
        {
            "x_t": not_tensor(2, 1, 4, 4, of=(torch.float32,)),
            "t": not_time(1, None, 2),
            "condition": st.one_of(
                NOT_CONDITION,
                st.just(CAPTIONED),
                st.just(Condition(image=BOTH.image)),
                st.integers(3, 9).map(lambda n: Condition.concatenate([BOTH] * n)),
                st.integers(5, 9).map(lambda n: Condition(torch.zeros(2, 2, n, n), TOKENS)),
                st.integers(10, 99).map(lambda n: Condition(BOTH.image, torch.full((2, 3), n))),
                st.integers(5, 9).map(lambda n: Condition(BOTH.image, torch.zeros(2, 3, n))),
            ),
        },
        {"x_t": ("the condition's image", "condition", "t"), "condition": ("tokens",)},
    ),
    Call(
        "time_embedding",
        time_embedding,
        {"t": torch.tensor([1, 2]), "channels": 8},
        {
            "t": st.one_of(JUNK, NOTHING, st.integers(), tensors(other_sizes(2, free=(0,)), INTS)),
            "channels": st.one_of(not_whole(2), st.integers(1, 50).map(lambda n: 2 * n + 1)),
        },
    ),
    Call(
        "place_embedding",
        place_embedding,
        {"height": 2, "width": 3},
        {"height": not_whole(1), "width": not_whole(1)},
    ),
    Call(
        "Velocity",
        Velocity,
        {"network": Learner(), "schedule": SCHEDULE},
        {"network": st.one_of(NOT_OBJECT, st.just(identity)), "schedule": NOT_OBJECT},
    ),
    Call(
        "KnownPixels",
        KnownPixels,
        {"network": Learner(), "schedule": SCHEDULE},
        {"network": st.one_of(NOT_OBJECT, st.just(identity)), "schedule": NOT_OBJECT},
    ),
    Call(
        "PatchTokens",
        PatchTokens,
        {"network": patchy_unet(), "condition_channels": 2},
        {
            "network": st.one_of(NOT_OBJECT, st.just(tiny_unet())),
            "condition_channels": not_whole(1),
        },
    ),
    Call(
        "PatchTokens.forward",
        lambda **arguments: PatchTokens(patchy_unet(), 2)(**arguments),
        {"x_t": PICTURE, "t": 3, "condition": Condition(image=BOTH.image)},
        {
            "x_t": not_tensor(2, 1, 4, 4, of=(torch.float32,)),
            "t": not_time(1, None, 2),
            "condition": st.one_of(
                NOT_CONDITION,
                st.sampled_from([CAPTIONED, BOTH]),
                st.integers(5, 9).map(lambda n: Condition(torch.zeros(2, 2, n, n))),
            ),
        },
        {"x_t": ("the condition's image",)},
    ),
    Call(
        "Velocity.forward",
        lambda x_t, t: Velocity(tiny_unet(), SCHEDULE)(x_t, t),
        {"x_t": PICTURE, "t": torch.tensor([3, 4])},
        {"x_t": not_tensor(2, 1, 4, 4, of=(torch.float32,)), "t": not_time(1, 10, 2)},
        {"x_t": ("t",)},
    ),
    Call(
        "ResidualBlock",
        lambda x, embedding: ResidualBlock(8, 16, 4)(x, embedding),
        {"x": torch.zeros(2, 8, 4, 4), "embedding": torch.zeros(2, 4)},
        {"x": not_tensor(2, 8, 4, 4, free=(2, 3)), "embedding": not_tensor(2, 4)},
        {"x": ("embedding",)},
    ),
    Call(
        "Attention",
        lambda x, context, mask: Attention(8, 2, 4)(x, context, mask),
        {
            "x": torch.zeros(2, 5, 8),
            "context": torch.zeros(2, 3, 4),
            "mask": torch.ones(2, 3).bool(),
        },
        {
            "x": not_tensor(2, 5, 8, free=(1,)),
            "context": not_tensor(2, 3, 4),
            "mask": not_tensor(2, 3, of=(torch.bool,), none=True),
        },
        {"x": ("context",), "context": ("mask",)},
    ),
    Call(
        "train",
        lambda **arguments: list(train(**arguments)),
        {
            "network": Learner(),
            "schedule": SCHEDULE,
            "batches": [(PICTURE, CAPTIONED)],
            "steps": 1,
            "drop": 0.1,
            "seed": 0,
            "folder": None,
            "save_every": 1,
            "learning_rate": 1e-3,
            "warm_up": 1,
            "decay": 0.9,
            "precision": "no",
            "target": "noise",
        },
        {
            "network": st.one_of(JUNK, NOTHING, st.just(identity)),
            "schedule": NOT_OBJECT,
            "batches": st.one_of(
                NOTHING,
                st.integers(),
                st.text(),
                st.just([]),
                tensors(st.just((2, 1, 4, 4)), FLOATS),
                NOT_OBJECT.map(lambda bad: [bad]),
                NOT_PICTURE.filter(lambda bad: not isinstance(bad, torch.Tensor)).map(
                    lambda bad: [(bad, None)]
                ),
                NOT_CONDITION.map(lambda bad: [(PICTURE, bad)]),
                st.integers(3, 9).map(lambda n: [(torch.zeros(n, 1, 4, 4), CAPTIONED)]),
            ),
            "steps": not_whole(1),
            "drop": not_number(0, 1),
            "seed": not_whole(0),
            "folder": st.one_of(st.integers(), st.floats(), st.just({}), st.lists(st.integers())),
            "save_every": not_whole(1),
            "learning_rate": not_number(0),
            "warm_up": not_whole(0),
            "decay": not_number(0, 1),
            "precision": NOT_IN,
            "target": NOT_IN,
        },
        {"batches": ("x_0",)},
    ),
    Call(
        "noise_loss",
        noise_loss,
        {
            "network": identity,
            "schedule": SCHEDULE,
            "x_0": PICTURE,
            "condition": None,
            "t": torch.tensor([1, 2]),
            "noise": PICTURE,
            "target": "velocity",
        },
        {
            "network": NOT_CALLABLE,
            "target": NOT_IN,
            "schedule": NOT_OBJECT,
            "x_0": NOT_PICTURE,
            "t": not_time(1, 10, 2),
            "noise": not_tensor(2, 1, 4, 4),
        },
        {"x_0": ("noise", "t")},
    ),
    Call(
        "update_average",
        update_average,
        {"average": Learner(), "network": Learner(), "decay": 0.9},
        {
            "average": st.one_of(NOT_OBJECT, st.integers(1, 9).map(lambda n: nn.Linear(n, n))),
            "network": st.one_of(NOT_OBJECT, st.integers(1, 9).map(lambda n: nn.Linear(n, n))),
            "decay": not_number(0, 1),
        },
        {"network": ("average",), "average": ("network",)},
    ),
    Call(
        "learning_rate_at",
        learning_rate_at,
        {"number": 1, "steps": 10, "peak": 1e-3, "warm_up": 2},
        {
            "number": not_whole(1, 10),
            "steps": not_whole(1),
            "peak": not_number(0),
            "warm_up": not_whole(0),
        },
    ),
    Call(
        "start_noise",
        start_noise,
        {"count": 2, "shape": (1, 4, 4), "seed": 0},
        {
            "count": not_whole(1),
            "shape": st.one_of(JUNK, NOTHING, not_whole(1).map(lambda bad: (1, bad))),
            "seed": not_whole(0),
        },
    ),
    Call(
        "load",
        load,
        {"name": "digits"},
        {"name": st.one_of(st.text("abc", min_size=1, max_size=9), NOTHING, st.integers())},
    ),
    Call(
        "batches",
        batches,
        {"x_0": PICTURE, "condition": CAPTIONED, "size": 1},
        {
            "x_0": NOT_PICTURE.filter(
                lambda bad: not isinstance(bad, torch.Tensor) or not bad.ndim or len(bad) != 2
            ),
            "condition": NOT_CONDITION,
            "size": not_whole(1, 2),
        },
    ),
    Call(
        "digit_condition",
        digit_condition,
        {"labels": [1, 2]},
        {
            "labels": st.one_of(
                JUNK,
                NOTHING,
                st.integers(),
                not_whole(0, 9).map(lambda bad: [1, bad]),
                not_tensor(2, of=INTS, free=(0,)),
                st.integers(10, 99).map(lambda bad: torch.tensor([1, bad])),
            )
        },
        {"labels": ("each digit",)},
    ),
    Call("digits", digits, {"split": "test"}, {"split": NOT_IN}),
    Call(
        "sample_scenes",
        sample_scenes,
        {"count": 2, "generator": None, "split": "train"},
        {"count": not_whole(1), "generator": NOT_GENERATOR, "split": NOT_IN},
    ),
    Call(
        "SceneStream",
        lambda **arguments: next(iter(SceneStream(**arguments))),
        {"size": 2, "condition": tokenise},
        {"size": not_whole(1), "condition": NOT_CALLABLE},
    ),
    Call("tokenise", tokenise, {"captions": ["a red star"]}, {"captions": NOT_CAPTIONS}),
    Call(
        "TextEncoder",
        TextEncoder,
        {"channels": 8, "layers": 1, "heads": 2},
        {
            "channels": st.one_of(not_whole(1), st.just(7), st.just(9), st.just(15)),
            "layers": not_whole(1),
            "heads": st.one_of(not_whole(1), st.just(3), st.just(5), st.just(16)),
        },
    ),
    Call(
        "TextEncoder.forward",
        TextEncoder(8, 1, 2),
        {"tokens": TOKENS},
        {
            "tokens": st.one_of(
                not_tensor(2, 3, of=INTS, free=(0, 1)),
                st.integers(23, 99).map(lambda bad: torch.full((1, 2), bad)),
                st.integers(11, 20).map(lambda length: torch.ones(1, length).long()),
            )
        },
    ),
    # Photos
    *(
        Call(function.__name__, function, {"path": CHELSEA}, {"path": NOT_PATH})
        for function in (read_photo, open_photo)
    ),
    Call(
        "as_image",
        as_image,
        {"picture": PHOTO[0]},
        {
            "picture": not_tensor(3, 8, 8, free=(1, 2)).filter(
                lambda bad: not isinstance(bad, torch.Tensor) or bad.ndim != 3 or len(bad) != 1
            )
        },
    ),
    Call(
        "as_tensor",
        as_tensor,
        {"picture": as_image(PHOTO[0])},
        {"picture": st.one_of(NOT_OBJECT, st.just(as_image(PHOTO[0]).convert("RGBA")))},
    ),
    Call(
        "crops",
        crops,
        {"pictures": [PHOTO[0].byte()], "size": 4, "batch": 2, "prepare": list, "repeats": 2},
        {
            "pictures": st.one_of(
                JUNK, NOTHING, st.just([]), NOT_OBJECT.map(lambda bad: [bad]), st.just([PHOTO[0]])
            ),
            "size": not_whole(1, 8),
            "batch": not_whole(1, 2),
            "prepare": NOT_CALLABLE,
            "repeats": not_whole(1),
        },
        {"size": ("pictures",)},
    ),
    *(
        Call(
            function.__name__,
            function,
            {"pictures": PHOTO, "factor": 2},
            {
                "pictures": not_tensor(1, 3, 8, 8, free=(0, 1, 2, 3)),
                "factor": st.one_of(not_whole(1), *([st.just(3)] if function is shrink else [])),
            },
            {"factor": ("pictures",)},
        )
        for function in (shrink, bicubic)
    ),
    Call(
        "back_project",
        back_project,
        {"pictures": PHOTO, "low": PHOTO[..., :2, :2], "rounds": 1},
        {
            "pictures": not_tensor(1, 3, 8, 8),
            "low": not_tensor(1, 3, 2, 2),
            "rounds": not_whole(0),
        },
        {"pictures": ("low",)},
    ),
    Call(
        "box_holes",
        box_holes,
        {"count": 2, "size": 8, "side": 4, "generator": None},
        {"count": not_whole(1), "size": not_whole(1), "side": not_whole(1, 8), **GENERATOR},
    ),
    Call(
        "half_holes",
        half_holes,
        {"count": 2, "size": 8, "generator": None},
        {"count": not_whole(1), "size": not_whole(1), **GENERATOR},
    ),
    Call(
        "free_form_holes",
        free_form_holes,
        {"count": 2, "size": 8, "strokes": 4, "generator": None},
        {"count": not_whole(1), "size": not_whole(1), "strokes": not_whole(1), **GENERATOR},
    ),
    Call(
        "to_enlarge",
        to_enlarge,
        {"pictures": PHOTO},
        {"pictures": not_tensor(1, 3, 8, 8, free=(0, 1))},
    ),
    Call(
        "to_fill",
        to_fill,
        {"pictures": PHOTO},
        {
            "pictures": not_tensor(1, 3, 8, 8, free=(0, 1)).filter(
                lambda bad: not isinstance(bad, torch.Tensor) or bad.shape[-2:] != bad.mT.shape[-2:]
            )
        },
    ),
    Call(
        "with_hole",
        with_hole,
        {"pictures": PHOTO, "mask": PHOTO[:, :1] > 0},
        {
            "pictures": not_tensor(1, 3, 8, 8, free=(1,)),
            "mask": not_tensor(1, 1, 8, 8, of=(torch.bool,)),
        },
        {"pictures": ("mask",)},
    ),
    Call(
        "known_patches",
        known_patches,
        {"mask": PHOTO[:, :1] > 0, "size": 4},
        {
            "mask": not_tensor(1, 1, 8, 8, of=(torch.bool,), free=(0, 2, 3)),
            "size": st.one_of(not_whole(1), st.integers(9, 99)),
        },
    ),
    # Numbers
    Call(
        "proportion_interval",
        proportion_interval,
        {"hits": 3, "count": 4},
        {"hits": not_whole(0, 4), "count": not_whole(1)},
    ),
    Call(
        "spread",
        spread,
        {"features": torch.zeros(4, 2), "labels": torch.tensor([0, 0, 1, 1])},
        {"features": not_tensor(4, 2, free=(1,)), "labels": not_tensor(4, of=INTS)},
        {"features": ("labels",)},
    ),
    Call(
        "nearest_distances",
        nearest_distances,
        {"pictures": PICTURE, "others": PICTURE},
        {"pictures": NOT_PICTURE, "others": not_tensor(2, 1, 4, 4, free=(0,))},
        {"pictures": ("others",)},
    ),
    Call(
        "frechet_distance",
        frechet_distance,
        {"features": torch.randn(6, 2), "real": torch.randn(5, 2)},
        {"features": not_tensor(6, 2, free=(0,)), "real": not_tensor(5, 2, free=(0,))},
        {"features": ("real",)},
    ),
    Call(
        "precision_recall",
        precision_recall,
        {"features": torch.zeros(6, 2), "real": torch.zeros(5, 2), "neighbours": 3},
        {
            "features": not_tensor(6, 2, free=(0,)),
            "real": not_tensor(5, 2, free=(0,)),
            "neighbours": not_whole(1, 4),
        },
        {"features": ("real",)},
    ),
    Call(
        "luma",
        luma,
        {"pictures": PHOTO},
        {"pictures": not_tensor(1, 3, 8, 8, free=(0, 2, 3))},
    ),
    Call("psnr", psnr, {"error": 3.0}, {"error": not_number()}),
    Call(
        "distortion",
        distortion,
        {"samples": torch.zeros(2, 3), "real": torch.zeros(3)},
        {"samples": not_tensor(2, 3, free=(0,)), "real": not_tensor(3)},
        {"samples": ("real",)},
    ),
    Call(
        "fine_power",
        fine_power,
        {"pictures": torch.zeros(1, 16, 16), "side": 8},
        {"pictures": not_tensor(1, 16, 16), "side": not_whole(2, 16)},
        {"pictures": ("side",)},
    ),
    # Applications
    Call(
        "Tiled",
        Tiled,
        {"network": identity, "size": 8, "overlap": 2, "batch": 2},
        {
            "network": NOT_CALLABLE,
            "size": not_whole(1),
            "overlap": not_whole(0, 7),
            "batch": not_whole(1),
        },
    ),
    Call(
        "Tiled.__call__",
        lambda x_t, condition: Tiled(identity, 4, 2)(x_t, 3, condition),
        {"x_t": PHOTO, "condition": Condition(image=PHOTO)},
        {
            "x_t": not_tensor(1, 3, 8, 8, free=(1,)),
            "condition": st.one_of(
                NOT_CONDITION,
                NOTHING,
                st.just(CAPTIONED),
                st.integers(1, 7).map(lambda n: Condition(image=PHOTO[..., :n])),
            ),
        },
        {"x_t": ("the condition's image",)},
    ),
    Call(
        "Scaler",
        Scaler,
        {"network": identity, "schedule": SCHEDULE, "size": 16},
        {"network": NOT_CALLABLE, "size": st.one_of(not_whole(16), st.integers(17, 31))},
    ),
    Call(
        "Scaler.enlarge",
        tiny("scaler").enlarge,
        {"photo": PHOTO[..., :2, :2], "scale": 1.0, "steps": 1, "seed": 0},
        {"photo": not_tensor(1, 3, 8, 8, free=(0, 2, 3)), **DRAWING},
    ),
    Call(
        "Mender.fill",
        tiny("mender").fill,
        {"photo": PHOTO, "mask": PHOTO[:, :1] == 0, "scale": 1.0, "steps": 1, "seed": 0},
        {
            "photo": not_tensor(1, 3, 8, 8),
            "mask": not_tensor(1, 1, 8, 8, of=(torch.bool,)),
            **DRAWING,
        },
        {"photo": ("mask",)},
    ),
    Call(
        "Artist.draw",
        tiny("artist").draw,
        {"asked": ["a small red star"], "scale": 1.0, "steps": 1, "seed": 0},
        {
            "asked": NOT_CAPTIONS.filter(lambda bad: not isinstance(bad, str)),
            **DRAWING,
        },
        {"asked": ("captions",)},
    ),
]
PAIRS = [
    pytest.param(call, argument, id=f"{call.name}: {argument}")
    for call in CALLS
    for argument in call.bad
]


def test_enough_is_tried():
    assert len(PAIRS) * LEAST >= 200
    functions = {call.name.split(".")[0] for call in CALLS}
    assert functions >= set(cfd_course.__all__)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_good_input_works(call):
    """Or a refusal below could be of something else."""
    call.function(**call.good)


@pytest.mark.parametrize("call, argument", PAIRS)
def test_bad_input_is_refused(call, argument):
    names = (argument, *call.partners.get(argument, ()))
    tried = set()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(call.bad[argument])
    def attempt(bad):
        tried.add(repr(bad))
        try:
            result = call.function(**{**call.good, argument: bad})
        except Exception as error:
            assert_ours(error, names)
            return
        raise AssertionError(f"{argument} = {bad!r} was taken: {result!r:.200}")

    attempt()
    assert len(tried) >= LEAST


def assert_ours(error, names):
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(innermost.filename)
    message = str(error)
    # Python ends a loop over the examples of a Condition by an IndexError.
    kinds = (IndexError,) if names == ("rows",) else (TypeError, ValueError)
    assert (
        isinstance(error, kinds)
        and file.is_relative_to(Path(cfd_course.__file__).parent)
        and innermost.lineno in raises(file)
    ), f"not an error of ours: {type(error).__name__}: {message} ({innermost})"
    assert any(name in message for name in names), f"{names} not named: {message}"
    assert "should" in message and "came" in message, message


@functools.cache
def raises(file):
    """The numbers of the lines that `raise` statements of a file take up."""
    statements = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Raise)]
    return {line for n in statements for line in range(n.lineno, n.end_lineno + 1)}
