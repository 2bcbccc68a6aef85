"""Compare attention in blocks with PyTorch's, in float64."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lib.diffusion.attention import (
    BLOCK,
    MIN_TOKENS,
    PEEK,
    BlockedSelfAttention,
    blocked_attention,
    use_blocked_self_attention,
)
from lib.diffusion.models import Models
from tests.lib.diffusion.compare import relative_error

HEADS, CHANNELS = 3, 40
BFLOAT16_ERROR = 0.015  # that of PyTorch's kernel is below 0.0025


def drawn(tokens: int, logit_std: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value in the layout of a UNet: channels last, with the heads side by side."""
    source = torch.Generator().manual_seed(tokens)
    shape = (2, tokens, HEADS * CHANNELS)
    parts = (torch.randn(shape, generator=source) * scale for scale in (logit_std, 1, 1))
    query, key, value = (part.to(dtype).view(2, tokens, HEADS, CHANNELS).transpose(1, 2) for part in parts)
    return query, key, value


def error(result: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> float:
    query, key, value = (part.double() for part in parts)
    return relative_error(result.float(), scaled_dot_product_attention(query, key, value))


@pytest.mark.parametrize("tokens", [BLOCK - 1, BLOCK, 2 * BLOCK + 100])
def test_the_result_equals_attention(tokens: int) -> None:
    parts = drawn(tokens, 2, torch.float32)
    assert error(blocked_attention(*parts), parts) < 1e-5


@pytest.mark.parametrize("logit_std", [1, 2, 5, 20])
def test_bfloat16_is_accurate_for_logits_of_any_size(logit_std: float) -> None:
    parts = drawn(MIN_TOKENS, logit_std, torch.bfloat16)
    assert error(blocked_attention(*parts), parts) < BFLOAT16_ERROR


def test_a_large_common_part_of_the_logits_costs_no_accuracy() -> None:
    query, key, value = drawn(MIN_TOKENS, 2, torch.bfloat16)
    key = key + 5 * query.mean(dim=2, keepdim=True).sign()  # a common part of all keys changes no weight
    parts = query, key, value
    plain = torch.softmax(query @ key.transpose(2, 3) * CHANNELS**-0.5, dim=-1) @ value
    assert error(blocked_attention(*parts), parts) < 0.7 * error(plain, parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_estimate_that_is_far_too_low_costs_no_accuracy(dtype: torch.dtype) -> None:
    query, key, value = drawn(MIN_TOKENS, 60, dtype)
    key = key.clone()
    key[:, :, ::PEEK] = 0  # so the estimate is 0, and the powers of two overflow
    parts = query, key, value
    plain = torch.softmax(query @ key.transpose(2, 3) * CHANNELS**-0.5, dim=-1) @ value
    assert error(blocked_attention(*parts), parts) < 1.2 * error(plain, parts)


def test_a_unet_uses_blocks_for_self_attention_only(tiny: Models) -> None:
    unet = copy.deepcopy(tiny.unet)
    torch.nn.Module.to(unet, torch.bfloat16)
    source = torch.Generator().manual_seed(0)
    side = 2 * int(MIN_TOKENS**0.5)  # the first level has no attention, the second half the side
    latents = torch.randn((2, unet.config.in_channels, side, side), generator=source).bfloat16()
    prompt = torch.randn((2, 77, unet.config.cross_attention_dim), generator=source).bfloat16()

    def evaluated() -> Tensor:
        result: Tensor = unet(latents, torch.tensor(500), encoder_hidden_states=prompt, return_dict=False)[0]
        return result.float()

    with torch.inference_mode():
        unet.set_attn_processor(AttnProcessor2_0())
        expected = evaluated()
        use_blocked_self_attention(unet)
        result = evaluated()
    kinds = {name: type(processor) for name, processor in unet.attn_processors.items()}
    assert {kind for name, kind in kinds.items() if "attn1" in name} == {BlockedSelfAttention}
    assert {kind for name, kind in kinds.items() if "attn2" in name} == {AttnProcessor2_0}
    assert not torch.equal(result, expected)
    assert relative_error(result, expected) < 0.02
