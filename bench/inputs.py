"""The inputs of deforum in benches: every motion, the slowest colours, and frames enough for both prompts."""

from typing import Any

ANIMATION: dict[str, Any] = {
    "max_frames": 100,
    "animation_prompts": "0: a red circle | 50: a blue square",
    "angle": "0:(2*sin(2*pi*t/30))",
    "zoom": "0: (1.04)",
    "translation_x": "0: (3)",
    "translation_y": "0: (-2)",
    "color_coherence": "Match Frame 0 LAB",
    "sampler": "plms",
    "fps": 15,
    "seed": 0,
}
