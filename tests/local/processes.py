"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")
LIMIT_S = 120  # that something that hangs fails its test; nothing is expected to take as long
POLL_S = 0.01


def eventually(check: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """Return the first true result of `check`, asked again and again."""
    deadline_s = time.monotonic() + limit_s
    while not (result := check()):
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(POLL_S)
    return result


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
