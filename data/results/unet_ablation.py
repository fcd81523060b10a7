"""A small U-Net for digits with one part changed at a time, trained alike and briefly: lesson 12's
miniature of the ablations in Dhariwal, Nichol, "Diffusion Models Beat GANs" (2021).

    python data/results/unet_ablation.py

Writes unet-ablation.json beside itself: the loss on test digits, for each network and seed.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfd_course import NoiseSchedule, Unet, train
from cfd_course.datasets import batches
from cfd_course.datasets.digits import digit_condition, digits
from cfd_course.training import noise_loss
from cfd_course.unet import ResidualBlock

STEPS, BATCH, SEEDS = 200, 32, 2
SCHEDULE = NoiseSchedule.cosine(1000)


class Added(ResidualBlock):
    """A residual block that adds the embedding before the norm, as DDPM did, where AdaGN scales and
    shifts after it."""

    def __init__(self, in_channels: int, out_channels: int, embedding_channels: int):
        super().__init__(in_channels, out_channels, embedding_channels)
        self.modulation = nn.Linear(embedding_channels, out_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = h + self.modulation(F.silu(embedding))[:, :, None, None]
        return self.shortcut(x) + self.conv_2(F.silu(self.norm_2(h)))


# The levels that attend, 14x14 is 0 and 7x7 is 1, and how the embedding comes in.
VARIANTS = {
    "AdaGN, attention at 7x7": ([1], ResidualBlock),
    "embedding added": ([1], Added),
    "attention nowhere": ([], ResidualBlock),
    "attention at both levels": ([0, 1], ResidualBlock),
}


def build(variant: str, seed: int) -> Unet:
    """The untrained network."""
    attention, block = VARIANTS[variant]
    torch.manual_seed(seed)
    unet = Unet(1, (16, 32), token_encoder=nn.Embedding(10, 32), attention=attention, patch=2)
    for name, old in list(unet.named_modules()):
        if isinstance(old, ResidualBlock) and block is not ResidualBlock:
            sizes = old.conv_1.in_channels, old.conv_1.out_channels, old.modulation.in_features
            unet.set_submodule(name, block(*sizes))
    return unet


def learn(variant: str, seed: int, steps: int = STEPS) -> tuple[Unet, list[float]]:
    """The network after `steps` steps, and the loss of each."""
    unet = build(variant, seed)
    pictures, labels = digits("train")
    data = batches(pictures, digit_condition(labels), BATCH)
    run = train(unet, SCHEDULE, data, steps, drop=0.1, seed=seed, learning_rate=2e-3)
    return unet, [step.loss for step in run]


@torch.no_grad()
def test_loss(unet: Unet) -> float:
    """The mean squared error of the noise in 1,000 test digits, at times and in noise that are the
    same for every network."""
    pictures, labels = (x[:1000] for x in digits("test"))
    random, losses = torch.Generator().manual_seed(0), []
    for x_0, each in zip(pictures.split(100), labels.split(100), strict=True):
        t = torch.randint(1, SCHEDULE.steps + 1, (len(x_0),), generator=random)
        noise = torch.randn(x_0.shape, generator=random)
        losses.append(float(noise_loss(unet, SCHEDULE, x_0, digit_condition(each), t, noise)))
    return sum(losses) / len(losses)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for seed in range(SEEDS):
        for variant in VARIANTS:
            unet, losses = learn(variant, seed)
            row = {"variant": variant, "seed": seed, "test_loss": round(test_loss(unet), 5)}
            row["first_losses"] = [round(loss, 4) for loss in losses[:8]]
            row["parameters"] = sum(weight.numel() for weight in unet.parameters())
            rows.append(row)
            print(row, flush=True)
    text = json.dumps({"steps": STEPS, "batch": BATCH, "rows": rows}, indent=1)
    Path(__file__).with_name("unet-ablation.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
