"""Progress lines in the form that clients of these models parse, and the seconds of each stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm

from lib.device import synchronize

MIN_INTERVAL_S = 0.5  # at most two lines a second: every line becomes a webhook or a log row somewhere
BAR_COLUMNS = 72


class Progress:
    """Print lines such as ` 40%|####      | 40/100 [00:12<00:18, 3.30it/s]` as `total` units get done.

    Each line ends with a newline: a log has no cursor to move back. The first and the last unit always print.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started_s = time.monotonic()
        self._printed_s = float("-inf")
        self._print()

    def advance(self) -> None:
        """Count one unit."""
        self.done += 1
        if self.done == self.total or time.monotonic() - self._printed_s >= MIN_INTERVAL_S:
            self._print()

    def _print(self) -> None:
        self._printed_s = time.monotonic()
        elapsed_s = self._printed_s - self._started_s
        print(tqdm.format_meter(self.done, self.total, elapsed_s, ncols=BAR_COLUMNS, ascii=True), flush=True)


class Stages:
    """Measure the seconds spent in each named stage: `with stages.measure("decode"): ...`."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time until the device is done to the stage `name`."""
        started_s = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started_s
