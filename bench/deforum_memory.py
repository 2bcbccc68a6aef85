"""Run the whole of deforum once, in a process of its own, and print how many frames its mp4 has and the peak memory.

Run by bench/deforum.py.
"""

import json
import sys

import av

import predict_deforum
from bench import report
from bench.inputs import ANIMATION
from lib.deforum import Recipe


class Predictor(predict_deforum.Predictor):
    """Run two steps, later frames one: the small model's full schedule would take a quarter of an hour."""

    recipe = Recipe(steps=2, strength=0.5)


def main() -> None:
    """Run and print."""
    predictor = Predictor()
    predictor.setup()
    video = predictor.run(**ANIMATION | {"max_frames": int(sys.argv[1])})
    peak_mb = report.memory_mb()["peak"]
    with av.open(video) as container:
        frames = sum(1 for _ in container.decode(video=0))
    predictor.outputs.clear()
    print(json.dumps({"frames": frames, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
