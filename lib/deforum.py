"""Deforum: keyframed prompts and motion -> the frames of an animation.

Every string is parsed and every error found before the first diffusion step; then, for each frame,
warp(previous) -> colour -> noise -> img2img -> frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.animation import keyframes, prompts
from lib.animation.color import COLOR_COHERENCE, ColorMatcher, add_noise
from lib.animation.operations import Values
from lib.animation.prompts import Prompts
from lib.animation.warp import warp
from lib.device import generator, unit_noise
from lib.diffusion.img2img import decode, denoise, encode
from lib.diffusion.models import Models
from lib.diffusion.prompt_weights import PromptEncoder
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.errors import Problems
from lib.inputs import MAX_SEED, check_choice, check_integer
from lib.progress import Progress, Stages

SIZE_PX = 512
STEPS = 50
STRENGTH = 0.65  # how much of the previous frame stays
FIRST_STEP = STEPS - int((1 - STRENGTH) * STEPS)  # 33: the last 17 steps are run
NOISE_SIGMA = 0.02  # on every warped frame, in [-1, 1] units
MIN_FRAMES, MAX_FRAMES = 100, 1000
MIN_FPS, MAX_FPS = 10, 60
MIN_ZOOM = 1e-6  # at 0 the warp is singular

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """What an animation is made from. Made by `verified`, everything in it is parsed and in its bounds.

    The motion holds one value per frame: degrees, a factor, and pixels.
    """

    max_frames: int
    prompts: Prompts
    angle: Values
    zoom: Values
    translation_x: Values
    translation_y: Values
    color_coherence: str
    sampler: str
    fps: int
    seed: int

    @classmethod
    def verified(
        cls,
        *,
        max_frames: object,
        animation_prompts: object,
        angle: object,
        zoom: object,
        translation_x: object,
        translation_y: object,
        color_coherence: object,
        sampler: object,
        fps: object,
        seed: object,
    ) -> Self:
        """Check raw values and return the request; raise one UserError that names every problem."""
        problems = Problems()
        check = problems.check
        count = check(check_integer, "max_frames", max_frames, MIN_FRAMES, MAX_FRAMES)
        base_seed = check(check_integer, "seed", seed, 0, MAX_SEED)
        # The strings are read whatever becomes of these two, so that all errors come out at once.
        frames, s = count or MAX_FRAMES, base_seed or 0

        def motion(name: str, value: object, above: float | None = None) -> Values | None:
            return check(keyframes.parse, name, value, frames, s, above)

        values: dict[str, Any] = {
            "max_frames": count,
            "prompts": check(prompts.parse, animation_prompts, frames),
            "angle": motion("angle", angle),
            "zoom": motion("zoom", zoom, above=MIN_ZOOM),
            "translation_x": motion("translation_x", translation_x),
            "translation_y": motion("translation_y", translation_y),
            "color_coherence": check(check_choice, "color_coherence", color_coherence, COLOR_COHERENCE),
            "sampler": check(check_choice, "sampler", sampler, tuple(SAMPLERS)),
            "fps": check(check_integer, "fps", fps, MIN_FPS, MAX_FPS),
            "seed": base_seed,
        }
        problems.raise_any()
        return cls(**values)

    @property
    def steps(self) -> int:
        """How many steps are run, over all frames."""
        return STEPS + (self.max_frames - 1) * (STEPS - FIRST_STEP)


class Deforum:
    """The model, ready for any number of animations."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)

    def frames(self, request: Request, stages: Stages) -> Iterator[Frame]:
        """Make the frames (512, 512, 3) uint8 RGB, one after the other; only the last one is kept."""
        progress = Progress(evaluations(request))
        embeddings = self._embeddings(request, stages)
        source = generator(request.seed)
        frame = self._diffused(request, None, next(embeddings), source, stages, progress)
        yield frame

        matcher = ColorMatcher(request.color_coherence, frame)
        for n, embedding in enumerate(embeddings, start=1):
            source = generator(request.seed + n)
            with stages.measure("motion"):
                motion = request.angle[n], request.zoom[n], request.translation_x[n], request.translation_y[n]
                image = add_noise(matcher.match(warp(frame, *motion)), NOISE_SIGMA, source)
            frame = self._diffused(request, image, embedding, source, stages, progress)
            yield frame

    def _embeddings(self, request: Request, stages: Stages) -> Iterator[Tensor]:
        """Yield the embedding of each frame's prompt, computed when the prompt changes."""
        text, embedding = None, torch.empty(0)
        for n in range(request.max_frames):
            if request.prompts.at(n) != text:
                text = request.prompts.at(n)
                with stages.measure("encode"):
                    (embedding,) = self._prompts.encode([text])
            yield embedding

    def _diffused(
        self,
        request: Request,
        image: NDArray[np.float32] | None,
        embedding: Tensor,
        source: torch.Generator,
        stages: Stages,
        progress: Progress,
    ) -> Frame:
        """Make a frame by text to image, or from `image` (512, 512, 3) in [-1, 1] by the last steps of img2img."""
        models = self._models
        shape = models.latent_shape(SIZE_PX, SIZE_PX)
        if image is None:
            sampler = Sampler(request.sampler, STEPS)
            start = sampler.pure_noise(unit_noise(shape, source, models.device))
        else:
            with stages.measure("encode"):
                latents = encode(models, image).sample(unit_noise(shape, source, models.device))
            sampler = Sampler(request.sampler, STEPS, FIRST_STEP)
            start = sampler.add_noise(latents, unit_noise(shape, source, models.device))
        with stages.measure("denoise"):
            unconditional = self._prompts.unconditional(embedding)
            denoised = denoise(models, sampler, start, embedding, unconditional, source, progress.advance)
        with stages.measure("decode"):
            return decode(models, denoised)


def evaluations(request: Request) -> int:
    """Count the UNet evaluations of an animation: 50 steps for frame 0, the last 17 for each one after it."""
    first, later = (len(Sampler(request.sampler, STEPS, step).timesteps) for step in (0, FIRST_STEP))
    return first + (request.max_frames - 1) * later
