"""Run the whole of deforum once, in a process of its own, and print how many frames its mp4 has and the peak memory.

Run by bench/deforum.py.
"""

import json
import re
import sys
from pathlib import Path

import av

import predict_deforum
from lib import deforum

# Two steps, of which later frames run one: the small model's full schedule would take a quarter of an hour.
deforum.STEPS, deforum.FIRST_STEP = 2, 1

predictor = predict_deforum.Predictor()
predictor.setup()
video = predictor.run(
    max_frames=int(sys.argv[1]),
    animation_prompts="0: a red circle | 50: a blue square",
    angle="0:(2*sin(2*pi*t/30))",
    zoom="0: (1.04)",
    translation_x="0: (3)",
    translation_y="0: (-2)",
    color_coherence="Match Frame 0 LAB",
    sampler="plms",
    fps=15,
    seed=0,
)
# ru_maxrss would begin with the parent's: it survives exec.
peak = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
assert peak
with av.open(video) as container:
    frames = sum(1 for _ in container.decode(video=0))
predictor.outputs.clear()
print(json.dumps({"frames": frames, "peak_mb": int(peak[1]) * 1024 / 1e6}))
