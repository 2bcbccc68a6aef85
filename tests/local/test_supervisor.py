import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from local.supervisor import Command, Supervisor

LIMIT_S = 60


def until(supervisor: Supervisor, there: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not there():
        assert time.monotonic() < give_up
        supervisor.tend()
        time.sleep(0.02)


def python(name: str, script: str, grace_s: float = 10) -> Command:
    return Command(name, [sys.executable, "-uc", script], grace_s=grace_s)


def test_what_exits_is_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    notes: list[str] = []
    with Supervisor(tmp_path, notes.append) as supervisor:
        supervisor.start(python("short", "print('here')"))
        until(supervisor, lambda: (tmp_path / "short.log").read_text().count("here") >= 3)
    assert notes[0] == f"short ended with status 0; it starts again. See {tmp_path / 'short.log'}"


def test_a_second_run_keeps_the_log_of_the_one_before(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with Supervisor(tmp_path, print) as supervisor:
            supervisor.start(python("word", f"print('{word}'); input()"))
            until(supervisor, lambda word=word: word in (tmp_path / "word.log").read_text())  # type: ignore[misc]
    assert "first" in (tmp_path / "word.old.log").read_text()
    assert "first" not in (tmp_path / "word.log").read_text()


def test_all_end_the_last_first_and_their_children_with_them(tmp_path: Path) -> None:
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
    assert psutil.wait_procs(family, timeout=LIMIT_S)[1] == []


def test_who_does_not_end_is_asked_again_and_killed_in_the_end(tmp_path: Path) -> None:
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
