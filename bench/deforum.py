"""Show that the memory of an animation does not grow with its frames.

Run: script/bench deforum [--write]. It takes under ten minutes, nearly all of it for 1000 frames.
"""

import argparse
import json
import os
import subprocess
import sys

import av

import predict_deforum
from bench import report
from lib.deforum import Recipe


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


def measured(max_frames: int) -> dict[str, float]:
    """Run deforum in a process of its own and return its peak memory, and how many frames came out."""
    command = [sys.executable, "-m", "bench.deforum", "--run-once", str(max_frames)]
    printed = subprocess.check_output(command, env={**os.environ, "WEIGHTS": "small"}, text=True)
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    assert found["frames"] == max_frames
    return found


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--run-once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_once:
        run_once(options.run_once)
        return
    runs = {count: measured(count) for count in (100, 1000)}
    rows = [[str(count), f"{run['frames']:.0f}", f"{run['peak_mb']:.0f} MB"] for count, run in runs.items()]
    text = f"""## Deforum

Whole runs of the small model, with a schedule of 2 steps instead of 50; {report.machine()}.

{report.markdown_table(["max_frames", "frames in the mp4", "peak memory"], rows)}
"""
    values = {f"peak_mb_{count}": run["peak_mb"] for count, run in runs.items()}
    report.publish("deforum", text, values, options.write)


if __name__ == "__main__":
    main()
