"""Measure what the small models take on one CPU and on two: script/predict from its start, a clip, a frame.

Run: script/bench small [--write] [--repeats N]. It takes some three minutes on two quiet CPUs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench import report
from lib.device import pick_dtype
from local import ROOT

PREDICT = [str(ROOT / "script" / "predict"), "riffusion", "--seed", "1", "-o"]
CPUS = (2, 1)


@dataclass(frozen=True)
class Start:
    """One run of script/predict, from the start of its process."""

    first_line_s: float
    whole_s: float


@contextmanager
def on_cpus(count: int) -> Iterator[None]:
    """Let this process, and those it starts, use so many CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def predict(environment: Mapping[str, str]) -> Start:
    """Make a default clip by script/predict."""
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        command = subprocess.Popen([*PREDICT, folder], stdout=subprocess.PIPE, env={**os.environ, **environment})
        with command as running:
            assert running.stdout is not None
            running.stdout.readline()
            first_line_s = time.perf_counter() - start_s
            running.stdout.read()
        whole_s = time.perf_counter() - start_s
        assert running.returncode == 0
    return Start(first_line_s, whole_s)


def starts(repeats: int, environment: Mapping[str, str]) -> Start:
    """Return the medians of several runs."""
    runs = [predict(environment) for _ in range(repeats)]
    return Start(statistics.median(run.first_line_s for run in runs), statistics.median(run.whole_s for run in runs))


def models(repeats: int) -> dict[str, float]:
    """Return what bench.small_runs measures, on the CPUs that this process may use."""
    command = [sys.executable, "-m", "bench.small_runs", str(repeats)]
    measured: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return measured


def main() -> None:
    """Measure, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    started, made = {}, {}
    with tempfile.TemporaryDirectory() as bytecode:
        # A folder of its own for bytecode, which the first run fills: so it does not matter what the environment has.
        environment = {"WEIGHTS": "small", "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        first = predict(environment)
        for count in CPUS:
            with on_cpus(count):
                started[count] = starts(arguments.repeats, environment)
                made[count] = models(arguments.repeats)
                print(f"{count}: {started[count]}, {made[count]}", flush=True)
    text = section(arguments.repeats, first, started, made)
    print(text)
    if arguments.write:
        report.write_section("small", text)
    values = {f"{name}_s_{count}": its[f"{name}_s"] for count, its in made.items() for name in ("clip", "frame")}
    print(report.key_values(values | {"predict_s": started[2].whole_s, "first_line_s": started[2].first_line_s}))


def section(repeats: int, first: Start, started: Mapping[int, Start], made: Mapping[int, Mapping[str, float]]) -> str:
    """Return the section of RESULTS.md."""
    rows = [
        [
            str(count),
            str(made[count]["threads"]),
            f"{one.first_line_s:.2f} s",
            f"{one.whole_s:.1f} s",
            f"{made[count]['clip_s']:.2f} s",
            f"{made[count]['frame_s']:.2f} s",
        ]
        for count, one in started.items()
    ]
    header = ["CPUs", "threads", "`script/predict`: first line after", "done after", "a clip", "a frame"]
    dtype = str(pick_dtype(torch.device("cpu"))).rpartition(".")[2]
    about = f"""{dtype}; medians of {repeats}; {report.machine()}. A process that may use one CPU has one thread.
    `script/predict riffusion` has default inputs, from its start, with its files in memory and bytecode compiled; the
    run that found no bytecode, and compiled it, took {first.whole_s:.1f} s on all CPUs. A clip is the default one with
    its sound, a frame one of deforum by `plms` after the first, both in a process that has loaded the models."""
    return f"""## Small models

{report.paragraph(about)}

{report.markdown_table(header, rows)}
"""


if __name__ == "__main__":
    main()
