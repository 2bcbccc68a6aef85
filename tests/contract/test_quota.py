"""A CPU quota, set for real as a container's engine does: as many threads compute as it has CPUs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
THREADS = "import torch; from lib.device import computing\nwith computing(): print(torch.get_num_threads())"


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """Make a cgroup with a quota of one CPU, version 2 or 1, whichever this machine has."""
    version_2 = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if version_2 else GROUPS / "cpu") / f"test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"this machine lets nobody make a cgroup: {error}")
    try:
        limits = {"cpu.max": f"{PERIOD_US} {PERIOD_US}"} if version_2 else {"cpu.cfs_quota_us": str(PERIOD_US)}
        for name, value in limits.items():
            if not (group / name).exists():
                pytest.skip(f"this machine's cgroups have no {name}")
            (group / name).write_text(value, encoding="utf-8")
        yield group
    finally:
        group.rmdir()


def threads(before: str = "") -> int:
    """Return how many threads a run computes on, in a process that first runs a line of shell."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = ["/bin/bash", "-c", f'{before}\nexec "$0" -c "$1"', sys.executable, THREADS]
    return int(subprocess.check_output(command, env=environment, text=True))


def test_a_run_computes_on_as_many_threads_as_its_quota_has_cpus(one_cpu: Path) -> None:
    assert threads(f"echo $$ >{one_cpu}/cgroup.procs") == 1
    assert threads(f"taskset -cp {min(os.sched_getaffinity(0))} $$ >/dev/null") == 1
    assert threads() <= len(os.sched_getaffinity(0))
