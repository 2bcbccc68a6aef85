"""Deforum's inputs: what is documented, and what an animation is made from. No torch is needed to verify them."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from lib.animation import keyframes, prompts
from lib.animation.color import COLOR_COHERENCE
from lib.animation.operations import Values
from lib.animation.prompts import Prompts
from lib.diffusion.prompt_weights import Prompt
from lib.errors import Problems
from lib.inputs import MAX_SEED, check_choice, check_integer

# Those of lib.diffusion.samplers, which needs torch; a test holds the two equal.
SAMPLERS = ("klms", "dpm2", "dpm2_ancestral", "heun", "euler", "euler_ancestral", "plms", "ddim")
MIN_FRAMES, MAX_FRAMES = 100, 1000
MIN_FPS, MAX_FPS = 10, 60
MIN_ZOOM = 1e-6  # at 0 the warp is singular


@dataclass(frozen=True)
class Inputs:
    """The inputs by their documented names, with their defaults.

    They are as a server or a caller gives them; `request` verifies them.
    """

    max_frames: int = 100  # frames of the video, 100 to 1000
    animation_prompts: str = "0: a beautiful portrait of a woman by Artgerm, trending on Artstation"  # frame: prompt
    angle: str = "0:(0)"  # degrees a frame, counter-clockwise; this and the next three are frame:(expression)
    zoom: str = "0: (1.04)"  # a factor a frame; above 1 the camera moves in
    translation_x: str = "0: (0)"  # pixels a frame to the right
    translation_y: str = "0: (0)"  # pixels a frame downwards
    color_coherence: str = "Match Frame 0 LAB"  # the space in which every frame gets the colours of frame 0
    sampler: str = "plms"
    fps: int = 15  # frames a second, 10 to 60
    seed: int = 0  # of frame 0's noise, 32 bits; it grows by one a frame

    def request(self, min_frames: int = MIN_FRAMES) -> "Request":
        """Verify the values and return what they ask for; raise one UserError that names every problem.

        Tests and benches let videos be shorter than documented, by `min_frames`.
        """
        problems = Problems()
        check = problems.check
        # What follows `or` stands for a value that is refused below: the strings are read whatever it is.
        frames = check(check_integer, "max_frames", self.max_frames, min_frames, MAX_FRAMES) or MAX_FRAMES
        seed = check(check_integer, "seed", self.seed, 0, MAX_SEED) or 0

        def motion(name: str, value: str, above: float | None = None) -> Values:
            values = check(keyframes.parse, name, value, frames, seed, above)
            return np.zeros(frames) if values is None else values

        read = check(prompts.parse, self.animation_prompts, frames) or Prompts(((0, Prompt("")),))
        angle = motion("angle", self.angle)
        zoom = motion("zoom", self.zoom, above=MIN_ZOOM)
        translation_x = motion("translation_x", self.translation_x)
        translation_y = motion("translation_y", self.translation_y)
        inputs = replace(
            self,
            max_frames=frames,
            color_coherence=check(check_choice, "color_coherence", self.color_coherence, COLOR_COHERENCE) or "",
            sampler=check(check_choice, "sampler", self.sampler, SAMPLERS) or "",
            fps=check(check_integer, "fps", self.fps, MIN_FPS, MAX_FPS) or MIN_FPS,
            seed=seed,
        )
        problems.raise_any()
        return Request(inputs, read, angle, zoom, translation_x, translation_y)


@dataclass(frozen=True)
class Request:
    """What an animation is made from: every value of its type and in its bounds, every string parsed.

    The motion holds one value per frame: degrees, a factor, and pixels.
    """

    inputs: Inputs
    prompts: Prompts
    angle: Values
    zoom: Values
    translation_x: Values
    translation_y: Values

    def described(self) -> dict[str, str | int]:
        """Return what was asked for, for the video's metadata."""
        return asdict(self.inputs)
