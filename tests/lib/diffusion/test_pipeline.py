import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.diffusion.models import Models
from lib.diffusion.pipeline import (
    GUIDANCE_SCALE,
    decode,
    denoise,
    encode,
    from_model_range,
    to_model_range,
)
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.prompt_weights import parse
from tests.lib.conftest import tiny_models

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def noise(tiny: Models) -> torch.Tensor:
    return torch.randn(tiny.latent_shape(64, 64), generator=torch.Generator().manual_seed(0))


def embeddings(tiny: Models, *texts: str) -> list[Tensor]:
    encoder = PromptEncoder(tiny.tokenizer, tiny.text_encoder)
    return encoder.encode([parse("prompt", text) for text in texts])


def test_encode_is_the_vaes_posterior_scaled(tiny: Models, noise: torch.Tensor) -> None:
    latents = encode(tiny, to_model_range(PICTURE))
    with torch.inference_mode():
        posterior = tiny.vae.encode(torch.from_numpy(to_model_range(PICTURE)).permute(2, 0, 1)[None]).latent_dist
    scaling = tiny.vae.config.scaling_factor
    torch.testing.assert_close(latents.mean, posterior.mean * scaling)
    torch.testing.assert_close(latents.sample(noise), (posterior.mean + posterior.std * noise) * scaling)
    assert latents.mean.shape == noise.shape


def test_decode_undoes_the_scaling_and_rounds(tiny: Models, noise: torch.Tensor) -> None:
    picture = decode(tiny, noise)
    with torch.inference_mode():
        image = tiny.vae.decode(noise / tiny.vae.config.scaling_factor).sample
    expected = ((image[0] + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy()
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() <= 0.501


def test_a_picture_that_is_not_finite_is_an_error(tiny: Models, noise: torch.Tensor) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        decode(tiny, noise * float("nan"))


def test_a_picture_that_overflows_is_decoded_again_in_float32_which_is_logged(
    noise: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    dtype = torch.float16
    low = tiny_models(dtype)
    same_weights = torch.nn.Module.to(copy.deepcopy(low.vae), torch.float32)
    expected = decode(dataclasses.replace(low, vae=same_weights, dtype=torch.float32), noise)

    def overflow(_module: torch.nn.Module, _given: object, result: Tensor) -> Tensor:
        """Act like a float16 convolution whose sums exceed 65504, which float32 can hold."""
        return result / 0 if result.dtype == dtype else result

    hook = low.vae.decoder.conv_out.register_forward_hook(overflow)
    try:
        picture = decode(low, noise)
        assert capsys.readouterr().out == f"A picture overflowed in {dtype}; decoding it again in float32\n"
        with pytest.raises(FloatingPointError, match="not finite, in float32 either"):
            decode(low, noise * float("nan"))
    finally:
        hook.remove()
    assert np.array_equal(picture, expected)
    assert low.vae.dtype == dtype


def test_the_model_range_is_minus_one_to_one_and_the_conversion_and_back_is_exact() -> None:
    image = to_model_range(np.array([[[0, 255, 51]]], dtype=np.uint8))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, [[[-1.0, 1.0, -0.6]]], rtol=1e-6)
    assert np.array_equal(from_model_range(to_model_range(PICTURE)), PICTURE)
    assert from_model_range(np.array([-1.2, 1.05], dtype=np.float32)).tolist() == [0, 255]


def test_guidance_moves_from_the_unconditional_prediction_through_the_prompts(
    tiny: Models, noise: torch.Tensor
) -> None:
    embedding, unconditional = embeddings(tiny, "drums", "")
    sampler = Sampler("ddim", 50, 49)  # one step, from timestep 1
    result = denoise(tiny, sampler, noise, embedding, unconditional)
    (sigma, _), (timestep,) = sampler.schedule.sigmas, sampler.schedule.timesteps
    assert timestep == 1

    with torch.inference_mode():
        with_prompt, without = (
            tiny.unet(noise / (1 + sigma**2) ** 0.5, torch.tensor(1), encoder_hidden_states=context).sample
            for context in (embedding, unconditional)
        )
    assert GUIDANCE_SCALE == 7.0
    epsilon = without + 7.0 * (with_prompt - without)
    expected = sampler.run(lambda _latents, _sigma: epsilon, noise)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
