"""Ways to evaluate the UNet with guidance: their duration, in turns with ours, and their error against float32."""

import gc
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import full_size
from lib.diffusion.models import load
from lib.weights import SMALL

TIMESTEPS = (981, 501, 21)  # near the start, the middle and the end of a run
CPU = torch.device("cpu")
PROMPT_TOKENS = 77
OPENVINO_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}

Evaluate = Callable[[int], Tensor]  # a timestep -> epsilon, float32
Way = Callable[[], AbstractContextManager[Evaluate]]


@dataclass(frozen=True)
class Weights:
    """The size of the UNet, and the type of its weights, which are the same for every way."""

    small: bool
    dtype: torch.dtype

    def unet(self, dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format) -> Any:
        """Return the UNet, not packed, for computing in `dtype`."""
        unet = load(SMALL / "riffusion", CPU, self.dtype, packed=False).unet if self.small else None
        return full_size.cast(unet or full_size.unet(CPU, self.dtype), dtype, memory_format)


@dataclass(frozen=True)
class Given:
    """The inputs of an evaluation: latents (2, channels, height, width), prompts (2, tokens, channels), float32."""

    latents: Tensor
    prompts: Tensor

    @classmethod
    def drawn(cls, config: Any) -> "Given":
        """Draw random inputs for a UNet of this configuration and a picture of 512 x 512 pixels."""
        source, side = torch.Generator().manual_seed(0), config.sample_size
        latents = torch.randn((1, config.in_channels, side, side), generator=source).repeat(2, 1, 1, 1)
        return cls(latents, torch.randn((2, PROMPT_TOKENS, config.cross_attention_dim), generator=source))


@dataclass(frozen=True)
class Spent:
    """The duration of an evaluation, and the CPU time of all threads, which other processes affect less."""

    elapsed_s: float
    cpu_s: float


@dataclass(frozen=True)
class Compared:
    """A way compared with ours, in turns."""

    its: Spent
    ours: Spent
    errors: Sequence[float]  # relative to float32, at each of TIMESTEPS

    @property
    def to_ours(self) -> float:
        """The ratio of its CPU time to ours."""
        return self.its.cpu_s / self.ours.cpu_s


def compare(ours: Evaluate, way: Way, exact: Sequence[Tensor]) -> Compared:
    """Evaluate a way and ours in turns, at each timestep."""
    with way() as evaluate:
        its_runs, our_runs = [], []  # the first may include preparation; the median ignores it
        for timestep in TIMESTEPS:
            its_runs.append(timed(evaluate, timestep))
            our_runs.append(timed(ours, timestep))
    del evaluate
    gc.collect()  # the next way needs the memory
    results = {timestep: result for timestep, (result, _) in zip(TIMESTEPS, its_runs, strict=True)}
    its, our = (median([spent for _, spent in runs]) for runs in (its_runs, our_runs))
    return Compared(its, our, errors(results.__getitem__, exact))


def errors(evaluate: Evaluate, exact: Sequence[Tensor]) -> list[float]:
    """Return the error at each of TIMESTEPS."""
    return [relative_error(evaluate(timestep), its_exact) for timestep, its_exact in zip(TIMESTEPS, exact, strict=True)]


def timed(evaluate: Evaluate, timestep: int) -> tuple[Tensor, Spent]:
    """Return the result of an evaluation and its duration."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    result = evaluate(timestep)
    return result, Spent(time.perf_counter() - start_s, time.process_time() - start_cpu_s)


def median(runs: Sequence[Spent]) -> Spent:
    """Return the median durations of several evaluations."""
    return Spent(statistics.median(run.elapsed_s for run in runs), statistics.median(run.cpu_s for run in runs))


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference relative to that of the exact result."""
    return float(torch.linalg.vector_norm(result - exact) / torch.linalg.vector_norm(exact))


def by_pytorch(
    unet: Any, given: Given, dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> Evaluate:
    """Return a function that evaluates a UNet in `dtype`."""
    latents, prompts = given.latents.to(dtype).contiguous(memory_format=memory_format), given.prompts.to(dtype)

    @torch.inference_mode()
    def evaluate(timestep: int) -> Tensor:
        epsilon: Tensor = unet(latents, torch.tensor(timestep), encoder_hidden_states=prompts, return_dict=False)[0]
        return epsilon.float()

    return evaluate


@contextmanager
def diffusers(weights: Weights, given: Given, dtype: torch.dtype) -> Iterator[Evaluate]:
    """Provide the evaluation by diffusers in `dtype`, with its default contiguous layout."""
    yield by_pytorch(weights.unet(dtype), given, dtype)


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


@contextmanager
def openvino_ir(weights: Weights) -> Iterator[Path]:
    """Convert the UNet for OpenVINO in a separate process, which takes 9 GB, and provide the file."""
    with tempfile.TemporaryDirectory() as folder:
        convert = [sys.executable, "-W", "ignore", "-m", "bench.diffusion.openvino_ir", folder]
        size = ["--small"] if weights.small else []
        subprocess.run([*convert, OPENVINO_TYPES[weights.dtype], *size], check=True, stdout=subprocess.DEVNULL)
        yield Path(folder) / "unet.xml"


@contextmanager
def openvino(model: Path, given: Given, dtype: torch.dtype) -> Iterator[Evaluate]:
    """Provide the evaluation by OpenVINO in `dtype`."""
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": OPENVINO_TYPES[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.Core().compile_model(model, "CPU", settings)

    def evaluate(timestep: int) -> Tensor:
        epsilon = compiled([given.latents.numpy(), torch.tensor(timestep).numpy(), given.prompts.numpy()])[0]
        return torch.from_numpy(epsilon).float().clone()

    yield evaluate
