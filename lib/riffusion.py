"""Riffusion: prompts -> the image of a spectrogram -> sound.

text -> Request (checked) -> embeddings and seed latents -> img2img -> image -> mel -> waveform.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.audio.inverse import Synthesis
from lib.audio.loudness import level
from lib.audio.seed_images import load
from lib.audio.spectrogram import image_to_mel
from lib.device import generator, unit_noise
from lib.diffusion.interpolate import lerp, slerp
from lib.diffusion.models import Models
from lib.diffusion.pipeline import GUIDANCE_SCALE, LatentDistribution, decode, denoise, encode, to_model_range
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.progress import Progress, Stages
from lib.riffusion_request import Request


@dataclass(frozen=True)
class Recipe:
    """The settings that are not inputs: the same for every clip."""

    sampler: str = "plms"  # with which the weights were published
    guidance_scale: float = GUIDANCE_SCALE


@dataclass(frozen=True)
class Clip:
    """A finished clip."""

    image: NDArray[np.uint8]  # its spectrogram, (512, 512)
    waveform: Tensor  # (1, samples) float32 at 44.1 kHz, at the loudness of a finished clip


@dataclass(frozen=True)
class Start:
    """Where a clip's diffusion starts: the prompt's embedding, and the noise that the seed draws."""

    embedding: Tensor
    latent_noise: Tensor
    step_noise: Tensor


class Riffusion:
    """The model, ready for any number of clips. It caches the latent distribution of each seed image."""

    def __init__(self, models: Models, recipe: Recipe | None = None) -> None:
        self._models = models
        self._recipe = recipe or Recipe()
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)
        self._synthesis = Synthesis(models.device)
        self._seed_latents: dict[str, LatentDistribution] = {}

    def generate(self, request: Request, stages: Stages) -> Clip:
        """Return the clip of a request."""
        image = self.picture(request, stages)
        with stages.measure("sound"):
            return Clip(image, self.sound(image, request.inputs.seed))

    def picture(self, request: Request, stages: Stages) -> NDArray[np.uint8]:
        """Return the spectrogram of a request as an image (512, 512) uint8."""
        inputs = request.inputs
        if request.steps == 0:
            if inputs.denoising > 0:
                why = "num_inference_steps x denoising < 1"
                print(f"0 diffusion steps ({why}): returning the seed image {inputs.seed_image_id!r} unchanged")
            return load(inputs.seed_image_id)
        with stages.measure("encode"):
            seed_latents = self._seed_distribution(inputs.seed_image_id)
            start = self._start(request, seed_latents.mean.shape)
        with stages.measure("denoise"):
            steps = inputs.num_inference_steps
            sampler = Sampler(self._recipe.sampler, steps, steps - request.steps)
            latents = denoise(
                self._models,
                sampler,
                sampler.add_noise(seed_latents.sample(start.latent_noise), start.step_noise),
                start.embedding,
                self._prompts.unconditional(start.embedding),
                guidance_scale=self._recipe.guidance_scale,
                on_step=Progress(request.steps).advance,
            )
        with stages.measure("decode"):
            # The spectrogram has one value per pixel. The mean reduces the noise of the channels.
            grey: NDArray[np.uint8] = decode(self._models, latents).mean(axis=2).round().astype(np.uint8)
        return grey

    def sound(self, image: NDArray[np.uint8], seed: int) -> Tensor:
        """Return the waveform (1, samples) of a spectrogram's image, at the loudness of a finished clip."""
        return level(self._synthesis(image_to_mel(image), generator(seed)))

    def _start(self, request: Request, shape: torch.Size) -> Start:
        """Return the start for one prompt, or for the blend of two."""
        seed, alpha = request.inputs.seed, request.inputs.alpha
        noises_a = start_noises(seed, shape, self._models.device)
        if request.prompt_b is None or alpha == 0:
            return Start(*self._prompts.encode([request.prompt_a]), *noises_a)
        noises_b = start_noises(seed + 1, shape, self._models.device)
        if alpha == 1:
            return Start(*self._prompts.encode([request.prompt_b]), *noises_b)
        embedding_a, embedding_b = self._prompts.encode([request.prompt_a, request.prompt_b])
        noises = [slerp(alpha, a, b) for a, b in zip(noises_a, noises_b, strict=True)]
        return Start(lerp(alpha, embedding_a, embedding_b), *noises)

    def _seed_distribution(self, name: str) -> LatentDistribution:
        if name not in self._seed_latents:
            picture = np.repeat(load(name)[:, :, np.newaxis], 3, axis=2)
            self._seed_latents[name] = encode(self._models, to_model_range(picture))
        return self._seed_latents[name]


def start_noises(seed: int, shape: torch.Size, device: torch.device) -> list[Tensor]:
    """Draw the noise that selects the seed image's latents and the noise of the first step, in this order."""
    source = generator(seed)
    return [unit_noise(shape, source, device) for _ in range(2)]
