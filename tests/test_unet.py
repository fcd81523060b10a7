"""The U-Net and its blocks, held against PyTorch's and Diffusers' own, and against what they must
and must not depend on."""

from functools import partial

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from cfd_course import NoiseSchedule, guide
from cfd_course.conditions import Condition
from cfd_course.unet import (
    Attention,
    AttentionBlock,
    KnownPixels,
    PatchTokens,
    ResidualBlock,
    Unet,
    Velocity,
    known_patches,
    place_embedding,
    time_embedding,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Layers this small only lose by sharing the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=random_source(seed))


def awake(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every parameter moved away from where it starts: a layer that starts at
    zero would hide whatever lies before it."""
    source = random_source(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=source)
    return network.eval()


def token_network(**settings) -> Unet:
    """Three levels, attention at two of them, ten kinds of tokens."""
    settings = {"token_encoder": nn.Embedding(10, 12), "attention": (1, 2), "heads": 2} | settings
    return awake(Unet(3, (8, 16, 16), **settings))


ROUTES = ("input", "levels", "attention")


def picture_network(route: str, channels: int = 2, **settings) -> nn.Module:
    """Told by a picture of two channels, along one of the routes."""
    return awake(routed(route, channels, **{"channels": (8, 16), "heads": 2} | settings))


def routed(route: str, condition_channels: int, channels: tuple[int, ...], **settings) -> nn.Module:
    if route == "attention":
        network = Unet(3, channels, token_channels=channels[-1], placed=True, **settings)
        return PatchTokens(network, condition_channels)
    return Unet(3, channels, condition_channels, route, **settings)


def unet_of(network: nn.Module) -> Unet:
    return network.network if isinstance(network, PatchTokens) else network


X = randn(2, 3, 16, 16)
T = torch.tensor([3, 700])
TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])


# The parts


@pytest.mark.parametrize("channels", [2, 32, 64, 128])
def test_time_embedding_is_diffusers(channels):
    t = torch.tensor([1, 2, 10, 500, 1000])
    theirs = get_timestep_embedding(t, channels, downscale_freq_shift=0)
    torch.testing.assert_close(time_embedding(t, channels), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong", [3, 0, 4.0])
def test_time_embedding_refuses_channels(wrong):
    with pytest.raises((TypeError, ValueError), match="channels should be"):
        time_embedding(T, wrong)


def test_place_embedding_is_the_time_embedding_of_row_and_column():
    places = place_embedding(3, 5)
    assert places.shape == (15, 32)
    for number, place in enumerate(places):
        row, column = torch.tensor([number // 5]), torch.tensor([number % 5])
        expected = torch.cat([time_embedding(row, 16)[0], time_embedding(column, 16)[0]])
        torch.testing.assert_close(place, expected)
    apart = torch.cdist(place_embedding(16, 16), place_embedding(16, 16)) + 9 * torch.eye(256)
    assert apart.min() > 0.1  # no two places look alike


@pytest.mark.parametrize(("before", "after"), [(16, 16), (16, 32), (32, 8)])
def test_residual_block_is_diffusers(before, after):
    ours = awake(ResidualBlock(before, after, 24))
    theirs = ResnetBlock2D(
        in_channels=before,
        out_channels=after,
        temb_channels=24,
        groups=8,
        eps=ours.norm_1.eps,
        time_embedding_norm="scale_shift",
    )
    pairs = {
        "norm1": ours.norm_1,
        "conv1": ours.conv_1,
        "time_emb_proj": ours.modulation,
        "norm2": ours.norm_2,
        "conv2": ours.conv_2,
    }
    if before != after:
        pairs["conv_shortcut"] = ours.shortcut
    theirs.load_state_dict(
        {
            f"{name}.{key}": w
            for name, layer in pairs.items()
            for key, w in layer.state_dict().items()
        }
    )
    x, embedding = randn(2, before, 6, 4), randn(2, 24, seed=1)
    torch.testing.assert_close(ours(x, embedding), theirs(x, embedding), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("context_channels", [None, 12])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_pytorch(heads, context_channels, masked):
    width = context_channels or 16
    ours = awake(Attention(16, heads, context_channels))
    theirs = nn.MultiheadAttention(16, heads, kdim=width, vdim=width, batch_first=True)
    with torch.no_grad():
        if context_channels is None:
            projections = [ours.query.weight, ours.key.weight, ours.value.weight]
            theirs.in_proj_weight.copy_(torch.cat(projections))
        else:
            theirs.q_proj_weight.copy_(ours.query.weight)
            theirs.k_proj_weight.copy_(ours.key.weight)
            theirs.v_proj_weight.copy_(ours.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = randn(3, 5, 16)
    context = None if context_channels is None else randn(3, 7, 12, seed=1)
    seen = x if context is None else context
    mask = torch.rand(seen.shape[:2], generator=random_source(2)) < 0.5
    mask[:, 0] = True
    padding = ~mask if masked else None
    expected, _ = theirs(x, seen, seen, key_padding_mask=padding)
    result = ours(x, context, mask if masked else None)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_attention_block_looks_at_all_places_and_tokens():
    block = awake(AttentionBlock(8, 2, 12))
    x, tokens = randn(1, 8, 4, 4).requires_grad_(), randn(1, 3, 12, seed=1).requires_grad_()
    mask = torch.tensor([[True, True, False]])
    block(x, tokens, mask)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()
    assert (tokens.grad.abs().sum(2) > 0).tolist() == [[True, True, False]]


def test_blocks_start_as_their_shortcut():
    x, embedding = randn(2, 8, 4, 4), randn(2, 24)
    assert torch.equal(ResidualBlock(8, 8, 24)(x, embedding), x)
    wider = ResidualBlock(8, 16, 24)
    assert torch.equal(wider(x, embedding), wider.shortcut(x))
    assert not Attention(8, 2)(x.flatten(2).mT).any()
    block = AttentionBlock(8, 2, 12)
    assert torch.equal(block(x, randn(2, 3, 12), torch.ones(2, 3, dtype=torch.bool)), x)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ResidualBlock(12, 16, 24), "in_channels should be divisible by 8"),
        (lambda: ResidualBlock(16, 12, 24), "out_channels should be divisible by 8"),
        (lambda: Attention(10, 4), "channels should be divisible by heads"),
        (lambda: ResidualBlock(8, 8, 24)(randn(2, 9, 4, 4), randn(2, 24)), "x should have shape"),
        (lambda: ResidualBlock(8, 8, 24)(randn(2, 8, 4, 4), randn(3, 24)), "embedding should have"),
        (lambda: Attention(8, 2)(randn(2, 8, 4, 4)), "x should have shape"),
        (lambda: Attention(8, 2, 12)(randn(2, 4, 8)), "context should have shape"),
        (lambda: Attention(8, 2)(randn(2, 4, 8), mask=torch.ones(2, 4)), "mask should be a bool"),
    ],
)
def test_blocks_refuse(build, words):
    with pytest.raises((TypeError, ValueError), match=words):
        build()


# The whole


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize(
    "build",
    [partial(Unet, 3, (8, 16)), *(partial(routed, route, 2, (8, 16)) for route in ROUTES)],
)
def test_untrained_network_predicts_no_noise(build, patch):
    noise = build(heads=2, patch=patch)(X, 5)
    assert noise.shape == X.shape and not noise.any()


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (28, 12)])
def test_any_size_divisible_by_the_factor(size):
    network = token_network()
    assert network.factor == 4
    x = randn(2, 3, *size)
    noise = network(x, T, Condition(tokens=TOKENS))
    assert noise.shape == x.shape and noise.isfinite().all()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(18, 16), (16, 18), (6, 6)])
def test_other_sizes_are_refused(size, patch):
    network = token_network(patch=patch)
    with pytest.raises(ValueError, match=f"divisible by {4 * patch} .*{size[0]}x{size[1]} came"):
        network(randn(2, 3, *size), T, Condition(tokens=TOKENS))


def test_patch_changes_no_shape_and_no_neighbourhood():
    """A corner of the output depends on the corner of the input, whichever way it is cut up: with
    a network of one level and no attention, changes at the far end cannot reach it."""
    for patch in (1, 2):
        network = awake(Unet(3, (8,), attention=(), heads=2, patch=patch))
        for norm in network.modules():  # the only layers that look at the whole picture
            if isinstance(norm, nn.GroupNorm):
                norm.forward = lambda x: x
        x = randn(1, 3, 32, 32).requires_grad_()
        noise = network(x, 5)
        assert noise.shape == x.shape
        noise[0, :, :4, :4].sum().backward()
        reached = x.grad[0].abs().sum(0) > 0
        assert reached[:4, :4].all() and not reached[:, -4:].any() and not reached[-4:, :].any()


@pytest.mark.parametrize("patch", [1, 2])
def test_channels_last_agrees(patch):
    network = token_network(patch=patch)
    condition = Condition(tokens=TOKENS)
    expected = network(X, T, condition)
    network = network.to(memory_format=torch.channels_last)
    result = network(X.to(memory_format=torch.channels_last), T, condition)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_skip_matters(level):
    network = token_network()
    embedding = network.embed(T, None, None)
    h, skips = network.encode(network.conv_in(X), embedding)
    assert len(skips) == 3
    before = network.decode(h, skips, embedding)
    skips[level] = skips[level] + 0.1
    assert (network.decode(h, skips, embedding) - before).abs().max() > 1e-3


def test_levels_halve_the_size():
    network = token_network()
    _, skips = network.encode(network.conv_in(X), network.embed(T, None, None))
    assert [skip.shape[1:] for skip in skips] == [(8, 16, 16), (16, 8, 8), (16, 4, 4)]


def test_the_attention_levels_attend():
    network = Unet(3, (8, 16, 16), heads=2, attention=(0, 2), token_channels=12)
    for blocks in (network.down_attention, network.up_attention):
        assert [block is not None for block in blocks] == [True, False, True]
    coarsest = Unet(3, (8, 16, 16), heads=2).down_attention
    assert [block is not None for block in coarsest] == [False, False, True]


def test_time_is_for_each_example():
    network = token_network()
    condition = Condition(tokens=TOKENS)
    together = network(X, T, condition)
    assert not torch.allclose(together, network(X, T.flip(0), condition), atol=1e-3)
    for row in range(2):
        alone = network(X[row : row + 1], int(T[row]), condition[row])
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


def told_everything(route: str) -> tuple[nn.Module, Condition]:
    """A network with every kind of part that goes with the route, in float64 so that rounding
    cannot pass for a gradient, and conditions that use every token and hide from one of three."""
    encoder = None if route == "attention" else nn.Embedding(10, 12)
    tokens = {} if encoder is None else {"token_encoder": encoder}
    network = routed(route, 2, (16, 32), heads=2, patch=2, **tokens)
    tokens = torch.arange(10).reshape(2, 5)
    condition = Condition(
        image=randn(3, 2, 16, 16, seed=1).double(),
        tokens=None if encoder is None else torch.cat([tokens, tokens[:1]]),
        present=torch.tensor([True, True, False]),
    )
    return network.double(), condition


def reached(network: Unet, condition: Condition) -> set[str]:
    """The names of the parameters with a gradient; an embedding counts when all its rows have."""
    network.zero_grad()
    x, noise = randn(3, 3, 16, 16).double(), randn(3, 3, 16, 16, seed=2).double()
    (network(x, torch.tensor([3, 700, 41]), condition) - noise).square().mean().backward()
    sizes = {
        name: p.grad.abs().amax(1).min() if name == "token_encoder.weight" else p.grad.abs().max()
        for name, p in network.named_parameters()
    }
    return {name for name, size in sizes.items() if size > 1e-12}


def all_parameters(network: Unet) -> set[str]:
    """All but the keys' biases: they add the same number to all that a query is compared with, and
    a softmax does not see that, in ours or in anybody's attention."""
    return {name for name, _ in network.named_parameters() if not name.endswith("key.bias")}


@pytest.mark.parametrize("route", ROUTES)
def test_gradient_reaches_every_parameter(route):
    network, condition = told_everything(route)
    assert reached(awake(network), condition) == all_parameters(network)


@pytest.mark.parametrize("route", ROUTES)
def test_gradient_reaches_every_parameter_in_training(route):
    """From the untrained network, without help: only the last layer has a gradient at first, and
    the other layers that start at zero wake up one after another."""
    network, condition = told_everything(route)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    names = {name.removeprefix("network.") for name in reached(network, condition)}
    assert names == {"conv_out.weight", "conv_out.bias"}
    for _ in range(4):
        optimizer.step()
        names = reached(network, condition)
    assert names == all_parameters(network)


# What it is told


def conditions() -> dict[str, tuple[Unet, Condition, Condition]]:
    """For each kind of condition: a network, a condition, and another one of the same kind."""
    image, other = randn(2, 2, 16, 16, seed=1), randn(2, 2, 16, 16, seed=2)
    embeddings = randn(2, 4, 12, seed=3)
    strange = torch.full((2, 4, 12), torch.nan)
    return {
        "image": (
            picture_network("input"),
            Condition(image=image),
            Condition(image=other),
        ),
        "image at every level": (
            picture_network("levels"),
            Condition(image=image),
            Condition(image=torch.full_like(other, torch.inf)),
        ),
        "image attended to": (
            picture_network("attention"),
            Condition(image=image),
            Condition(image=torch.full_like(other, torch.inf)),
        ),
        "tokens": (
            token_network(),
            Condition(tokens=TOKENS),
            Condition(tokens=torch.tensor([[9, 9], [8, 0]])),
        ),
        "embeddings": (
            token_network(token_encoder=None, token_channels=12),
            Condition(tokens=embeddings),
            Condition(tokens=strange),
        ),
        "image and tokens": (
            token_network(condition_channels=2),
            Condition(image=image, tokens=TOKENS),
            Condition(image=torch.full_like(other, torch.inf), tokens=TOKENS.flip(0)),
        ),
    }


KINDS = list(conditions())


@pytest.mark.parametrize("kind", KINDS)
def test_absent_means_hidden(kind):
    """Nothing of a hidden condition shows, were it infinite; and it is what None means."""
    network, condition, other = conditions()[kind]
    absent = network(X, T, condition.absent())
    torch.testing.assert_close(network(X, T, other.absent()), absent, atol=1e-6, rtol=0)
    torch.testing.assert_close(network(X, T, None), absent, atol=1e-6, rtol=0)
    assert (network(X, T, condition) - absent).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_absence_is_for_each_example(kind):
    network, condition, _ = conditions()[kind]
    present, absent = network(X, T, condition), network(X, T, condition.absent())
    mixed = Condition(
        condition.image, condition.tokens, condition.mask, torch.tensor([True, False])
    )
    result = network(X, T, mixed)
    torch.testing.assert_close(result[0], present[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result[1], absent[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "kind", ["image", "image at every level", "image attended to", "embeddings"]
)
def test_zero_is_not_the_null(kind):
    network, condition, _ = conditions()[kind]
    zero = Condition(
        image=None if condition.image is None else torch.zeros_like(condition.image),
        tokens=None if condition.tokens is None else torch.zeros_like(condition.tokens),
    )
    assert (network(X, T, zero) - network(X, T, zero.absent())).abs().max() > 1e-3


def test_the_null_is_learned():
    """The prediction without a condition depends on the null image and the null token."""
    for kind, name in (
        ("image", "null_image"),
        ("image at every level", "null_image"),
        ("image attended to", "null_token"),
        ("tokens", "null_token"),
    ):
        network, condition, _ = conditions()[kind]
        before = network(X, T, condition.absent())
        with torch.no_grad():
            getattr(unet_of(network), name).add_(1)
        assert (network(X, T, condition.absent()) - before).abs().max() > 1e-3, name


@pytest.mark.parametrize("route", ["input", "levels"])
def test_the_image_is_seen_in_its_place(route):
    """Not pooled: a change in one corner of the condition shows most there."""
    network, condition = picture_network(route), Condition(image=randn(2, 2, 16, 16, seed=1))
    changed = condition.image.clone()
    changed[:, :, :2, :2] += 1
    change = (network(X, T, Condition(image=changed)) - network(X, T, condition)).abs().mean((0, 1))
    assert change[:2, :2].mean() > 3 * change[-8:, -8:].mean()


# The routes of a condition picture


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_takes_any_size_divisible_by_the_factor(route, patch):
    network = picture_network(route, patch=patch)
    factor = unet_of(network).factor
    for size in ((factor, 2 * factor), (16, 8)):
        x, image = randn(2, 3, *size), randn(2, 2, *size, seed=1)
        noise = network(x, T, Condition(image=image))
        assert noise.shape == x.shape and noise.isfinite().all()


def test_the_routes_enter_where_they_say():
    """Beside x_t, on the way down, or not by a convolution at all."""
    networks = {route: picture_network(route, patch=2) for route in ROUTES}
    planes = {route: unet_of(n).conv_in.in_channels // 4 for route, n in networks.items()}
    assert planes == {"input": 3 + 2 + 1, "levels": 3, "attention": 3}
    assert [hasattr(networks[i], "condition_levels") for i in ROUTES] == [False, True, False]
    assert [hasattr(networks[i], "from_patch") for i in ROUTES] == [False, False, True]


def test_features_are_added_at_every_level():
    network = picture_network("levels")
    embedding, h = network.embed(T, None, None), network.conv_in(X)
    features = network.condition_features(randn(2, 3, 16, 16, seed=1))
    assert [f.shape[1:] for f in features] == [(8, 16, 16), (16, 8, 8)]
    _, before = network.encode(h, embedding, features=features)
    for level in range(2):
        changed = [f + 0.1 * (n == level) for n, f in enumerate(features)]
        _, after = network.encode(h, embedding, features=changed)
        moved = [bool((a - b).abs().max() > 1e-3) for a, b in zip(after, before, strict=True)]
        assert moved == [n >= level for n in range(2)]


def test_every_place_attends_to_every_patch():
    network = picture_network("attention", patch=2)
    image = randn(1, 2, 16, 16, seed=1).requires_grad_()
    network(X[:1], 700, Condition(image=image))[0, :, 0, 0].sum().backward()
    assert (nn.functional.avg_pool2d(image.grad.abs(), network.network.factor) > 0).all()


def test_attention_knows_which_patch_is_which():
    """The same patches in other places are another picture."""
    network, image = picture_network("attention"), randn(2, 2, 16, 16, seed=1)
    moved = image.roll(network.network.factor, 3)
    change = network(X, T, Condition(image=moved)) - network(X, T, Condition(image=image))
    assert change.abs().max() > 1e-3


def test_masked_patches_have_no_influence():
    """Whatever they hold, even infinity; the others count."""
    network, image = picture_network("attention", patch=2), randn(2, 2, 16, 16, seed=1)
    mask = torch.rand(2, 16, generator=random_source(3)) < 0.5
    expected = network(X, T, Condition(image=image, mask=mask))
    pixels = mask.reshape(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    for filling in (0.0, 5.0, torch.inf, torch.nan):
        other = Condition(image=torch.where(pixels, image, filling), mask=mask)
        torch.testing.assert_close(network(X, T, other), expected, atol=1e-6, rtol=0)
    seen = torch.where(pixels, image + 1, image)
    assert (network(X, T, Condition(image=seen, mask=mask)) - expected).abs().max() > 1e-3
    for patch in mask[0].nonzero()[:, 0].tolist():  # each of them
        fewer = mask.clone()
        fewer[0, patch] = False
        change = network(X, T, Condition(image=image, mask=fewer)) - expected
        assert change[0].abs().max() > 1e-4 and change[1].abs().max() < 1e-6


def test_without_a_patch_left_it_is_absent():
    network, image = picture_network("attention"), randn(2, 2, 16, 16, seed=1)
    nothing = Condition(image=image, mask=torch.zeros(2, 64, dtype=torch.bool))
    torch.testing.assert_close(network(X, T, nothing), network(X, T, None), atol=1e-6, rtol=0)


# Tokens


def test_captions_of_different_lengths_share_a_batch():
    network = token_network()
    captions = [torch.tensor([row]) for row in ([1, 2, 3, 4, 5], [6], [7, 8])]
    x, t = randn(3, 3, 16, 16), torch.tensor([1, 500, 1000])
    tokens = torch.full((3, 5), 9)  # a token that counts, had the mask not hidden it
    mask = torch.zeros(3, 5, dtype=torch.bool)
    for row, caption in enumerate(captions):
        tokens[row, : caption.shape[1]] = caption
        mask[row, : caption.shape[1]] = True
    together = network(x, t, Condition(tokens=tokens, mask=mask))
    for row, caption in enumerate(captions):
        alone = network(x[row : row + 1], t[row : row + 1], Condition(tokens=caption))
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


def test_tokens_are_attended_to():
    """With the way through the time embedding cut, tokens still matter: by cross-attention. And
    with cross-attention cut, they still matter: through the embedding."""
    for cut in ("from_tokens", "to_tokens"):
        network = token_network()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if cut in name:
                    parameter.zero_()
        one = network(X, T, Condition(tokens=TOKENS))
        other = network(X, T, Condition(tokens=TOKENS + 1))
        assert (one - other).abs().max() > 1e-4, cut


def test_the_encoder_can_run_once():
    network = token_network()
    condition = Condition(tokens=TOKENS, mask=TOKENS != 3, present=torch.tensor([True, False]))
    encoded = network.encode_tokens(condition)
    assert encoded.tokens.shape == (2, 3, 12)
    assert torch.equal(network(X, T, encoded), network(X, T, condition))


def test_any_module_can_encode_tokens():
    encoder = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 12))
    network = token_network(token_encoder=encoder, token_channels=12)
    assert network(X, T, Condition(tokens=TOKENS)).shape == X.shape


def test_half_precision_network():
    network = token_network(condition_channels=2)
    condition = Condition(image=randn(2, 2, 16, 16, seed=1), tokens=TOKENS)
    expected = network(X, T, condition)
    result = network.bfloat16()(X.bfloat16(), T, condition)
    assert result.dtype == torch.bfloat16
    assert (result.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


# What it refuses


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_channels": 0}, "image_channels"),
        ({"channels": ()}, "channels should be a list of at least 1"),
        ({"channels": 32}, "channels should be a list, but 32"),
        ({"channels": (12,)}, "channels should be divisible by 8"),
        ({"channels": (8,), "heads": 3}, "channels should be divisible by heads = 3"),
        ({"attention": 2}, "attention should be a list"),
        ({"attention": (3,)}, "each of attention should be in 0..2"),
        ({"token_encoder": 10}, "token_encoder should be of type Module"),
        ({"token_encoder": nn.Linear(1, 1)}, "token_channels should be the width"),
        ({"patch": 0}, "patch"),
        ({"condition_channels": -1}, "condition_channels"),
        (
            {"inject": "attention"},
            "inject should be one of 'input', 'levels', but",
        ),
    ],
)
def test_settings_refused(settings, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Unet(**settings)


ENCODER = nn.Embedding(10, 16)
IMAGE, EMBEDDINGS = torch.zeros(2, 2, 16, 16), torch.zeros(2, 3, 12)


@pytest.mark.parametrize(
    ("x_t", "t", "condition", "words"),
    [
        (X[0], T, None, "x_t should have shape"),
        (X[:, :2], T, None, "x_t should have shape"),
        (X.double(), T, None, "x_t should be torch.float32"),
        (X.long(), T, None, "x_t should be a float tensor"),
        (X, 0, None, "t should be at least 1"),
        (X, 0.5, None, "t should be an int tensor or a whole number"),
        (X, T[[0, 0, 0]], None, r"t should have shape \[2\]"),
        (X, T, torch.zeros(2), "condition should be of type Condition"),
        (X, T, Condition(tokens=TOKENS), "with an image"),
        (X, T, Condition(image=IMAGE), "with tokens"),
        (X, T, Condition(image=IMAGE, tokens=TOKENS)[0], "one row for each of the 2"),
        (X, T, Condition(image=IMAGE[..., :8], tokens=TOKENS), "already be at the size of x_t"),
        (X, T, Condition(image=IMAGE, tokens=TOKENS + 4), "tokens should be in 0..9, but 5..10"),
        (X, T, Condition(image=IMAGE, tokens=EMBEDDINGS[..., :4]), "tokens should have shape"),
    ],
)
def test_inputs_refused(x_t, t, condition, words):
    with pytest.raises((TypeError, ValueError), match=words):
        token_network(condition_channels=2)(x_t, t, condition)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (Condition(image=IMAGE[:, :1]), "the condition's image should have shape"),
        (Condition(image=IMAGE[..., :8]), "already be at the size of x_t"),
        (Condition(image=IMAGE, tokens=TOKENS), "without tokens"),
        (Condition(tokens=TOKENS), "with an image"),
    ],
)
def test_every_route_refuses(route, condition, words):
    with pytest.raises(ValueError, match=words):
        picture_network(route)(X, T, condition)


def test_a_mask_for_other_patches_is_refused():
    network = picture_network("attention")
    mask = torch.ones(2, 63, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"mask should have shape \[2, 64\]"):
        network(X, T, Condition(image=IMAGE, mask=mask))


def test_patch_tokens_refuse_a_network_that_does_not_attend_to_them():
    for settings in ({}, {"token_channels": 16, "attention": ()}, {"token_encoder": ENCODER}):
        with pytest.raises(ValueError, match="network should attend to tokens from outside"):
            PatchTokens(Unet(3, (8, 16), **settings), 2)


def test_conditions_refused_where_none_was_trained():
    plain = Unet(3, (8,), heads=2)
    with pytest.raises(ValueError, match="without tokens"):
        plain(X, T, Condition(tokens=TOKENS))
    outside = Unet(3, (8,), heads=2, token_channels=12)
    with pytest.raises(ValueError, match="tokens should be embeddings"):
        outside(X, T, Condition(tokens=TOKENS))


# Velocity


class Given(nn.Module):
    """Returns what it was given, and keeps what it was told."""

    def __init__(self, output: torch.Tensor):
        super().__init__()
        self.output, self.told, self.encoded = output, [], 0

    def encode_tokens(self, condition):
        self.encoded += 1
        return condition

    def forward(self, x_t, t, condition=None):
        self.told.append((x_t, t, condition))
        return self.output


SHORT = NoiseSchedule([0.19, 0.36])  # alpha_bar: 0.81, then 0.5184 = 0.72 squared


def test_velocity_by_hand():
    v = randn(2, 3, 16, 16, seed=1)
    network = Given(v)
    condition = Condition(tokens=TOKENS)
    noise = Velocity(network, SHORT)(X, torch.tensor([1, 2]), condition)
    torch.testing.assert_close(noise[0], 0.9 * v[0] + 0.19**0.5 * X[0])
    torch.testing.assert_close(noise[1], 0.72 * v[1] + 0.4816**0.5 * X[1])
    assert network.told[0][2] is condition
    for t in (2, torch.tensor(2), torch.tensor([2, 2])):
        torch.testing.assert_close(Velocity(network, SHORT)(X, t), 0.72 * v + 0.4816**0.5 * X)


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_the_true_velocity_gives_the_true_noise(kind, t):
    schedule = kind(1000)
    x_0, noise = X.double(), randn(2, 3, 16, 16, seed=1).double()
    kept = schedule.alpha_bars[t]
    v = kept.sqrt() * noise - (1 - kept).sqrt() * x_0
    network = Velocity(Given(v), schedule)
    torch.testing.assert_close(network(schedule.add_noise(x_0, t, noise), t), noise)


def test_an_untrained_velocity_keeps_what_is_clean():
    """v = 0 guesses x_0 = sqrt(alpha_bar) x_t, however little noise there is."""
    network = Velocity(Unet(3, (8,), heads=2), SHORT)
    for t, root in ((1, 0.9), (2, 0.72)):
        torch.testing.assert_close(SHORT.predict_x0(X, t, network(X, t)), root * X)


def test_velocity_encodes_tokens_once():
    network = Given(X)
    denoise = guide(Velocity(network, SHORT), Condition(tokens=TOKENS), scale=1.0)
    for t in (2, 1):
        denoise(X, t)
    assert network.encoded == 1 and len(network.told) == 2
    real = token_network()
    condition = Condition(tokens=TOKENS)
    assert torch.equal(
        Velocity(real, SHORT).encode_tokens(condition).tokens,
        real.encode_tokens(condition).tokens,
    )
    plain = nn.Identity()  # has no encode_tokens
    assert Velocity(plain, SHORT).encode_tokens(condition) is condition


def test_velocity_keeps_the_dtype_and_adds_no_weights():
    inner = Unet(3, (8,), heads=2)
    assert Velocity(inner, SHORT).state_dict().keys() == {
        f"network.{name}" for name in inner.state_dict()
    }
    assert Velocity(inner, SHORT)(X, 1).dtype == torch.float32
    assert Velocity(inner.double(), SHORT)(X.double(), 1).dtype == torch.float64


def test_velocity_refuses():
    with pytest.raises(TypeError, match="network should be of type Module"):
        Velocity(lambda x_t, t, condition: x_t, SHORT)
    with pytest.raises(TypeError, match="schedule should be of type NoiseSchedule"):
        Velocity(nn.Identity(), [0.1])
    network = Velocity(Unet(3, (8,), heads=2), SHORT)
    for t in (3, torch.tensor([1, 3])):
        with pytest.raises(ValueError, match=r"t should be in 1..2, but .*3 came"):
            network(X, t)
    with pytest.raises(ValueError, match="t should be at least 1"):
        network(X, 0)


# Known pixels

HOLE = torch.rand(2, 1, 16, 16, generator=random_source(5)) < 0.5
PICTURES = randn(2, 3, 16, 16, seed=6).clamp(-1, 1)
LACK = PICTURES * HOLE  # nothing at known pixels
WITH_HOLE = Condition(image=torch.cat([PICTURES.masked_fill(HOLE, 0), 2.0 * HOLE - 1], dim=1))


def test_the_noise_of_known_pixels_is_computed(kind):
    """Where the picture is known the noise is what was added; in the hole, and where nothing is
    known, it is the network's."""
    schedule, guess = kind(1000), randn(2, 3, 16, 16, seed=7)
    network = KnownPixels(Given(guess), schedule)
    noise = randn(2, 3, 16, 16, seed=8)
    everywhere = HOLE.expand_as(noise)
    for t in (1, 400, torch.tensor([1000, 3])):
        found = network(schedule.add_noise(LACK, t, noise), t, WITH_HOLE)
        assert torch.equal(found[everywhere], guess[everywhere])
        torch.testing.assert_close(found[~everywhere], noise[~everywhere], atol=1e-3, rtol=1e-3)
    assert torch.equal(network(X, 5, WITH_HOLE.absent()), guess)
    assert torch.equal(network(X, 5), guess)
    one = Condition(image=WITH_HOLE.image, present=torch.tensor([False, True]))
    assert torch.equal(network(X, 5, one)[0], guess[0])
    assert torch.equal(network(X, 5, one)[1], network(X, 5, WITH_HOLE)[1])


def test_known_pixels_are_no_part_of_the_loss():
    inner = awake(Unet(3, (8,), condition_channels=4, heads=2))
    network, t = KnownPixels(inner, SHORT), torch.tensor([1, 2])
    noise = randn(2, 3, 16, 16, seed=8)
    x_t = SHORT.add_noise(LACK, t, noise)
    whole = (network(x_t, t, WITH_HOLE) - noise).square().sum()
    hole = ((inner(x_t, t, WITH_HOLE) - noise) * HOLE).square().sum()
    torch.testing.assert_close(whole, hole)
    assert network.state_dict().keys() == {f"network.{name}" for name in inner.state_dict()}


def test_known_patches_against_a_loop():
    """Row by row, as the U-Net cuts a condition picture."""
    mask = torch.rand(3, 1, 8, 12, generator=torch.Generator().manual_seed(0)) < 0.1
    found = known_patches(mask, 4)
    expected = [
        [not mask[row, 0, top : top + 4, left : left + 4].any()
         for top in (0, 4) for left in (0, 4, 8)]
        for row in range(3)
    ]  # fmt: skip
    assert found.tolist() == expected and 0 < found.sum() < found.numel()
    with pytest.raises(ValueError, match="divisible by size = 5, but 8x12 came"):
        known_patches(mask, 5)
    with pytest.raises(TypeError, match="mask should be a bool tensor"):
        known_patches(mask.float(), 4)
    with pytest.raises(ValueError, match="size should be at least 1"):
        known_patches(mask, 0)


def test_attention_to_known_patches_only():
    """The mask that the network gets; where it attends to nothing, the condition as it came."""
    told = []

    def watched(module, arguments):
        told.append(arguments[2])

    inner = routed("attention", 4, (8, 16), heads=2, attention=[1])
    inner.register_forward_pre_hook(watched)
    KnownPixels(inner, SHORT, patch=unet_of(inner).factor)(X, 1, WITH_HOLE)
    KnownPixels(inner, SHORT)(X, 1, WITH_HOLE)
    assert torch.equal(told[0].mask, known_patches(HOLE, unet_of(inner).factor))
    assert told[1] is WITH_HOLE


def test_a_quiet_network_does_not_see_the_noise_at_known_pixels():
    """Nor does it say anything else there; where nothing is known it sees all."""
    seen = []
    inner = awake(Unet(3, (8,), condition_channels=4, heads=2))
    inner.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network = KnownPixels(inner, SHORT, quiet=True)
    found = network(X, 2, WITH_HOLE)
    assert torch.equal(seen[0], X * HOLE)
    known = ~HOLE.expand_as(X)
    assert torch.equal(found[known], KnownPixels(inner, SHORT)(X, 2, WITH_HOLE)[known])
    other = torch.where(known, -X, X)
    assert torch.equal(network(other, 2, WITH_HOLE)[~known], found[~known])
    for nothing in (WITH_HOLE.absent(), None):
        network(X, 2, nothing)
        assert torch.equal(seen[-1], X)


def test_known_pixels_refuse():
    with pytest.raises(TypeError, match="network should be of type Module"):
        KnownPixels(lambda x_t, t, condition: x_t, SHORT)
    with pytest.raises(TypeError, match="schedule should be of type NoiseSchedule"):
        KnownPixels(nn.Identity(), [0.1])
    with pytest.raises(ValueError, match="patch should be at least 1"):
        KnownPixels(nn.Identity(), SHORT, patch=0)
