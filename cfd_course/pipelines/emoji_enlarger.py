"""Small emoji, enlarged four times: from 16 to 64 pixels, or from the 32 of a drawn one to 128."""

from pathlib import Path

import torch
from torch import Tensor, nn

from .. import expect
from ..conditions import Condition
from ..guidance import guide
from ..pictures import bicubic, shrink, stored
from ..sampling import dpm_solver, last
from ..schedule import NoiseSchedule
from .drawing import Progress, build_schedule, build_unet, start_noise
from .emoji import loader
from .photo import RECIPE as PHOTO
from .photo import by_attention, with_network

STEPS = 5  # of the sampler

RECIPE = {  # the network of the photos
    **with_network(PHOTO, condition_channels=4),
    "target": "velocity",
    "batch": 128,
    "workers": 2,
    "steps": 8_000,
}
RECIPES = {
    "emoji-enlarger": RECIPE,
    # The other two routes for the small picture, trained alike.
    "emoji-enlarger-levels": with_network(RECIPE, inject="levels"),
    "emoji-enlarger-attention": by_attention(RECIPE),
}

# The network draws this times what the bicubic picture lacks: about as varied as its noise.
GAIN = 3.0
# The most noise over a small picture in training. A drawn picture has faults that a real one
# doesn't; under a little noise both look alike. Ho et al., "Cascaded Diffusion Models" (2022),
# on conditioning augmentation.
NOISIEST = 0.3


def with_level(low: Tensor, level: Tensor) -> Condition:
    """The condition "enlarge this": small pictures [B, 3, h, w], enlarged, and a plane that says
    how much noise lies over each; level [B]."""
    large = bicubic(low)
    plane = (2 * level / NOISIEST - 1)[:, None, None, None].expand(-1, 1, *large.shape[2:])
    return Condition(image=torch.cat([large, plane], dim=1))


def to_enlarge(pictures: Tensor) -> tuple[Tensor, Condition]:
    """What the network learns from pictures [B, 3, H, W]: GAIN times what their bicubic version
    lacks, given that version, most of them with little noise over them."""
    low = stored(shrink(pictures))
    level = NOISIEST * torch.rand(len(low), device=low.device).square()
    condition = with_level(low + level[:, None, None, None] * torch.randn_like(low), level)
    return GAIN * (pictures - condition.image[:, :3]), condition


def network(recipe: dict) -> nn.Module:
    """The untrained network."""
    return build_unet(recipe)


def _prepare(pictures: Tensor, names: list[str], hands: list[str]) -> tuple[Tensor, Condition]:
    return to_enlarge(pictures)


def batches(recipe: dict, data: Path | None):
    """The emoji of the training split, made small."""
    return loader(recipe, recipe["size"], _prepare)


def pipeline(network: nn.Module, recipe: dict) -> "Enlarger":
    """Enlarges emoji."""
    return Enlarger(network, build_schedule(recipe))


class Enlarger:
    """Enlarges emoji four times: small ones [B, 3, h, w] in [-1, 1], h and w divisible by 2."""

    def __init__(self, network: nn.Module, schedule: NoiseSchedule):
        self.network = network
        self.schedule = schedule

    def enlarge(
        self,
        pictures: Tensor,
        scale: float = 1.0,
        steps: int = STEPS,
        seed: int = 0,
        noise: float = 0.0,
        progress: Progress = iter,
    ) -> Tensor:
        """[B, 3, 4 h, 4 w]; another seed, other details. noise: how much of it to lay over the
        small pictures first, and to tell the network of: 0 for real ones; for drawn ones some, so
        that their faults don't count as detail."""
        expect.tensor("pictures", pictures, ("B", 3, "h", "w"))
        expect.number("noise", noise, 0, NOISIEST)
        source = torch.Generator().manual_seed(expect.whole("seed", seed, 0))
        low = pictures.float().cpu()
        low = low + noise * torch.randn(low.shape, generator=source)
        condition = with_level(low, torch.full((len(low),), float(noise)))
        plain = condition.image[:, :3]

        def possible(x_0: Tensor) -> Tensor:
            return GAIN * ((plain + x_0 / GAIN).clamp(-1, 1) - plain)

        x_T = start_noise(len(low), tuple(plain.shape[1:]), seed)
        denoise = guide(self.network, condition, scale)
        sampler = dpm_solver(denoise, self.schedule, x_T, steps, possible)
        return (plain + last(iter(progress(sampler))) / GAIN).clamp(-1, 1).to(pictures)
