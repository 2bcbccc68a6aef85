"""What a UNet predicts, and the noise that it thereby says.

Stable Diffusion 1.x predicts the noise (epsilon). A UNet may predict the velocity instead, as that of Stable Diffusion
2.x and those of workshop/training do: near full noise it then says what the picture is, of which the noise's
prediction says next to nothing. Source: Salimans and Ho, Progressive distillation, https://arxiv.org/abs/2202.00512,
appendix D.
"""

import functools
import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from lib.diffusion.timesteps import BETAS
from lib.errors import UserError

EPSILON, VELOCITY = "epsilon", "v_prediction"  # as diffusers' schedulers name them


def prediction_type(folder: Path) -> str:
    """Return EPSILON or VELOCITY: what the scheduler's file of a folder in hub layout says; EPSILON without one.

    Raises:
        UserError: it says anything else.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("prediction_type", EPSILON) if file.exists() else EPSILON
    if said not in (EPSILON, VELOCITY):
        raise UserError(
            f"The weights in {folder} can't be used: {file.relative_to(folder)} has the prediction_type {said!r}, but "
            f"must have {EPSILON!r} or {VELOCITY!r}."
        )
    return str(said)


def epsilon_of_velocity(velocity: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
    """Return the noise that a predicted `velocity` says is in the `latents`, all of one shape.

    The latents are as the model sees them: alpha times the clean ones and sigma times the noise, of which the squares
    add up to 1. `timestep` is a number on their device; between two timesteps sigma / alpha is on a straight line, as
    in k-diffusion.
    """
    ratios = _sigmas_by_alphas(latents.device)
    below = timestep.long()
    above = (below + 1).clamp(max=len(ratios) - 1)
    ratio = torch.lerp(ratios[below], ratios[above], (timestep - below).to(ratios.dtype))
    alpha = (1 + ratio.square()).rsqrt()
    epsilon: Tensor = alpha * velocity + ratio * alpha * latents
    return epsilon


@functools.lru_cache
def _sigmas_by_alphas(device: torch.device) -> Tensor:
    alphas_cumprod = DDPMScheduler(**BETAS).alphas_cumprod
    ratios: Tensor = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().to(device)
    return ratios
