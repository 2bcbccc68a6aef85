"""What the containers' health checks say about a gateway and a worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway import probe
from gateway.serve.processes import free_port
from tests.gateway.processes import ROOT, System


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the health check as a container does, and return its exit status and message."""
    command = [sys.executable, "-m", "gateway.probe", *arguments]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_gateway_is_healthy_if_it_answers(system: System) -> None:
    assert run(GATEWAY_PORT=str(system.port)) == (0, "")
    problem = probe.gateway({"GATEWAY_PORT": str(free_port())})
    assert problem is not None
    assert problem.startswith("the gateway doesn't answer: ")


@pytest.mark.parametrize(
    ("age_s", "problem"),
    [
        (0, None),
        (95, "the worker has not touched its alive file for 9"),
        (None, "the worker has no alive file: "),
    ],
)
def test_a_worker_is_healthy_if_it_has_touched_its_file(tmp_path: Path, age_s: float | None, problem: str) -> None:
    alive = tmp_path / "alive"
    if age_s is not None:
        alive.touch()
        os.utime(alive, (time.time() - age_s,) * 2)
    found = probe.worker({"GATEWAY_ALIVE_FILE": str(alive)})
    assert found is None if problem is None else found is not None and found.startswith(problem)


def test_a_probe_that_fails_exits_with_1_and_a_message() -> None:
    assert run("worker") == (1, "GATEWAY_ALIVE_FILE is not set\n")
