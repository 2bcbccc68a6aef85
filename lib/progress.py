"""Progress lines that clients can parse, the duration of each stage, and the metrics of a run."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import torch
from tqdm import tqdm

from lib.device import synchronize

LINE_INTERVAL_S = 0.5  # at most two lines a second, because each becomes a webhook or a row of logs somewhere
REDRAW_INTERVAL_S = 0.1
BAR_COLUMNS = 72


class Progress:
    """Print lines such as ` 40%|####      | 40/100 [00:12<00:18, 3.30it/s]` while `total` units of work are done.

    In a log each line ends with a newline. In a terminal one line is redrawn. The first and the last unit always print.
    """

    def __init__(self, total: int, out: TextIO | None = None, interval_s: float | None = None) -> None:
        """Print the first line; `out` is stdout by default."""
        self.total = total
        self.done = 0
        self._out = out or sys.stdout
        self._redraws = self._out.isatty()
        default_s = REDRAW_INTERVAL_S if self._redraws else LINE_INTERVAL_S
        self._interval_s = default_s if interval_s is None else interval_s
        self._started_s = time.monotonic()
        self._printed_s = float("-inf")
        self._print()

    def advance(self) -> None:
        """Count one unit as done."""
        self.done += 1
        if self.done == self.total or time.monotonic() - self._printed_s >= self._interval_s:
            self._print()

    def _print(self) -> None:
        self._printed_s = time.monotonic()
        elapsed_s = self._printed_s - self._started_s
        if not self._redraws:
            print(self._line(elapsed_s, BAR_COLUMNS), file=self._out, flush=True)
            return
        columns = min(BAR_COLUMNS, shutil.get_terminal_size().columns - 1)  # in the last column the cursor may wrap
        end = "\n" if self.done == self.total else ""
        print(f"\r{self._line(elapsed_s, columns)}", end=end, file=self._out, flush=True)

    def _line(self, elapsed_s: float, columns: int) -> str:
        return str(tqdm.format_meter(self.done, self.total, elapsed_s, ncols=columns, ascii=True))


class Stages:
    """Measure the seconds spent in each named stage: `with stages.measure("decode"): ...`."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time until the device has finished to the stage `name`."""
        started_s = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started_s


def report(record: Callable[[str, str | float], None], stages: Stages, **values: str | float) -> None:
    """Pass each metric of a run to `record`: the values, then the seconds of each stage."""
    seconds = {f"seconds.{stage}": round(its_s, 4) for stage, its_s in stages.seconds.items()}
    for name, value in {**values, **seconds}.items():
        record(name, value)
