"""Deforum: keyframed prompts and motion -> the frames of an animation.

strings -> Request (checked) -> Film; then for each frame: warp(previous) -> match colours -> add noise -> img2img ->
frame. music-video has the same loop; its requests also decide what deforum's Recipe fixes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.animation.color import ColorMatcher
from lib.animation.operations import Values
from lib.animation.warp import WRAP, carried_back, matrix, warp
from lib.deforum_request import Request
from lib.device import generator, unit_noise
from lib.diffusion.interpolate import lerp
from lib.diffusion.models import Models
from lib.diffusion.pipeline import GUIDANCE_SCALE, decode, denoise, encode, from_model_range, to_model_range
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.progress import Progress, Stages
from lib.prompt_weights import EMPTY, Prompt
from lib.prompts import Prompts

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """What an animation is made from. Arrays have a value for each frame."""

    prompts: Prompts
    angle: Values  # degrees, counter-clockwise
    zoom: Values  # factor
    translation_x: Values  # pixels to the right
    translation_y: Values  # pixels downwards
    strength: Values  # the share of the schedule that is skipped: how much of the previous frame stays
    noise_sigma: Values  # of the noise added to each warped frame, whose range is [-1, 1]
    guidance_scale: Values
    color_coherence: str
    sampler: str
    steps: int  # of the whole schedule, which frame 0 runs
    seed: int  # of frame 0; each frame adds 1
    height_px: int
    width_px: int
    negative: Prompt = EMPTY
    prompt_blend: int = 0  # frames that a prompt takes to replace the one before it
    cadence: int = 1  # every cadence-th frame is diffused; those between are warped and mixed
    border: str = WRAP  # what comes into the picture from outside
    init: Frame | None = None  # what frame 0 is made from, (height, width, 3); None: from noise alone

    @property
    def diffused(self) -> list[int]:
        """The frames that the model makes: every `cadence`-th one, and the last."""
        last = len(self.angle) - 1
        return [*range(0, last, self.cadence), last]

    def steps_of(self, n: int) -> int:
        """Return the number of steps of a diffused frame, the last ones of the schedule.

        Of the frames since the last diffused one, the lowest strength counts, so that a dip in one of them is not lost.
        """
        if n == 0 and self.init is None:
            return self.steps
        since = max((n - 1) // self.cadence * self.cadence + 1, 0)
        return int((1 - float(self.strength[since : n + 1].min())) * self.steps)

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole film."""
        return sum(map(self.steps_of, self.diffused))

    def motion(self, last: int, n: int) -> NDArray[np.float64]:
        """Return the matrix (3, 3) that moves frame `last` to frame n."""
        moved = np.eye(3)
        for frame in range(last + 1, n + 1):
            parameters = self.angle[frame], self.zoom[frame], self.translation_x[frame], self.translation_y[frame]
            moved = matrix(self.height_px, self.width_px, *parameters) @ moved
        return moved

    def moved(self, frame: Frame, last: int, n: int) -> Iterator[Frame]:
        """Yield frame `last` as the motion alone shows it in each frame after it, up to n."""
        for later in range(last + 1, n + 1):
            yield warp(frame, self.motion(last, later), self.border)

    def between(self, moved: Sequence[Frame], frame: Frame, last: int, n: int) -> Iterator[Frame]:
        """Yield the frames between the diffused ones `last` and n, given the `moved` ones and frame n.

        What diffusion changed in frame n is carried back along the motion, and grows from frame to frame.
        """
        change = frame.astype(np.float32) - moved[-1]
        for later, picture in enumerate(moved[:-1], start=last + 1):
            share = (later - last) / (n - last)
            mixed = picture + share * carried_back(change, self.motion(later, n))
            yield np.clip(mixed, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Recipe:
    """The settings that are not inputs of deforum: the same for every animation."""

    size_px: int = 512  # height and width of the frames
    steps: int = 50
    strength: float = 0.65
    guidance_scale: float = GUIDANCE_SCALE
    noise_sigma: float = 0.02

    def film(self, request: Request) -> Film:
        """Return the film of a request."""
        inputs = request.inputs
        return Film(
            request.prompts,
            request.angle,
            request.zoom,
            request.translation_x,
            request.translation_y,
            strength=np.full(inputs.max_frames, self.strength),
            noise_sigma=np.full(inputs.max_frames, self.noise_sigma),
            guidance_scale=np.full(inputs.max_frames, self.guidance_scale),
            color_coherence=inputs.color_coherence,
            sampler=inputs.sampler,
            steps=self.steps,
            seed=inputs.seed,
            height_px=self.size_px,
            width_px=self.size_px,
        )


@dataclass(frozen=True)
class Condition:
    """What a frame is diffused with besides its latents."""

    embedding: Tensor  # the prompt's, (1, tokens, channels)
    unconditional: Tensor  # the empty or the negative prompt's
    guidance_scale: float


@dataclass(frozen=True)
class Run:
    """One animation in progress."""

    film: Film
    stages: Stages
    progress: Progress


class Deforum:
    """The model, ready for any number of animations."""

    def __init__(self, models: Models, recipe: Recipe | None = None) -> None:
        self.recipe = recipe or Recipe()
        self._models = models
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)

    def frames(self, request: Request, stages: Stages, first: Frame | None = None) -> Iterator[Frame]:
        """Yield the frames of a request, made by this model's recipe, as `render` does."""
        return self.render(self.recipe.film(request), stages, first)

    def render(self, film: Film, stages: Stages, first: Frame | None = None) -> Iterator[Frame]:
        """Yield the frames, (height, width, 3) uint8 RGB, keeping only those since the last diffused one in memory.

        If `first` is given, it is frame 0 and the animation continues from it.
        """
        run = Run(film, stages, Progress(film.total_steps - (0 if first is None else film.steps_of(0))))
        conditions = self._conditions(run)
        condition = next(conditions)
        frame = self._first_frame(run, condition) if first is None else first
        yield frame

        matcher = ColorMatcher(film.color_coherence, frame)
        for (last, n), condition in zip(pairwise(film.diffused), conditions, strict=True):
            source = generator(film.seed + n)
            with stages.measure("motion"):
                moved = list(film.moved(frame, last, n))
                image = add_noise(matcher.match(moved[-1]), float(film.noise_sigma[n]), source)
            frame = self._next_frame(run, n, image, condition, source)
            with stages.measure("motion"):
                between = list(film.between(moved, frame, last, n))
            yield from between
            yield frame

    def _conditions(self, run: Run) -> Iterator[Condition]:
        """Yield what each diffused frame is made with, encoding prompts only when they change."""
        film, known = run.film, None
        for n in film.diffused:
            blend = film.prompts.crossing(n, film.prompt_blend)
            prompts = blend.prompt, blend.following
            if prompts != known:
                known = prompts
                with run.stages.measure("encode"):
                    encoded = self._encoded(prompts, film.negative)
            embedding = lerp(blend.share, encoded[0], encoded[1])
            yield Condition(embedding, encoded[2], float(film.guidance_scale[n]))

    def _encoded(self, prompts: tuple[Prompt, Prompt], negative: Prompt) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of two prompts, which may be the same, and of the negative one, of equal length."""
        different = list(dict.fromkeys(prompts))
        encoded = self._prompts.encode([*different, negative] if negative.text else different)
        unconditional = encoded[-1] if negative.text else self._prompts.unconditional(encoded[0])
        return encoded[0], encoded[len(different) - 1], unconditional

    def _first_frame(self, run: Run, condition: Condition) -> Frame:
        """Return a frame from noise alone, by the whole schedule, or from the initial image."""
        film, source = run.film, generator(run.film.seed)
        if film.init is not None:
            return self._next_frame(run, 0, to_model_range(film.init), condition, source)
        sampler = Sampler(film.sampler, film.steps)
        return self._diffused(run, sampler, sampler.pure_noise(self._noise(film, source)), condition, source)

    def _next_frame(
        self, run: Run, n: int, image: NDArray[np.float32], condition: Condition, source: torch.Generator
    ) -> Frame:
        """Return frame n from `image`, (height, width, 3) in [-1, 1], by the last steps of the schedule."""
        film, steps = run.film, run.film.steps_of(n)
        if steps == 0:
            return from_model_range(image)
        with run.stages.measure("encode"):
            latents = encode(self._models, image).sample(self._noise(film, source))
        sampler = Sampler(film.sampler, film.steps, film.steps - steps)
        start = sampler.add_noise(latents, self._noise(film, source))
        return self._diffused(run, sampler, start, condition, source)

    def _noise(self, film: Film, source: torch.Generator) -> Tensor:
        shape = self._models.latent_shape(film.height_px, film.width_px)
        return unit_noise(shape, source, self._models.device)

    def _diffused(
        self, run: Run, sampler: Sampler, start: Tensor, condition: Condition, source: torch.Generator
    ) -> Frame:
        """Denoise the latents `start` and decode them."""
        with run.stages.measure("denoise"):
            latents = denoise(
                self._models,
                sampler,
                start,
                condition.embedding,
                condition.unconditional,
                guidance_scale=condition.guidance_scale,
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
