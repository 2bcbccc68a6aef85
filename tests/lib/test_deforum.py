"""How deforum makes its frames, with tiny models of random weights."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.animation.color import COLOR_COHERENCE, ColorMatcher
from lib.animation.warp import matrix, warp
from lib.deforum import Deforum, Frame, Recipe, add_noise
from lib.deforum_request import SAMPLERS, Inputs, Request
from lib.diffusion.models import Models
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import Sampler
from lib.progress import Stages
from lib.prompt_weights import parse
from tests.lib.conftest import CPU, tiny_models

SMALL = Recipe(size_px=64)  # the schedule and everything else are the default's
SHORT = Recipe(size_px=64, steps=6)  # of which later frames run 2
RED = Inputs(animation_prompts="0: a red circle", seed=7)
Generate = Callable[..., list[Frame]]
MOVING = {
    "angle": "0:(3*t)",
    "zoom": "0:(1), 10:(2)",
    "translation_x": "0:(where(t<2, 5, -7))",
    "translation_y": "0:(t+0.5)",
}


def request(min_frames: int = 100, **changes: Any) -> Request:
    return replace(RED, **changes).request(min_frames)


@pytest.fixture(scope="module")
def deforum(tiny: Models) -> Deforum:
    return Deforum(tiny, SHORT)


@pytest.fixture
def generate(tiny: Models) -> Generate:
    def generate(count: int = 2, recipe: Recipe = SHORT, **changes: Any) -> list[Frame]:
        """Make the first `count` frames of a request."""
        return list(itertools.islice(Deforum(tiny, recipe).frames(request(**changes), Stages(CPU)), count))

    return generate


class Evaluation(NamedTuple):
    """The inputs of the UNet: latents, timestep, and the embeddings of the empty prompt and of the prompt."""

    latents: Tensor
    timestep: float
    unconditional: Tensor
    embedding: Tensor


class Heard(NamedTuple):
    """The inputs of the model, in the order of the calls."""

    pictures: list[Tensor]  # that the VAE encodes, (1, 3, height, width)
    evaluations: list[Evaluation]


@pytest.fixture
def heard(tiny: Models) -> Iterator[Heard]:
    heard = Heard([], [])

    def listen(_unet: torch.nn.Module, args: tuple[Tensor, Tensor], options: dict[str, Tensor]) -> None:
        unconditional, embedding = options["encoder_hidden_states"].chunk(2)
        heard.evaluations.append(Evaluation(args[0][:1].clone(), float(args[1]), unconditional, embedding))

    hooks = [
        tiny.vae.encoder.register_forward_pre_hook(lambda _encoder, args: heard.pictures.append(args[0].clone())),
        tiny.unet.register_forward_pre_hook(listen, with_kwargs=True),
    ]
    yield heard
    for hook in hooks:
        hook.remove()


def test_frames_are_512_pixels_square_rgb(tiny: Models) -> None:
    frame = next(Deforum(tiny, Recipe(steps=1)).frames(request(), Stages(CPU)))
    assert frame.shape == (512, 512, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("max_frames", [1, 2, 5])
def test_there_are_exactly_max_frames_frames_and_progress_counts_their_steps(
    deforum: Deforum, max_frames: int, capsys: pytest.CaptureFixture[str]
) -> None:
    short = request(min_frames=1, max_frames=max_frames)
    assert sum(1 for _ in deforum.frames(short, Stages(CPU))) == max_frames
    total = 6 + (max_frames - 1) * 2
    assert f"{total}/{total} [" in capsys.readouterr().out.splitlines()[-1]


def test_the_default_animation_has_1733_steps() -> None:
    assert int((1 - 0.65) * 50) == 17
    assert Recipe().film(request()).total_steps == 50 + 99 * 17 == 1733


Clip = tuple[list[Frame], list[list[float]]]


@pytest.fixture(scope="module")
def clips(deforum: Deforum, tiny: Models) -> dict[str, Clip]:
    """Return three frames of every sampler, and the timesteps that the model was asked about for each of them."""
    timesteps: list[float] = []
    clips: dict[str, Clip] = {}
    hook = tiny.unet.register_forward_pre_hook(lambda _unet, args: timesteps.append(float(args[1])))
    for name in SAMPLERS:
        frames, seen = clips[name] = [], []
        for frame in itertools.islice(deforum.frames(request(sampler=name), Stages(CPU)), 3):
            frames.append(frame)
            seen.append(timesteps.copy())
            timesteps.clear()
    hook.remove()
    return clips


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frame_0_runs_the_full_schedule_and_later_frames_the_end_of_it(clips: dict[str, Clip], sampler: str) -> None:
    first, *later = clips[sampler][1]
    assert later[0] == later[1]
    for seen, first_step in ((first, 0), (later[0], 4)):
        steps = [float(np.float32(timestep)) for timestep in Sampler(sampler, 6, first_step).schedule.timesteps]
        assert seen[0] == steps[0]
        between = set(seen) - set(steps)
        assert "dpm2" in sampler or not between
        assert all(steps[0] > timestep > steps[-1] for timestep in between)


def test_every_sampler_gives_frames_of_its_own_that_can_be_repeated(generate: Generate, clips: dict[str, Clip]) -> None:
    for n in range(3):
        assert len({frames[n].tobytes() for frames, _ in clips.values()}) == 8
    for name in ("euler_ancestral", "dpm2_ancestral"):  # which draw noise at every step
        assert np.array_equal(generate(2, sampler=name), clips[name][0][:2])


@pytest.mark.parametrize(("mode", "seed"), [*((mode, 7) for mode in COLOR_COHERENCE), ("None", 2**32 - 1)])
def test_a_frame_starts_from_the_previous_one_moved_with_matched_colours_and_noise(
    generate: Generate, heard: Heard, mode: str, seed: int
) -> None:
    frames = generate(4, **MOVING, color_coherence=mode, seed=seed)
    matcher = ColorMatcher(mode, frames[0])  # as generated
    motions = [(0, 1, 5, 0.5), (3, 1.1, 5, 1.5), (6, 1.2, -7, 2.5), (9, 1.3, -7, 3.5)]
    assert len(heard.pictures) == 3
    for n in (1, 2, 3):
        moved = warp(frames[n - 1], matrix(64, 64, *motions[n]))
        assert not np.array_equal(moved, frames[n - 1])
        source = torch.Generator().manual_seed((seed + n) % 2**32)
        expected = add_noise(matcher.match(moved), 0.02, source)
        np.testing.assert_allclose(heard.pictures[n - 1][0].permute(1, 2, 0), expected, atol=1e-6)


def test_frame_0_starts_from_the_noise_of_its_seed(generate: Generate, heard: Heard, tiny: Models) -> None:
    generate(1, sampler="ddim")
    noise = torch.randn(tiny.latent_shape(64, 64), generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(heard.evaluations[0].latents, noise)


def test_later_frames_start_with_noise_at_the_17th_step_from_the_end(
    generate: Generate, heard: Heard, tiny: Models
) -> None:
    generate(2, SMALL, sampler="ddim", color_coherence="None", zoom="0:(1)")
    source = torch.Generator().manual_seed(7 + 1)  # the pixels' noise first, then the latents', then the start's
    torch.randn(64, 64, 3, generator=source)
    latent_noise, step_noise = (torch.randn(tiny.latent_shape(64, 64), generator=source) for _ in range(2))
    timestep = (17 - 1) * 20 + 1  # in a leading schedule of stride 20 and offset 1
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)[timestep]
    with torch.inference_mode():
        posterior = tiny.vae.encode(heard.pictures[0]).latent_dist
    latents = (posterior.mean + posterior.std * latent_noise) * tiny.vae.config.scaling_factor
    expected = (abar.sqrt() * latents + (1 - abar).sqrt() * step_noise).float()
    assert heard.evaluations[50].timestep == timestep
    torch.testing.assert_close(heard.evaluations[50].latents, expected)


def test_with_a_strength_of_1_a_frame_is_the_previous_one_with_noise_and_not_diffused(tiny: Models) -> None:
    first = np.full((64, 64, 3), 128, dtype=np.uint8)
    still = request(zoom="0:(1)", color_coherence="None")
    _, second = itertools.islice(Deforum(tiny, replace(SHORT, strength=1)).frames(still, Stages(CPU), first), 2)
    noised = add_noise(first, 0.02, torch.Generator().manual_seed(7 + 1))
    assert np.abs(second - (noised + 1) * 127.5).max() <= 0.51


def test_a_prompt_applies_from_its_frame_on(generate: Generate, heard: Heard, tiny: Models) -> None:
    generate(5, animation_prompts="2: red | 3: blue", sampler="ddim")
    encoder = PromptEncoder(tiny.tokenizer, tiny.text_encoder)
    red, blue, empty = encoder.encode([parse("prompt", text) for text in ("red", "blue", "")])
    starts = [heard.evaluations[index] for index in (0, 6, 8, 10, 12)]
    for evaluation, expected in zip(starts, [red, red, red, blue, blue], strict=True):
        assert torch.equal(evaluation.embedding, expected)
        assert torch.equal(evaluation.unconditional, empty)


def test_the_recipe_sets_guidance_and_strength(tiny: Models) -> None:
    recipes = [SHORT, replace(SHORT, guidance_scale=1.0), replace(SHORT, strength=0.5)]
    clips = [list(itertools.islice(Deforum(tiny, recipe).frames(request(), Stages(CPU)), 2)) for recipe in recipes]
    assert [np.array_equal(clip[0], clips[0][0]) for clip in clips] == [True, False, True]
    assert not np.array_equal(clips[2][1], clips[0][1])


def test_an_animation_can_continue_from_a_picture(deforum: Deforum, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.full((64, 64, 3), 128, dtype=np.uint8)
    short = request(min_frames=1, max_frames=2)
    first, second = deforum.frames(short, Stages(CPU), first=picture)
    assert first is picture
    assert not np.array_equal(first, second)
    assert "2/2 [" in capsys.readouterr().out.splitlines()[-1]


def test_a_prompt_is_encoded_only_when_it_changes() -> None:
    models = tiny_models()
    deforum = Deforum(models, SHORT)  # embeds the empty prompt
    texts: list[int] = []
    models.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    prompts = f"a | 2: {'long ' * 100} | 4: {'long ' * 100} | 5: c"
    frames = deforum.frames(request(animation_prompts=prompts), Stages(CPU))
    assert texts == []
    assert [len(texts) for _ in itertools.islice(frames, 6)] == [1, 1, 5, 5, 5, 6]  # in chunks


def test_the_same_seed_gives_the_same_frames_and_frame_0_depends_on_neither_motion_nor_colour(
    generate: Generate,
) -> None:
    frames, again, other = generate(3), generate(3), generate(3, seed=8)
    moving, plain = generate(2, **MOVING), generate(2, color_coherence="None")
    for n in range(3):
        assert np.array_equal(frames[n], again[n])
        assert not np.array_equal(frames[n], other[n])
    assert len({clip[0].tobytes() for clip in (frames, moving, plain)}) == 1
    assert len({clip[1].tobytes() for clip in (frames, moving, plain)}) == 3


def test_only_the_last_frame_is_kept_in_memory(deforum: Deforum) -> None:
    frames = deforum.frames(request(), Stages(CPU))
    made = [weakref.ref(next(frames)) for _ in range(4)]
    assert [frame() is None for frame in made] == [True, True, True, False]


def test_stages_are_measured(deforum: Deforum) -> None:
    stages = Stages(CPU)
    assert len(list(itertools.islice(deforum.frames(request(), stages), 2))) == 2
    assert stages.seconds.keys() == {"motion", "encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in stages.seconds.values())


# Noise on a warped frame


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_noise_is_gaussian_and_independent_with_the_given_sigma() -> None:
    grey = np.full((512, 512, 3), 100, np.uint8)
    noise = add_noise(grey, 0.02, seeded(1)).astype(np.float64) - (100 / 127.5 - 1)
    error = 0.02 / np.sqrt(noise.size)  # of the mean; of sigma, 1 / sqrt 2 of it
    assert abs(noise.mean()) < 5 * error
    assert abs(noise.std() - 0.02) < 5 * error
    for sigmas, share in [(1, 0.6827), (2, 0.9545), (3, 0.9973)]:
        assert (np.abs(noise) < 0.02 * sigmas).mean() == pytest.approx(share, abs=0.003)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_noise_is_added_to_levels_from_minus_1_to_1_and_not_clipped(sigma: float) -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    noise = sigma * torch.randn(levels.shape, generator=seeded(0)).numpy()
    noised = add_noise(levels, sigma, seeded(0))
    assert noised.dtype == np.float32
    assert noised == pytest.approx(levels / 127.5 - 1 + noise, abs=1e-6)
