"""The inputs of a walk, and the request that it is made from. No PyTorch is needed."""

from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib import prompts
from lib.audio.decode import read_beginning
from lib.audio.seed_images import SEED_IMAGE_IDS
from lib.diffusion.schedule import MAX_STEPS
from lib.errors import Problems, UserError, invalid
from lib.inputs import MAX_SEED, check_choice, check_integer, check_number
from lib.prompt_weights import EMPTY, Prompt, check_prompt
from lib.prompts import Blend, Prompts, Unit
from lib.riffusion_request import steps_run

MAX_BARS = 240
CLIP_BARS = 2  # of a clip, the width that the model was trained on
CLIP_SAMPLES = 225_351  # at 44.1 kHz
SAMPLE_RATE_HZ = 44_100
BEATS_PER_BAR = 4
BEAT_S = CLIP_SAMPLES / SAMPLE_RATE_HZ / CLIP_BARS / BEATS_PER_BAR
BPM = 60 / BEAT_S  # 93.93
MAX_GUIDANCE_SCALE = 30.0
FORMATS = ("wav", "flac", "mp3")

BARS = Unit("bar", "the longest walk's last bar", "move what follows --neg to negative_prompt")


@dataclass(frozen=True)
class Inputs:
    """The inputs with their defaults; unchecked, as a server or a caller provides them."""

    prompts: str = "0: church bells | 8: drums and bass"  # bar: prompt; between two bars the prompts blend
    bars: int = 16  # the bar at which the walk ends, 2 to 240; a bar is 2.555 s
    start_bar: int = 0  # the first bar that is rendered, 0 to bars - 1
    seed: int = 0  # of all noise, 32 bits
    denoising: float = 0.75  # the share of the schedule that is run, 0 to 1: how much of the seed image changes
    guidance_scale: float = 7.0  # how strongly the prompts steer, 0 to 30
    negative_prompt: str | None = None  # what to avoid
    num_inference_steps: int = 50  # of the whole schedule, 1 to 1000
    seed_image_id: str = "vibes"  # the spectrogram that every two bars start from
    seed_audio: str | None = None  # the path of a sound whose first 5.11 s replace the seed image
    seed_drift: float = 0.0  # how far the noise wanders from one clip to the next, 0 to 1
    loop: bool = False  # the end leads into the beginning
    output_format: str = "wav"  # of the sound

    def request(self) -> "Request":
        """Check the values and return the request.

        Raises:
            UserError: A value is invalid; the error has the problems of all inputs.
        """
        problems = Problems()
        check = problems.check
        # The values after `or` replace invalid ones until raise_any.
        keyframes = check(prompts.parse, "prompts", self.prompts, MAX_BARS, BARS) or Prompts(((0, EMPTY),))
        negative = check(check_prompt, "negative_prompt", self.negative_prompt or "") or EMPTY
        bars = check(check_integer, "bars", self.bars, CLIP_BARS, MAX_BARS) or MAX_BARS
        steps = check(check_integer, "num_inference_steps", self.num_inference_steps, 1, MAX_STEPS) or 1
        guidance_scale = check(check_number, "guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE_SCALE) or 0.0
        inputs = replace(
            self,
            bars=bars,
            start_bar=check(check_integer, "start_bar", self.start_bar, 0, bars - 1) or 0,
            seed=check(check_integer, "seed", self.seed, 0, MAX_SEED) or 0,
            denoising=check(check_number, "denoising", self.denoising, 0, 1) or 0.0,
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            seed_image_id=check(check_choice, "seed_image_id", self.seed_image_id, SEED_IMAGE_IDS) or "",
            seed_drift=check(check_number, "seed_drift", self.seed_drift, 0, 1) or 0.0,
            loop=bool(check(_check_loop, self.loop, bars, keyframes)),
            output_format=check(check_choice, "output_format", self.output_format, FORMATS) or "",
        )
        sound = None
        if self.seed_audio is not None:
            sound = check(read_beginning, "seed_audio", self.seed_audio, CLIP_SAMPLES, SAMPLE_RATE_HZ)
        problems.raise_any()
        return Request(inputs, keyframes, negative, sound)


def _check_loop(loop: object, bars: int, keyframes: Prompts) -> bool:
    if not isinstance(loop, bool):
        raise invalid("loop", loop, "true or false")
    if loop and bars % CLIP_BARS:
        raise UserError(f"bars is {bars}, but must be even in a loop")
    last, _ = keyframes.keyframes[-1]
    if loop and last >= bars:
        raise UserError(f"prompts: bar {last} is not in the loop, whose bars are 0 to {bars - 1}")
    return loop


@dataclass(frozen=True)
class Request:
    """A valid request: every value in its type and range, the prompts parsed, the seed's sound decoded."""

    inputs: Inputs
    prompts: Prompts  # by bar
    negative: Prompt
    seed_sound: NDArray[np.float32] | None = None  # at 44.1 kHz, at most two bars

    @property
    def steps(self) -> int:
        """The number of steps that are run: the schedule's times denoising, rounded down."""
        return steps_run(self.inputs.num_inference_steps, self.inputs.denoising)

    def blend(self, bar: float) -> Blend:
        """Return the prompt at a bar. It depends on the bar in the whole walk alone, so that parts of a walk fit.

        In a loop the last prompt leads back to the first.
        """
        keyframes = list(self.prompts.keyframes)
        if self.inputs.loop:
            (first, _), (last, _) = keyframes[0], keyframes[-1]
            keyframes = [(last - self.inputs.bars, keyframes[-1][1]), *keyframes]
            keyframes.append((first + self.inputs.bars, keyframes[1][1]))
            bar %= self.inputs.bars
        after = bisect_right(keyframes, bar, key=lambda keyframe: keyframe[0])
        if after in (0, len(keyframes)):
            prompt = keyframes[max(after - 1, 0)][1]
            return Blend(prompt, prompt, 0.0)
        (start, prompt), (stop, following) = keyframes[after - 1 : after + 1]
        return Blend(prompt, following, (bar - start) / (stop - start))

    def described(self) -> dict[str, str]:
        """Return the inputs as text for a file's metadata."""
        values = asdict(self.inputs)
        if self.inputs.seed_audio is not None:
            values["seed_audio"] = Path(self.inputs.seed_audio).name
        return {name: str(value) for name, value in values.items() if value is not None}
