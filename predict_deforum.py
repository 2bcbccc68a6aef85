"""The Cog face of deforum: inputs as documented, a few calls, one mp4.

`cog build` reads this file without running it, so every Input is literal and complete; lib/ holds the same tables
for itself, and a test holds the two equal.
"""

import time
from typing import Optional

from cog import BaseRunner, Input, Path

from lib import weights
from lib.animation.video import encoding_thread, write_mp4
from lib.deforum import Deforum, Request
from lib.device import computing, draw_seed, is_alive, limit_threads, release_threads
from lib.diffusion.models import load
from lib.errors import logged
from lib.outputs import Outputs
from lib.progress import Stages


class Predictor(BaseRunner):
    """Keyframed prompts and camera motion to video."""

    def setup(self) -> None:
        limit_threads()
        folder = weights.ensure("deforum")
        models = load(folder)
        self.weights_kind = weights.kind(folder)
        self.device = models.device
        self.deforum = Deforum(models)
        self.outputs = Outputs("deforum")
        encoding_thread()
        release_threads()

    def healthcheck(self) -> bool:
        return is_alive(self.device)

    def run(
        self,
        max_frames: int = Input(description="Number of frames for animation", default=100, ge=100, le=1000),
        animation_prompts: str = Input(
            description="Prompt for animation. Provide 'frame number : prompt at this frame', separate different prompts with '|'. Make sure the frame number does not exceed the max_frames.",
            default="0: a beautiful portrait of a woman by Artgerm, trending on Artstation",
        ),
        angle: str = Input(description="angle parameter for the motion", default="0:(0)"),
        zoom: str = Input(description="zoom parameter for the motion", default="0: (1.04)"),
        translation_x: str = Input(description="translation_x parameter for the motion", default="0: (0)"),
        translation_y: str = Input(description="translation_y parameter for the motion", default="0: (0)"),
        color_coherence: str = Input(
            default="Match Frame 0 LAB", choices=["None", "Match Frame 0 HSV", "Match Frame 0 LAB", "Match Frame 0 RGB"]
        ),
        sampler: str = Input(
            default="plms",
            choices=["klms", "dpm2", "dpm2_ancestral", "heun", "euler", "euler_ancestral", "plms", "ddim"],
        ),
        fps: int = Input(description="Choose fps for the video.", default=15, ge=10, le=60),
        seed: Optional[int] = Input(description="Random seed. Leave blank to randomize the seed", default=None),
    ) -> Path:
        settings: dict[str, object] = {
            "max_frames": max_frames,
            "animation_prompts": animation_prompts,
            "angle": angle,
            "zoom": zoom,
            "translation_x": translation_x,
            "translation_y": translation_y,
            "color_coherence": color_coherence,
            "sampler": sampler,
            "fps": fps,
            "seed": draw_seed() if seed is None else seed,
        }
        # As a decorator it would hide the defaults from the server, which sets them on this very function.
        with logged(), computing():
            request = Request.verified(**settings)
            settings |= {"max_frames": request.max_frames, "fps": request.fps, "seed": request.seed}  # 7.0 is now 7
            print(f"Using seed: {request.seed}")
            stages = Stages(self.device)
            with self.outputs.fresh() as folder:
                video = Path(folder / "animation.mp4")
                started_s = time.perf_counter()
                frames = write_mp4(video, self.deforum.frames(request, stages), request.fps, settings)
                total_s = time.perf_counter() - started_s
        # What the run spent on the video itself; the rest of its encoding went on beside the model's work.
        stages.seconds["video"] = total_s - sum(stages.seconds.values())
        self.record_metric("seed", request.seed)
        self.record_metric("frames", frames)
        self.record_metric("steps", request.steps)
        self.record_metric("model", self.weights_kind)
        for stage, seconds in stages.seconds.items():
            self.record_metric(f"seconds.{stage}", round(seconds, 4))
        return video
