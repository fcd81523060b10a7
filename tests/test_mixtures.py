"""GaussianMixture, the oracle, against torch.distributions, autograd and brute force."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from cfd_course import GaussianMixture, NoiseSchedule

pytestmark = pytest.mark.usefixtures("one_thread")

MEANS = [[-0.8, 0.1], [0.6, 0.7], [0.5, -0.7]]
COVARIANCES = [[[0.06, 0.01], [0.01, 0.05]], [[0.09, -0.03], [-0.03, 0.06]], [[0.05, 0], [0, 0.12]]]
WEIGHTS = [0.2, 0.3, 0.5]


@pytest.fixture
def mixture():
    return GaussianMixture(MEANS, COVARIANCES, WEIGHTS, labels=[4, 7, 4])


def reference(mixture, share=1.0):
    """The density of x_t, by torch.distributions."""
    covariances = share * mixture.covariances + (1 - share) * torch.eye(2, dtype=torch.float64)
    return MixtureSameFamily(
        Categorical(mixture.weights), MultivariateNormal(share**0.5 * mixture.means, covariances)
    )


def points(count=200):
    random = torch.Generator().manual_seed(3)
    return 1.5 * torch.randn(count, 2, dtype=torch.float64, generator=random)


@pytest.mark.parametrize("share", [1.0, 0.999, 0.5, 1e-5])
def test_log_density_equals_torch(mixture, share):
    x = points()
    torch.testing.assert_close(
        mixture.log_density(x, share), reference(mixture, share).log_prob(x), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("share", [1.0, 0.999, 0.5, 1e-5])
def test_score_is_the_gradient_of_the_log_density(mixture, share):
    x = points().requires_grad_()
    (gradient,) = torch.autograd.grad(reference(mixture, share).log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x, share), gradient, rtol=1e-9, atol=1e-9)
    (own,) = torch.autograd.grad(mixture.log_density(x, share).sum(), x)
    torch.testing.assert_close(own, gradient, rtol=1e-9, atol=1e-9)


def test_a_share_for_each_point(mixture):
    x, shares = points(3), torch.tensor([1.0, 0.5, 0.1])
    for values in (mixture.log_density, mixture.score):
        alone = [values(x[[row]], float(shares[row])) for row in range(3)]
        torch.testing.assert_close(values(x, shares), torch.cat(alone), rtol=1e-6, atol=1e-6)


def test_far_away_points_stay_finite(mixture):
    x = torch.tensor([[60.0, -80.0]])
    assert mixture.log_density(x).isfinite() and mixture.score(x).isfinite().all()


def test_moments(mixture):
    exact = reference(mixture)
    torch.testing.assert_close(mixture.mean(), exact.mean)
    torch.testing.assert_close(mixture.covariance().diagonal(), exact.variance)
    weights, means = mixture.weights, mixture.means
    second = sum(
        weight * (covariance + torch.outer(mean, mean))
        for weight, covariance, mean in zip(weights, mixture.covariances, means, strict=True)
    )
    mean = exact.mean
    torch.testing.assert_close(mixture.covariance(), second - torch.outer(mean, mean))


def test_samples_have_the_moments(mixture, generator):
    count = 100_000
    x = mixture.sample(count, generator)
    assert x.shape == (count, 2) and x.dtype == torch.float32
    assert (x.mean(0) - mixture.mean()).abs().max() < 5 * (0.5 / count) ** 0.5
    torch.testing.assert_close(torch.cov(x.double().T), mixture.covariance(), rtol=0, atol=0.01)
    # Every component alone: the points nearest to its mean, where the three hardly overlap.
    means = torch.tensor([[-9.0, 0], [9, 0], [0, 9]])
    apart = GaussianMixture(means, COVARIANCES, WEIGHTS)
    x = apart.sample(count, generator)
    nearest = torch.cdist(x, means).argmin(1)
    for component in range(3):
        mine = x[nearest == component].double()
        assert abs(len(mine) / count - WEIGHTS[component]) < 5 * (0.25 / count) ** 0.5
        torch.testing.assert_close(
            torch.cov(mine.T), apart.covariances[component], rtol=0, atol=0.005
        )


def test_samples_repeat_with_the_generator(mixture):
    first, second, other = (
        mixture.sample(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_weights_are_scaled_and_equal_by_default():
    mixture = GaussianMixture(MEANS, COVARIANCES, [2, 3, 5])
    torch.testing.assert_close(mixture.weights, torch.tensor(WEIGHTS, dtype=torch.float64))
    plain = GaussianMixture(MEANS, COVARIANCES)
    assert plain.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert plain.labels.tolist() == [0, 1, 2]


def test_given_a_label(mixture):
    four = mixture.given(4)
    assert four.weights.tolist() == pytest.approx([2 / 7, 5 / 7])
    assert four.means.tolist() == [MEANS[0], MEANS[2]]
    assert mixture.given(None) is mixture


@pytest.mark.parametrize("share", [1.0, 0.5, 1e-3])
def test_label_probability_is_bayes(mixture, share):
    """p(label | x) = p(label) p(x | label) / p(x), with densities from torch.distributions."""
    x = points()
    for label, prior in ((4, 0.7), (7, 0.3)):
        within = reference(mixture.given(label), share).log_prob(x)
        expected = prior * (within - reference(mixture, share).log_prob(x)).exp()
        torch.testing.assert_close(mixture.label_probability(x, label, share), expected)
    total = mixture.label_probability(x, 4, share) + mixture.label_probability(x, 7, share)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("label", [None, 4])
@pytest.mark.parametrize("t", [30, 400, 1000])
def test_denoiser_is_the_mean_of_the_noise_given_x_t(mixture, label, t):
    """E[noise | x_t] by brute force: integrate over x_0 on a fine grid."""
    schedule = NoiseSchedule.cosine(1000)
    x_t = points(6) * 0.6
    line = torch.linspace(-3, 3, 401, dtype=torch.float64)
    x_0 = torch.cartesian_prod(line, line)
    share = schedule.alpha_bars[t]
    noise = (x_t[:, None] - share.sqrt() * x_0) / (1 - share).sqrt()  # [6, grid, 2]
    log = reference(mixture.given(label)).log_prob(x_0) - 0.5 * (noise**2).sum(-1)
    expected = (log.softmax(1)[..., None] * noise).sum(1)
    found = mixture.denoiser(schedule, label)(x_t, t)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_denoiser_beats_every_scaling_and_shift_of_itself(mixture, generator):
    """The regression of the noise on x_t: no error correlates with any function of x_t."""
    schedule, count = NoiseSchedule.linear(1000), 200_000
    x_0 = mixture.sample(count, generator)
    noise = torch.randn(count, 2, generator=generator)
    t = torch.randint(1, 1001, (count,), generator=generator)
    x_t = schedule.add_noise(x_0, t, noise)
    error = noise - mixture.denoiser(schedule)(x_t, t)
    for function in (torch.ones_like(x_t), x_t, x_t**2, x_t.sin(), t[:, None] / 1000 * x_t):
        product = error * function
        assert (product.mean(0).abs() < 5 * product.std(0) / count**0.5).all()


def test_denoiser_takes_a_time_for_each_point(mixture):
    schedule = NoiseSchedule.cosine(1000)
    denoise, x, t = mixture.denoiser(schedule), points(3).float(), torch.tensor([1, 500, 1000])
    together = denoise(x, t)
    assert together.dtype == torch.float32 and together.shape == x.shape
    for row in range(3):
        torch.testing.assert_close(together[[row]], denoise(x[[row]], int(t[row])))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m: GaussianMixture([0.0], [[[1.0]]]), "means should have shape"),
        (lambda m: GaussianMixture(MEANS, COVARIANCES[:2]), "covariances should have shape"),
        (lambda m: GaussianMixture([[0, 0]], [[[1, 1], [0, 1]]]), "should be symmetric"),
        (lambda m: GaussianMixture([[0, 0]], [[[1, 1], [1, 1]]]), "positive definite"),
        (lambda m: GaussianMixture([[0, 0]], [[[1, 2], [2, 1]]]), "positive definite"),
        (lambda m: GaussianMixture(MEANS, COVARIANCES, [1, 0, 1]), "weights should be positive"),
        (lambda m: GaussianMixture(MEANS, COVARIANCES, labels=["a", "b", "c"]), "labels should"),
        (lambda m: GaussianMixture([[float("nan"), 0]], [[[1, 0], [0, 1]]]), "means should be fin"),
        (lambda m: m.given(5), "label should be one of 4, 7, but 5 (int) came"),
        (lambda m: m.log_density(points()[:, :1]), "x should have shape [B, 2]"),
        (lambda m: m.score(points(), 0), "alpha_bar should be in (0, 1]"),
        (lambda m: m.score(points(), [0.5, 0.5]), "alpha_bar should be one number, or one"),
        (lambda m: m.denoiser(None), "schedule should be of type NoiseSchedule"),
        (lambda m: m.denoiser(NoiseSchedule.cosine(5))(points(), 6), "t should be in 1..5"),
    ],
)
def test_refusals_say_what_to_do(mixture, call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        call(mixture)
    assert words in str(error.value)
