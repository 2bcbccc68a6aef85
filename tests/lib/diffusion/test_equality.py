"""The loop that is made to be fast against a plain one, and what would make it wait for a GPU."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lib import deforum, riffusion
from lib.diffusion.models import Models, load
from lib.diffusion.pipeline import GUIDANCE_SCALE, denoise
from lib.diffusion.prediction import EPSILON
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.prompt_weights import parse
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.diffusion.timesteps import BETAS
from tests.lib.diffusion.compare import relative_error

SIDE_PX = 128
STEPS = 50
FEW = 2  # steps that tell as much as all of them
CPU = torch.device("cpu")
META = torch.device("meta")
LEADING = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}
STOCK: dict[str, tuple[type, dict[str, Any]]] = {
    "klms": (LMSDiscreteScheduler, {}),
    "dpm2": (KDPM2DiscreteScheduler, {}),
    "dpm2_ancestral": (KDPM2AncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "plms": (PNDMScheduler, {**LEADING, "skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {**LEADING, "clip_sample": False}),
}
SECOND_ORDER = ("dpm2", "dpm2_ancestral", "heun")
ANCESTRAL = ("dpm2_ancestral", "euler_ancestral")
CASES = [
    pytest.param(riffusion.Recipe().sampler, 13, id="riffusion"),
    *(pytest.param(name, STEPS - deforum.Recipe().later_steps, id=f"deforum-{name}") for name in SAMPLERS),
]

# One sampler of each kind; the others are slow where bfloat16 is emulated.
LOW_CASES = [
    case
    if case.values[0] in ("plms", "euler_ancestral")
    else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
    for case in CASES
]


@pytest.fixture(scope="module")
def models(models: Models) -> Models:
    """Take what the small model predicts for noise, whatever it is: nothing is done to it."""
    return replace(models, prediction_type=EPSILON)


@pytest.fixture(scope="module")
def prompts(models: Models) -> tuple[Tensor, Tensor]:
    encoder = PromptEncoder(models.tokenizer, models.text_encoder)
    embedding, unconditional = encoder.encode([parse("prompt", text) for text in ("funky synth solo", "")])
    return embedding, unconditional


def latents_and_noise(models: Models) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    shape = models.latent_shape(SIDE_PX, SIDE_PX)
    return torch.randn(shape, generator=source), torch.randn(shape, generator=source)


def fast(models: Models, name: str, first_step: int, prompts: tuple[Tensor, Tensor]) -> Tensor:
    sampler = Sampler(name, STEPS, first_step)
    begun = sampler.add_noise(*latents_and_noise(models))
    return denoise(models, sampler, begun, *prompts, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def plain(models: Models, name: str, first_step: int, prompts: tuple[Tensor, Tensor]) -> Tensor:
    """Do what a pipeline of diffusers does, with a scheduler of its own."""
    scheduler_class, arguments = STOCK[name]
    scheduler = scheduler_class(**BETAS, **arguments)
    scheduler.set_timesteps(STEPS)
    first_index = 2 * first_step if name in SECOND_ORDER else first_step
    timesteps = scheduler.timesteps[first_index:]
    if name == "plms":  # which must begin with a pair, wherever it begins
        t0, t1, *later = list(dict.fromkeys(scheduler.timesteps.tolist()))[first_step:]
        timesteps = torch.tensor([t0, t1, t1, *later])
    if name not in ("plms", "ddim"):  # which go by the timestep itself
        scheduler.set_begin_index(first_index)

    embedding, unconditional = prompts
    context = torch.cat([unconditional, embedding]).to(models.dtype)
    options: dict[str, Any] = {"generator": torch.Generator().manual_seed(1)} if name in ANCESTRAL else {}
    latents: Tensor = scheduler.add_noise(*latents_and_noise(models), timesteps[:1])
    for i, timestep in enumerate(timesteps):
        if name == "klms":
            options = {"order": min(4, i + 1)}
        pair = scheduler.scale_model_input(torch.cat([latents, latents]), timestep).to(models.dtype)
        without, with_prompt = models.unet(pair, timestep, encoder_hidden_states=context).sample.float().chunk(2)
        # lerp is without + scale * (with_prompt - without), but for the rounding.
        epsilon = torch.lerp(without, with_prompt, GUIDANCE_SCALE)
        latents = scheduler.step(epsilon, timestep, latents, **options).prev_sample
    return latents


@pytest.mark.parametrize(("name", "first_step"), CASES)
def test_the_fast_loop_is_the_plain_one_bit_by_bit(
    models: Models, prompts: tuple[Tensor, Tensor], name: str, first_step: int
) -> None:
    expected = plain(models, name, first_step, prompts)
    assert expected.isfinite().all()
    assert torch.equal(fast(models, name, first_step, prompts), expected)


@pytest.mark.parametrize(("name", "first_step"), CASES[:2])
def test_the_order_in_memory_changes_only_the_rounding(
    models: Models, prompts: tuple[Tensor, Tensor], name: str, first_step: int
) -> None:
    channels_first = replace(models, unet=copy.deepcopy(models.unet).to(memory_format=torch.contiguous_format))
    assert not models.unet.conv_in.weight.is_contiguous()
    assert channels_first.unet.conv_in.weight.is_contiguous()
    expected = plain(channels_first, name, first_step, prompts)
    assert relative_error(fast(models, name, first_step, prompts), expected) < 1e-4


@pytest.fixture(scope="module")
def low(small_folder: Path) -> Models:
    return replace(load(small_folder, CPU, torch.bfloat16), prediction_type=EPSILON)


@pytest.mark.parametrize(("name", "first_step"), LOW_CASES)
def test_bfloat16_costs_no_more_than_it_costs_the_plain_loop(
    models: Models, low: Models, prompts: tuple[Tensor, Tensor], name: str, first_step: int
) -> None:
    """How much that is depends on the sampler and on the processor, whose kernels round in ways of their own."""
    expected = fast(models, name, first_step, prompts)
    ours, plain_ones = (relative_error(loop(low, name, first_step, prompts), expected) for loop in (fast, plain))
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
def test_the_loop_reads_nothing_from_the_device_and_sends_it_all_before_the_first_step(
    models: Models, prompts: tuple[Tensor, Tensor], name: str
) -> None:
    on_meta = replace(models, unet=copy.deepcopy(models.unet).to(META), device=META)
    latents, noise = (tensor.to(META) for tensor in latents_and_noise(models))
    embedding, unconditional = (prompt.to(META) for prompt in prompts)
    sampler = Sampler(name, STEPS, STEPS - FEW)
    begun = sampler.add_noise(latents, noise)
    transfers = Transfers()
    with transfers:
        result = denoise(on_meta, sampler, begun, embedding, unconditional, generator=torch.Generator().manual_seed(1))
    assert result.device == META
    expected = Counter({tuple(sampler.timesteps.shape): 1})
    if name in ANCESTRAL:  # whose noise is drawn on the CPU, to be the same on every device
        expected[(FEW, *latents.shape)] = 1
    assert transfers.shapes == expected
