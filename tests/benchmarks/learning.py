"""`python -m tests.benchmarks.learning`: what minutes of training are worth, here and elsewhere.

Three networks of about 1.3 million parameters learn to draw a digit from its label, or, with
`--data emoji`, an emoji of 32x32 in the hand of one of five artists; each in the way of its house:

- ours: `train` with the recipe of the shipped digits;
- Diffusers: UNet2DModel, trained as examples/unconditional_image_generation does it;
- lucidrains: the class-conditional Unet and GaussianDiffusion of denoising-diffusion-pytorch,
  trained as its Trainer does it. `pip install denoising-diffusion-pytorch`; left out where missing.

They take turns, step by step, until each has had `--minutes` of processor time on one thread. Now
and then the averaged weights draw 300 pictures, all by the same sampler (10 steps of DPM-Solver++
at scale 2, each on its own schedule); the course's judge says how many show what was asked, and how
far their features are from those of real pictures that nobody was trained on (Fréchet distance).

At the end: what share of the machine's own speed in multiplying matrices, measured in between, our
training step and our guided step reach.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cfd_course import Condition, NoiseSchedule, dpm_solver, guide
from cfd_course.datasets import batches as shuffled
from cfd_course.datasets.digits import digits
from cfd_course.datasets.emoji import HANDS, emoji
from cfd_course.metrics import frechet_distance
from cfd_course.pipelines import load
from cfd_course.pipelines.digits import RECIPES
from cfd_course.pipelines.drawing import build_unet, start_noise
from cfd_course.sampling import last
from cfd_course.training import train

RECIPE = RECIPES["digits"]
COUNT, MARKS = 300, (1, 3, 5, 7, 10, 15, 20, 30)


class Contest(NamedTuple):
    """pictures in [-1, 1] and labels to learn from; kinds: how many labels there are; real: other
    pictures; judge: pictures -> (features, answers)."""

    pictures: Tensor
    labels: Tensor
    kinds: int
    real: Tensor
    judge: Callable[[Tensor], tuple[Tensor, Tensor]]


class Contestant(NamedTuple):
    """steps: takes one step of training each time; network: a network of this course, of the
    averaged weights; schedule: what it was trained on; parameters: how many."""

    steps: Iterator
    network: Callable[[], Callable]
    schedule: NoiseSchedule
    parameters: int


def of_digits() -> Contest:
    judge = load("digit-judge")

    def judged(drawn: Tensor) -> tuple[Tensor, Tensor]:
        features = judge.features(drawn)
        return features, judge.head(features).argmax(1)

    return Contest(*digits("train"), 10, digits("test")[0], judged)


def of_emoji() -> Contest:
    judge = load("emoji-judge")
    pictures, _, hands = emoji("train", 32)
    real = emoji("pairs", 32).pictures / 127.5 - 1

    def judged(drawn: Tensor) -> tuple[Tensor, Tensor]:
        return judge.features(drawn), judge(drawn)[1].argmax(1)

    return Contest(pictures / 127.5 - 1, hands, len(HANDS), real, judged)


def examples(contest: Contest, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    data = torch.utils.data.TensorDataset(contest.pictures, contest.labels)
    while True:
        yield from torch.utils.data.DataLoader(data, batch, shuffle=True, drop_last=True)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def ours(contest: Contest) -> Contestant:
    embedding = nn.Embedding(contest.kinds, RECIPE["network"]["token_channels"])
    network = build_unet(RECIPE, image_channels=contest.pictures.shape[1], token_encoder=embedding)
    schedule = NoiseSchedule.cosine(RECIPE["schedule_steps"])
    told = Condition(tokens=contest.labels[:, None])
    batches = shuffled(contest.pictures, told, RECIPE["batch"])
    average = network

    def steps() -> Iterator:
        nonlocal average
        chosen = {name: RECIPE[name] for name in ("drop", "learning_rate", "decay")}
        for step in train(network, schedule, batches, 1_000_000, **chosen):
            average = step.average
            yield

    return Contestant(steps(), lambda: average, schedule, size(network))


def diffusers(contest: Contest) -> Contestant:
    channels, side = contest.pictures.shape[1:3]
    network = UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(24, 48, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        num_class_embeds=contest.kinds + 1,  # the last for "not told"
    )
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )

    def steps() -> Iterator:
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        rate = get_cosine_schedule_with_warmup(optimizer, 500, 100_000)
        scheduler = DDPMScheduler(1000, beta_schedule="linear")
        for x_0, labels in examples(contest, batch=16):
            noise, t = torch.randn_like(x_0), torch.randint(0, 1000, (len(x_0),))
            told = labels.where(torch.rand(len(labels)) >= 0.1, contest.kinds)
            guess = network(scheduler.add_noise(x_0, noise, t), t, class_labels=told).sample
            F.mse_loss(guess, noise).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            average.step(network.parameters())
            yield

    def averaged() -> Callable:
        calm = copy.deepcopy(network).eval()
        average.copy_to(calm.parameters())

        def answer(x_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
            told = condition.tokens[:, 0].where(condition.present, contest.kinds)
            return calm(x_t, t - 1, class_labels=told).sample

        return answer

    return Contestant(steps(), averaged, NoiseSchedule.linear(1000), size(network))


def lucidrains(contest: Contest) -> Contestant:
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

    channels, side = contest.pictures.shape[1:3]
    network = Unet(dim=20, dim_mults=(1, 2, 4), channels=channels, num_classes=contest.kinds)
    diffusion = GaussianDiffusion(network, image_size=side, timesteps=1000)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )

    def steps() -> Iterator:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.9, 0.99))
        for number, (x_0, labels) in enumerate(examples(contest, batch=16)):
            diffusion((x_0 + 1) / 2, classes=labels).backward()  # it takes pictures in [0, 1]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if number % 10 == 0:
                average.update_parameters(network)
            yield

    def averaged() -> Callable:
        calm = copy.deepcopy(average.module).eval()

        def answer(x_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
            times = torch.as_tensor(t - 1).expand(len(x_t))
            return calm(x_t, times, condition.tokens[:, 0], cond_keep_mask=condition.present)

        return answer

    schedule = NoiseSchedule(diffusion.betas.double())
    return Contestant(steps(), averaged, schedule, size(network))


@torch.no_grad()
def draw(contestant: Contestant, contest: Contest) -> tuple[Tensor, Tensor]:
    """COUNT pictures, and the labels that were asked for."""
    network, asked = contestant.network(), torch.arange(COUNT) % contest.kinds
    drawn = []
    for few in asked.split(100):
        x_T = start_noise(len(few), tuple(contest.pictures.shape[1:]), seed=100 * len(drawn))
        denoise = guide(network, Condition(tokens=few[:, None]), scale=2)
        drawn.append(last(dpm_solver(denoise, contestant.schedule, x_T, 10)))
    return torch.cat(drawn).clamp(-1, 1), asked


def multiplications() -> float:
    """How many operations a second this thread does in a product of matrices."""
    left, right = torch.randn(2, 1024, 1024)
    left @ right
    began = time.process_time()
    for _ in range(20):
        left @ right
    return 20 * 2 * 1024**3 / (time.process_time() - began)


def share_of_peak(work: Callable[[], object]) -> float:
    """What share of the machine's speed in multiplying matrices a piece of work reaches."""
    with FlopCounterMode(display=False) as counter:
        work()
    before = multiplications()
    began = time.process_time()
    for _ in range(5):
        work()
    seconds = (time.process_time() - began) / 5
    return counter.get_total_flops() / seconds / ((before + multiplications()) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--data", choices=("digits", "emoji"), default="digits")
    options = parser.parse_args()
    print(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    contest = of_digits() if options.data == "digits" else of_emoji()
    field = {"ours": ours(contest), "Diffusers": diffusers(contest)}
    try:
        field["lucidrains"] = lucidrains(contest)
    except ImportError:
        print("Without lucidrains: pip install denoising-diffusion-pytorch")
    for name, contestant in field.items():
        print(f"{name}: {contestant.parameters / 1e6:.2f} million parameters")
    with torch.no_grad():
        real, _ = contest.judge(contest.real)
    reached: dict[str, dict[float, float]] = {name: {} for name in field}
    used, taken = dict.fromkeys(field, 0.0), dict.fromkeys(field, 0)
    for mark in [mark for mark in MARKS if mark < options.minutes] + [options.minutes]:
        while min(used.values()) < 60 * mark:
            name = min(used, key=used.__getitem__)
            began = time.process_time()
            next(field[name].steps)
            used[name] += time.process_time() - began
            taken[name] += 1
        for name, contestant in field.items():
            drawn, asked = draw(contestant, contest)
            with torch.no_grad():
                features, answers = contest.judge(drawn)
            right = int((answers == asked).sum())
            reached[name][mark] = frechet_distance(features, real)
            print(
                f"{mark:4g} min  {name:10} {taken[name]:6} steps   {right:3} of {COUNT} as asked"
                f"   Fréchet distance {reached[name][mark]:7.1f}",
                flush=True,
            )
    goal = reached["ours"].get(3, reached["ours"][options.minutes])
    for name in list(field)[1:]:
        there = [mark for mark, distance in reached[name].items() if distance <= goal]
        says = f"after {there[0]:g} minutes" if there else f"not within {options.minutes:g} minutes"
        print(f"{name} is as close as ours was after {min(3, options.minutes):g}: {says}")
    step = share_of_peak(lambda: next(field["ours"].steps))
    network = field["ours"].network()
    asked = torch.arange(64) % contest.kinds
    denoise = guide(network, Condition(tokens=asked[:, None]), scale=2)
    x_t = torch.randn(64, *contest.pictures.shape[1:])
    with torch.no_grad():
        guided = share_of_peak(lambda: denoise(x_t, 500))
    print(f"of this thread's matrix products: training step {step:.0%}, guided step {guided:.0%}")


if __name__ == "__main__":
    main()
