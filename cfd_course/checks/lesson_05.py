"""Lesson 05, condition dropout: drop, with_null_image, with_null_token."""

from dataclasses import replace

import torch

from .. import expect
from ..conditions import Condition
from ..conditions import with_null_image as _with_null_image
from ..conditions import with_null_token as _with_null_token
from . import Exercise, NotYet
from . import points as points
from .coins import left_to_chance, no_pattern

_COUNT = 20_000  # examples, so that a share is known to within about 0.01
_MANY = 120_000  # so that it is known to within about 0.003, and a loop over all still is in time


def _batch(count: int = _COUNT) -> Condition:
    """Every fourth example is absent from the start; of very many, none."""
    random = torch.Generator().manual_seed(0)
    return Condition(
        image=torch.rand(count, 1, 1, 1, generator=random) + 0.1,
        tokens=torch.randint(1, 10, (count, 2), generator=random),
        mask=torch.rand(count, 2, generator=random) < 0.8,
        present=(torch.arange(count) % 4 > 0) | (count == _MANY),
    )


def _seen(arguments, result):
    """What matters of a dropped batch, whatever random numbers it was made with."""
    condition, probability, generator = arguments
    count = len(condition)
    if result is None:
        return None
    if isinstance(result, torch.Tensor) and result.shape == (count,):
        return "a row"
    if not isinstance(result, Condition):
        raise NotYet(f"A Condition should come back, but {expect.describe(result)} did.")
    before = _batch(count)
    expect.tensor("present", result.present, (count,), "bool")
    hidden = ~result.present[before.present]
    share, steps = float(hidden.float().mean()), 20 if count < _MANY else 160
    some = 0 < share < 1
    alike = 0 < probability < 1 and not some
    fresh = torch.Generator().manual_seed(generator.initial_seed())
    return {
        "of the told examples it hides": "all or none"
        if alike
        else f"{round(steps * share) / steps:.1%}",
        "absent examples stay absent": not bool(result.present[~before.present].any()),
        "each example has a coin of its own": not some or count == _MANY or no_pattern(hidden),
        "how many are hidden is left to chance": not some
        or count < _MANY
        or left_to_chance(hidden, probability),
        **{f"its {name}": _fate(name, before, result) for name in ("image", "tokens", "mask")},
        "the condition that came in is as it was": torch.equal(condition.present, before.present)
        and torch.equal(condition.tokens, before.tokens)
        and torch.equal(condition.image, before.image),
        "the generator was used": not torch.equal(fresh.get_state(), generator.get_state()),
    }


def _fate(name: str, before: Condition, after: Condition) -> str:
    """What became of a field."""
    old, new = getattr(before, name), getattr(after, name)
    if new is None or (name == "mask" and bool(new.all())):  # a mask that is not given is all True
        return "lost"
    return "as it was" if torch.equal(old, new) else "changed"


def _dropped(condition, probability, generator):
    return torch.rand(len(condition), generator=generator) < probability


def _whole_batch(condition, probability, generator):
    dropped = torch.rand(1, generator=generator) < probability
    return replace(condition, present=condition.present & ~dropped)


def _kept(condition, probability, generator):
    dropped = _dropped(condition, probability, generator)
    return replace(condition, present=condition.present & dropped)


def _same_for_all(told: bool, drawn: bool):
    """Hides everybody or nobody, whether or not it draws from the generator."""

    def wrong(condition, probability, generator):
        if drawn:
            _dropped(condition, probability, generator)
        return replace(condition, present=condition.present & told)

    return wrong


def _overwrites(*names: str, marks: bool):
    """Writes zeros over these fields of the hidden examples; marks them as absent, or not."""

    def wrong(condition, probability, generator):
        kept = ~_dropped(condition, probability, generator)
        fields = {name: getattr(condition, name) for name in names}
        zeroed = {name: x * kept.reshape(-1, *[1] * (x.ndim - 1)) for name, x in fields.items()}
        return replace(condition, present=condition.present & (kept | (not marks)), **zeroed)

    return wrong


def _loses(*names: str):
    def wrong(condition, probability, generator):
        kept = ~_dropped(condition, probability, generator)
        return replace(condition, present=condition.present & kept, **dict.fromkeys(names))

    return wrong


def _masked(condition, probability, generator):
    kept = ~_dropped(condition, probability, generator)
    return replace(condition, mask=condition.mask & kept[:, None])


def _forgets(condition, probability, generator):
    return replace(condition, present=~_dropped(condition, probability, generator))


def _in_place(condition, probability, generator):
    condition.present[_dropped(condition, probability, generator)] = False
    return condition


def _no_generator(condition, probability, generator):
    return replace(condition, present=condition.present & ~_dropped(condition, probability, None))


def _row_only(condition, probability, generator):
    return condition.present & ~_dropped(condition, probability, generator)


def _by(coins):
    """Hides those for whom coins(count, probability, generator) says so."""

    def wrong(condition, probability, generator):
        hidden = coins(len(condition), probability, generator)
        return replace(condition, present=condition.present & ~hidden)

    return wrong


def _shared(count, probability, generator):
    coins = torch.rand((count + 1) // 2, generator=generator) < probability
    return coins.repeat_interleave(2)[:count]


def _exactly(count, probability, generator):
    return torch.randperm(count, generator=generator) < round(probability * count)


def _whole_percent(count, probability, generator):
    return torch.randint(100, (count,), generator=generator) < int(100 * probability)


drop = Exercise(
    reference=Condition.drop,
    cases=[
        lambda: (_batch(), 0.1, torch.Generator().manual_seed(0)),
        lambda: (_batch(), 0.35, torch.Generator().manual_seed(2)),
        lambda: (_batch(), 0.0, torch.Generator().manual_seed(3)),
        lambda: (_batch(), 1.0, torch.Generator().manual_seed(4)),
        lambda: (_batch(100_000), 0.004, torch.Generator().manual_seed(5)),
        lambda: (_batch(_MANY), 0.125, torch.Generator().manual_seed(6)),
    ],
    mistakes=[
        (
            _whole_batch,
            "The whole batch shares one fate: either everybody is told or nobody is. How many "
            "decisions does a batch of 64 need?",
        ),
        (
            _kept,
            "With probability 0.1 yours hides nine examples in ten. The probability is the chance "
            "of being hidden, not of being told.",
        ),
        (
            _by(_shared),
            "Neighbours share a coin: of two examples beside each other both are hidden or "
            "neither is. Each example needs its own.",
        ),
        (
            _by(_exactly),
            "It always hides the same number of examples, as if drawn from an urn without putting "
            "back: whether one is hidden depends on the others. Independent coins hide now a few "
            "more, now a few fewer.",
        ),
        (
            _by(_whole_percent),
            "The probability is cut to whole percents: one of 0.004 hides nobody.",
        ),
        *[
            (
                _same_for_all(told, drawn),
                f"With probability 0.1 yours hides {'nobody' if told else 'everybody'}.",
            )
            for told in (True, False)
            for drawn in (True, False)
        ],
        (
            _overwrites("image", "tokens", marks=False),
            "Yours overwrites the picture and the tokens with zeros, and present still says that "
            "everybody is told. A zero is something one can be told: the digit 0, a grey picture.",
        ),
        (
            _overwrites("image", marks=False),
            "Nothing is to be overwritten: yours makes those pictures grey, and present still "
            "calls them told.",
        ),
        (
            _overwrites("tokens", marks=False),
            "Yours overwrites the tokens with zeros: those examples are now told the digit 0, and "
            "present still calls them told.",
        ),
        *[
            (
                _overwrites(*names, marks=True),
                f"The right examples are marked as absent, but their {' and '.join(names)} "
                "changed as well. Nothing is to be overwritten: what absence looks like is the "
                "network's business.",
            )
            for names in (("tokens",), ("image",), ("image", "tokens"), ("mask",))
        ],
        *[
            (
                _loses(*names),
                f"Lost on the way: {' and '.join(names)}. Copy every field but present as it is.",
            )
            for names in (("mask",), ("image",), ("tokens",), ("tokens", "mask"))
        ],
        (
            _masked,
            "mask says which tokens are padding, and a condition picture has no mask at all. Which "
            "of the four fields speaks of whole examples?",
        ),
        (
            _forgets,
            "Some examples came without a condition, and yours marks them as told. An example is "
            "told only if it was told before and was not hidden now.",
        ),
        (
            _in_place,
            "The right examples are hidden, but in the condition that came in: the next pass over "
            "the data finds them hidden already, and hides more. Return a new one.",
        ),
        (
            _no_generator,
            "The rate is right, but the generator was left unused, so a training run could not be "
            "repeated. Draw from it.",
        ),
        (
            _row_only,
            "The row of booleans is right. What is asked for is a whole Condition with this row in "
            "it, beside the image, tokens and mask that came.",
        ),
    ],
    points=2,
    observe=_seen,
)


def _random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _null(*values: float):
    """Learned, so that a gradient must reach it."""
    return torch.tensor(values, requires_grad=True)


def _plane(image, present):
    return present.to(image)[:, None, None, None].expand(-1, 1, *image.shape[2:])


def _image_without_plane(image, present, null):
    return _with_null_image(image, present, null)[:, :-1]


def _image_plane_first(image, present, null):
    return _with_null_image(image, present, null).roll(1, dims=1)


def _image_plane_reversed(image, present, null):
    return torch.cat(
        [_with_null_image(image, present, null)[:, :-1], 1 - _plane(image, present)], dim=1
    )


def _image_zeros(image, present, null):
    return _with_null_image(image, present, torch.zeros_like(null))


def _image_added(image, present, null):
    absent = 1 - _plane(image, present)
    return torch.cat([image + absent * null[:, None, None], 1 - absent], dim=1)


def _null_everywhere(image, present, null):
    return torch.cat([image + null[:, None, None], _plane(image, present)], dim=1)


def _image_swapped(image, present, null):
    seen = _with_null_image(image, ~present, null)[:, :-1]
    return torch.cat([seen, _plane(image, present)], dim=1)


def _image_never_hidden(image, present, null):
    return torch.cat([image, _plane(image, present)], dim=1)


def _image_mean_colour(image, present, null):
    return _with_null_image(image, present, null.mean().expand_as(null))


def _null_over_pictures(image, present, null):
    plane = _plane(image, present)
    return torch.cat([image * plane + null[:, None, None], plane], dim=1)


with_null_image = Exercise(
    reference=_with_null_image,
    cases=[
        lambda: (
            2 * _random(4, 3, 2, 3, seed=1),  # as wide as there are channels
            torch.tensor([False, True, True, False]),
            _null(0.5, -0.25, 2.0),
        ),
        lambda: (_random(2, 1, 3, 5, seed=2), torch.tensor([False, True]), _null(0.7)),
        lambda: (_random(3, 2, 4, 1, seed=3), torch.tensor([True] * 3), _null(1.5, 0.3)),
    ],
    mistakes=[
        (
            _null_over_pictures,
            "Where a picture is there, the null colour is added to it. It should be seen only "
            "where there is none.",
        ),
        (
            _image_without_plane,
            "The colours are right, but one plane is missing: without it nothing tells an absent "
            "picture from a present one that happens to have the null colour.",
        ),
        (
            _image_plane_first,
            "All the planes are there, in another order: the extra one comes last.",
        ),
        (
            _image_plane_reversed,
            "The colours are right, but the extra plane is upside down: yours is 1 where there is "
            "no picture.",
        ),
        (
            _image_zeros,
            "Where the picture is absent yours shows zeros: the learned null is never used, so it "
            "would never learn either.",
        ),
        (
            _image_added,
            "The hidden picture still shines through: the null is added to it. An absent picture "
            "must leave no trace.",
        ),
        (
            _null_everywhere,
            "The null is added to every picture, present or absent: present ones should stay as "
            "they are, and absent ones leave no trace.",
        ),
        (
            _image_swapped,
            "It hides the pictures that are present and shows those that are absent.",
        ),
        (
            _image_never_hidden,
            "The extra plane is right, but the network still sees every picture, those it must not "
            "see among them.",
        ),
        (
            _image_mean_colour,
            "All channels get the same value. The null holds one for each.",
        ),
    ],
    points=2,
)


def _token_last(tokens, mask, present, null):
    tokens, mask = _with_null_token(tokens, mask, present, null)
    return tokens.roll(-1, dims=1), mask.roll(-1, dims=1)


def _token_only_if_absent(tokens, mask, present, null):
    tokens, seen = _with_null_token(tokens, mask, present, null)
    return tokens, torch.cat([~present[:, None], seen[:, 1:]], dim=1)


def _token_never(tokens, mask, present, null):
    tokens, seen = _with_null_token(tokens, mask, present, null)
    return tokens, torch.cat([present[:, None], seen[:, 1:]], dim=1)


def _token_absence_ignored(tokens, mask, present, null):
    return _with_null_token(tokens, mask, torch.ones_like(present), null)


def _token_padding_ignored(tokens, mask, present, null):
    return _with_null_token(tokens, torch.ones_like(mask), present, null)


def _token_or(tokens, mask, present, null):
    tokens, seen = _with_null_token(tokens, mask, present, null)
    return tokens, torch.cat([seen[:, :1], mask | present[:, None]], dim=1)


def _token_inverted(tokens, mask, present, null):
    tokens, seen = _with_null_token(tokens, mask, present, null)
    return tokens, ~seen


def _token_replaced(tokens, mask, present, null):
    return torch.where(present[:, None, None], tokens, null), mask


def _token_added(tokens, mask, present, null):
    return _with_null_token(tokens + null, mask, present, null)


def _token_zeroed(tokens, mask, present, null):
    return _with_null_token(tokens * (mask & present[:, None])[..., None], mask, present, null)


with_null_token = Exercise(
    reference=_with_null_token,
    cases=[
        lambda: (
            _random(4, 3, 2, seed=4),
            torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]).bool(),
            torch.tensor([True, True, False, True]),
            _null(5.0, -5.5),
        ),
        lambda: (
            _random(2, 1, 4, seed=5),
            torch.ones(2, 1, dtype=torch.bool),
            torch.tensor([False, False]),
            _null(0.0, 1.25, 2.0, 3.0),
        ),
        lambda: (
            _random(3, 5, 3, seed=6),
            torch.arange(5) < torch.tensor([2, 5, 1])[:, None],
            torch.tensor([False, True, True]),
            _null(0.4, -1.3, 2.1),
        ),
    ],
    mistakes=[
        (_token_last, "Everything is there, but the null stands last. It comes first."),
        (
            _token_only_if_absent,
            "The null is hidden from those who are told. Then it is one more sign for them to tell "
            "apart; what was asked for is a token that everybody sees, always.",
        ),
        (
            _token_never,
            "An absent condition leaves nothing at all to attend to: every entry of its row is "
            "False, and a softmax over nothing is NaN.",
        ),
        (
            _token_absence_ignored,
            "Padding is hidden, but the tokens of an absent condition are still visible: the "
            "network would be told after all.",
        ),
        (
            _token_padding_ignored,
            "Absent conditions are hidden, but the padding of the others is visible: a caption "
            "would mean something else in a longer batch.",
        ),
        (
            _token_or,
            "A token is visible only if two things hold: it is no padding, and its condition is "
            "present. For yours one of them is enough.",
        ),
        (
            _token_inverted,
            "The mask is upside down: here True means that a token may be looked at. (PyTorch has "
            "both conventions, in different functions.)",
        ),
        (
            _token_replaced,
            "Yours writes the null over the absent tokens, and no row gets longer. What was asked "
            "for is one more token, in front of all the others, for everybody.",
        ),
        (
            _token_added,
            "The null stands in front, as it should, but it is also added to every other token. "
            "Leave those as they are.",
        ),
        (
            _token_zeroed,
            "The mask is right, but the hidden tokens were overwritten with zeros. The mask is "
            "enough: leave the tokens as they are.",
        ),
    ],
    points=2,
)
