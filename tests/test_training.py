"""The loss, the training loop, its saved state under kill -9, and checkpoints."""

import copy
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import numpy
import pytest
import torch
from accelerate import PartialState
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
)

from cfd_course.conditions import Condition
from cfd_course.datasets import batches
from cfd_course.mixtures import GaussianMixture
from cfd_course.schedule import NoiseSchedule
from cfd_course.training import learning_rate_at, noise_loss, train, update_average
from cfd_course.unet import Unet, Velocity

from .conftest import same_weights, small_network

SCHEDULE = NoiseSchedule.cosine(100)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small only lose by sharing the work, and the same number of threads in every
    process makes their sums equal to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randn(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PICTURES = randn(15, 1, 4, 4).clamp(-1, 1)
LABELS = Condition(tokens=torch.arange(15)[:, None] % 3)


def finish(steps):
    """The last of the steps."""
    return deque(steps, maxlen=1).pop()


# The loss


def test_loss_by_hand():
    schedule = NoiseSchedule([0.19, 0.36])  # alpha_bar: 0.81, 0.5184 = 0.72 squared
    x_0 = torch.tensor([[1.0, -0.5], [0.25, 0.0]])
    noise = torch.tensor([[0.5, 2.0], [-1.0, 1.5]])
    t = torch.tensor([1, 2])
    total = 0.0
    for kept, row in ((0.81, 0), (0.5184, 1)):
        for column in range(2):
            x = math.sqrt(kept) * x_0[row, column] + math.sqrt(1 - kept) * noise[row, column]
            total += float(2 * x + t[row] - noise[row, column]) ** 2
    loss = noise_loss(lambda x_t, t, condition: 2 * x_t + t[:, None], schedule, x_0, None, t, noise)
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.parametrize("t", [[1, 2, 3], [100, 100, 50], [70, 1, 99]])
def test_velocity_loss_is_the_error_of_the_velocity(t):
    """What a network under Velocity returned, against the true v of each example."""
    x_0, noise, t = randn(3, 1, 4, 4).double(), randn(3, 1, 4, 4, seed=1).double(), torch.tensor(t)
    network = Unet(1, (8,), heads=2).double()
    nn.init.normal_(network.conv_out.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    kept = SCHEDULE.alpha_bars[t].reshape(-1, 1, 1, 1)
    v = kept.sqrt() * noise - (1 - kept).sqrt() * x_0
    with torch.no_grad():
        expected = (network(SCHEDULE.add_noise(x_0, t, noise), t) - v).square().mean()
        arguments = (Velocity(network, SCHEDULE), SCHEDULE, x_0, None, t, noise)
        loss = noise_loss(*arguments, target="velocity")
    # A network returns float32 or less, in which the two are the same to 1e-3 of nothing but noise.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert noise_loss(*arguments).item() < loss.item()


def test_the_loss_between_weighs_nearer_to_the_velocity():
    """For one t at a time, where each loss is the error times its weight."""
    x_0, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4, seed=1)
    for t in (1, 60, 100):
        arguments = (lambda x_t, t, condition: 0.3 * x_t, SCHEDULE, x_0, None, torch.full((3,), t))
        plain, between, velocity = (
            noise_loss(*arguments, noise, target=target).item()
            for target in ("noise", "between", "velocity")
        )
        assert between == pytest.approx(plain**0.25 * velocity**0.75, rel=1e-5)
        assert plain < between < velocity


def test_training_can_count_the_error_of_the_velocity():
    """The loss of every step, from what the network was shown."""
    network = Recorder()
    steps = list(train(network, SCHEDULE, [(randn(8, 1, 2, 2), None)], 3, target="velocity"))
    x_t, t, _ = network.calls[0]
    noise = SCHEDULE.predict_noise(x_t.double(), t, randn(8, 1, 2, 2).double())
    errors = (0.1 * x_t - noise).square().flatten(1).mean(1) / SCHEDULE.alpha_bars[t]
    assert steps[0].loss == pytest.approx(errors.mean().item(), rel=1e-3)
    other = Recorder()
    plain = list(train(other, SCHEDULE, [(randn(8, 1, 2, 2), None)], 3))
    assert torch.equal(other.calls[0][0], x_t) and plain[0].loss < steps[0].loss
    assert other.multiple.item() != network.multiple.item()


def exact_network(mixture: GaussianMixture):
    denoise = mixture.denoiser(SCHEDULE)
    return lambda x_t, t, condition: denoise(x_t, t)


@pytest.mark.parametrize("t", [1, 30, 70, 100])
def test_loss_at_its_floor(t):
    """Of one Gaussian with variances v along its axes, the noise given x_t has the variance
    alpha_bar v / (alpha_bar v + 1 - alpha_bar): no network can do better, the exact one does."""
    mixture = GaussianMixture([[1.0, -2.0]], [[[0.5, 0.2], [0.2, 0.3]]])
    variances = torch.linalg.eigvalsh(mixture.covariances[0])
    kept = SCHEDULE.alpha_bars[t]
    floor = (kept * variances / (kept * variances + 1 - kept)).mean().item()
    count = 40_000
    x_0 = mixture.sample(count, torch.Generator().manual_seed(0))
    times, noise = torch.full((count,), t), randn(count, 2, seed=1)
    network = exact_network(mixture)
    loss = noise_loss(network, SCHEDULE, x_0, None, times, noise).item()
    assert loss == pytest.approx(floor, rel=0.03)

    def off(x_t, t, condition):
        return network(x_t, t, condition) + 0.5

    worse = noise_loss(off, SCHEDULE, x_0, None, times, noise).item()
    assert worse - loss == pytest.approx(0.25, abs=0.02)


def test_a_trained_network_comes_near_the_floor():
    """Points of a mixture as 1x1 pictures with two channels. Predicting nothing costs 1."""
    mixture = GaussianMixture(
        [[1.0, 0.5], [-1.0, -0.5], [0.5, -1.0]], 0.04 * torch.eye(2).expand(3, 2, 2)
    )

    class Points:
        """128 fresh points a batch, from torch's global random numbers."""

        def __iter__(self):
            for _ in range(100):
                yield mixture.sample(128)[:, :, None, None], None

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Unet(2, (32,), attention=(), heads=1)
    steps = train(network, SCHEDULE, Points(), 200, learning_rate=1e-2, warm_up=20, decay=0.98)
    average = finish(steps).average
    source = torch.Generator().manual_seed(1)
    x_0, noise = mixture.sample(20_000, source), randn(20_000, 2, seed=2)
    t = torch.randint(1, 101, (20_000,), generator=source)

    def learned(x_t, t, condition):
        with torch.no_grad():
            return average(x_t[:, :, None, None], t)[:, :, 0, 0]

    floor = noise_loss(exact_network(mixture), SCHEDULE, x_0, None, t, noise).item()
    loss = noise_loss(learned, SCHEDULE, x_0, None, t, noise).item()
    nothing = noise_loss(lambda x, t, c: torch.zeros_like(x), SCHEDULE, x_0, None, t, noise).item()
    assert nothing == pytest.approx(1, abs=0.02)
    assert floor < loss < floor + 0.05 * (nothing - floor)


def test_loss_refuses_another_shape():
    with pytest.raises(ValueError, match="what network returned should have shape"):
        noise_loss(
            lambda x, t, c: x[:, :1], SCHEDULE, randn(2, 3), None, torch.tensor([1, 2]), randn(2, 3)
        )


# The parts of a step


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_average_is_pytorch(decay):
    network, average = small_network(1), small_network(2)
    theirs = copy.deepcopy(average)
    get_ema_multi_avg_fn(decay)(list(theirs.parameters()), list(network.parameters()), 0)
    update_average(average, network, decay)
    assert same_weights(average, theirs)


def test_average_copies_buffers():
    network, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network(randn(5, 2))
    update_average(average, network, 0.9)
    assert torch.equal(average.running_mean, network.running_mean)
    assert average.num_batches_tracked == 1


def test_average_refuses_another_network():
    with pytest.raises(ValueError, match="average should be a copy of network"):
        update_average(small_network(), small_network(width=16), 0.9)


def test_learning_rate():
    rates = [learning_rate_at(number, 110, 2.0, 10) for number in range(1, 111)]
    assert rates[:10] == pytest.approx([0.2 * number for number in range(1, 11)])
    assert rates[59] == pytest.approx(1.0)  # halfway down the cosine
    assert rates[34] == pytest.approx(1 + math.sqrt(0.5))  # a quarter of the way
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert learning_rate_at(1, 50, 2.0, 0) < 2.0 and learning_rate_at(5, 50, 2.0, 100) == 0.1


class Recorder(nn.Module):
    """Predicts the noise as a multiple of x_t, and keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.multiple = nn.Parameter(torch.tensor(0.1))
        self.calls = []

    def forward(self, x_t, t, condition):
        self.calls.append((x_t, t, condition))
        return self.multiple * x_t


@pytest.mark.parametrize("size", [5, 500])
def test_the_loop_by_hand(size):
    """Twelve steps of AdamW, clipped gradient, warm-up and average, redone with plain tensors."""
    x_0 = randn(size, 1, 2, 2)
    network, settings = Recorder(), {"learning_rate": 0.1, "warm_up": 4}
    steps = list(train(network, SCHEDULE, [(100 * x_0, None)], 12, decay=0.5, **settings))
    assert [step.number for step in steps] == list(range(1, 13))
    value = torch.tensor(0.1, requires_grad=True)
    average = value.detach().clone()
    optimizer = torch.optim.AdamW([value], betas=(0.9, 0.99), weight_decay=0.01)
    clipped = False
    for number, (x_t, t, _) in enumerate(network.calls, start=1):
        noise = SCHEDULE.predict_noise(x_t.double(), t, 100 * x_0.double()).float()
        loss = (value * x_t - noise).square().mean()
        assert steps[number - 1].loss == pytest.approx(loss.item(), rel=1e-3)
        optimizer.zero_grad()
        loss.backward()
        clipped |= value.grad.abs().item() > 1
        value.grad /= max(value.grad.abs().item(), 1)
        optimizer.param_groups[0]["lr"] = learning_rate_at(number, 12, 0.1, 4)
        optimizer.step()
        decay = min(0.5, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * value.detach()
    assert clipped
    assert network.multiple.item() == pytest.approx(value.item(), rel=1e-3)
    assert steps[-1].average.multiple.item() == pytest.approx(average.item(), rel=1e-3)


def test_what_the_network_is_shown():
    """Every t from 1 to T, standard normal noise, and as many hidden conditions as were asked
    for, decided for each example: bounds of five standard deviations."""
    network = Recorder()
    x_0 = randn(1000, 1, 2, 2)
    condition = Condition(tokens=torch.arange(1000)[:, None])
    finish(train(network, SCHEDULE, [(x_0, condition)], 10, drop=0.2))
    t = torch.cat([t for _, t, _ in network.calls])
    assert t.unique().tolist() == list(range(1, 101))
    assert (t.bincount()[1:] - 100).abs().max() < 50
    noise = torch.cat(
        [SCHEDULE.predict_noise(x_t.double(), t, x_0.double()) for x_t, t, _ in network.calls]
    )
    assert noise.mean().abs() < 5 / math.sqrt(40_000)
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / 40_000)
    hidden = torch.stack([~condition.present for _, _, condition in network.calls])
    assert abs(int(hidden.sum()) - 2000) < 5 * math.sqrt(10_000 * 0.2 * 0.8)
    assert not (hidden[0] == hidden[1]).all()


def test_training_learns():
    network = small_network()
    losses = [step.loss for step in train(network, SCHEDULE, [(PICTURES, LABELS)], 150, warm_up=10)]
    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])
    assert losses[0] == pytest.approx(1, abs=0.5)  # the untrained network predicts no noise


def test_the_seed_decides():
    runs = []
    for seed in (0, 0, 1):
        torch.rand(3)  # whatever was drawn before
        runs.append(small_network())
        finish(train(runs[-1], SCHEDULE, batches(PICTURES, LABELS, 4), 5, seed=seed))
    assert same_weights(runs[0], runs[1]) and not same_weights(runs[0], runs[2])


def test_the_callers_random_numbers_go_on():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finish(train(small_network(), SCHEDULE, batches(PICTURES, LABELS, 4), 5))
    assert torch.equal(torch.rand(3), expected)


# Going on where it stopped


def rows(numbers):
    return PICTURES[numbers], LABELS[numbers]


class Stream(IterableDataset):
    """Pictures without a known length."""

    def __iter__(self):
        return iter(range(10))


class Drawn:
    """Batches drawn from torch's global random numbers."""

    def __iter__(self):
        for _ in range(4):
            yield rows(torch.randint(15, (4,)).tolist())


class Shaken(Dataset):
    """Pictures with noise from torch's, numpy's and Python's random numbers, or from its own."""

    def __init__(self, own: bool = False):
        self.torch = torch.Generator().manual_seed(3) if own else None
        self.numpy = numpy.random.default_rng(3) if own else numpy.random
        self.python = random.Random(3) if own else random

    def __len__(self):
        return 15

    def __getitem__(self, number):
        shift = torch.randn((), generator=self.torch) + self.numpy.normal() + self.python.random()
        return PICTURES[number] + 0.1 * shift


def stacked(found):
    return torch.stack(found).float(), None


def shaken(own: bool = False, **settings) -> DataLoader:
    return DataLoader(Shaken(own), 4, shuffle=True, collate_fn=stacked, **settings)


class Lazy(Sampler):
    """Draws each row when it is asked for it: with workers, ahead of what is trained on."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(2)

    def __iter__(self):
        for _ in range(15):
            yield int(torch.randint(15, (), generator=self.generator))

    def __len__(self):
        return 15


def sampled() -> RandomSampler:
    return RandomSampler(Shaken(), generator=torch.Generator().manual_seed(1))


SOURCES = {
    "every global random number": shaken,
    "a dataset with generators of its own": lambda: shaken(own=True),
    "workers": lambda: shaken(num_workers=2),
    "persistent workers": lambda: shaken(num_workers=2, persistent_workers=True),
    "a sampler with its own generator": lambda: DataLoader(
        Shaken(), 4, sampler=sampled(), collate_fn=stacked
    ),
    "a batch sampler with its own generator": lambda: DataLoader(
        Shaken(), batch_sampler=BatchSampler(sampled(), 4, True), collate_fn=stacked
    ),
    "a sampler that draws as it goes, in persistent workers": lambda: DataLoader(
        Shaken(), 4, sampler=Lazy(), collate_fn=stacked, num_workers=1, persistent_workers=True
    ),
    "list": lambda: [rows([0, 1, 2]), rows([3, 4]), rows([5, 6, 7])],
    "loader": lambda: batches(PICTURES, LABELS, 4),
    "loader with its own generator": lambda: DataLoader(
        range(15), 4, shuffle=True, collate_fn=rows, generator=torch.Generator().manual_seed(9)
    ),
    "loader of unknown length": lambda: DataLoader(Stream(), 3, collate_fn=rows),
    "global random numbers": Drawn,
}


@pytest.mark.parametrize("stop", [3, 6])
@pytest.mark.parametrize("source", SOURCES)
def test_resumed_equals_uninterrupted(source, stop, tmp_path):
    straight = small_network()
    expected = finish(train(straight, SCHEDULE, SOURCES[source](), 9))
    for step in train(
        small_network(), SCHEDULE, SOURCES[source](), 9, folder=tmp_path, save_every=2
    ):
        if step.number == stop:
            break
    torch.rand(7)
    resumed = small_network(seed=4)  # its own weights are replaced
    steps = list(train(resumed, SCHEDULE, SOURCES[source](), 9, folder=tmp_path, save_every=2))
    assert [step.number for step in steps] == list(range(stop - stop % 2 + 1, 10))
    assert same_weights(resumed, straight)
    assert same_weights(steps[-1].average, expected.average)
    assert steps[-1].loss == expected.loss


def test_batches_that_come_out_otherwise_are_refused(tmp_path):
    """Of random numbers that train cannot know of, or of other data."""

    class Counted:
        passes = 0

        def __iter__(self):
            for _ in range(4):
                self.passes += 1
                yield PICTURES[:4] + 0.1 * self.passes, LABELS[:4]

    batches = Counted()
    next(train(small_network(), SCHEDULE, batches, 9, folder=tmp_path, save_every=1))
    with pytest.raises(ValueError, match=r"batches should be .*state\.pt .* step 1 came out other"):
        next(train(small_network(), SCHEDULE, batches, 9, folder=tmp_path))


def test_the_gradient_scaler_is_part_of_the_state(tmp_path):
    next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1))
    state = torch.load(tmp_path / "state.pt")
    assert state["scaler"] == {}  # of a training in full precision
    del state["scaler"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt cannot be read as a training state"):
        next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))


def test_dropout_resumes_too(tmp_path):
    def build():
        network = small_network()
        network.middle_1 = nn.Sequential()  # stands for a block with dropout
        network.middle_1.forward = lambda h, embedding: nn.functional.dropout(h, 0.5)
        return network

    straight = build()
    finish(train(straight, SCHEDULE, [(PICTURES, LABELS)], 6))
    next(train(build(), SCHEDULE, [(PICTURES, LABELS)], 6, folder=tmp_path, save_every=1))
    resumed = build()
    finish(train(resumed, SCHEDULE, [(PICTURES, LABELS)], 6, folder=tmp_path))
    assert same_weights(resumed, straight)


def test_a_finished_training_goes_on_only_when_asked(tmp_path):
    network = small_network()
    last = finish(train(network, SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))
    again = list(train(small_network(3), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))
    assert [step.number for step in again] == [4]
    assert again[0].loss == last.loss and same_weights(again[0].average, last.average)
    more = list(train(small_network(3), SCHEDULE, [(PICTURES, LABELS)], 6, folder=tmp_path))
    assert [step.number for step in more] == [5, 6]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"drop": 0.5},
        {"learning_rate": 0.1},
        {"warm_up": 7},
        {"decay": 0.5},
        {"target": "velocity"},
    ],
)
def test_changed_settings_are_named(changed, tmp_path):
    next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1))
    resumed = train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, **changed)
    ((name, value),) = changed.items()
    with pytest.raises(ValueError, match=rf"state\.pt was trained .*{name} was .*, now {value}\."):
        next(resumed)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_text("not a state"),
    "another file of PyTorch's": lambda path: torch.save({"number": 3, "loss": 0.1}, path),
    "a list": lambda path: torch.save([1, 2], path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_state_is_named(damage, tmp_path):
    next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1))
    DAMAGE[damage](tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt cannot be read as a training state"):
        next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))


def test_a_loss_that_is_no_number_keeps_the_last_state(tmp_path):
    astray = torch.full_like(PICTURES, math.nan)
    batches = [(PICTURES, LABELS), (PICTURES, LABELS), (astray, LABELS)]
    with pytest.raises(ValueError, match=r"the loss of step 3 is nan.*state\.pt keeps the last"):
        finish(train(small_network(), SCHEDULE, batches, 9, folder=tmp_path, save_every=1))
    assert torch.load(tmp_path / "state.pt")["number"] == 2


def test_a_full_disk_is_said_and_the_last_state_kept(tmp_path, monkeypatch):
    steps = train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1)
    next(steps)
    before = (tmp_path / "state.pt").read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="could not be written; what was there is kept"):
        next(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_disk_that_fills_up_costs_no_step(tmp_path, small_disk):
    """A real one: the training goes on from the last state, as if it had not been stopped."""
    disk, fill = small_disk
    batch = [(PICTURES, LABELS)]
    straight, stopped = small_network(), small_network()
    list(train(straight, SCHEDULE, batch, 4))
    steps = train(stopped, SCHEDULE, batch, 4, folder=disk, save_every=1)
    next(steps), next(steps)
    for left in (0, 4, 40):
        fill(left)
        with pytest.raises(OSError, match="state.pt could not be written; what was there is kept"):
            list(train(small_network(), SCHEDULE, batch, 4, folder=disk, save_every=1))
        assert {path.name for path in disk.iterdir()} == {"state.pt", ".filling"}
    fill(10_000)
    resumed = small_network()
    assert finish(train(resumed, SCHEDULE, batch, 4, folder=disk, save_every=1)).number == 4
    assert same_weights(resumed, straight)


@pytest.mark.parametrize("part", [{"network": []}, {"optimizer": None}, {"number": "3"}])
def test_a_state_with_damaged_parts_is_named(part, tmp_path):
    next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1))
    state = torch.load(tmp_path / "state.pt")
    torch.save(state | part, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt cannot be read as a training state"):
        next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))
    torch.save(state | {"optimizer": {}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt holds the optimizer's state of another"):
        next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))


def test_state_of_another_network_is_named(tmp_path):
    next(train(small_network(), SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path, save_every=1))
    wider = small_network(width=16)
    with pytest.raises(ValueError, match=r"state\.pt belongs to another network: .*has shape"):
        next(train(wider, SCHEDULE, [(PICTURES, LABELS)], 4, folder=tmp_path))


# Kill -9. Children come from a server that has PyTorch loaded: each starts at once.

from_a_server = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if from_a_server else "spawn")
if from_a_server:
    PROCESSES.set_forkserver_preload(["cfd_course.training"])
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one, and it kills
KILLED_STEPS = 60


def kill_run(folder: Path | None, save_every: int):
    network = small_network()
    loader = batches(PICTURES, LABELS, 4)
    return network, train(
        network, SCHEDULE, loader, KILLED_STEPS, folder=folder, save_every=save_every
    )


def train_until_killed(folder, save_every, reached):
    torch.set_num_threads(1)
    for step in kill_run(folder, save_every)[1]:
        reached.value = step.number


def kill_in_save(folder, save_every, number, half):
    """Train, and die while the state of this step is written: halfway, or before it is moved."""
    torch.set_num_threads(1)
    save = torch.save

    def fatal(state, path):
        save(state, path)
        if state["number"] == number:
            if half:
                truncated(Path(path))
            os.kill(os.getpid(), KILL)

    torch.save = fatal
    finish(kill_run(folder, save_every)[1])


def run(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


@pytest.fixture(scope="module")
def uninterrupted():
    network, steps = kill_run(None, 1)
    return network, finish(steps).average


@pytest.mark.parametrize("save_every", [1, 7])
def test_killed_at_random_moments(save_every, tmp_path, uninterrupted):
    """Four kills. Each loses at most the steps since the last save, and after all of them the
    weights are those of a run that was never stopped."""
    reached = PROCESSES.Value("i", 0, lock=False)
    for _ in range(4):
        before = reached.value
        process = run(train_until_killed, tmp_path, save_every, reached)
        deadline = time.monotonic() + 600
        while reached.value < before + random.randint(1, 9) and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        process.join()
        assert abs(process.exitcode) == KILL
        seen = reached.value
        saved = next(kill_run(tmp_path, save_every)[1]).number - 1 if seen >= save_every else 0
        assert seen - seen % save_every <= saved <= seen + 1
        reached.value = saved
    network, steps = kill_run(tmp_path, save_every)
    average = finish(steps).average
    assert same_weights(network, uninterrupted[0]) and same_weights(average, uninterrupted[1])


@pytest.mark.parametrize("half", [True, False])
def test_killed_in_a_save(half, tmp_path, uninterrupted):
    process = run(kill_in_save, tmp_path, 3, 9, half)
    process.join(600)
    assert abs(process.exitcode) == KILL
    network, steps = kill_run(tmp_path, 3)
    first = next(steps)
    assert first.number == 7  # the save of step 6 is whole, the one of step 9 never came to be
    finish(steps)
    assert same_weights(network, uninterrupted[0])


# Several processes, several precisions


def processes_run(size: int) -> tuple[nn.Module, nn.Module]:
    # Wide enough for two channels a group: where a group is one channel, GroupNorm takes the bias
    # before it away again, its gradient is rounding error, and AdamW makes steps of that.
    network = small_network(width=16)
    steps = train(network, SCHEDULE, batches(PICTURES, LABELS, size), 12, drop=0.3, warm_up=2)
    return network, finish(steps).average


SIZES = (4, 5, 3)


def in_each_process(folder: Path) -> None:
    """What `accelerate launch` runs below."""
    torch.set_num_threads(1)
    for size in SIZES:
        network, average = processes_run(size)
        name = f"{size}-{PartialState().process_index}-of-{PartialState().num_processes}.pt"
        torch.save((network.state_dict(), average.state_dict()), folder / name)
    try:
        processes_run(1)
    except ValueError as error:
        (folder / f"refused-{PartialState().process_index}.txt").write_text(str(error))


def test_two_processes_equal_one(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", __file__, str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    # `--cpu` would start a single process, or want MPI: this is the way to two on processors.
    environment = {**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    for size in SIZES:
        networks = processes_run(size)
        for process in range(2):
            saved = torch.load(tmp_path / f"{size}-{process}-of-2.pt")
            for network, weights in zip(networks, saved, strict=True):
                torch.testing.assert_close(weights, network.state_dict(), atol=1e-5, rtol=0)
        moved = (
            small_network(width=16).state_dict()["conv_out.weight"] - networks[0].conv_out.weight
        )
        assert moved.abs().max() > 1e-3
    for process in range(2):
        message = (tmp_path / f"refused-{process}.txt").read_text()
        assert "x_0 should have at least 2 row" in message


def usable(network: Unet) -> bool:
    """As a fresh network with the same weights is."""
    fresh = small_network(seed=8)
    fresh.load_state_dict(network.state_dict())
    result, expected = (
        n(PICTURES, 5, LABELS) for n in (copy.deepcopy(network), fresh.to(PICTURES))
    )
    # Not bit for bit: where no gradient is asked for, some processors take another convolution.
    close = torch.allclose(result, expected, rtol=1e-5, atol=1e-9)
    return result.dtype == torch.float32 and close


def test_two_precisions_in_one_process():
    plain = small_network()
    finish(train(plain, SCHEDULE, [(PICTURES, LABELS)], 6))
    reduced = small_network()
    finish(train(reduced, SCHEDULE, [(PICTURES, LABELS)], 6, precision="bf16"))
    again = small_network()
    finish(train(again, SCHEDULE, [(PICTURES, LABELS)], 6))
    assert same_weights(plain, again) and not same_weights(plain, reduced)
    assert usable(plain) and usable(reduced)
    difference = plain.conv_out.weight - reduced.conv_out.weight
    assert difference.abs().max() < 0.3 * plain.conv_out.weight.abs().max()


def test_two_precisions_side_by_side():
    """Step by step in turn, each does what it does alone."""
    alone, turns, streams = [], [], []
    for precision in ("no", "bf16"):
        alone.append(small_network())
        finish(train(alone[-1], SCHEDULE, [(PICTURES, LABELS)], 6, precision=precision))
        turns.append(small_network())
        streams.append(train(turns[-1], SCHEDULE, [(PICTURES, LABELS)], 6, precision=precision))
    for _ in zip(*streams, strict=True):
        pass
    assert all(map(same_weights, alone, turns))


def test_a_training_left_early_leaves_a_usable_network():
    network = small_network()
    for step in train(network, SCHEDULE, [(PICTURES, LABELS)], 6, precision="bf16"):
        if step.number == 2:
            assert usable(step.average)
            break
    del step
    assert usable(network)
    finish(train(network, SCHEDULE, [(PICTURES, LABELS)], 2))


# What training refuses


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network": lambda x, t, c: x}, "network should be of type Module"),
        ({"schedule": [0.1]}, "schedule should be of type NoiseSchedule"),
        ({"batches": iter([(PICTURES, LABELS)])}, "batches should be something to go through"),
        ({"batches": (batch for batch in [])}, "batches should be something to go through"),
        ({"batches": PICTURES}, "batches should be something to go through"),
        ({"batches": 3}, "batches should be of type Iterable, but 3"),
        ({"batches": []}, "batches should hold at least one batch, but none came"),
        ({"batches": [PICTURES]}, r"each of batches should be a pair \(x_0, condition\)"),
        ({"batches": [(PICTURES.long(), LABELS)]}, "x_0 should be a float tensor"),
        ({"batches": [(PICTURES, LABELS.tokens)]}, "should be of type Condition or None"),
        ({"batches": [(PICTURES[:3], LABELS)]}, "as many rows, but 3 and 15 came"),
        ({"batches": [(PICTURES[:, :, :3], LABELS)]}, "divisible by 2"),
        ({"batches": [(PICTURES[:0], None)]}, r"x_0 should have shape \[B, ...\]"),
        ({"steps": 0}, "steps should be at least 1"),
        ({"drop": 1.5}, "drop should be in 0..1"),
        ({"seed": 0.5}, "seed should be a whole number"),
        ({"folder": 3}, "folder should be of type str or of type Path or None"),
        ({"save_every": 0}, "save_every should be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate should be"),
        ({"warm_up": -1}, "warm_up should be"),
        ({"decay": 2}, "decay should be in 0..1"),
        ({"precision": "half"}, "precision should be one of 'no', 'bf16', 'fp16'"),
        ({"precision": "fp16"}, 'precision should be "no" or "bf16" on a CPU'),
        ({"target": "x_0"}, "target should be one of 'noise', 'between', 'velocity'"),
    ],
)
def test_training_refuses(changed, words):
    arguments = {
        "network": small_network(),
        "schedule": SCHEDULE,
        "batches": [(PICTURES, LABELS)],
        "steps": 2,
    }
    with pytest.raises((TypeError, ValueError), match=words):
        next(train(**{**arguments, **changed}))


if __name__ == "__main__":
    in_each_process(Path(sys.argv[1]))
