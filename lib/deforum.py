"""Deforum: keyframed prompts and motion -> the frames of an animation.

strings -> Request (checked); then for each frame: warp(previous) -> match colours -> add noise -> img2img -> frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.animation.color import ColorMatcher
from lib.animation.warp import warp
from lib.deforum_request import Request
from lib.device import generator, unit_noise
from lib.diffusion.models import Models
from lib.diffusion.pipeline import GUIDANCE_SCALE, decode, denoise, encode, from_model_range, to_model_range
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.progress import Progress, Stages

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """The settings that are not inputs: the same for every animation."""

    size_px: int = 512  # height and width of the frames
    steps: int = 50  # of the whole schedule, which frame 0 runs
    strength: float = 0.65  # the share of the schedule that later frames skip: how much of the previous frame stays
    guidance_scale: float = GUIDANCE_SCALE
    noise_sigma: float = 0.02  # of the noise added to each warped frame, whose range is [-1, 1]

    @property
    def later_steps(self) -> int:
        """The number of steps of each frame after frame 0, the last ones of the schedule: 17."""
        return int((1 - self.strength) * self.steps)

    def total_steps(self, frames: int) -> int:
        """Return the number of steps of an animation of `frames` frames."""
        return self.steps + (frames - 1) * self.later_steps


@dataclass(frozen=True)
class Run:
    """One animation in progress."""

    request: Request
    stages: Stages
    progress: Progress


class Deforum:
    """The model, ready for any number of animations."""

    def __init__(self, models: Models, recipe: Recipe | None = None) -> None:
        self.recipe = recipe or Recipe()
        self._models = models
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)

    def frames(self, request: Request, stages: Stages, first: Frame | None = None) -> Iterator[Frame]:
        """Yield the frames, (size, size, 3) uint8 RGB, keeping only the last one in memory.

        If `first` is given, it is frame 0 and the animation continues from it.
        """
        steps = self.recipe.total_steps(request.inputs.max_frames)
        run = Run(request, stages, Progress(steps if first is None else steps - self.recipe.steps))
        embeddings = self._embeddings(run)
        embedding = next(embeddings)
        frame = self._first_frame(run, embedding) if first is None else first
        yield frame

        matcher = ColorMatcher(request.inputs.color_coherence, frame)
        for n, embedding in enumerate(embeddings, start=1):
            source = generator(request.inputs.seed + n)
            with stages.measure("motion"):
                motion = request.angle[n], request.zoom[n], request.translation_x[n], request.translation_y[n]
                image = add_noise(matcher.match(warp(frame, *motion)), self.recipe.noise_sigma, source)
            frame = self._next_frame(run, image, embedding, source)
            yield frame

    def _embeddings(self, run: Run) -> Iterator[Tensor]:
        """Yield the embedding of each frame's prompt, encoding a prompt only when it changes."""
        prompt, embedding = None, torch.empty(0)
        for n in range(run.request.inputs.max_frames):
            if run.request.prompts.at(n) != prompt:
                prompt = run.request.prompts.at(n)
                with run.stages.measure("encode"):
                    (embedding,) = self._prompts.encode([prompt])
            yield embedding

    def _first_frame(self, run: Run, embedding: Tensor) -> Frame:
        """Return a frame from noise alone, by the whole schedule."""
        source = generator(run.request.inputs.seed)
        sampler = Sampler(run.request.inputs.sampler, self.recipe.steps)
        return self._diffused(run, sampler, sampler.pure_noise(self._noise(source)), embedding, source)

    def _next_frame(self, run: Run, image: NDArray[np.float32], embedding: Tensor, source: torch.Generator) -> Frame:
        """Return a frame from `image`, (size, size, 3) in [-1, 1], by the last steps of the schedule."""
        steps, later_steps = self.recipe.steps, self.recipe.later_steps
        if later_steps == 0:
            return from_model_range(image)
        with run.stages.measure("encode"):
            latents = encode(self._models, image).sample(self._noise(source))
        sampler = Sampler(run.request.inputs.sampler, steps, steps - later_steps)
        return self._diffused(run, sampler, sampler.add_noise(latents, self._noise(source)), embedding, source)

    def _noise(self, source: torch.Generator) -> Tensor:
        shape = self._models.latent_shape(self.recipe.size_px, self.recipe.size_px)
        return unit_noise(shape, source, self._models.device)

    def _diffused(self, run: Run, sampler: Sampler, start: Tensor, embedding: Tensor, source: torch.Generator) -> Frame:
        """Denoise the latents `start` and decode them."""
        with run.stages.measure("denoise"):
            latents = denoise(
                self._models,
                sampler,
                start,
                embedding,
                self._prompts.unconditional(embedding),
                guidance_scale=self.recipe.guidance_scale,
                generator=source,
                on_step=run.progress.advance,
            )
        with run.stages.measure("decode"):
            return decode(self._models, latents)


def add_noise(frame: Frame, sigma: float, generator: torch.Generator) -> NDArray[np.float32]:
    """Return a frame in the model's range [-1, 1] with Gaussian noise; without noise, details would wash out.

    As in the original, the result is neither rounded nor clipped. White may reach 1.05; clipping would darken it on
    average.
    """
    noise = torch.randn(frame.shape, generator=generator).mul_(sigma)
    noised: NDArray[np.float32] = to_model_range(frame) + noise.numpy()
    return noised
