"""Every machine: nothing in the course changes where there is an accelerator. See unet.ask for the
rule. The accelerator is a pretended one, see fake_device."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from cfd_course import (
    Condition,
    GaussianMixture,
    NoiseSchedule,
    Unet,
    ddim,
    ddpm,
    dpm_solver,
    figures,
    guide,
    repaint,
    train,
)
from cfd_course.bridge import from_diffusers
from cfd_course.checks import lesson_12, lesson_13, lesson_15, lesson_17, lesson_18
from cfd_course.datasets import batches
from cfd_course.datasets.digits import digit_condition
from cfd_course.guidance import (
    classifier_gradient,
    guide_by_classifier,
    guide_from,
    guide_guess,
    in_interval,
    projected,
    rescaled,
)
from cfd_course.measuring import EVALUATIONS
from cfd_course.metrics import (
    distortion,
    fine_power,
    frechet_distance,
    luma,
    nearest_distances,
    precision_recall,
    read_captions,
    spread,
)
from cfd_course.pipelines import APPLICATIONS, RECIPES, build, emoji_judge, load
from cfd_course.pipelines.few_steps import digit_knobs
from cfd_course.sampling import cfg_plus, euler, last
from cfd_course.text import TextEncoder, tokenise
from cfd_course.training import load_weights, noise_loss
from cfd_course.unet import KnownPixels, PatchTokens, Velocity
from tests.fake_device import lent

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = pytest.mark.parametrize("kind", ["cuda", "mps"])
SCHEDULE = NoiseSchedule.cosine(20)


def randn(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X = randn(3, 1, 8, 8)
IMAGE = Condition(image=torch.cat([X, torch.ones_like(X)], dim=1))
DIGITS = Condition(tokens=torch.tensor([[1], [2], [3]]))


def own_network() -> nn.Module:
    """Not one of ours, as learners write them."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x_t, t, condition):
            return self.layer(x_t) * torch.as_tensor(t, device=x_t.device).reshape(-1, 1, 1, 1)

    return Own()


NETWORKS = {
    "digits": (lambda: Unet(1, (8, 8), token_encoder=nn.Embedding(10, 8)), DIGITS),
    "captions": (
        lambda: Unet(1, (8, 8), token_encoder=TextEncoder(8, 1, 2), token_channels=8),
        tokenise(["a small red star", "a large blue circle", "a red circle"]),
    ),
    "input": (lambda: Unet(1, (8, 8), 2), IMAGE),
    "levels": (lambda: Unet(1, (8, 8), 2, "levels"), IMAGE),
    "patches": (lambda: PatchTokens(Unet(1, (8, 8), token_channels=8, placed=True), 2), IMAGE),
    "known pixels": (lambda: KnownPixels(Unet(1, (8, 8), 2), SCHEDULE), IMAGE),
    "own": (own_network, DIGITS),
}


def made(name: str, wrapped: bool) -> tuple[nn.Module, Condition]:
    build, condition = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return (Velocity(network, SCHEDULE) if wrapped else network), condition


@pytest.mark.parametrize("kind, target", [("cuda", "noise"), ("mps", "velocity")])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_there_and_cells_here(name, target, kind):
    """Trains on the accelerator, stays there, and draws from noise made here as if it were here."""
    here, condition = made(name, target == "velocity")
    there = copy.deepcopy(here)
    source = batches(X, condition, 2)
    losses = [step.loss for step in train(here, SCHEDULE, source, 3, target=target)]
    expected = last(ddim(guide(here, condition, 2.0), SCHEDULE, X, 3))
    with lent(kind):
        steps = list(train(there, SCHEDULE, source, 3, target=target))
        assert [step.loss for step in steps] == losses
        for network in (there, steps[-1].average):
            assert {p.device.type for p in network.parameters()} == {kind}
        drawn = last(ddim(guide(there, condition, 2.0), SCHEDULE, X, 3))
        assert drawn.device.type == "cpu"
        loss = noise_loss(there, SCHEDULE, X, condition, torch.tensor([1, 2, 3]), X)
        assert loss.device.type == "cpu"
        assert guide(there)(X, 3).device.type == "cpu"
        if name != "own":  # a network of ours is asked directly, too
            assert there(X, torch.tensor([1, 2, 3]), condition).device.type == "cpu"
            assert there(X.to(kind), 3, condition).device.type == kind
    assert torch.equal(drawn, expected)


@KINDS
def test_resuming_there(kind, tmp_path):
    network, condition = made("digits", True)
    straight, stopped, resumed = (copy.deepcopy(network) for _ in range(3))
    source = batches(X, condition, 2)
    with lent(kind):
        list(train(straight, SCHEDULE, source, 4))
        for step in train(stopped, SCHEDULE, source, 4, folder=tmp_path, save_every=1):
            if step.number == 2:
                break
        list(train(resumed, SCHEDULE, source, 4, folder=tmp_path))
        assert all(map(torch.equal, straight.parameters(), resumed.parameters()))


@KINDS
@pytest.mark.parametrize(
    "sampler",
    [
        ddpm,
        ddim,
        dpm_solver,
        lambda d, s, x, n: cfg_plus(d, lambda x_t, t: 0.5 * x_t, s, x, n),
        lambda d, s, x, n: euler(d, x, n),
        lambda d, s, x, n: repaint(d, s, x, x.clamp(-1, 1), x > 0, n, jump=1, resampling=2),
    ],
)
def test_samplers_work_where_the_noise_is(sampler, kind):
    def denoise(x_t, t):
        return 0.9 * x_t

    torch.manual_seed(0)
    expected = last(sampler(denoise, SCHEDULE, X, 4))
    with lent(kind):
        torch.manual_seed(0)
        drawn = last(sampler(denoise, SCHEDULE, X.to(kind), 4))
        assert drawn.device.type == kind and torch.equal(drawn.cpu(), expected)


@KINDS
def test_tables_come_from_there_and_stay_here(kind):
    t, betas = torch.tensor([1, 2, 3]), torch.full((5,), 0.25)
    with lent(kind):
        schedule = NoiseSchedule(betas.to(kind))
        assert schedule.betas.device.type == "cpu" and schedule.betas.dtype == torch.float64
        x = X.to(kind)
        for each in (t, t.to(kind)):
            mean, variance = schedule.posterior(x, x, each)
            for found in (schedule.add_noise(x, each, x), mean, variance):
                assert found.device.type == kind
            assert schedule.snr(each).device.type == "cpu"
    expected = NoiseSchedule(betas).add_noise(X, t, X)
    with lent(kind):
        assert torch.equal(schedule.add_noise(x, t, x).cpu(), expected)


@KINDS
def test_the_exact_denoiser_answers_where_it_is_asked(kind):
    with lent(kind):
        means = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).to(kind)
        mixture = GaussianMixture(means, torch.eye(2).repeat(2, 1, 1).to(kind))
        x = randn(4, 2).to(kind)
        assert mixture.denoiser(SCHEDULE)(x, 3).device.type == kind
        assert mixture.log_density(x).device.type == "cpu"


@KINDS
def test_measuring_what_lies_there(kind):
    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = randn(6, 3)
    measures = {
        "luma": lambda x, f: luma(x),
        "power": lambda x, f: fine_power(x[:, 0]),
        "distortion": lambda x, f: distortion(x, x[0]),
        "nearest": lambda x, f: nearest_distances(x, x),
        "frechet": lambda x, f: frechet_distance(f, f + 1),
        "precision": lambda x, f: precision_recall(f, f + 1),
        "spread": lambda x, f: spread(f, torch.tensor([0, 0, 1, 1, 2, 2])),
        "captions": lambda x, f: read_captions(x),
    }
    for name, measure in measures.items():
        expected = measure(pictures, features)
        with lent(kind):
            found = measure(pictures.to(kind), features.to(kind))
        if isinstance(expected, torch.Tensor):
            assert torch.allclose(found, expected), name
        else:
            assert found == expected, name


@KINDS
def test_a_pipeline_whose_network_was_moved(kind):
    writer = load("digits")
    expected = writer.draw([3, 1], steps=2)
    with lent(kind):
        writer.network.to(kind)
        drawn = writer.draw([3, 1], steps=2)
        assert drawn.device.type == "cpu" and torch.equal(drawn, expected)


DIGIT = randn(2, 1, 28, 28)
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
SHIPPED = {
    "emoji-prior": lambda artist: artist.draw(
        nn.functional.normalize(randn(2, 64), dim=1), steps=2
    ),
    "emoji-decoder": lambda artist: artist.draw(randn(2, 64), steps=2),
    "emoji-towers": lambda towers: [towers.of_pictures(PICTURES), towers.of_texts(["a cat"])],
    "emoji-autoencoder": lambda codec: [
        *codec.posterior(PICTURES),
        codec.decode(codec.encode(PICTURES)),
    ],
    "emoji-judge": lambda judge: [*judge(PICTURES), judge.features(PICTURES)],
    "digit-judge": lambda judge: [judge(DIGIT), judge.logits(judge.features(DIGIT))],
    "digit-classifier": lambda classifier: classifier_gradient(classifier, torch.tensor([1, 2]))(
        randn(2, 1, 28, 28), 300
    ),
    "digits-flow": lambda artist: artist.draw([3, 1], steps=2),
    "digits-shortcut": lambda artist: artist.draw([3, 1], steps=2),
    "emoji-latents": lambda artist: artist.draw(["noto", "blob"], steps=2),
    "emoji-enlarger": lambda enlarger: enlarger.enlarge(PICTURES[:, :, :8, :8], steps=1),
    "super-resolution": lambda scaler: scaler.enlarge(PICTURES[:1, :, :16, :16], steps=1),
    "digit-inpainting": lambda mender: mender.fill(
        DIGIT.clamp(-1, 1), torch.arange(28).expand(2, 1, 28, 28) < 9, steps=1
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_answers_where_it_is_asked(name):
    """Wherever its network was moved."""
    shipped = load(name)
    expected = SHIPPED[name](shipped)
    with lent("mps"):
        around = getattr(shipped, "tiled", shipped)
        (shipped if isinstance(shipped, nn.Module) else around.network).to("mps")
        found = SHIPPED[name](shipped)
        if torch.is_tensor(found):
            found, expected = [found], [expected]
        for each, wanted in zip(found, expected, strict=True):
            assert each.device.type == "cpu" and torch.equal(each, wanted)


# What is shipped, and what it makes of a tensor.
ASKED = {
    "digits": (torch.tensor([3, 1]), lambda artist, x: artist.draw(x, steps=1)),
    "digits-flow": (torch.tensor([3, 1]), lambda artist, x: artist.draw(x, steps=1)),
    "digits-shortcut": (torch.tensor([3, 1]), lambda artist, x: artist.draw(x, steps=1)),
    "digit-judge": (DIGIT, lambda judge, x: judge(x)),
    "digit-classifier": (DIGIT, lambda classifier, x: classifier(x, torch.tensor([1, 300]))),
    "digit-inpainting": (DIGIT.clamp(-1, 1), lambda mender, x: mender.fill(x, x > 0.5, steps=1)),
    "emoji-prior": (randn(2, 64), lambda artist, x: artist.draw(x, steps=1)),
    "emoji-decoder": (randn(2, 64), lambda artist, x: artist.draw(x, steps=1)),
    "emoji-towers": (PICTURES, lambda towers, x: towers.of_pictures(x)),
    "emoji-autoencoder": (PICTURES, lambda codec, x: codec.decode(codec.encode(x))),
    "emoji-judge": (PICTURES, lambda judge, x: torch.cat([*judge(x), judge.features(x)], dim=1)),
    "emoji-enlarger": (PICTURES[..., :8], lambda enlarger, x: enlarger.enlarge(x, steps=1)),
    "emoji-mender": (PICTURES, lambda mender, x: mender.fill(x, x[:, :1] > 0, steps=1)),
    "super-resolution": (PICTURES[:1, :, :16, :16], lambda scaler, x: scaler.enlarge(x, steps=1)),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_comes_in_on_a_device_goes_out_on_it(name):
    """From a network that stayed here."""
    (asked, answer), shipped = ASKED[name], load(name)
    expected = answer(shipped, asked)
    with lent("mps"):
        found = answer(shipped, asked.to("mps"))
        assert found.device.type == "mps" and torch.equal(found.cpu(), expected)


@KINDS
def test_a_condition_is_where_its_labels_are(kind):
    labels, scale = torch.tensor([3, 1]), torch.tensor([1.5, 2.0])
    expected = digit_knobs(labels, scale, 0.25).tokens
    with lent(kind):
        for condition in (
            digit_knobs(labels.to(kind), scale.to(kind), 0.25),
            digit_knobs(labels.to(kind), scale, torch.tensor(0.25)),
        ):
            assert condition.tokens.device.type == kind
            assert torch.equal(condition.tokens.cpu(), expected)
        assert digit_condition(labels.to(kind)).present.device.type == kind


@KINDS
def test_their_u_net_is_asked_where_it_is(kind):
    unet, null = lesson_18.TheirUnet(), randn(1, 4, 6)
    condition = Condition(tokens=randn(3, 4, 6), present=torch.tensor([True, False, True]))
    expected = from_diffusers(unet, null)(X, 3, condition)
    with lent(kind):
        unet.to(kind)
        for away in (null, null.to(kind)):
            network = from_diffusers(unet, away)
            for t in (3, torch.tensor([3, 3, 3])):
                found = network(X, t, condition)
                assert found.device.type == "cpu" and torch.allclose(found, expected)
                there = network(X.to(kind), t, condition.to(kind))
                assert there.device.type == kind and torch.allclose(there.cpu(), expected)
            assert guide(network, condition, 2.0)(X, 3).device.type == "cpu"
            assert network(X, 3).device.type == "cpu"


def answers_there(kind: str):
    """(exercise, right answer) of somebody who brings tensors and networks to the accelerator, and
    leaves there what comes out."""

    def classifier_gradient(classifier, labels):
        classifier.to(kind)

        def gradient(x_t, t):
            with torch.enable_grad():
                x = x_t.to(kind).requires_grad_()
                chosen = classifier(x, t).log_softmax(1).gather(1, labels.to(kind)[:, None])
                return torch.autograd.grad(chosen.sum(), x)[0]

        return gradient

    def kl_to_standard_normal(mean, log_variance):
        mean, log_variance = mean.to(kind), log_variance.to(kind)
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)

    def draw_in_latents(denoise, schedule, decode, spread, x_T, steps):
        return decode(spread * last(ddim(denoise, schedule, x_T.to(kind), steps, clip=None)))

    def prior_loss(guess, schedule, z_i, condition, t, noise):
        guess.to(kind)
        x_t = schedule.add_noise(z_i.to(kind), t, noise.to(kind))
        return (guess(x_t, t, condition.to(kind)) - z_i.to(kind)).square().mean()

    def distilled_target(teacher, x_s, t, condition, scale):
        teacher.to(kind)  # and is asked from here
        with torch.no_grad():
            null, told = (teacher(x_s, t, each) for each in (condition.absent(), condition))
        return null + scale.reshape(-1, *[1] * (x_s.ndim - 1)) * (told - null)

    def shortcut_target(velocity, x_s, s, stride):
        velocity.to(kind)
        x_s, s, half = x_s.to(kind), s.to(kind), stride.to(kind) / 2
        wide = half.reshape(-1, *[1] * (x_s.ndim - 1))
        with torch.no_grad():
            first = velocity(x_s, s, half)
            return (first + velocity(x_s - wide * first, s - half, half)) / 2

    def their_clock(alpha_bars, visited):
        return alpha_bars[1:].float().to(kind), torch.tensor(visited[:-1]).to(kind) - 1

    def from_diffusers(unet, null):
        unet.to(kind)

        def network(x_t, t, condition):
            tokens = torch.where(condition.present[:, None, None], condition.tokens, null).to(kind)
            t = torch.as_tensor(t).to(kind) - 1
            return unet(x_t.to(kind), t, tokens).sample

        return network

    yield lesson_12.classifier_gradient, classifier_gradient
    yield lesson_13.kl_to_standard_normal, kl_to_standard_normal
    yield lesson_13.draw_in_latents, draw_in_latents
    yield lesson_15.prior_loss, prior_loss
    yield lesson_17.distilled_target, distilled_target
    yield lesson_17.shortcut_target, shortcut_target
    yield lesson_18.their_clock, their_clock
    yield lesson_18.from_diffusers, from_diffusers


@KINDS
def test_a_right_answer_may_work_there(kind):
    with lent(kind):
        for exercise, answer in answers_there(kind):
            assert exercise.problem(answer) is None, answer.__name__


def test_a_wrong_answer_that_works_there_is_known():
    with lent("mps"):
        answers = {answer.__name__: answer for _, answer in answers_there("mps")}
        right = answers["kl_to_standard_normal"]
        said = lesson_13.kl_to_standard_normal.problem(lambda mean, log: 2 * right(mean, log))
        assert "the half in front is missing" in said


def test_the_decoders_own_network_answers_where_it_is():
    recipe = {"name": "emoji-decoder", **RECIPES["emoji-decoder"]}
    network = build(recipe)
    decoder = APPLICATIONS["emoji-decoder"].pipeline(network, recipe)
    with torch.no_grad():
        expected = decoder.draw(randn(2, 64), steps=1)
        with lent("mps"):
            network.to("mps")
            assert torch.equal(decoder.draw(randn(2, 64), steps=1), expected)


@KINDS
def test_what_is_measured_there(kind, monkeypatch):
    """By networks that were brought there."""
    measured = {}
    for place in ("cpu", kind):
        with lent(kind):
            brought = lambda *args, place=place: load_weights(*args) or args[0].to(place)  # noqa: E731
            monkeypatch.setattr("cfd_course.pipelines.load_weights", brought)
            parts = dict(EVALUATIONS["digits-shortcut"][0](None, count=20))
            measured[place] = [parts[name]() for name in ("ddim 2", "flow 2", "shortcut 1")]
    for here, there in zip(*measured.values(), strict=True):
        seconds = "processor_seconds_for_16"
        assert {**there, seconds: 0} == {**here, seconds: 0}


def test_the_judge_of_emoji_is_trained_there():
    """From pictures that were moved and turned here, for not every accelerator can do that."""
    recipe, losses = {"batch": 4, "learning_rate": 1e-3}, {}
    for kind in ("cpu", "mps"):
        with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
            if kind != "cpu":
                stack.enter_context(lent(kind))
            torch.manual_seed(0)
            judge = emoji_judge.EmojiJudge()
            losses[kind] = [loss for _, loss, _ in emoji_judge.train(judge, recipe, None, 4)]
            assert judge.sharpness.device.type == kind
    assert losses["mps"] == losses["cpu"]


@KINDS
def test_figures_of_what_lies_there(kind):
    with lent(kind):
        for figure in (
            figures.pictures(PICTURES.to(kind), title="there"),
            figures.heat_maps({"there": DIGIT[0, 0].to(kind)}, title="there"),
        ):
            assert figure.axes[0].images


@KINDS
def test_two_denoisers_are_combined_where_the_noise_is(kind):
    def weak(x_t, t):
        return 0.9 * x_t

    def strong(x_t, t):
        return 0.5 * x_t

    ways = [
        guide_from(weak, strong, in_interval(3.0, 2, 9)),
        guide_guess(weak, strong, SCHEDULE, lambda null, told: projected(null, told, 3.0)),
        guide_guess(weak, strong, SCHEDULE, lambda null, told: rescaled(null, told, 3.0)),
        guide_by_classifier(weak, strong, SCHEDULE, 2.0),
    ]
    for denoise in ways:
        expected = last(ddim(denoise, SCHEDULE, X, 4))
        with lent(kind):
            drawn = last(ddim(denoise, SCHEDULE, X.to(kind), 4))
            assert drawn.device.type == kind and torch.equal(drawn.cpu(), expected)


def test_the_pretended_device_refuses_what_a_real_one_does():
    with lent("mps"):
        x = X.to("mps")
        assert x.device.type == "mps" and (x + 1).device.type == "mps"
        for wrong in (
            lambda: x + X,
            lambda: X / x.mean(),
            lambda: torch.randn(2, generator=torch.Generator(), device="mps"),
            lambda: torch.cat([x, X]),
            lambda: x.double(),
            lambda: X.double().to("mps"),
            lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
            lambda: SCHEDULE.betas[torch.tensor([1, 2]).to("mps")],
            lambda: x.numpy(),
            lambda: Unet(1, (8,)).to("mps").conv_in(X),
        ):
            with pytest.raises((TypeError, RuntimeError)):
                wrong()
