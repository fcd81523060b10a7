"""Classifier-free guidance: turns a network and a condition into a denoiser."""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from . import expect
from .conditions import Condition
from .expect import Pictures, checked
from .unet import Network, ask


@checked
def paper_scale(w: float) -> float:
    """This course's scale for the w of Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022):
    their equation 6, (1 + w) conditional - w null, is null + (1 + w) (conditional - null)."""
    return 1 + w


@checked
def guide(
    network: Network,
    condition: Annotated[Condition, "None means no condition at all."] | None = None,
    scale: float | Callable[..., float] = 1.0,
) -> Callable[..., Tensor]:
    """A denoiser, denoise(x_t, t) -> noise, that follows the condition `scale` times as much:

        null + scale * (conditional - null)

    1 is the plain conditional network, 0 the unconditional one, more than 1 exaggerates.

    network: network(x_t, t, condition) -> noise, a Unet for instance, on whatever device: see ask.
        If it has `encode_tokens`, that runs once, here, and not once a step.
    scale: a number, or a function of t that returns one.

    Both predictions come from one call on a batch of 2B; at scale 1 or 0 only one is needed.
    """
    if condition is None:
        return lambda x_t, t: ask(network, x_t, t, None)
    if hasattr(network, "encode_tokens"):
        with torch.no_grad():
            condition = network.encode_tokens(condition)
    absent = condition.absent()
    both = Condition.concatenate([absent, condition])

    @checked
    def denoise(x_t: Pictures, t: int | Tensor) -> Tensor:
        wanted = f"have one row for each of the condition's {len(condition)} examples"
        expect.that(len(x_t) == len(condition), "x_t", wanted, expect.describe(x_t))
        strength = expect.fits("scale(t)", scale(t), float) if callable(scale) else scale
        if strength == 1:
            return ask(network, x_t, t, condition)
        if strength == 0:
            return ask(network, x_t, t, absent)
        if isinstance(t, Tensor) and t.ndim == 1:
            t = torch.cat([t, t])
        twice = torch.cat([x_t, x_t])
        predicted = expect.alike("what network returned", ask(network, twice, t, both), twice)
        null, conditional = predicted.chunk(2)
        return null + strength * (conditional - null)

    return denoise
