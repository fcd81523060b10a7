"""Captioned scenes, drawn here: one or two coloured shapes on a dark ground, "a small red star
above a large blue circle". The caption is the ground truth, and a reader needs no network
(metrics.read_captions), so what a text-to-image model understood can be counted.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import expect
from ..conditions import Condition

SIDE = 32  # pixels, of a picture
RADII = {"small": 4.0, "large": 6.5}  # in pixels: an object fits a box of twice its radius
# A search over sRGB made the eight differ from each other and from the ground by at least 24 in
# CIELAB, also as simulated for protanopia, deuteranopia and tritanopia (Machado et al., 2009).
COLOURS = {
    "red": (190, 20, 30),
    "orange": (235, 120, 0),
    "yellow": (255, 220, 80),
    "green": (10, 160, 100),
    "cyan": (80, 210, 255),
    "blue": (45, 70, 245),
    "purple": (180, 70, 195),
    "white": (250, 250, 250),
}
PALETTE = torch.tensor(list(COLOURS.values())) / 127.5 - 1  # [8, 3]
GROUND = torch.tensor([30, 30, 30]) / 127.5 - 1  # [3], the colour behind the objects
RELATIONS = ("left of", "right of", "above", "below")
SPLITS = ("train", "held-out pairs", "held-out bindings")
MARGIN = 0.5  # pixels between an object's box and the edge of the picture
GAP = 2.0  # pixels at least between two objects' boxes, along the axis that the relation names
SINGLES = 0.2  # the share of scenes with one object
NOTHING = -1  # stands for the second object and the relation of a scene with one object


def _circle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.hypot(x, y) - r


def _square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.88 * r


def _triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Equilateral, a corner on top: below two slanted sides and above the base."""
    slanted = math.sin(math.pi / 3) * x.abs() - math.cos(math.pi / 3) * (y + 0.9 * r)
    return torch.maximum(slanted, y - 0.83 * r)


def _star(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Five points, one on top. Folded by its ten symmetries it is a single edge, which runs from
    a point at distance r, angle 0, to a notch at distance 0.45 r, angle pi / 5."""
    angle = ((torch.atan2(x, -y) + math.pi / 5).remainder(2 * math.pi / 5) - math.pi / 5).abs()
    distance = torch.hypot(x, y)
    across, along = 0.45 * math.sin(math.pi / 5), 1 - 0.45 * math.cos(math.pi / 5)
    edge = across * (distance * angle.cos() - r) + along * distance * angle.sin()
    return edge / math.hypot(across, along)


def _cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - r, y - 0.33 * r), torch.maximum(x - 0.33 * r, y - r))


def _ring(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.72 * r).abs() - 0.28 * r


# name: the signed distance in pixels from (x, y) to the edge of the shape of radius r that is
# centred on (0, 0), negative inside; y points down.
SHAPES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}

# The 96 objects. Everywhere else an object is its number in this list.
OBJECTS = tuple(
    f"{size} {colour} {shape}" for size in RADII for colour in COLOURS for shape in SHAPES
)
_numbers = torch.arange(len(OBJECTS))
SIZE_OF = _numbers // (len(COLOURS) * len(SHAPES))  # [96]: the object's place in RADII,
COLOUR_OF = _numbers // len(SHAPES) % len(COLOURS)  # in COLOURS,
SHAPE_OF = _numbers % len(SHAPES)  # and in SHAPES
RADIUS_OF = torch.tensor(list(RADII.values()))[SIZE_OF]

# All the words of all captions.
VOCABULARY = (
    "a", *RADII, *COLOURS, *SHAPES, *dict.fromkeys(" ".join(RELATIONS).split()),
)  # fmt: skip


def _held_out_bindings() -> Tensor:
    """[8, 6], bool: four bindings of a colour to a shape, no two with the same colour or shape."""
    # NumPy promises that RandomState gives the same numbers for ever; torch.Generator does not.
    random = np.random.RandomState(0)
    held_out = torch.zeros(len(COLOURS), len(SHAPES), dtype=torch.bool)
    held_out[random.permutation(len(COLOURS))[:4], random.permutation(len(SHAPES))[:4]] = True
    return held_out


def _held_out_pairs() -> Tensor:
    """[96, 96], bool, symmetric: a tenth of the 4,656 unordered pairs of objects."""
    first, second = torch.triu_indices(len(OBJECTS), len(OBJECTS))
    chosen = np.random.RandomState(1).permutation(len(first))[: round(len(first) / 10)]
    held_out = torch.zeros(len(OBJECTS), len(OBJECTS), dtype=torch.bool)
    held_out[first[chosen], second[chosen]] = True
    return held_out | held_out.mT


HELD_OUT_BINDINGS = _held_out_bindings()  # [8, 6]: colour, shape
HELD_OUT_PAIRS = _held_out_pairs()  # [96, 96]: object, object


def canonical(caption: str) -> str:
    """The one caption that stands for all with the same meaning: "B right of A" becomes "A left
    of B", "B below A" becomes "A above B"."""
    first, relation, second = _parts(caption)
    if relation in ("right of", "below"):
        return f"a {second} {'left of' if relation == 'right of' else 'above'} a {first}"
    return caption


_CAPTION = re.compile("a ({0})(?: ({1}) a ({0}))?".format("|".join(OBJECTS), "|".join(RELATIONS)))


def _parts(caption: str) -> tuple[str, str | None, str | None]:
    found = _CAPTION.fullmatch(caption) if isinstance(caption, str) else None
    if found is None:
        raise ValueError(
            'caption should read like "a small red star" or "a small red star above a large blue '
            f'circle", but {expect.describe(caption)} came. Sizes: {", ".join(RADII)}; colours: '
            f"{', '.join(COLOURS)}; shapes: {', '.join(SHAPES)}; relations: {', '.join(RELATIONS)}."
        )
    return found.groups()


@dataclass(frozen=True, eq=False)
class Scenes:
    """B scenes.

    objects: [B, 2], numbers in OBJECTS; the second is NOTHING in a scene with one object.
    relations: [B], numbers in RELATIONS, what the first is to the second; or NOTHING.
    centres: [B, 2, 2], x and y of the middle of the two objects' boxes, in pixels from the
        picture's upper left corner; of no meaning for NOTHING.
    """

    objects: Tensor
    relations: Tensor
    centres: Tensor

    def __post_init__(self):
        expect.tensor("objects", self.objects, ("B", 2), "int")
        expect.tensor("relations", self.relations, (len(self),), "int")
        expect.tensor("centres", self.centres, (len(self), 2, 2))
        first, second = self.objects.unbind(1)
        right = (first >= 0) & (second >= NOTHING) & (self.objects < len(OBJECTS)).all(1)
        right &= (self.relations >= NOTHING) & (self.relations < len(RELATIONS))
        right &= (second == NOTHING) == (self.relations == NOTHING)
        if not bool(right.all()):
            raise ValueError(
                f"objects should be in 0..{len(OBJECTS) - 1} and relations in "
                f"0..{len(RELATIONS) - 1}; for one object the second and the relation are -1."
            )

    def __len__(self) -> int:
        return len(self.objects)

    def captions(self) -> list[str]:
        """What the scenes show, in words."""
        return [
            f"a {OBJECTS[first]}"
            + ("" if second == NOTHING else f" {RELATIONS[relation]} a {OBJECTS[second]}")
            for (first, second), relation in zip(
                self.objects.tolist(), self.relations.tolist(), strict=True
            )
        ]

    def draw(self) -> Tensor:
        """The pictures, [B, 3, 32, 32] in [-1, 1]."""
        covered = coverage(self.objects.flatten(), self.centres.flatten(0, 1))
        contrast = (PALETTE - GROUND)[COLOUR_OF[self.objects]]  # [B, 2, 3]
        pictures = GROUND[:, None] + contrast.mT @ covered.reshape(len(self), 2, SIDE * SIDE)
        return pictures.clamp(-1, 1).reshape(len(self), 3, SIDE, SIDE)


def coverage(objects: Tensor, centres: Tensor) -> Tensor:
    """How much of each pixel each object covers, 0 to 1: objects [N], centres [N, 2] ->
    [N, 32, 32]. Within half a pixel of the edge it falls from 1 to 0, which smooths the edge."""
    expect.tensor("objects", objects, ("N",), "int")
    expect.tensor("centres", centres, (len(objects), 2))
    if not bool(((objects >= NOTHING) & (objects < len(OBJECTS))).all()):
        raise ValueError(f"objects should be in 0..{len(OBJECTS) - 1}, or -1 for nothing.")
    middles = torch.arange(SIDE) + 0.5
    x = (middles - centres[:, :1])[:, None, :]  # [N, 1, 32]
    y = (middles - centres[:, 1:])[:, :, None]  # [N, 32, 1]
    radii = RADIUS_OF[objects, None, None]
    covered = torch.zeros(len(objects), SIDE, SIDE)
    for number, distance in enumerate(SHAPES.values()):
        rows = ((SHAPE_OF[objects] == number) & (objects != NOTHING)).nonzero()[:, 0]
        covered[rows] = (0.5 - distance(x[rows], y[rows], radii[rows])).clamp(0, 1)
    return covered


def sample_scenes(
    count: int, generator: torch.Generator | None = None, split: str = "train"
) -> Scenes:
    """`count` scenes at random, a fifth of them with one object.

    split: "train" holds no pair and no binding that is held out. "held-out pairs": the held-out
    pairs of objects, in every order and relation; their bindings are all known from training.
    "held-out bindings": at least one object whose colour training never saw on that shape.
    """
    expect.whole("count", count, 1)
    expect.random_source("generator", generator)
    expect.choice("split", split, SPLITS)
    new = HELD_OUT_BINDINGS[COLOUR_OF, SHAPE_OF]  # [96]
    new_pairs = new[:, None] | new
    if split == "held-out bindings":
        singles, pairs = new, new_pairs
    else:
        singles, pairs = ~new, ~new_pairs & (HELD_OUT_PAIRS == (split == "held-out pairs"))

    def one_of(allowed: Tensor) -> Tensor:
        rows = allowed.nonzero()
        return rows[torch.randint(len(rows), (count,), generator=generator)]

    objects = one_of(pairs)
    relations = torch.randint(len(RELATIONS), (count,), generator=generator)
    if split != "held-out pairs":
        single = torch.rand(count, generator=generator) < SINGLES
        alone = F.pad(one_of(singles), (0, 1), value=NOTHING)
        objects = torch.where(single[:, None], alone, objects)
        relations = torch.where(single, NOTHING, relations)
    return Scenes(objects, relations, _place(objects, relations, generator))


def parse(captions: Sequence[str], generator: torch.Generator | None = None) -> Scenes:
    """Scenes that show what the captions say, at random places."""
    if not isinstance(captions, Sequence) or isinstance(captions, str) or not captions:
        raise ValueError(
            f"captions should be a list of captions, but {expect.describe(captions)} came."
        )
    expect.random_source("generator", generator)
    number = {None: NOTHING, **{name: i for i, name in enumerate(OBJECTS + RELATIONS)}}
    parts = torch.tensor([[number[part] for part in _parts(caption)] for caption in captions])
    objects = parts[:, ::2]
    relations = torch.where(parts[:, 1] == NOTHING, NOTHING, parts[:, 1] - len(OBJECTS))
    return Scenes(objects, relations, _place(objects, relations, generator))


def _place(objects: Tensor, relations: Tensor, generator: torch.Generator | None) -> Tensor:
    """Centres [B, 2, 2], at random, but so that the relation is plain: a gap of at least GAP along
    its axis; across it the centres are no further apart than the larger radius, so that at least
    half of the smaller object lies level with the other."""

    def between(low, high):
        return low + (high - low) * torch.rand(len(objects), generator=generator)

    radii = RADIUS_OF[objects]  # [B, 2]
    backwards = (relations % 2 == 1)[:, None]  # "right of", "below": the second is nearer to 0
    near, far = torch.where(backwards, radii.flip(1), radii).unbind(1)
    free = SIDE - 2 * MARGIN - 2 * near - 2 * far
    gap = between(GAP, free)
    along_near = MARGIN + near + between(0, free - gap)
    along = torch.stack([along_near, along_near + near + gap + far], dim=1)
    offset = between(-1, 1) * torch.maximum(near, far)
    across_near = between(
        MARGIN + torch.maximum(near, far - offset),
        SIDE - MARGIN - torch.maximum(near, far + offset),
    )
    across = torch.stack([across_near, across_near + offset], dim=1)
    pair = torch.stack([along, across], dim=2)
    pair = torch.where((relations // 2 == 0)[:, None, None], pair, pair.flip(2))
    pair = torch.where(backwards[..., None], pair.flip(1), pair)
    reach = MARGIN + radii[:, 0]
    alone = torch.stack([between(reach, SIDE - reach), between(reach, SIDE - reach)], dim=1)
    return torch.where((relations == NOTHING)[:, None, None], alone[:, None], pair)


class SceneStream:
    """Batches of new scenes for ever, as train() wants them: (pictures [size, 3, 32, 32], what
    `condition` makes of their captions). For a text-to-image network."""

    def __init__(self, size: int, condition: Callable[[list[str]], Condition]):
        self.size = expect.whole("size", size, 1)
        self.condition = expect.callable_("condition", condition, "condition(captions)")

    def __iter__(self) -> Iterator[tuple[Tensor, Condition]]:
        while True:
            scenes = sample_scenes(self.size)
            yield scenes.draw(), self.condition(scenes.captions())
