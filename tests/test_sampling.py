"""The samplers against Diffusers' schedulers, exact distributions and exact trajectories."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from cfd_course import GaussianMixture, NoiseSchedule, ddim, ddpm, dpm_solver, repaint
from cfd_course.guidance import guide_from
from cfd_course.sampling import (
    Step,
    cfg_plus,
    clip_guess,
    dynamic_threshold,
    euler,
    last,
    timesteps,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]

# ---- Diffusers: one step at a time, from the same x_t, with the same noise --------------------


def picture_denoiser(schedule):
    """The exact denoiser of pictures N(0, 0.5^2), and on top a fixed function of the neighbour on
    the left: some of the guesses of x_0 leave -1..1 and some do not."""

    def denoise(x_t, t):
        share = schedule.alpha_bars[t].item()
        return math.sqrt(1 - share) / (1 - 0.75 * share) * x_t + 0.2 * x_t.roll(1, -1).sin()

    return denoise


def start():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))


def theirs(kind, schedule, tables, **settings):
    """Diffusers' scheduler with our betas and trailing spacing; tables: "theirs" for its own, in
    float32 from the betas on, "ours" to put our float64 ones in their place."""
    scheduler = kind(
        num_train_timesteps=schedule.steps,
        trained_betas=schedule.betas[1:].numpy(),
        timestep_spacing="trailing",
        **settings,
    )
    if tables == "ours":
        scheduler.alphas_cumprod = schedule.alpha_bars[1:].clone()
    return scheduler


def clipping(clip):
    return {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}


def compare(steps, expected, tables):
    """In every step the largest difference is at most this share of the largest value."""
    assert steps[-1].t == 0
    for step, other in zip(steps, expected, strict=True):
        difference = (step.x_t - other).abs().max() / other.abs().max()
        assert difference <= {"theirs": 1e-3, "ours": 1e-5}[tables], step.t


def trajectory(steps, schedule, x_T, count):
    """(t, s, x_t, step) of every step, from T down to 0."""
    visited = timesteps(schedule, count)
    states = [x_T, *(step.x_t for step in steps)]
    assert [step.t for step in steps] == visited[1:]
    return zip(visited[:-1], visited[1:], states[:-1], steps, strict=True)


# All T of a short schedule, strides that divide T, and strides that don't.
COUNTS = [(40, 40), (1000, 20), (1000, 50), (1000, 30)]
EVEN_COUNTS = COUNTS[:-1]  # Diffusers' DDIM takes T // steps for every stride


@pytest.mark.parametrize("total, count", COUNTS)
def test_timesteps_equal_diffusers_trailing(kind, total, count):
    schedule = kind(total)
    for scheduler in (DDPMScheduler, DPMSolverMultistepScheduler):
        other = theirs(scheduler, schedule, "theirs")
        other.set_timesteps(count)
        # Diffusers counts from 0 and leaves the clean picture out.
        assert (other.timesteps + 1).tolist() == timesteps(schedule, count)[:-1]


@pytest.mark.parametrize("tables", ["theirs", "ours"])
@pytest.mark.parametrize("total, count", COUNTS)
@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("variance, name", [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ddpm_equals_diffusers(kind, total, count, clip, variance, name, tables):
    schedule, x_T = kind(total), start()
    denoise = picture_denoiser(schedule)
    our_noise, their_noise = (torch.Generator().manual_seed(1) for _ in range(2))
    steps = list(ddpm(denoise, schedule, x_T, count, variance, clip, our_noise))
    other = theirs(DDPMScheduler, schedule, tables, variance_type=name, **clipping(clip))
    other.set_timesteps(count)
    expected = []
    for t, s, x_t, _ in trajectory(steps, schedule, x_T, count):
        before = their_noise.get_state()
        x_s = other.step(denoise(x_t, t), t - 1, x_t, generator=their_noise).prev_sample
        if s == 0 and t > 1:
            # Diffusers leaves the noise out only where its own index is 0, which a strided run
            # never visits; the posterior of a step that lands on t = 0 has no variance, and
            # DDPM's algorithm 2 adds none. So take away what Diffusers added.
            their_noise.set_state(before)
            added = torch.randn(x_t.shape, generator=their_noise)
            x_s = x_s - other._get_variance(t - 1).float().sqrt() * added
        expected.append(x_s)
    compare(steps, expected, tables)


@pytest.mark.parametrize("tables", ["theirs", "ours"])
@pytest.mark.parametrize("total, count", EVEN_COUNTS)
@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(kind, total, count, clip, eta, tables):
    schedule, x_T = kind(total), start()
    denoise = picture_denoiser(schedule)
    our_noise, their_noise = (torch.Generator().manual_seed(1) for _ in range(2))
    steps = list(ddim(denoise, schedule, x_T, count, eta, clip, our_noise))
    other = theirs(DDIMScheduler, schedule, tables, **clipping(clip))
    other.set_timesteps(count)
    expected = [
        other.step(
            denoise(x_t, t),
            t - 1,
            x_t,
            eta=eta,
            use_clipped_model_output=True,  # as we do: the noise that goes with the clipped x_0
            generator=their_noise,
        ).prev_sample
        for t, _, x_t, _ in trajectory(steps, schedule, x_T, count)
    ]
    compare(steps, expected, tables)


@pytest.mark.parametrize("tables", ["theirs", "ours"])
@pytest.mark.parametrize("total, count", [*COUNTS, (1000, 5), (1000, 1)])
@pytest.mark.parametrize("clip", [1.0, None])
def test_dpm_solver_equals_diffusers(kind, total, count, clip, tables):
    schedule, x_T = kind(total), start()
    denoise = picture_denoiser(schedule)
    steps = list(dpm_solver(denoise, schedule, x_T, count, clip))
    other = theirs(
        DPMSolverMultistepScheduler,
        schedule,
        tables,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        # Dynamic thresholding whose threshold may not exceed 1 is a plain clamp to -1..1.
        thresholding=clip is not None,
        sample_max_value=1.0,
    )
    other.set_timesteps(count)
    if tables == "ours":  # set_timesteps has rounded them to float32
        shares = schedule.alpha_bars[timesteps(schedule, count)]
        other.sigmas = ((1 - shares) / shares).sqrt()
    expected = [
        other.step(denoise(x_t, t), t - 1, x_t).prev_sample
        for t, _, x_t, _ in trajectory(steps, schedule, x_T, count)
    ]
    compare(steps, expected, tables)


def test_the_comparison_clips_some_guesses_and_not_others(kind):
    schedule = kind(1000)
    steps = list(dpm_solver(picture_denoiser(schedule), schedule, start(), 20, None))
    outside = torch.stack([(step.x_0.abs() > 1).float().mean() for step in steps])
    assert outside.max() > 0.2 and outside.min() < 0.1


# ---- What a step is ---------------------------------------------------------------------------

SAMPLERS = [
    pytest.param(lambda *a, **k: ddpm(*a, **k), id="ddpm"),
    pytest.param(lambda *a, **k: ddpm(*a, variance="beta", **k), id="ddpm-beta"),
    pytest.param(lambda *a, **k: ddim(*a, **k), id="ddim"),
    pytest.param(lambda *a, **k: ddim(*a, eta=1.0, **k), id="ddim-eta"),
    pytest.param(lambda *a, **k: dpm_solver(*a, **k), id="dpm_solver"),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("total, count", [(1, 1), (2, 2), (7, 7), (7, 3), (1000, 1)])
def test_steps_land_on_the_clean_picture(kind, sampler, total, count):
    """Every number of steps works, also all T; the last step arrives at t = 0, where the picture
    is the guess of x_0."""
    schedule, asked = kind(total), []
    denoise = picture_denoiser(schedule)

    def asking(x_t, t):
        asked.append(t)
        return denoise(x_t, t)

    steps = list(sampler(asking, schedule, start(), steps=count))
    assert asked == timesteps(schedule, count)[:-1] and asked[0] == total
    assert [step.t for step in steps] == timesteps(schedule, count)[1:] and steps[-1].t == 0
    assert all(step.x_t.isfinite().all() for step in steps)
    torch.testing.assert_close(steps[-1].x_t, steps[-1].x_0)
    assert steps[-1].x_t.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_and_guess_belong_together(kind, sampler):
    """Also where the guess was clipped, x_t is the mixture of step.x_0 and step.noise."""
    schedule, x_t = kind(1000), start()
    t = 1000
    for step in sampler(picture_denoiser(schedule), schedule, x_t, steps=10):
        assert step.x_0.abs().max() <= 1
        mixed = schedule.add_noise(step.x_0, t, step.noise)
        torch.testing.assert_close(mixed, x_t, rtol=1e-4, atol=1e-4)
        t, x_t = step.t, step.x_t


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_stop_when_asked_and_leave_x_T_alone(sampler):
    schedule, x_T = NoiseSchedule.cosine(10), start()
    asked = []
    steps = sampler(lambda x, t: asked.append(t) or x, schedule, x_T, steps=10)
    assert asked == []  # a generator: nothing happens before the first step is wanted
    next(steps), next(steps)
    assert asked == [10, 9] and torch.equal(x_T, start())


@pytest.mark.parametrize(
    "sampler", [ddpm, lambda *a, **k: ddim(*a, eta=1.0, **k)], ids=["ddpm", "ddim"]
)
def test_randomness_is_the_generators(sampler):
    schedule = NoiseSchedule.cosine(10)

    def run(seed):
        random = torch.Generator().manual_seed(seed)
        return last(
            sampler(picture_denoiser(schedule), schedule, start(), generator=random, steps=5)
        )

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_ddim_with_eta_1_is_ddpm(kind):
    """Song et al. (2021), section 4.1: with eta 1 the two samplers are the same."""
    schedule = kind(1000)
    denoise = picture_denoiser(schedule)
    pair = [torch.Generator().manual_seed(1) for _ in range(2)]
    x_T = start().double()
    one = ddpm(lambda x, t: denoise(x.float(), t).double(), schedule, x_T, 25, generator=pair[0])
    other = ddim(
        lambda x, t: denoise(x.float(), t).double(), schedule, x_T, 25, 1.0, generator=pair[1]
    )
    torch.testing.assert_close(last(one), last(other), rtol=1e-6, atol=1e-6)


def test_clip_guess(kind):
    schedule, x_t = kind(1000), start()
    noise = picture_denoiser(schedule)(x_t, 900)
    free, same = clip_guess(schedule, x_t, 900, noise, None)
    torch.testing.assert_close(free, schedule.predict_x0(x_t, 900, noise))
    assert torch.equal(same, noise)
    x_0, recomputed = clip_guess(schedule, x_t, 900, noise, 0.5)
    torch.testing.assert_close(x_0, free.clamp(-0.5, 0.5))
    torch.testing.assert_close(schedule.add_noise(x_0, 900, recomputed), x_t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_keep_the_dtype(sampler, dtype):
    schedule = NoiseSchedule.cosine(10)
    x = last(sampler(lambda x, t: 0.9 * x, schedule, start().to(dtype), steps=3))
    assert x.dtype == dtype and x.isfinite().all()


# ---- Where the steps go, and what is known of the guess ---------------------------------------


def test_timesteps_with_a_power():
    schedule = NoiseSchedule.cosine(1000)
    squares = [1000, 640, 360, 160, 40, 0]  # 1000 times (1 - i / 5) squared
    assert timesteps(schedule, 5, power=2) == squares
    assert timesteps(schedule, 5) == timesteps(schedule, 5, power=1) == [*range(1000, -1, -200)]
    # 8.1 and less would come twice, or leave steps without a t: it is at least what is left.
    assert timesteps(schedule, 100, power=2)[-12:] == [12, *range(10, -1, -1)]
    assert timesteps(schedule, 25, power=2)[-6:] == [40, 26, 14, 6, 2, 0]


@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 10])
def test_timesteps_always_fall_to_zero(power):
    for total in (1, 2, 3, 7, 40, 101):
        schedule = NoiseSchedule.cosine(total)
        for steps in range(1, total + 1):
            visited = timesteps(schedule, steps, power)
            assert len(visited) == steps + 1
            assert (visited[0], visited[-1]) == (total, 0)
            assert all(t > s for t, s in zip(visited, visited[1:], strict=False)), (total, steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_steps_may_be_a_list(kind, sampler):
    schedule = kind(1000)
    denoise = picture_denoiser(schedule)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        counted = list(sampler(denoise, schedule, start(), steps=20))
        torch.manual_seed(0)
        listed = list(sampler(denoise, schedule, start(), steps=timesteps(schedule, 20)))
    assert [step.t for step in listed] == timesteps(schedule, 20)[1:]
    assert torch.equal(counted[-1].x_t, listed[-1].x_t)
    asked = []
    uneven = (800, 333, 7, 0)  # may begin anywhere: from a picture that is noisy already
    steps = list(sampler(lambda x, t: asked.append(t) or x, schedule, start(), steps=uneven))
    assert asked == [800, 333, 7] and [step.t for step in steps] == [333, 7, 0]


def test_clip_guess_by_a_function(kind):
    schedule, x_t = kind(1000), start()
    noise = picture_denoiser(schedule)(x_t, 900)
    free, _ = clip_guess(schedule, x_t, 900, noise, None)
    x_0, recomputed = clip_guess(schedule, x_t, 900, noise, lambda guess: guess / 2 + 0.1)
    torch.testing.assert_close(x_0, free / 2 + 0.1)
    torch.testing.assert_close(schedule.add_noise(x_0, 900, recomputed), x_t)
    clamped = clip_guess(schedule, x_t, 900, noise, lambda guess: guess.clamp(-1, 1))
    for one, other in zip(clamped, clip_guess(schedule, x_t, 900, noise, 1.0), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_clip_knows_is_in_the_picture(kind, sampler):
    """Half the picture is known: every guess has it, and so has the picture in the end."""
    schedule, known = kind(1000), start().clamp(-1, 1)
    left = torch.arange(8) < 4

    def put_right(x_0):
        return torch.where(left, known, x_0.clamp(-1, 1))

    x_T = start().flip(0)
    for step in sampler(picture_denoiser(schedule), schedule, x_T, steps=10, clip=put_right):
        assert torch.equal(step.x_0[..., :4], known[..., :4])
    torch.testing.assert_close(step.x_t[..., :4], known[..., :4])
    assert step.x_t[..., 4:].isfinite().all()


# ---- RePaint ----------------------------------------------------------------------------------


def test_repaint_keeps_what_is_known():
    schedule, known = NoiseSchedule.cosine(100), start().clamp(-1, 1)
    mask = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.5
    steps = list(repaint(picture_denoiser(schedule), schedule, start(), known, mask))
    everywhere = mask.expand_as(known)
    assert steps[-1].t == 0 and steps[-1].x_t.isfinite().all()
    assert torch.equal(steps[-1].x_t[~everywhere], known[~everywhere])
    assert not torch.equal(steps[-1].x_t[everywhere], known[everywhere])
    # What is hidden may be anything.
    hidden = torch.where(mask, torch.full_like(known, 7.0), known)
    one, other = (
        last(
            repaint(
                picture_denoiser(schedule),
                schedule,
                start(),
                picture,
                mask,
                generator=torch.Generator().manual_seed(1),
            )
        )
        for picture in (known, hidden)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "settings, calls",
    [
        ({}, 50 + 9 * 5 * 4),
        ({"resampling": 1}, 50),
        ({"steps": 20, "jump": 10, "resampling": 3}, 20 + 1 * 10 * 2),
        ({"steps": 10, "jump": 1, "resampling": 2}, 10 + 9),
        ({"steps": 10, "jump": 10}, 10),
    ],
)
def test_repaint_calls(settings, calls):
    asked = []

    def denoise(x_t, t):
        asked.append(t)
        return x_t

    schedule, mask = NoiseSchedule.cosine(100), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    arrived = [step.t for step in repaint(denoise, schedule, start(), start(), mask, **settings)]
    assert len(asked) == len(arrived) == calls
    if not settings:
        assert calls == 230
    visited = timesteps(schedule, settings.get("steps", 50))
    assert set(asked) == set(visited[:-1]) and arrived[-1] == 0
    # From each t to the next; and after `jump` steps back up to where these began.
    jump = settings.get("jump", 5)
    for t, s, after in zip(asked, arrived, asked[1:], strict=False):
        assert visited.index(s) == visited.index(t) + 1
        assert after in (s, visited[visited.index(s) - jump])


def test_repaint_walks_as_the_paper_says():
    """Steps 6, jump 2, resampling 2: down two, up two, and so on. Algorithm 1."""
    schedule, asked = NoiseSchedule.cosine(6), []
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    for _ in repaint(
        lambda x, t: asked.append(t) or x, schedule, start(), start(), mask, 6, jump=2, resampling=2
    ):
        pass
    assert asked == [6, 5, 4, 5, 4, 3, 2, 3, 2, 1]


def test_repaint_renoises_to_the_right_marginal():
    """With a denoiser that knows x_0 every x_t it is shown, after a jump too and in both parts,
    is distributed as q(x_t | x_0): its noise is standard normal, within five standard deviations
    of 60,000 numbers."""
    schedule, random = NoiseSchedule.cosine(100), torch.Generator().manual_seed(3)
    shape = (30_000, 1, 1, 2)
    x_0 = torch.rand(shape, generator=random).double() * 2 - 1
    mask = torch.tensor([True, False]).expand(30_000, 1, 1, 2)
    found = []

    def denoise(x_t, t):
        noise = schedule.predict_noise(x_t, t, x_0)
        found.append(torch.stack([noise.mean(), noise.var(), noise.flatten(1).prod(1).mean()]))
        return noise

    x_T = schedule.add_noise(x_0, 100, torch.randn(shape, generator=random).double())
    settings = {"steps": 10, "jump": 2, "resampling": 2, "clip": None, "generator": random}
    final = last(repaint(denoise, schedule, x_T, x_0, mask, **settings))
    torch.testing.assert_close(final, x_0)
    mean, variance, together = torch.stack(found).T
    assert len(found) == 18
    assert mean.abs().max() < 5 / 60_000**0.5
    assert (variance - 1).abs().max() < 5 * (2 / 60_000) ** 0.5
    assert together.abs().max() < 5 / 30_000**0.5  # the two parts have noise of their own


def pairs_denoiser(schedule, mixture):
    """The mixture's exact denoiser, for its points as pictures of 1x2 pixels."""
    exact = mixture.denoiser(schedule)
    return lambda x_t, t: exact(x_t.flatten(1), t).reshape(x_t.shape)


CORRELATED = GaussianMixture([[0.1, -0.2]], [[[0.25, 0.2], [0.2, 0.25]]])


def way_to_the_conditional_mean(known_left, **settings):
    """How far RePaint's fillings of the right pixel, given the left one, have come from the plain
    mean of the right pixel, 0, to its mean given the left one, 1. 2,000 fillings."""
    schedule, random = NoiseSchedule.cosine(1000), torch.Generator().manual_seed(4)
    shape = (2_000, 1, 1, 2)
    mask = torch.tensor([False, True]).expand(shape)
    denoise, x_T = pairs_denoiser(schedule, CORRELATED), torch.randn(shape, generator=random)
    known = torch.full(shape, known_left)
    steps = repaint(denoise, schedule, x_T, known, mask, clip=None, generator=random, **settings)
    filled = last(steps)
    assert bool((filled[..., 0] == known_left).all())
    plain, given = -0.2, -0.2 + 0.8 * (known_left - 0.1)
    return (float(filled[..., 1].mean()) - plain) / (given - plain)


@pytest.mark.parametrize("known_left", [-0.6, 0.8])
def test_repaint_fills_with_the_conditional_mean(known_left):
    """With short jumps, repeated often, it is reached to a tenth. RePaint is an approximation: each
    step draws the hole from a noisy view of what is known. So its defaults come four fifths of the
    way, here held to between 0.75 and 0.9, and without resampling it is less."""
    exact = way_to_the_conditional_mean(known_left, jump=1, resampling=10)
    default = way_to_the_conditional_mean(known_left)
    once = way_to_the_conditional_mean(known_left, resampling=1)
    assert exact == pytest.approx(1, abs=0.1)
    assert 0.75 < default < 0.9
    assert once < 0.7


# ---- Exact distributions ----------------------------------------------------------------------

MIXTURE = GaussianMixture(
    [[-0.8, 0.1], [0.6, 0.7], [0.5, -0.7]],
    [[[0.06, 0.01], [0.01, 0.05]], [[0.09, -0.03], [-0.03, 0.06]], [[0.05, 0], [0, 0.12]]],
    [0.2, 0.3, 0.5],
)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda *a, g: ddpm(*a, clip=None, generator=g), id="ddpm-posterior"),
        pytest.param(
            lambda *a, g: ddpm(*a, variance="beta", clip=None, generator=g), id="ddpm-beta"
        ),
        pytest.param(lambda *a, g: ddim(*a, steps=1000, clip=None), id="ddim"),
        pytest.param(lambda *a, g: dpm_solver(*a, steps=100, clip=None), id="dpm_solver"),
    ],
)
def test_samplers_reach_the_mixture(run, generator):
    """20,000 points, no network: the mean within 0.03, and the variance within 5% in every
    direction (the eigenvalues of C^-1 times the samples' covariance)."""
    assert torch.linalg.eigvalsh(MIXTURE.covariances).min() >= 0.2**2
    schedule = NoiseSchedule.cosine(1000)
    x_T = torch.randn(20_000, 2, generator=generator)
    x = last(run(MIXTURE.denoiser(schedule), schedule, x_T, g=generator)).double()
    assert (x.mean(0) - MIXTURE.mean()).abs().max() < 0.03
    ratios = torch.linalg.eigvals(torch.linalg.solve(MIXTURE.covariance(), torch.cov(x.T))).real
    assert (ratios - 1).abs().max() < 0.05
    # Each component has its share of the points: nothing collapsed.
    nearest = torch.cdist(x, MIXTURE.means).argmin(1)
    truth = torch.cdist(MIXTURE.sample(200_000, generator).double(), MIXTURE.means).argmin(1)
    shares, wanted = (n.bincount(minlength=3) / len(n) for n in (nearest, truth))
    assert (shares - wanted).abs().max() < 0.02


# ---- Exact trajectories -----------------------------------------------------------------------

GAUSSIAN = GaussianMixture([[0.4, -0.3]], [[[0.3, 0.1], [0.1, 0.15]]])


def flow(schedule, x_T, t):
    """Where the probability-flow ODE carries x_T of one Gaussian: along each eigen-direction, with
    variance l, x_t - sqrt(alpha_bar) m grows like sqrt(alpha_bar l + 1 - alpha_bar)."""
    variances, axes = torch.linalg.eigh(GAUSSIAN.covariances[0])
    mean, begin, end = GAUSSIAN.means[0], schedule.alpha_bars[-1], schedule.alpha_bars[t]
    growth = ((end * variances + 1 - end) / (begin * variances + 1 - begin)).sqrt()
    return end.sqrt() * mean + ((x_T - begin.sqrt() * mean) @ axes * growth) @ axes.T


def errors(sampler, schedule, t):
    """How far from the flow a run of 50 and one of 100 steps are at t."""
    random = torch.Generator().manual_seed(0)
    x_T = torch.randn(64, 2, dtype=torch.float64, generator=random)
    found = []
    for steps in (50, 100):  # equal strides of 20 and of 10: both visit t = 200
        run = sampler(GAUSSIAN.denoiser(schedule), schedule, x_T, steps, clip=None)
        (x_t,) = (step.x_t for step in run if step.t == t)
        found.append((x_t - flow(schedule, x_T, t)).norm().item())
    return found


@pytest.mark.parametrize("sampler, order, within", [(ddim, 1, 0.1), (dpm_solver, 2, 0.15)])
def test_order_of_convergence(kind, sampler, order, within):
    coarse, fine = errors(sampler, kind(1000), 200)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=within)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
@pytest.mark.parametrize("t", [1, 2])
def test_the_step_onto_the_clean_picture_is_first_order(kind, sampler, t):
    """From a point exactly on the flow, one step from t to 0 falls short by a first-order error,
    whatever the sampler: it takes the mean of x_0 given x_t, for there is no finite lambda to go on
    to. Expanding the flow and that mean in 1 - alpha_bar_t, they differ along an eigen-direction by
    (1 - alpha_bar_t) / (2 l) of the distance to the mean, up to second order."""
    whole = kind(1000)
    x_T = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    variances, axes = torch.linalg.eigh(GAUSSIAN.covariances[0])
    short = NoiseSchedule(whole.betas[1 : t + 1])  # the first t of the steps
    (step,) = sampler(GAUSSIAN.denoiser(short), short, flow(whole, x_T, t), 1, clip=None)
    target = flow(whole, x_T, 0)
    missed = (target - step.x_t) @ axes / (1 - whole.alpha_bars[t])
    expected = (target - GAUSSIAN.means[0]) @ axes / (2 * variances)
    torch.testing.assert_close(missed, expected, rtol=0.05, atol=0)


# ---- Refusals ---------------------------------------------------------------------------------

COSINE = NoiseSchedule.cosine(10)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: ddpm(None, COSINE, x), "denoise should be callable as denoise(x_t, t)"),
        (lambda x: ddpm(lambda x, t: x, "cosine", x), "schedule should be of type NoiseSchedule"),
        (lambda x: ddpm(lambda x, t: x, COSINE, [1.0]), "x_T should be a float tensor"),
        (lambda x: ddpm(lambda x, t: x, COSINE, x[:0]), "x_T should have shape [B, D, ...]"),
        (lambda x: ddpm(lambda x, t: x, COSINE, x, 11), "steps should be in 1..10, but 11 came"),
        (lambda x: ddim(lambda x, t: x, COSINE, x), "steps should be in 1..10, but 50 came"),
        (lambda x: ddpm(lambda x, t: x, COSINE, x, variance="large"), "variance should be one of"),
        (lambda x: ddim(lambda x, t: x, COSINE, x, 5, eta=2), "eta should be in 0..1, but 2 came"),
        (lambda x: dpm_solver(lambda x, t: x, COSINE, x, 5, clip=-1), "clip should be finite"),
        (lambda x: ddpm(lambda x, t: x, COSINE, x, generator=3), "generator should be of type Gen"),
        (lambda x: ddpm(lambda x, t: x[:1], COSINE, x), "what denoise returned should have shape"),
        (lambda x: ddpm(lambda x, t: None, COSINE, x), "what denoise returned should be a float"),
        (lambda x: iter([last(iter([]))]), "the last of steps should be of type Step"),
        (lambda x: iter([last(x)]), "steps should be of type Iterator"),
        (
            lambda x: iter([clip_guess(COSINE, x, 5, x, 0)]),
            "clip should be finite",
        ),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, 5, clip=lambda x_0: x_0[:1]),
            "what clip returned should have shape",
        ),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, 5, clip=lambda x_0: None),
            "what clip returned should be a float tensor",
        ),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, [10, 5]),
            "steps should fall from at most",
        ),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, [5, 5, 0]),
            "steps should fall from at most",
        ),
        (lambda x: ddim(lambda x, t: x, COSINE, x, [0]), "steps should fall from at most"),
        (lambda x: ddim(lambda x, t: x, COSINE, x, []), "steps should fall from at most"),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, [11, 0]),
            "steps should fall from at most",
        ),
        (lambda x: ddim(lambda x, t: x, COSINE, x, [5.0, 0]), "each of steps should be a whole"),
        (
            lambda x: ddim(lambda x, t: x, COSINE, x, 5.0),
            "steps should be a whole number or",
        ),
        (lambda x: iter(timesteps(COSINE, 5, power=0.5)), "power should be in 1..10, but 0.5"),
        (lambda x: repaint(lambda x, t: x, COSINE, x, x, x > 0), "mask should have shape"),
        (
            lambda x: repaint(lambda x, t: x, COSINE, x, x, x[:, :1]),
            "mask should be a bool tensor",
        ),
        (
            lambda x: repaint(lambda x, t: x, COSINE, x, x[..., :4], x[:, :1] > 0),
            "known should have shape",
        ),
        (
            lambda x: repaint(lambda x, t: x, COSINE, x, x, x[:, :1] > 0, 5, jump=0),
            "jump should be at least 1",
        ),
        (
            lambda x: repaint(lambda x, t: x, COSINE, x, x, x[:, :1] > 0, 5, resampling=0),
            "resampling should be at least 1",
        ),
        (
            lambda x: repaint(lambda x, t: x, COSINE, x, x, x[:, :1] > 0),
            "steps should be in 1..10, but 50 came",
        ),
    ],
)
def test_refusals_say_what_to_do(call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        next(call(start()))
    assert words in str(error.value)


def test_last_is_the_picture():
    x = start()
    assert last(iter([Step(1, x + 1, x, x), Step(0, x, x, x)])) is x


def test_cfg_plus_is_guidance_with_a_scale_for_each_step():
    """Chung et al. (2024), with what multiplies the difference of the two predictions
    collected, is a DDIM step of the guidance of 2022; without clipping, to 10 digits."""
    mixture = GaussianMixture([[-1.0, 0], [1, 1]], torch.eye(2).repeat(2, 1, 1) * 0.3)
    schedule = NoiseSchedule.cosine(1000)
    null, told = mixture.denoiser(schedule), mixture.denoiser(schedule, 1)
    x_T = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    size = ((1 - schedule.alpha_bars) / schedule.alpha_bars).sqrt()
    times = timesteps(schedule, 8)
    scales = {
        t: 0.7 / (1 - float(size[s] / size[t])) for t, s in zip(times[:-1], times[1:], strict=True)
    }
    plus = last(cfg_plus(null, told, schedule, x_T, 8, 0.7, clip=None))
    denoise = guide_from(null, told, scales.__getitem__)
    torch.testing.assert_close(
        plus, last(ddim(denoise, schedule, x_T, 8, clip=None)), rtol=1e-6, atol=1e-8
    )


def test_cfg_plus_at_0_draws_what_nobody_asked_for_and_clips():
    schedule = NoiseSchedule.cosine(100)
    null, told = (lambda x, t: x.tanh()), (lambda x, t: -x)
    x_T = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = list(cfg_plus(null, told, schedule, x_T, 10, 0.0, clip=None))
    torch.testing.assert_close(steps[-1].x_t, last(ddim(null, schedule, x_T, 10, clip=None)))
    assert [step.t for step in steps] == timesteps(schedule, 10)[1:]
    assert all(step.x_0.abs().max() <= 1 for step in cfg_plus(null, told, schedule, x_T, 10, 5.0))


# ---- Straight paths ---------------------------------------------------------------------------


def gaussian_velocity(mean, spread):
    """E[noise - x_0 | x_s] for x_0 ~ N(mean, spread^2), in closed form."""

    def velocity(x_s, t):
        s = t / 1000
        variance = (1 - s) ** 2 * spread**2 + s**2
        return -mean + (s - (1 - s) * spread**2) / variance * (x_s - (1 - s) * mean)

    return velocity


def test_euler_arrives_where_the_exact_path_leads_and_errs_in_first_order():
    """For a Gaussian the exact path ends at mean + spread * x_1."""
    x_1 = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for steps in (50, 100, 200):
        x_0 = last(euler(gaussian_velocity(1.5, 0.4), x_1, steps))
        errors.append(float((x_0 - (1.5 + 0.4 * x_1)).abs().max()))
    assert errors[2] < 0.02
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_one_picture_is_reached_in_one_step():
    x_1 = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    steps = list(euler(gaussian_velocity(0.7, 0.0), x_1, 4))
    assert [step.t for step in steps] == [750, 500, 250, 0]
    for step in steps:
        torch.testing.assert_close(step.x_0, torch.full((4, 2), 0.7))
        torch.testing.assert_close(step.noise, x_1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(steps[-1].x_t, torch.full((4, 2), 0.7))
    torch.testing.assert_close(last(euler(gaussian_velocity(0.7, 0.0), x_1, 1)), steps[-1].x_t)


def test_dynamic_thresholds_are_those_of_diffusers():
    sizes = torch.tensor([0.2, 1.5, 5.0])[:, None, None, None]
    x_0 = sizes * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for percentile in (0.7, 0.995):
        settings = {"dynamic_thresholding_ratio": percentile, "sample_max_value": 100.0}
        theirs = DDPMScheduler(thresholding=True, **settings)._threshold_sample(x_0)
        torch.testing.assert_close(dynamic_threshold(x_0, percentile), theirs)
    pale, strong = x_0[:1], x_0[2:]
    assert torch.equal(dynamic_threshold(pale, 0.9), pale)
    static, dynamic = strong.clamp(-1, 1), dynamic_threshold(strong, 0.9)
    assert len(static.unique()) < 0.3 * strong.numel() < 0.8 * len(dynamic.unique())


def test_a_sampler_takes_a_dynamic_threshold():
    schedule = NoiseSchedule.cosine(100)
    x_T = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = ddim(lambda x, t: -3 * x, schedule, x_T, 10, clip=dynamic_threshold)
    assert all(step.x_0.abs().max() <= 1 + 1e-6 for step in steps)
