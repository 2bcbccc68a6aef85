"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # Linux's prctl(2)

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def ends_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a `preexec_fn` for Popen: the child gets signal `number` when its parent is gone, even when it was killed.

    The kernel means the thread that starts the child, not its process: start children from the main thread. It forgets
    the signal when the child changes its user, which Popen does before it calls `preexec_fn`. Other systems than Linux
    have no such signal: there a killed parent leaves its children behind.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _libc:
            _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
            if os.getppid() != parent:  # it was gone before the signal was arranged
                os._exit(1)

    return arrange
