"""The bridge to Diffusers, held against Diffusers."""

import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial

import diffusers
import nbformat
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from cfd_course import Condition, NoiseSchedule, ddim, ddpm, dpm_solver, guide, repaint
from cfd_course.bridge import from_diffusers, scheduler_config, to_diffusers
from cfd_course.checkpoints import load_checkpoint, save_checkpoint
from cfd_course.checks import lesson_18
from cfd_course.classroom import lessons
from cfd_course.datasets import data_path
from cfd_course.datasets.digits import digit_condition
from cfd_course.pipelines import build, load, start_noise
from cfd_course.sampling import last, timesteps
from cfd_course.unet import Velocity

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]
LABELS, STEPS = [3, 8], 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return to_diffusers("digits", tmp_path_factory.mktemp("hub") / "digits")


def opened(folder):
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe(folder):
    return opened(folder)


SAMPLERS = {
    "DPM-Solver++": (DPMSolverMultistepScheduler, dpm_solver),
    "DDIM": (DDIMScheduler, ddim),
    "DDPM": (DDPMScheduler, ddpm),
}


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_their_pipeline_draws_our_picture(name, scale, pipe):
    """From the same noise, by any scheduler that takes over the folder's settings."""
    kind, sampler = SAMPLERS[name]
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    x_T, writer = start_noise(2, (1, 28, 28)), load("digits")
    denoise = guide(writer.network, digit_condition(LABELS), scale)
    drawn = {} if sampler is dpm_solver else {"generator": ours}
    expected = last(sampler(denoise, writer.schedule, x_T, STEPS, **drawn))
    told = {"generator": theirs, "latents": x_T, "output_type": "latent"}
    came = pipe(LABELS, scale, STEPS, **told).images
    # One picture in one call is summed in another order than two: what is rounded is multiplied
    # by 1 / sqrt(alpha_bar) = 316 where all is noise.
    assert (came - expected).abs().max() < (1e-4 if scale > 1 else 2e-3)


def test_what_the_pipeline_returns(pipe):
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    x_T = start_noise(2, (1, 28, 28))
    run = partial(pipe, LABELS, 2.0, 2, latents=x_T)
    plain = run(output_type="latent").images
    torch.testing.assert_close(run(output_type="pt").images, (plain / 2 + 0.5).clamp(0, 1))
    assert run(output_type="np", return_dict=False)[0].shape == (2, 28, 28, 1)
    assert [(image.size, image.mode) for image in run().images] == [((28, 28), "L")] * 2
    ours, again, other = (
        pipe([1], num_inference_steps=1, generator=torch.Generator().manual_seed(seed)).images[0]
        for seed in (0, 0, 1)
    )
    assert ours.tobytes() == again.tobytes() != other.tobytes()


def test_their_u_net_contract(pipe):
    """Told, told nothing and told nothing by no labels, at one time and at each its own; and a
    scheduler whose times are no whole numbers."""
    x_t, network = start_noise(3, (1, 28, 28)), load("digits").network
    condition = Condition(tokens=torch.tensor([[4], [0], [7]]), present=torch.tensor([1, 0, 1]) > 0)
    labels, times = torch.tensor([4, -1, 7]), torch.tensor([0, 500, 999])
    with torch.no_grad():
        came = pipe.unet(x_t, times, labels).sample
        torch.testing.assert_close(came, network(x_t, times + 1, condition), atol=1e-5, rtol=0)
        (came,) = pipe.unet(x_t, 41.4, return_dict=False)
        torch.testing.assert_close(came, network(x_t, 42, None), atol=1e-5, rtol=0)
    # Euler's method in their coordinates is DDIM in ours; it clips nothing.
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    came = pipe(LABELS, 1.5, 6, latents=x_t[:2], output_type="latent").images
    denoise = guide(network, digit_condition(LABELS), 1.5)
    expected = last(ddim(denoise, load("digits").schedule, x_t[:2], 6, clip=None))
    assert (came - expected).abs().max() < 0.02 * expected.abs().max()


def test_the_folder_runs_without_the_course(folder, pipe, tmp_path):
    """In a process that cannot import cfd_course."""
    program = (
        "import sys, torch\nsys.modules['cfd_course'] = None\n"
        "from diffusers import DiffusionPipeline\n"
        f"pipe = DiffusionPipeline.from_pretrained({str(folder)!r}, trust_remote_code=True)\n"
        "x_T = torch.ones(1, 1, 28, 28)\n"
        "images = pipe([5], 2.0, 2, latents=x_T, output_type='latent').images\n"
        f"torch.save(images, {str(tmp_path / 'images.pt')!r})\n"
    )
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    expected = pipe([5], 2.0, 2, latents=torch.ones(1, 1, 28, 28), output_type="latent").images
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), expected, atol=1e-4, rtol=0)


def test_code_is_run_for_those_only_who_say_so(folder):
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(folder)


def test_the_hub_would_hand_out_all_that_is_needed(folder, tmp_path):
    """Of the folder's code Diffusers fetches pipeline.py and a file for each custom part."""
    for part in folder.rglob("*"):
        named = part.suffix != ".py" or part.relative_to(folder).as_posix() in (
            "pipeline.py",
            "unet/modeling.py",
        )
        assert named, part
    text = (folder / "unet" / "modeling.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from \.|import cfd_course|from cfd_course)", text, re.MULTILINE)


def test_card_and_licence(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    front = card.split("---\n")[1]
    assert "license: mit\n" in front and "library_name: diffusers\n" in front
    assert "1,287,972 parameters" in card and '"steps": 6000' in card and "10 labels" in card
    assert not re.search(r"\{[a-z]+\}", card)
    licence = (data_path(".").parent / "LICENSE").read_text(encoding="utf-8")
    mine = (folder / "LICENSE").read_text(encoding="utf-8")
    assert mine.startswith("MIT License") and mine in licence


def test_a_network_that_predicts_velocity_is_said_to(tmp_path):
    _, recipe = load_checkpoint(data_path("checkpoints/digits.safetensors"))
    recipe = {**recipe, "velocity": True, "schedule": "linear", "sittings": []}
    recipe["network"] = {"channels": [16, 24], "token_channels": 8, "attention": [0], "heads": 2}
    torch.manual_seed(0)
    network = build(recipe)
    assert isinstance(network, Velocity)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    save_checkpoint(tmp_path / "mine.safetensors", network, recipe)
    pipe = opened(to_diffusers(tmp_path / "mine.safetensors", tmp_path / "hub"))
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    x_T = start_noise(2, (1, 28, 28))
    expected = load(tmp_path / "mine.safetensors").draw(LABELS, 2.0, 4)
    came = pipe(LABELS, 2.0, 4, latents=x_T, output_type="latent").images
    assert expected.std() > 0.1
    torch.testing.assert_close(came, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["text-to-image", "super-resolution", "digit-judge"])
def test_what_has_no_bridge_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="name should be a checkpoint of a U-Net that is told"):
        to_diffusers(name, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
    with pytest.raises(ValueError, match="name should be one of"):
        to_diffusers("nothing", tmp_path / "hub")


# --- a schedule in their words --------------------------------------------------------------------


@pytest.mark.parametrize("clip", [1.0, 0.4, None])
@pytest.mark.parametrize(
    "schedule",
    [NoiseSchedule.cosine(40), NoiseSchedule.linear(1000), NoiseSchedule([0.3, 0.02, 0.4, 0.1])],
    ids=["cosine", "linear", "own"],
)
def test_a_scheduler_with_our_settings_does_what_ddim_does(schedule, clip):
    scheduler = DDIMScheduler(**json.loads(json.dumps(scheduler_config(schedule, clip))))
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), schedule.alpha_bars[1:], atol=1e-6, rtol=1e-5
    )
    count = schedule.steps // 2
    scheduler.set_timesteps(count)
    assert (scheduler.timesteps + 1).tolist() == timesteps(schedule, count)[:-1]
    x_T = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))

    def denoise(x_t, t):
        return 0.6 * x_t + 0.2 * x_t.roll(1, -1).sin()

    x_t = x_T
    for t in scheduler.timesteps:
        step = scheduler.step(denoise(x_t, t), t, x_t, use_clipped_model_output=True)
        x_t = step.prev_sample
    expected = last(ddim(denoise, schedule, x_T, count, clip=clip))
    assert (x_t - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_the_exercise_knows_their_options():
    parameters = dict(inspect.signature(DDIMScheduler.__init__).parameters)
    del parameters["self"]
    assert lesson_18.DDIM == {name: each.default for name, each in parameters.items()}


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("spacing, offset", [("leading", 0), ("leading", 1), ("linspace", 0)])
def test_the_exercise_reads_options_as_they_do(kind, spacing, offset):
    options = {"num_train_timesteps": 90, "beta_schedule": kind, "timestep_spacing": spacing}
    options |= {"steps_offset": offset}
    scheduler = DDIMScheduler(**options)
    for count in (4, 9, 90):
        scheduler.set_timesteps(count)
        times = lesson_18.ddim_times({**lesson_18.DDIM, **options}, count)
        assert times == scheduler.timesteps.tolist()
    said = lesson_18.scheduler_config.observe((), options)
    bars = said["alpha_bar at each of their times"]
    torch.testing.assert_close(bars, scheduler.alphas_cumprod.double(), atol=1e-6, rtol=1e-4)


def options_in_the_lesson() -> list[tuple[str, str, str]]:
    """(option, class and function, default) in the lesson's table."""
    path = next(path for path in lessons() if path.stem.startswith("18"))
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    return re.findall(r"^\| `(\w+)` \| `([\w.]+)`, (\S+) \|", text, re.MULTILINE)


def test_the_lessons_table_is_true_of_the_installed_version():
    rows = options_in_the_lesson()
    assert len(rows) >= 20
    for option, place, default in rows:
        name, _, function = place.partition(".")
        signature = inspect.signature(getattr(getattr(diffusers, name), function or "__init__"))
        assert repr(signature.parameters[option].default) == default, option


# --- their network, our samplers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


TOKENS = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))
NULL = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_their_network_is_asked_as_they_would(unet):
    x_t, network = start_noise(3, (4, 8, 8)), from_diffusers(unet, NULL)
    present = torch.tensor([True, False, True])
    told = torch.stack([TOKENS[0], NULL[0], TOKENS[2]])
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=0)
    close(network(x_t, 41, Condition(tokens=TOKENS, present=present)), unet(x_t, 40, told).sample)
    close(network(x_t, 1, None), unet(x_t, 0, NULL.expand(3, -1, -1)).sample)
    times = torch.tensor([1, 1000, 500])
    close(network(x_t, times, Condition(tokens=TOKENS)), unet(x_t, times - 1, TOKENS).sample)
    # What is masked out is not attended to, as if the caption were shorter.
    mask = torch.tensor([[True, True, False, False, False]]).expand(3, -1)
    short = unet(x_t, 9, TOKENS[:, :2]).sample
    close(network(x_t, 10, Condition(tokens=TOKENS, mask=mask)), short)
    assert (short - unet(x_t, 9, TOKENS).sample).abs().max() > 1e-3
    # Their half precision stays theirs.
    came = from_diffusers(unet.to(torch.bfloat16), NULL)(x_t, 10, Condition(tokens=TOKENS))
    unet.float()
    assert came.dtype == torch.float32
    with pytest.raises(ValueError, match=r"condition should come with tokens \[B, 5, 24\]"):
        network(x_t, 1, Condition(tokens=TOKENS[:, :4]))


@pytest.mark.parametrize(
    "kind, sampler", [(DDIMScheduler, ddim), (DPMSolverMultistepScheduler, dpm_solver)]
)
def test_stable_diffusions_pipeline_ends_where_our_sampler_does(kind, sampler, unet):
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = DDIMScheduler(
        **betas, clip_sample=False, steps_offset=1, timestep_spacing="trailing"
    )
    parts = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    )
    pipe = StableDiffusionPipeline(
        **parts,
        unet=unet,
        scheduler=kind.from_config(scheduler.config),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    x_T, schedule = start_noise(3, (4, 8, 8)), NoiseSchedule(scheduler.betas)
    told = {"prompt_embeds": TOKENS, "negative_prompt_embeds": NULL.expand(3, -1, -1)}
    told |= {"height": 8, "width": 8, "latents": x_T, "output_type": "latent"}
    # Their 0 is no scale: at 1 and below guidance is off.
    for theirs, ours in ((7.5, 7.5), (1.0, 1.0), (0.0, 1.0)):
        expected = pipe(**told, guidance_scale=theirs, num_inference_steps=10).images
        denoise = guide(from_diffusers(unet, NULL), Condition(tokens=TOKENS), ours)
        came = last(sampler(denoise, schedule, x_T, 10, clip=None))
        assert (came - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_repaint_round_their_network_keeps_what_is_known(unet):
    hole = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    hole[..., 2:5] = True
    known, x_T = start_noise(3, (4, 8, 8), seed=9), start_noise(3, (4, 8, 8))
    denoise = guide(from_diffusers(unet, NULL), Condition(tokens=TOKENS), 3.0)
    schedule = NoiseSchedule.scaled_linear(1000)
    steps = repaint(denoise, schedule, x_T, known, hole, steps=6, jump=2, resampling=2, clip=None)
    filled = last(steps)
    kept = filled == known
    assert kept[~hole.expand_as(kept)].all() and not kept[hole.expand_as(kept)].any()
