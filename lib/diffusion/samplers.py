"""Samplers by name, right from step 0 and when started part-way.

The algorithms are diffusers' schedulers, each built from its own arguments (never from another model's scheduler
configuration, which would bring along its spacing and clipping). What the stock schedulers get wrong when a run
starts in the middle of the schedule is mended here:

- klms: the order of the multistep method may only count derivatives it has, not the index of the step;
- plms: the second timestep stands twice in the list, wherever the run starts;
- all: the noise is added at exactly the timestep where the run starts.

The ancestral ones draw their noise on the CPU, to be the same on every device: here before the first step, since a
copy in each would make the host wait for a GPU.
"""

import copy
import functools
from collections.abc import Callable, Iterator
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

TRAIN_TIMESTEPS = 1000  # of Stable Diffusion 1.x, as are the betas
BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": TRAIN_TIMESTEPS,
}
MAX_STEPS = TRAIN_TIMESTEPS
LMS_ORDER = 4


class EulerAncestral(EulerAncestralDiscreteScheduler):
    """Euler's method to a level below the next one, and noise up to it: `noise` holds the unit noise of every step."""

    noise: Iterator[Tensor]

    def step(self, epsilon: Tensor, _: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents of the next timestep, exactly as diffusers does."""
        sigma, following = self.sigmas[self._step_index : self._step_index + 2]
        self._step_index += 1
        sigma_up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        sigma_down = (following**2 - sigma_up**2) ** 0.5
        derivative = _derivative(latents, epsilon, sigma)
        return (latents + derivative * (sigma_down - sigma) + next(self.noise) * sigma_up,)


class DPM2Ancestral(KDPM2AncestralDiscreteScheduler):
    """DPM-Solver-2 to a level below the next one, and noise up to it: `noise` holds the unit noise of every step."""

    noise: Iterator[Tensor]
    sample: Tensor | None  # where a step began that is halfway

    def step(self, epsilon: Tensor, _: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents halfway, or of the next timestep, exactly as diffusers does."""
        if self.sample is None:
            sigma, halfway = self.sigmas[self._step_index], self.sigmas_interpol[self._step_index]
            self._step_index += 1
            self.sample = latents
            return (latents + _derivative(latents, epsilon, sigma) * (halfway - sigma),)
        i = self._step_index - 1
        self._step_index += 1
        derivative = _derivative(latents, epsilon, self.sigmas_interpol[i])
        begun, self.sample = self.sample, None
        return (begun + derivative * (self.sigmas_down[i] - self.sigmas[i]) + next(self.noise) * self.sigmas_up[i],)


def _derivative(latents: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
    return (latents - (latents - sigma * epsilon)) / sigma


SAMPLERS: dict[str, tuple[type, dict[str, Any]]] = {
    "klms": (LMSDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "dpm2": (KDPM2DiscreteScheduler, {"timestep_spacing": "linspace"}),
    "dpm2_ancestral": (DPM2Ancestral, {"timestep_spacing": "linspace"}),
    "heun": (HeunDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "linspace", "final_sigmas_type": "zero"}),
    "euler_ancestral": (EulerAncestral, {"timestep_spacing": "linspace"}),
    "plms": (
        PNDMScheduler,
        {"timestep_spacing": "leading", "skip_prk_steps": True, "set_alpha_to_one": False},
    ),
    "ddim": (DDIMScheduler, {"timestep_spacing": "leading", "clip_sample": False, "set_alpha_to_one": False}),
}
SECOND_ORDER = ("dpm2", "dpm2_ancestral", "heun")
ANCESTRAL = ("dpm2_ancestral", "euler_ancestral")

# (latents scaled for the model, timestep on their device) -> predicted noise (epsilon), all of one shape
EpsilonModel = Callable[[Tensor, Tensor], Tensor]


@functools.lru_cache(maxsize=16)  # a video has a run per frame, and dpm2's tables take a seventh of a second
def _prepared(name: str, num_steps: int) -> Any:
    """Return a scheduler of diffusers that has its schedule and has run no step."""
    scheduler_class, arguments = SAMPLERS[name]
    if arguments["timestep_spacing"] == "leading":
        # The customary offset of 1, but for the 1000-step schedule: its first timestep would be 1000 of 0..999.
        arguments = {**arguments, "steps_offset": 1 if num_steps < TRAIN_TIMESTEPS else 0}
    scheduler = scheduler_class(**BETAS, **arguments)
    # The schedule stays on the CPU: its arithmetic is on single numbers, and asking a GPU for one makes it wait.
    scheduler.set_timesteps(num_steps)
    return scheduler


class Sampler:
    """One run of `num_steps` steps by the sampler `name`, from `first_step` to the end.

    `timesteps` (evaluations,) holds the timestep of every evaluation of the model. Make a new one for each run:
    the solvers remember earlier steps.
    """

    def __init__(self, name: str, num_steps: int, first_step: int = 0) -> None:
        if not 0 <= first_step < num_steps <= MAX_STEPS:
            raise ValueError(f"no step {first_step} in a schedule of {num_steps} (at most {MAX_STEPS})")
        self.name = name
        self._steps = num_steps - first_step
        self._scheduler = copy.deepcopy(_prepared(name, num_steps))  # it remembers the steps of this run
        self.timesteps = self._timesteps_from(first_step)

    def _timesteps_from(self, first_step: int) -> Tensor:
        timesteps: Tensor = self._scheduler.timesteps
        if self.name == "plms":
            # Its first step is a predictor-corrector pair, evaluated at t0 and t1; t1 is then evaluated again.
            distinct = torch.tensor(sorted(set(timesteps.tolist()), reverse=True))[first_step:]
            return torch.cat([distinct[:2], distinct[1:]])
        # Second-order samplers evaluate twice in each step but the last.
        first_index = 2 * first_step if self.name in SECOND_ORDER else first_step
        if self.name != "ddim":  # which goes by the timestep itself
            self._scheduler.set_begin_index(first_index)
        return timesteps[first_index:]

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Scale unit `noise` to the level at which the full schedule starts."""
        scaled: Tensor = noise * self._scheduler.init_noise_sigma
        return scaled

    def add_noise(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Return `latents` with unit `noise` at the level of this run's first timestep."""
        noised: Tensor = self._scheduler.add_noise(latents, noise, self.timesteps[:1])
        return noised

    def run(
        self,
        model: EpsilonModel,
        latents: Tensor,
        generator: torch.Generator | None = None,
        on_evaluation: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Denoise `latents`, which are at the level of the first timestep, and return the result.

        `generator` draws the noise of the ancestral samplers; the others need none. `on_evaluation` is called after
        each evaluation.
        """
        if self.name in ANCESTRAL:
            self._scheduler.noise = iter(
                torch.randn(self._steps, *latents.shape, generator=generator).to(latents.device)
            )
        on_device = self.timesteps.to(latents.device)
        for timestep, timestep_on_device in zip(self.timesteps, on_device, strict=True):
            epsilon = model(self._scheduler.scale_model_input(latents, timestep), timestep_on_device)
            latents = self._scheduler.step(epsilon, timestep, latents, **self._step_options())[0]
            on_evaluation()
        return latents

    def _step_options(self) -> dict[str, Any]:
        if self.name == "klms":
            return {"order": min(LMS_ORDER, len(self._scheduler.derivatives) + 1)}
        return {}
