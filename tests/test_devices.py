"""Every machine: nothing in the course changes where there is an accelerator. See unet.ask for the
rule. The accelerator is a pretended one, see fake_device."""

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
    guide,
    repaint,
    train,
)
from cfd_course.datasets import batches
from cfd_course.guidance import (
    classifier_gradient,
    guide_by_classifier,
    guide_from,
    guide_guess,
    in_interval,
    projected,
    rescaled,
)
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
from cfd_course.pipelines import load
from cfd_course.sampling import last
from cfd_course.text import TextEncoder, tokenise
from cfd_course.training import noise_loss
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
    "digit-judge": lambda judge: judge(randn(2, 1, 28, 28)),
    "digit-classifier": lambda classifier: classifier_gradient(classifier, torch.tensor([1, 2]))(
        randn(2, 1, 28, 28), 300
    ),
    "digits-flow": lambda artist: artist.draw([3, 1], steps=2),
    "digits-shortcut": lambda artist: artist.draw([3, 1], steps=2),
    "emoji-latents": lambda artist: artist.draw(["noto", "blob"], steps=2),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_answers_where_it_is_asked(name):
    """Wherever its network was moved."""
    shipped = load(name)
    expected = SHIPPED[name](shipped)
    with lent("mps"):
        (shipped if isinstance(shipped, nn.Module) else shipped.network).to("mps")
        found = SHIPPED[name](shipped)
        if torch.is_tensor(found):
            found, expected = [found], [expected]
        for each, wanted in zip(found, expected, strict=True):
            assert each.device.type == "cpu" and torch.equal(each, wanted)


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
