"""Files that hold networks: checkpoints, to share, and states, for a training to go on from."""

import json
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from . import expect
from .expect import checked
from .files import replacing


@checked
def save_checkpoint(path: str | Path, network: nn.Module, recipe: dict) -> None:
    """Write the weights, in float16, and how they came about to one safetensors file. recipe: what
    JSON can hold."""
    path = Path(path)
    weights = {}
    for name, weight in network.state_dict().items():
        # Copies: the format takes no views, and no two tensors that share their memory.
        kind = torch.float16 if weight.is_floating_point() else weight.dtype
        weights[name] = weight.to(kind, copy=True, memory_format=torch.contiguous_format)
        if weight.is_complex() or not bool(weights[name].isfinite().all()):
            raise ValueError(
                f"the network's {name} holds a NaN, or numbers too large for float16, or complex "
                "ones, so it was not saved: has its training gone astray?"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"recipe": json.dumps(recipe)}
    with _disk(path, safetensors.SafetensorError), replacing(path) as unfinished:
        safetensors.torch.save_file(weights, unfinished, metadata=metadata)


@checked
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


def save_state(path: Path, state: dict) -> None:
    """Write the state of a training: numbers, tensors, and what has a state_dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in state.items()}
    with _disk(path, RuntimeError), replacing(path) as unfinished:
        torch.save(plain, unfinished)


def load_state(path: Path, state: dict) -> dict:
    """The numbers and tensors of a file written by save_state, with the same keys as in `state`.
    What has a state_dict there is given the one from the file; the settings must be the same."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        for key, like in state.items():
            expect.fits(
                f"its {key}", found[key], dict if hasattr(like, "state_dict") else type(like)
            )
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as a training state. Move it away to start again. ({error})"
        ) from error
    changed = [
        f"{key} was {value}, now {state['settings'].get(key)}"
        for key, value in found["settings"].items()
        if state["settings"].get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{path} was trained otherwise: {'; '.join(changed)}. Use the same settings or another "
            "folder."
        )
    for key, like in state.items():
        if isinstance(like, nn.Module):
            load_weights(like, found[key], path)
        elif hasattr(like, "load_state_dict"):
            try:
                like.load_state_dict(found[key])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"{path} holds the {key}'s state of another training. Move it away to start "
                    f"again. ({error})"
                ) from error
    return found


@contextmanager
def _disk(path: Path, kind: type[Exception]):
    """torch and safetensors have errors of their own for a disk that is full."""
    try:
        yield
    except kind as error:
        raise OSError(
            f"{path} could not be written; what was there is kept. Is the disk full? ({error})"
        ) from error
