"""A CPU quota, set as a container engine sets it: a run uses as many threads as the quota has CPUs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import ROOT

GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
# Without a limit, on one CPU of its affinity, with a quota; in one process, since importing torch takes seconds.
PROGRAM = """
import os, sys
from pathlib import Path
import torch
from lib.device import computing

def threads():
    with computing():
        return torch.get_num_threads()

found = [threads()]
cpus = os.sched_getaffinity(0)
os.sched_setaffinity(0, [min(cpus)])
found.append(threads())
os.sched_setaffinity(0, cpus)
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
found.append(threads())
print(*found)
"""


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """Create a cgroup with a quota of one CPU, of version 2 or 1."""
    version_2 = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if version_2 else GROUPS / "cpu") / f"test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"this machine allows no new cgroup: {error}")
    try:
        limits = {"cpu.max": f"{PERIOD_US} {PERIOD_US}"} if version_2 else {"cpu.cfs_quota_us": str(PERIOD_US)}
        for name, value in limits.items():
            if not (group / name).exists():
                pytest.skip(f"the cgroups of this machine have no {name}")
            (group / name).write_text(value, encoding="utf-8")
        yield group
    finally:
        group.rmdir()


def test_a_run_uses_as_many_threads_as_its_quota_has_cpus(one_cpu: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    found = subprocess.check_output([sys.executable, "-c", PROGRAM, str(one_cpu)], env=environment, text=True)
    unlimited, on_one_cpu, with_quota = map(int, found.split())
    assert unlimited <= len(os.sched_getaffinity(0))
    assert with_quota == on_one_cpu == 1
