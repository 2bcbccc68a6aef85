"""The published sampling algorithms, written out in float64 for comparison.

y is the sample in the variance-exploding form of Karras et al. (2022, arXiv:2206.00364): y = x0 + sigma * noise;
x = y / sqrt(1 + sigma^2) is what the model sees. `model(x, t)` returns epsilon = dy/dsigma.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]
Model = Callable[[Array, float], Array]
Draw = Callable[[], Array]

TRAIN_STEPS = 1000
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS) ** 2
ALPHAS_CUMPROD = np.cumprod(1 - BETAS)
SIGMAS = np.sqrt(1 / ALPHAS_CUMPROD - 1)


def sigma_of(t: float) -> float:
    return float(np.interp(t, np.arange(TRAIN_STEPS), SIGMAS))


def t_of(sigma: float) -> float:
    """k-diffusion's inverse of the schedule, linear in log sigma."""
    return float(np.interp(np.log(sigma), np.log(SIGMAS), np.arange(TRAIN_STEPS)))


def linspace_schedule(steps: int) -> Array:
    """Sigmas (steps + 1,) at evenly spaced timesteps, and 0 at the end."""
    return np.append([sigma_of(t) for t in np.linspace(TRAIN_STEPS - 1, 0, steps)], 0.0)


def ancestral_split(sigma: float, following: float, eta: float = 1.0) -> tuple[float, float]:
    """Return (sigma_down, sigma_up): deterministic descent, then fresh noise up to `following`."""
    up = min(following, eta * (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5)
    return (following**2 - up**2) ** 0.5, up


def slope(model: Model, y: Array, sigma: float, t: float | None = None) -> Array:
    return model(y / (1 + sigma**2) ** 0.5, t_of(sigma) if t is None else t)


def run_sigma(name: str, model: Model, y: Array, steps: int, first_step: int, draw: Draw) -> Array:
    """Run one of the samplers that go by sigma."""
    sigmas = linspace_schedule(steps)[first_step:]
    times = np.linspace(TRAIN_STEPS - 1, 0, steps)[first_step:]
    slopes: list[Array] = []
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        d = slope(model, y, sigma, times[i])
        slopes.append(d)
        down, up = ancestral_split(sigma, following) if "ancestral" in name else (following, 0.0)
        noise = draw() if "ancestral" in name else 0.0
        if name == "klms":
            y = y + multistep(sigmas, i, slopes[-4:])
        elif name in ("euler", "euler_ancestral") or down == 0:
            y = y + d * (down - sigma) + noise * up
        elif name == "heun":  # Karras et al., algorithm 1
            predicted = y + d * (following - sigma)
            y = y + (d + slope(model, predicted, following, times[i + 1])) / 2 * (following - sigma)
        else:  # DPM-Solver-2 (arXiv:2206.00927) with the middle in log sigma
            middle = (sigma * down) ** 0.5
            at_middle = slope(model, y + d * (middle - sigma), middle)
            y = y + at_middle * (down - sigma) + noise * up
    return y


def multistep(sigmas: Array, i: int, slopes: list[Array]) -> Array:
    """Integrate the polynomial through the latest slopes from sigma_i to sigma_i+1 (Adams-Bashforth)."""
    nodes = [sigmas[i - j] for j in range(len(slopes))]
    total = np.zeros_like(slopes[0])
    for j, node in enumerate(nodes):
        basis = Polynomial([1.0])
        for other in (n for k, n in enumerate(nodes) if k != j):
            basis *= Polynomial([-other, 1.0]) / (node - other)
        integral = basis.integ()
        total += (integral(sigmas[i + 1]) - integral(sigmas[i])) * slopes[-1 - j]
    return total


def run_timesteps(name: str, model: Model, x: Array, steps: int, first_step: int) -> Array:
    """Run ddim (arXiv:2010.02502, eta 0) or plms (arXiv:2202.09778) on x = sqrt(abar) x0 + sqrt(1 - abar) noise."""
    epsilons: list[Array] = []
    for t, following in pairwise([*leading_schedule(steps)[first_step:], -1]):
        epsilon = model(x, t)
        epsilons = [*epsilons[-3:], epsilon]
        if name == "plms":
            epsilon = pseudo_multistep(model, x, t, following, epsilons)
        x = transfer(x, t, following, epsilon)
    return x


def leading_schedule(steps: int) -> list[int]:
    """Timesteps at the whole numbers nearest to i * 1000 / steps; all one more if there is room."""
    spread = [int(np.rint(i * TRAIN_STEPS / steps)) for i in reversed(range(steps))]
    return [t + (spread[0] < TRAIN_STEPS - 1) for t in spread]


def pseudo_multistep(model: Model, x: Array, t: int, following: int, epsilons: list[Array]) -> Array:
    latest = epsilons[::-1]
    if len(latest) == 1:
        if following < 0:
            return latest[0]  # a single step has no second timestep for the corrector
        return (latest[0] + model(transfer(x, t, following, latest[0]), following)) / 2
    weights = {2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}[len(latest)]
    blended: Array = np.average(latest, axis=0, weights=weights)
    return blended


def transfer(x: Array, t: int, target: int, epsilon: Array) -> Array:
    """Move x from t to target, epsilon held (equation 9 of PNDM, 12 of DDIM); below 0 lies timestep 0."""
    now, then = ALPHAS_CUMPROD[t], ALPHAS_CUMPROD[max(target, 0)]
    x0 = (x - (1 - now) ** 0.5 * epsilon) / now**0.5
    moved: Array = then**0.5 * x0 + (1 - then) ** 0.5 * epsilon
    return moved
