"""Load the parts of a Stable Diffusion 1.x model from a folder of weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from lib.device import has_fast_attention, packing_pays, pick_device, pick_dtype
from lib.diffusion.attention import use_blocked_self_attention
from lib.diffusion.packed import is_supported, pack
from lib.errors import UserError, first_line

# What a UNet predicts, in the names of diffusers' schedulers. Stable Diffusion 1.x predicts the noise (epsilon). Stable
# Diffusion 2.x and our small models predict the velocity: near full noise it describes the picture, about which the
# noise says next to nothing. Source: Salimans and Ho, Progressive distillation, https://arxiv.org/abs/2202.00512,
# appendix D.
EPSILON, VELOCITY = "epsilon", "v_prediction"


@dataclass(frozen=True)
class Models:
    """The parts of one model, in evaluation mode on `device`. Sizes are read from the parts."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    device: torch.device
    dtype: torch.dtype
    prediction_type: str = EPSILON  # or VELOCITY

    @property
    def vae_factor(self) -> int:
        """The width in pixels of one latent."""
        levels = len(self.vae.config.block_out_channels)
        return int(2 ** (levels - 1))

    def latent_shape(self, height_px: int, width_px: int) -> tuple[int, int, int, int]:
        """Return the shape (1, channels, height, width) of the latents of a picture."""
        channels = self.unet.config.in_channels
        return (1, channels, height_px // self.vae_factor, width_px // self.vae_factor)


def load(
    folder: Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    packed: bool | None = None,
) -> Models:
    """Load a folder in hub layout: safetensors, their fp16 variant, or the .bin files of 2022.

    UNet and VAE run in `dtype` and in the channels_last layout, in which convolutions are fastest on CPUs and GPUs. The
    text encoder runs once per prompt, so it stays in float32.

    Args:
        folder: The weights.
        device: By default, the best device of the machine.
        dtype: By default, the best type for the device.
        packed: Whether to pack the weights; by default, if that makes the model faster.

    Raises:
        UserError: A file is missing or damaged, or the UNet predicts neither noise nor velocity.
    """
    device = device or pick_device()
    dtype = dtype or pick_dtype(device)
    # Hide its progress bars, which last a second, and its report of obsolete buffers.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    classes = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded = {name: _load_part(folder, name, part_class) for name, part_class in classes.items()}
        predicts = prediction_type(folder)
    except UserError:
        raise
    except Exception as error:  # each library underneath reports a damaged file in its own way
        raise UserError(
            f"Can't load the weights in {folder} ({first_line(error)}). "
            "Delete that folder, then run script/weights or restart the container to download it again."
        ) from error
    return assemble(tokenizer, loaded, device, dtype, packed=packed, predicts=predicts)


def assemble(
    tokenizer: Any,
    parts: dict[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    packed: bool | None = None,
    predicts: str = EPSILON,
) -> Models:
    """Move the parts "text_encoder", "vae" and "unet" to a device, each in the type and form in which it runs."""
    to: Any = torch.nn.Module.to  # diffusers' own method warns about types; torch's annotations lack the layout
    for name, part in parts.items():
        part.requires_grad_(False).eval()
        part_dtype = torch.float32 if name == "text_encoder" else dtype
        # Device, type and layout in one call, so that each weight is copied once.
        to(part, device, part_dtype, memory_format=torch.channels_last)
    if not has_fast_attention(device, dtype):
        use_blocked_self_attention(parts["unet"])
    for name in ("unet", "vae"):
        if is_supported(dtype) and (packing_pays(name, device, dtype) if packed is None else packed):
            pack(parts[name])
    return Models(tokenizer=tokenizer, device=device, dtype=dtype, prediction_type=predicts, **parts)


def _load_part(folder: Path, name: str, part_class: Any) -> Any:
    """Return a part in the type of its file, so that its weights are views of the file and not read yet."""
    has_fp16 = any((folder / name).glob("*.fp16.safetensors"))
    options = {"variant": "fp16", "dtype": torch.float16} if has_fp16 else {"dtype": torch.float32}
    return part_class.from_pretrained(folder, subfolder=name, local_files_only=True, **options)


def prediction_type(folder: Path) -> str:
    """Return EPSILON or VELOCITY, from the scheduler's configuration in a folder in hub layout; EPSILON without one.

    Raises:
        UserError: The configuration has another prediction type.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("prediction_type", EPSILON) if file.exists() else EPSILON
    if said not in (EPSILON, VELOCITY):
        raise UserError(
            f"Can't use the weights in {folder}: prediction_type in {file.relative_to(folder)} is {said!r}, "
            f"but must be {EPSILON!r} or {VELOCITY!r}."
        )
    return str(said)
