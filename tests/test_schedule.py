"""NoiseSchedule against closed forms, against Diffusers' betas, and at both of its ends."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from cfd_course import NoiseSchedule

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(count=5, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 4, 4, generator=random, dtype=dtype)


@pytest.mark.parametrize("steps", [1, 2, 10, 1000, 4000])
def test_tables(kind, steps):
    schedule = kind(steps)
    assert schedule.steps == steps
    for table in (schedule.betas, schedule.alphas, schedule.alpha_bars):
        assert table.shape == (steps + 1,) and table.dtype == torch.float64
        assert table.isfinite().all()
    assert schedule.alpha_bars[0] == 1 and schedule.alphas[0] == 1 and schedule.betas[0] == 0
    assert (schedule.betas[1:] > 0).all() and (schedule.betas[1:] < 1).all()
    assert (schedule.alpha_bars.diff() < 0).all()
    assert schedule.alpha_bars[-1] >= 1e-5 * (1 - 1e-12)
    torch.testing.assert_close(schedule.alphas, 1 - schedule.betas, rtol=0, atol=1e-15)
    torch.testing.assert_close(schedule.alpha_bars, schedule.alphas.cumprod(0), rtol=1e-12, atol=0)


def test_everything_is_finite_at_both_ends(kind):
    schedule = kind(1000)
    t = torch.arange(1, 1001)
    x_0, noise = pictures(1000, 0, torch.float32), pictures(1000, 1, torch.float32)
    x_t = schedule.add_noise(x_0, t, noise)
    mean, variance = schedule.posterior(x_0, x_t, t)
    found = schedule.predict_x0(x_t, t, noise), schedule.predict_noise(x_t, t, x_0)
    for values in (x_t, mean, variance, schedule.snr(t), *found):
        assert values.isfinite().all()
    assert variance[0] == 0 and (variance[1:] > 0).all()


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("steps", [10, 1000])
def test_betas_equal_diffusers(name, steps):
    ours = getattr(NoiseSchedule, name)(steps, first=0.00085, last=0.012).betas[1:]
    theirs = DDPMScheduler(steps, 0.00085, 0.012, beta_schedule=name).betas
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-6, atol=0)


def test_default_ends_are_the_papers():
    linear, scaled = NoiseSchedule.linear().betas, NoiseSchedule.scaled_linear().betas
    assert linear[[1, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert scaled[[1, -1]].tolist() == pytest.approx([0.00085, 0.012])


@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_cosine_betas_equal_diffusers_where_neither_is_clipped(steps):
    schedule = NoiseSchedule.cosine(steps)
    theirs = DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2").betas
    exact = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    ours_unclipped = torch.tensor(exact[1:]) / exact[0] > 1e-5
    theirs_unclipped = theirs < 0.999
    free = ours_unclipped & theirs_unclipped
    assert (~free).sum() <= 3
    # Diffusers rounds each beta to float32.
    torch.testing.assert_close(schedule.betas[1:][free].float(), theirs[free], rtol=1e-6, atol=0)
    shares = torch.tensor(exact, dtype=torch.float64)[1:][free] / exact[0]
    torch.testing.assert_close(schedule.alpha_bars[1:][free], shares, rtol=1e-10, atol=0)


def test_cosine_offset():
    f = [math.cos(math.pi / 2 * (t / 4 + 0.1) / 1.1) ** 2 for t in range(4)]
    shares = NoiseSchedule.cosine(4, offset=0.1).alpha_bars[:4]
    torch.testing.assert_close(shares, torch.tensor(f, dtype=torch.float64) / f[0])


def test_betas_of_ones_stay_above_the_floor():
    schedule = NoiseSchedule([0.5, 1.0, 1.0])
    assert schedule.alpha_bars.tolist() == pytest.approx([1, 0.5, 0.5 * (2e-5) ** 0.5, 1e-5])


def test_add_noise_and_its_inverses(kind):
    schedule = kind(100)
    x_0, noise = pictures(seed=0), pictures(seed=1)
    t = torch.tensor([1, 2, 50, 99, 100])
    share = schedule.alpha_bars[t].reshape(5, 1, 1, 1)
    x_t = schedule.add_noise(x_0, t, noise)
    torch.testing.assert_close(x_t, share**0.5 * x_0 + (1 - share) ** 0.5 * noise)
    torch.testing.assert_close(schedule.predict_x0(x_t, t, noise), x_0)
    torch.testing.assert_close(schedule.predict_noise(x_t, t, x_0), noise)
    for row in range(5):  # a whole number stands for the same t everywhere
        alone = schedule.add_noise(x_0, int(t[row]), noise)
        assert torch.equal(alone[row], x_t[row])


def test_add_noise_is_many_single_steps(generator):
    """sqrt(alpha) x + sqrt(beta) noise, t times over, has the closed form's mean and variance."""
    schedule = NoiseSchedule.linear(20, first=0.01, last=0.3)
    count, t = 200_000, 20
    x = torch.full((count, 1), 2.0, dtype=torch.float64)
    for step in range(1, t + 1):
        fresh = torch.randn(count, 1, generator=generator, dtype=torch.float64)
        x = schedule.alphas[step].sqrt() * x + schedule.betas[step].sqrt() * fresh
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    mean = schedule.add_noise(nothing + 2, t, nothing)
    deviation = schedule.add_noise(nothing, t, nothing + 1)
    # Five standard errors of the mean, and of the variance.
    assert abs(x.mean() - mean) < 5 * deviation / count**0.5
    assert abs(x.var() / deviation**2 - 1) < 5 * (2 / count) ** 0.5


@pytest.mark.parametrize("t, s", [(1, 0), (2, 1), (50, 49), (50, 10), (100, 1), (100, 0)])
def test_posterior_is_bayes(kind, t, s):
    """q(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0): multiply the two Gaussians in
    x_s on a fine grid."""
    schedule = kind(100)
    x_0, x_t = torch.tensor([[0.3]]).double(), torch.tensor([[-0.4]]).double()
    mean, variance = schedule.posterior(x_0, x_t, t, s)
    if s == 0:
        torch.testing.assert_close(mean, x_0)
        assert variance == 0
        return
    share_t, share_s = schedule.alpha_bars[[t, s]].tolist()
    alpha = share_t / share_s
    x_s = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    log = -((x_t - alpha**0.5 * x_s) ** 2) / (2 * (1 - alpha))
    log = log - (x_s - share_s**0.5 * x_0) ** 2 / (2 * (1 - share_s))
    weight = log.flatten().softmax(0)
    first = (weight * x_s).sum()
    second = (weight * (x_s - first) ** 2).sum()
    assert mean.item() == pytest.approx(first.item(), abs=1e-6)
    assert variance.item() == pytest.approx(second.item(), rel=1e-4)


def test_posterior_is_what_single_steps_leave(generator):
    """Among many chains x_0 -> x_s -> x_t, regress x_s on x_t: the line and what remains are the
    posterior's mean and variance."""
    schedule = NoiseSchedule.linear(20, first=0.01, last=0.3)
    count, t, s = 200_000, 12, 7
    x_0 = torch.full((count, 1), 0.7, dtype=torch.float64)
    x = x_0
    for step in range(1, t + 1):
        fresh = torch.randn(count, 1, generator=generator, dtype=torch.float64)
        x = schedule.alphas[step].sqrt() * x + schedule.betas[step].sqrt() * fresh
        if step == s:
            x_s = x
    mean, variance = schedule.posterior(x_0, x, t, s)
    rest = x_s - mean
    assert abs(rest.mean()) < 5 * (variance.item() / count) ** 0.5
    assert abs(torch.corrcoef(torch.cat([rest, x], 1).T)[0, 1]) < 5 / count**0.5
    assert abs(rest.var() / variance.item() - 1) < 5 * (2 / count) ** 0.5


def test_posterior_of_a_single_step_is_the_papers(kind):
    """DDPM equations 6 and 7, with beta_t and alpha_t from the tables."""
    schedule = kind(100)
    x_0, x_t = pictures(seed=0), pictures(seed=1)
    t = torch.tensor([1, 2, 50, 99, 100])
    mean, variance = schedule.posterior(x_0, x_t, t)
    beta, alpha, share, before = (
        table.reshape(5, 1, 1, 1)
        for table in (
            schedule.betas[t],
            schedule.alphas[t],
            schedule.alpha_bars[t],
            schedule.alpha_bars[t - 1],
        )
    )
    expected = before.sqrt() * beta / (1 - share) * x_0
    expected = expected + alpha.sqrt() * (1 - before) / (1 - share) * x_t
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(variance, (1 - before) / (1 - share) * beta)
    assert variance.shape == (5, 1, 1, 1) and mean.shape == x_t.shape


def test_snr(kind):
    schedule = kind(100)
    t = torch.arange(1, 101)
    share = schedule.alpha_bars[1:]
    torch.testing.assert_close(schedule.snr(t), share / (1 - share))
    assert schedule.snr(7).shape == () and schedule.snr(7) == schedule.snr(t)[6]
    assert (schedule.snr(t).diff() < 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_keep_the_pictures_dtype(dtype):
    schedule = NoiseSchedule.cosine(10)
    x, t = pictures(dtype=torch.float32).to(dtype), torch.tensor([1, 2, 3, 9, 10])
    mean, variance = schedule.posterior(x, x, t)
    for values in (schedule.add_noise(x, t, x), schedule.predict_x0(x, t, x), mean, variance):
        assert values.dtype == dtype


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda s, x: NoiseSchedule.cosine(0), "steps should be at least 1, but 0 came"),
        (lambda s, x: NoiseSchedule.linear(10, first=0), "first should be in"),
        (lambda s, x: NoiseSchedule.linear(10, last=1.5), "last should be in"),
        (
            lambda s, x: NoiseSchedule([0.1, -0.1]),
            "betas should be a row of numbers in 1e-12..1, but",
        ),
        (lambda s, x: NoiseSchedule([1e-17]), "tensor of shape [1], from 1e-17 to 1e-17, came"),
        (lambda s, x: NoiseSchedule([]), "betas should be a row of numbers"),
        (lambda s, x: s.add_noise(x, 0, x), "t should be in 1..10, but 0..0 came"),
        (lambda s, x: s.add_noise(x, 11, x), "t should be in 1..10, but 11..11 came"),
        (
            lambda s, x: s.add_noise(x, torch.tensor([1, 2]), x),
            "t should have shape [5], but an int64 tensor of shape [2] came",
        ),
        (
            lambda s, x: s.add_noise(x, 1.0, x),
            "t should be an int tensor or a whole number, but 1.0 (float) came",
        ),
        (lambda s, x: s.add_noise(x, 1, x[:, :1]), "noise should have shape"),
        (lambda s, x: s.predict_x0(x, 1, x[:4]), "noise should have shape"),
        (lambda s, x: s.add_noise(x.long(), 1, x), "convert with .float()"),
        (lambda s, x: s.posterior(x, x, 5, 5), "s should be smaller than t"),
        (lambda s, x: s.posterior(x, x, 5, -1), "s should be in 0..10"),
        (lambda s, x: s.posterior(x, x, 1, 2), "s should be smaller than t"),
        (lambda s, x: s.snr(11), "t should be in 1..10"),
        (lambda s, x: s.add_noise(x, 3, x.to("meta")), "the pictures should lie in one place"),
    ],
)
def test_refusals_say_what_to_do(call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        call(NoiseSchedule.cosine(10), pictures())
    assert words in str(error.value)
