"""Lesson 03, building the U-Net: time_embedding, residual_block, attention, decode."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import unet as package
from . import Exercise, NotYet, _difference
from . import points as points


def residual_block(block, x: Tensor, embedding: Tensor) -> Tensor:
    """What a ResidualBlock computes with its layers."""
    return package.ResidualBlock.forward(block, x, embedding)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(D)) value, over the keys where mask is True. Vaswani et al.,
    "Attention Is All You Need" (2017), equation 1."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def decode(unet, h: Tensor, skips: list[Tensor], embedding: Tensor, tokens=None, mask=None):
    """Up through the levels, each with its skip from the way down."""
    return package.Unet.decode(unet, h, skips, embedding, tokens, mask)


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _perturbed(make, seed: int) -> nn.Module:
    """A module with all its weights moved, those that start at zero too: or a layer left out would
    not show. They need gradients: a network that none reaches never learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
        for parameter in module.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return module


def _sines_and_cosines(t: Tensor, frequencies: Tensor) -> Tensor:
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _falling(channels: int, count: int, over: float) -> Tensor:
    return torch.exp(-math.log(10_000) * torch.arange(count) / over)


def _interleaved(t, channels):
    angles = t.float()[:, None] * _falling(channels, channels // 2, channels // 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _cosines_first(t, channels):
    return package.time_embedding(t, channels).roll(channels // 2, dims=1)


def _ever_faster(got, wanted):
    """Seen at t = 1 only: at larger t such fast waves depend on how their speed was rounded."""
    half = wanted.shape[1] // 2
    first = _sines_and_cosines(torch.tensor([1]), 1 / _falling(2 * half, half, half))
    if isinstance(got, Tensor) and _difference(got[:1], first) is None:
        return (
            "Your hands get faster from one to the next, up to thousands of radians a step. Look "
            "at the sign of the exponent."
        )


time_embedding = Exercise(
    reference=package.time_embedding,
    cases=[
        lambda: (torch.tensor([1, 2, 500, 1000]), 8),
        lambda: (torch.tensor([7]), 32),
        lambda: (torch.arange(1, 6), 6),
    ],
    mistakes=[
        (
            _interleaved,
            "The numbers are right but in another order: sine and cosine take turns in yours. "
            "Here all the sines stand first.",
        ),
        (_cosines_first, "The two halves have changed places: the sines stand first here."),
        (
            lambda t, channels: _sines_and_cosines(
                t, _falling(channels, channels // 2, max(channels // 2 - 1, 1))
            ),
            "Your slowest wave has a frequency of exactly 1/10000. Some codebases do that, and it "
            "works as well; but weights trained with one cannot be used with the other, and here "
            "the last frequency stays above it.",
        ),
        (
            lambda t, channels: _sines_and_cosines(t, _falling(channels, channels // 2, channels)),
            "Your slowest wave is still fast: its frequency is about 1/100, so that t = 1 and "
            "t = 630 look the same to it. The frequencies cover only half of their range.",
        ),
        (
            lambda t, channels: (
                package.time_embedding(t, channels) * 0
                + (t.float()[:, None] * _falling(channels, channels, channels)).sin()
            ),
            "There are only sines in it. A sine alone cannot tell a time before its crest from one "
            "after it.",
        ),
        (
            lambda t, channels: _sines_and_cosines(
                t.float() / 1000, _falling(channels, channels // 2, channels // 2)
            ),
            "All times look nearly alike in it: over all 1000 steps even the fastest wave turns by "
            "a sixth of a circle only. t goes in as it is, counted in steps.",
        ),
        (
            lambda t, channels: _sines_and_cosines(
                2 * math.pi * t.float(), _falling(channels, channels // 2, channels // 2)
            ),
            "The fastest wave makes a whole turn from one step to the next, so its two channels "
            "are the same at every t. The frequencies here are in radians a step.",
        ),
        (
            lambda t, channels: _sines_and_cosines(
                t, 10_000 ** (-torch.arange(1, channels // 2 + 1) / (channels // 2))
            ),
            "Your fastest wave is one place too slow: the frequencies begin at exactly 1, so the "
            "hands are counted from 0.",
        ),
        (
            lambda t, channels: _sines_and_cosines(
                t, torch.linspace(1, 1e-4, max(channels // 2, 2))[: channels // 2]
            ),
            "Your frequencies fall by the same amount from each to the next, so nearly all of them "
            "are fast. They should fall by the same factor.",
        ),
        (
            lambda t, channels: _sines_and_cosines(
                t, _falling(channels, channels // 2, channels // 2) ** 0.75
            ),
            "Your frequencies fall too slowly: from 1 down to nearly 1/1000. How far down do they "
            "go in the formula?",
        ),
    ],
    otherwise=_ever_faster,
    points=2,
)


def _block_variant(
    first=lambda norm, x: F.silu(norm(x)),
    told=F.silu,
    between=lambda norm, h, scale, shift: norm(h) * (1 + scale) + shift,
    second=F.silu,
    join=lambda shortcut, x, h: shortcut(x) + h,
):
    """A residual block, to be made with one thing done differently."""

    def wrong(block, x, embedding):
        h = block.conv_1(first(block.norm_1, x))
        scale, shift = block.modulation(told(embedding))[:, :, None, None].chunk(2, dim=1)
        h = block.conv_2(second(between(block.norm_2, h, scale, shift)))
        return join(block.shortcut, x, h)

    return wrong


class _Layers(nn.ModuleDict):
    """A block without what it does with its layers."""

    def forward(self, *_):
        raise NotYet("You call the block itself. Call its six layers.")


def _block_case(seed: int, channels: int, shape: tuple[int, ...], shortcut: nn.Module):
    batch, width = shape[0], 12 + seed
    block = _perturbed(lambda: package.ResidualBlock(channels, channels, width), seed)
    layers = _Layers(dict(block.named_children()) | {"shortcut": shortcut})
    x = _random(seed + 1, batch, channels, *shape[1:])
    return layers, x, 2 * _random(seed + 2, batch, width)


def _convolution_first(of_both: bool):
    """The usual order of older networks: convolution, normalisation, SiLU."""

    def wrong(block, x, embedding):
        scale, shift = block.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = F.silu(block.norm_1(block.conv_1(x)))
        if of_both:
            h = F.silu(block.norm_2(block.conv_2(h)) * (1 + scale) + shift)
        else:
            h = block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))
        return block.shortcut(x) + h

    return wrong


residual_block = Exercise(
    reference=residual_block,
    cases=[
        lambda: _block_case(0, 16, (2, 5, 6), nn.Identity()),
        # As in a block with more channels out than in, except that x could be added as it is.
        lambda: _block_case(3, 24, (3, 4, 2), _perturbed(lambda: nn.Conv2d(24, 24, 1), 6)),
    ],
    mistakes=[
        (
            _block_variant(join=lambda shortcut, x, h: x + h),
            "It is right as long as a block has as many channels out as in. Where it has not, x "
            "itself does not fit the sum: one more of the block's layers sees to that.",
        ),
        (
            _block_variant(join=lambda shortcut, x, h: h),
            "x itself is missing from the result: a block whose last layer is at zero would wipe "
            "out everything that came before it.",
        ),
        (
            _block_variant(between=lambda norm, h, scale, shift: norm(h) * scale + shift),
            "Where the embedding asks for no change, with a scale of 0, your features vanish. A "
            "scale of 0 should leave them as they are.",
        ),
        (
            _block_variant(between=lambda norm, h, scale, shift: norm(h) + shift),
            "The time shifts the features but never scales them: half of what modulation says is "
            "not used.",
        ),
        (
            _block_variant(between=lambda norm, h, scale, shift: norm(h) * (1 + shift) + scale),
            "What should scale shifts, and what should shift scales: the first half of what "
            "modulation says is the scale.",
        ),
        (
            _block_variant(
                between=lambda norm, h, scale, shift: F.silu(norm(h)) * (1 + scale) + shift,
                second=lambda h: h,
            ),
            "SiLU comes after scale and shift, not between norm_2 and them.",
        ),
        (
            _block_variant(between=lambda norm, h, scale, shift: norm(h * (1 + scale) + shift)),
            "The normalisation comes after the scaling and undoes it: the time has next to no "
            "effect on the result.",
        ),
        (
            _block_variant(between=lambda norm, h, scale, shift: h * (1 + scale) + shift),
            "norm_2 is not used: the features between the two convolutions keep whatever size they "
            "happen to have.",
        ),
        *[
            (
                _block_variant(bend, bend_told, second=bend_second),
                f"You bend the values with {name} in place of SiLU{where}. Near 0 the two differ: "
                "SiLU lets a little of what is negative through.",
            )
            for name, bent in (("ReLU", F.relu), ("GELU", F.gelu))
            for bend, bend_told, bend_second, where in (
                (lambda norm, x, bent=bent: bent(norm(x)), bent, bent, ""),
                (lambda norm, x, bent=bent: bent(norm(x)), F.silu, bent, " before convolutions"),
                (lambda norm, x: F.silu(norm(x)), bent, F.silu, " before modulation"),
            )
        ],
        *[
            (
                _convolution_first(of_both),
                "The convolution comes before the normalisation and SiLU. Many networks do it like "
                "that; here normalisation and SiLU prepare what the convolution gets.",
            )
            for of_both in (False, True)
        ],
        (
            _block_variant(told=lambda embedding: embedding),
            "The embedding reaches modulation as it is; a SiLU belongs before that layer, as "
            "before each convolution.",
        ),
        (
            _block_variant(first=lambda norm, x: norm(x)),
            "There is no SiLU before the first convolution, so that one only mixes linearly.",
        ),
        (
            _block_variant(second=lambda h: h),
            "There is no SiLU before the second convolution, so that one only mixes linearly.",
        ),
        (
            _block_variant(first=lambda norm, x: norm(F.silu(x))),
            "The first SiLU comes before the normalisation; it should get normalised values, "
            "around 0, where it bends.",
        ),
        (
            _block_variant(join=lambda shortcut, x, h: F.silu(shortcut(x) + h)),
            "There is a SiLU around the sum. The way past the block should stay free, or values "
            "below zero are squashed again at every block they pass.",
        ),
    ],
    points=3,
)


def _attention_variant(scale=None, dim=-1, hide=None):
    def wrong(query, key, value, mask=None):
        scores = query @ key.transpose(-2, -1)
        scores = scores / (math.sqrt(query.shape[-1]) if scale is None else scale(query, key))
        if mask is not None and hide is not None:
            scores = hide(scores, mask)
        elif mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim) @ value

    return wrong


def _hidden_afterwards(query, key, value, mask=None):
    weights = (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1)
    return (weights if mask is None else weights * mask) @ value


def _without_softmax(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (scores if mask is None else scores.masked_fill(~mask, 0)) @ value


def _one_softmax_for_all(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.flatten(-2).softmax(-1).reshape(scores.shape) @ value


# Of [N, M], for all of a batch; one of the queries may listen to everything.
_for_all = torch.tensor([[True, True, True], [False, True, False], [True, False, True]])
_padding = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])


def _attention_case(seed: int, query, key, width: int, mask=None, low: bool = False):
    """Queries and keys of these shapes, values of this width; all need gradients. low: all scores
    are about -40, and the values that nobody may hear enormous: what does not shut them out
    altogether lets them drown the others."""
    query, key = _random(seed, *query), _random(seed + 1, *key)
    value = _random(seed + 2, *key.shape[:-1], width)
    if low:
        query[..., 0] = key[..., 0] = (40 * key.shape[-1] ** 0.5) ** 0.5
        key[..., 0] *= -1
        heard = mask.expand(*query.shape[:-1], key.shape[-2]).any(-2)
        value = value.masked_fill(~heard[..., None], 1e30)
    return *(x.requires_grad_() for x in (query, key, value)), mask


attention = Exercise(
    reference=attention,
    forbids=(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    cases=[
        lambda: _attention_case(0, (2, 3, 8), (2, 5, 8), 6),
        lambda: _attention_case(3, (2, 4, 7), (2, 5, 7), 3, _padding[:, None, :], low=True),
        lambda: _attention_case(6, (2, 3, 6, 16), (2, 3, 5, 16), 3, _padding[:, None, None, :]),
        lambda: _attention_case(9, (4, 6), (5, 6), 2, _padding[[0, 1, 1, 0]]),
        lambda: _attention_case(15, (2, 3, 5), (2, 3, 5), 4, _for_all),
        lambda: (
            *(x.mul(2).detach() for x in _attention_case(12, (1, 9, 4), (1, 2, 4), 5)[:3]),
            None,
        ),
    ],
    mistakes=[
        (
            _attention_variant(scale=lambda query, key: 1),
            "The scores come out too large, and the more channels there are, the larger: each "
            "query listens to hardly more than one key.",
        ),
        (
            _attention_variant(scale=lambda query, key: query.shape[-1]),
            "The scores come out too small: every query listens to all keys nearly alike. Their "
            "typical size grows more slowly with D than you divide by.",
        ),
        (
            _attention_variant(scale=lambda query, key: math.sqrt(key.shape[-2])),
            "You divide by what depends on the number of keys. The scores grow with the number of "
            "channels.",
        ),
        (
            _attention_variant(dim=-2),
            "Each column of weights adds up to 1, not each row: the queries compete for a key. It "
            "is the keys that should compete for a query.",
        ),
        (
            _one_softmax_for_all,
            "All the weights together add up to 1. Each query should have weights of its own that "
            "do.",
        ),
        (
            _without_softmax,
            "The scores are used as weights: some are negative, and they don't add up to 1.",
        ),
        (
            _attention_variant(hide=lambda scores, mask: scores),
            "Without a mask it is right; with one, the padding is still listened to.",
        ),
        (
            _attention_variant(hide=lambda scores, mask: scores.masked_fill(mask, -torch.inf)),
            "With a mask it listens to the padding and to nothing else: True marks what counts.",
        ),
        (
            _attention_variant(hide=lambda scores, mask: scores * mask),
            "A masked key gets the score 0, and a score of 0 is still a weight: it may even beat "
            "a key that counts and has a negative score.",
        ),
        *[
            (
                _attention_variant(
                    hide=lambda scores, mask, low=low: scores.masked_fill(~mask, low)
                ),
                f"A hidden key gets the score {low}. That is a low score, but it is one: where the "
                "other scores are low as well, the hidden keys are listened to. Which score "
                "gives a weight of exactly 0?",
            )
            for low in (-1, -10, -100)
        ],
        (
            _attention_variant(scale=lambda query, key: 1 / math.sqrt(query.shape[-1])),
            "The scores are multiplied by the root of D. They are too large already: divide.",
        ),
        (
            _hidden_afterwards,
            "With a mask the weights of a query no longer add up to 1: the padding took its share "
            "before it was hidden.",
        ),
    ],
    points=3,
)


class _LayersOnly(package.Unet):
    def decode(self, *_):
        raise NotYet("You call unet.decode itself. Call its blocks and layers.")


def _decode_case(seed: int, batch: int, channels, attention: tuple[int, ...], tokens: bool):
    width = 4 * channels[0]
    unet = _perturbed(
        lambda: _LayersOnly(
            1, channels, token_channels=6 if tokens else 0, attention=attention, heads=2
        ),
        seed,
    )
    sizes = [2 ** (len(channels) - 1 - level) for level in range(len(channels))]
    skips = [
        _random(seed + 1 + i, batch, channels[i], size, 3 * size) for i, size in enumerate(sizes)
    ]
    h = _random(seed + 9, *skips[-1].shape)
    mask = torch.arange(4) < torch.arange(2, 2 + batch)[:, None]
    told = (_random(seed + 10, batch, 4, 6), mask) if tokens else (None, None)
    return unet, h, skips, 2 * _random(seed + 11, batch, width), *told


def _decode_variant(
    join=lambda h, skip: torch.cat([h, skip], dim=1),
    attend=lambda block, h, tokens, mask: block(h, tokens, mask),
    grow=lambda conv, h: conv(F.interpolate(h, scale_factor=2, mode="nearest")),
    levels=lambda count: range(count - 1, -1, -1),
    layer=lambda level: level - 1,
):
    def wrong(unet, h, skips, embedding, tokens=None, mask=None):
        for level in levels(len(unet.up_blocks)):
            h = unet.up_blocks[level](join(h, skips[level]), embedding)
            if unet.up_attention[level] is not None:
                h = attend(unet.up_attention[level], h, tokens, mask)
            if level > 0:
                h = grow(unet.upsample[layer(level)], h)
        return h

    return wrong


decode = Exercise(
    reference=decode,
    cases=[  # the levels are equally wide, so that a wrong wiring runs and can be named
        lambda: _decode_case(0, 2, (16, 16, 16), (1, 2), tokens=True),
        lambda: _decode_case(20, 3, (16, 16, 16), (0,), tokens=False),
        lambda: _decode_case(40, 1, (24, 24), (1,), tokens=True),
    ],
    mistakes=[
        (
            _decode_variant(join=lambda h, skip: torch.cat([skip, h], dim=1)),
            "Skip and features have changed places: what came from below stands first, the skip "
            "after it. The other order could be trained as well, but not with the same weights.",
        ),
        (
            _decode_variant(join=lambda h, skip: torch.cat([h, h], dim=1)),
            "The skips are not used: what the way down threw away never comes back.",
        ),
        (
            _decode_variant(join=lambda h, skip: torch.cat([h, torch.zeros_like(skip)], dim=1)),
            "The skips are not used: what the way down threw away never comes back.",
        ),
        (
            _decode_variant(attend=lambda block, h, tokens, mask: h),
            "The levels that have an attention block don't use it on the way up.",
        ),
        (
            _decode_variant(attend=lambda block, h, tokens, mask: block(h, None, None)),
            "The attention blocks are not given the tokens, so nothing listens to the condition "
            "on the way up.",
        ),
        (
            _decode_variant(attend=lambda block, h, tokens, mask: block(h, tokens, None)),
            "The attention blocks are not given the mask: the padding is listened to.",
        ),
        (
            _decode_variant(
                grow=lambda conv, h: conv(
                    F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
                )
            ),
            "The enlarging blends neighbours. Here every value is repeated as it is, and the "
            "convolution after it learns how to smooth.",
        ),
        (
            _decode_variant(
                grow=lambda conv, h: F.interpolate(conv(h), scale_factor=2, mode="nearest")
            ),
            "The convolution comes before the enlarging, so the result has visible 2x2 squares. It "
            "should see the enlarged features.",
        ),
        (
            _decode_variant(grow=lambda conv, h: F.interpolate(h, scale_factor=2, mode="nearest")),
            "The features are enlarged, but the upsample layers are not used.",
        ),
        (
            _decode_variant(levels=lambda count: range(count - 1, 0, -1)),
            "The finest level is left out: the loop stops one level early.",
        ),
        (
            _decode_variant(layer=lambda level: -level),
            "The upsample layers are used in the wrong order: number k leads up to level k.",
        ),
    ],
    points=3,
)
