"""The health check of a container, which tells whether it must be restarted."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lib.probe import RESTART, STUCK_AFTER_S, Observation, observe, restart_reason, total_cpu_s
from local import ROOT
from tests.gateway.receiver import serving


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health-check"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Handler) as port:
        yield port


def probe(port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "lib.probe"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("STARTING", 0),
        ("READY", 0),
        ("BUSY", 0),
        ("SETUP_FAILED", RESTART),
        ("UNHEALTHY", RESTART),
        ("DEFUNCT", RESTART),
    ],
)
def test_only_a_bad_status_is_reported_and_asks_for_a_restart(tmp_path: Path, status: str, code: int) -> None:
    with answering(json.dumps({"status": status}).encode()) as port:
        ended = [probe(port, tmp_path) for _ in range(2)]
    assert [one.returncode for one in ended] == [code, code]
    assert code == 0 or status in ended[0].stdout


def test_a_server_that_does_not_answer_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening, so it refuses connections as a stopping server does
        assert probe(unused.getsockname()[1], tmp_path).returncode == 0
    with answering(b"not JSON") as port:
        assert probe(port, tmp_path).returncode == 0


def test_ten_minutes_busy_without_processor_time_ask_for_a_restart() -> None:
    seen = observe("BUSY", None, 1000, 50)
    for at_s in range(1030, 1000 + STUCK_AFTER_S, 30):
        seen = observe("BUSY", seen, at_s, seen.cpu_s + 0.03)
        assert restart_reason("BUSY", seen) is None
    seen = observe("BUSY", seen, 1000 + STUCK_AFTER_S, seen.cpu_s + 0.03)
    assert restart_reason("BUSY", seen) == f"the server is BUSY, but has not computed for {STUCK_AFTER_S} s"


def test_a_server_that_computes_or_has_a_new_prediction_may_be_busy() -> None:
    seen = observe("BUSY", None, 0, 0)
    for at_s in range(30, 2 * STUCK_AFTER_S, 30):
        seen = observe("BUSY", seen, at_s, at_s * 0.9)
        assert restart_reason("BUSY", seen) is None
    seen = observe("READY", Observation(at_s=0, cpu_s=9, worked_s=0), 500, 9)
    assert observe("BUSY", seen, 700, 9).worked_s == 500


def test_processor_time_includes_other_processes() -> None:
    before = total_cpu_s()
    program = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        stat = Path(f"/proc/{other.pid}/stat").read_text(encoding="utf-8").split()
        assert (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK") >= 0.4
        assert total_cpu_s() != before
        other.communicate(b"\n")


def test_the_probe_needs_no_libraries() -> None:
    """It runs every 30 seconds next to a model that computes."""
    program = "import sys, lib.probe; print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    ended = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) <= {"lib", "__main__"}
