"""The loss, the training loop as a stream of steps, and files that training can go on from."""

import copy
import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .files import replacing
from .schedule import NoiseSchedule

# The error of the noise is divided by alpha_bar to this power.
TARGETS = {"noise": 0.0, "between": 0.75, "velocity": 1.0}


def noise_loss(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    condition: Condition | None,
    t: Tensor,
    noise: Tensor,
    target: str = "noise",
) -> Tensor:
    """The mean squared error of the predicted noise: L_simple of DDPM (2020), equation 14.

    x_0, noise [B, ...]; t [B] -> a single number. target: "velocity" counts the same error as one
    of v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0, that is divided by alpha_bar: far more
    where nearly all is noise. Salimans, Ho, "Progressive Distillation" (2022), section 4. "between"
    divides by alpha_bar ** 0.75: for photos, all t above 300 or so then have about the same share
    in the loss.
    """
    expect.choice("target", target, tuple(TARGETS))
    expect.callable_("network", network, "network(x_t, t, condition)")
    expect.instance("schedule", schedule, NoiseSchedule)
    guess = network(schedule.add_noise(x_0, t, noise), t, condition)
    expect.tensor("what network returned", guess, tuple(noise.shape), advice="It is the noise.")
    error = (guess.float() - noise).square().flatten(1).mean(1)
    weight = schedule.alpha_bars.to(error.device)[t].float() ** -TARGETS[target]
    return (weight * error).mean()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the network's, in place:
    average = decay * average + (1 - decay) * network. Buffers are copied."""
    expect.instance("average", average, nn.Module)
    expect.instance("network", network, nn.Module)
    expect.number("decay", decay, 0, 1)
    slow, fast = list(average.parameters()), list(network.parameters())
    if [p.shape for p in slow] != [p.shape for p in fast]:
        raise ValueError(
            "average should be a copy of network, but one with parameters of other shapes came."
        )
    torch._foreach_lerp_(slow, fast, 1 - decay)
    for buffer, source in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(source)


def learning_rate_at(number: int, steps: int, peak: float, warm_up: int) -> float:
    """The learning rate of step `number`, from 1: up to the peak in a line over `warm_up` steps,
    then down to 0 at the last step along half a cosine."""
    expect.whole("steps", steps, 1)
    expect.whole("number", number, 1, steps)
    expect.number("peak", peak, 0)
    expect.whole("warm_up", warm_up, 0)
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


def train(
    network: nn.Module,
    schedule: NoiseSchedule,
    batches: Iterable[tuple[Tensor, Condition | None]],
    steps: int,
    *,
    drop: float = 0.1,
    seed: int = 0,
    folder: str | Path | None = None,
    save_every: int = 200,
    learning_rate: float = 1e-3,
    warm_up: int = 100,
    weight_decay: float = 0.01,
    decay: float = 0.999,
    precision: str = "no",
    target: str = "noise",
) -> Iterator[TrainingStep]:
    """Train the network to predict noise, with or without the condition. Yields after each step.

    network: network(x_t, t, condition) -> noise; changed in place. batches: what can be gone
    through again and again and gives (x_0, condition), usually a DataLoader. steps: the number of
    the last step. drop: the chance that an example's condition is hidden. learning_rate: the peak,
    see learning_rate_at. decay: of the averaged weights. precision: "no", "bf16" or "fp16".
    target: see noise_loss.

    folder: where the state is saved after every `save_every` steps and after the last one. If it
    holds a state, training goes on from there, and ends with the same weights as if it had never
    stopped: everything random in a step follows from `seed` and the step's number. Batches and
    networks that draw from torch's global random numbers, and a DataLoader's generator, are
    covered.

    Device, precision and processes are Accelerate's: under `accelerate launch` every process
    draws the same batch and noise, and works on its share of the rows. Two processes without a GPU:
    `ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 SCRIPT`, for its
    `--cpu` starts a single one where there is no MPI.
    """
    _check_settings(network, schedule, batches, steps, drop, decay, precision)
    expect.whole("seed", seed, 0)
    expect.whole("save_every", save_every, 1)
    expect.number("learning_rate", learning_rate, 0)
    expect.whole("warm_up", warm_up, 0)
    expect.number("weight_decay", weight_decay, 0)
    expect.choice("target", target, tuple(TARGETS))
    if folder is not None and not isinstance(folder, (str, Path)):
        raise TypeError(f"folder should be a path or None, but {expect.describe(folder)} came.")
    AcceleratorState._reset_state()  # or a second precision in the same kernel is refused
    accelerator = Accelerator(mixed_precision=precision)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    device = accelerator.device

    network.to(device).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99)
    )
    settings = {
        "seed": seed,
        "drop": drop,
        "learning_rate": learning_rate,
        "warm_up": warm_up,
        "weight_decay": weight_decay,
        "decay": decay,
        "target": target,
    }
    path = None if folder is None else Path(folder) / "state.pt"
    done, loss = 0, math.nan
    if path is not None and path.exists():
        done, loss = _resume(path, settings, network, average, optimizer)
    if done >= steps:
        yield TrainingStep(done, loss, average)
        return

    model, optimizer = accelerator.prepare(network, optimizer)
    try:
        stream = _stream(batches, seed, done)
        for number in range(done + 1, steps + 1):
            x_0, condition = next(stream)
            if len(x_0) < accelerator.num_processes:
                raise ValueError(
                    f"x_0 should have at least {accelerator.num_processes} row(s), one for each "
                    f"process, but {expect.describe(x_0)} came."
                )
            random = torch.Generator().manual_seed(_seed(seed, number))
            t = torch.randint(1, schedule.steps + 1, (len(x_0),), generator=random)
            noise = torch.randn(x_0.shape, generator=random)
            if condition is not None:
                condition = condition.drop(drop, random)[share].to(device)
            mine = x_0[share].to(device)
            # DDP averages over processes, whose shares may differ by one row.
            weight = len(mine) * accelerator.num_processes / len(x_0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(number, steps, learning_rate, warm_up)
            with _random_from(_seed(seed, number) + accelerator.process_index):  # for dropout
                error = weight * noise_loss(
                    model,
                    schedule,
                    mine,
                    condition,
                    t[share].to(device),
                    noise[share].to(device),
                    target,
                )
            optimizer.zero_grad()
            accelerator.backward(error)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
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
                    _save(path, number, loss, settings, network, average, optimizer)
            yield TrainingStep(number, loss, average)
    finally:
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        vars(network).pop("forward", None)  # Accelerate leaves one that hides the class's own


def faster_precision(
    network: nn.Module, schedule: NoiseSchedule, batch: tuple[Tensor, Condition | None]
) -> str:
    """ "no" or "bf16": the precision for train() in which a step on this batch takes less time
    here. Some processors gain from bfloat16 and others lose, so it is measured, twice each."""
    x_0, condition = _checked(batch)
    parameters = [p for p in network.parameters() if p.requires_grad]
    t = torch.full((len(x_0),), schedule.steps)
    times = {"no": math.inf, "bf16": math.inf}
    for precision in ("no", "bf16") * 2:  # the first of each warms up
        began = time.perf_counter()
        with (
            _random_from(0),
            torch.autocast(x_0.device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            error = noise_loss(network, schedule, x_0, condition, t, x_0)
        torch.autograd.grad(error, parameters, allow_unused=True)
        times[precision] = min(times[precision], time.perf_counter() - began)
    return min(times, key=times.__getitem__)


def _check_settings(network, schedule, batches, steps, drop, decay, precision):
    if not isinstance(network, nn.Module):
        raise TypeError(f"network should be a torch module, but {expect.describe(network)} came.")
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(
            f"schedule should be a NoiseSchedule, but {expect.describe(schedule)} came."
        )
    if not isinstance(batches, Iterable) or isinstance(batches, (Iterator, str, Tensor)):
        raise TypeError(
            "batches should be something to go through again and again, such as a DataLoader or a "
            f"list of (x_0, condition), but {expect.describe(batches)} came."
        )
    expect.whole("steps", steps, 1)
    expect.number("drop", drop, 0, 1)
    expect.number("decay", decay, 0, 1)
    expect.choice("precision", precision, ("no", "bf16", "fp16"))


def _seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**32  # torch's CPU generator keeps 32 bits


@contextmanager
def _random_from(seed: int):
    """Inside, torch's global random numbers start from the seed; afterwards they go on as if
    nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _stream(batches, seed: int, done: int) -> Iterator[tuple[Tensor, Condition | None]]:
    """The batches of steps done + 1, done + 2, ..., pass after pass, the same after a restart."""
    number = 0
    try:
        number = done - done % len(batches)  # whole passes need not be replayed
    except (TypeError, ZeroDivisionError):  # of unknown length, like a stream, or empty
        pass
    while True:
        if isinstance(getattr(batches, "generator", None), torch.Generator):
            batches.generator.manual_seed(_seed(seed, number))
        iterator, first = None, number
        while True:
            with _random_from(_seed(seed, number)):
                iterator = iter(batches) if iterator is None else iterator
                batch = next(iterator, None)
            if batch is None:
                break
            number += 1
            if number > done:
                yield _checked(batch)
        if number == first:
            raise ValueError("batches should hold at least one batch, but none came.")


def _checked(batch):
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(
            f"each of batches should be a pair (x_0, condition), but {expect.describe(batch)} came."
        )
    x_0, condition = batch
    expect.tensor("x_0", x_0, None)
    if condition is not None and not isinstance(condition, Condition):
        raise TypeError(
            "the condition in each of batches should be a Condition or None, but "
            f"{expect.describe(condition)} came."
        )
    if condition is not None and len(condition) != len(x_0):
        raise ValueError(
            f"x_0 and its condition should have as many rows, but {len(x_0)} and "
            f"{len(condition)} came."
        )
    return x_0, condition


def _save(path: Path, number, loss, settings, network, average, optimizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "number": number,
        "loss": loss,
        "settings": settings,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with _disk(path), replacing(path) as partial:
        torch.save(state, partial)


@contextmanager
def _disk(path: Path):
    """torch and safetensors have errors of their own for a disk that is full."""
    try:
        yield
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise OSError(
            f"{path} could not be written; what was there is kept. Is the disk full? ({error})"
        ) from error


def _resume(path: Path, settings, network, average, optimizer) -> tuple[int, float]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        number, loss, before = state["number"], state["loss"], dict(state["settings"])
        weights, averaged, moments = state["network"], state["average"], state["optimizer"]
        expect.whole("its step", number, 1)
        for part in (weights, averaged, moments):
            expect.instance("each part of it", part, dict)
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as a training state. Move it away to start again. ({error})"
        ) from error
    changed = [
        f"{key} was {value}, now {settings.get(key)}"
        for key, value in before.items()
        if settings.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{path} was trained otherwise: {'; '.join(changed)}. Use the same settings or another "
            "folder."
        )
    load_weights(network, weights, path)
    load_weights(average, averaged, path)
    try:
        optimizer.load_state_dict(moments)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds the optimizer's state of another training. Move it away to start again. "
            f"({error})"
        ) from error
    return number, loss


def save_checkpoint(path: str | Path, network: nn.Module, recipe: dict) -> None:
    """Write the weights, in float16, and how they came about to one safetensors file. recipe: what
    JSON can hold."""
    path = Path(path)
    if not isinstance(recipe, dict):
        raise TypeError(f"recipe should be a dictionary, but {expect.describe(recipe)} came.")
    weights = {
        name: (t.half() if t.is_floating_point() else t).contiguous()
        for name, t in network.state_dict().items()
    }
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ValueError(
                f"the network's {name} holds a NaN, or numbers too large for float16, so it was "
                "not saved: its training has gone astray."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _disk(path), replacing(path) as partial:
        safetensors.torch.save_file(weights, partial, metadata={"recipe": json.dumps(recipe)})


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The weights, in float32, and the recipe of a file written by save_checkpoint."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or not a safetensors file: fetch or train it again. ({error})"
        ) from error
    try:
        recipe = dict(json.loads(metadata["recipe"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no recipe: it was not written by this course's train command."
        ) from error
    return {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}, recipe


def load_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Put the weights into the network. A file for another network is named in the error."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    problems += [f"{name} is not in this network" for name in weights.keys() - wanted.keys()]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, not {list(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if wanted[name].shape != weights[name].shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"{path} belongs to another network: {'; '.join(sorted(problems)[:3])}{more}."
        )
    for name, weight in weights.items():
        if weight.is_complex() or not bool(weight.isfinite().all()):
            raise ValueError(
                f"{path} is damaged: {name} holds numbers that are none. Fetch or train it again."
            )
    network.load_state_dict(weights)
