"""A UNet that predicts velocities runs as diffusers' own schedulers run it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, KDPM2DiscreteScheduler
from torch import Tensor

from lib.diffusion.models import load
from lib.diffusion.pipeline import GUIDANCE_SCALE, denoise
from lib.diffusion.prediction import EPSILON, VELOCITY, epsilon_of_velocity, prediction_type
from lib.diffusion.samplers import Sampler
from lib.diffusion.timesteps import BETAS
from lib.errors import UserError
from tests.lib.diffusion.compare import relative_error

STEPS = 10
SHAPE = (1, 4, 8, 8)
STOCK: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (
        DDIMScheduler,
        {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False},
    ),
    "euler": (EulerDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpm2": (KDPM2DiscreteScheduler, {}),
}


def velocity(latents: Tensor, timestep: Tensor) -> Tensor:
    """Predict something that depends on all that a UNet sees."""
    return torch.sin(2 * latents) * (1 + timestep / 1000)


@pytest.mark.parametrize("name", STOCK)
def test_velocities_lead_where_the_stock_scheduler_leads(name: str) -> None:
    scheduler_class, arguments = STOCK[name]
    scheduler = scheduler_class(**BETAS, **arguments, prediction_type="v_prediction")
    scheduler.set_timesteps(STEPS)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    expected: Tensor = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(expected, timestep)
        expected = scheduler.step(velocity(scaled, timestep), timestep, expected).prev_sample

    sampler = Sampler(name, STEPS)
    result = sampler.run(lambda x, t: epsilon_of_velocity(velocity(x, t), x, t), sampler.pure_noise(noise))
    assert relative_error(result, expected) < 1e-4


def with_scheduler(folder: Path, text: str) -> Path:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(text)
    return folder


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    for part in ("tokenizer", "text_encoder", "vae", "unet"):
        (tmp_path / part).symlink_to(small_folder / part)
    return tmp_path


def test_a_model_that_predicts_velocities_runs_with_the_noise_that_they_say(folder: Path) -> None:
    models = load(with_scheduler(folder, '{"prediction_type": "v_prediction"}'), torch.device("cpu"), torch.float32)
    assert models.prediction_type == VELOCITY
    noise = torch.randn(models.latent_shape(64, 64), generator=torch.Generator().manual_seed(0))
    prompts = torch.randn(2, 77, models.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    start = Sampler("ddim", STEPS)
    with torch.inference_mode():

        def predicted(latents: Tensor, timestep: Tensor) -> Tensor:
            without, with_prompt = (
                models.unet(latents, timestep, encoder_hidden_states=prompt[None]).sample for prompt in prompts
            )
            guided = without + GUIDANCE_SCALE * (with_prompt - without)
            return epsilon_of_velocity(guided, latents, timestep)

        expected = start.run(predicted, noise)
    result = denoise(models, Sampler("ddim", STEPS), noise, prompts[1:], prompts[:1])
    assert relative_error(result, expected) < 1e-3


@pytest.mark.parametrize(
    ("text", "expected"), [("{}", EPSILON), *((json.dumps({"prediction_type": p}), p) for p in (EPSILON, VELOCITY))]
)
def test_the_schedulers_file_says_what_is_predicted(tmp_path: Path, text: str, expected: str) -> None:
    assert prediction_type(with_scheduler(tmp_path, text)) == expected


def test_the_noise_is_predicted_where_nothing_is_said(tmp_path: Path) -> None:
    assert prediction_type(tmp_path) == EPSILON


def test_weights_that_predict_anything_else_are_refused_in_a_sentence(folder: Path) -> None:
    with_scheduler(folder, '{"prediction_type": "sample"}')
    with pytest.raises(UserError) as refused:
        load(folder, torch.device("cpu"), torch.float32)
    assert str(refused.value) == (
        f"The weights in {folder} can't be used: scheduler/scheduler_config.json has the prediction_type 'sample', but "
        "must have 'epsilon' or 'v_prediction'."
    )
