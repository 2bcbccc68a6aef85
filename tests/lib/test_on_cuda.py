"""The models on a CUDA device that has no values: shapes, types, devices, and how often the host waits for the device.

A real GPU's results, memory and kernels are not tested.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from lib import deforum_request, riffusion_request
from lib.audio.inverse import Quality, Synthesis
from lib.audio.loudness import level
from lib.deforum import Deforum, Recipe
from lib.diffusion.models import Models, assemble
from lib.diffusion.pipeline import decode, denoise, encode
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.progress import Stages
from lib.prompt_weights import parse
from lib.riffusion import Riffusion
from tests.lib.conftest import tiny_models
from tests.lib.diffusion.stock import ANCESTRAL

CUDA = torch.device("cuda", 0)
READ, DOWN, UP = "a number is read", "a tensor is copied to the host", "a tensor is copied to the device"
READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default, torch.ops.aten.is_nonzero.default}
DECODING = [READ, DOWN]  # whether the picture is finite, and the picture
STEPS = 5


class CudaWithoutValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """PyTorch's fake tensors on CUDA, next to real ones on the CPU. Everything that comes from the device is 1."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []  # why the host waited until the device had finished its work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        from_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        to_device = devices[0].type == "cuda" if devices else from_device
        if to_device and func not in READS:
            if tensors and not from_device:
                self.waits.append(UP)
                args = tree_map_only(Tensor, torch.empty_like, args)  # makes fake tensors
            return func(*args, **kwargs)
        if from_device:
            self.waits.append(READ if func in READS else DOWN)
            args = tree_map_only(FakeTensor, real_ones, args)
        with unset_fake_temporarily():
            return func(*args, **kwargs)

    def counted(self) -> list[str]:
        """Return the waits since the last call."""
        waits, self.waits = self.waits, []
        return waits


def real_ones(tensor: Tensor) -> Tensor:
    with unset_fake_temporarily():
        return torch.ones(tensor.shape, dtype=tensor.dtype)


@pytest.fixture(scope="module")
def fake() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.fixture
def device(fake: FakeTensorMode) -> Iterator[CudaWithoutValues]:
    with fake, CudaWithoutValues() as device:
        yield device


@pytest.fixture(scope="module")
def models(fake: FakeTensorMode) -> Models:
    tiny = tiny_models()
    with fake, CudaWithoutValues():
        parts = {name: getattr(tiny, name) for name in ("text_encoder", "vae", "unet")}
        return assemble(tiny.tokenizer, parts, CUDA, torch.float16)


def test_everything_runs_in_float16_except_the_text_encoder(models: Models) -> None:
    for part, dtype in (
        (models.unet, torch.float16),
        (models.vae, torch.float16),
        (models.text_encoder, torch.float32),
    ):
        assert {(weight.device, weight.dtype) for weight in part.parameters()} == {(CUDA, dtype)}


@pytest.mark.parametrize("first_step", [0, 2])
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_of_a_sampler_waits_for_the_device(
    name: str, first_step: int, models: Models, device: CudaWithoutValues
) -> None:
    latents = torch.zeros(models.latent_shape(64, 64), device=CUDA)
    embedding = torch.zeros(1, 77, 32, device=CUDA)
    sampler, source = Sampler(name, STEPS, first_step), torch.Generator()
    device.counted()
    result = denoise(models, sampler, latents, embedding, embedding, generator=source)
    assert device.counted() == ([UP] if name in ANCESTRAL else [])  # the noise of all steps at once
    assert (result.device, result.dtype, result.shape) == (CUDA, torch.float32, latents.shape)


def test_a_picture_is_copied_once_to_the_device_and_once_back(models: Models, device: CudaWithoutValues) -> None:
    latents = encode(models, np.zeros((64, 64, 3), np.float32)).mean
    assert device.counted() == [UP]
    assert (latents.device, latents.dtype, latents.shape) == (CUDA, torch.float32, models.latent_shape(64, 64))
    picture = decode(models, latents)
    assert device.counted() == DECODING
    assert (picture.shape, picture.dtype.name) == ((64, 64, 3), "uint8")


def test_a_prompt_waits_once_for_its_tokens_and_once_for_its_weights(models: Models, device: CudaWithoutValues) -> None:
    prompts = PromptEncoder(models.tokenizer, models.text_encoder)
    device.counted()
    (embedding,) = prompts.encode([parse("prompt", "drums and bass")])
    assert device.counted() == [UP, UP, READ]
    assert (embedding.device, embedding.dtype) == (CUDA, torch.float32)


def test_the_iterations_of_the_synthesis_never_wait_for_the_device(device: CudaWithoutValues) -> None:
    for quality in (Quality(1, 1, 1), Quality(3, 3, 3)):
        synthesis = Synthesis(CUDA, quality)
        device.counted()
        waveform = synthesis(torch.ones(1, 512, 101), torch.Generator())
        assert device.counted() == [UP] * 5
        assert (waveform.device, waveform.dtype, waveform.shape) == (CUDA, torch.float32, (1, 44100))
    assert level(waveform).device == CUDA
    assert device.counted() == [READ] * 5


def test_more_steps_make_no_clip_wait_more_often(models: Models, device: CudaWithoutValues) -> None:
    riffusion, waits = Riffusion(models), []
    for steps in (2, 2, 4):
        request = riffusion_request.Inputs(prompt_a="drums", prompt_b="bells", num_inference_steps=steps).request()
        device.counted()
        picture = riffusion.picture(request, Stages(torch.device("cpu")))
        waits.append(Counter(device.counted()))
        assert (picture.shape, picture.dtype.name) == ((512, 512), "uint8")
    first, second, longer = waits
    assert first == second + Counter([UP])  # the seed image, whose latents are kept
    assert second == longer == Counter({UP: 8, READ: 5, DOWN: 1})


def test_a_frame_of_an_animation_is_copied_to_the_device_and_back(models: Models, device: CudaWithoutValues) -> None:
    deforum = Deforum(models, Recipe(size_px=64, steps=STEPS))
    request = deforum_request.Inputs(animation_prompts="a sunset", sampler="klms").request()
    frames = deforum.frames(request, Stages(torch.device("cpu")))
    next(frames)
    for _ in range(2):
        device.counted()
        assert next(frames).shape == (64, 64, 3)
        assert device.counted() == [UP, UP, UP, *DECODING]  # the picture, its latents' noise, the first step's noise
