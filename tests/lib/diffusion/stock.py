"""The samplers by diffusers' own schedulers, driven so that they are right when they start part-way too."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from lib.diffusion.samplers import Sampler
from lib.diffusion.schedule import BETAS

Unet = Callable[[Tensor, Tensor], Tensor]  # (latents scaled for the UNet, timestep) -> its prediction

LEADING = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}
SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "klms": (LMSDiscreteScheduler, {}),
    "dpm2": (KDPM2DiscreteScheduler, {}),
    "dpm2_ancestral": (KDPM2AncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "plms": (PNDMScheduler, {**LEADING, "skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {**LEADING, "clip_sample": False}),
}
SECOND_ORDER = ("dpm2", "dpm2_ancestral", "heun")
ANCESTRAL = ("dpm2_ancestral", "euler_ancestral")


@cache  # the tables of dpm2 take half a second
def prepared(name: str, steps: int, predicts: str) -> Any:
    """Return a scheduler that has run no step, to be copied."""
    scheduler_class, arguments = SCHEDULERS[name]
    scheduler = scheduler_class(**BETAS, **arguments, prediction_type=predicts)
    scheduler.set_timesteps(steps)
    return scheduler


def stock_run(
    name: str, unet: Unet, latents: Tensor | None, noise: Tensor, steps: int, first_step: int, predicts: str = "epsilon"
) -> Tensor:
    """Run a sampler from `latents` with `noise`, or from noise alone; the generator of fresh noise has seed 1."""
    scheduler = copy.deepcopy(prepared(name, steps, predicts))
    first_index = 2 * first_step if name in SECOND_ORDER else first_step
    timesteps = scheduler.timesteps[first_index:]
    if name == "plms":  # its second timestep is there twice, wherever the run starts
        first, *others = list(dict.fromkeys(scheduler.timesteps.tolist()))[first_step:]
        timesteps = torch.tensor([first, *others[:1], *others])
    if name not in ("plms", "ddim"):  # these two look up the timestep itself
        scheduler.set_begin_index(first_index)

    options: dict[str, Any] = {"generator": torch.Generator().manual_seed(1)} if name in ANCESTRAL else {}
    if latents is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(latents, noise, timesteps[:1])
    for i, timestep in enumerate(timesteps):
        if name == "klms":  # by itself it takes its order from the step's index, not from the slopes it has
            options = {"order": min(4, i + 1)}
        prediction = unet(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, **options).prev_sample
    return latents


def our_run(name: str, unet: Unet, latents: Tensor | None, noise: Tensor, steps: int, first_step: int) -> Tensor:
    """Run lib's sampler in the same way, for a UNet that predicts epsilon."""
    sampler = Sampler(name, steps, first_step)

    def model(noisy: Tensor, sigma: float) -> Tensor:
        return unet(noisy / (1 + sigma**2) ** 0.5, torch.tensor(sampler.schedule.timestep(sigma)))

    start = sampler.pure_noise(noise) if latents is None else sampler.add_noise(latents, noise)
    return sampler.run(model, start, torch.Generator().manual_seed(1))
