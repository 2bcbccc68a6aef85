"""Encode, denoise and decode: from pictures to latents and back."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.diffusion.models import VELOCITY, Models
from lib.diffusion.samplers import Model, Sampler
from lib.diffusion.schedule import Schedule

GUIDANCE_SCALE = 7.0


@dataclass(frozen=True)
class LatentDistribution:
    """The output of the VAE's encoder: a diagonal Gaussian distribution of latents, float32, scaled for the UNet."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return the latents (1, channels, height, width) that unit `noise` of the same shape selects."""
        return self.mean + self.std * noise


@torch.inference_mode()
def encode(models: Models, image: NDArray[np.float32]) -> LatentDistribution:
    """Encode a picture (height, width, 3) in [-1, 1]."""
    # The permuted array is already in the model's channels_last layout.
    pixels = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).to(models.device, models.dtype)
    posterior = models.vae.encode(pixels).latent_dist
    scaling = models.vae.config.scaling_factor
    return LatentDistribution(posterior.mean.float() * scaling, posterior.std.float() * scaling)


@torch.inference_mode()
def denoise(
    models: Models,
    sampler: Sampler,
    latents: Tensor,
    embedding: Tensor,
    unconditional: Tensor,
    *,
    guidance_scale: float = GUIDANCE_SCALE,
    generator: torch.Generator | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """Run `sampler` from noisy `latents`, with classifier-free guidance.

    Source: Ho and Salimans, Classifier-free diffusion guidance, https://arxiv.org/abs/2207.12598.

    Args:
        models: The UNet evaluates both halves of the guidance in one batch. Only it computes in lower precision, so
            that rounding doesn't accumulate over the steps.
        sampler: The sampler, on its schedule.
        latents: (1, channels, height, width) float32.
        embedding: The prompt's, (1, tokens, channels).
        unconditional: The empty prompt's, of the same shape.
        guidance_scale: 1 uses the prompt's prediction as it is; above 1 exaggerates it.
        generator: A CPU generator for the ancestral samplers' noise.
        on_step: Called after each step.
    """
    model = guided(models, sampler.schedule, embedding, unconditional, guidance_scale)
    return sampler.run(model, latents, generator, on_step)


def guided(
    models: Models, schedule: Schedule, embeddings: Tensor, unconditional: Tensor, guidance_scale: float
) -> Model:
    """Return the model that predicts noise with classifier-free guidance, for a batch of latents.

    Args:
        models: The UNet evaluates both halves of the guidance in one batch.
        schedule: The schedule on which the model is called.
        embeddings: The prompts' (batch, tokens, channels), one for each of the latents.
        unconditional: The empty or the negative prompt's, (1, tokens, channels).
        guidance_scale: As in `denoise`.
    """
    batch = len(embeddings)
    context = torch.cat([unconditional.expand(batch, -1, -1), embeddings]).to(models.device, models.dtype)

    def epsilon(noisy: Tensor, sigma: float) -> Tensor:
        alpha = (1 + sigma**2) ** -0.5
        scaled = noisy * alpha  # as the UNet was trained
        pairs = scaled.to(models.dtype).repeat(2, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        # Filled on the device: a copy from the CPU would make the host wait for a GPU.
        timestep = torch.full((), schedule.timestep(sigma), device=noisy.device)
        predictions = models.unet(pairs, timestep, encoder_hidden_states=context, return_dict=False)[0].float()
        without, with_prompt = predictions.chunk(2)
        mixed = torch.lerp(without, with_prompt, guidance_scale)
        if models.prediction_type == VELOCITY:
            mixed = (mixed + sigma * scaled) * alpha
        return mixed

    return epsilon


@torch.inference_mode()
def decode(models: Models, latents: Tensor) -> NDArray[np.uint8]:
    """Decode latents (1, channels, height, width) to a picture (height, width, 3) uint8.

    If float16 overflows, the picture is decoded again in float32. bfloat16 has the range of float32.

    Raises:
        FloatingPointError: The picture has infinite or NaN values, which uint8 would hide as black pixels.
    """
    image = _decoded(models.vae, latents, models.dtype)
    is_finite = bool(torch.isfinite(image).all())  # the host waits for a GPU here
    if models.dtype == torch.float16 and not is_finite:
        print(f"A picture overflowed in {models.dtype}; decoding it again in float32", flush=True)
        # A copy, so that the model stays as it is whatever happens. diffusers' own `to` warns about types.
        image = _decoded(torch.nn.Module.to(copy.deepcopy(models.vae), torch.float32), latents, torch.float32)
        is_finite = bool(torch.isfinite(image).all())
    if not is_finite:
        raise FloatingPointError("the decoded picture is not finite, in float32 either: its latents are damaged")
    levels = image[0].float().add(1).mul(127.5).round().clamp(0, 255)
    picture: NDArray[np.uint8] = levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return picture


def _decoded(vae: Any, latents: Tensor, dtype: torch.dtype) -> Tensor:
    scaled = (latents / vae.config.scaling_factor).to(dtype)
    image: Tensor = vae.decode(scaled.contiguous(memory_format=torch.channels_last), return_dict=False)[0]
    return image


def to_model_range(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a uint8 picture as float32 in [-1, 1]."""
    return np.divide(image, 127.5, dtype=np.float32) - np.float32(1)


def from_model_range(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture in [-1, 1] as uint8, clipping values outside that range."""
    levels: NDArray[np.uint8] = np.clip((image + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return levels
