"""Riffusion: prompts -> the picture of a spectrogram.

text -> Request (verified) -> embeddings and seed latents -> img2img -> picture.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.audio.seed_images import SEED_IMAGE_IDS, load
from lib.device import generator, unit_noise
from lib.diffusion import prompt_weights
from lib.diffusion.img2img import LatentDistribution, decode, denoise, encode, to_model_range
from lib.diffusion.interpolate import lerp, slerp
from lib.diffusion.models import Models
from lib.diffusion.prompt_weights import PromptEncoder
from lib.diffusion.samplers import MAX_STEPS, Sampler
from lib.errors import Problems
from lib.inputs import MAX_SEED, check_choice, check_integer, check_number, check_text
from lib.progress import Progress, Stages

SAMPLER = "plms"  # what the weights were published with


@dataclass(frozen=True)
class Request:
    """What a clip is made from. Made by `verified`, every value is of its type and in its bounds."""

    prompt_a: str
    prompt_b: str | None
    alpha: float
    denoising: float
    num_inference_steps: int
    seed_image_id: str
    seed: int

    @classmethod
    def verified(
        cls,
        *,
        prompt_a: object,
        prompt_b: object,
        alpha: object,
        denoising: object,
        num_inference_steps: object,
        seed_image_id: object,
        seed: object,
    ) -> Self:
        """Check raw values and return the request; raise one UserError that names every problem."""
        problems = Problems()
        check = problems.check
        values: dict[str, Any] = {
            "prompt_a": check(_check_prompt, "prompt_a", prompt_a),
            "prompt_b": None if prompt_b is None else check(_check_prompt, "prompt_b", prompt_b),
            "alpha": check(check_number, "alpha", alpha, 0, 1),
            "denoising": check(check_number, "denoising", denoising, 0, 1),
            "num_inference_steps": check(check_integer, "num_inference_steps", num_inference_steps, 1, MAX_STEPS),
            "seed_image_id": check(check_choice, "seed_image_id", seed_image_id, SEED_IMAGE_IDS),
            "seed": check(check_integer, "seed", seed, 0, MAX_SEED),
        }
        problems.raise_any()
        return cls(**values)

    @property
    def steps(self) -> int:
        """How many steps of the schedule are run."""
        return min(int(self.num_inference_steps * self.denoising), self.num_inference_steps)

    def described(self) -> dict[str, str]:
        """Return what was asked for as text, for a file's metadata."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}


def _check_prompt(name: str, value: object) -> str:
    text = check_text(name, value)
    prompt_weights.parse(name, text)
    return text


@dataclass(frozen=True)
class Start:
    """Where a clip's diffusion starts: what the prompt says, and the two noises its seed draws."""

    embedding: Tensor
    latent_noise: Tensor
    step_noise: Tensor


class Riffusion:
    """The model, and what is the same for every request: the latent distribution of each seed image."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)
        self._seed_latents: dict[str, LatentDistribution] = {}

    def generate(self, request: Request, stages: Stages) -> NDArray[np.uint8]:
        """Return the spectrogram of `request` as a picture (512, 512) uint8."""
        if request.steps == 0:
            return load(request.seed_image_id)
        with stages.measure("encode"):
            seed_latents = self._seed_distribution(request.seed_image_id)
            start = self._start(request, seed_latents.mean.shape)
        with stages.measure("denoise"):
            sampler = Sampler(SAMPLER, request.num_inference_steps, request.num_inference_steps - request.steps)
            progress = Progress(len(sampler.timesteps))
            latents = denoise(
                self._models,
                sampler,
                sampler.add_noise(seed_latents.sample(start.latent_noise), start.step_noise),
                start.embedding,
                self._prompts.unconditional(start.embedding),
                on_evaluation=progress.advance,
            )
        with stages.measure("decode"):
            # Sound and picture are made from one value a pixel; the mean has a third of the channels' colour noise.
            grey: NDArray[np.uint8] = decode(self._models, latents).mean(axis=2).round().astype(np.uint8)
        return grey

    def _start(self, request: Request, shape: torch.Size) -> Start:
        """Return the start for one prompt, or the blend of two."""
        noises_a = self._noises(request.seed, shape)
        if request.prompt_b is None or not request.prompt_b.strip() or request.alpha == 0:
            return Start(*self._prompts.encode([request.prompt_a]), *noises_a)
        noises_b = self._noises(request.seed + 1, shape)
        if request.alpha == 1:
            return Start(*self._prompts.encode([request.prompt_b]), *noises_b)
        embedding_a, embedding_b = self._prompts.encode([request.prompt_a, request.prompt_b])
        noises = [slerp(request.alpha, a, b) for a, b in zip(noises_a, noises_b, strict=True)]
        return Start(lerp(request.alpha, embedding_a, embedding_b), *noises)

    def _noises(self, seed: int, shape: torch.Size) -> list[Tensor]:
        """Draw the noise that picks the seed image's latents and the noise of the start, in this order."""
        source = generator(seed)
        return [unit_noise(shape, source, self._models.device) for _ in range(2)]

    def _seed_distribution(self, name: str) -> LatentDistribution:
        if name not in self._seed_latents:
            picture = np.repeat(load(name)[:, :, np.newaxis], 3, axis=2)
            self._seed_latents[name] = encode(self._models, to_model_range(picture))
        return self._seed_latents[name]
