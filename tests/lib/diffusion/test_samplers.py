"""Every sampler against its published algorithm and against the exact solution, from step 0 and part-way.

With data distributed as N(MEAN, STD^2), the perfect epsilon model is known in closed form, and so is the end point of
the ODE: y(0) = MEAN + (y - MEAN) * STD / sqrt(STD^2 + sigma^2).
"""

from typing import TypeVar

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from torch import Tensor

from lib import deforum_request
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.diffusion.timesteps import BETAS, leading
from tests.lib.diffusion.compare import relative_error
from tests.lib.diffusion.reference_samplers import ALPHAS_CUMPROD, SIGMAS, Array, run_sigma, run_timesteps, sigma_of

MEAN, STD = 0.4, 0.7
SHAPE = (1, 4, 64, 64)
BY_TIMESTEP = ("ddim", "plms")
ANCESTRAL = [name for name, method in SAMPLERS.items() if method.is_ancestral]
DETERMINISTIC = [name for name in SAMPLERS if name not in ANCESTRAL]


Latents = TypeVar("Latents", Array, Tensor)


def exact_epsilon(x: Latents, t: float | Tensor) -> Latents:
    abar = 1 / (1 + sigma_of(float(t)) ** 2)
    epsilon: Latents = (1 - abar) ** 0.5 * (x - abar**0.5 * MEAN) / (abar * STD**2 + 1 - abar)
    return epsilon


def start(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return MEAN + STD * torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)


def run(name: str, steps: int, first_step: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return where the sampler starts and where it ends, as it gives them."""
    latents, noise = start(seed)
    sampler = Sampler(name, steps, first_step)
    begun = sampler.add_noise(latents, noise)
    return begun, sampler.run(exact_epsilon, begun, torch.Generator().manual_seed(seed + 1))


def published(name: str, begun: Tensor, steps: int, first_step: int, seed: int = 0) -> Array:
    y = begun.double().numpy()
    if name in BY_TIMESTEP:
        return run_timesteps(name, exact_epsilon, y, steps, first_step)
    generator = torch.Generator().manual_seed(seed + 1)
    return run_sigma(
        name, exact_epsilon, y, steps, first_step, lambda: torch.randn(SHAPE, generator=generator).double().numpy()
    )


@pytest.mark.parametrize("first_step", [0, 13, 33, 48, 49])
@pytest.mark.parametrize("name", SAMPLERS)
def test_equals_its_published_algorithm(name: str, first_step: int) -> None:
    begun, result = run(name, 50, first_step)
    assert relative_error(result, published(name, begun, 50, first_step)) < 5e-5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("first_step", [0, 33])
def test_noise_is_added_at_the_timestep_of_the_start(name: str, first_step: int) -> None:
    latents, noise = start()
    sampler = Sampler(name, 50, first_step)
    sigma = sigma_of(float(sampler.timesteps[0]))
    expected = latents + sigma * noise
    if name in BY_TIMESTEP:
        expected = expected / (1 + sigma**2) ** 0.5
    torch.testing.assert_close(sampler.add_noise(latents, noise), expected, rtol=1e-5, atol=1e-5)


# The relative error of 50 steps from the noisiest level; the multistep ones start with a step of lower order.
BOUNDS = {"klms": 0.02, "euler": 0.05, "heun": 0.005, "dpm2": 0.02, "plms": 0.02, "ddim": 0.05}


@pytest.mark.parametrize("first_step", [0, 33])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_ends_where_the_ode_does(name: str, first_step: int) -> None:
    begun, result = run(name, 50, first_step)
    first_sigma = sigma_of(float(Sampler(name, 50, first_step).timesteps[0]))
    last_sigma = float(SIGMAS[0]) if name in BY_TIMESTEP else 0.0
    y, y_end = begun.double().numpy(), np.asarray(result, dtype=np.float64)
    if name in BY_TIMESTEP:
        y, y_end = y * (1 + first_sigma**2) ** 0.5, y_end / ALPHAS_CUMPROD[0] ** 0.5
    exact = MEAN + (y - MEAN) * ((STD**2 + last_sigma**2) / (STD**2 + first_sigma**2)) ** 0.5
    assert relative_error(y_end, exact) < BOUNDS[name]


@pytest.mark.parametrize("first_step", [0, 330])
@pytest.mark.parametrize("name", ANCESTRAL)
def test_ancestral_samplers_end_in_the_data_distribution(name: str, first_step: int) -> None:
    _, result = run(name, 500, first_step)  # with fewer, the first-order ones are visibly biased
    assert result.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert result.std().item() == pytest.approx(STD, rel=0.03)
    quantiles = torch.quantile((result - MEAN) / STD, torch.tensor([0.05, 0.25, 0.75, 0.95]))
    torch.testing.assert_close(quantiles, torch.tensor([-1.645, -0.674, 0.674, 1.645]), atol=0.07, rtol=0)


@pytest.mark.parametrize("name", ANCESTRAL)
def test_ancestral_noise_comes_from_the_generator(name: str) -> None:
    latents, noise = start()
    ends = []
    for seed in (1, 1, 2):
        sampler = Sampler(name, 10, 5)
        ends.append(sampler.run(exact_epsilon, sampler.add_noise(latents, noise), torch.Generator().manual_seed(seed)))
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2])


EVALUATIONS = {"heun": (99, 33), "dpm2": (99, 33), "dpm2_ancestral": (99, 33), "plms": (51, 18)}


@pytest.mark.parametrize("name", SAMPLERS)
def test_counts_of_evaluations(name: str) -> None:
    counts = len(Sampler(name, 50).timesteps), len(Sampler(name, 50, 33).timesteps)
    assert counts == EVALUATIONS.get(name, (50, 17))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 333, 501, 667, 999, 1000])
@pytest.mark.parametrize("name", BY_TIMESTEP)
def test_leading_schedules_of_any_length(name: str, steps: int) -> None:
    for first_step in {0, steps // 2, steps - 1}:
        begun, result = run(name, steps, first_step)
        assert relative_error(result, published(name, begun, steps, first_step)) < 2e-4


DIVISORS = [n for n in range(1, 1001) if 1000 % n == 0]


@pytest.mark.parametrize("steps", DIVISORS)
def test_leading_schedules_are_the_published_ones_where_there_are_whole_strides(steps: int) -> None:
    offset = 1 if steps < 1000 else 0  # one more would be beyond the last timestep
    stock = DDIMScheduler(**BETAS, steps_offset=offset)
    stock.set_timesteps(steps)
    assert Sampler("ddim", steps).timesteps.tolist() == stock.timesteps.tolist()
    pairs = PNDMScheduler(**BETAS, steps_offset=offset, skip_prk_steps=True)
    pairs.set_timesteps(steps)
    assert Sampler("plms", steps).timesteps.tolist() == pairs.timesteps.tolist()


def test_leading_schedules_begin_a_stride_below_the_end_and_fall_evenly_to_the_first_timestep() -> None:
    for steps in range(1, 1001):
        timesteps = leading(steps)
        stride = 1000 / steps
        assert len(timesteps) == steps
        assert timesteps[-1] in (0, 1)
        assert timesteps[0] == min(round(1000 - stride) + 1, 999)
        strides = -np.diff(timesteps)
        assert (np.abs(strides - stride) <= 1).all()
        assert (strides > 0).all()


def test_a_request_knows_the_samplers() -> None:
    assert set(deforum_request.SAMPLERS) == SAMPLERS.keys()


@pytest.mark.parametrize("name", SAMPLERS)
def test_runs_share_nothing(name: str) -> None:
    begun, undisturbed = run(name, 10, 3)

    def model_that_runs_another(x: Tensor, t: Tensor) -> Tensor:
        run(name, 10, 3, seed=5)
        return exact_epsilon(x, t)

    result = Sampler(name, 10, 3).run(model_that_runs_another, begun, torch.Generator().manual_seed(1))
    assert torch.equal(result, undisturbed)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("first_step", [0, 2, 4])
def test_every_step_is_reported_when_it_is_done(name: str, first_step: int) -> None:
    sampler = Sampler(name, 5, first_step)
    events: list[str] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        events.append("evaluation")
        return exact_epsilon(x, t)

    latents, noise = start()
    sampler.run(model, sampler.add_noise(latents, noise), torch.Generator(), lambda: events.append("step"))
    assert events.count("step") == sampler.steps == 5 - first_step
    assert events.count("evaluation") == len(sampler.timesteps)
    assert events[-1] == "step"
    first = events.index("step")
    assert first == (2 if name in EVALUATIONS and first_step < 4 else 1)


@pytest.mark.parametrize(("steps", "first_step"), [(0, 0), (1001, 0), (50, 50), (50, -1)])
def test_a_start_outside_the_schedule_is_refused(steps: int, first_step: int) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Sampler("plms", steps, first_step)
