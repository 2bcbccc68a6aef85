"""The drill on hosts that are network namespaces: some of its faults, and that it leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.drill.isolation import missing

ROOT = Path(__file__).resolve().parent.parent
LACKING = missing()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(LACKING is not None, reason=LACKING or "nothing")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for the drill's own, with a name short enough for a socket in it."""
    made = Path(tempfile.mkdtemp(prefix="d-"))
    made.chmod(0o711)  # PostgreSQL's user passes through it
    yield made
    shutil.rmtree(made)


@contextmanager
def drill(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a drill, as a terminal does: Ctrl-C reaches all that it started."""
    command = [str(ROOT / "script" / "bench"), "drill", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def left_behind(folder: Path) -> list[str]:
    """Return what a drill has left: its folders, and processes that know of them."""
    knowing = [process for process in psutil.process_iter() if str(folder) in " ".join(_cmdline(process))]
    return [*map(str, folder.iterdir()), *(str(process) for process in knowing)]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has ended
        return []


def test_a_killed_gateway_and_a_full_disk_lose_nothing(folder: Path) -> None:
    with drill(folder, "killed-gateway", "full-disk") as process:
        told, _ = process.communicate(timeout=400)
    assert process.returncode == 0, told
    values = dict(item.split("=") for item in told.splitlines()[-1].split())
    assert float(values["problems"]) == 0
    assert float(values["answered"]) > 10
    assert left_behind(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_ended_leaves_nothing_behind(folder: Path, number: signal.Signals) -> None:
    with drill(folder, "lost-host") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lost-host ...\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(60)
    assert left_behind(folder) == []
