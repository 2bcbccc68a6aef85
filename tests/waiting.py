"""Wait for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")
HANG_S = 600  # after this long something hangs; nothing takes nearly as long, even on a busy machine


def eventually(check: Callable[[], T | None], poll_s: float = 0.01) -> T:
    """Call `check` until its result is true, and return it."""
    give_up = time.monotonic() + HANG_S
    while not (result := check()):
        assert time.monotonic() < give_up, f"still {result} after {HANG_S} s"
        time.sleep(poll_s)
    return result


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
