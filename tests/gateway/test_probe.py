"""What the containers' health checks say of a gateway and of a worker, both as they run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gateway.serve.processes import free_port
from tests.gateway.processes import FAKE, ROOT, System


def probe(*arguments: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "gateway.probe", *arguments]
    ended = subprocess.run(command, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True)
    return ended.returncode, ended.stderr


def test_a_gateway_is_well_while_it_answers(system: System) -> None:
    assert probe(GATEWAY_PORT=str(system.port)) == (0, "")
    code, said = probe(GATEWAY_PORT=str(free_port("127.0.0.1", 0)))
    assert code == 1
    assert said.startswith("the gateway doesn't answer: ")


def test_a_worker_is_well_while_it_touches_its_file(database_url: str, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    environment = {"GATEWAY_ALIVE_FILE": str(alive)}
    assert probe("worker", **environment)[0] == 1
    assert probe("worker") == (1, "GATEWAY_ALIVE_FILE is not set\n")
    command = [sys.executable, "-m", "gateway.work", "--queue", FAKE, "--cog-url", "http://127.0.0.1:9"]
    settings = {"GATEWAY_DATABASE_URL": database_url, "GATEWAY_FILES_URL": str(tmp_path / "files")}
    given = {**os.environ, **environment, **settings, "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True)
    try:
        assert worker.stderr is not None
        assert "working" in worker.stderr.readline()
        assert probe("worker", **environment) == (0, "")
        worker.send_signal(signal.SIGSTOP)  # as if its event loop hung
        long_ago = time.time() - 90
        os.utime(alive, (long_ago, long_ago))
        code, said = probe("worker", **environment)
        assert code == 1
        assert said.startswith("the worker has not touched its alive file for 9")
    finally:
        worker.send_signal(signal.SIGCONT)
        worker.terminate()
        worker.communicate()
    assert worker.returncode == 0
    assert not alive.exists()
