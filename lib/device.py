"""What hardware there is: device, number type, generators. The only place that asks."""

import ctypes
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import torch

from lib.inputs import MAX_SEED

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


def packing_pays(part: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether packed weights (lib/diffusion/packed.py) make a part faster: the "unet" or the "vae".

    In bfloat16 they make a UNet's evaluation faster, with AMX or with AVX512-BF16 alone; a VAE they make slower where
    there is no AMX. In float32 they gain a UNet 3 %: not worth operators that PyTorch may take away. docs/cpu.md has
    what was measured.
    """
    computes_in_bfloat16 = device.type == "cpu" and dtype == torch.bfloat16
    return computes_in_bfloat16 and (part == "unet" or bool(torch.cpu.get_capabilities().get("amx_bf16")))


def generator(seed: int) -> torch.Generator:
    """Return a CPU generator for `seed`: drawn there, the same seed gives the same noise on every device.

    What is made from the noise is equal on the same machine with the same number of threads only: with another number,
    PyTorch's GroupNorm adds up a single picture in other parts, so the VAE rounds differently.

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
    """Compute without gradients, on as many threads as there are CPUs for, and leave none behind."""
    limit_threads()  # for each run anew: a quota can change, and OpenMP counts for each thread on its own
    try:
        with torch.inference_mode():
            yield
    finally:
        release_threads()


def limit_threads() -> None:
    """Compute on no more threads than this process has CPUs; without limits PyTorch's own number stays."""
    if (count := cpu_count()) < torch.get_num_threads():  # said without need, it starts threads that stay
        torch.set_num_threads(count)


def cpu_count(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use at once: those of its affinity, fewer if its cgroup has a quota.

    A quota of one CPU on a machine of two lets two threads run for half of each tenth of a second, and then holds both
    up, often one while the other waits for it: PyTorch was 2.6 times slower with two than with one. So what is left
    over of 1.5 CPUs goes to the threads that do not compute. `root` is where /proc and /sys are.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(cpus, int(min(_cpu_quotas(root), default=cpus))))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each cgroup that this process is in, in CPUs.

    A process is also in the groups around its own. In a container its path may be that of the host, and what is
    mounted is its own group: that is then found where the outermost would be.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), https://docs.kernel.org/scheduler/sched-bwc.html
    """
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            name = group.relative_to("/")
            if not controllers:
                limit = _text(mounted / name / "cpu.max").split()
            elif "cpu" in controllers.split(","):
                folder = mounted / "cpu" / name
                limit = [_text(folder / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
            else:
                continue
            if len(limit) == 2 and limit[0].isdecimal():  # "max" and "-1" are none
                yield int(limit[0]) / int(limit[1])


def _text(path: Path) -> str:
    """Return the content of a file, nothing if it is not there."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


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
