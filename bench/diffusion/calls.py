"""The calls of UNet and VAE that a run makes: a run can't be faster than these alone."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from bench import report
from lib.deforum import Recipe
from lib.device import has_fast_attention, synchronize
from lib.diffusion.models import Models
from lib.diffusion.packed import PackedBlock
from lib.diffusion.pipeline import decode, denoise, encode
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.prompt_weights import parse

SIZE_PX = Recipe().size_px
EVALUATION = "a guided UNet evaluation"
VAE = ENCODE, DECODE = "a VAE encode", "a VAE decode"
FUSED = "a guided UNet evaluation with PyTorch's fused attention everywhere"


class Recorder:
    """Models that record every call of their UNet and VAE, with its arguments and duration."""

    def __init__(self, models: Models) -> None:
        self.models = replace(models, unet=_Part(models.unet, self), vae=_Part(models.vae, self))
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls: list[functools.partial[Any]] = []
        self.seconds = 0.0

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function and record the call."""
        self.calls.append(functools.partial(function, *args, **kwargs))
        start_s = time.perf_counter()
        result = function(*args, **kwargs)
        self.seconds += time.perf_counter() - start_s
        return result

    @torch.inference_mode()
    def floor_s(self) -> float:
        """Return the duration of the calls alone: on a CPU as recorded, on CUDA of repeating them.

        To time a single call on CUDA, the host would have to wait for it, which the loop never does.
        """
        device = self.models.device
        if device.type == "cpu":
            return self.seconds
        start_s = time.perf_counter()
        for call in self.calls:
            call()
        synchronize(device)
        return time.perf_counter() - start_s


class _Part:
    """A UNet or a VAE whose calls are recorded."""

    def __init__(self, part: Any, recorder: Recorder) -> None:
        self._part, self._recorder = part, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part, *args, **kwargs)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part.encode, *args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part.decode, *args, **kwargs)


def recorded(models: Models) -> dict[str, functools.partial[Any]]:
    """Return one call of each kind by name; each has been made once."""
    recorder = Recorder(models)
    image = np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.float32)
    prompts = PromptEncoder(models.tokenizer, models.text_encoder)
    (embedding,) = prompts.encode([parse("prompt", "funky synth solo")])
    one_evaluation = Sampler("ddim", 50, 49)
    latents = encode(recorder.models, image).mean
    latents = denoise(recorder.models, one_evaluation, latents, embedding, prompts.unconditional(embedding))
    decode(recorder.models, latents)
    calls = dict(zip((ENCODE, EVALUATION, DECODE), recorder.calls, strict=True))
    if not has_fast_attention(models.device, models.dtype):
        calls[FUSED] = functools.partial(_with_fused_attention, calls[EVALUATION])
    return calls


def _with_fused_attention(evaluation: functools.partial[Any]) -> None:
    """Evaluate a UNet, packed or not, with the attention of diffusers."""
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
    """Return the median duration of each call. They take turns."""

    def finished(call: Callable[[], object]) -> Callable[[int], None]:
        def run(_: int) -> None:
            call()
            synchronize(device)

        return run

    return report.median_seconds([finished(call) for call in calls], range(repeats))
