"""Measure the small models on one CPU and on two: script/predict from its start, a clip, a frame.

Run: script/bench small [--write] [--repeats N]. It takes some three minutes on two quiet CPUs.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from bench import report
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.device import computing, pick_dtype
from lib.diffusion.models import load
from lib.progress import Stages
from lib.weights import SMALL
from local import ROOT

PREDICT = [str(ROOT / "script" / "predict"), "riffusion", "--seed", "1", "-o"]
CPU = torch.device("cpu")
CPUS = (2, 1)


@contextlib.contextmanager
def on_cpus(count: int) -> Iterator[None]:
    """Restrict this process, and those it starts, to this many CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def predict(environment: Mapping[str, str]) -> tuple[float, float]:
    """Make a default clip by script/predict; return the seconds until its first line and until its end."""
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
    return first_line_s, whole_s


def measure_models(repeats: int) -> dict[str, float]:
    """Return the seconds of a default clip and of a frame after the first, and the threads they had."""
    musician = riffusion.Riffusion(load(SMALL / "riffusion", CPU))
    painter = deforum.Deforum(load(SMALL / "deforum", CPU))
    clip = replace(riffusion_request.Inputs(), seed=0).request()
    frames = painter.frames(deforum_request.Inputs(**report.ANIMATION).request(), Stages(CPU))
    with contextlib.redirect_stdout(io.StringIO()), computing():
        next(frames)
        runs: list[Callable[[int], object]] = [lambda _: musician.generate(clip, Stages(CPU)), lambda _: next(frames)]
        for warm_up in runs:
            warm_up(0)
        (clip_s,), (frame_s,) = (report.median_seconds([run], range(repeats)) for run in runs)
    return {"threads": torch.get_num_threads(), "clip_s": clip_s, "frame_s": frame_s}


def measure_on(count: int, repeats: int, environment: Mapping[str, str]) -> dict[str, float]:
    """Measure everything on this many CPUs, the models in a process of their own."""
    command = [sys.executable, "-m", "bench.small", "--models-only", "--repeats", str(repeats)]
    with on_cpus(count):
        first_lines_s, wholes_s = zip(*(predict(environment) for _ in range(repeats)), strict=True)
        measured = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {"first_line_s": statistics.median(first_lines_s), "whole_s": statistics.median(wholes_s), **measured}


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.models_only:
        print(json.dumps(measure_models(arguments.repeats)))
        return
    with tempfile.TemporaryDirectory() as bytecode:
        # A separate folder for bytecode, which the first run fills, so the environment's own doesn't matter.
        environment = {"WEIGHTS": "small", "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        _, first_s = predict(environment)
        measured = {count: measure_on(count, arguments.repeats, environment) for count in CPUS}
    values = {f"{name}_s_{count}": its[f"{name}_s"] for count, its in measured.items() for name in ("clip", "frame")}
    values |= {"predict_s": measured[2]["whole_s"], "first_line_s": measured[2]["first_line_s"]}
    report.publish("small", section(arguments.repeats, first_s, measured), values, arguments.write)


def section(repeats: int, first_s: float, measured: Mapping[int, Mapping[str, float]]) -> str:
    """Return the section of RESULTS.md."""
    rows = [
        [
            str(count),
            str(its["threads"]),
            f"{its['first_line_s']:.2f} s",
            f"{its['whole_s']:.1f} s",
            f"{its['clip_s']:.2f} s",
            f"{its['frame_s']:.2f} s",
        ]
        for count, its in measured.items()
    ]
    header = ["CPUs", "threads", "`script/predict`: first line after", "done after", "a clip", "a frame"]
    about = f"""{report.name_of(pick_dtype(CPU))}; medians of {repeats}; {report.machine()}. A process with one CPU has
    one thread. `script/predict riffusion` runs with default inputs, timed from its start, with its files in memory and
    its bytecode compiled; the run that had to compile it took {first_s:.1f} s on all CPUs. A clip is the default one
    with its sound, a frame one of deforum by `plms` after the first, both in a process that has loaded the models."""
    return f"""## Small models

{report.paragraph(about)}

{report.markdown_table(header, rows)}
"""


if __name__ == "__main__":
    main()
