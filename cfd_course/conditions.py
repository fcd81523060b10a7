"""What the network is told besides x_t and t, and what it means to be told nothing.

Whether a condition is present is a boolean for each example. What absence looks like is learned
and lives in the network, for zeros are a legitimate picture and a legitimate embedding.
"""

import contextlib
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from . import expect


@dataclass(frozen=True, eq=False)
class Condition:
    """A batch of conditions: a picture for each example, or a row of tokens, or both.

    image: [B, C, H, W], already at the size of x_t.
    tokens: numbers [B, L], which the network's token encoder turns into embeddings, or embeddings
        [B, L, D] from outside.
    mask: [B, L], bool; False marks padding, which must not be attended to. All True if not given.
        With an image alone, for a Unet that attends to its patches: one for each patch.
    present: [B], bool; False for an example whose condition the network must not see. All True if
        not given.
    """

    image: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    present: Tensor | None = None

    def __post_init__(self):
        if self.image is None and self.tokens is None:
            raise ValueError(
                "a Condition should hold an image or tokens (or both), but neither came. "
                "For an unconditional network pass condition=None."
            )
        if self.image is not None:
            expect.tensor("image", self.image, ("B", "C", "H", "W"))
        if self.tokens is not None:
            if isinstance(self.tokens, Tensor) and self.tokens.is_floating_point():
                expect.tensor("tokens", self.tokens, ("B", "L", "D"))
            else:
                expect.tensor("tokens", self.tokens, ("B", "L"), "int")
        first = self.image if self.image is not None else self.tokens
        count, device = len(first), first.device
        if self.image is not None and self.tokens is not None and len(self.tokens) != count:
            raise ValueError(
                f"image and tokens should have one row for each example, but {count} images and "
                f"{len(self.tokens)} rows of tokens came."
            )
        if self.mask is not None:
            length = "patches" if self.tokens is None else self.tokens.shape[1]
            expect.tensor("mask", self.mask, (count, length), "bool")
        elif self.tokens is not None:
            everything = torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=device)
            object.__setattr__(self, "mask", everything)
        if self.present is None:
            object.__setattr__(self, "present", torch.ones(count, dtype=torch.bool, device=device))
        expect.tensor("present", self.present, (count,), "bool")
        for name in ("tokens", "mask", "present"):
            value = getattr(self, name)
            if value is not None and value.device != device:
                raise ValueError(
                    f"{name} should be on {device} like the rest of the condition, but it came on "
                    f"{value.device}. Move it with .to(...)."
                )

    def __len__(self) -> int:
        return len(self.present)

    def drop(self, probability: float, generator: torch.Generator | None = None) -> "Condition":
        """The same batch with each example's condition hidden with this probability, decided for
        each example by itself. Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022),
        algorithm 1."""
        expect.number("probability", probability, 0, 1)
        expect.random_source("generator", generator)
        device = None if generator is None else generator.device
        dropped = torch.rand(len(self), generator=generator, device=device) < probability
        return replace(self, present=self.present & ~dropped.to(self.present.device))

    def absent(self) -> "Condition":
        """The same condition, told to nobody."""
        return replace(self, present=torch.zeros_like(self.present))

    def to(self, device: str | torch.device) -> "Condition":
        """The same condition on another device."""
        device = expect.device("device", device)
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

    def _each(self, change) -> "Condition":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Condition(**{name: None if t is None else change(t) for name, t in tensors.items()})

    @staticmethod
    def concatenate(parts: "list[Condition]") -> "Condition":
        """One batch out of several, alike in everything but their number of examples."""
        if not isinstance(parts, (list, tuple)) or not parts:
            raise TypeError(
                f"parts should be a list of Conditions, but {expect.describe(parts)} came."
            )
        for part in parts:
            expect.instance("each of parts", part, Condition)
        merged = {}
        for field in fields(Condition):
            values = [getattr(part, field.name) for part in parts]
            kinds = {None if v is None else (v.shape[1:], v.dtype, v.device) for v in values}
            if len(kinds) > 1:
                raise ValueError(
                    "parts should be alike in everything but their number of examples, but "
                    f"different {field.name} came: {', '.join(map(expect.describe, values))}."
                )
            merged[field.name] = None if values[0] is None else torch.cat(values)
        return Condition(**merged)


def with_null_image(image: Tensor, present: Tensor, null: Tensor) -> Tensor:
    """What the network sees of a condition picture: the picture, or the learned null colour where
    it is absent, and one more plane that says which, 1 for present.

    image [B, C, H, W], present [B], null [C] -> [B, C + 1, H, W].
    """
    expect.tensor("image", image, ("B", "C", "H", "W"))
    expect.tensor("present", present, (len(image),), "bool")
    expect.tensor("null", null, (image.shape[1],))
    seen = torch.where(present[:, None, None, None], image, null.to(image)[:, None, None])
    flag = present.to(image)[:, None, None, None].expand(-1, 1, *image.shape[2:])
    return torch.cat([seen, flag], dim=1)


def with_null_token(
    tokens: Tensor, mask: Tensor, present: Tensor, null: Tensor
) -> tuple[Tensor, Tensor]:
    """What the network may attend to: the learned null token, first and always, then the tokens
    that are neither padding nor absent. So the softmax is never empty.

    tokens [B, L, D], mask [B, L], present [B], null [D] -> tokens [B, L + 1, D], mask [B, L + 1].
    """
    expect.tensor("tokens", tokens, ("B", "L", "D"))
    expect.tensor("mask", mask, tuple(tokens.shape[:2]), "bool")
    expect.tensor("present", present, (len(tokens),), "bool")
    expect.tensor("null", null, (tokens.shape[2],))
    first = null.to(tokens).expand(len(tokens), 1, -1)
    always = torch.ones_like(present)[:, None]
    return torch.cat([first, tokens], dim=1), torch.cat([always, mask & present[:, None]], dim=1)
