"""diffusers' schedulers, mended where they are wrong in a run that starts part-way, or draw their noise themselves.

Each keeps the state of one run. `step(epsilon, timestep, latents)` returns the next latents in a tuple, bit by bit as
the stock scheduler does wherever that one is right.
"""

from collections.abc import Iterator

import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from lib.diffusion.timesteps import leading

LMS_ORDER = 4
FINISHED = -1  # the timestep after the last one


class LMS(LMSDiscreteScheduler):
    """Linear multistep on the sigmas of k-diffusion (sample_lms), https://github.com/crowsonkb/k-diffusion.

    The stock scheduler takes its order from the index of the step; part-way, there are fewer derivatives than that.
    """

    def step(self, epsilon: Tensor, timestep: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents of the next timestep, by as many derivatives as this run has, at most four."""
        order = min(LMS_ORDER, len(self.derivatives) + 1)
        return (super().step(epsilon, timestep, latents, order=order).prev_sample,)


class EulerAncestral(EulerAncestralDiscreteScheduler):
    """Euler's method to a level below the next one, and noise up to it: k-diffusion's sample_euler_ancestral.

    `noise` holds the unit noise of every step.
    """

    noise: Iterator[Tensor]

    def step(self, epsilon: Tensor, _: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents of the next timestep."""
        sigma, following = self.sigmas[self._step_index : self._step_index + 2]
        self._step_index += 1
        sigma_up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        sigma_down = (following**2 - sigma_up**2) ** 0.5
        derivative = _derivative(latents, epsilon, sigma)
        return (latents + derivative * (sigma_down - sigma) + next(self.noise) * sigma_up,)


class DPM2Ancestral(KDPM2AncestralDiscreteScheduler):
    """DPM-Solver-2 (https://arxiv.org/abs/2206.00927) to a level below the next one, and noise up to it.

    `noise` holds the unit noise of every step.
    """

    noise: Iterator[Tensor]
    sample: Tensor | None  # where a step began that is halfway

    def step(self, epsilon: Tensor, _: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents halfway, or of the next timestep."""
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
    # In exact arithmetic this is epsilon. diffusers goes by way of the denoised latents and rounds on it; so does this,
    # to give the same bits.
    return (latents - (latents - sigma * epsilon)) / sigma


class DDIM(DDIMScheduler):
    """DDIM with eta 0 (equation 12 of https://arxiv.org/abs/2010.02502) on leading timesteps.

    The stock scheduler goes on by whole strides, which lead past the schedule's timesteps where 1000 is no multiple of
    their number.
    """

    def set_timesteps(self, num_steps: int) -> None:
        """Prepare a schedule of `num_steps` steps."""
        self.timesteps = torch.tensor(leading(num_steps))
        self._next = _successors(self.timesteps)

    def step(self, epsilon: Tensor, timestep: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents of the next timestep."""
        now, following = int(timestep), self._next[int(timestep)]
        alpha = self.alphas_cumprod[now]
        alpha_next = self.final_alpha_cumprod if following == FINISHED else self.alphas_cumprod[following]
        denoised = (latents - (1 - alpha) ** 0.5 * epsilon) / alpha**0.5
        return (alpha_next**0.5 * denoised + (1 - alpha_next) ** 0.5 * epsilon,)


class PLMS(PNDMScheduler):
    """PNDM without Runge-Kutta steps (https://arxiv.org/abs/2202.09778) on leading timesteps.

    The first step is a pair: at t0, and again at the t1 to which that leads. The stock scheduler takes the second of
    its list for it wherever a run starts, and goes on by whole strides.
    """

    def set_timesteps(self, num_steps: int) -> None:
        """Prepare a schedule of `num_steps` steps, each timestep once."""
        self.timesteps = torch.tensor(leading(num_steps))
        self._next = _successors(self.timesteps)
        self._epsilons: list[Tensor] = []
        self._first: tuple[int, Tensor] | None = None  # the timestep and the latents of the pair's first evaluation

    def step(self, epsilon: Tensor, timestep: Tensor, latents: Tensor) -> tuple[Tensor]:
        """Return the latents of the next timestep."""
        now, following = int(timestep), self._next[int(timestep)]
        if self._first is not None:
            following = now
            now, latents = self._first
            epsilon = (epsilon + self._epsilons[-1]) / 2
            self._first = None
        else:
            self._epsilons = [*self._epsilons[-3:], epsilon]
            if len(self._epsilons) == 1:
                self._first = now, latents
            epsilon = _multistep(self._epsilons)
        return (self._get_prev_sample(latents, now, following, epsilon),)


def _multistep(epsilons: list[Tensor]) -> Tensor:
    """Blend up to four epsilons, the latest last, by the formulas of Adams and Bashforth."""
    match epsilons[::-1]:
        case [a]:
            return a
        case [a, b]:
            return (3 * a - b) / 2
        case [a, b, c]:
            return (23 * a - 16 * b + 5 * c) / 12
        case [a, b, c, d]:
            return (1 / 24) * (55 * a - 59 * b + 37 * c - 9 * d)
    raise ValueError(f"{len(epsilons)} epsilons, but it must be 1 to 4")


def _successors(timesteps: Tensor) -> dict[int, int]:
    """Return the timestep that follows each one."""
    times: list[int] = timesteps.tolist()
    return dict(zip(times, [*times[1:], FINISHED], strict=True))
