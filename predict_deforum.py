"""The Cog predictor of deforum: it takes the documented inputs and returns an mp4 file.

`cog build` reads this file without running it, so every Input is a complete literal. lib/deforum_request.py has the
same inputs, and a test compares the two.
"""

import time
from typing import Optional

from cog import BaseRunner, Input, Path

from lib import weights
from lib.animation.video import encoding_thread, write_mp4
from lib.deforum import Deforum, Recipe
from lib.deforum_request import MIN_FRAMES, Inputs
from lib.device import computing, draw_seed, is_alive, limit_threads, release_threads
from lib.diffusion.models import load
from lib.errors import logged
from lib.inputs import RANDOM_SEED
from lib.outputs import Outputs
from lib.progress import Stages, report


class Predictor(BaseRunner):
    """Keyframed prompts and camera motion to video. Tests and benches override the recipe and the minimum length."""

    recipe = Recipe()
    min_frames = MIN_FRAMES

    def setup(self) -> None:
        limit_threads()
        folder = weights.ensure("deforum")
        self.models = load(folder)
        self.weights_kind = weights.kind(folder)
        self.deforum = Deforum(self.models, self.recipe)
        self.outputs = Outputs("deforum")
        encoding_thread()
        release_threads()

    def healthcheck(self) -> bool:
        return is_alive(self.models.device)

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
        # Not a decorator: it would hide this function's defaults, which Cog's server sets.
        with logged(), computing():
            request = Inputs(
                max_frames=max_frames,
                animation_prompts=animation_prompts,
                angle=angle,
                zoom=zoom,
                translation_x=translation_x,
                translation_y=translation_y,
                color_coherence=color_coherence,
                sampler=sampler,
                fps=fps,
                seed=draw_seed() if seed in (None, RANDOM_SEED) else seed,
            ).request(self.min_frames)
            inputs = request.inputs
            print(f"Using seed: {inputs.seed}")
            stages = Stages(self.models.device)
            with self.outputs.fresh() as folder:
                video = Path(folder / "animation.mp4")
                started_s = time.perf_counter()
                frames = write_mp4(video, self.deforum.frames(request, stages), inputs.fps, request.described())
                total_s = time.perf_counter() - started_s
        # The time spent on the video alone. The rest of the encoding ran while the model worked.
        stages.seconds["video"] = total_s - sum(stages.seconds.values())
        steps = self.recipe.film(request).total_steps
        report(self.record_metric, stages, seed=inputs.seed, frames=frames, steps=steps, model=self.weights_kind)
        return video
