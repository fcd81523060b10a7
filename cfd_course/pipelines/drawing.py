"""What the applications share: from a recipe to a network, and from a network to pictures."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..guidance import guide
from ..sampling import Step, dpm_solver, last
from ..schedule import NoiseSchedule
from ..unet import PatchTokens, Unet, Velocity

# Wraps the steps of a sampler, say functools.partial(tqdm, total=20).
Progress = Callable[[Iterator[Step]], Iterable[Step]]


def build_schedule(recipe: dict) -> NoiseSchedule:
    """The schedule that a recipe names."""
    return getattr(NoiseSchedule, recipe.get("schedule", "cosine"))(recipe["schedule_steps"])


def build_unet(recipe: dict, **settings) -> nn.Module:
    """The untrained U-Net that a recipe describes, as a network that predicts noise. settings: of
    the U-Net, where the recipe says nothing."""
    network = Unet(**{**settings, **recipe["network"]})
    if "patch_tokens" in recipe:  # so many channels of a picture to attend to
        network = PatchTokens(network, recipe["patch_tokens"])
    if recipe.get("velocity", False):
        network = Velocity(network, build_schedule(recipe))
    return network.to(memory_format=torch.channels_last)


def start_noise(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """x_T for `count` pictures, [count, *shape]. Picture i comes from seed + i alone, so it is the
    same in whatever batch it is drawn."""
    expect.whole("count", count, 1)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape should be a tuple of sizes, but {expect.describe(shape)} came.")
    for size in shape:
        expect.whole("each size in shape", size, 1)
    expect.whole("seed", seed, 0, 2**32 - count, "torch tells no larger ones apart.")
    sources = (torch.Generator().manual_seed(seed + index) for index in range(count))
    return torch.stack([torch.randn(shape, generator=source) for source in sources])


class Artist:
    """Draws what is asked for in words or numbers.

    condition: what makes a Condition of a list of what is asked. shape: of a picture, [C, H, W], or
    of what else the network draws. clip: of the guesses, see sampling.clip_guess. decode: what is
    made of what was drawn.
    """

    clip: float | Callable | None = 1.0
    decode: Callable[[Tensor], Tensor] = nn.Identity()

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        condition: Callable[..., Condition],
        shape: tuple[int, ...],
    ):
        self.network = network
        self.schedule = schedule
        self.condition = condition
        self.shape = shape

    def draw(
        self,
        asked,
        scale: float = 2.0,
        steps: int = 20,
        seed: int = 0,
        progress: Progress = iter,
        **told,
    ) -> Tensor:
        """One picture for each that is asked for, [B, *shape] in [-1, 1].

        asked: captions or digits, in a list; a single caption may come alone; or a tensor, and the
        pictures come where that is. scale: see guide; steps: of dpm_solver; seed: of the first
        picture, the next one has seed + 1; progress: see Progress; told: what else the condition
        takes, such as an emoji's hand."""
        condition = self.condition([asked] if isinstance(asked, str) else asked, **told)
        x_T = start_noise(len(condition), self.shape, seed).to(condition.present.device)
        denoise = guide(self.network, condition, scale)
        drawn = last(iter(progress(dpm_solver(denoise, self.schedule, x_T, steps, self.clip))))
        return self.decode(drawn)
