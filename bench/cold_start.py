"""Measure a cold start: the time from starting a server's process until it accepts predictions.

Run: script/bench cold_start [--write] [--weights DIR] [--repeats N]. It creates random full-size weights of 2.1 GB
in DIR, or in a temporary folder.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from bench import full_size, report
from local.serve import started, wait_until_ready

MODEL = "deforum"
FULL, DISK, SMALL = "full, files in memory", "full, files on disk", "small"


def start(environment: Mapping[str, str]) -> dict[str, float]:
    """Start a server, and return the time, the CPU time and the memory until it is ready, children included."""
    with tempfile.TemporaryFile() as log:
        start_s = time.perf_counter()
        with started(MODEL, environment=environment, log=log) as server:
            wait_until_ready(server.url, server.process)
            ready_s = time.perf_counter() - start_s
            family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
            times = [process.cpu_times() for process in family]
            memory = [report.memory_mb(process.pid) for process in family]
    return {
        "ready_s": ready_s,
        "user_s": sum(some.user for some in times),
        "system_s": sum(some.system for some in times),
        "peak_mb": max(some["peak"] for some in memory),
        "own_mb": max(some["own"] for some in memory),
    }


def put_in_memory(folder: Path, wanted: bool) -> None:
    """Read a folder's files into the kernel's cache, or drop them from it as a reboot does."""
    for path in folder.rglob("*.*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # unwritten data can't be dropped
            if not wanted:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while wanted and file.read(2**24):
                pass


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--weights", type=Path, help="a folder for the full-size weights (default: temporary)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    runs: dict[str, list[dict[str, float]]] = {FULL: [], DISK: [], SMALL: []}
    with contextlib.ExitStack() as stack:
        weights = arguments.weights or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = weights.absolute() / MODEL
        if not folder.exists():
            building = folder.with_name(f"{folder.name}.unfinished")
            full_size.save(building)
            building.rename(folder)
        full = {"WEIGHTS": "full", "WEIGHTS_DIR": str(folder.parent), "HF_HUB_OFFLINE": "1"}
        for _ in range(arguments.repeats):
            for name, its_runs in runs.items():  # in turns, so that noise affects all alike
                put_in_memory(folder, name == FULL)
                its_runs.append(start({"WEIGHTS": "small"} if name == SMALL else full))

    medians = {name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    rows = [
        [name, *(f"{values[key]:.1f} s" for key in ("ready_s", "user_s", "system_s"))]
        + [f"{values[key]:.0f} MB" for key in ("peak_mb", "own_mb")]
        for name, values in medians.items()
    ]
    header = ["weights", "until ready", "CPU, user", "CPU, system", "peak, files included", "own when ready"]
    text = f"""## Cold start

From starting the server's process until it accepts predictions, {MODEL}; medians of {arguments.repeats};
{report.machine()}. Memory is that of the worker: its peak including the pages of the weights' files, which the kernel
can reclaim, and its own memory when it is ready.

{report.markdown_table(header, rows)}
"""
    values = {"full_ready_s": medians[FULL]["ready_s"], "small_ready_s": medians[SMALL]["ready_s"]}
    report.publish("cold-start", text, values, arguments.write)


if __name__ == "__main__":
    main()
