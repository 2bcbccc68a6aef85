"""Processes and temporary folders that don't outlive the process that made them, however it ends."""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lib.errors import UserError

PR_SET_PDEATHSIG = 1  # Linux's prctl(2)
GRACE_S = 10.0
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

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StartError(UserError):
    """Say why something can't start."""


def ends_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a `preexec_fn` for Popen: the child gets signal `number` when its parent dies, even if it was killed.

    To the kernel the parent is the thread that starts the child, so start children from the main thread. The kernel
    drops the setting when the child changes its user, which Popen does before it calls `preexec_fn`. Only Linux has
    this signal; elsewhere a killed parent leaves its children behind.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _libc:
            _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
            if os.getppid() != parent:  # it died before prctl
                os._exit(1)

    return arrange


def stop(
    process: subprocess.Popen[bytes],
    waits_s: Sequence[float] = (GRACE_S,),
    number: signal.Signals = signal.SIGTERM,
) -> None:
    """Send a signal and wait, once for each of `waits_s`, then kill what is left of the process's session.

    The process must lead a session of its own. A second Ctrl-C skips the waiting.
    """
    try:
        for wait_s in waits_s:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
                break
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Return `port`, or a free port for 0.

    Raises:
        StartError: nothing can listen there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just closed is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"can't listen on {host}:{port}: {error.strerror}. Choose another --port.") from error
        return int(probe.getsockname()[1])


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
