"""guide: the formula, how often the network and the token encoder run, and exact densities."""

import pytest
import torch
from torch import nn

from cfd_course import Condition, GaussianMixture, NoiseSchedule, Unet, ddim, dpm_solver, guide
from cfd_course.guidance import (
    classifier_gradient,
    guide_by_classifier,
    guide_from,
    guide_guess,
    in_interval,
    paper_scale,
    projected,
    rescaled,
)
from cfd_course.sampling import last

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = NoiseSchedule.cosine(1000)
MIXTURE = GaussianMixture(
    [[-0.8, 0.1], [0.6, 0.7], [0.5, -0.7]],
    [[[0.06, 0.01], [0.01, 0.05]], [[0.09, -0.03], [-0.03, 0.06]], [[0.05, 0], [0, 0.12]]],
    [0.2, 0.3, 0.5],
    labels=[0, 1, 1],
)


class Exact:
    """The mixture as network(x_t, t, condition): tokens [B, 1] hold the label of each example. It
    keeps the batch size of each call."""

    def __init__(self):
        self.batches = []

    def __call__(self, x_t, t, condition):
        self.batches.append(len(x_t))
        everybody = MIXTURE.denoiser(SCHEDULE)(x_t, t)
        if condition is None:
            return everybody
        assert len(condition) == len(x_t)
        noise = everybody.clone()
        for label in (0, 1):
            rows = condition.present & (condition.tokens[:, 0] == label)
            if rows.any():
                time = t[rows] if isinstance(t, torch.Tensor) and t.ndim else t
                noise[rows] = MIXTURE.denoiser(SCHEDULE, label)(x_t[rows], time)
        return noise


def told(label, count):
    return Condition(tokens=torch.full((count, 1), label))


def points(count=50):
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 3.0, 7])
@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_formula(scale, t):
    x = points()
    null = MIXTURE.denoiser(SCHEDULE)(x, t)
    conditional = MIXTURE.denoiser(SCHEDULE, 1)(x, t)
    guided = guide(Exact(), told(1, len(x)), scale)(x, t)
    torch.testing.assert_close(guided, null + scale * (conditional - null))


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_is_the_implicit_classifiers_gradient(scale):
    """The guided score is that of x_t plus scale times the gradient of log p(label | x_t), here
    from the perfect classifier: Ho, Salimans (2022), section 3.2."""
    x, t = points().requires_grad_(), 300
    share = SCHEDULE.alpha_bars[t]
    chance = MIXTURE.label_probability(x, 1, share).log().sum()
    (classifier,) = torch.autograd.grad(chance, x)
    score = MIXTURE.score(x, share) + scale * classifier
    guided = guide(Exact(), told(1, len(x)), scale)(x, t)
    torch.testing.assert_close(guided, -(1 - share).sqrt() * score)


def test_each_example_follows_its_own_condition():
    x, labels = points(6), [0, 1, 1, 0, 1, 0]
    guided = guide(Exact(), Condition(tokens=torch.tensor(labels)[:, None]), 3.0)(x, 300)
    for row, label in enumerate(labels):
        alone = guide(Exact(), told(label, 1), 3.0)(x[[row]], 300)
        torch.testing.assert_close(guided[[row]], alone)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_a_time_for_each_example(scale):
    x, t = points(3), torch.tensor([1, 300, 1000])
    guided = guide(Exact(), told(1, 3), scale)(x, t)
    for row in range(3):
        alone = guide(Exact(), told(1, 1), scale)(x[[row]], int(t[row]))
        torch.testing.assert_close(guided[[row]], alone)


@pytest.mark.parametrize("scale, batch", [(3.0, 20), (-1, 20), (1.0, 10), (1, 10), (0.0, 10)])
def test_one_call_a_step(scale, batch):
    """Both predictions come from one batch of 2B; where one of them has no weight, from B."""
    network = Exact()
    list(dpm_solver(guide(network, told(1, 10), scale), SCHEDULE, points(10), steps=7))
    assert network.batches == [batch] * 7


def test_without_a_condition_the_network_is_asked_as_it_is():
    network, x = Exact(), points()
    assert torch.equal(guide(network)(x, 300), MIXTURE.denoiser(SCHEDULE)(x, 300))
    assert network.batches == [len(x)]


def test_a_scale_that_depends_on_t():
    """Guidance in an interval alone, with no doubled batch outside it."""
    network, x, asked = Exact(), points(10), []

    def scale(t):
        asked.append(t)
        return 4.0 if 200 < t < 600 else 1.0

    denoise = guide(network, told(0, 10), scale)
    list(dpm_solver(denoise, SCHEDULE, x, steps=5))
    assert asked == [1000, 800, 600, 400, 200]
    assert network.batches == [10, 10, 10, 20, 10]
    constant = guide(Exact(), told(0, 10), 4.0)(x, 400)
    assert torch.equal(denoise(x, 400), constant)


class CountingEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.calls = 0

    def forward(self, tokens):
        self.calls += 1
        return self.embedding(tokens)


def tiny_unet():
    torch.manual_seed(0)
    unet = Unet(1, (8, 16), token_encoder=CountingEncoder(), token_channels=8)
    for parameter in unet.parameters():  # the untrained one answers 0 to everything
        nn.init.normal_(parameter, std=0.2)
    return unet.eval()


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_token_encoder_runs_once_a_picture(scale):
    unet, calls = tiny_unet(), []
    unet.register_forward_hook(lambda *_: calls.append(1))
    condition = Condition(tokens=torch.tensor([[3], [7]]))
    denoise = guide(unet, condition, scale)
    picture = last(dpm_solver(denoise, SCHEDULE, torch.randn(2, 1, 8, 8), steps=6))
    assert picture.isfinite().all()
    assert unet.token_encoder.calls == 1 and len(calls) == 6


def test_a_batch_of_2b_equals_two_calls():
    unet = tiny_unet()
    condition = Condition(tokens=torch.tensor([[3], [7]]))
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), 500
    with torch.no_grad():
        null, conditional = unet(x, t, condition.absent()), unet(x, t, condition)
        assert (null - conditional).abs().max() > 1e-3
        guided = guide(unet, condition, 3.0)(x, t)
    torch.testing.assert_close(guided, null + 3 * (conditional - null), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale, label", [(1.0, 1), (1.0, 0), (0.0, None)])
def test_scale_1_samples_the_conditional_and_0_the_unconditional_distribution(scale, label):
    """20,000 points: the mean within 0.03, the variance in every direction within 5%."""
    count = 20_000
    x_T = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    denoise = guide(Exact(), told(1 if label is None else label, count), scale)
    x = last(dpm_solver(denoise, SCHEDULE, x_T, steps=100, clip=None)).double()
    target = MIXTURE.given(label)
    assert (x.mean(0) - target.mean()).abs().max() < 0.03
    ratios = torch.linalg.eigvals(torch.linalg.solve(target.covariance(), torch.cov(x.T))).real
    assert (ratios - 1).abs().max() < 0.05


def perfect_classifier(x_t, t):
    """Logits: of each label of the mixture the exact log probability."""
    share = float(SCHEDULE.alpha_bars[t])
    return torch.stack([MIXTURE.label_probability(x_t, y, share).log() for y in (0, 1)], dim=1)


@pytest.mark.parametrize("t", [1, 300, 999])
def test_the_classifiers_gradient_is_the_difference_of_the_scores(t):
    """By Bayes' rule, to 10 digits; also where no gradients are recorded."""
    x, share = points(), float(SCHEDULE.alpha_bars[t])
    with torch.no_grad():
        found = classifier_gradient(perfect_classifier, torch.ones(len(x)).long())(x, t)
    exact = MIXTURE.given(1).score(x, share) - MIXTURE.score(x, share)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)
    assert not x.requires_grad


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.0, 3.0])
def test_with_a_perfect_classifier_both_guidances_are_one(scale):
    x, labels = points(), torch.ones(50).long()
    gradient = classifier_gradient(perfect_classifier, labels)
    by_classifier = guide_by_classifier(MIXTURE.denoiser(SCHEDULE), gradient, SCHEDULE, scale)
    torch.testing.assert_close(by_classifier(x, 400), guide(Exact(), told(1, 50), scale)(x, 400))


def test_each_picture_follows_its_own_label_and_leaves_the_classifier_alone():
    classifier = nn.Linear(2, 3).double()
    x, labels = points(4), torch.tensor([2, 0, 1, 0])
    ask = lambda x_t, t: classifier(x_t)  # noqa: E731
    together = classifier_gradient(ask, labels)(x, 5)
    alone = [classifier_gradient(ask, labels[[n]])(x[[n]], 5) for n in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert classifier.weight.grad is None


NULL, TOLD = MIXTURE.denoiser(SCHEDULE), MIXTURE.denoiser(SCHEDULE, 1)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.0, 3.0])
def test_away_from_the_untold_denoiser_is_guidance(scale):
    x = points()
    exact = guide(Exact(), told(1, 50), scale)(x, 400)
    torch.testing.assert_close(guide_from(NULL, TOLD, scale)(x, 400), exact)
    everywhere = guide_from(NULL, TOLD, in_interval(scale, 0, 1000))
    torch.testing.assert_close(everywhere(x, 400), exact)
    combine = lambda null, told: null + scale * (told - null)  # noqa: E731
    by_guesses = guide_guess(NULL, TOLD, SCHEDULE, combine)(x, 400)
    torch.testing.assert_close(by_guesses, exact, rtol=1e-4, atol=1e-4)


def test_outside_the_interval_the_weak_denoiser_is_not_asked():
    asked = []
    weak = lambda x_t, t: asked.append(t) or NULL(x_t, t)  # noqa: E731
    denoise = guide_from(weak, TOLD, in_interval(5.0, 200, 700))
    for t in (1000, 701, 700, 201, 200, 1):
        denoise(points(), t)
    assert asked == [700, 201]
    torch.testing.assert_close(denoise(points(), 200), TOLD(points(), 200))


def test_away_from_a_blurred_mixture_points_stay_on_their_islands():
    """And away from the untold one they leave: shares beyond the density of 99% of the real."""
    means, weights, labels = [[-1.0, 0], [1, 1.2], [1, -1.2]], [0.5, 0.25, 0.25], [0, 1, 1]
    widths = torch.tensor([[0.5, 1.2], [0.4, 0.3], [0.4, 0.3]]).diag_embed()
    sharp = GaussianMixture(means, widths, weights, labels)
    blurred = GaussianMixture(means, widths + 0.3 * torch.eye(2), weights, labels)
    asked, strong = sharp.given(1), sharp.denoiser(SCHEDULE, 1)
    edge = asked.log_density(asked.sample(4000, torch.Generator().manual_seed(0))).quantile(0.01)
    x_T = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))

    def outside(weak):
        drawn = last(ddim(guide_from(weak, strong, 8.0), SCHEDULE, x_T, 20, clip=None))
        return float((asked.log_density(drawn) < edge).float().mean())

    assert outside(blurred.denoiser(SCHEDULE, 1)) < 0.02 < 0.08 < outside(sharp.denoiser(SCHEDULE))


def test_projected_pushes_at_a_right_angle_to_told():
    null, told_ = torch.randn(2, 4, 2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(projected(null, told_, 1.0), told_)
    push = projected(null, told_, 3.0) - told_
    assert (push * told_).sum((1, 2, 3)).abs().max() < 1e-10
    # What was taken away lies along told, in each picture by itself.
    along = 2 * (told_ - null) - push
    ratio = along / told_
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    assert ratio[:, 0, 0, 0].unique().numel() == 4


def test_rescaled_has_the_contrast_of_told():
    null, told_ = torch.randn(2, 4, 2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    guided = null + 5.0 * (told_ - null)
    torch.testing.assert_close(rescaled(null, told_, 1.0), told_)
    torch.testing.assert_close(rescaled(null, told_, 5.0, share=0.0), guided)
    whole, part = (rescaled(null, told_, 5.0, share=share) for share in (1.0, 0.25))
    torch.testing.assert_close(whole.std((1, 2, 3)), told_.std((1, 2, 3)))
    torch.testing.assert_close(part, 0.25 * whole + 0.75 * guided)


def test_paper_scale():
    """(1 + w) conditional - w null, equation 6 of the paper, is our formula at 1 + w."""
    x, w = points(), 2.5
    null, conditional = MIXTURE.denoiser(SCHEDULE)(x, 300), MIXTURE.denoiser(SCHEDULE, 1)(x, 300)
    guided = guide(Exact(), told(1, len(x)), paper_scale(w))(x, 300)
    torch.testing.assert_close(guided, (1 + w) * conditional - w * null)
    assert paper_scale(0) == 1 and paper_scale(-1) == 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: guide(None, told(1, 2)), "network should be callable as network(x_t, t, cond"),
        (lambda: guide(Exact(), torch.zeros(2)), "condition should be of type Condition"),
        (
            lambda: guide(Exact(), told(1, 2), "3"),
            "scale should be a number or callable, but '3' (str) came",
        ),
        (lambda: guide(Exact(), told(1, 2), float("nan")), "scale should be finite"),
        (lambda: guide(Exact(), told(1, 2), lambda t: None)(points(2), 1), "scale(t) should be a"),
        (lambda: guide(Exact(), told(1, 2), 3.0)(points(3), 1), "x_t should have one row for each"),
        (
            lambda: guide(lambda x, t, c: x[:1], told(1, 2), 3.0)(points(2), 1),
            "what network returned should have shape [4, 2]",
        ),
        (lambda: paper_scale("2"), "w should be a number"),
        (lambda: classifier_gradient(None, torch.ones(2).long()), "classifier should be callable"),
        (lambda: classifier_gradient(perfect_classifier, torch.ones(2)), "labels should be a"),
        (
            lambda: classifier_gradient(perfect_classifier, torch.ones(3).long())(points(2), 5),
            "what classifier returned should have shape [3, K]",
        ),
        (lambda: guide_by_classifier(guide, None, SCHEDULE), "gradient should be callable"),
        (lambda: guide_by_classifier(guide, guide, SCHEDULE, "2"), "scale should be a number"),
        (lambda: guide_from(None, guide), "weak should be callable"),
        (lambda: guide_guess(guide, guide, SCHEDULE, None), "combine should be callable"),
        (lambda: in_interval(2.0, "a", 3.0), "low should be a number"),
        (
            lambda: guide_guess(NULL, TOLD, SCHEDULE, lambda a, b: a[0])(points(), 5),
            "what combine returned should have shape [50, 2]",
        ),
    ],
)
def test_refusals_say_what_to_do(call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert words in str(error.value)
