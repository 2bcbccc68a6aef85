import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lib.device import (
    computing,
    cpu_count,
    draw_seed,
    generator,
    has_fast_attention,
    is_alive,
    packing_pays,
    pick_device,
    pick_dtype,
    release_threads,
    synchronize,
    unit_noise,
)
from lib.errors import UserError
from lib.inputs import MAX_SEED

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (1, 4, 64, 64)  # the latents of a 512 x 512 picture
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_computing_has_no_gradients_and_leaves_no_threads() -> None:
    """Cog's server has a thread for each prediction, and OpenMP would keep helpers for each of them."""
    counts, go_on = [], threading.Event()

    def predict() -> None:
        before = tasks()
        with suppress(UserError), computing():
            matrix = torch.ones(2000, 2000, requires_grad=True)
            assert not (matrix @ matrix).requires_grad
            during = tasks()
            raise UserError("a prediction may fail")
        counts.append((during - before, tasks() - before))
        computed.set()
        go_on.wait()

    release_threads()  # those of the test's own thread
    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        computed = threading.Event()
        thread.start()
        assert computed.wait(300)
    go_on.set()
    for thread in threads:
        thread.join()
    assert counts == [(torch.get_num_threads() - 1, 0)] * 2


V2 = "0::/kubepods/pod7/box\n"
V1 = "5:memory:/docker/7\n4:cpu,cpuacct:/docker/7\n1:name=systemd:/docker/7\n0::/\n"
V2_GROUP, V1_GROUP = "sys/fs/cgroup/kubepods/pod7", "sys/fs/cgroup/cpu/docker/7"
CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        pytest.param("", {}, CPUS, id="no cgroups"),
        pytest.param(V2, {f"{V2_GROUP}/box/cpu.max": "max 100000\n"}, CPUS, id="v2, no quota"),
        pytest.param(V2, {f"{V2_GROUP}/cpu.max": "50000 50000\n"}, 1, id="v2, the parent group"),
        pytest.param("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1, id="v2, in a container of 1.5 CPUs"),
        pytest.param(V2, {f"{V2_GROUP}/box/cpu.max": "20000 100000\n"}, 1, id="v2, a fifth of a CPU"),
        pytest.param(V2, {f"{V2_GROUP}/box/cpu.max": "6400000 100000\n"}, CPUS, id="v2, more than the machine has"),
        pytest.param(V1, {f"{V1_GROUP}/cpu.cfs_quota_us": "-1\n"}, CPUS, id="v1, no quota"),
        pytest.param(V1, {f"{V1_GROUP}/cpu.cfs_quota_us": "199999\n"}, min(CPUS, 1), id="v1"),
        pytest.param(V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n"}, 1, id="v1, in a container"),
    ],
)
def test_the_number_of_cpus_is_limited_by_the_cgroup(
    tmp_path: Path, groups: str, files: dict[str, str], count: int
) -> None:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        if name.endswith("quota_us"):
            (tmp_path / name).with_name("cpu.cfs_period_us").write_text("100000\n")
    assert cpu_count(tmp_path) == count


def test_a_process_on_one_cpu_computes_on_one_thread() -> None:
    program = """
import os, torch
from concurrent.futures import ThreadPoolExecutor
from lib.device import computing, limit_threads
def used():
    with computing():
        (torch.ones(500, 500) @ torch.ones(500, 500)).sum()
        return torch.get_num_threads()
before = torch.get_num_threads()
limit_threads()
assert torch.get_num_threads() == min(before, len(os.sched_getaffinity(0)))
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
limit_threads()
with ThreadPoolExecutor(1) as pool:
    print(used(), pool.submit(used).result())
"""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["1", "1"], run.stderr


def test_the_selected_device_works() -> None:
    device = pick_device()
    total = torch.ones(3, device=device).sum()
    synchronize(device)
    assert total.item() == 3
    assert is_alive(device)


@pytest.mark.parametrize(
    ("device", "has", "dtype", "fast_attention", "packed"),
    [
        (CPU, set(), torch.float32, True, []),
        (CPU, {"avx512_bf16"}, torch.bfloat16, False, ["unet"]),
        (CPU, {"avx512_bf16", "amx_bf16"}, torch.bfloat16, True, ["unet", "vae"]),
        (CUDA, {"amx_bf16"}, torch.float16, True, []),
    ],
)
def test_the_processor_decides_type_attention_and_packing(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    has: set[str],
    dtype: torch.dtype,
    fast_attention: bool,
    packed: list[str],
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: dict.fromkeys(has, True))
    assert pick_dtype(device) == dtype
    assert has_fast_attention(device, dtype) == fast_attention
    assert [part for part in ("unet", "vae") if packing_pays(part, device, dtype)] == packed


def test_the_capabilities_of_this_cpu_are_those_that_linux_reports() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert (pick_dtype(CPU) == torch.bfloat16) == ("avx512_bf16" in flags)


def test_a_seed_gives_the_noise_that_it_always_gave() -> None:
    """Seeds that users saved keep their meaning. These are PyTorch's values for seed 0."""
    before, source = torch.get_rng_state(), generator(0)
    noise, following = (unit_noise(SHAPE, source, CPU) for _ in range(2))
    assert (noise.shape, noise.dtype, noise.device) == (SHAPE, torch.float32, CPU)
    assert noise.flatten()[:4].tolist() == pytest.approx([-1.1258, -1.1524, -0.2506, -0.4339], abs=5e-5)
    assert noise.var().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(noise, following)
    assert not torch.equal(noise, unit_noise(SHAPE, generator(MAX_SEED), CPU))
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is not used


def test_drawn_seeds_are_random_32_bit_numbers() -> None:
    seeds = [draw_seed() for _ in range(100)]
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) > MAX_SEED // 2 > min(seeds)


class Stream:
    """A substitute for a CUDA stream, for machines without a GPU."""

    def __init__(self, answer: bool | Exception) -> None:
        self.answer = answer

    def query(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


POISONED = "CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        pytest.param(True, True, id="idle"),
        pytest.param(False, True, id="busy"),
        pytest.param(torch.AcceleratorError(POISONED), False, id="poisoned"),
        pytest.param(RuntimeError("CUDA driver initialization failed"), False, id="lost"),
    ],
)
def test_a_gpu_is_alive_until_a_query_fails(
    monkeypatch: pytest.MonkeyPatch, answer: bool | Exception, alive: bool
) -> None:
    monkeypatch.setattr("torch.cuda.current_stream", lambda _device: Stream(answer))
    assert is_alive(CUDA) == alive


@needs_gpu
def test_a_failed_assertion_in_a_kernel_breaks_the_process_for_good() -> None:
    """Run in its own process, and query from another thread, as Cog's server does."""
    program = """
import torch
from concurrent.futures import ThreadPoolExecutor
from lib.device import is_alive, synchronize
device = torch.device("cuda")
table, index = torch.zeros(4, device=device), torch.tensor([99], device=device)
alive = [is_alive(device)]
try:
    table[index] += 1
    synchronize(device)
except RuntimeError:
    pass
for _ in range(2):
    with ThreadPoolExecutor(1) as pool:
        alive.append(pool.submit(is_alive, device).result())
print(alive)
"""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[True, False, False]", run.stderr
