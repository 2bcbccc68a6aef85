"""The eight samplers: each one function, in the form of k-diffusion (https://github.com/crowsonkb/k-diffusion).

Latents are x0 + sigma * noise, sigmas fall from the first noise level to the last, and `model(latents, sigma)` returns
the noise that it predicts. That is also the slope d latents / d sigma of the ODE that all of them solve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from lib.diffusion.schedule import MAX_STEPS, Spacing, leading, linspace

Model = Callable[[Tensor, float], Tensor]
OnStep = Callable[[], None]  # called after each step


def no_report() -> None:
    """Do nothing after a step."""


def sample_euler(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """Euler's method: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without churn."""
    for sigma, following in pairwise(sigmas):
        latents = latents + model(latents, sigma) * (following - sigma)
        on_step()
    return latents


def sample_heun(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """Heun's method: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1."""
    for sigma, following in pairwise(sigmas):
        slope = model(latents, sigma)
        if following > 0:
            predicted = latents + slope * (following - sigma)
            slope = (slope + model(predicted, following)) / 2
        latents = latents + slope * (following - sigma)
        on_step()
    return latents


def sample_dpm2(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """DPM-Solver-2: Lu et al. 2022, https://arxiv.org/abs/2206.00927; the midpoint is in log sigma."""
    for sigma, following in pairwise(sigmas):
        slope = model(latents, sigma)
        if following > 0:
            middle = (sigma * following) ** 0.5
            slope = model(latents + slope * (middle - sigma), middle)
        latents = latents + slope * (following - sigma)
        on_step()
    return latents


def sample_euler_ancestral(
    model: Model, latents: Tensor, sigmas: Sequence[float], noise: Tensor, on_step: OnStep = no_report
) -> Tensor:
    """Euler's method with fresh noise: k-diffusion's sample_euler_ancestral; `noise` is (steps, *latents.shape)."""
    for (sigma, following), fresh in zip(pairwise(sigmas), noise, strict=True):
        down, up = ancestral_step(sigma, following)
        latents = latents + model(latents, sigma) * (down - sigma) + fresh * up
        on_step()
    return latents


def sample_dpm2_ancestral(
    model: Model, latents: Tensor, sigmas: Sequence[float], noise: Tensor, on_step: OnStep = no_report
) -> Tensor:
    """DPM-Solver-2 with fresh noise: k-diffusion's sample_dpm_2_ancestral; `noise` is (steps, *latents.shape)."""
    for (sigma, following), fresh in zip(pairwise(sigmas), noise, strict=True):
        down, up = ancestral_step(sigma, following)
        slope = model(latents, sigma)
        if down > 0:
            middle = (sigma * down) ** 0.5
            slope = model(latents + slope * (middle - sigma), middle)
        latents = latents + slope * (down - sigma) + fresh * up
        on_step()
    return latents


def sample_klms(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """Linear multistep of order 4: k-diffusion's sample_lms, the Adams-Bashforth method on uneven steps."""
    slopes: list[Tensor] = []  # the latest first
    for i, sigma in enumerate(sigmas[:-1]):
        slopes = [model(latents, sigma), *slopes[:3]]
        nodes = [sigmas[i - back] for back in range(len(slopes))]
        for slope, weight in zip(slopes, multistep_weights(nodes, sigmas[i + 1]), strict=True):
            latents = latents + slope * weight
        on_step()
    return latents


def sample_ddim(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """DDIM with eta 0: Song et al. 2020, https://arxiv.org/abs/2010.02502, equation 13: Euler's method in sigma."""
    for sigma, following in pairwise(sigmas):
        latents = latents + model(latents, sigma) * (following - sigma)
        on_step()
    return latents


def sample_plms(model: Model, latents: Tensor, sigmas: Sequence[float], on_step: OnStep = no_report) -> Tensor:
    """PNDM without Runge-Kutta steps: Liu et al. 2022, https://arxiv.org/abs/2202.09778, equations 9 and 13.

    The first step is of second order and asks the model twice, unless it is the only one.
    """
    slopes: list[Tensor] = []  # the latest first
    for sigma, following in pairwise(sigmas):
        slopes = [model(latents, sigma), *slopes[:3]]
        match slopes:
            case [a] if len(sigmas) == 2:
                slope = a
            case [a]:
                slope = (a + model(latents + a * (following - sigma), following)) / 2
            case [a, b]:
                slope = (3 * a - b) / 2
            case [a, b, c]:
                slope = (23 * a - 16 * b + 5 * c) / 12
            case [a, b, c, d]:
                slope = (55 * a - 59 * b + 37 * c - 9 * d) / 24
        latents = latents + slope * (following - sigma)
        on_step()
    return latents


def ancestral_step(sigma: float, following: float) -> tuple[float, float]:
    """Return k-diffusion's (down, up): the sigma to descend to, and that of the noise which leads up to `following`."""
    up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
    return (following**2 - up**2) ** 0.5, up


def multistep_weights(nodes: Sequence[float], end: float) -> list[float]:
    """Return the weight of the slope at each node, for a step from nodes[0] to `end`.

    The weights integrate the polynomial through the slopes.
    """
    weights = []
    for node in nodes:
        basis = Polynomial([1.0])
        for other in nodes:
            if other != node:
                basis *= Polynomial([-other, 1.0]) / (node - other)
        integral = basis.integ(lbnd=nodes[0])
        weights.append(float(integral(end)))
    return weights


@dataclass(frozen=True)
class Method:
    """A sampler's function, and the schedule that it is run on."""

    sample: Callable[..., Tensor]
    spacing: Spacing
    is_ancestral: bool = False  # takes the noise of each step


SAMPLERS = {
    "klms": Method(sample_klms, linspace),
    "dpm2": Method(sample_dpm2, linspace),
    "dpm2_ancestral": Method(sample_dpm2_ancestral, linspace, is_ancestral=True),
    "heun": Method(sample_heun, linspace),
    "euler": Method(sample_euler, linspace),
    "euler_ancestral": Method(sample_euler_ancestral, linspace, is_ancestral=True),
    "plms": Method(sample_plms, leading),
    "ddim": Method(sample_ddim, leading),
}


class Sampler:
    """A sampler by its name, on a schedule of `num_steps` steps of which it skips the first `first_step`."""

    def __init__(self, name: str, num_steps: int, first_step: int = 0) -> None:
        if not 0 <= first_step < num_steps <= MAX_STEPS:
            raise ValueError(f"no step {first_step} in a schedule of {num_steps} (at most {MAX_STEPS})")
        self._method = SAMPLERS[name]
        self.schedule = self._method.spacing(num_steps).starting_at(first_step)

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Scale unit `noise` to the level at which the full schedule starts."""
        return noise * self.schedule.init_noise_sigma

    def add_noise(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Return `latents` with unit `noise` at the level of the first step."""
        return latents + noise * self.schedule.sigmas[0]

    def run(
        self,
        model: Model,
        latents: Tensor,
        generator: torch.Generator | None = None,
        on_step: OnStep = no_report,
    ) -> Tensor:
        """Denoise `latents`, which have the first step's noise, and return what the VAE decodes.

        `generator`, a CPU one, draws the noise of the ancestral samplers; the others need none.
        """
        sigmas = self.schedule.sigmas
        options: dict[str, Any] = {"on_step": on_step}
        if self._method.is_ancestral:
            # Drawn on the CPU, to be the same on every device, and before the first step: a copy in each step would
            # make the host wait for a GPU.
            options["noise"] = torch.randn(self.schedule.steps, *latents.shape, generator=generator).to(latents.device)
        latents = self._method.sample(model, latents, sigmas, **options)
        # A leading schedule ends with a little noise. Its latents go to the VAE scaled as for the UNet.
        scaled: Tensor = latents / (1 + sigmas[-1] ** 2) ** 0.5
        return scaled
