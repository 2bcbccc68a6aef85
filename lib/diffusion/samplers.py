"""Samplers by name, right from step 0 and when started part-way.

The algorithms are diffusers' schedulers, each built from its own arguments: never from another model's scheduler
configuration, which would bring along its spacing and clipping. Noise is added at exactly the timestep where a run
starts.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler, KDPM2DiscreteScheduler
from torch import Tensor

from lib.diffusion.schedulers import DDIM, LMS, PLMS, DPM2Ancestral, EulerAncestral
from lib.diffusion.timesteps import BETAS, MAX_STEPS

LINSPACE = {"timestep_spacing": "linspace"}
LEADING = {"set_alpha_to_one": False}  # the last step ends at timestep 0, as the models were published with

# (latents scaled for the model, timestep on their device) -> predicted noise (epsilon), all of one shape
EpsilonModel = Callable[[Tensor, Tensor], Tensor]


def one_each(steps: int) -> list[int]:
    """Return the evaluations of each step of a first-order or multistep method."""
    return [1] * steps


def two_each(steps: int) -> list[int]:
    """Return those of a second-order method, whose last step, to no noise, is of first order."""
    return [*[2] * (steps - 1), 1]


def two_first(steps: int) -> list[int]:
    """Return those of plms, whose first step is a pair, unless there is no second timestep for it."""
    return [2, *[1] * (steps - 1)] if steps > 1 else [1]


def from_step(scheduler: Any, step: int) -> Tensor:
    """Start a scheduler that counts its evaluations, one a step; return the timesteps from there on."""
    scheduler.set_begin_index(step)
    timesteps: Tensor = scheduler.timesteps[step:]
    return timesteps


def from_double_step(scheduler: Any, step: int) -> Tensor:
    """Start a scheduler that counts its evaluations, two a step."""
    return from_step(scheduler, 2 * step)


def from_timestep(scheduler: Any, step: int) -> Tensor:
    """Start a scheduler that goes by the timesteps themselves."""
    timesteps: Tensor = scheduler.timesteps[step:]
    return timesteps


def from_pair(scheduler: Any, step: int) -> Tensor:
    """Start plms: the second timestep stands twice, wherever the run starts."""
    timesteps = from_timestep(scheduler, step)
    return torch.cat([timesteps[:2], timesteps[1:]])


@dataclass(frozen=True)
class Method:
    """What is to be known of a sampler."""

    scheduler: Callable[..., Any]
    options: Mapping[str, Any]
    source: str
    evaluations: Callable[[int], list[int]] = one_each  # of the model, in each step of a run of so many steps
    start: Callable[[Any, int], Tensor] = from_step  # at a step of the schedule -> the timesteps of the evaluations
    is_ancestral: bool = False  # draws noise in each step


K_DIFFUSION = "https://arxiv.org/abs/2206.00364, as in https://github.com/crowsonkb/k-diffusion"
DPM_SOLVER = "https://arxiv.org/abs/2206.00927, the middle in log sigma as in https://github.com/crowsonkb/k-diffusion"

SAMPLERS = {
    "klms": Method(LMS, LINSPACE, K_DIFFUSION),
    "dpm2": Method(KDPM2DiscreteScheduler, LINSPACE, DPM_SOLVER, two_each, from_double_step),
    "dpm2_ancestral": Method(DPM2Ancestral, LINSPACE, DPM_SOLVER, two_each, from_double_step, is_ancestral=True),
    "heun": Method(HeunDiscreteScheduler, LINSPACE, K_DIFFUSION, two_each, from_double_step),
    "euler": Method(EulerDiscreteScheduler, {**LINSPACE, "final_sigmas_type": "zero"}, K_DIFFUSION),
    "euler_ancestral": Method(EulerAncestral, LINSPACE, K_DIFFUSION, is_ancestral=True),
    "plms": Method(PLMS, LEADING, "https://arxiv.org/abs/2202.09778", two_first, from_pair),
    "ddim": Method(DDIM, LEADING, "https://arxiv.org/abs/2010.02502", start=from_timestep),
}


@functools.lru_cache(maxsize=16)  # a video has a run per frame, and dpm2's tables take a seventh of a second
def _prepared(name: str, num_steps: int) -> Any:
    """Return a scheduler that has its schedule and has run no step."""
    method = SAMPLERS[name]
    scheduler = method.scheduler(**BETAS, **method.options)
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
        self.steps = num_steps - first_step
        self._method = SAMPLERS[name]
        self._scheduler = copy.deepcopy(_prepared(name, num_steps))  # it remembers the steps of this run
        self.timesteps = self._method.start(self._scheduler, first_step)

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
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Denoise `latents`, which are at the level of the first timestep, and return the result.

        `generator` draws the noise of the ancestral samplers; the others need none. `on_step` is called after each
        step.
        """
        if self._method.is_ancestral:
            # Drawn on the CPU, to be the same on every device, and before the first step: a copy in each would make
            # the host wait for a GPU.
            noise = torch.randn(self.steps, *latents.shape, generator=generator)
            self._scheduler.noise = iter(noise.to(latents.device))
        step_ends = set(itertools.accumulate(self._method.evaluations(self.steps)))
        on_device = self.timesteps.to(latents.device)
        for count, (timestep, timestep_on_device) in enumerate(zip(self.timesteps, on_device, strict=True), start=1):
            epsilon = model(self._scheduler.scale_model_input(latents, timestep), timestep_on_device)
            latents = self._scheduler.step(epsilon, timestep, latents)[0]
            if count in step_ends:
                on_step()
        return latents
