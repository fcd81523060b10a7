"""An autoencoder of faces: the space of few numbers in which latent diffusion works."""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import expect
from ..datasets.emoji import Emoji, emoji
from ..unet import GROUPS, at_home
from .digit_judge import descend

RECIPES = {
    "emoji-autoencoder": {
        "channels": [32, 64],
        "latent_channels": 4,
        "kl_weight": 1e-6,
        "batch": 16,
        "learning_rate": 3e-3,
        "steps": 600,
    }
}


class Residual(nn.Sequential):
    """Two convolutions beside a shortcut: a ResidualBlock that is told nothing."""

    def __init__(self, channels: int):
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        super().__init__(nn.GroupNorm(GROUPS, channels), nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """-> the shape of x"""
        return x + super().forward(x)


class Autoencoder(nn.Module):
    """A picture in few numbers, and back: Rombach et al., "High-Resolution Image Synthesis with
    Latent Diffusion Models" (2022), section 3.1, without its losses on patches and features.

    Works on 2x2 patches, then on half as many on each side. spread: of the latents, found at the
    end of the training.
    """

    factor = 4  # of compression: latents are so much smaller on each side

    def __init__(self, fine: int = 32, coarse: int = 64, latent_channels: int = 4):
        super().__init__()
        self.encoder = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, fine, 3, padding=1))
        self.encoder.extend([Residual(fine), nn.Conv2d(fine, coarse, 3, stride=2, padding=1)])
        self.encoder.extend([Residual(coarse), nn.Conv2d(coarse, 2 * latent_channels, 1)])
        self.decoder = nn.Sequential(nn.Conv2d(latent_channels, coarse, 3, padding=1))
        self.decoder.extend([Residual(coarse), nn.Conv2d(coarse, 4 * fine, 3, padding=1)])
        self.decoder.extend([nn.PixelShuffle(2), Residual(fine)])
        self.decoder.extend([nn.Conv2d(fine, 12, 3, padding=1), nn.PixelShuffle(2)])
        self.register_buffer("spread", torch.ones(()))

    def posterior(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, H, W] in [-1, 1] -> the mean and the log of the variance of their
        latents, [B, latent channels, H / factor, W / factor] each."""
        expect.tensor("pictures", pictures, ("B", 3, "H", "W"))
        expect.divisible("the height and width of pictures", pictures.shape[2:], self.factor)
        mean, log_variance = at_home(self.encoder, pictures).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] -> their latents, scaled: what diffusion works on."""
        return self.posterior(pictures)[0] / self.spread.to(pictures.device)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents -> pictures [B, 3, H, W]"""
        return at_home(self.decoder, z * self.spread.to(z.device))


def faces(split: str = "train") -> Emoji:
    """The emoji of a split, 64x64, that have the word "face" in their names."""
    pictures, names, hands = emoji(split)
    rows = [row for row, name in enumerate(names) if "face" in name.split("-")]
    return Emoji(pictures[rows], [names[row] for row in rows], hands[rows])


def network(recipe: dict) -> Autoencoder:
    """The untrained network."""
    made = Autoencoder(*recipe["channels"], recipe["latent_channels"])
    return made.to(memory_format=torch.channels_last)


def pipeline(network: Autoencoder, recipe: dict) -> Autoencoder:
    """The autoencoder is used as it is."""
    return network


def train(
    network: Autoencoder, recipe: dict, data: Path | None, steps: int
) -> Iterator[tuple[int, float, Autoencoder]]:
    """Half of the faces in a mirror. Some minutes, so it saves no state."""
    pictures = faces().pictures / 127.5 - 1

    def loss() -> Tensor:
        x = pictures[torch.randint(len(pictures), (recipe["batch"],))]
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
        mean, log_variance = network.posterior(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
        return F.l1_loss(network.decoder(z), x) + recipe["kl_weight"] * kl.mean()

    for number, value, _ in descend(network, recipe, steps, loss):
        if number == steps:
            with torch.no_grad():
                network.spread.copy_(network.posterior(pictures)[0].std())
        yield number, value, network
