"""How riffusion makes its clips, with tiny models of random weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.audio.seed_images import SEED_IMAGE_IDS, load
from lib.diffusion import pipeline
from lib.diffusion.models import Models
from lib.diffusion.samplers import Sampler
from lib.errors import UserError
from lib.progress import Stages
from lib.riffusion import Recipe, Riffusion
from lib.riffusion_request import Inputs, Request
from tests.lib.conftest import CPU, tiny_models

SAMPLER = Recipe().sampler
SHORT = Inputs(num_inference_steps=6, seed=7)

Picture = NDArray[np.uint8]
Generate = Callable[..., Picture]


def request(**changes: Any) -> Request:
    """Return the short request with other values, of any type."""
    return replace(SHORT, **changes).request()


@pytest.fixture(scope="module")
def riffusion(tiny: Models) -> Riffusion:
    return Riffusion(tiny)


@pytest.fixture
def generate(riffusion: Riffusion) -> Generate:
    def generate(**changes: Any) -> Picture:
        return riffusion.picture(request(**changes), Stages(CPU))

    return generate


@pytest.mark.parametrize(
    ("steps", "denoising", "run"),
    [(50, 0.75, 37), (50, 1, 50), (50, 0, 0), (50, 0.019, 0), (50, 0.02, 1), (1, 1, 1), (1, 0.99, 0), (1000, 1, 1000)],
)
def test_steps_are_the_schedule_times_denoising_rounded_down(steps: int, denoising: float, run: int) -> None:
    assert request(num_inference_steps=steps, denoising=denoising).steps == run


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_inference_steps", 0, "a whole number from 1 to 1000"),
        ("num_inference_steps", 1001, "a whole number from 1 to 1000"),
        ("alpha", 1.1, "a number from 0 to 1"),
        ("denoising", -0.1, "a number from 0 to 1"),
        ("seed_image_id", "mask_gradient_top_fifth_75", "one of agile, marim"),
        ("prompt_a", "x" * 100_000, "text of at most 4000 characters"),
        ("prompt_b", 5, "text of at most 4000 characters"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
    ],
)
def test_an_error_names_the_input_its_value_and_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(UserError) as error:
        request(**{name: value})
    assert str(error.value).startswith(f"{name} is {repr(value)[:50]}")
    assert f"but must be {allowed}" in str(error.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        request(alpha=2, prompt_a="(x:500)", num_inference_steps=0)
    assert [problem.split()[0] for problem in error.value.problems] == ["prompt_a:", "alpha", "num_inference_steps"]


def test_every_seed_image_gives_a_spectrogram_of_its_own(generate: Generate) -> None:
    pictures = {name: generate(seed_image_id=name, num_inference_steps=2) for name in SEED_IMAGE_IDS}
    for name, picture in pictures.items():
        assert picture.shape == (512, 512)
        assert picture.dtype == np.uint8
        assert not np.array_equal(picture, load(name))
        assert np.array_equal(generate(seed_image_id=name, denoising=0), load(name))
    assert len({picture.tobytes() for picture in pictures.values()}) == len(SEED_IMAGE_IDS)


@pytest.mark.parametrize(("denoising", "steps"), [(0, 50), (0.01, 50), (0.5, 1)])
def test_with_0_steps_the_seed_image_is_returned_without_the_model_which_is_logged(
    denoising: float, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    no_model = Riffusion.__new__(Riffusion)  # without a model
    image = no_model.picture(request(denoising=denoising, num_inference_steps=steps), Stages(CPU))
    assert np.array_equal(image, load("vibes"))
    said = capsys.readouterr().out
    message = "0 diffusion steps (num_inference_steps x denoising < 1): returning the seed image 'vibes' unchanged\n"
    assert said == ("" if denoising == 0 else message)  # denoising 0 is no surprise


@pytest.mark.parametrize(("steps", "denoising"), [(1, 1), (2, 1), (50, 1), (1000, 0.03)])
def test_any_number_of_steps_can_be_run(generate: Generate, steps: int, denoising: float) -> None:
    assert not np.array_equal(generate(num_inference_steps=steps, denoising=denoising), load("vibes"))


class BegunError(Exception):
    """Raised with the first latents (1, channels, height, width) that the UNet gets."""

    def __init__(self, latents: Tensor) -> None:
        self.latents = latents


@pytest.fixture
def begun(tiny: Models, generate: Generate) -> Iterator[Callable[..., Tensor]]:
    """Return a function that starts a clip and returns its noisy latents, before any denoising."""

    def begun(**changes: Any) -> Tensor:
        with pytest.raises(BegunError) as caught:
            generate(**changes)
        return caught.value.latents

    def interrupt(_unet: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        raise BegunError(args[0][:1])

    hook = tiny.unet.register_forward_pre_hook(interrupt)
    yield begun
    hook.remove()


def test_noise_is_added_at_the_timestep_where_the_sampler_starts(tiny: Models, begun: Callable[..., Tensor]) -> None:
    start = begun(num_inference_steps=50)

    source = torch.Generator().manual_seed(7)  # one generator draws the latents, then the noise
    latent_noise, step_noise = (torch.randn(tiny.latent_shape(512, 512), generator=source) for _ in range(2))
    seed_picture = np.repeat(load("vibes")[:, :, None], 3, axis=2)
    latents = pipeline.encode(tiny, pipeline.to_model_range(seed_picture)).sample(latent_noise)
    timestep = (37 - 1) * 20 + 1  # 37 steps of 50 to go, in a leading schedule of stride 20 and offset 1
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)[timestep]
    torch.testing.assert_close(start, (abar.sqrt() * latents + (1 - abar).sqrt() * step_noise).float())
    assert Sampler(SAMPLER, 50, 13).schedule.timesteps[:3] == (timestep, timestep - 20, timestep - 40)


def test_the_default_request_runs_37_steps_in_38_evaluations(
    generate: Generate, tiny: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluations: list[int] = []
    hook = tiny.unet.register_forward_hook(lambda *_: evaluations.append(1))
    generate(num_inference_steps=50)
    hook.remove()
    assert len(evaluations) == 38  # the first step of plms has two
    assert "37/37 [" in capsys.readouterr().out.splitlines()[-1]


def test_without_a_second_prompt_alpha_is_ignored(generate: Generate) -> None:
    assert [request(prompt_b=blank).prompt_b for blank in (None, "", "  \n")] == [None] * 3
    assert np.array_equal(generate(prompt_b="", alpha=0.3), generate(alpha=1))


def test_alpha_0_is_exactly_prompt_a_and_1_exactly_prompt_b(generate: Generate) -> None:
    a, b = "drums", "bells " * 60  # with different numbers of chunks: padding must have no effect
    assert np.array_equal(generate(prompt_a=a, prompt_b=b, alpha=0), generate(prompt_a=a))
    assert np.array_equal(generate(prompt_a=a, prompt_b=b, alpha=1), generate(prompt_a=b, seed=8))


def test_between_0_and_1_both_prompts_and_both_noises_have_an_effect(generate: Generate) -> None:
    a, b = generate(prompt_a="drums"), generate(prompt_a="bells", seed=8)
    blends = [generate(prompt_a="drums", prompt_b="bells", alpha=alpha) for alpha in (0.25, 0.75)]

    def distance(one: Picture, other: Picture) -> float:
        return float(np.abs(one.astype(float) - other).mean())

    assert distance(blends[0], a) < distance(blends[0], b)
    assert distance(blends[1], b) < distance(blends[1], a)


def test_the_same_seed_gives_the_same_picture_and_another_seed_a_different_one(generate: Generate) -> None:
    assert np.array_equal(generate(), generate())
    assert not np.array_equal(generate(), generate(seed=8))


def test_the_prompt_has_an_effect(generate: Generate) -> None:
    pictures = {generate(prompt_a=text).tobytes() for text in ("", "drums", "(drums:1.5)", "[drums]", "🎹", "w " * 300)}
    assert len(pictures) == 6


def test_what_never_changes_is_computed_once() -> None:
    models = tiny_models()
    riffusion = Riffusion(models)  # embeds the empty prompt
    calls: list[str] = []
    models.vae.encoder.register_forward_hook(lambda *_: calls.append("image"))
    models.text_encoder.register_forward_hook(lambda *_: calls.append("text"))
    for _ in range(3):
        riffusion.picture(request(num_inference_steps=2), Stages(CPU))
    assert calls == ["image", "text", "text", "text"]


def test_a_clip_is_its_picture_and_the_sound_of_it_and_its_stages_are_measured(
    riffusion: Riffusion, generate: Generate
) -> None:
    stages = Stages(CPU)
    clip = riffusion.generate(request(num_inference_steps=2), stages)
    assert np.array_equal(clip.image, generate(num_inference_steps=2))
    assert torch.equal(clip.waveform, riffusion.sound(clip.image, seed=7))
    assert set(stages.seconds) == {"encode", "denoise", "decode", "sound"}
    assert all(seconds > 0 for seconds in stages.seconds.values())
