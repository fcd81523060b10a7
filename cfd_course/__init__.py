"""A course on classifier-free guided diffusion: the reference package."""

from .conditions import Condition
from .guidance import guide, paper_scale
from .mixtures import GaussianMixture
from .sampling import ddim, ddpm, dpm_solver, repaint
from .schedule import NoiseSchedule
from .training import train
from .unet import Unet

__all__ = [
    "Condition",
    "GaussianMixture",
    "NoiseSchedule",
    "Unet",
    "ddim",
    "ddpm",
    "dpm_solver",
    "guide",
    "paper_scale",
    "repaint",
    "train",
]
__version__ = "0.1.0"


def __getattr__(name: str):
    # Not at the start: it brings nbformat, and training a network needs none.
    if name == "progress":
        from .classroom import progress

        return progress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
