"""Noise schedules: how much noise there is before each step of a run, and at which training timestep. No torch.

Noisy latents are x0 + sigma * noise, the "variance exploding" form of Karras et al. 2022
(https://arxiv.org/abs/2206.00364) and k-diffusion. Stable Diffusion was trained on these, divided by
sqrt(1 + sigma^2), at timesteps 0 (nearly clean) to 999 (nearly pure noise).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

TRAIN_TIMESTEPS = 1000
MAX_STEPS = TRAIN_TIMESTEPS  # with more, a schedule would visit a timestep twice
BETAS = {  # as diffusers' schedulers take them
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": TRAIN_TIMESTEPS,
}
ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS) ** 2)
SIGMAS = np.sqrt(1 / ALPHAS_CUMPROD - 1)  # (1000,), from 0.029 at timestep 0 to 14.6 at 999


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run."""

    sigmas: tuple[float, ...]  # before each step, falling, and after the last one
    timesteps: tuple[float, ...]  # of each step
    init_noise_sigma: float  # what unit noise is multiplied by to start without a picture

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.timesteps)

    def starting_at(self, step: int) -> "Schedule":
        """Return the rest of the schedule, without its first `step` steps."""
        return replace(self, sigmas=self.sigmas[step:], timesteps=self.timesteps[step:])

    def timestep(self, sigma: float) -> float:
        """Return the timestep of a sigma: a step's own, or between steps k-diffusion's interpolation in log sigma."""
        if sigma in self.sigmas[:-1]:
            return self.timesteps[self.sigmas.index(sigma)]
        return float(np.interp(math.log(sigma), np.log(SIGMAS), np.arange(TRAIN_TIMESTEPS)))


Spacing = Callable[[int], Schedule]


def linspace(steps: int) -> Schedule:
    """Spread the timesteps evenly from 999 to 0, as k-diffusion does; the last step ends without noise."""
    timesteps = np.linspace(TRAIN_TIMESTEPS - 1, 0, steps)
    sigmas = np.interp(timesteps, np.arange(TRAIN_TIMESTEPS), SIGMAS).tolist()
    return Schedule((*sigmas, 0.0), tuple(timesteps.tolist()), init_noise_sigma=sigmas[0])


def leading(steps: int) -> Schedule:
    """Step at round(i * 1000 / steps) + 1, as Stable Diffusion was published; the last step ends at timestep 0.

    Where `steps` divides 1000, this is the published schedule. Elsewhere that one strides by 1000 // steps and starts
    far below full noise: with 600 steps, at timestep 600. From 667 steps on, + 1 would lead beyond timestep 999 and is
    left out.
    """
    spread = [round(i * TRAIN_TIMESTEPS / steps) for i in reversed(range(steps))]
    offset = 1 if spread[0] + 1 < TRAIN_TIMESTEPS else 0
    timesteps = [timestep + offset for timestep in spread]
    sigmas = SIGMAS[[*timesteps, 0]].tolist()
    return Schedule(tuple(sigmas), tuple(map(float, timesteps)), init_noise_sigma=math.hypot(1, sigmas[0]))
