"""The bridge to Diffusers, both ways: a checkpoint as a folder that they load, and their U-Net as a
network that `guide` and the samplers take.

The folder brings its own code (data/hub), for our U-Net is none of theirs: modeling.py, below the
rooms that it needs, and pipeline.py. It runs without this package, and needs no Diffusers to write.
"""

import ast
import json
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from . import expect
from .conditions import Condition
from .datasets import data_path
from .expect import checked
from .pipelines import load_with_recipe
from .schedule import NoiseSchedule
from .unet import Network, Unet, Velocity


@checked
def scheduler_config(schedule: NoiseSchedule, clip: float | None = 1.0) -> dict:
    """The settings with which a DDIMScheduler or DDPMScheduler of theirs does what our samplers do.

    Their t counts from 0, and their tables begin with our t = 1. The betas are given as they are:
    our cosine schedule ends at alpha_bar = 1e-5, their "squaredcos_cap_v2" goes on. clip: see
    clip_guess."""
    return {
        "num_train_timesteps": schedule.steps,
        "trained_betas": schedule.betas[1:].tolist(),
        "timestep_spacing": "trailing",
        "clip_sample": clip is not None,
        "clip_sample_range": 1.0 if clip is None else clip,
    }


@checked
def to_diffusers(name: str | Path, folder: str | Path) -> Path:
    """Write a checkpoint whose network is told labels, "digits" or the path of one that you
    trained, as a folder ready for the Hub. There it draws the same pictures:

        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        pipe([3, 1, 4], guidance_scale=2.0, num_inference_steps=20).images
    """
    artist, recipe = load_with_recipe(name)
    hub, folder = data_path("hub"), Path(folder)
    network = getattr(artist, "network", None)
    predicts = "v_prediction" if isinstance(network, Velocity) else "epsilon"
    network = network.network if isinstance(network, Velocity) else network
    right = isinstance(network, Unet) and isinstance(network.token_encoder, nn.Embedding)
    wanted = "be a checkpoint of a U-Net that is told labels, such as digits"
    expect.that(right, "name", wanted, f"{name}", "Captions and pictures have no bridge yet.")
    weights = {f"unet.{name}": w.contiguous() for name, w in network.state_dict().items()}
    model = {"labels": network.token_encoder.num_embeddings, "image_channels": artist.shape[0]}
    model |= {"_class_name": "LabelUnet", "sample_size": artist.shape[1:], **recipe["network"]}
    # A threshold that may not exceed 1 is a plain clamp, which DPM-Solver has no other option for.
    scheduler = scheduler_config(artist.schedule) | {"prediction_type": predicts}
    scheduler |= {"thresholding": True, "sample_max_value": 1.0}
    about = {**model, "name": recipe["name"], "shape": artist.shape, "predicts": predicts}
    about["parameters"] = f"{sum(weight.numel() for weight in weights.values()):,}"
    about["recipe"] = json.dumps(recipe, indent=2)
    plain = ("model_index.json", "pipeline.py", "LICENSE")
    texts = {part: (hub / part).read_text(encoding="utf-8") for part in plain}
    texts["README.md"] = (hub / "card.md").read_text(encoding="utf-8").format(**about)
    texts["scheduler/scheduler_config.json"] = json.dumps(scheduler, indent=2)
    texts["unet/config.json"] = json.dumps(model, indent=2)
    texts["unet/modeling.py"] = _in_one_file(hub / "modeling.py")
    for part, text in texts.items():
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text(text, encoding="utf-8")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(weights, path, {"format": "pt"})
    return folder


def _in_one_file(modeling: Path) -> str:
    """modeling.py below the rooms that it needs: from the Hub, Diffusers fetches one file of code
    for each part of a pipeline."""
    parts = ["# Made by cfd_course.bridge.to_diffusers from the course's own files.\nimport sys"]
    rooms = ("expect", "schedule", "conditions", "unet")  # the lowest first
    for path in [*(Path(__file__).with_name(f"{room}.py") for room in rooms), modeling]:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.ImportFrom) and (node.level or "cfd_course" in node.module):
                for number in range(node.lineno - 1, node.end_lineno):
                    lines[number] = ""
        parts.append("\n".join([f"# --- {path.name} ---", *lines]))
    parts.insert(2, "expect = sys.modules[__name__]  # which the rooms below know as a module")
    return "\n\n".join(parts) + "\n"


@checked
def from_diffusers(unet: nn.Module, null: Float[Tensor, "1 L D"]) -> Network:
    """Their UNet2DConditionModel, which predicts noise, as a network of the course for `guide` and
    the samplers: network(x_t, t, condition) -> noise, with tokens [B, L, D] from outside.

    null: what it was told in training where it was told nothing; for Stable Diffusion the encoded
    empty caption. Its schedule is NoiseSchedule(scheduler.betas)."""

    def network(x_t: Tensor, t: int | Tensor, condition: Condition | None = None) -> Tensor:
        tokens, mask = null.expand(len(x_t), -1, -1), None
        if condition is not None:
            told = condition.present[:, None]
            right = condition.tokens is not None and condition.tokens.shape[1:] == null.shape[1:]
            wanted = f"come with tokens [B, {null.shape[1]}, {null.shape[2]}], as the null's are"
            expect.that(right, "condition", wanted, condition.tokens)
            tokens = torch.where(told[..., None], condition.tokens, null.to(condition.tokens))
            mask = (condition.mask | ~told).to(unet.device)
        t = torch.as_tensor(t, device=unet.device) - 1  # theirs counts from 0
        there = (x_t.to(unet.device, unet.dtype), t, tokens.to(unet.device, unet.dtype))
        return unet(*there, encoder_attention_mask=mask).sample.to(x_t)

    return network
