"""The Cog predictor of walk: it takes prompts by bar and returns minutes of music, its spectrogram and its beats.

`cog build` reads this file without running it, so every Input is a complete literal. lib/walk_request.py has the same
inputs, and a test compares the two.
"""

import json
from typing import Optional

from cog import BaseModel, BaseRunner, Input, Path

from lib import weights
from lib.audio.encode import write_png, write_sound
from lib.device import computing, draw_seed, is_alive, limit_threads, release_threads
from lib.diffusion.models import load
from lib.errors import logged
from lib.inputs import RANDOM_SEED
from lib.outputs import Outputs, whole
from lib.progress import Stages, report
from lib.walk import Walk, timeline
from lib.walk_request import Inputs


class Output(BaseModel):
    """A walk: its sound, its spectrogram as PNG, and the times of its beats with their prompts as JSON."""

    audio: Path
    spectrogram: Path
    timeline: Path


class Predictor(BaseRunner):
    """Keyframed prompts to minutes of music, with riffusion's weights."""

    def setup(self) -> None:
        limit_threads()
        folder = weights.ensure("riffusion")
        self.models = load(folder)
        self.weights_kind = weights.kind(folder)
        self.walk = Walk(self.models)
        self.outputs = Outputs("walk")
        release_threads()

    def healthcheck(self) -> bool:
        return is_alive(self.models.device)

    def run(
        self,
        prompts: str = Input(
            description="What plays, by bar: 'bar: prompt', separated by '|'. Between two bars the prompts blend; a prompt given twice holds.",
            default="0: church bells | 8: drums and bass",
        ),
        bars: int = Input(description="Where the music ends, in bars of 2.555 s", default=16, ge=2, le=240),
        start_bar: int = Input(
            description="The first bar to render. The parts of a walk fit together.", default=0, ge=0, le=239
        ),
        seed: Optional[int] = Input(description="Random seed. Leave blank to randomize the seed", default=None),
        denoising: float = Input(description="How much to transform the seed spectrogram", default=0.75, ge=0, le=1),
        guidance_scale: float = Input(description="How strongly the prompts steer", default=7, ge=0, le=30),
        negative_prompt: Optional[str] = Input(description="What to avoid", default=None),
        num_inference_steps: int = Input(description="Number of diffusion steps", default=50, ge=1, le=1000),
        seed_image_id: str = Input(
            description="Seed spectrogram of two bars, which provides beat and key",
            default="vibes",
            choices=[
                "agile",
                "marim",
                "mask_beat_lines_80",
                "mask_gradient_dark",
                "mask_gradient_top_70",
                "mask_graident_top_fifth_75",
                "mask_top_third_75",
                "mask_top_third_95",
                "motorway",
                "og_beat",
                "vibes",
            ],
        ),
        seed_audio: Optional[Path] = Input(
            description="A sound whose first 5.11 s replace the seed spectrogram; for the beat to fit, two bars at 93.93 beats per minute",
            default=None,
        ),
        seed_drift: float = Input(
            description="How far the noise wanders every two bars. At 0 the music repeats itself most.",
            default=0,
            ge=0,
            le=1,
        ),
        loop: bool = Input(description="Let the end lead into the beginning. bars must be even.", default=False),
        output_format: str = Input(description="Format of the sound", default="wav", choices=["wav", "flac", "mp3"]),
    ) -> Output:
        # Not a decorator: it would hide this function's defaults, which Cog's server sets.
        with logged(), computing():
            request = Inputs(
                prompts=prompts,
                bars=bars,
                start_bar=start_bar,
                seed=draw_seed() if seed in (None, RANDOM_SEED) else seed,
                denoising=denoising,
                guidance_scale=guidance_scale,
                negative_prompt=negative_prompt,
                num_inference_steps=num_inference_steps,
                seed_image_id=seed_image_id,
                seed_audio=seed_audio and str(seed_audio),
                seed_drift=seed_drift,
                loop=loop,
                output_format=output_format,
            ).request()
            inputs = request.inputs
            print(f"Using seed: {inputs.seed}")
            stages = Stages(self.models.device)
            with self.outputs.fresh() as folder:
                output = Output(
                    audio=Path(folder / f"audio.{inputs.output_format}"),
                    spectrogram=Path(folder / "spectrogram.png"),
                    timeline=Path(folder / "timeline.json"),
                )
                music = self.walk.generate(request, stages)
                with stages.measure("sound"):
                    write_sound(output.audio, music.sound, request.described())
                    write_png(output.spectrogram, music.image, request.described())
                    with whole(output.timeline) as unfinished:
                        unfinished.write_text(json.dumps(timeline(request, music.gain), indent=1), encoding="utf-8")
        report(
            self.record_metric,
            stages,
            seed=inputs.seed,
            bars=inputs.bars - inputs.start_bar,
            steps=request.steps,
            model=self.weights_kind,
        )
        return output
