"""Folders that are gone when their process is, however it ended.

One that ends or is asked to end deletes its folder itself. When it is killed, its guard does: a small process that
waits for it to die, ends what it had started, and deletes the folder. And where both were killed (all processes of a
user are), the next one that starts finds the folder without an owner and deletes it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lib.errors import UserError

MARK = ".in-use"  # locked as long as the process lives that made the folder; the kernel lets go of it
NEW_S = 60  # a mark as young as this may not be locked yet


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Lend a new folder in TMPDIR, called `name` and something, and delete it with all it holds on the way out.

    Folders of that name that killed processes left are deleted first.

    Raises:
        UserError: there is no room for it.
    """
    try:
        root = Path(tempfile.gettempdir())
        for mark in root.glob(f"{name}-*/{MARK}"):
            if not _is_in_use(mark):
                shutil.rmtree(mark.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    except OSError as error:
        raise UserError(f"No temporary folder can be made: {error}. TMPDIR says where.") from error
    try:
        with (folder / MARK).open("w") as mark_file:
            fcntl.flock(mark_file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(mark: Path) -> bool:
    """Say whether the process that made a folder lives; another user's is none of ours, and counts as living."""
    try:
        if mark.stat().st_uid != os.geteuid() or time.time() - mark.stat().st_mtime < NEW_S:
            return True
        with mark.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, closed to us, or deleted meanwhile
        return True
    return False


class Guard:
    """The process that does what this one can't do any more when it has been killed.

    PR_SET_PDEATHSIG would end a server and not the worker that it starts, and already when the thread ends that
    started it, which in a test or under a pool is not the process.
    """

    def __init__(self, process: subprocess.Popen[bytes], line: int) -> None:
        self.pid = process.pid
        self._process = process
        self._line = line  # its stdin: that it ends when this process does needs no doing

    def watch(self, group: int) -> None:
        """Have a process group killed should this process be."""
        self._tell(group)

    def dismiss(self) -> None:
        """Let the guard go, which has nothing to do any more."""
        self._tell(0)
        os.close(self._line)
        self._process.wait()

    def _tell(self, number: int) -> None:
        with suppress(BrokenPipeError):  # someone killed the guard: its owner still does what it was for
            os.write(self._line, f"{number}\n".encode())


@contextmanager
def guarded(folder: Path) -> Iterator[Guard]:
    """Lend a guard that, should this process be killed, kills what it watches and deletes `folder`."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(folder)]
    far_end, line = os.pipe()
    # In a session of its own, no signal of a terminal reaches it; without outputs, it keeps no reader waiting.
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd="/", stdin=far_end, stdout=silent, stderr=silent, start_new_session=True)
    os.close(far_end)
    guard = Guard(process, line)
    try:
        yield guard
    finally:
        guard.dismiss()
