"""The hardware: device, number type, threads, random generators. No other module asks about it."""

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
    """Return the fastest type that is precise enough: float16 on CUDA, bfloat16 on CPUs that support it."""
    if device.type == "cuda":
        return torch.float16
    # Without avx512_bf16, bfloat16 is emulated and slower than float32.
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def has_fast_attention(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether PyTorch's fused attention is as fast as the device's matrix products."""
    # Its bfloat16 kernel for CPUs is fast only with AMX.
    return device.type != "cpu" or dtype != torch.bfloat16 or bool(torch.cpu.get_capabilities().get("amx_bf16"))


def packing_pays(part: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether packed weights (lib/diffusion/packed.py) make the "unet" or the "vae" faster.

    In bfloat16 they make the UNet faster, with AMX or with AVX512-BF16 alone. The VAE they make slower unless there is
    AMX. In float32 the UNet gains only 3 %, which doesn't justify operators that PyTorch may remove. docs/cpu.md has
    the measurements.
    """
    computes_in_bfloat16 = device.type == "cpu" and dtype == torch.bfloat16
    return computes_in_bfloat16 and (part == "unet" or bool(torch.cpu.get_capabilities().get("amx_bf16")))


def generator(seed: int) -> torch.Generator:
    """Return a generator for `seed`, on the CPU so that a seed gives the same noise on every device.

    Results made from that noise are identical only on the same machine with the same number of threads: PyTorch's
    GroupNorm splits its sums by threads, so the VAE rounds differently. Seeds above 32 bits wrap around to 0.
    """
    return torch.Generator("cpu").manual_seed(seed % (MAX_SEED + 1))


def unit_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Draw Gaussian noise of unit variance, float32, on `device`."""
    return torch.randn(*shape, generator=generator).to(device)


def draw_seed() -> int:
    """Return a random 32-bit seed."""
    return secrets.randbits(32)


@contextmanager
def computing() -> Iterator[None]:
    """Compute without gradients, on as many threads as there are CPUs, and release the threads at the end."""
    limit_threads()  # in each run, because a quota can change, and OpenMP counts separately for each calling thread
    try:
        with torch.inference_mode():
            yield
    finally:
        release_threads()


def limit_threads() -> None:
    """Use no more threads than this process has CPUs. Fewer, such as OMP_NUM_THREADS sets, stay as they are."""
    if (count := cpu_count()) < torch.get_num_threads():  # an unnecessary call would start threads that stay
        torch.set_num_threads(count)


def cpu_count(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use: those of its affinity, or fewer if its cgroup has a quota.

    With a quota of one CPU on a machine of two, two threads would run for half of each tenth of a second and then both
    be suspended, often while one waits for the other. PyTorch was 2.6 times slower with two threads than with one. For
    that reason 1.5 CPUs count as one; the threads that don't compute get the rest. `root` is the folder of /proc and
    /sys.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(cpus, int(min(_cpu_quotas(root), default=cpus))))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of each cgroup that contains this process.

    A cgroup is limited by all its parents too. In a container the path may be the host's, while the container's own
    cgroup is mounted in the place of the root cgroup, so that is where its limit is found.
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
            if len(limit) == 2 and limit[0].isdecimal():  # "max" and "-1" mean no limit
                yield int(limit[0]) / int(limit[1])


def _text(path: Path) -> str:
    """Return the content of a file, or nothing if it doesn't exist."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def release_threads() -> None:
    """Stop the OpenMP threads that helped the calling thread. It gets new ones when it computes again.

    OpenMP gives its own helpers to every thread that computes, and keeps them. Cog runs setup on one thread and each
    prediction on one of several others, so there would soon be more helpers than cores. GNU's OpenMP then puts them all
    to sleep after each operation, and small operations take twice as long.
    Source: OpenMP 5.0, omp_pause_resource_all.
    """
    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    if pause is not None:
        pause(OMP_PAUSE_SOFT)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has finished its work, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_alive(device: torch.device) -> bool:
    """Return whether `device` can still compute, without waiting for the work it is doing.

    Some errors (an illegal address, a failed assertion in a kernel) break a process's CUDA context: every later call
    fails with the same error, and only a new process gets a new context. Running out of memory does not.
    """
    if device.type != "cuda":
        return True
    try:
        # cudaStreamQuery returns at once: "not ready" while there is work, or the error that broke the context.
        torch.cuda.current_stream(device).query()
    except RuntimeError:  # torch.AcceleratorError is a RuntimeError
        return False
    return True
