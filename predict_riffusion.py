"""The Cog predictor of riffusion: it takes the documented inputs and returns a WAV and a PNG file.

`cog build` reads this file without running it, so every Input is a complete literal. lib/riffusion_request.py has the
same inputs, and a test compares the two.
"""

import os
from typing import Optional

from cog import BaseModel, BaseRunner, Input, Path

from lib import weights
from lib.audio.encode import write_png, write_sound
from lib.device import computing, draw_seed, is_alive, limit_threads, release_threads
from lib.diffusion.models import load
from lib.errors import logged
from lib.inputs import MAX_SEED, check_integer
from lib.outputs import Outputs
from lib.progress import Stages, report
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs


class Output(BaseModel):
    """A clip: the sound as 44.1 kHz mono WAV, and its spectrogram as PNG."""

    audio: Path
    spectrogram: Path


class Predictor(BaseRunner):
    """Text to music by spectrogram diffusion."""

    def setup(self) -> None:
        _seed()  # fail now if RIFFUSION_SEED is invalid, instead of in every prediction
        limit_threads()
        folder = weights.ensure("riffusion")
        self.models = load(folder)
        self.weights_kind = weights.kind(folder)
        self.riffusion = Riffusion(self.models)
        self.outputs = Outputs("riffusion")
        release_threads()

    def healthcheck(self) -> bool:
        return is_alive(self.models.device)

    def run(
        self,
        prompt_a: str = Input(description="The prompt for your audio", default="funky synth solo"),
        denoising: float = Input(description="How much to transform input spectrogram", default=0.75, ge=0, le=1),
        prompt_b: Optional[str] = Input(
            description="The second prompt to interpolate with the first, leave blank if no interpolation",
            default=None,
        ),
        alpha: float = Input(
            description="Interpolation alpha if using two prompts. A value of 0 uses prompt_a fully, a value of 1 uses prompt_b fully",
            default=0.5,
            ge=0,
            le=1,
        ),
        num_inference_steps: int = Input(description="Number of steps to run the diffusion model", default=50, ge=1),
        seed_image_id: str = Input(
            description="Seed spectrogram to use",
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
    ) -> Output:
        # Not a decorator: it would hide this function's defaults, which Cog's server sets.
        with logged(), computing():
            request = Inputs(
                prompt_a=prompt_a,
                prompt_b=prompt_b,
                alpha=alpha,
                denoising=denoising,
                num_inference_steps=num_inference_steps,
                seed_image_id=seed_image_id,
                seed=_seed(),
            ).request()
            seed = request.inputs.seed
            print(f"Using seed: {seed}")
            stages = Stages(self.models.device)
            with self.outputs.fresh() as folder:
                clip = self.riffusion.generate(request, stages)
                output = Output(audio=Path(folder / "audio.wav"), spectrogram=Path(folder / "spectrogram.png"))
                with stages.measure("sound"):
                    write_sound(output.audio, [clip.waveform], request.described())
                    write_png(output.spectrogram, clip.image, request.described())
        report(self.record_metric, stages, seed=seed, steps=request.steps, model=self.weights_kind)
        return output


def _seed() -> int:
    """Return the environment's RIFFUSION_SEED, or a random seed. The documented inputs have none.

    Raises:
        UserError: RIFFUSION_SEED is not a seed.
    """
    fixed = os.environ.get("RIFFUSION_SEED", "")
    if not fixed:
        return draw_seed()
    return check_integer("RIFFUSION_SEED", int(fixed) if fixed.isdecimal() else fixed, 0, MAX_SEED)
