"""The applications: `load(name)` gives a trained network with what belongs around it, and
`python -m cfd_course train NAME` trains it.

An application is a module of this folder that holds

    RECIPES                     {name: recipe}; a recipe is what JSON can hold: the settings of the
                                network and of its training, and the steps of a sitting
    network(recipe)             the untrained network
    batches(recipe, data)       what it is trained on, see train(); data: a folder, or None
    pipeline(network, recipe)   what load gives: an object that draws, enlarges or fills

and, where its training starts with another's weights, begin(network, recipe), which puts them in;
where it isn't trained as a diffusion network, train(network, recipe, data, steps), which yields
(step number, loss, network). A new one is a new module, named in the list below.
"""

from pathlib import Path

from torch import nn

from .. import expect
from ..checkpoints import load_checkpoint, load_weights
from ..datasets import data_path
from ..guidance import Tiled
from . import (
    digit_classifier,
    digit_inpainting,
    digit_judge,
    digits,
    emoji,
    emoji_autoencoder,
    emoji_enlarger,
    emoji_judge,
    emoji_latents,
    emoji_mender,
    few_steps,
    inpainting,
    super_resolution,
    text_to_image,
    two_towers,
)
from .digit_classifier import DigitClassifier
from .digit_judge import DigitJudge
from .drawing import Artist, Progress, build_schedule, start_noise
from .inpainting import HOLE_GAIN, Mender, to_fill, with_hole, with_hole_and_detail
from .photo import PHOTO_STEPS
from .super_resolution import Scaler, coarse_and_detail, to_enlarge

__all__ = [
    "APPLICATIONS",
    "HOLE_GAIN",
    "PHOTO_STEPS",
    "RECIPES",
    "Artist",
    "DigitClassifier",
    "DigitJudge",
    "Mender",
    "Progress",
    "Scaler",
    "Tiled",
    "build",
    "build_schedule",
    "coarse_and_detail",
    "load",
    "load_with_recipe",
    "start_noise",
    "to_enlarge",
    "to_fill",
    "with_hole",
    "with_hole_and_detail",
]

MODULES = (
    digits,
    text_to_image,
    emoji,
    emoji_autoencoder,
    emoji_enlarger,
    emoji_mender,
    super_resolution,
    inpainting,
    digit_inpainting,
    digit_judge,
    digit_classifier,
    few_steps,
    emoji_judge,
    emoji_latents,
    two_towers,
)
APPLICATIONS = {name: module for module in MODULES for name in module.RECIPES}
RECIPES = {name: module.RECIPES[name] for name, module in APPLICATIONS.items()}


def build(recipe: dict) -> nn.Module:
    """The untrained network that a checkpoint's recipe describes."""
    return APPLICATIONS[recipe["name"]].network(recipe)


def load(name: str | Path):
    """A shipped model by its name, or one of the same kinds that you trained, by the path of its
    .safetensors file.

    Artists, whose draw(asked) takes digits: "digits", "digits-weak", and in few steps "digits-flow"
    and "digits-shortcut"; captions: "text-to-image", "emoji" and "emoji-decoder", which also takes
    embeddings of pictures; hands, for faces: "emoji-latents"; embeddings of texts, for such of
    pictures: "emoji-prior".
    What enlarges: "super-resolution" (a Scaler) and, for emoji, "emoji-enlarger" (an Enlarger; also
    "-levels", "-attention"). What fills holes: "inpainting" and "digit-inpainting" (Menders; the
    latter also "-attention") and "emoji-mender".
    What reads pictures: "digit-judge", "digit-classifier", "emoji-judge"; into numbers:
    "emoji-towers" (of_pictures, of_texts), "emoji-autoencoder" (encode, decode)."""
    return load_with_recipe(name)[0]


def load_with_recipe(name: str | Path) -> tuple:
    """What `load` returns, and the recipe that its checkpoint holds."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name should be a name or a path, but {expect.describe(name)} came.")
    path = Path(name)
    if path.suffix != ".safetensors":
        try:
            path = data_path(f"checkpoints/{name}.safetensors")
        except FileNotFoundError as error:
            shipped = sorted(file.stem for file in data_path("checkpoints").glob("*.safetensors"))
            raise ValueError(
                f"name should be one of {', '.join(shipped)}, or the path of a .safetensors file, "
                f"but {name!r} came."
            ) from error
    weights, recipe = load_checkpoint(path)
    try:
        network = build(recipe)
        pipeline = APPLICATIONS[recipe["name"]].pipeline(network, recipe)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds a recipe that cannot be followed here: is it of another version of the "
            f"course? ({type(error).__name__}: {error})"
        ) from error
    load_weights(network, weights, path)
    network.eval().requires_grad_(False)
    return pipeline, recipe
