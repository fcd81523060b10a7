"""Lesson 10, text to image: tokenise, cross_attention, held_out."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import text as package
from ..conditions import Condition
from ..datasets.shapes import RELATIONS, canonical
from ..text import LONGEST, NUMBERS, PADDING
from . import Exercise
from . import points as points

# --- tokenise ---------------------------------------------------------------------------------


def _tokens(captions, first=0, shift=0, fill=PADDING, length=LONGEST) -> Tensor:
    tokens = torch.full((len(captions), length), fill)
    for row, caption in zip(tokens, captions, strict=True):
        numbers = [NUMBERS[word] + shift for word in caption.split()]
        start = length - len(numbers) if first else 0
        row[start : start + len(numbers)] = torch.tensor(numbers)
    return tokens


def _masked(tokens: Tensor) -> Condition:
    return Condition(tokens=tokens, mask=tokens != PADDING)


def _no_mask(captions):
    return Condition(tokens=_tokens(captions))


def _mask_inverted(captions):
    tokens = _tokens(captions)
    return Condition(tokens=tokens, mask=tokens == PADDING)


def _from_zero(captions):
    tokens = _tokens(captions, shift=-1)
    return Condition(tokens=tokens, mask=_tokens(captions) != PADDING)


def _from_zero_and_masked(captions):
    tokens = _tokens(captions, shift=-1)
    return Condition(tokens=tokens, mask=tokens != PADDING)


def _to_longest_of_batch(captions):
    return _masked(_tokens(captions, length=max(len(caption.split()) for caption in captions)))


def _words_apart(captions):
    return _tokens(captions), _tokens(captions) != PADDING


def _words_alone(captions):
    return _tokens(captions)


def _padded_with_a_word(captions):
    return Condition(tokens=_tokens(captions, fill=NUMBERS["a"]), mask=_tokens(captions) != PADDING)


def _without_repeats(captions):
    return _masked(_tokens([" ".join(dict.fromkeys(caption.split())) for caption in captions]))


def _what_the_condition_holds(arguments, result):
    if not isinstance(result, Condition):
        return result
    told = bool(result.present.all())
    return {"tokens": result.tokens, "mask": result.mask, "the condition is present": told}


tokenise = Exercise(
    reference=package.tokenise,
    cases=[
        lambda: (["a small red star", "a large blue circle left of a small red star"],),
        lambda: (["a small white ring", "a large cyan cross", "a small red star"],),
        lambda: (["a small red star above a large blue circle"],),
        lambda: (["a large blue circle right of a small red star", "a small red star"],),
    ],
    observe=_what_the_condition_holds,
    mistakes=[
        (
            _no_mask,
            "The numbers are right, but the mask calls every place a word: the network would "
            "listen to the padding too, and a short caption would mean something else in a longer"
            " row.",
        ),
        (
            _mask_inverted,
            "The numbers are right, and the mask is the wrong way round: it hides all the words "
            "and leaves the padding. Here True means: this counts. (PyTorch's key_padding_mask "
            "means the opposite, so this happens to everybody once.)",
        ),
        (
            _from_zero,
            'The word "a" has the number that is meant for padding. TextEncoder ignores that '
            "number, wherever it stands. Where do the words' numbers come from?",
        ),
        (
            _from_zero_and_masked,
            'The word "a" has the number of the padding, and your mask hides it wherever it '
            "stands.",
        ),
        (
            _to_longest_of_batch,
            "The rows are as long as the longest caption that happened to come. Then two batches "
            "can have rows of different lengths, and cannot be joined (Condition.concatenate "
            "refuses).",
        ),
        (
            lambda captions: _masked(_tokens(captions, first=1)),
            "The padding stands in front of the words. Then the first word of a short caption "
            "stands where a long one has its fifth, and the encoder tells words apart by their "
            "places.",
        ),
        (
            _words_apart,
            "The numbers and the mask are there, as two tensors. Hand them over as one Condition:"
            " drop, absent and guide work on that.",
        ),
        (
            _words_alone,
            "The numbers are right, but they came without the mask. A Condition carries both.",
        ),
        (
            _padded_with_a_word,
            'The rest of a short row is filled with the number of the word "a". It has a number '
            "of its own, which no word has.",
        ),
        (
            _without_repeats,
            'Words that occur twice are there only once: "a ... left of a ..." lost its second '
            '"a", and what follows moved one place to the left.',
        ),
    ],
    points=2,
)

# --- cross_attention --------------------------------------------------------------------------


def cross_attention(queries, keys, values, mask):
    """Each place's mean of the words' values, weighted by how well its query fits their keys, and
    the weights. queries [B, N, D], keys [B, M, D], values [B, M, E], mask [B, M] -> [B, N, E],
    [B, N, M]. Vaswani et al., "Attention Is All You Need" (2017), equation 1."""
    weights = _hidden(_scores(queries, keys), mask).softmax(dim=-1)
    return weights @ values, weights


def _scores(queries, keys):
    return queries @ keys.mT / queries.shape[-1] ** 0.5


def _hidden(scores, mask):
    return scores.masked_fill(~mask[:, None, :], -torch.inf)


def _weighted(weights, values):
    return weights @ values, weights


_attend = cross_attention  # the exercise takes its name below


def _no_root(queries, keys, values, mask):
    return _weighted(_hidden(queries @ keys.mT, mask).softmax(-1), values)


def _whole_width(queries, keys, values, mask):
    scores = queries @ keys.mT / queries.shape[-1]
    return _weighted(_hidden(scores, mask).softmax(-1), values)


def _words_share_places(queries, keys, values, mask):
    scores = _scores(queries, keys).softmax(dim=1)
    return _weighted(scores.masked_fill(~mask[:, None, :], 0), values)


def _listens_to_padding(queries, keys, values, mask):
    return _weighted(_scores(queries, keys).softmax(-1), values)


def _only_padding(queries, keys, values, mask):
    return _weighted(_hidden(_scores(queries, keys), ~mask).softmax(-1), values)


def _low_scores(low: float):
    def wrong(queries, keys, values, mask):
        scores = _scores(queries, keys).masked_fill(~mask[:, None, :], low)
        return _weighted(scores.softmax(-1), values)

    return wrong


def _places_compete(queries, keys, values, mask):
    return _weighted(_hidden(_scores(queries, keys), mask).softmax(1), values)


def _zero_scores(queries, keys, values, mask):
    scores = _scores(queries, keys).masked_fill(~mask[:, None, :], 0)
    return _weighted(scores.softmax(-1), values)


def _zeroed_afterwards(queries, keys, values, mask):
    weights = _scores(queries, keys).softmax(-1).masked_fill(~mask[:, None, :], 0)
    return _weighted(weights, values)


def _keys_returned(queries, keys, values, mask):
    return _weighted(_hidden(_scores(queries, keys), mask).softmax(-1), keys)


def _no_softmax(queries, keys, values, mask):
    return _weighted(_scores(queries, keys).masked_fill(~mask[:, None, :], 0), values)


def _weights_missing(queries, keys, values, mask):
    return _attend(queries, keys, values, mask)[0]


def _attention_case(seed: int, places: int, width: int, depth: int, mask, low: bool = False):
    """Queries, keys and values that need gradients. low: all scores are about -40, and the values
    of the padding enormous: what does not shut it out altogether lets it drown the words; so would
    it drown the gradients of a softmax by hand, and none is asked for."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.tensor(mask, dtype=torch.bool)
    queries, keys, values = (
        2 * torch.randn(len(mask), *shape, generator=random)
        for shape in ((places, width), (mask.shape[1], width), (mask.shape[1], depth))
    )
    if low:
        queries[..., 0], keys[..., 0] = 40 * width**0.5 / 6, -6
        values = values.masked_fill(~mask[..., None], 1e30)
    return *(x.requires_grad_(not low) for x in (queries, keys, values)), mask


cross_attention = Exercise(
    reference=cross_attention,
    forbids=(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    cases=[
        lambda: _attention_case(0, 3, 8, 6, [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
        lambda: _attention_case(1, 7, 6, 4, [[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]], True),
        lambda: _attention_case(2, 5, 5, 2, [[1, 1, 1]]),
    ],
    mistakes=[
        (
            _no_root,
            "The weights are too sharp: nearly all of each row goes to one word, and the more so "
            "the wider the queries are. Dot products grow with the width; bring them back.",
        ),
        (
            _whole_width,
            "The weights are too even. The scores have been made smaller by more than they grow "
            "with the width.",
        ),
        (
            _words_share_places,
            "The weights of each word add up to 1 over the places. It should be the other way "
            "round: each place has one attention to give, and shares it out between the words.",
        ),
        (
            _listens_to_padding,
            "The padding gets weight: the mask has no effect yet.",
        ),
        (
            _only_padding,
            "The words get no weight at all and the padding gets everything (or nothing is left, "
            "and there is a NaN). The mask is True where something counts.",
        ),
        *[
            (
                _low_scores(low),
                f"The padding gets the score {low}. That is a low score, but it is one: where the "
                "words' scores are low as well, the padding is listened to. Which score gives a "
                "weight of exactly 0?",
            )
            for low in (-1, -10, -100)
        ],
        (
            _places_compete,
            "The softmax goes over the places: each word's weights add up to 1, and a word of "
            "padding, with minus infinity everywhere, gets NaN. It should go over the words.",
        ),
        (
            _zero_scores,
            "The padding still gets weight: a score of 0 is not a weight of 0, for the softmax "
            "turns it into exp(0) = 1 before it divides.",
        ),
        (
            _zeroed_afterwards,
            "The padding's weight is gone, but the rest of a row no longer adds up to 1: a short "
            "caption speaks more quietly than a long one. Hide the padding before weights are "
            "made.",
        ),
        (
            _keys_returned,
            "The weights are right, but what comes back is a mean of the keys. Keys say which "
            "words fit; what a word has to say is elsewhere.",
        ),
        (
            _no_softmax,
            "Your weights are negative here and there and don't add up to 1: they are still "
            "scores.",
        ),
        (
            _weights_missing,
            "What the places get to hear is right. Return the weights beside it: they are the map"
            " of who listens to which word.",
        ),
    ],
    points=3,
)

# --- held_out ---------------------------------------------------------------------------------

_RELATION = re.compile(" (?:" + "|".join(RELATIONS) + ") ")


def _objects(caption: str) -> tuple[str, str]:
    first, second = _RELATION.split(caption)
    return first, second


def held_out(captions, share, generator):
    """Which captions of two objects to keep from training, [B], bool: those of `share` of the
    unordered pairs of objects, picked at random; so all the orders and relations of a pair are on
    the same side."""
    return _picked(captions, share, generator, lambda caption: frozenset(_objects(caption)))


_split = held_out


def _picked(captions, share, generator, key):
    """Captions whose key is among a share of the keys."""
    keys = [key(caption) for caption in captions]
    distinct = list(dict.fromkeys(keys))
    count = round(share * len(distinct))
    order = torch.randperm(len(distinct), generator=generator).tolist()
    picked = {distinct[number] for number in order[:count]}
    return torch.tensor([key in picked for key in keys])


def _by_caption(captions, share, generator):
    return _picked(captions, share, generator, lambda caption: caption)


def _by_order(captions, share, generator):
    return _picked(captions, share, generator, _objects)


def _by_relation(captions, share, generator):
    return _picked(
        captions,
        share,
        generator,
        lambda caption: (frozenset(_objects(caption)), _RELATION.findall(caption)[0]),
    )


def _by_object(captions, share, generator):
    new = max(_objects(caption)[0] for caption in captions)
    torch.rand(1, generator=generator)
    return torch.tensor([new in _objects(caption) for caption in captions])


def _a_coin_each(captions, share, generator):
    pairs = [frozenset(_objects(caption)) for caption in captions]
    coins = {
        pair: bool(torch.rand(1, generator=generator) < share) for pair in dict.fromkeys(pairs)
    }
    return torch.tensor([coins[pair] for pair in pairs])


def _cut_off(captions, share, generator):
    count = len({frozenset(_objects(caption)) for caption in captions})
    return _split(captions, int(share * count) / count, generator)


def _the_first_ones(captions, share, generator):
    pairs = [frozenset(_objects(caption)) for caption in captions]
    distinct = list(dict.fromkeys(pairs))
    return torch.tensor([pair in distinct[: round(share * len(distinct))] for pair in pairs])


def _other_random(captions, share, generator):
    return _split(captions, share, None)


def _inverted(captions, share, generator):
    return ~_split(captions, share, generator)


def _the_captions(captions, share, generator):
    mask = _split(captions, share, generator).tolist()
    return [caption for caption, held in zip(captions, mask, strict=True) if held]


def _with_replacement(captions, share, generator):
    pairs = [frozenset(_objects(caption)) for caption in captions]
    distinct = list(dict.fromkeys(pairs))
    drawn = torch.randint(len(distinct), (round(share * len(distinct)),), generator=generator)
    picked = {distinct[number] for number in drawn.tolist()}
    return torch.tensor([pair in picked for pair in pairs])


def _split_facts(arguments, result):
    """What must be true of a split, whichever pairs were picked."""
    captions, share, generator = arguments
    if not isinstance(result, Tensor) or (result.shape, result.dtype) != (
        (len(captions),),
        torch.bool,
    ):
        return result
    rows = list(zip(captions, result.tolist(), strict=True))
    relations = [_RELATION.findall(caption)[0] for caption in captions]

    def together(keys) -> bool:
        """Whether captions of the same key are on the same side."""
        return len(set(zip(keys, result.tolist(), strict=True))) == len(set(keys))

    pairs = {frozenset(_objects(caption)) for caption in captions}
    held = {frozenset(_objects(caption)) for caption, out in rows if out}
    trained = {thing for caption, out in rows if not out for thing in _objects(caption)}
    seeded = torch.Generator().manual_seed(generator.initial_seed()).get_state()
    return {
        "a pair's captions are on the same side, whatever its relation": together(
            [_objects(caption) for caption in captions]
        ),
        "a pair's captions are on the same side, whatever its order": together(
            [
                (frozenset(_objects(caption)), relation)
                for caption, relation in zip(captions, relations, strict=True)
            ]
        ),
        "captions of the same meaning are on the same side": together(
            [canonical(caption) for caption in captions]
        ),
        "as many pairs as asked for are held out": len(held) == round(share * len(pairs)),
        "fewer are held out than trained on": int(result.sum()) * 2 < len(captions),
        "training sees every object": trained == set().union(*pairs),
        "the generator was used": not torch.equal(generator.get_state(), seeded),
        "no other random numbers were used": torch.equal(
            torch.get_rng_state(), torch.Generator().manual_seed(0).get_state()
        ),
    }


_THINGS = [f"a large {c} {s}" for c, s in (("red", "circle"), ("blue", "star"), ("cyan", "ring"))]
_THINGS += ["a small red ring", "a small white cross"]
_MANY_THINGS = [
    f"a {size} {colour} {shape}"
    for size in ("large", "small")
    for colour in ("red", "blue")
    for shape in ("circle", "star", "ring")
]


def _split_case(seed: int, share: float, count: int = len(_THINGS), things=_THINGS):
    captions = [
        f"{first} {relation} {second}"
        for first in things[:count]
        for second in things[:count]
        if first != second
        for relation in ("left of", "right of")
    ]
    captions += captions[: 7 * seed]  # some pairs come more often than others
    return captions, share, torch.Generator().manual_seed(seed)


held_out = Exercise(
    reference=held_out,
    cases=[  # of ten pairs, then of six, then of so many that pairs drawn twice show in their count
        lambda: _split_case(0, 0.27),
        lambda: _split_case(1, 0.3),
        lambda: _split_case(2, 0.12),
        lambda: _split_case(3, 0.3, 4),
        lambda: _split_case(4, 0.38, 12, _MANY_THINGS),
        lambda: _split_case(5, 0.36, 12, _MANY_THINGS),
        lambda: _split_case(6, 0.04),  # none of ten
    ],
    observe=_split_facts,
    mistakes=[
        (
            _by_caption,
            "Each caption was decided by itself. Of a pair like red and blue some captions are "
            "held out and others are trained on: the exam's questions are in the exercise book, "
            "in another order.",
        ),
        (
            _by_order,
            '"A left of B" is held out while "B right of A", the same picture, is trained on. '
            "Decide for two objects whichever is named first.",
        ),
        (
            _by_relation,
            'For the same two objects "left of" and "right of" are decided separately. But "A left '
            'of B" is "B right of A".',
        ),
        (
            _by_object,
            "Every caption with a certain object is held out. Training never sees that object, so"
            " it isn't the combination that is new, and failing would prove nothing.",
        ),
        *[
            (
                wrong,
                "How many pairs are held out is left to chance: each is decided by a coin of its "
                "own, or one may be drawn twice. Hold out a fixed number of different ones.",
            )
            for wrong in (_a_coin_each, _with_replacement)
        ],
        (
            _cut_off,
            "The number of pairs is cut off where it should be rounded: 2.7 pairs are 3.",
        ),
        (
            _the_first_ones,
            "The generator is not used: either it is always the same pairs, say the first of the "
            "list, which share an object, or nobody can repeat the split. Pick with the generator.",
        ),
        (
            _other_random,
            "The split can't be repeated: two calls with the same seed disagree. Hand the "
            "generator to whatever draws.",
        ),
        (
            _inverted,
            "It marks the captions to train on. True means: held out.",
        ),
        (
            _the_captions,
            "A list of captions came back. Return one True or False for each caption, as a tensor: "
            "with that, captions and pictures can be picked.",
        ),
        (
            lambda captions, share, generator: _split(captions, share, generator).float(),
            "Numbers came back. A tensor of True and False can be turned round with ~ and used to "
            "pick; one of numbers can't.",
        ),
    ],
    points=2,
)
