"""Measure a cold start: the time from starting a server's process until it accepts predictions.

Run: script/bench cold_start [--write] [--weights DIR] [--repeats N]. It creates random full-size weights of 2.1 GB
in DIR, or in a temporary folder.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from bench import full_size, report
from lib.weights import SMALL
from local.serve import started, wait_until_ready

MODEL = "deforum"
WEIGHTS = {"full": "full, files in memory", "disk": "full, files on disk", "small": "small"}
# What a server's worker does until it is ready, stage by stage in a process of its own; {folder} has the weights.
STAGES = """
import json, time
from pathlib import Path
laps, last_s = {{}}, time.perf_counter()
def lap(name):
    global last_s
    now_s = time.perf_counter()
    laps[name], last_s = now_s - last_s, now_s
import torch
lap("import torch")
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
lap("import the models' classes")
import predict_{model}
lap("import the predictor and the rest")
predict_{model}.load(Path({folder!r}))
lap("load the weights")
print(json.dumps(laps))
"""


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


def stages(folder: Path) -> dict[str, float]:
    """Return the seconds of each stage of a start, measured in a process of its own."""
    code = STAGES.format(model=MODEL, folder=str(folder))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seconds


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians of several runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Measure, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    parser.add_argument("--weights", type=Path, help="a folder for the full-size weights (default: temporary)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="for a trial: only the small weights")
    arguments = parser.parse_args()

    with contextlib.ExitStack() as stack:
        weights = arguments.weights or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = weights.absolute() / MODEL
        if not arguments.small and not folder.exists():
            building = folder.with_name(f"{folder.name}.unfinished")
            full_size.save(building)
            building.rename(folder)
        full = {"WEIGHTS": "full", "WEIGHTS_DIR": str(folder.parent), "HF_HUB_OFFLINE": "1"}
        cases = {"full": full, "disk": full, "small": {"WEIGHTS": "small"}}
        if arguments.small:
            cases = {"small": cases["small"]}
            folder = SMALL / MODEL
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
        laps = []
        for _ in range(arguments.repeats):  # in turns, so that noise affects all alike
            for name, environment in cases.items():
                if name != "small":
                    put_in_memory(folder, name == "full")
                runs[name].append(start(environment))
            put_in_memory(folder, True)
            laps.append(stages(folder))

    medians = {name: median(its_runs) for name, its_runs in runs.items()}
    rows = [
        [
            WEIGHTS[name],
            f"{values['ready_s']:.1f} s",
            f"{values['user_s']:.1f} s",
            f"{values['system_s']:.1f} s",
            f"{values['peak_mb']:.0f} MB",
            f"{values['own_mb']:.0f} MB",
        ]
        for name, values in medians.items()
    ]
    header = ["weights", "until ready", "CPU, user", "CPU, system", "peak, files included", "own when ready"]
    stage_rows = [[name, f"{seconds:.2f} s"] for name, seconds in median(laps).items()]
    text = f"""## Cold start

From starting the server's process until it accepts predictions, {MODEL}; medians of {arguments.repeats};
{report.machine()}.
Memory is that of the worker: its peak including the pages of the weights' files, which the kernel can reclaim, and its
own memory when it is ready.

{report.markdown_table(header, rows)}

The stages, in a process of their own, weights in memory:

{report.markdown_table(["", "time"], stage_rows)}
"""
    print(text)
    if arguments.write:
        report.write_section("cold-start", text)
    print(report.key_values({f"{name}_{key}": value for name, of in medians.items() for key, value in of.items()}))


if __name__ == "__main__":
    main()
