"""Services are restarted when they exit, and stopped in order."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from gateway.serve.supervisor import Command, Supervisor
from tests.gateway.processes import ROOT
from tests.waiting import HANG_S, eventually, is_alive

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def until(supervisor: Supervisor, there: Callable[[], bool]) -> None:
    def tended() -> bool:
        supervisor.tend()
        return there()

    eventually(tended)


def python(name: str, script: str, grace_s: float = 10) -> Command:
    return Command(name, [sys.executable, "-uc", script], grace_s=grace_s)


def test_a_service_that_exits_is_restarted_and_continues_its_log(tmp_path: Path) -> None:
    notes: list[str] = []
    with Supervisor(tmp_path, notes.append) as supervisor:
        supervisor.start(python("short", "print('here')"))
        until(supervisor, lambda: (tmp_path / "short.log").read_text().count("here") >= 3)
    assert notes[0] == f"short exited with status 0; restarting. Log: {tmp_path / 'short.log'}"


def test_a_second_supervisor_keeps_the_earlier_log(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with Supervisor(tmp_path, print) as supervisor:
            supervisor.start(python("word", f"print('{word}'); input()"))
            until(supervisor, lambda word=word: word in (tmp_path / "word.log").read_text())  # type: ignore[misc]
    assert "first" in (tmp_path / "word.old.log").read_text()
    assert "first" not in (tmp_path / "word.log").read_text()


def test_services_stop_in_reverse_order_with_their_children(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    script = """
import signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def end(*_):
    open(sys.argv[2], "a").write(sys.argv[1])
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready")
signal.pause()
"""
    with Supervisor(tmp_path, print) as supervisor:
        for name in ("a", "b", "c"):
            supervisor.start(Command(name, [sys.executable, "-uc", script, name, str(ended)]))
            until(supervisor, lambda name=name: "ready" in (tmp_path / f"{name}.log").read_text())  # type: ignore[misc]
        family = [child for name in "abc" for child in psutil.Process(supervisor.process(name).pid).children()]
    assert ended.read_text() == "cba"
    assert len(family) == 3
    assert psutil.wait_procs(family, timeout=HANG_S)[1] == []


def test_a_service_that_ignores_two_requests_to_exit_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked')); print('up'); time.sleep(600)"
    )
    deaf = "import time\nwhile True:\n    time.sleep(600)"
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(python("deaf", f"{script}\n{deaf}", grace_s=0.5))
        until(supervisor, lambda: "up" in (tmp_path / "deaf.log").read_text())
        process = supervisor.process("deaf")
    assert process.returncode == -signal.SIGKILL
    assert len(re.findall("asked", (tmp_path / "deaf.log").read_text())) == 2


def test_a_second_signal_shortens_the_wait(tmp_path: Path) -> None:
    script = """
import signal, sys
from pathlib import Path
from gateway.serve.processes import exit_on_signals
from gateway.serve.supervisor import Command, Supervisor
deaf = "import signal\\nsignal.signal(signal.SIGTERM, lambda *_: print('asked'))\\n"
deaf += "print('up')\\nwhile True: signal.pause()"
exit_on_signals()
with Supervisor(Path(sys.argv[1]), print) as supervisor:
    supervisor.start(Command("deaf", [sys.executable, "-uc", deaf], grace_s=3600))
    print(supervisor.process("deaf").pid, flush=True)
    signal.pause()
"""
    log = tmp_path / "deaf.log"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout
        deaf = psutil.Process(int(process.stdout.readline()))
        eventually(lambda: "up" in log.read_text())
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "asked" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 128 + signal.SIGTERM
    assert not is_alive(deaf)
