"""Train "emoji" or an "emoji-enlarger" on a GPU: how the shipped ones were made.

    python data/checkpoints/make.py NAME SECONDS FOLDER

The recipe and the loss are those of `python -m cfd_course train NAME`. But a whole step (data,
noise, loss, gradients, optimiser) is recorded once as a CUDA graph and replayed, for otherwise most
of the time goes into starting small kernels one by one: 0.014 seconds a step of 512 emoji on a
large GPU, in place of 0.09. Captions are made beforehand, 48 for each picture; random numbers are
the GPU's; as many steps as fit into the seconds, unless STEPS in the environment says fewer.
"""

import copy
import functools
import math
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from cfd_course import pictures, unet, words
from cfd_course.checkpoints import save_checkpoint
from cfd_course.datasets.emoji import HANDS, TONE, emoji
from cfd_course.pipelines import RECIPES, build, emoji_enlarger
from cfd_course.pipelines import emoji as drawing
from cfd_course.pipelines.drawing import build_schedule
from cfd_course.training import learning_rate_at

VARIANTS = 48
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


# Checks read numbers back from the GPU, which a recorded step cannot do.
def bare(function):
    return getattr(function, "__wrapped__", function)


for each in (unet.ResidualBlock, unet.Attention):
    each.forward = bare(each.forward)
for name in ("time_embedding", "place_embedding", "with_null_token", "with_null_image"):
    setattr(unet, name, bare(getattr(unet, name)))
emoji_enlarger.shrink, emoji_enlarger.bicubic = bare(pictures.shrink), bare(pictures.bicubic)


place_embedding = unet.place_embedding


@functools.cache
def place_there(height, width):
    return place_embedding(height, width).to(DEVICE)


unet.place_embedding = place_there


class Told:  # a Condition without checks
    def __init__(self, image):
        self.image = image


emoji_enlarger.Condition = Told


def velocity(network, run, x_t, t, image, tokens, mask, present):
    """The answer of Velocity(Unet) or Velocity(PatchTokens(Unet)) before it is made into noise.
    image: or None; tokens: numbers, or None."""
    net = network.network
    patches = net if isinstance(net, unet.PatchTokens) else None
    net = net if patches is None else patches.network
    seen = None
    if patches is not None:
        folded = F.pixel_unshuffle(image, net.factor)
        place = unet.place_embedding(*folded.shape[2:]).to(folded).expand(len(image), -1, -1)
        tokens = patches.from_patch(torch.cat([unet._as_row(folded), place], dim=2))
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    elif tokens is not None:
        tokens = net.token_encoder(tokens)
    if image is not None and patches is None:
        seen = unet.with_null_image(image, present, net.null_image)
    if tokens is not None:
        tokens, mask = unet.with_null_token(tokens, mask, present, net.null_token)
        tokens = tokens.masked_fill(~mask[..., None], 0)
    return run(net, x_t, t, seen, tokens, mask)


def row_variants(job):
    """Rows of tokens for one picture."""
    name, hand, number = job
    torch.manual_seed(number)
    told = [drawing.caption(name) for _ in range(VARIANTS)]
    return drawing.emoji_condition(told, [hand] * VARIANTS).tokens


class Feed:
    """All that the examples are made of, on the GPU."""

    def __init__(self, name, batch):
        self.batch = batch
        size = drawing.SIZE if name == "emoji" else 64
        drawn = emoji("train", size)
        self.pictures = drawn.pictures.to(DEVICE)
        weights = torch.tensor([drawing.TONED if TONE.search(n) else 1.0 for n in drawn.names])
        self.upto = (weights.cumsum(0) / weights.sum()).to(DEVICE)
        sided = [bool(drawing.SIDED & set(n.split("-"))) for n in drawn.names]
        self.even = ~torch.tensor(sided, device=DEVICE)
        self.tokens = None
        if name == "emoji":
            hands = [HANDS[h] for h in drawn.hands]
            jobs = zip(drawn.names, hands, range(len(hands)), strict=True)
            with multiprocessing.Pool(None, torch.set_num_threads, (1,)) as pool:
                rows = pool.map(row_variants, jobs, 64)
            longest = max(r.shape[1] for r in rows)
            tokens = torch.stack([F.pad(r, (0, longest - r.shape[1])) for r in rows])
            self.tokens = tokens.int().to(DEVICE)

    def __call__(self):
        """x_0, image, tokens, mask"""
        rows = torch.searchsorted(self.upto, torch.rand(self.batch, device=DEVICE))
        rows = rows.clamp(max=len(self.upto) - 1)
        x = self.pictures[rows] / 127.5 - 1
        mirrored = self.even[rows] & (torch.rand(self.batch, device=DEVICE) < 0.3)
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        tokens = mask = image = None
        if self.tokens is not None:
            which = torch.randint(VARIANTS, (self.batch,), device=DEVICE)
            tokens = self.tokens[rows, which].long()
            mask = tokens != words.PADDING
        else:
            x, told = emoji_enlarger.to_enlarge(x)
            image = told.image
        return x, image, tokens, mask


def loss_of(network, schedule_table, run, feed, drop):
    with torch.no_grad():
        x_0, image, tokens, mask = feed()
        t = torch.randint(1, len(schedule_table), (len(x_0),), device=x_0.device)
        noise = torch.randn_like(x_0)
        present = torch.rand(len(x_0), device=x_0.device) >= drop
        alpha_bar = schedule_table[t][:, None, None, None]
        x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
        wanted = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x_0
        x_t = x_t.contiguous(memory_format=torch.channels_last)
    v = velocity(network, run, x_t, t, image, tokens, mask, present)
    return (v.float() - wanted).square().mean()


def main(name, seconds, out):
    began = time.time()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    recipe = {"name": name, **RECIPES[name]}
    feed = Feed(name, recipe["batch"])
    print(name, "fed", round(time.time() - began), flush=True)
    network = build(recipe).to(DEVICE).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    table = build_schedule(recipe).alpha_bars.float().to(DEVICE)
    rate = torch.tensor(0.0, device=DEVICE)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=rate,
        weight_decay=0.01,
        betas=(0.9, 0.99),
        fused=True,
        capturable=True,
    )
    total = torch.zeros((), device=DEVICE)

    def step(run):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            error = loss_of(network, table, run, feed, recipe["drop"])
        error.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        total.add_(error.detach())

    def recorded(run):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(4):  # at a learning rate of 0: nothing is learned
                step(run)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(run)
        return graph

    def speed(graph):
        for _ in range(5):
            graph.replay()
        torch.cuda.synchronize()
        start = time.time()
        for _ in range(40):
            graph.replay()
        torch.cuda.synchronize()
        return (time.time() - start) / 40

    graph = recorded(unet.Unet.body)
    each = speed(graph)
    print(
        name, "plain graph, seconds a step", round(each, 5), round(time.time() - began), flush=True
    )
    if os.environ.get("COMPILE", "1") == "1":
        try:
            faster = recorded(torch.compile(unet.Unet.body, dynamic=False))
            quick = speed(faster)
            print(name, "compiled", round(quick, 5), round(time.time() - began), flush=True)
            if quick < each:
                graph, each = faster, quick
        except Exception as error:  # then without
            print(name, "not compiled:", type(error), str(error)[:600], flush=True)
    for state in optimizer.state.values():  # the tries above have left their mark
        for value in state.values():
            value.zero_()
    total.zero_()
    left = float(seconds) - (time.time() - began)
    steps = min(int(os.environ.get("STEPS", "1000000")), int(left * 0.96 / each / 1000) * 1000)
    print(name, "steps", steps, torch.cuda.get_device_name(), flush=True)
    slow, fast = list(average.parameters()), list(network.parameters())
    for number in range(1, steps + 1):
        rate.fill_(learning_rate_at(number, steps, recipe["learning_rate"], 100))
        graph.replay()
        decay = min(recipe["decay"], (1 + number) / (10 + number))
        torch._foreach_lerp_(slow, fast, 1 - decay)
        if number % 1000 == 0 or number == 100:
            mean = total.item() / (1000 if number > 100 else 100)
            total.zero_()
            print(name, number, round(mean, 5), round(time.time() - began, 1), flush=True)
            if not math.isfinite(mean):
                raise SystemExit("astray")
    sitting = {"steps": steps, "seed": 0, "seconds": round(time.time() - began)}
    saved = {**recipe, "steps": steps, "sittings": [sitting]}
    save_checkpoint(Path(out, f"{name}.safetensors"), average, saved)
    print(name, "done", round(time.time() - began), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
