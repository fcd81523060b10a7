"""From words to a picture's embedding, and from there to the picture: Ramesh et al., "Hierarchical
Text-Conditional Image Generation with CLIP Latents" (unCLIP, 2022), on emoji.

Three networks: the towers, the prior and the decoder. Embeddings z have length 1: of a picture z_i,
of a text z_t.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..conditions import Condition
from ..datasets.emoji import spell_out
from ..expect import Time, checked
from ..schedule import NoiseSchedule
from ..training import noise_loss
from ..unet import at_home, time_embedding, zeroed
from ..words import NOISE, check_captions, meanings
from .digit_judge import descend, halvings
from .drawing import Artist, Progress, build_schedule
from .emoji import SIZE, caption, loader, told

WIDTH = 64  # of an embedding
TOKENS = 4  # that the decoder makes of an embedding: section 2.1
STEPS = 1000
COMMON = {"schedule_steps": STEPS, "workers": 0, "learning_rate": 2e-3}
RECIPES = {
    "emoji-towers": {**COMMON, "batch": 256, "temperature": 0.07, "steps": 1000},
    "emoji-prior": {**COMMON, "batch": 128, "channels": 256, "drop": 0.1, "steps": 1000},
    "emoji-decoder": {**COMMON, "batch": 32, "begin_steps": 600, "steps": 360},
}
Embeddings = Float[Tensor, "B D"]


@checked
def contrastive_loss(z_i: Embeddings, z_t: Embeddings, temperature: float) -> Tensor:
    """How well each picture finds its own text among the batch's, and each text its picture:
    Radford et al., "CLIP" (2021), figure 3. z_i, z_t: of any length, row by row a pair."""
    logits = F.normalize(z_i, dim=1) @ F.normalize(z_t, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@checked
def prior_loss(
    guess: Callable,
    schedule: NoiseSchedule,
    z_i: Embeddings,
    condition: Condition,
    t: Time,
    noise: Embeddings,
) -> Tensor:
    """The mean squared error of the guessed embedding itself, not of the noise: section 2.2.
    guess(x_t, t, condition) -> z_i"""
    return F.mse_loss(guess(schedule.add_noise(z_i, t, noise), t, condition), z_i)


class Towers(nn.Module):
    """Two towers that meet in a space of WIDTH numbers: convolutions for pictures, and a layer over
    the frozen vectors of words for texts."""

    def __init__(self):
        super().__init__()
        layers = halvings(3, 32, 64, 128, 128)
        self.picture_tower = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, WIDTH))
        self.text_tower = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, WIDTH))

    def of_pictures(self, pictures: Tensor) -> Tensor:
        """[B, 3, 32, 32] in [-1, 1] -> z_i [B, WIDTH]"""
        return F.normalize(at_home(self.picture_tower, pictures), dim=1)

    def of_texts(self, captions: Sequence[str], noise: float = 0.0) -> Tensor:
        """Captions -> z_t [B, WIDTH]. noise: over their meanings, in training."""
        check_captions(captions)
        meant = meanings([*map(spell_out, captions)])
        return F.normalize(at_home(self.text_tower, meant + noise * torch.randn_like(meant)), dim=1)


class Prior(nn.Module):
    """From noise and z_t to z_i, as a network that predicts noise; WIDTH numbers with a variance of
    1, so they are sqrt(WIDTH) times as long as z_i. It guesses z_i itself: section 2.2."""

    def __init__(self, channels: int, schedule: NoiseSchedule, layers: int = 3):
        super().__init__()
        self.schedule = schedule
        self.null = nn.Parameter(torch.zeros(WIDTH))
        self.first = nn.Linear(WIDTH, channels)
        self.told = nn.Linear(WIDTH + channels, channels)
        self.modulations = nn.ModuleList(nn.Linear(channels, 2 * channels) for _ in range(layers))
        self.layers = nn.ModuleList(zeroed(nn.Linear(channels, channels)) for _ in range(layers))
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.last = nn.Linear(channels, WIDTH)

    def guess(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """x_t [B, WIDTH], t [B], z_t as its condition's one token -> z_i, scaled [B, WIDTH]"""
        z_t = torch.where(condition.present[:, None], condition.tokens[:, 0], self.null)
        time = time_embedding(t, self.told.in_features - WIDTH)
        embedding = F.silu(self.told(torch.cat([WIDTH**0.5 * z_t, time], dim=1)))
        h = self.first(x_t)
        for modulation, layer in zip(self.modulations, self.layers, strict=True):
            scale, shift = modulation(embedding).chunk(2, dim=1)
            h = h + layer(F.silu(self.norm(h) * (1 + scale) + shift))
        return self.last(self.norm(h))

    def forward(self, x_t: Tensor, t, condition: Condition) -> Tensor:
        """-> the noise, [B, WIDTH]"""
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        return self.schedule.predict_noise(x_t, t, self.guess(x_t, t, condition))


class Tokens(nn.Sequential):
    """What the network "emoji" is told of an embedding, in place of words: [B, WIDTH] -> [B,
    TOKENS, channels]."""

    def __init__(self, channels: int):
        first, last = nn.Linear(WIDTH, 512), nn.Linear(512, TOKENS * channels)
        super().__init__(first, nn.SiLU(), last, nn.Unflatten(1, (TOKENS, channels)))


def on_sphere(guess: Tensor) -> Tensor:
    """The nearest embedding that is as long as it should be: for a sampler's clip."""
    return WIDTH**0.5 * F.normalize(guess, dim=1)


def said(z: Tensor) -> Condition:
    """The condition "like this embedding", [B, WIDTH]."""
    return Condition(tokens=z[:, None])


class Decoder(Artist):
    """Draws emoji, [B, 3, 32, 32], told embeddings of pictures or, by way of the towers and the
    prior, captions."""

    def draw(self, asked, scale=2.0, steps=20, seed=0, progress: Progress = iter) -> Tensor:
        """As an Artist draws. asked: embeddings [B, WIDTH], or captions; these get others with
        another seed."""
        if not isinstance(asked, Tensor):
            z_t = _shipped("emoji-towers").of_texts([asked] if isinstance(asked, str) else asked)
            asked = _shipped("emoji-prior").draw(z_t, seed=seed)
        return super().draw(asked, scale, steps, seed, progress)


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    if recipe["name"] == "emoji-towers":
        return Towers()
    if recipe["name"] == "emoji-prior":
        return Prior(recipe["channels"], build_schedule(recipe))
    return Tokens(_shipped("emoji").network.network.token_channels)


def pipeline(network: nn.Module, recipe: dict):
    """Towers as they are; an Artist of embeddings z_i of length 1, told z_t; a Decoder."""
    if recipe["name"] == "emoji-towers":
        return network
    if recipe["name"] == "emoji-prior":
        artist = Artist(network, build_schedule(recipe), said, (WIDTH,))
        artist.clip, artist.decode = on_sphere, F.normalize
        return artist
    drawer = _shipped("emoji")
    condition = lambda z: Condition(tokens=at_home(network, z))  # noqa: E731
    return Decoder(drawer.network, drawer.schedule, condition, drawer.shape)


def begin(network: nn.Module, recipe: dict) -> None:
    """The decoder starts as a translator: of an embedding into what the network "emoji" makes of
    the picture's name and hand."""
    if not isinstance(network, Tokens):
        return
    drawer, towers = _shipped("emoji").network, _shipped("emoji-towers")
    stream = _endless(recipe)

    def loss() -> Tensor:
        pictures, names, hands = next(stream)
        words = told([name.replace("-", " ") for name in names], hands)
        z_i, heard = towers.of_pictures(pictures), drawer.encode_tokens(words).tokens
        last = words.mask.sum(1, keepdim=True) - 1  # of what is said; it fills up the rest
        places = torch.arange(TOKENS).expand(len(z_i), -1).minimum(last)[..., None]
        return F.mse_loss(network(z_i), heard.take_along_dim(places, 1))

    for _ in descend(network, recipe, recipe["begin_steps"], loss):
        pass


def train(network: nn.Module, recipe: dict, data: Path | None, steps: int) -> Iterator[tuple]:
    """On the training split alone. Minutes to half an hour, so it saves no state."""
    kinds = {Towers: _loss_of_towers, Prior: _loss_of_prior, Tokens: _loss_of_decoder}
    stream = _endless(recipe)

    def loss() -> Tensor:
        pictures, names, _ = next(stream)
        return kinds[type(network)](network, recipe, pictures, [*map(caption, names)])

    return descend(network, recipe, steps, loss)


def _loss_of_towers(network: Towers, recipe: dict, pictures: Tensor, captions: list[str]) -> Tensor:
    shift = torch.randint(-2, 3, (2,)).tolist()
    z_i = network.of_pictures(pictures.roll(shift, dims=(2, 3)))
    return contrastive_loss(z_i, network.of_texts(captions, NOISE), recipe["temperature"])


def _loss_of_prior(network: Prior, recipe: dict, pictures: Tensor, captions: list[str]) -> Tensor:
    towers = _shipped("emoji-towers")
    z_i = WIDTH**0.5 * towers.of_pictures(pictures)
    condition = said(towers.of_texts(captions, NOISE)).drop(recipe["drop"])
    return prior_loss(network.guess, network.schedule, z_i, condition, *_t_and_noise(z_i))


def _loss_of_decoder(network: Tokens, recipe: dict, pictures: Tensor, captions: list) -> Tensor:
    drawer, z_i = _shipped("emoji"), _shipped("emoji-towers").of_pictures(pictures)
    asked = (pictures, Condition(tokens=network(z_i)), *_t_and_noise(pictures))
    return noise_loss(drawer.network, drawer.schedule, *asked, "velocity")


def _t_and_noise(x_0: Tensor) -> tuple[Tensor, Tensor]:
    return torch.randint(1, STEPS + 1, (len(x_0),)), torch.randn(x_0.shape)


def _endless(recipe: dict) -> Iterator[tuple]:
    while True:
        yield from loader(recipe, SIZE, lambda *row: row)


@cache
def _shipped(name: str):
    from . import load  # which knows this module

    return load(name)
