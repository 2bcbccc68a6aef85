"""Every sentence of what riffusion does, with the small model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.audio.seed_images import SEED_IMAGE_IDS, load
from lib.diffusion import img2img
from lib.diffusion.models import Models
from lib.diffusion.models import load as load_models
from lib.diffusion.samplers import Sampler
from lib.errors import UserError
from lib.progress import Stages
from lib.riffusion import SAMPLER, Request, Riffusion

DEFAULTS = {
    "prompt_a": "funky synth solo",
    "prompt_b": None,
    "alpha": 0.5,
    "denoising": 0.75,
    "num_inference_steps": 6,
    "seed_image_id": "vibes",
    "seed": 7,
}


def request(**changes: object) -> Request:
    return Request.verified(**{**DEFAULTS, **changes})


@pytest.fixture(scope="module")
def riffusion(models: Models) -> Riffusion:
    return Riffusion(models)


@pytest.fixture
def generate(riffusion: Riffusion):
    def generate(**changes: object) -> np.ndarray:
        return riffusion.generate(request(**changes), Stages(torch.device("cpu")))

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
        ("num_inference_steps", 2.5, "a whole number from 1 to 1000"),
        ("alpha", 1.1, "a number from 0 to 1"),
        ("alpha", float("nan"), "a number from 0 to 1"),
        ("denoising", -0.1, "a number from 0 to 1"),
        ("seed_image_id", "mask_gradient_top_fifth_75", "one of agile, marim"),
        ("prompt_a", None, "text of at most 4000 characters"),
        ("prompt_a", "x" * 100_000, "text of at most 4000 characters"),
        ("prompt_b", 5, "text of at most 4000 characters"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(UserError) as error:
        request(**{name: value})
    assert str(error.value).startswith(f"{name} is {repr(value)[:50]}")
    assert f"but must be {allowed}" in str(error.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        request(alpha=2, prompt_a="(x:500)", num_inference_steps=0)
    assert [problem.split()[0] for problem in error.value.problems] == ["prompt_a:", "alpha", "num_inference_steps"]


def test_numbers_of_either_kind_are_taken() -> None:
    assert request(num_inference_steps=6.0, alpha=1, denoising=1).num_inference_steps == 6


def test_the_picture_is_a_spectrogram(generate) -> None:
    image = generate()
    assert image.shape == (512, 512)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("name", SEED_IMAGE_IDS)
def test_every_seed_image_works(generate, name: str) -> None:
    assert np.array_equal(generate(seed_image_id=name, denoising=0), load(name))
    changed = generate(seed_image_id=name, num_inference_steps=2)
    assert not np.array_equal(changed, load(name))


def test_every_seed_image_gives_its_own_clip(generate) -> None:
    clips = {generate(seed_image_id=name, num_inference_steps=2).tobytes() for name in SEED_IMAGE_IDS}
    assert len(clips) == len(SEED_IMAGE_IDS)


@pytest.mark.parametrize(("denoising", "steps"), [(0, 50), (0.01, 50), (0.5, 1)])
def test_without_a_step_the_seed_image_comes_back_without_the_model(denoising: float, steps: int) -> None:
    no_model = Riffusion.__new__(Riffusion)  # it has nothing that could run
    image = no_model.generate(request(denoising=denoising, num_inference_steps=steps), Stages(torch.device("cpu")))
    assert np.array_equal(image, load("vibes"))


@pytest.mark.parametrize(
    ("steps", "denoising"), [(1, 1), (2, 1), (50, 1), (1000, 0.03), pytest.param(1000, 1, marks=pytest.mark.slow)]
)
def test_any_number_of_steps_can_be_run(generate, steps: int, denoising: float) -> None:
    assert not np.array_equal(generate(num_inference_steps=steps, denoising=denoising), load("vibes"))


@pytest.fixture
def starts(monkeypatch) -> list[torch.Tensor]:
    """Return a list that gets the noisy latents of each start; nothing is denoised."""
    starts: list[torch.Tensor] = []

    def start_only(_models: Models, _sampler: Sampler, latents: torch.Tensor, *_args, **_options) -> torch.Tensor:
        starts.append(latents)
        return latents

    monkeypatch.setattr("lib.riffusion.denoise", start_only)
    return starts


def test_denoising_goes_from_the_seed_image_away(models: Models, generate, starts: list[torch.Tensor]) -> None:
    """The more denoising, the less the clip's latents resemble the seed image's."""
    seed_picture = np.repeat(load("vibes")[:, :, None], 3, axis=2)
    seed_latents = img2img.encode(models, img2img.to_model_range(seed_picture)).mean
    likenesses = []
    for denoising in (0.2, 0.6, 1.0):
        generate(denoising=denoising, num_inference_steps=50)
        pair = torch.stack([starts[-1].flatten(), seed_latents.flatten()])
        likenesses.append(torch.corrcoef(pair)[0, 1].item())
    assert likenesses[0] > likenesses[1] > likenesses[2]


def test_noise_is_added_at_the_timestep_where_the_sampler_starts(models: Models, generate, starts) -> None:
    generate(num_inference_steps=50)

    source = torch.Generator().manual_seed(7)  # the latents first, then the noise, from the one generator
    latent_noise, step_noise = (torch.randn(models.latent_shape(512, 512), generator=source) for _ in range(2))
    seed_picture = np.repeat(load("vibes")[:, :, None], 3, axis=2)
    latents = img2img.encode(models, img2img.to_model_range(seed_picture)).sample(latent_noise)
    timestep = (37 - 1) * 20 + 1  # 37 steps of 50 to go, in a leading schedule of stride 20 and offset 1
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)[timestep]
    torch.testing.assert_close(starts[0], (abar.sqrt() * latents + (1 - abar).sqrt() * step_noise).float())
    assert Sampler(SAMPLER, 50, 13).timesteps[:4].tolist() == [timestep, timestep - 20, timestep - 20, timestep - 40]


def test_the_default_request_takes_38_evaluations(riffusion: Riffusion, models: Models, capsys) -> None:
    riffusion.generate(request(num_inference_steps=50), Stages(torch.device("cpu")))
    assert capsys.readouterr().out.splitlines()[-1].startswith("100%")
    assert len(Sampler(SAMPLER, 50, 13).timesteps) == 38


@pytest.mark.parametrize("prompt_b", [None, "", "  \n"])
def test_without_a_second_prompt_alpha_is_ignored(generate, prompt_b: str | None) -> None:
    alone = generate(alpha=0.5)
    for alpha in (0, 0.3, 1):
        assert np.array_equal(generate(prompt_b=prompt_b, alpha=alpha), alone)


def test_alpha_0_is_exactly_prompt_a_and_1_exactly_prompt_b(generate) -> None:
    a, b = "drums", "bells " * 60  # of different numbers of chunks: padding must not show
    assert np.array_equal(generate(prompt_a=a, prompt_b=b, alpha=0), generate(prompt_a=a))
    assert np.array_equal(generate(prompt_a=a, prompt_b=b, alpha=1), generate(prompt_a=b, seed=8))


def test_between_the_ends_both_prompts_and_both_noises_count(generate) -> None:
    a, b = generate(prompt_a="drums"), generate(prompt_a="bells", seed=8)
    blends = [generate(prompt_a="drums", prompt_b="bells", alpha=alpha) for alpha in (0.25, 0.75)]

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(one.astype(float) - other).mean())

    assert distance(blends[0], a) < distance(blends[0], b)
    assert distance(blends[1], b) < distance(blends[1], a)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(generate) -> None:
    assert np.array_equal(generate(), generate())
    assert not np.array_equal(generate(), generate(seed=8))


def test_the_prompt_counts(generate) -> None:
    pictures = {generate(prompt_a=text).tobytes() for text in ("", "drums", "(drums:1.5)", "[drums]", "🎹", "w " * 300)}
    assert len(pictures) == 6


def test_what_never_changes_is_computed_once(small_folder: Path) -> None:
    models = load_models(small_folder, torch.device("cpu"), torch.float32)
    riffusion = Riffusion(models)  # embeds the empty prompt
    calls: list[str] = []
    models.vae.encoder.register_forward_hook(lambda *_: calls.append("image"))
    models.text_encoder.register_forward_hook(lambda *_: calls.append("text"))
    for _ in range(3):
        riffusion.generate(request(num_inference_steps=2), Stages(torch.device("cpu")))
    assert calls == ["image", "text", "text", "text"]


def test_stages_are_measured(riffusion: Riffusion) -> None:
    stages = Stages(torch.device("cpu"))
    riffusion.generate(request(num_inference_steps=2), stages)
    assert set(stages.seconds) == {"encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in stages.seconds.values())
