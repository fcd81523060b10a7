"""The U-Net: from a noisy picture, the time and a condition to the noise in the picture.

Ronneberger et al., "U-Net" (2015), as Ho et al. (DDPM, 2020) and Dhariwal, Nichol, "Diffusion
Models Beat GANs" (2021) changed it for diffusion: it is told the time in every residual block, and
attends to itself and to the condition at the coarse levels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, MinLen
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from . import expect
from .conditions import Condition, with_null_image, with_null_token
from .expect import Count, Pictures, Time, checked
from .schedule import NoiseSchedule

GROUPS = 8  # of channels, in every GroupNorm
GROUPED = f"{GROUPS}, the groups of GroupNorm"
PLACE_CHANNELS = 32  # of the embedding of a place in the picture
Width = Annotated[int, Ge(GROUPS)]


Network = Annotated[Callable[..., Tensor], "network(x_t, t, condition)"]


@checked
def ask(network: Network, x_t: Pictures, t: int | Tensor, condition: Condition | None) -> Tensor:
    """network(x_t, t, condition), wherever it is. One rule for devices through the course: a
    network works where its weights are. What it is asked is brought there, and its answer comes
    back to where x_t is. So only who wants a network elsewhere moves it, and nobody else needs to
    know. Tables, in float64, stay on the CPU, see NoiseSchedule; samplers work where x_T is."""
    return at_home(network, x_t, t, condition)


def at_home(network: Callable[..., Tensor], x: Tensor, *told) -> Tensor:
    """network(x, *told), or what a layer makes of x, by the same rule. A function without weights
    works where x is."""
    weights = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    there = x.device if weights is None else weights.device
    given = [each.to(there) if isinstance(each, (Tensor, Condition)) else each for each in told]
    answer = network(x.to(there), *given)
    return answer if there == x.device else answer.to(x.device)


@checked
def time_embedding(
    t: Int[Tensor, "B"] | Float[Tensor, "B"], channels: Annotated[int, Ge(2)]
) -> Tensor:
    """Sines and cosines of t at frequencies from 1 down to 1/10000, [B] -> [B, channels].
    Vaswani et al., "Attention Is All You Need" (2017), section 3.5; all the sines stand first."""
    expect.divisible("channels", channels, 2)
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@checked
def place_embedding(height: Count, width: Count) -> Tensor:
    """Sines and cosines of the row and of the column of each place, row by row,
    [height * width, PLACE_CHANNELS]."""
    rows, columns = (time_embedding(torch.arange(n), PLACE_CHANNELS // 2) for n in (height, width))
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all its parameters at zero: a residual branch that ends in it starts out as
    the identity, and the untrained network predicts no noise at all."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut. The embedding of the time (and condition) scales and
    shifts the channels between them: Dhariwal, Nichol (2021), section 3, equation for AdaGN."""

    @checked
    def __init__(self, in_channels: Width, out_channels: Width, embedding_channels: Count):
        super().__init__()
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            expect.divisible(name, count, GROUPS, GROUPED)
        self.norm_1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_channels, 2 * out_channels)
        self.norm_2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv_2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    @checked
    def forward(
        self,
        x: Float[Tensor, "B {self.norm_1.num_channels} H W"],
        embedding: Float[Tensor, "B {self.modulation.in_features}"],
    ) -> Tensor:
        """-> [B, out_channels, H, W]"""
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm_2(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv_2(F.silu(h))


class Attention(nn.Module):
    """Multi-head attention, from x to x itself or from x to a context. Vaswani et al. (2017),
    section 3.2."""

    @checked
    def __init__(self, channels: Count, heads: Count, context_channels: int | None = None):
        super().__init__()
        expect.divisible("channels", channels, heads, f"heads = {heads}")
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(context_channels or channels, channels)
        self.value = nn.Linear(context_channels or channels, channels)
        self.out = zeroed(nn.Linear(channels, channels))

    @checked
    def forward(
        self,
        x: Float[Tensor, "B N {self.query.in_features}"],
        context: Float[Tensor, "B M {self.key.in_features}"] | None = None,
        mask: Bool[Tensor, "B M"] | None = None,
    ) -> Tensor:
        """mask: False for what must not be attended to -> [B, N, channels]"""
        context = x if context is None else context
        width = self.key.in_features
        expect.that(context.shape[2] == width, "context", f"have shape [B, M, {width}]", context)
        query, key, value = (
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, N or M, width]
            for layer, y in ((self.query, x), (self.key, context), (self.value, context))
        )
        if mask is not None:
            mask = mask[:, None, None, :]  # the same for every head and every query
        h = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(h.transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    """Every place of the picture looks at every other place, then at every token. placed: whether
    a place knows where it is, to find the token of the same place."""

    def __init__(self, channels: int, heads: int, token_channels: int | None, placed: bool = False):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.to_itself = Attention(channels, heads)
        if token_channels is not None:
            self.norm_tokens = nn.GroupNorm(GROUPS, channels)
            self.to_tokens = Attention(channels, heads, token_channels)
        self.from_place = nn.Linear(PLACE_CHANNELS, channels) if placed else None

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        """x [B, channels, H, W], tokens [B, L, token_channels], mask [B, L] -> the shape of x"""
        if self.from_place is not None:
            place = self.from_place(place_embedding(*x.shape[2:]).to(x))
            x = x + _as_picture(place.expand(len(x), -1, -1), x)
        x = x + _as_picture(self.to_itself(_as_row(self.norm(x))), x)
        if tokens is not None:
            x = x + _as_picture(self.to_tokens(_as_row(self.norm_tokens(x)), tokens, mask), x)
        return x


class Unet(nn.Module):
    """unet(x_t, t, condition) -> the noise in x_t.

    image_channels: of x_t and of the noise.
    channels: one number for each level, fine to coarse, each divisible by 8 and by `heads`. From
        one level to the next, height and width halve.
    condition_channels: of the condition picture; 0 for none.
    inject: the condition picture's way in. "input": concatenated to x_t. "levels": its features,
        computed once a level, are added on the way down. For a third, see PatchTokens.
    token_encoder: a module that turns tokens [B, L] into embeddings [B, L, token_channels]: an
        nn.Embedding for digits. None for embeddings from outside.
    token_channels: the width D of the embeddings; 0 for a network without tokens. Taken from the
        encoder where that is an nn.Embedding.
    attention: the levels that attend, counted from 0; the coarsest if not given.
    heads: of every attention.
    patch: 1, or 2 to work on 2x2 patches: the same picture at half the height and width with four
        times the channels, at a fraction of the time.
    placed: every place that attends is told where it is, to find the token of the same place.
    """

    @checked
    def __init__(
        self,
        image_channels: Count = 3,
        channels: Annotated[Sequence[Width], MinLen(1)] = (32, 64, 128),
        condition_channels: Annotated[int, Ge(0)] = 0,
        inject: Literal["input", "levels"] = "input",
        token_encoder: nn.Module | None = None,
        token_channels: Annotated[int, Ge(0)] = 0,
        attention: Sequence[int] | None = None,
        heads: Count = 4,
        patch: Count = 1,
        placed: bool = False,
    ):
        super().__init__()
        levels = range(len(channels))
        for count in channels:
            expect.divisible("each of channels", count, GROUPS, GROUPED)
            expect.divisible("each of channels", count, heads, f"heads = {heads}")
        attention = levels[-1:] if attention is None else attention
        for level in attention:
            expect.that(level in levels, "each of attention", f"be in 0..{levels[-1]}", f"{level}")
        if isinstance(token_encoder, nn.Embedding):
            token_channels = token_encoder.embedding_dim
        right = token_encoder is None or token_channels
        expect.that(right, "token_channels", "be the width of what token_encoder returns", "0")
        self.image_channels = image_channels
        self.condition_channels = condition_channels
        self.inject = inject
        self.token_channels = token_channels
        self.patch = patch
        self.factor = patch * 2 ** (len(channels) - 1)  # height and width must be divisible by it
        self.token_encoder = token_encoder
        self.attends = bool(attention)

        first, width = channels[0], 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(first, width), nn.SiLU(), nn.Linear(width, width))
        seen = image_channels
        if condition_channels:
            self.null_image = nn.Parameter(torch.zeros(condition_channels))
            if inject == "input":
                seen += condition_channels + 1
        if condition_channels and inject == "levels":
            folded = (condition_channels + 1) * patch**2
            self.condition_levels = nn.ModuleList(
                nn.Conv2d(folded, first, 3, padding=1)
                if level == 0
                else nn.Conv2d(channels[level - 1], channels[level], 3, stride=2, padding=1)
                for level in levels
            )
        if token_channels:
            self.null_token = nn.Parameter(torch.randn(token_channels))
            self.from_tokens = nn.Linear(token_channels, width)

        def attention_at(level):
            if level not in attention:
                return None
            return AttentionBlock(channels[level], heads, token_channels or None, placed)

        self.conv_in = nn.Conv2d(seen * patch**2, first, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            ResidualBlock(channels[max(level - 1, 0)], channels[level], width) for level in levels
        )
        self.down_attention = nn.ModuleList(map(attention_at, levels))
        self.downsample = nn.ModuleList(
            nn.Conv2d(channels[level], channels[level], 3, stride=2, padding=1)
            for level in levels[:-1]
        )
        self.middle_1 = ResidualBlock(channels[-1], channels[-1], width)
        self.middle_2 = ResidualBlock(channels[-1], channels[-1], width)
        self.up_blocks = nn.ModuleList(  # each takes its level's skip beside what came from below
            ResidualBlock(2 * channels[level], channels[level], width) for level in levels
        )
        self.up_attention = nn.ModuleList(map(attention_at, levels))
        self.upsample = nn.ModuleList(
            nn.Conv2d(channels[level + 1], channels[level], 3, padding=1) for level in levels[:-1]
        )
        self.norm_out = nn.GroupNorm(GROUPS, first)
        self.conv_out = zeroed(nn.Conv2d(first, image_channels * patch**2, 3, padding=1))

    @checked
    def forward(
        self,
        x_t: Float[Tensor, "B {self.image_channels} H W"],
        t: Time,
        condition: Condition | None = None,
    ) -> Tensor:
        """-> the noise, shaped like x_t. No condition is the same as one that is absent for
        everybody."""
        weight = self.conv_in.weight
        if x_t.device != weight.device:
            return ask(self, x_t, t, condition)
        right = x_t.dtype == weight.dtype or torch.is_autocast_enabled(x_t.device.type)
        wanted, advice = f"be {weight.dtype} like the weights", "Convert it with .to(...)."
        expect.that(right, "x_t", wanted, x_t, advice, TypeError)
        said = f"{self.factor} for this U-Net"
        expect.divisible("the height and width of x_t", x_t.shape[2:], self.factor, said)
        expect.time("t", t, 1, math.inf)
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        condition = self._complete(condition, x_t)

        tokens, mask = None, None
        if self.token_channels:
            told = (condition.mask, condition.present, self.null_token)
            tokens, mask = with_null_token(condition.tokens.to(self.null_token), *told)
            # A weight of zero hides every number, but not a NaN or infinity left in the padding.
            tokens = tokens.masked_fill(~mask[..., None], 0)
        seen = None
        if self.condition_channels:
            seen = with_null_image(condition.image.to(x_t), condition.present, self.null_image)
        return self.body(x_t, t, seen, tokens, mask)

    def body(
        self,
        x_t: Tensor,
        t: Tensor,
        seen: Tensor | None,
        tokens: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """forward without its checks, once absence has its null. seen: from with_null_image."""
        h, features = x_t, None
        if seen is not None and self.inject == "input":
            h = torch.cat([h, seen], dim=1)
        elif seen is not None:
            features = self.condition_features(seen)
        h = self.conv_in(F.pixel_unshuffle(h, self.patch))
        embedding = self.embed(t, tokens, mask)
        h, skips = self.encode(h, embedding, tokens, mask, features)
        h = self.middle_2(self.middle_1(h, embedding), embedding)
        h = self.decode(h, skips, embedding, tokens, mask)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.patch)

    def embed(self, t: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        """What every residual block is told: the time, plus the mean of the tokens that count.
        t [B] -> [B, width]"""
        first = self.time[0]
        embedding = self.time(time_embedding(t, first.in_features).to(first.weight.dtype))
        if tokens is not None:
            counts = mask.to(tokens)[..., None]
            embedding = embedding + self.from_tokens((tokens * counts).sum(1) / counts.sum(1))
        return embedding

    def condition_features(self, seen: Tensor) -> list[Tensor]:
        """Features of the condition picture for each level, fine to coarse: what
        inject="levels" adds. seen: from with_null_image."""
        features, h = [], F.pixel_unshuffle(seen, self.patch)
        for level in self.condition_levels:
            h = level(h if not features else F.silu(h))
            features.append(h)
        return features

    def encode(
        self,
        h: Tensor,
        embedding: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        features: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Down through the levels. Returns the coarsest features, and every level's features for
        the way back up, fine to coarse."""
        skips = []
        for level, block in enumerate(self.down_blocks):
            h = block(h, embedding)
            if features is not None:
                h = h + features[level]
            if self.down_attention[level] is not None:
                h = self.down_attention[level](h, tokens, mask)
            skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
        return h, skips

    def decode(
        self,
        h: Tensor,
        skips: list[Tensor],
        embedding: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Up through the levels, each with its skip from the way down."""
        for level in reversed(range(len(self.up_blocks))):
            h = self.up_blocks[level](torch.cat([h, skips[level]], dim=1), embedding)
            if self.up_attention[level] is not None:
                h = self.up_attention[level](h, tokens, mask)
            if level > 0:
                h = self.upsample[level - 1](F.interpolate(h, scale_factor=2, mode="nearest"))
        return h

    def encode_tokens(self, condition: Condition | None) -> Condition | None:
        """The condition with its tokens turned into embeddings, for a sampler to do once."""
        if condition is None or condition.tokens is None or condition.tokens.is_floating_point():
            return condition
        condition = condition.to(self.conv_in.weight.device)
        wanted = "be embeddings [B, L, D] for a U-Net without a token_encoder"
        right = self.token_encoder is not None
        expect.that(right, "tokens", wanted, expect.describe(condition.tokens))
        if isinstance(self.token_encoder, nn.Embedding):
            last = self.token_encoder.num_embeddings - 1
            low, high = int(condition.tokens.min()), int(condition.tokens.max())
            right = low >= 0 and high <= last
            expect.that(right, "tokens", f"be in 0..{last}", f"{low}..{high}")
        return replace(condition, tokens=self.token_encoder(condition.tokens))

    def _complete(self, condition: Condition | None, x_t: Tensor) -> Condition | None:
        """The condition, checked against the network and x_t; an absent one where none came."""
        wants = {"image": self.condition_channels, "tokens": self.token_channels}
        said = {"image": "an image", "tokens": "tokens"}
        count, _, height, width = x_t.shape
        if condition is None and any(wants.values()):
            return Condition(
                image=x_t.new_zeros(count, wants["image"], height, width)
                if wants["image"]
                else None,
                tokens=x_t.new_zeros(count, 1, wants["tokens"]) if wants["tokens"] else None,
                present=torch.zeros(count, dtype=torch.bool, device=x_t.device),
            )
        if condition is None:
            return None
        for name, channels in wants.items():
            comes = getattr(condition, name) is not None
            here, there = ("with" if each else "without" for each in (channels, comes))
            wanted = f"come {here} {said[name]}, for this U-Net wants the channels {wants}"
            expect.that(comes == bool(channels), "condition", wanted, f"one {there}")
        rows = f"have one row for each of the {count} examples of x_t"
        expect.that(len(condition) == count, "condition", rows, f"{len(condition)}")
        condition = self.encode_tokens(condition.to(x_t.device))
        image, tokens = condition.image, condition.tokens
        shape = [count, self.condition_channels, height, width]
        right = image is None or list(image.shape) == shape
        advice = "It should already be at the size of x_t."
        expect.that(right, "the condition's image", f"have shape {shape}", image, advice)
        right = tokens is None or (tokens.ndim == 3 and tokens.shape[2] == self.token_channels)
        expect.that(right, "tokens", f"have shape [{count}, L, {self.token_channels}]", tokens)
        return condition


def _as_row(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H * W, C]"""
    return x.flatten(2).transpose(1, 2)


def _as_picture(row: Tensor, x: Tensor) -> Tensor:
    """[B, H * W, C] -> the shape of x, [B, C, H, W]"""
    return row.transpose(1, 2).unflatten(2, x.shape[2:])


class Velocity(nn.Module):
    """A network that predicts noise, made of one whose output is taken for the velocity
    v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0. Salimans, Ho, "Progressive Distillation"
    (2022), section 4.

    An untrained U-Net returns zeros. Taken for v, they guess x_0 = sqrt(alpha_bar) x_t, which is
    right where the picture is clean and harmless where all is noise: training starts further on.
    """

    @checked
    def __init__(self, network: nn.Module, schedule: NoiseSchedule):
        super().__init__()
        self.network = network
        self.schedule = schedule

    def encode_tokens(self, condition: Condition | None) -> Condition | None:
        """The network's own, where it has one."""
        encode = getattr(self.network, "encode_tokens", None)
        return condition if encode is None else encode(condition)

    def forward(self, x_t: Pictures, t: Time, condition: Condition | None = None) -> Tensor:
        """-> the noise, shaped like x_t."""
        v = ask(self.network, x_t, t, condition)
        # Solved for the noise: sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t.
        return self.schedule.add_noise(v.to(x_t), t, x_t)


class PatchTokens(nn.Module):
    """A network that attends to the condition's picture, made of one that attends to tokens: the
    picture is cut into patches, one for each place of the coarsest level, and each is a token. The
    condition's mask [B, patches], if any, says which may be attended to.

    network: with token_channels, which are the patches' width, and placed.
    """

    @checked
    def __init__(self, network: Unet, condition_channels: Count):
        super().__init__()
        outside = network.token_channels and network.token_encoder is None
        wanted = "attend to tokens from outside: token_channels, but no token_encoder"
        expect.that(outside and network.attends, "network", wanted, "another")
        self.network = network
        self.condition_channels = condition_channels
        self.from_patch = nn.Linear(
            condition_channels * network.factor**2 + PLACE_CHANNELS, network.token_channels
        )

    @checked
    def forward(
        self,
        x_t: Float[Tensor, "B C H W"],
        t: Time,
        condition: Annotated[Condition, "None means no condition at all."] | None = None,
    ) -> Tensor:
        """-> the noise, shaped like x_t."""
        if condition is None:
            return ask(self.network, x_t, t, None)
        image = condition.image
        expect.that(image is not None, "condition", "come with an image", "one without")
        shape = [len(x_t), self.condition_channels, *x_t.shape[2:]]
        right = list(image.shape) == shape
        advice = "It should already be at the size of x_t."
        expect.that(right, "the condition's image", f"have shape {shape}", image, advice)
        expect.that(condition.tokens is None, "condition", "come without tokens", "one with")
        factor = self.network.factor
        said = f"{factor} for this U-Net"
        expect.divisible("the height and width of x_t", x_t.shape[2:], factor, said)
        patches = F.pixel_unshuffle(image.to(self.from_patch.weight), factor)
        place = place_embedding(*patches.shape[2:]).to(patches).expand(len(image), -1, -1)
        tokens = self.from_patch(torch.cat([_as_row(patches), place], dim=2))
        condition = condition.to(tokens.device)
        told = Condition(tokens=tokens, mask=condition.mask, present=condition.present)
        return ask(self.network, x_t, t, told)


@checked
def known_patches(mask: Bool[Tensor, "B 1 H W"], size: Count) -> Tensor:
    """Which size x size patches are known to the last pixel, row by row: mask, True in the hole
    -> [B, patches]. For a network that attends to known patches only."""
    expect.divisible("the height and width of mask", mask.shape[2:], size, f"size = {size}")
    return ~F.pixel_unshuffle(mask.float(), size).bool().any(dim=1).flatten(1)


class KnownPixels(nn.Module):
    """A network for pictures with holes whose x_0 is what a smooth filling lacks: 0 at known
    pixels, so that all of x_t is noise there, and nothing has to be guessed. All of the loss, and
    so all of the learning, is then about the hole: Saharia et al., "Palette" (2022), do the same by
    leaving the known pixels out of the loss.

    The condition's image is [B, D, H, W], and its last plane is positive in the hole.
    patch: of a network that attends to patches of that size, to let it see known ones only.
    quiet: the network sees 0 in place of the noise at known pixels, from which it has nothing to
    learn.
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        patch: Count | None = None,
        quiet: bool = False,
    ):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.patch = patch
        self.quiet = quiet

    def forward(self, x_t: Pictures, t: Time, condition: Condition | None = None) -> Tensor:
        """-> the noise, shaped like x_t."""
        if condition is None:
            return ask(self.network, x_t, t, None)
        condition = condition.to(x_t.device)
        hole = condition.image[:, -1:] > 0
        if self.patch is not None:
            condition = replace(condition, mask=known_patches(hole, self.patch))
        known = ~hole & condition.present[:, None, None, None]
        seen = torch.where(known, 0, x_t) if self.quiet else x_t
        noise = ask(self.network, seen, t, condition)
        exact = self.schedule.predict_noise(x_t, t, torch.zeros_like(x_t))
        return torch.where(known, exact.to(noise), noise)
