"""Show where a frame's time goes, how much of it is not the model, and that memory does not grow with the frames.

Run: script/bench deforum [--write]. It takes under ten minutes, nearly all of it for the memory of 1000 frames.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import predict_deforum
from bench import report
from lib.animation.color import COLOR_COHERENCE, ColorMatcher
from lib.animation.video import write_mp4
from lib.animation.warp import warp
from lib.deforum import Deforum, Recipe, add_noise
from lib.deforum_request import Inputs
from lib.device import generator
from lib.diffusion.models import load
from lib.progress import Stages
from lib.weights import SMALL

SIZE_PX, NOISE_SIGMA = Recipe().size_px, Recipe().noise_sigma
MOTION = (1.5, 1.04, 3.0, -2.0)  # degrees, times, pixels
CLIP_FRAMES = 100
MODEL_FRAMES = 6
FPS = 15
GRAIN_LEVELS = 4.0

Frame = NDArray[np.uint8]


def clip() -> list[Frame]:
    """Draw frames as a film has them: soft shapes with edges, all moving, and new grain in each frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX] / SIZE_PX
    frames = []
    for t in np.arange(CLIP_FRAMES) / CLIP_FRAMES:
        channels = []
        for channel in range(3):
            waves = 60 * np.sin(6 * (x + t) + (3 + channel) * y * y)
            disc = 70 * (np.hypot(x - 0.3 - 0.4 * t, y - (3 + channel) / 9) < 0.25)
            channels.append(90 + waves + disc)
        picture = np.stack(channels, axis=2) + rng.normal(0, GRAIN_LEVELS, (SIZE_PX, SIZE_PX, 3))
        frames.append(np.clip(picture, 0, 255).astype(np.uint8))
    return frames


def median_ms(frames: Sequence[Frame], call: Callable[[Frame], object]) -> float:
    """Return the median CPU time of a call on each frame."""
    times = []
    for frame in frames:
        started_s = time.process_time()
        call(frame)
        times.append(time.process_time() - started_s)
    return 1000 * statistics.median(times)


def video_ms(frames: Sequence[Frame]) -> float:
    """Return the CPU time per frame of writing them, the encoder's thread included; the median of five."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            started_s = time.process_time()
            write_mp4(Path(folder) / "clip.mp4", frames, FPS, {})
            times.append(time.process_time() - started_s)
    return 1000 * statistics.median(times) / len(frames)


def model_ms() -> dict[str, float]:
    """Return the milliseconds that the small model takes for a frame after the first, by stage."""
    request = Inputs(**report.ANIMATION).request()
    models = load(SMALL / "deforum")
    stages = Stages(models.device)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress
        made = Deforum(models).frames(request, stages)
        next(made)
        first = dict(stages.seconds)
        for _ in itertools.islice(made, MODEL_FRAMES):
            pass
    return {
        stage: 1000 * (stages.seconds[stage] - first.get(stage, 0)) / MODEL_FRAMES
        for stage in ("encode", "denoise", "decode")
    }


class ShortPredictor(predict_deforum.Predictor):
    """Run two steps, later frames one: the small model's full schedule would take a quarter of an hour."""

    recipe = Recipe(steps=2, strength=0.5)


def run_once(max_frames: int) -> None:
    """Run the whole of deforum, and print how many frames its mp4 has and the peak memory of this process."""
    predictor = ShortPredictor()
    predictor.setup()
    video = predictor.run(**report.ANIMATION | {"max_frames": max_frames})
    peak_mb = report.memory_mb()["peak"]
    with av.open(video) as container:
        frames = sum(1 for _ in container.decode(video=0))
    predictor.outputs.clear()
    print(json.dumps({"frames": frames, "peak_mb": peak_mb}))


def memory(max_frames: int) -> dict[str, float]:
    """Run deforum in a process of its own and return its peak memory, and how many frames came out."""
    command = [sys.executable, "-m", "bench.deforum", "--run-once", str(max_frames)]
    printed = subprocess.check_output(command, env={**os.environ, "WEIGHTS": "small"}, text=True)
    measured: dict[str, float] = json.loads(printed.splitlines()[-1])
    assert measured["frames"] == max_frames
    return measured


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--run-once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_once:
        run_once(options.run_once)
        return

    short, long = memory(100), memory(1000)

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frames = clip()
    source = generator(0)
    matchers = {mode: ColorMatcher(mode, frames[0]) for mode in COLOR_COHERENCE[1:]}
    color_ms = {mode: median_ms(frames, matcher.match) for mode, matcher in matchers.items()}
    slowest = max(color_ms, key=lambda mode: color_ms[mode])
    outside_ms = {
        "warp": median_ms(frames, lambda frame: warp(frame, *MOTION)),
        f"colour ({slowest}, the slowest)": color_ms[slowest],
        "noise": median_ms(frames, lambda frame: add_noise(frame, NOISE_SIGMA, source)),
        "video": video_ms(frames),
    }
    inside_ms = {f"{stage}, small model": ms for stage, ms in model_ms().items()}
    non_model_ms = sum(outside_ms.values())
    total_ms = non_model_ms + sum(inside_ms.values())
    shares = [[name, f"{ms:.1f} ms", f"{ms / total_ms:.1%}"] for name, ms in (outside_ms | inside_ms).items()]

    text = f"""## Deforum

A frame after the first, {SIZE_PX}x{SIZE_PX}, on one core; {report.machine()}. What is not the model is CPU time, the
encoder's thread included, on {CLIP_FRAMES} drawn frames of moving shapes with grain, as a full model's have. That one
takes far longer than the small one: its share is larger.

{
        report.markdown_table(
            ["", "time", "share"],
            [*shares, ["all but the model", f"{non_model_ms:.1f} ms", f"{non_model_ms / total_ms:.1%}"]],
        )
    }

Colours matched in {", ".join(f"{mode.split()[-1]} {ms:.1f} ms" for mode, ms in color_ms.items())}.

Whole runs of the small model, with a schedule of 2 steps instead of 50:

{
        report.markdown_table(
            ["frames asked for", "frames in the mp4", "peak memory"],
            [[str(n), f"{run['frames']:.0f}", f"{run['peak_mb']:.0f} MB"] for n, run in ((100, short), (1000, long))],
        )
    }
"""
    values = {
        "non_model_ms_per_frame": non_model_ms,
        "color_ms": color_ms[slowest],
        "frames": long["frames"],
        "peak_mb_100": short["peak_mb"],
        "peak_mb_1000": long["peak_mb"],
    }
    report.publish("deforum", text, values, options.write)


if __name__ == "__main__":
    main()
