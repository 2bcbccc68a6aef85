"""Self-attention of a UNet in bfloat16 on a CPU, three times as fast as PyTorch's fused kernel.

That kernel multiplies small tiles and keeps all intermediate values in float32. Without AMX it takes half the time of
an evaluation of Stable Diffusion. Here each product is one large matrix multiplication in bfloat16, in blocks of
queries whose logits stay in the cache. Blocks of queries and the division at the end are those of Rabe and Staats,
Self-attention does not need O(n^2) memory, https://arxiv.org/abs/2112.05682.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 1024  # queries; with 4096 keys they have 8 MB of logits
MIN_TOKENS = 1024  # with fewer, the fused kernel is faster
PEEK = 64  # every 64th key is used to estimate a query's largest logit


def use_blocked_self_attention(unet: Any) -> None:
    """Replace the self-attention of a diffusers UNet; its cross-attention to the few tokens of a prompt stays."""
    processors = unet.attn_processors
    ours = {name: BlockedSelfAttention() for name in processors if name.endswith("attn1.processor")}
    unet.set_attn_processor(processors | ours)


class BlockedSelfAttention:
    """A processor for the self-attention of diffusers' transformer blocks: (batch, tokens, channels)."""

    def __call__(self, attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return what diffusers' AttnProcessor2_0 returns, within rounding."""
        query, key, value = (
            project(hidden_states).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        result: Tensor = attention.to_out[0](faster_attention(query, key, value).transpose(1, 2).flatten(2))
        return result


def faster_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query @ key^T / sqrt(channels)) @ value, all (batch, heads, tokens, channels), the faster way."""
    attend = functional.scaled_dot_product_attention if query.shape[2] < MIN_TOKENS else blocked_attention
    return attend(query, key, value)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query @ key^T / sqrt(channels)) @ value, all (batch, heads, tokens, channels).

    The product rounds logits to the type of the inputs, with an error proportional to their size. Softmax doesn't
    change when a constant is added to all logits of a query, so an estimate of the largest one is subtracted within the
    product, by one additional channel. The logits that weigh most are then the smallest, and lose least.

    This also saves all passes over the logits except the powers of two: an additional channel of ones in the values
    sums the weights, and the result is divided by that sum at the end.
    """
    key = key * (query.shape[-1] ** -0.5 * math.log2(math.e))
    largest = (query @ key[:, :, ::PEEK].transpose(2, 3)).amax(dim=-1, keepdim=True)
    query = torch.cat([query, -largest], dim=-1)
    key = torch.cat([key, torch.ones_like(key[..., :1])], dim=-1).transpose(2, 3)
    summed = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)
    attended = value.new_empty(*query.shape[:-1], value.shape[-1])
    # One matrix at a time: each product is large enough for all threads, and its logits fit in the cache.
    for queries, keys, values, out in zip(*(t.flatten(0, 1) for t in (query, key, summed, attended)), strict=True):
        for rows, its_out in zip(queries.split(BLOCK), out.split(BLOCK), strict=True):
            result = (rows @ keys).exp2_() @ values
            if not result.isfinite().all():  # an estimate was far too low: a power of two overflowed
                result = torch.softmax((rows @ keys).float() * math.log(2), dim=-1).to(values.dtype) @ values
            torch.div(result[:, :-1], result[:, -1:], out=its_out)
    return attended
