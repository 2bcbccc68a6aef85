"""A training loop that is deterministic, shows its progress, and continues where it was interrupted."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib.device import pick_dtype
from lib.outputs import whole

CHECKPOINT_EVERY_S = 120
LOSS_SMOOTHING = 0.98  # of the loss that the bar shows
BETAS = (0.9, 0.99)
LARGEST_GRADIENT = 1.0  # the norm that larger gradients are clipped to


@dataclass(frozen=True)
class Recipe:
    """A training's length and rate: AdamW with a linear warm-up and a cosine decay to zero."""

    steps: int
    learning_rate: float
    warmup_steps: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.999  # of the averaged weights, which are kept


def train(
    module: nn.Module,
    loss_of: Callable[[int], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> None:
    """Train `module`, which ends with its averaged weights.

    `loss_of` returns the loss of a step. It must draw all randomness from the step's number, so that a training that
    continues from its checkpoint gives the same result as an uninterrupted one.
    """
    optimizer = torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, betas=BETAS, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    average = copy.deepcopy(module).requires_grad_(False)
    parts: dict[str, Any] = {"module": module, "optimizer": optimizer, "schedule": schedule, "average": average}
    first = _restore(checkpoint, parts) if checkpoint.exists() else 0
    saved, smooth = time.monotonic(), None
    for step in (bar := tqdm(range(first, recipe.steps), checkpoint.stem, recipe.steps, initial=first)):
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            decay = min(recipe.ema_decay, (1 + step) / (10 + step))  # so the first weights are soon forgotten
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
        value = loss.item()
        smooth = value if smooth is None else LOSS_SMOOTHING * smooth + (1 - LOSS_SMOOTHING) * value
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if time.monotonic() - saved > checkpoint_every_s or step == recipe.steps - 1:
            _save(checkpoint, parts, step + 1)
            saved = time.monotonic()
    module.load_state_dict(average.state_dict())


def _rate(step: int, recipe: Recipe) -> float:
    warmup = min(1.0, (step + 1) / recipe.warmup_steps)
    return warmup * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _save(checkpoint: Path, parts: dict[str, Any], step: int) -> None:
    with whole(checkpoint) as unfinished:
        torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, unfinished)


def _restore(checkpoint: Path, parts: dict[str, Any]) -> int:
    state = torch.load(checkpoint, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def mixed_precision() -> torch.autocast:
    """Compute in bfloat16 where the CPU does so in hardware, three times as fast; in float32 elsewhere."""
    dtype = pick_dtype(torch.device("cpu"))
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def generator(*seeds: int) -> torch.Generator:
    """Return a generator that is seeded by several numbers."""
    seed = 0
    for number in seeds:
        seed = (seed * 1_000_003 + number) % 2**63
    return torch.Generator().manual_seed(seed)
