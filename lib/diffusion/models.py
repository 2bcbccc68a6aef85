"""A folder of weights -> the loaded parts of a Stable Diffusion 1.x model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from lib.device import pick_device, pick_dtype
from lib.errors import UserError

# Its bars for a second's work, and its report of buffers that nobody uses any more, are no concern of the user's.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True)
class Models:
    """The parts of one model, in evaluation mode, on `device`. Sizes are read from the parts, never assumed."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    device: torch.device
    dtype: torch.dtype

    @property
    def vae_factor(self) -> int:
        """How many pixels a latent is wide."""
        levels = len(self.vae.config.block_out_channels)
        return int(2 ** (levels - 1))

    def latent_shape(self, height_px: int, width_px: int) -> tuple[int, int, int, int]:
        """Return the shape (1, channels, height, width) of the latents of a picture."""
        channels = self.unet.config.in_channels
        return (1, channels, height_px // self.vae_factor, width_px // self.vae_factor)


def load(folder: Path, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Models:
    """Load a folder in hub layout: safetensors, their fp16 variant, or the .bin files of 2022.

    Device and type are the best ones that the machine has, unless given.

    UNet and VAE run in `dtype` and channels_last, in which convolutions are fastest on CPU and GPU alike. The text
    encoder runs once per prompt, so it stays in float32.

    Raises:
        UserError: a file is missing, half-downloaded or corrupt.
    """
    device = device or pick_device()
    dtype = dtype or pick_dtype(device)
    parts = {
        "text_encoder": (CLIPTextModel, torch.float32),
        "vae": (AutoencoderKL, dtype),
        "unet": (UNet2DConditionModel, dtype),
    }
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded = {name: _load_part(folder, name, *part) for name, part in parts.items()}
    except Exception as error:  # every library underneath has its own way to say that a file is broken
        raise UserError(
            f"The weights in {folder} can't be loaded ({_first_line(error)}). "
            "Delete that folder and download it again, with script/weights or by starting the container anew."
        ) from error
    for name, part in loaded.items():
        part.requires_grad_(False).eval().to(device)
        if name != "text_encoder":
            part.to(memory_format=torch.channels_last)
    return Models(tokenizer=tokenizer, device=device, dtype=dtype, **loaded)


def _load_part(folder: Path, name: str, part_class: Any, dtype: torch.dtype) -> Any:
    has_fp16 = any((folder / name).glob("*.fp16.safetensors"))
    options = {"variant": "fp16"} if has_fp16 else {}
    return part_class.from_pretrained(folder, subfolder=name, dtype=dtype, local_files_only=True, **options)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
