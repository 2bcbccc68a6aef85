"""The UNet and the VAE of Stable Diffusion 1.x on a CPU, with packed weights and fewer passes over memory.

oneDNN multiplies in blocks, with the weights in an order of its own. PyTorch reorders a convolution's weights in every
call, and makes a pass over memory for each activation, product and sum that follows. Here the weights are reordered
once and kept only in that order, and the operations that follow run on each block while it is in the cache.

The operators are private to PyTorch: torch.compile uses them on CPUs. Therefore requirements.txt pins PyTorch,
`is_supported` checks that they exist, and tests compare with the plain modules. Packed weights can't be changed or
moved to another type or device, so anything that changes weights must come first.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from lib.diffusion.attention import BlockedSelfAttention, faster_attention

OPERATORS = (
    "_linear_pointwise",
    "_convolution_pointwise",
    "_reorder_linear_weight",
    "_reorder_convolution_weight",
    "_is_mkldnn_bf16_supported",
)
# What the blocks below implement. A UNet configured otherwise is not Stable Diffusion 1.x and stays plain.
KNOWN = {
    "act_fn": "silu",
    "attention_type": "default",
    "dual_cross_attention": False,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "upcast_attention": False,
    "use_linear_projection": False,
}

mkldnn: Any = torch.ops.mkldnn


def is_supported(dtype: torch.dtype, operators: Any = mkldnn) -> bool:
    """Return whether this PyTorch has oneDNN and the operators, and this CPU can run them in a type."""
    if not torch._C._has_mkldnn or not all(hasattr(operators, name) for name in OPERATORS):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def pack(part: Any) -> None:
    """Pack the weights of a diffusers UNet or VAE in place. One unlike Stable Diffusion 1.x stays plain.

    A UNet with self-attention in blocks (lib/diffusion/attention.py) keeps it.
    """
    if all(part.config.get(name, value) == value for name, value in KNOWN.items()):
        _pack_below(part)


def _pack_below(module: nn.Module) -> None:
    for name, child in module.named_children():
        if packed := PACKED.get(type(child)):
            setattr(module, name, packed(child))
        else:
            _pack_below(child)


class PackedLinear(nn.Module):
    """nn.Linear: (..., inputs) -> (..., outputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = mkldnn._reorder_linear_weight(weight, None)
        self.bias = bias

    @classmethod
    def of(cls, *plain: Any) -> "PackedLinear":
        """Pack linear modules or 1x1 convolutions; several are joined into one, with concatenated outputs."""
        weights, biases = ([getattr(one, name) for one in plain] for name in ("weight", "bias"))
        return cls(torch.cat(weights).flatten(1), None if biases[0] is None else torch.cat(biases))

    def forward(self, given: Tensor, activation: str = "none") -> Tensor:
        """Return the product, or its "gelu"."""
        result: Tensor = mkldnn._linear_pointwise(given, self.weight, self.bias, activation, [], "none")
        return result

    def and_(self, operation: str, given: Tensor, other: Tensor) -> Tensor:
        """Return the product combined with another tensor (..., outputs) by "add" or "mul"."""
        result: Tensor = mkldnn._linear_pointwise.binary(given, other, self.weight, self.bias, operation)
        return result


class PackedConv(nn.Module):
    """nn.Conv2d: (batch, channels, height, width), channels_last.

    The best order of the weights depends on the size of the pictures, and the wrong one can take twenty times as long.
    So the first call packs the weights, and a call with another shape packs them again.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = plain.padding, plain.stride, plain.dilation, plain.groups
        self.weight = plain.weight.detach()  # not a parameter, which could be moved and copied
        self.bias = plain.bias
        self.packed_for = torch.Size()

    def forward(self, given: Tensor) -> Tensor:
        """Return the convolution."""
        weight = self._packed(given.shape)
        result: Tensor = mkldnn._convolution_pointwise(given, weight, self.bias, *self.geometry, "none", [], "")
        return result

    def plus(self, given: Tensor, other: Tensor) -> Tensor:
        """Return the convolution plus a tensor of its shape."""
        if given.shape[2:] == (1, 1):  # for which oneDNN can't add
            summed: Tensor = self(given) + other
            return summed
        result: Tensor = mkldnn._convolution_pointwise.binary(
            given, other, self._packed(given.shape), self.bias, *self.geometry, "add", 1.0, None, [], None
        )
        return result

    def _packed(self, shape: torch.Size) -> Tensor:
        if shape != self.packed_for:
            dense = self.weight.to_dense() if self.weight.is_mkldnn else self.weight
            dense = dense.contiguous(memory_format=torch.channels_last)
            self.weight = mkldnn._reorder_convolution_weight(dense, *self.geometry, list(shape))
            self.packed_for = shape
        return self.weight


class PackedResnet(nn.Module):
    """ResnetBlock2D: (batch, channels, height, width), channels_last."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = plain.norm1, plain.norm2
        self.conv1, self.conv2 = PackedConv(plain.conv1), PackedConv(plain.conv2)
        self.time = None if plain.time_emb_proj is None else PackedLinear.of(plain.time_emb_proj)
        self.shortcut = None if plain.conv_shortcut is None else PackedLinear.of(plain.conv_shortcut)

    def forward(self, given: Tensor, temb: Tensor | None = None) -> Tensor:
        """Return the block's output; `temb` is the embedding (batch, channels) of the timestep."""
        hidden = self.conv1(functional.silu(self.norm1(given), inplace=True))
        if self.time is not None and temb is not None:
            hidden += self.time(functional.silu(temb))[:, :, None, None]
        hidden = functional.silu(self.norm2(hidden), inplace=True)
        if self.shortcut is not None:
            given = self.shortcut(given.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.conv2.plus(hidden, given)


class PackedTransformer(nn.Module):
    """Transformer2DModel: (batch, channels, height, width), channels_last, as tokens (batch, tokens, channels)."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.norm = plain.norm
        self.proj_in, self.proj_out = PackedLinear.of(plain.proj_in), PackedLinear.of(plain.proj_out)
        self.blocks = nn.ModuleList(PackedBlock(block) for block in plain.transformer_blocks)

    def forward(self, given: Tensor, encoder_hidden_states: Tensor, **_: object) -> tuple[Tensor]:
        """Return the block's output, given the prompt's embedding (batch, tokens, channels)."""
        size = given.shape[2:]
        tokens = self.proj_in(self.norm(given).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            tokens = block(tokens, encoder_hidden_states)
        result = self.proj_out.and_("add", tokens, given.permute(0, 2, 3, 1).flatten(1, 2))
        return (result.view(len(given), *size, -1).permute(0, 3, 1, 2),)


class PackedBlock(nn.Module):
    """BasicTransformerBlock: self-attention, cross-attention to the prompt, and a feed-forward network."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        ours, prompts, geglu = plain.attn1, plain.attn2, plain.ff.net[0]
        self.heads = ours.heads
        is_blocked = isinstance(ours.processor, BlockedSelfAttention)
        self.attend = faster_attention if is_blocked else scaled_dot_product_attention
        self.norm1, self.norm2, self.norm3 = plain.norm1, plain.norm2, plain.norm3
        self.query_key_value = PackedLinear.of(ours.to_q, ours.to_k, ours.to_v)
        self.query, self.key_value = PackedLinear.of(prompts.to_q), PackedLinear.of(prompts.to_k, prompts.to_v)
        self.out1, self.out2 = PackedLinear.of(ours.to_out[0]), PackedLinear.of(prompts.to_out[0])
        self.value, self.gate = map(PackedLinear, geglu.proj.weight.chunk(2), geglu.proj.bias.chunk(2))
        self.down = PackedLinear.of(plain.ff.net[2])

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Return the block's output (batch, tokens, channels)."""
        attended = self._attended(self.attend, *self.query_key_value(self.norm1(tokens)).chunk(3, dim=-1))
        tokens = self.out1.and_("add", attended, tokens)
        key_value = self.key_value(prompt).chunk(2, dim=-1)
        attended = self._attended(scaled_dot_product_attention, self.query(self.norm2(tokens)), *key_value)
        tokens = self.out2.and_("add", attended, tokens)
        normed = self.norm3(tokens)
        return self.down.and_("add", self.value.and_("mul", normed, self.gate(normed, "gelu")), tokens)

    def _attended(self, attend: Callable[..., Tensor], *query_key_value: Tensor) -> Tensor:
        query, key, value = (one.view(*one.shape[:2], self.heads, -1).transpose(1, 2) for one in query_key_value)
        return attend(query, key, value).transpose(1, 2).flatten(2)


PACKED: dict[type, Callable[[Any], nn.Module]] = {
    ResnetBlock2D: PackedResnet,
    Transformer2DModel: PackedTransformer,
    nn.Conv2d: PackedConv,
    nn.Linear: PackedLinear.of,
}
