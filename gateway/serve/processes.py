"""Child processes that end with this one, however it ends, and free ports."""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

PR_SET_PDEATHSIG = 1  # Linux's prctl(2)
GRACE_S = 10.0
HURRY_S = 1.0  # the grace after a second signal
POLL_S = 0.02

_signals: list[int] = []  # that asked for an exit
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StartError(RuntimeError):
    """Something can't start; str() says why."""


def ends_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a `preexec_fn` for Popen: the child gets signal `number` when its parent dies, even if it was killed.

    To the kernel the parent is the thread that starts the child, so start children from the main thread. The kernel
    drops the setting when the child changes its user, which Popen does before it calls `preexec_fn`. Only Linux has
    this signal.
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

    The process must lead a session of its own. After a second Ctrl-C or SIGTERM each wait is at most HURRY_S.
    """
    try:
        for wait_s in waits_s:
            process.send_signal(number)
            if _exits(process, wait_s):
                break
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _exits(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    """Return whether a process exits within this time."""
    until = time.monotonic() + wait_s
    while process.poll() is None:
        if len(_signals) > 1:
            until = min(until, time.monotonic() + HURRY_S)
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


_given: set[int] = set()  # free ports that nobody may listen on yet


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Return `port`, or for 0 a free port, never the same one twice.

    Raises:
        StartError: nothing can listen there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just closed is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"can't listen on {host}:{port}: {error.strerror}. Choose another --port.") from error
        found = int(probe.getsockname()[1])
    if port == 0 and found in _given:
        return free_port(host)
    _given.add(found)
    return found


def port_number(text: str) -> int:
    """Parse a port for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; use a number from 0 to 65535, 0 for a free port")
    return int(text)


def exit_on_signals() -> None:
    """Raise SystemExit on the first signal that asks for an exit, so that everything is stopped in order.

    A further one hurries that. Raised in the middle of it, it would leave processes and files behind.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores one, a script's & another
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    _signals.append(number)
    if len(_signals) == 1:
        raise SystemExit(128 + number)
