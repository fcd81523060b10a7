"""`python -m tests.benchmarks`: the course's U-Net against Diffusers' UNet2DConditionModel.

Both have the same number of parameters (within 5%) and of levels, attend to the same eight tokens
at the coarsest level, and work on 64 pictures of 32x32x3 on two processor cores, in float32.
Diffusers' network is set up as its users do: on the pixels, its memory layout as it comes, two
residual blocks a level; and once more with one block a level, as ours has. Ours works on 2x2
patches, channels-last.

Training is what each one's own recipe does in a step: add noise, hide one condition in ten,
predict, go back, AdamW. Guided sampling is 20 steps of DDIM at scale 3, both predictions in one
batch of 128, as guide() and Diffusers' pipelines do it. The two take turns step by step, so that
whatever else the machine does disturbs both alike, and the median step counts.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from torch import nn

from cfd_course import Condition, NoiseSchedule, Unet, ddim, guide
from cfd_course.training import noise_loss

PICTURES, TOKENS, WIDTH = 64, 8, 128
TRAINING_STEPS, SAMPLING_STEPS = 7, 20
THEIR_CHANNELS = (32, 64, 128)
OUR_CHANNELS = {2: (56, 104, 208), 1: (40, 88, 176)}  # by Diffusers' blocks a level


def ours(blocks: int) -> Unet:
    network = Unet(3, OUR_CHANNELS[blocks], token_channels=WIDTH, patch=2)
    return network.to(memory_format=torch.channels_last)


def theirs(blocks: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=THEIR_CHANNELS,
        layers_per_block=blocks,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
        attention_head_dim=4,  # by this name Diffusers means the number of heads
    )


def our_training(network: Unet) -> Iterator[None]:
    schedule = NoiseSchedule.cosine(1000)
    optimizer = torch.optim.AdamW(network.parameters())
    x_0, condition = _pictures(), Condition(tokens=_embeddings())
    while True:
        t = torch.randint(1, 1001, (PICTURES,))
        loss = noise_loss(network, schedule, x_0, condition.drop(0.1), t, torch.randn_like(x_0))
        _update(loss, optimizer)
        yield


def their_training(network: UNet2DConditionModel) -> Iterator[None]:
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.AdamW(network.parameters())
    x_0, embeddings, null = _pictures(), _embeddings(), _embeddings()[:1]
    while True:
        t = torch.randint(0, 1000, (PICTURES,))
        noise = torch.randn_like(x_0)
        shown = torch.where(torch.rand(PICTURES, 1, 1) < 0.1, null, embeddings)
        guess = network(scheduler.add_noise(x_0, noise, t), t, encoder_hidden_states=shown).sample
        _update(F.mse_loss(guess, noise), optimizer)
        yield


def our_sampling(network: Unet) -> Iterator[None]:
    denoise = guide(network, Condition(tokens=_embeddings()), scale=3)
    for _ in ddim(denoise, NoiseSchedule.cosine(1000), _pictures(), SAMPLING_STEPS):
        yield


def their_sampling(network: UNet2DConditionModel) -> Iterator[None]:
    """The loop of StableDiffusionPipeline.__call__."""
    scheduler = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    scheduler.set_timesteps(SAMPLING_STEPS)
    both = torch.cat([_embeddings(), _embeddings()])
    x_t = _pictures()
    for t in scheduler.timesteps:
        with torch.no_grad():
            twice = scheduler.scale_model_input(torch.cat([x_t, x_t]), t)
            null, conditional = network(twice, t, encoder_hidden_states=both).sample.chunk(2)
            noise = null + 3 * (conditional - null)
            x_t = scheduler.step(noise, t, x_t).prev_sample
        yield


def in_turns(first: Iterator[None], second: Iterator[None], steps: int) -> tuple[float, float]:
    """The median seconds of a step of each, after one step of each to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        for iterator, mine in zip((first, second), times, strict=True):
            began = time.perf_counter()
            next(iterator)
            mine.append(time.perf_counter() - began)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def compare(name: str, first: Iterator[None], second: Iterator[None], steps: int, whole: int):
    """Print pictures a second and their ratio; a picture takes `whole` steps."""
    mine, other = in_turns(first, second, steps)
    rates = PICTURES / (whole * mine), PICTURES / (whole * other)
    print(
        f"  {name:26} ours {rates[0]:7.1f} pictures/s   Diffusers {rates[1]:7.1f} pictures/s"
        f"   ratio {rates[0] / rates[1]:.2f}",
        flush=True,
    )


def _pictures() -> torch.Tensor:
    return torch.randn(PICTURES, 3, 32, 32)


def _embeddings() -> torch.Tensor:
    return torch.randn(PICTURES, TOKENS, WIDTH)


def _update(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _millions(build: Callable[[int], nn.Module], blocks: int) -> float:
    return sum(parameter.numel() for parameter in build(blocks).parameters()) / 1e6


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    print(__doc__)
    for blocks, title in ((2, "the usual two blocks"), (1, "one block")):
        counts = _millions(ours, blocks), _millions(theirs, blocks)
        print(
            f"Diffusers with {title} a level: {counts[1]:.2f} million parameters, "
            f"ours {counts[0]:.2f} ({counts[0] / counts[1] - 1:+.1%})"
        )
        if abs(counts[0] / counts[1] - 1) > 0.05:
            raise SystemExit("The two networks are not alike: choose other OUR_CHANNELS.")
        networks = ours(blocks), theirs(blocks)
        training = our_training(networks[0]), their_training(networks[1])
        compare("training", *training, TRAINING_STEPS + 1, whole=1)
        sampling = our_sampling(networks[0].eval()), their_sampling(networks[1].eval())
        compare("guided 20-step sampling", *sampling, SAMPLING_STEPS, whole=SAMPLING_STEPS)


if __name__ == "__main__":
    main()
