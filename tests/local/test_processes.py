"""Temporary folders and processes disappear with their owner, however it ends."""

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

from local import ROOT
from local.processes import MARK, scratch
from tests.waiting import eventually, is_alive

PROGRAM = """
import subprocess, time
from local.processes import guarded, scratch
with scratch("tried") as folder:
    child = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"], start_new_session=True)
    with guarded(child.pid, folder) as guard:
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
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
    try:
        assert process.stdout
        path, guard, child = process.stdout.readline().split()
        yield process, Path(path), psutil.Process(int(guard)), psutil.Process(int(child))
    finally:
        process.kill()
        process.communicate()


def make_old(folder: Path) -> None:
    """Make a folder old enough that its owner must have locked its mark."""
    os.utime(folder / MARK, (time.time() - 3600,) * 2)


def test_a_scratch_folder_is_deleted_after_its_block(tmp_path: Path) -> None:
    with scratch("tried") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("tried-")
        (folder / "file").touch()
    with pytest.raises(KeyboardInterrupt), scratch("tried"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_guard_of_a_killed_process_kills_its_children_and_deletes_its_folder(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, folder, guard, child):
        eventually(lambda: len(child.children()) == 2)
        family = [guard, child, *child.children()]
        process.kill()
        eventually(lambda: not any(map(is_alive, family)))
        assert not folder.exists()


def test_a_folder_left_behind_is_deleted_by_the_next_scratch_of_its_name_once_it_is_unused(tmp_path: Path) -> None:
    (tmp_path / "tried-notes").mkdir()
    with owner(tmp_path) as (process, folder, guard, child):
        make_old(folder)
        with scratch("tried"):
            assert folder.exists()  # in use
        os.utime(folder / MARK)
        guard.kill()
        process.kill()
        process.wait()
        os.killpg(child.pid, signal.SIGKILL)
        with scratch("tried"):
            assert folder.exists()  # so new that its owner may not have locked it yet
        make_old(folder)
        with scratch("other"):
            assert folder.exists()
        with scratch("tried"):
            assert not folder.exists()
    assert (tmp_path / "tried-notes").exists()  # not created by scratch
