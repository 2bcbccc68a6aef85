"""Compare packed modules with the plain ones of diffusers."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lib.diffusion.attention import MIN_TOKENS, faster_attention, use_blocked_self_attention
from lib.diffusion.models import Models, load
from lib.diffusion.packed import (
    PackedBlock,
    PackedConv,
    PackedLinear,
    PackedResnet,
    PackedTransformer,
    is_supported,
    pack,
)
from lib.diffusion.pipeline import decode, encode, to_model_range
from tests.lib.conftest import CPU
from tests.lib.diffusion.compare import relative_error
from tests.lib.diffusion.test_pipeline import PICTURE

FLOAT32_ERROR = 1e-5
BFLOAT16_SHARE = 1.5  # of the error of the plain modules, whose kernels round differently
needs_operators = pytest.mark.skipif(not is_supported(torch.float32), reason="no operators of oneDNN")
needs_bfloat16 = pytest.mark.skipif(not is_supported(torch.bfloat16), reason="the operators need AVX-512 for bfloat16")


@pytest.fixture(scope="module")
def unet(tiny: Models) -> Any:
    return ready(copy.deepcopy(tiny.unet))


@pytest.fixture(scope="module")
def vae(tiny: Models) -> Any:
    return ready(copy.deepcopy(tiny.vae))


def ready(part: Any, dtype: torch.dtype = torch.float32) -> Any:
    to: Any = nn.Module.to  # torch's annotations lack the layout
    return to(part.requires_grad_(False).eval(), dtype, memory_format=torch.channels_last)


def packed(part: Any, dtype: torch.dtype = torch.float32) -> Any:
    ours = ready(copy.deepcopy(part), dtype)
    pack(ours)
    return ours


def evaluated(unet: Any, size: tuple[int, int] = (16, 16), batch: int = 2, tokens: int = 77) -> Tensor:
    source = torch.Generator().manual_seed(0)
    latents = torch.randn((batch, 4, *size), generator=source).to(unet.dtype)
    prompts = torch.randn((batch, tokens, 32), generator=source).to(unet.dtype)
    latents = latents.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        result: Tensor = unet(latents, torch.tensor(500), encoder_hidden_states=prompts, return_dict=False)[0]
    return result.float()


def there_and_back(vae: Any) -> Tensor:
    source = torch.Generator().manual_seed(0)
    picture = torch.randn((1, 3, 32, 48), generator=source).to(vae.dtype)
    with torch.inference_mode():
        mean = vae.encode(picture.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        result: Tensor = vae.decode(mean, return_dict=False)[0]
    return result.float()


@needs_operators
def test_a_packed_unet_equals_the_plain_one(unet: Any) -> None:
    assert relative_error(evaluated(packed(unet)), evaluated(unet)) < FLOAT32_ERROR


@needs_operators
def test_a_packed_vae_equals_the_plain_one(vae: Any) -> None:
    assert relative_error(there_and_back(packed(vae)), there_and_back(vae)) < FLOAT32_ERROR


@needs_bfloat16
def test_bfloat16_costs_a_packed_part_no_more_accuracy_than_a_plain_one(unet: Any, vae: Any) -> None:
    for part, run in ((unet, evaluated), (vae, there_and_back)):
        exact = run(part)
        ours = relative_error(run(packed(part, torch.bfloat16)), exact)
        plain = relative_error(run(ready(copy.deepcopy(part), torch.bfloat16)), exact)
        assert 0 < ours < BFLOAT16_SHARE * plain


@needs_operators
@pytest.mark.parametrize("shape", [{"size": (8, 24)}, {"size": (2, 2)}, {"batch": 1}, {"tokens": 154}], ids=str)
def test_a_packed_unet_accepts_any_shape(unet: Any, shape: dict[str, Any]) -> None:
    ours = packed(unet)
    for one in ({}, shape, {}):  # it is packed for the first, and again for another
        assert relative_error(evaluated(ours, **one), evaluated(unet, **one)) < FLOAT32_ERROR


@needs_operators
def test_a_unet_with_attention_in_blocks_keeps_it(unet: Any) -> None:
    side = 2 * int(MIN_TOKENS**0.5)  # the first level has no attention, the second half the side
    expected = evaluated(unet, (side, side))
    in_blocks = copy.deepcopy(unet)
    use_blocked_self_attention(in_blocks)
    fused, blocked = packed(unet), packed(in_blocks)
    assert {attends(fused), attends(blocked)} == {scaled_dot_product_attention, faster_attention}
    for ours in (fused, blocked):
        assert relative_error(evaluated(ours, (side, side)), expected) < FLOAT32_ERROR


def attends(unet: Any) -> Any:
    (attend,) = {module.attend for module in unet.modules() if isinstance(module, PackedBlock)}
    return attend


@needs_bfloat16
@pytest.mark.parametrize("amx", [False, True])
def test_in_bfloat16_only_the_parts_that_become_faster_are_packed(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, amx: bool
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
    ours = load(tiny_folder, CPU, torch.bfloat16)
    assert attends(ours.unet) is (scaled_dot_product_attention if amx else faster_attention)
    assert any(isinstance(module, PackedConv) for module in ours.vae.modules()) == amx


@needs_operators
def test_all_weights_are_packed(unet: Any, vae: Any) -> None:
    for part, run in ((packed(unet), evaluated), (packed(vae), there_and_back)):
        run(part)
        assert all(
            module.weight.is_mkldnn for module in part.modules() if isinstance(module, PackedConv | PackedLinear)
        )
        assert all(parameter.ndim == 1 for parameter in part.parameters())
        kinds = {type(module) for module in part.modules()}
        assert {PackedConv, PackedLinear, PackedResnet} <= kinds
        assert not kinds & {nn.Conv2d, nn.Linear}
    assert any(isinstance(module, PackedTransformer) for module in packed(unet).modules())


@needs_operators
def test_a_unet_unlike_stable_diffusion_stays_plain() -> None:
    other = UNet2DConditionModel(
        block_out_channels=(32,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    before = [type(module) for module in other.modules()]
    pack(other)
    assert [type(module) for module in other.modules()] == before


def test_without_the_operators_packing_is_not_supported() -> None:
    assert not is_supported(torch.float32, SimpleNamespace(_linear_pointwise=None))


def test_there_is_no_packing_in_float16() -> None:
    assert not is_supported(torch.float16)


@needs_operators
def test_packed_models_make_the_same_picture(tiny: Models, tiny_folder: Path) -> None:
    ours = load(tiny_folder, CPU, torch.float32, packed=True)
    assert any(isinstance(module, PackedTransformer) for module in ours.unet.modules())
    assert not any(isinstance(module, PackedConv) for module in tiny.vae.modules())
    latents = [encode(m, to_model_range(PICTURE)).mean for m in (ours, tiny)]
    assert relative_error(*latents) < FLOAT32_ERROR
    pictures = [decode(m, latents[1]).astype(int) for m in (ours, tiny)]
    assert abs(pictures[0] - pictures[1]).max() <= 1
