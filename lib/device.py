"""What hardware there is: device, number type, generators. The only place that asks."""

import ctypes
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

MAX_SEED = 2**32 - 1
OMP_PAUSE_SOFT = 1


def pick_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return the fastest type that is exact enough: float16 on CUDA, bfloat16 where the CPU computes in it."""
    if device.type == "cuda":
        return torch.float16
    # Without avx512_bf16 the same sums run in emulation, slower than in float32.
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def has_fast_attention(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether PyTorch's fused attention is as fast as the device's matrix products."""
    # For bfloat16 on a CPU its kernel has fast tiles only with AMX.
    return device.type != "cpu" or dtype != torch.bfloat16 or bool(torch.cpu.get_capabilities().get("amx_bf16"))


def generator(seed: int) -> torch.Generator:
    """Return a CPU generator for `seed`: drawn there, the same seed gives the same noise on every device.

    A seed counted up beyond 32 bits goes on from 0.
    """
    return torch.Generator("cpu").manual_seed(seed % (MAX_SEED + 1))


def unit_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Draw Gaussian noise of unit variance, float32, on `device`."""
    return torch.randn(*shape, generator=generator).to(device)


def draw_seed() -> int:
    """Return a fresh 32-bit seed."""
    return secrets.randbits(32)


@contextmanager
def computing() -> Iterator[None]:
    """Compute without gradients, and leave no threads behind."""
    try:
        with torch.inference_mode():
            yield
    finally:
        release_threads()


def release_threads() -> None:
    """End the threads that helped the calling one to compute; it gets new ones when it computes again.

    OpenMP gives helpers to every thread that computes, and keeps them. Cog sets up on one thread and runs each
    prediction on any of several others, so there would soon be more of them than cores, and GNU's library then lets
    them all sleep after each operation: small operations take twice as long.
    Source: OpenMP 5.0, omp_pause_resource_all.
    """
    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    if pause is not None:
        pause(OMP_PAUSE_SOFT)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_alive(device: torch.device) -> bool:
    """Say whether `device` can still compute, at once, whatever work it is busy with.

    Some errors (an illegal address, a failed assertion in a kernel) poison a process's CUDA context: every later call
    fails with the same error, and only a new process gets a new context. Running out of memory poisons nothing.
    """
    if device.type != "cuda":
        return True
    try:
        # cudaStreamQuery never waits: work under way makes it answer "not ready", a poisoned context its error.
        torch.cuda.current_stream(device).query()
    except RuntimeError:  # torch.AcceleratorError is one
        return False
    return True
