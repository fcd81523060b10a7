"""Classifier-free guidance: turns a network and a condition into a denoiser."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import expect
from .conditions import Condition


def paper_scale(w: float) -> float:
    """This course's scale for the w of Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022):
    their equation 6, (1 + w) conditional - w null, is null + (1 + w) (conditional - null)."""
    return 1 + expect.number("w", w)


def guide(
    network: Callable[..., Tensor],
    condition: Condition | None = None,
    scale: float | Callable[..., float] = 1.0,
) -> Callable[..., Tensor]:
    """A denoiser, denoise(x_t, t) -> noise, that follows the condition `scale` times as much:

        null + scale * (conditional - null)

    1 is the plain conditional network, 0 the unconditional one, more than 1 exaggerates.

    network: network(x_t, t, condition) -> noise, a Unet for instance. If it has `encode_tokens`,
        that runs once, here, and not once a step.
    scale: a number, or a function of t that returns one.

    Both predictions come from one call on a batch of 2B; at scale 1 or 0 only one is needed.
    """
    expect.callable_("network", network, "network(x_t, t, condition)")
    if not callable(scale):
        expect.number("scale", scale)
    if condition is None:
        return lambda x_t, t: network(x_t, t, None)
    expect.instance("condition", condition, Condition, "None means no condition at all.")
    if hasattr(network, "encode_tokens"):
        with torch.no_grad():
            condition = network.encode_tokens(condition)
    absent = condition.absent()
    both = Condition.concatenate([absent, condition])

    def denoise(x_t: Tensor, t) -> Tensor:
        expect.tensor("x_t", x_t, None)
        if x_t.ndim == 0 or len(x_t) != len(condition):
            raise ValueError(
                f"x_t should have one row for each of the condition's {len(condition)} examples, "
                f"but {expect.describe(x_t)} came."
            )
        strength = expect.number("scale(t)", scale(t)) if callable(scale) else scale
        if strength == 1:
            return network(x_t, t, condition)
        if strength == 0:
            return network(x_t, t, absent)
        if isinstance(t, Tensor) and t.ndim == 1:
            t = torch.cat([t, t])
        predicted = network(torch.cat([x_t, x_t]), t, both)
        expect.tensor("what network returned", predicted, (2 * len(x_t), *x_t.shape[1:]))
        null, conditional = predicted.chunk(2)
        return null + strength * (conditional - null)

    return denoise
