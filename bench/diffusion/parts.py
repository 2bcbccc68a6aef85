"""The model's calls alone: a VAE encode, a guided UNet evaluation, a VAE decode, as the loop makes them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from bench import report
from bench.diffusion.runs import PROMPT, SIZE_PX
from bench.recorder import Recorder
from lib.device import has_fast_attention, synchronize
from lib.diffusion.models import Models
from lib.diffusion.packed import PackedBlock
from lib.diffusion.pipeline import decode, denoise, encode
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.prompt_weights import parse

EVALUATION = "a guided UNet evaluation"
VAE = ENCODE, DECODE = "a VAE encode", "a VAE decode"
FUSED = "a guided UNet evaluation with PyTorch's fused attention everywhere"


def recorded(models: Models) -> dict[str, functools.partial[Any]]:
    """Return the calls by name, each done once."""
    recorder = Recorder(models)
    image = np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.float32)
    prompts = PromptEncoder(models.tokenizer, models.text_encoder)
    (embedding,) = prompts.encode([parse("prompt", PROMPT)])
    one_evaluation = Sampler("ddim", 50, 49)
    latents = encode(recorder.models, image).mean
    latents = denoise(recorder.models, one_evaluation, latents, embedding, prompts.unconditional(embedding))
    decode(recorder.models, latents)
    calls = dict(zip((ENCODE, EVALUATION, DECODE), recorder.calls, strict=True))
    if not has_fast_attention(models.device, models.dtype):
        calls[FUSED] = functools.partial(_with_fused_attention, calls[EVALUATION])
    return calls


def _with_fused_attention(evaluation: functools.partial[Any]) -> None:
    """Evaluate a UNet, packed or not, with the attention that diffusers gives it."""
    unet: Any = evaluation.func
    ours = unet.attn_processors
    blocks = [module for module in unet.modules() if isinstance(module, PackedBlock)]
    attends = [block.attend for block in blocks]
    unet.set_attn_processor(AttnProcessor2_0())
    for block in blocks:
        block.attend = scaled_dot_product_attention
    evaluation()
    unet.set_attn_processor(ours)
    for block, attend in zip(blocks, attends, strict=True):
        block.attend = attend


@torch.inference_mode()
def medians_s(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[float]:
    """Return the median seconds of each call; they take turns."""

    def waited_for(call: Callable[[], object]) -> Callable[[int], None]:
        def run(_: int) -> None:
            call()
            synchronize(device)

        return run

    return report.median_seconds([waited_for(call) for call in calls], range(repeats))
