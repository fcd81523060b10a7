"""The loss, and the training loop as a stream of steps that can be stopped and resumed."""

import copy
import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy
import torch
from accelerate import Accelerator
from annotated_types import Ge
from torch import Tensor, nn

from . import expect
from .checkpoints import load_checkpoint, load_state, load_weights, save_checkpoint, save_state
from .conditions import Condition
from .expect import Count, Pictures, Share, Time, checked
from .schedule import NoiseSchedule
from .unet import Network, ask

__all__ = [  # a lesson imports load_checkpoint from here
    "TrainingStep",
    "learning_rate_at",
    "load_checkpoint",
    "load_weights",
    "noise_loss",
    "save_checkpoint",
    "train",
    "update_average",
]

NotNegative = Annotated[float, Ge(0)]
Target = Literal["noise", "between", "velocity"]
# The error of the noise divided by alpha_bar to this power is the error of the target.
POWERS = {"noise": 0.0, "between": 0.75, "velocity": 1.0}


@checked
def noise_loss(
    network: Network,
    schedule: NoiseSchedule,
    x_0: Pictures,
    condition: Condition | None,
    t: Time,
    noise: Pictures,
    target: Target = "noise",
) -> Tensor:
    """The mean squared error of the predicted noise: L_simple of DDPM (2020), equation 14.

    target: whose error is counted. That of the velocity, v = sqrt(alpha_bar) noise -
    sqrt(1 - alpha_bar) x_0, is the noise's divided by alpha_bar: far more where nearly all is
    noise. Salimans, Ho, "Progressive Distillation" (2022), section 4. "between" divides by
    alpha_bar ** 0.75: for photos, all t above 300 or so then have about the same part in the loss.
    """
    guess = ask(network, schedule.add_noise(x_0, t, noise), t, condition)
    expect.alike("what network returned", guess, noise, "It is the noise.")
    error = (guess.float() - noise).square().flatten(1).mean(1)
    alpha_bar = schedule.alpha_bars[torch.as_tensor(t).cpu()].float().to(error.device)
    return (alpha_bar ** -POWERS[target] * error).mean()


@torch.no_grad()
@checked
def update_average(average: nn.Module, network: nn.Module, decay: Share) -> None:
    """Move the averaged weights a little towards the network's, in place:
    average = decay * average + (1 - decay) * network. Buffers are copied."""
    slow, fast = list(average.parameters()), list(network.parameters())
    if [p.shape for p in slow] != [p.shape for p in fast]:
        raise ValueError(
            "average should be a copy of network, but one with parameters of other shapes came."
        )
    torch._foreach_lerp_(slow, fast, 1 - decay)
    for buffer, source in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(source)


@checked
def learning_rate_at(
    number: Count, steps: Count, peak: NotNegative, warm_up: Annotated[int, Ge(0)]
) -> float:
    """The learning rate of step `number`, from 1: up to the peak in a line over `warm_up` steps,
    then down to 0 at the last step along half a cosine."""
    expect.that(number <= steps, "number", f"be in 1..{steps}", f"{number}")
    if number < warm_up:
        return peak * number / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (number - warm_up) / max(steps - warm_up, 1)))


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """number: from 1; loss: of this step's batch; average: the network with averaged weights, the
    one to sample from."""

    number: int
    loss: float
    average: nn.Module


@checked
def train(
    network: nn.Module,
    schedule: NoiseSchedule,
    batches: Iterable,
    steps: Count,
    *,
    drop: Share = 0.1,
    seed: Annotated[int, Ge(0)] = 0,
    folder: str | Path | None = None,
    save_every: Count = 200,
    learning_rate: NotNegative = 1e-3,
    warm_up: Annotated[int, Ge(0)] = 100,
    decay: Share = 0.999,
    target: Target = "noise",
    precision: Literal["no", "bf16", "fp16"] = "no",
) -> Iterator[TrainingStep]:
    """Train the network to predict noise, with or without the condition. Yields after each step.

    network: network(x_t, t, condition) -> noise; changed in place. batches: what can be gone
    through again and again and gives (x_0, condition), usually a DataLoader. steps: the number of
    the last step. drop: the chance that an example's condition is hidden. learning_rate: the peak,
    see learning_rate_at. decay: of the averaged weights. target: see noise_loss. precision:
    "fp16" needs an accelerator.

    folder: where the state is saved after every `save_every` steps and after the last one. If it
    holds a state, training goes on from there, and ends with the same weights as if it had never
    stopped: everything random in a step follows from `seed` and the step's number. Batches and
    networks that draw from the global random numbers of torch, numpy or Python are covered, and so
    are generators of a DataLoader, its samplers and its dataset. Batches that come out otherwise
    are refused.

    The device is Accelerate's: a GPU where there is one. There the network and its average stay,
    and from there they answer: see unet.ask. Under `accelerate launch` every process draws the same
    batch and noise, and works on its part of the rows. Two processes without a GPU:
    `ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 SCRIPT`, for its
    `--cpu` starts a single one where there is no MPI.
    """
    wanted = (
        "be something to go through again and again, a DataLoader or a list of (x_0, condition)"
    )
    once = isinstance(batches, (Iterator, str, Tensor))
    expect.that(not once, "batches", wanted, batches, kind=TypeError)
    accelerator = Accelerator(mixed_precision="no")  # the precision is ours, below
    device = accelerator.device
    right = precision != "fp16" or device.type != "cpu"
    expect.that(right, "precision", 'be "no" or "bf16" on a CPU', precision)
    mine = slice(accelerator.process_index, None, accelerator.num_processes)

    network.to(device).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.99)
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    state = {
        "number": 0,
        "loss": math.nan,
        "batch": torch.empty(0),  # what the last batch looks like, see _looks
        "settings": {
            "seed": seed,
            "drop": drop,
            "learning_rate": learning_rate,
            "warm_up": warm_up,
            "decay": decay,
            "target": target,
        },
        "network": network,
        "average": average,
        "optimizer": optimizer,
        "scaler": scaler,
    }
    path = None if folder is None else Path(folder, "state.pt")
    if path is not None and path.exists():
        found = load_state(path, state)
        state |= {key: found[key] for key in ("number", "loss", "batch")}
    done = state["number"]
    if done >= steps:
        yield TrainingStep(done, state["loss"], average)
        return

    model = accelerator.prepare(network)
    stream = _stream(batches, seed, done, state["batch"], path)
    for number in range(done + 1, steps + 1):
        x_0, condition = next(stream)
        least = f"have at least {accelerator.num_processes} row(s), one for each process"
        right = len(x_0) >= accelerator.num_processes
        expect.that(right, "x_0", least, x_0)
        source = torch.Generator().manual_seed(_seed(seed, number))
        t = torch.randint(1, schedule.steps + 1, (len(x_0),), generator=source)
        noise = torch.randn(x_0.shape, generator=source)
        if condition is not None:
            condition = condition.drop(drop, source)[mine].to(device)
        rows = x_0[mine].to(device)
        # DDP averages over processes, whose parts may differ by one row.
        part = len(rows) * accelerator.num_processes / len(x_0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(number, steps, learning_rate, warm_up)
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        with (
            _random_from(_seed(seed, number) + accelerator.process_index),  # for dropout
            torch.autocast(device.type, dtype, enabled=precision != "no"),
        ):
            told = (condition, t[mine].to(device), noise[mine].to(device))
            error = part * noise_loss(model, schedule, rows, *told, target)
        optimizer.zero_grad()
        scaler.scale(error).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        # Early averages forget fast, or they would remember the random start.
        update_average(average, network, min(decay, (1 + number) / (10 + number)))
        loss = accelerator.reduce(error.detach(), "mean").item()
        if not math.isfinite(loss):
            kept = "" if path is None else f" {path} keeps the last state before that."
            raise ValueError(
                f"the loss of step {number} is {loss}: the training has gone astray.{kept} "
                "Look for such numbers in the batches, or train with a smaller learning rate."
            )
        if path is not None and (number % save_every == 0 or number == steps):
            if accelerator.is_main_process:
                save_state(path, state | {"number": number, "loss": loss, "batch": _looks(x_0)})
        yield TrainingStep(number, loss, average)


def _seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**32  # torch's CPU generator keeps 32 bits


@contextmanager
def _random_from(seed: int):
    """Inside, the global random numbers start from the seed; afterwards they go on as if nothing
    had been drawn."""
    python, array = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            numpy.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(array)


def _stream(
    batches: Iterable, seed: int, done: int, looked: Tensor, path: Path | None
) -> Iterator[tuple[Tensor, Condition | None]]:
    """The batches of steps done + 1, done + 2, ..., pass after pass, the same after a restart.
    looked: what the batch of step `done` looked like."""
    if getattr(batches, "persistent_workers", False):
        # They would carry their random numbers from one pass to the next.
        batches = copy.copy(batches)
        vars(batches)["persistent_workers"] = False
    number = 0
    try:
        # Whole passes need not be replayed, but for the one that holds the batch to look at.
        number = max(done - 1, 0) // len(batches) * len(batches)
    except (TypeError, ZeroDivisionError):  # of unknown length, like a stream, or empty
        pass
    while True:
        _reseed(batches, _seed(seed, number))
        iterator, first = None, number
        while True:
            with _random_from(_seed(seed, number)):
                iterator = iter(batches) if iterator is None else iterator
                batch = next(iterator, None)
            if batch is None:
                break
            number += 1
            if number > done:
                yield _pair(batch)
            elif number == done:
                now = _looks(_pair(batch)[0])
                if now.shape != looked.shape or not torch.allclose(now, looked, 1e-3, 1e-4):
                    raise ValueError(
                        f"batches should be those with which {path} was trained, but the one of "
                        f"step {done} came out otherwise. Do they hold other data, or draw random "
                        "numbers that train cannot repeat? Move the file away to start again."
                    )
        expect.that(number > first, "batches", "hold at least one batch", "none")


def _reseed(batches, seed: int) -> None:
    """Start every generator in a DataLoader, its samplers and its dataset from the seed."""
    left, seen = [batches], set()
    while left:
        each = left.pop()
        if id(each) in seen or each is None:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Generator):
            each.manual_seed(seed)
        elif isinstance(each, random.Random):
            each.seed(seed)
        elif isinstance(each, numpy.random.Generator):
            each.bit_generator.state = type(each.bit_generator)(seed).state
        elif each is batches or isinstance(
            each, torch.utils.data.Sampler | torch.utils.data.Dataset
        ):
            left += vars(each).values() if hasattr(each, "__dict__") else ()


def _looks(x_0: Tensor) -> Tensor:
    """The mean of each example, which tells batches apart; [B]."""
    return x_0.detach().float().cpu().flatten(1).mean(1)


def _pair(batch) -> tuple[Tensor, Condition | None]:
    right = isinstance(batch, (tuple, list)) and len(batch) == 2
    expect.that(right, "each of batches", "be a pair (x_0, condition)", batch, kind=TypeError)
    x_0, condition = batch
    expect.fits("x_0", x_0, Pictures)
    expect.fits("the condition in each of batches", condition, Condition | None)
    if condition is not None:
        came = f"{len(x_0)} and {len(condition)}"
        right = len(condition) == len(x_0)
        expect.that(right, "x_0 and its condition", "have as many rows", came)
    return x_0, condition
