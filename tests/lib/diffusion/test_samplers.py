"""Every sampler against diffusers' and against the exact solution, from step 0 and part-way.

With data distributed as N(MEAN, STD^2), the perfect prediction of the noise is known in closed form, and so is the end
of the ODE: y(0) = MEAN + (y - MEAN) * STD / sqrt(STD^2 + sigma^2).
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from lib import deforum_request
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.diffusion.schedule import ALPHAS_CUMPROD, BETAS, SIGMAS, leading
from tests.lib.diffusion.compare import relative_error
from tests.lib.diffusion.stock import ANCESTRAL, SECOND_ORDER, our_run, stock_run

MEAN, STD = 0.4, 0.7
SHAPE = (1, 4, 16, 16)
LEADING = ("ddim", "plms")
DETERMINISTIC = [name for name in SAMPLERS if name not in ANCESTRAL]


def exact_slope(y: Tensor, sigma: float) -> Tensor:
    return sigma * (y - MEAN) / (STD**2 + sigma**2)


def exact_unet(x: Tensor, timestep: Tensor) -> Tensor:
    sigma = float(np.interp(float(timestep), np.arange(1000), SIGMAS))
    return exact_slope(x * (1 + sigma**2) ** 0.5, sigma)


def drawn(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return MEAN + STD * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("first_step", [0, 13, 33, 48, 49])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_the_one_of_diffusers(name: str, first_step: int) -> None:
    start = *drawn(), 50, first_step
    assert relative_error(our_run(name, exact_unet, *start), stock_run(name, exact_unet, *start)) < 1e-5


@pytest.mark.parametrize("name", SAMPLERS)
def test_from_noise_alone_a_sampler_is_the_one_of_diffusers(name: str) -> None:
    start = None, drawn()[1], 20, 0
    assert relative_error(our_run(name, exact_unet, *start), stock_run(name, exact_unet, *start)) < 1e-5


# The relative error of 50 steps from the noisiest level; multistep methods begin with a step of lower order.
BOUNDS = {"klms": 0.02, "euler": 0.05, "heun": 0.005, "dpm2": 0.02, "plms": 0.02, "ddim": 0.05}


@pytest.mark.parametrize("first_step", [0, 33])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_deterministic_sampler_ends_where_the_ode_does(name: str, first_step: int) -> None:
    sampler = Sampler(name, 50, first_step)
    start = sampler.add_noise(*drawn())
    first, *_, last = sampler.schedule.sigmas
    end = sampler.run(exact_slope, start) * (1 + last**2) ** 0.5
    exact = MEAN + (start - MEAN) * ((STD**2 + last**2) / (STD**2 + first**2)) ** 0.5
    assert relative_error(end, exact) < BOUNDS[name]


@pytest.mark.parametrize("first_step", [0, 330])
@pytest.mark.parametrize("name", ANCESTRAL)
def test_an_ancestral_sampler_ends_in_the_distribution_of_the_data(name: str, first_step: int) -> None:
    sampler = Sampler(name, 500, first_step)  # with fewer steps the first-order ones have a visible bias
    start = sampler.add_noise(*drawn((1, 4, 64, 64)))
    result = sampler.run(exact_slope, start, torch.Generator().manual_seed(1))
    assert result.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert result.std().item() == pytest.approx(STD, rel=0.03)
    quantiles = torch.quantile((result - MEAN) / STD, torch.tensor([0.05, 0.25, 0.75, 0.95]))
    torch.testing.assert_close(quantiles, torch.tensor([-1.645, -0.674, 0.674, 1.645]), atol=0.07, rtol=0)


@pytest.mark.parametrize("first_step", [0, 2, 4])
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_step_is_reported_after_its_evaluations(name: str, first_step: int) -> None:
    sampler = Sampler(name, 5, first_step)
    events: list[str] = []

    def model(y: Tensor, sigma: float) -> Tensor:
        events.append("evaluation")
        return exact_slope(y, sigma)

    sampler.run(model, sampler.add_noise(*drawn()), torch.Generator(), lambda: events.append("step"))
    counts = [1] * (5 - first_step)
    if name in SECOND_ORDER:  # the last step is of first order
        counts[:-1] = [2] * (len(counts) - 1)
    elif name == "plms" and len(counts) > 1:
        counts[0] = 2
    assert events == [event for count in counts for event in [*["evaluation"] * count, "step"]]


@pytest.mark.parametrize(("steps", "first_step"), [(0, 0), (1001, 0), (50, 50), (50, -1)])
def test_a_start_outside_the_schedule_is_an_error(steps: int, first_step: int) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Sampler("plms", steps, first_step)


def test_a_request_knows_the_samplers() -> None:
    assert set(deforum_request.SAMPLERS) == SAMPLERS.keys()


# Leading schedules of any length: diffusers' are wrong where 1000 is not a multiple of the steps.


def transferred(x: Tensor, timestep: int, target: int, epsilon: Tensor) -> Tensor:
    """Move x from one timestep to another, epsilon held: equation 9 of PNDM and 12 of DDIM."""
    now, then = ALPHAS_CUMPROD[timestep], ALPHAS_CUMPROD[target]
    x0 = (x - (1 - now) ** 0.5 * epsilon) / now**0.5
    moved: Tensor = then**0.5 * x0 + (1 - then) ** 0.5 * epsilon
    return moved


def published(name: str, x: Tensor, timesteps: list[int]) -> Tensor:
    """Run ddim or plms as their papers write them, on x = sqrt(abar) x0 + sqrt(1 - abar) noise."""
    epsilons: list[Tensor] = []
    for timestep, following in pairwise([*timesteps, 0]):
        epsilons = [exact_unet(x, torch.tensor(timestep)), *epsilons[:3]]
        epsilon = epsilons[0]
        if name == "plms" and len(epsilons) == 1 and len(timesteps) > 1:
            at_following = exact_unet(transferred(x, timestep, following, epsilon), torch.tensor(following))
            epsilon = (epsilon + at_following) / 2
        elif name == "plms":
            weights = {1: [1], 2: [3, -1], 3: [23, -16, 5], 4: [55, -59, 37, -9]}[len(epsilons)]
            epsilon = torch.stack([w * e for w, e in zip(weights, epsilons, strict=True)]).sum(0) / sum(weights)
        x = transferred(x, timestep, following, epsilon)
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 333, 501, 667, 999, 1000])
@pytest.mark.parametrize("name", LEADING)
def test_with_any_number_of_steps_ddim_and_plms_are_the_published_ones(name: str, steps: int) -> None:
    latents, noise = (some.double() for some in drawn((1, 4, 4, 4)))
    for first_step in {0, steps // 2, steps - 1}:
        timesteps = [int(timestep) for timestep in leading(steps).timesteps[first_step:]]
        abar = ALPHAS_CUMPROD[timesteps[0]]
        expected = published(name, abar**0.5 * latents + (1 - abar) ** 0.5 * noise, timesteps)
        assert relative_error(our_run(name, exact_unet, latents, noise, steps, first_step), expected) < 1e-9


@pytest.mark.parametrize("steps", [n for n in range(1, 1001) if 1000 % n == 0])
def test_leading_schedules_are_those_of_diffusers_where_1000_is_a_multiple_of_the_steps(steps: int) -> None:
    stock = DDIMScheduler(**BETAS, steps_offset=1 if steps < 1000 else 0)  # one more would be beyond timestep 999
    stock.set_timesteps(steps)
    assert list(leading(steps).timesteps) == stock.timesteps.tolist()


def test_leading_schedules_fall_evenly_from_a_stride_below_the_end_to_the_first_timestep() -> None:
    for steps in range(1, 1001):
        timesteps = leading(steps).timesteps
        stride = 1000 / steps
        assert len(timesteps) == steps
        assert timesteps[-1] in (0, 1)
        assert timesteps[0] == min(round(1000 - stride) + 1, 999)
        strides = -np.diff(timesteps)
        assert (np.abs(strides - stride) <= 1).all()
        assert (strides > 0).all()
