"""Stable Diffusion 1.x at full size with random weights, since the speed of a model doesn't depend on their values."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lib.diffusion.models import Models, assemble
from lib.weights import SMALL

TOKENIZER = SMALL / "riffusion" / "tokenizer"
VOCABULARY = 49408
EMBEDDING_CHANNELS = 768


def build(device: torch.device, dtype: torch.dtype, *, packed: bool | None = None) -> Models:
    """Return the model as lib.diffusion.models.load would, with the small model's tokenizer."""
    tokenizer = _tokenizer()
    parts = {name: _filled(part, device, dtype) for name, part in _empty_parts(tokenizer)}
    return assemble(tokenizer, parts, device, dtype, packed=packed)


def cast(part: Any, dtype: torch.dtype, memory_format: torch.memory_format | None = None) -> Any:
    """Change the type of a part in place, without the warning of diffusers' own `to`."""
    return torch.nn.Module.to(part, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]


def save(folder: Path) -> None:
    """Write the model to `folder` in the hub's layout, as safetensors in float16 (2.1 GB)."""
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    for name, part in _empty_parts(_tokenizer()):
        _filled(part, torch.device("cpu"), torch.float16).save_pretrained(folder / name, variant="fp16")


def _tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(TOKENIZER, local_files_only=True)


def _empty_parts(tokenizer: Any) -> Iterator[tuple[str, Any]]:
    """Yield each part by name on the meta device, one at a time to save memory."""
    for name, made in {"text_encoder": lambda: _text_encoder(tokenizer), "vae": _vae, "unet": _unet}.items():
        with torch.device("meta"):
            part = made()
        yield name, part


def _text_encoder(tokenizer: Any) -> Any:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=max(VOCABULARY, len(tokenizer)),
            hidden_size=EMBEDDING_CHANNELS,
            intermediate_size=4 * EMBEDDING_CHANNELS,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _vae() -> Any:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
        scaling_factor=0.18215,
    )


def _unet() -> Any:
    return UNet2DConditionModel(  # the defaults of its class are Stable Diffusion 1.x
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=EMBEDDING_CHANNELS
    )


@torch.no_grad()
def _filled(part: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Fill a part on the meta device with values that keep its activations near 1 in every type."""
    part = cast(part, dtype).to_empty(device=device)
    source = torch.Generator(device).manual_seed(0)
    for name, parameter in part.named_parameters():
        if parameter.ndim > 1:
            bound = (3 / parameter[0].numel()) ** 0.5  # of variance 1 / inputs; Gaussian in bfloat16 would take minutes
            parameter.uniform_(-bound, bound, generator=source)
        else:  # norms, and biases
            parameter.fill_(1 if name.endswith("weight") else 0)
    for buffer in part.buffers():  # the text encoder's positions: 0, 1, 2, ...
        buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return part
