"""Temporary folders, and process groups, that don't outlive the process that made them, however it ends."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import UserError

MARK = ".in-use"  # locked while the process that made the folder lives; the kernel releases the lock
NEW_S = 60  # a younger mark may not be locked yet
# $1 is a process group, $2 a folder. The end of stdin means that our parent is dead; killed processes take a moment to
# disappear, and in a container without init they stay as zombies, so the wait is limited.
GUARD = """
read -r _
kill -s KILL -- "-$1"
for _ in 1 2 3 4 5; do kill -s 0 -- "-$1" || break; sleep 1; done
rm -rf -- "$2"
"""


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Make a folder called `name` and a random suffix in TMPDIR, and delete it when the block ends.

    A process that is killed leaves its folder behind; the next call with the same name deletes it.

    Raises:
        UserError: the folder can't be made.
    """
    try:
        root = Path(tempfile.gettempdir())
        for mark in root.glob(f"{name}-*/{MARK}"):
            if not _is_in_use(mark):
                shutil.rmtree(mark.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    except OSError as error:
        raise UserError(f"Can't create a temporary folder: {error}. Set TMPDIR to choose another place.") from error
    try:
        with (folder / MARK).open("w") as mark_file:
            fcntl.flock(mark_file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(mark: Path) -> bool:
    """Tell whether the process that made a folder lives; a folder of another user counts as in use."""
    try:
        if mark.stat().st_uid != os.geteuid() or time.time() - mark.stat().st_mtime < NEW_S:
            return True
        with mark.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, unreadable, or deleted meanwhile
        return True
    return False


@contextmanager
def guarded(group: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a small process that kills a process group and deletes `folder` if this process dies within the block.

    PR_SET_PDEATHSIG is not enough for a Cog server: it would end the server but not the worker that the server started.
    """
    far_end, line = os.pipe()
    # In a session of its own it gets no signal from a terminal; without outputs it keeps no reader of ours waiting.
    silent = subprocess.DEVNULL
    command = ["/bin/sh", "-c", GUARD, "guard", str(group), str(folder)]
    process = subprocess.Popen(command, cwd="/", stdin=far_end, stdout=silent, stderr=silent, start_new_session=True)
    os.close(far_end)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(line)
