"""A clip and a frame of the small models, on the CPUs that this process may use: python -m bench.small_runs REPEATS."""

import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.inputs import ANIMATION
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.device import computing
from lib.diffusion.models import load
from lib.progress import Stages
from lib.weights import SMALL

CPU = torch.device("cpu")


def median_s(run: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a run, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times[1:])


def main() -> None:
    """Print, as JSON, the seconds of a default clip and of a frame after the first, and the threads they had."""
    repeats = int(sys.argv[1])
    musician = riffusion.Riffusion(load(SMALL / "riffusion", CPU))
    painter = deforum.Deforum(load(SMALL / "deforum", CPU))
    clip = replace(riffusion_request.Inputs(), seed=0).request()
    frames = painter.frames(deforum_request.Inputs(**ANIMATION).request(), Stages(CPU))
    with contextlib.redirect_stdout(io.StringIO()), computing():
        next(frames)
        measured = {
            "threads": torch.get_num_threads(),
            "clip_s": median_s(lambda: musician.generate(clip, Stages(CPU)), repeats),
            "frame_s": median_s(lambda: next(frames), repeats),
        }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
