"""Deforum's inputs: the documented values, and the request that an animation is made from. No PyTorch is needed."""

from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np

from lib import prompts
from lib.animation import keyframes
from lib.animation.color import COLOR_COHERENCE
from lib.animation.keyframes import UNBOUNDED, Bounds, Scene
from lib.animation.operations import Values
from lib.errors import InputProblems
from lib.inputs import MAX_SEED, check_choice, check_integer
from lib.prompt_weights import EMPTY
from lib.prompts import Prompts

# Those of lib.diffusion.samplers, which needs PyTorch. A test compares the two.
SAMPLERS = ("klms", "dpm2", "dpm2_ancestral", "heun", "euler", "euler_ancestral", "plms", "ddim")
MOTION = {
    "angle": UNBOUNDED,
    "zoom": Bounds(above=1e-6),  # the warp is singular at 0
    "translation_x": UNBOUNDED,
    "translation_y": UNBOUNDED,
}
NO_PROMPTS = Prompts(((0, EMPTY),))
MIN_FRAMES, MAX_FRAMES = 100, 1000
MIN_FPS, MAX_FPS = 10, 60


@dataclass(frozen=True)
class AnimationInputs:
    """The inputs that deforum and music-video share, by their documented names, with deforum's defaults."""

    animation_prompts: str = "0: a beautiful portrait of a woman by Artgerm, trending on Artstation"  # frame: prompt
    angle: str = "0:(0)"  # degrees per frame, counter-clockwise; this and the next three are frame:(expression)
    zoom: str = "0: (1.04)"  # factor per frame; above 1 the camera moves in
    translation_x: str = "0: (0)"  # pixels per frame to the right
    translation_y: str = "0: (0)"  # pixels per frame downwards
    color_coherence: str = "Match Frame 0 LAB"  # the colour space in which every frame is matched to frame 0
    sampler: str = "plms"
    fps: int = 15  # frames per second, 10 to 60
    seed: int = 0  # of frame 0's noise, 32 bits; each frame adds 1

    def checked(self, problems: InputProblems) -> Self:
        """Return the inputs with choices and numbers that are valid or replaced."""
        check = problems.check
        return replace(
            self,
            color_coherence=check(check_choice, "color_coherence", self.color_coherence, COLOR_COHERENCE) or "",
            sampler=check(check_choice, "sampler", self.sampler, SAMPLERS) or "",
            fps=check(check_integer, "fps", self.fps, MIN_FPS, MAX_FPS) or MIN_FPS,
        )

    def checked_seed(self, problems: InputProblems) -> int:
        """Return the seed, or 0 if it is invalid."""
        return problems.check(check_integer, "seed", self.seed, 0, MAX_SEED) or 0

    def curve(self, name: str, scene: Scene, problems: InputProblems, bounds: Bounds = UNBOUNDED) -> Values:
        """Return the values of a motion by frame, or zeros if they are invalid."""
        values = problems.check(keyframes.parse, name, getattr(self, name), scene, bounds)
        return np.zeros(scene.max_frames) if values is None else values


@dataclass(frozen=True)
class Inputs(AnimationInputs):
    """The inputs of deforum; unchecked, as a server or a caller provides them."""

    max_frames: int = 100  # frames of the video, 100 to 1000

    def request(self, min_frames: int = MIN_FRAMES) -> "Request":
        """Check the values and return the request. Tests and benches make shorter videos with `min_frames`.

        Raises:
            UserError: A value is invalid; the error has the problems of all inputs.
        """
        request, problems = self.read(min_frames)
        problems.raise_any()
        return request

    def read(self, min_frames: int = MIN_FRAMES) -> tuple["Request", InputProblems]:
        """Return the request and the problems by input. An input with a problem has a substitute for its value."""
        problems = InputProblems()
        # With the largest substitute, no frame of another input is reported as too high.
        frames = problems.check(check_integer, "max_frames", self.max_frames, min_frames, MAX_FRAMES) or MAX_FRAMES
        seed = self.checked_seed(problems)
        keyframed = problems.check(prompts.parse, "animation_prompts", self.animation_prompts, frames)
        curves = {name: self.curve(name, Scene(frames, seed), problems, bounds) for name, bounds in MOTION.items()}
        inputs = replace(self.checked(problems), max_frames=frames, seed=seed)
        return Request(inputs, keyframed or NO_PROMPTS, **curves), problems


@dataclass(frozen=True)
class Request:
    """A valid request: every value in its type and range, every string parsed.

    A motion has the name of its input, but it is an array with a value for each frame: degrees, a factor, and pixels.
    """

    inputs: Inputs
    prompts: Prompts
    angle: Values
    zoom: Values
    translation_x: Values
    translation_y: Values

    def described(self) -> dict[str, str | int]:
        """Return the inputs for the video's metadata."""
        return asdict(self.inputs)
