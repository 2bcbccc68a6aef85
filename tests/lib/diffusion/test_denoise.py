"""The denoising loop, which is made to be fast, against a plain one; and what would make it wait for a GPU."""

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lib.diffusion.models import EPSILON, VELOCITY, Models
from lib.diffusion.pipeline import GUIDANCE_SCALE, denoise
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.diffusion.schedule import ALPHAS_CUMPROD
from lib.prompt_weights import parse
from tests.lib.conftest import tiny_models
from tests.lib.diffusion.compare import relative_error
from tests.lib.diffusion.stock import ANCESTRAL, stock_run

SIDE_PX = 128
STEPS = 20
CPU = torch.device("cpu")
META = torch.device("meta")
PART_WAY = 13  # the step at which deforum's later frames start, on a schedule of 20


@pytest.fixture(scope="module")
def prompts(tiny: Models) -> tuple[Tensor, Tensor]:
    encoder = PromptEncoder(tiny.tokenizer, tiny.text_encoder)
    embedding, unconditional = encoder.encode([parse("prompt", text) for text in ("funky synth solo", "")])
    return embedding, unconditional


def latents_and_noise(models: Models) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    shape = models.latent_shape(SIDE_PX, SIDE_PX)
    return torch.randn(shape, generator=source), torch.randn(shape, generator=source)


def fast(models: Models, name: str, first_step: int, prompts: tuple[Tensor, Tensor]) -> Tensor:
    sampler = Sampler(name, STEPS, first_step)
    start = sampler.add_noise(*latents_and_noise(models))
    return denoise(models, sampler, start, *prompts, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def plain(models: Models, name: str, first_step: int, prompts: tuple[Tensor, Tensor]) -> Tensor:
    """Do what a pipeline of diffusers does."""
    embedding, unconditional = prompts
    context = torch.cat([unconditional, embedding]).to(models.dtype)

    predicts = models.prediction_type
    converts = name == "plms" and predicts == VELOCITY  # diffusers' blends velocities of several timesteps instead

    def unet(latents: Tensor, timestep: Tensor) -> Tensor:
        pair = torch.cat([latents, latents]).to(models.dtype)
        without, with_prompt = models.unet(pair, timestep, encoder_hidden_states=context).sample.float().chunk(2)
        guided: Tensor = without + GUIDANCE_SCALE * (with_prompt - without)
        if converts:
            abar = ALPHAS_CUMPROD[int(timestep)]
            guided = abar**0.5 * guided + (1 - abar) ** 0.5 * latents
        return guided

    start = latents_and_noise(models)
    return stock_run(name, unet, *start, STEPS, first_step, EPSILON if converts else predicts)


@pytest.mark.parametrize(("name", "first_step"), [("plms", 5), *((name, PART_WAY) for name in SAMPLERS)])
@pytest.mark.parametrize("predicts", [EPSILON, VELOCITY])
def test_the_fast_loop_is_the_plain_one(
    tiny: Models, prompts: tuple[Tensor, Tensor], name: str, first_step: int, predicts: str
) -> None:
    models = replace(tiny, prediction_type=predicts)
    expected = plain(models, name, first_step, prompts)
    assert expected.isfinite().all()
    assert relative_error(fast(models, name, first_step, prompts), expected) < 1e-5


def test_the_order_in_memory_changes_only_the_rounding(tiny: Models, prompts: tuple[Tensor, Tensor]) -> None:
    channels_first = replace(tiny, unet=copy.deepcopy(tiny.unet).to(memory_format=torch.contiguous_format))
    assert not tiny.unet.conv_in.weight.is_contiguous()
    assert channels_first.unet.conv_in.weight.is_contiguous()
    expected = plain(channels_first, "plms", PART_WAY, prompts)
    assert relative_error(fast(tiny, "plms", PART_WAY, prompts), expected) < 1e-5


@pytest.mark.parametrize("name", ["plms", "euler_ancestral"])  # where bfloat16 is emulated, each is slow
def test_bfloat16_costs_no_more_than_it_costs_the_plain_loop(
    tiny: Models, prompts: tuple[Tensor, Tensor], name: str
) -> None:
    """How much that is depends on the sampler and on the processor, whose kernels round in ways of their own."""
    low = tiny_models(torch.bfloat16)
    expected = fast(tiny, name, PART_WAY, prompts)
    ours, plain_ones = (relative_error(loop(low, name, PART_WAY, prompts), expected) for loop in (fast, plain))
    assert 0 < ours < 1.5 * plain_ones


class Transfers(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class has no types
    """Count the tensors that are copied from the CPU to the meta device, by their shape.

    A meta tensor has no values: whatever would read one raises, so a run on it proves that nothing is read back. But
    to copy from the CPU makes it wait for a GPU, too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_copy = func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_)
        if is_copy and result.device == META and any(isinstance(a, Tensor) and a.device == CPU for a in args):
            self.shapes[tuple(result.shape)] += 1
        return result


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_loop_reads_nothing_from_the_device_and_sends_it_only_noise(
    tiny: Models, prompts: tuple[Tensor, Tensor], name: str
) -> None:
    on_meta = replace(tiny, unet=copy.deepcopy(tiny.unet).to(META), device=META)
    latents, noise = (tensor.to(META) for tensor in latents_and_noise(tiny))
    embedding, unconditional = (prompt.to(META) for prompt in prompts)
    sampler = Sampler(name, STEPS, STEPS - 2)  # two steps show as much as all of them
    start = sampler.add_noise(latents, noise)
    transfers = Transfers()
    with transfers:
        result = denoise(on_meta, sampler, start, embedding, unconditional, generator=torch.Generator().manual_seed(1))
    assert result.device == META
    # Drawn on the CPU, to be the same on every device, and sent before the first step.
    assert transfers.shapes == (Counter({(2, *latents.shape): 1}) if name in ANCESTRAL else Counter())
