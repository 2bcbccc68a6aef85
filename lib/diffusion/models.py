"""A folder of weights -> the loaded parts of a Stable Diffusion 1.x model."""

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

# What a UNet predicts, as diffusers' schedulers name it. Stable Diffusion 1.x predicts the noise (epsilon). A UNet may
# predict the velocity instead, as those of workshop/training do: near full noise it then says what the picture is, of
# which the prediction of the noise says next to nothing. Source: Salimans and Ho, Progressive distillation,
# https://arxiv.org/abs/2202.00512, appendix D.
EPSILON, VELOCITY = "epsilon", "v_prediction"


@dataclass(frozen=True)
class Models:
    """The parts of one model, in evaluation mode, on `device`. Sizes are read from the parts, never assumed."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    device: torch.device
    dtype: torch.dtype
    prediction_type: str = EPSILON  # or VELOCITY: what the UNet predicts

    @property
    def vae_factor(self) -> int:
        """How many pixels a latent is wide."""
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

    Device and type are the best ones that the machine has, unless given, and weights are `packed` where that pays.

    UNet and VAE run in `dtype` and channels_last, in which convolutions are fastest on CPU and GPU alike. The text
    encoder runs once per prompt, so it stays in float32.

    Raises:
        UserError: a file is missing, half-downloaded or corrupt, or the UNet predicts what no sampler here takes.
    """
    device = device or pick_device()
    dtype = dtype or pick_dtype(device)
    # Its bars for a second's work, and its report of buffers that nobody uses any more, are no concern of the user's.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    classes = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded = {name: _load_part(folder, name, part_class) for name, part_class in classes.items()}
        predicts = prediction_type(folder)
    except UserError:
        raise
    except Exception as error:  # every library underneath has its own way to say that a file is broken
        raise UserError(
            f"The weights in {folder} can't be loaded ({first_line(error)}). "
            "Delete that folder and download it again, with script/weights or by starting the container anew."
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
    """Bring the parts "text_encoder", "vae" and "unet" to a device, each in the type and the form it runs in."""
    to: Any = torch.nn.Module.to  # diffusers' own warns of any type; torch's annotations lack the layout
    for name, part in parts.items():
        part.requires_grad_(False).eval()
        part_dtype = torch.float32 if name == "text_encoder" else dtype
        # Device, type and layout in one go: each weight is copied once.
        to(part, device, part_dtype, memory_format=torch.channels_last)
    if not has_fast_attention(device, dtype):
        use_blocked_self_attention(parts["unet"])
    for name in ("unet", "vae"):
        if is_supported(dtype) and (packing_pays(name, device, dtype) if packed is None else packed):
            pack(parts[name])
    return Models(tokenizer=tokenizer, device=device, dtype=dtype, prediction_type=predicts, **parts)


def _load_part(folder: Path, name: str, part_class: Any) -> Any:
    """Return a part in the type of its file: its weights are then views of the file, which nobody has read yet."""
    has_fp16 = any((folder / name).glob("*.fp16.safetensors"))
    options = {"variant": "fp16", "dtype": torch.float16} if has_fp16 else {"dtype": torch.float32}
    return part_class.from_pretrained(folder, subfolder=name, local_files_only=True, **options)


def prediction_type(folder: Path) -> str:
    """Return EPSILON or VELOCITY: what the scheduler's file of a folder in hub layout says; EPSILON without one.

    Raises:
        UserError: it says anything else.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("prediction_type", EPSILON) if file.exists() else EPSILON
    if said not in (EPSILON, VELOCITY):
        raise UserError(
            f"The weights in {folder} can't be used: {file.relative_to(folder)} has the prediction_type {said!r}, but "
            f"must have {EPSILON!r} or {VELOCITY!r}."
        )
    return str(said)
