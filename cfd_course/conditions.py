"""What the network is told besides x_t and t, and what it means to be told nothing.

Whether a condition is present is a boolean for each example. What absence looks like is learned
and lives in the network, for zeros are a legitimate picture and a legitimate embedding.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import torch
from annotated_types import MinLen
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import expect
from .expect import Share, Source, checked


@checked
@dataclass(frozen=True, eq=False)
class Condition:
    """A batch of conditions: a picture for each example, or a row of tokens, or both.

    image: already at the size of x_t.
    tokens: numbers, which the network's token encoder turns into embeddings, or embeddings from
        outside.
    mask: False marks padding, which must not be attended to. All True if not given. With an image
        alone, for a network that attends to its patches: one for each patch.
    present: False for an example whose condition the network must not see. All True if not given.
    """

    image: Float[Tensor, "B C H W"] | None = None
    tokens: Int[Tensor, "B L"] | Float[Tensor, "B L D"] | None = None
    mask: Bool[Tensor, "B L"] | None = None
    present: Bool[Tensor, "B"] | None = None

    def __post_init__(self):
        first = self.tokens if self.image is None else self.image
        if first is None:
            raise ValueError(
                "a Condition should hold an image or tokens (or both), but neither came. "
                "For an unconditional network pass condition=None."
            )
        everything = {"dtype": torch.bool, "device": first.device}
        if self.mask is None and self.tokens is not None:
            object.__setattr__(self, "mask", torch.ones(self.tokens.shape[:2], **everything))
        if self.present is None:
            object.__setattr__(self, "present", torch.ones(len(first), **everything))
        for name, value in self._tensors().items():
            where = f"be on {first.device} like the rest of the condition"
            advice = "Move it with .to(...)."
            expect.that(value.device == first.device, name, where, str(value.device), advice)

    def __len__(self) -> int:
        return len(self.present)

    @checked
    def drop(self, probability: Share, generator: Source = None) -> "Condition":
        """The same batch with each example's condition hidden with this probability, decided for
        each example by itself. Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022),
        algorithm 1."""
        device = None if generator is None else generator.device
        dropped = torch.rand(len(self), generator=generator, device=device) < probability
        return replace(self, present=self.present & ~dropped.to(self.present.device))

    def absent(self) -> "Condition":
        """The same condition, told to nobody."""
        return replace(self, present=torch.zeros_like(self.present))

    @checked
    def to(self, device: str | torch.device) -> "Condition":
        """The same condition on another device."""
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):  # an unknown name; a torch built without it
            expect.that(False, "device", 'be one that torch finds here, such as "cpu"', device)
        if torch.device(device) == self.present.device:
            return self
        return self._each(lambda tensor: tensor.to(device))

    def __getitem__(self, rows) -> "Condition":
        """The conditions of some of the examples: condition[3:7], or with a list of numbers."""
        picked = [rows] if isinstance(rows, int) else rows
        numbers = torch.empty(0)
        if isinstance(picked, (slice, list, Tensor)):
            with contextlib.suppress(IndexError, TypeError, ValueError):
                numbers = torch.arange(len(self))[picked]
        if numbers.ndim != 1 or not len(numbers):
            # An IndexError, for that is what ends a loop over the examples.
            raise IndexError(
                f"rows should pick at least one of the {len(self)} examples, with numbers in "
                f"0..{len(self) - 1} or a slice, but {expect.describe(rows)} came."
            )
        return self._each(lambda tensor: tensor[numbers.to(tensor.device)])

    def _tensors(self) -> dict[str, Tensor]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _each(self, change) -> "Condition":
        return Condition(**{name: change(tensor) for name, tensor in self._tensors().items()})

    @staticmethod
    @checked
    def concatenate(parts: "Annotated[Sequence[Condition], MinLen(1)]") -> "Condition":
        """One batch out of several, alike in everything but their number of examples."""
        merged = {}
        for field in fields(Condition):
            values = [getattr(part, field.name) for part in parts]
            kinds = {None if v is None else (v.shape[1:], v.dtype, v.device) for v in values}
            came = f"different {field.name}: {', '.join(map(expect.describe, values))}"
            wanted = "be alike in everything but their number of examples"
            expect.that(len(kinds) == 1, "parts", wanted, came)
            merged[field.name] = None if values[0] is None else torch.cat(values)
        return Condition(**merged)


@checked
def with_null_image(
    image: Float[Tensor, "B C H W"], present: Bool[Tensor, "B"], null: Float[Tensor, "C"]
) -> Float[Tensor, "B C+1 H W"]:
    """What the network sees of a condition picture: the picture, or the learned null colour where
    it is absent, and one more plane that says which, 1 for present."""
    seen = torch.where(present[:, None, None, None], image, null.to(image)[:, None, None])
    flag = present.to(image)[:, None, None, None].expand(-1, 1, *image.shape[2:])
    return torch.cat([seen, flag], dim=1)


@checked
def with_null_token(
    tokens: Float[Tensor, "B L D"],
    mask: Bool[Tensor, "B L"],
    present: Bool[Tensor, "B"],
    null: Float[Tensor, "D"],
) -> tuple[Float[Tensor, "B L+1 D"], Bool[Tensor, "B L+1"]]:
    """What the network may attend to: the learned null token, first and always, then the tokens
    that are neither padding nor absent. So the softmax is never empty."""
    first = null.to(tokens).expand(len(tokens), 1, -1)
    always = torch.ones_like(present)[:, None]
    return torch.cat([first, tokens], dim=1), torch.cat([always, mask & present[:, None]], dim=1)
