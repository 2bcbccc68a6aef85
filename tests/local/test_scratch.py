"""Folders and processes that are gone when their owner is, however it ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from local.inputs import ROOT
from local.scratch import MARK, scratch
from tests.local.processes import eventually, is_alive

PROGRAM = """
import subprocess, time
from local.scratch import guarded, scratch
with scratch("tried") as folder, guarded(folder) as guard:
    child = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"], start_new_session=True)
    guard.watch(child.pid)
    print(folder, guard.pid, child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path, psutil.Process, psutil.Process]]:
    """Run PROGRAM; yield it, its folder, its guard and its child."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        assert process.stdout
        lent, guard, child = process.stdout.readline().split()
        yield process, Path(lent), psutil.Process(int(guard)), psutil.Process(int(child))
    finally:
        process.kill()
        process.communicate()


def test_a_folder_is_lent_and_deleted(tmp_path: Path) -> None:
    with scratch("tried") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("tried-")
        (folder / "file").touch()
    with pytest.raises(KeyboardInterrupt), scratch("tried"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_had_is_ended_and_deleted(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, folder, guard, child):
        eventually(lambda: len(child.children()) == 2)
        family = [guard, child, *child.children()]
        process.kill()
        eventually(lambda: not any(map(is_alive, family)))
        assert not folder.exists()


def test_what_a_killed_guard_could_not_delete_the_next_start_does(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, folder, guard, child):
        guard.kill()
        process.kill()
        process.wait()
        os.killpg(child.pid, signal.SIGKILL)
        with scratch("tried"):
            assert folder.exists()  # so young that its owner may not have locked it yet
        os.utime(folder / MARK, (time.time() - 3600,) * 2)
        with scratch("other"):
            assert folder.exists()
        with scratch("tried"):
            assert not folder.exists()


def test_what_is_in_use_or_was_not_made_here_stays(tmp_path: Path) -> None:
    (tmp_path / "tried-notes").mkdir()
    with owner(tmp_path) as (_, folder, _, _):
        os.utime(folder / MARK, (time.time() - 3600,) * 2)
        with scratch("tried"):
            assert folder.exists()
    assert (tmp_path / "tried-notes").exists()
