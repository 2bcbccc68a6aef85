"""Every sentence of how deforum makes its frames, with the small model."""

import dataclasses
import itertools
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lib.animation.color import COLOR_COHERENCE, ColorMatcher, add_noise
from lib.animation.warp import warp
from lib.deforum import SIZE_PX, Deforum, Request, evaluations
from lib.diffusion import img2img
from lib.diffusion.models import Models
from lib.diffusion.models import load as load_models
from lib.diffusion.prompt_weights import PromptEncoder
from lib.diffusion.samplers import SAMPLERS
from lib.progress import Stages

DEFAULTS = {
    "max_frames": 100,
    "animation_prompts": "0: a red circle",
    "angle": "0:(0)",
    "zoom": "0: (1.04)",
    "translation_x": "0: (0)",
    "translation_y": "0: (0)",
    "color_coherence": "Match Frame 0 LAB",
    "sampler": "plms",
    "fps": 15,
    "seed": 7,
}
MOVING = {
    "angle": "0:(3*t)",
    "zoom": "0:(1), 10:(2)",
    "translation_x": "0:(where(t<2, 5, -7))",
    "translation_y": "0:(t+0.5)",
}


def request(**changes: object) -> Request:
    return Request.verified(**{**DEFAULTS, **changes})


@pytest.fixture(scope="module")
def deforum(models: Models) -> Deforum:
    return Deforum(models)


@pytest.fixture(scope="module", autouse=True)
def size_px() -> Iterator[int]:
    """Make small frames: the schedule, the model and everything else are as always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.deforum.SIZE_PX", 64)
        yield 64


@pytest.fixture
def generate(deforum: Deforum):
    def generate(count: int = 2, **changes: object) -> list[np.ndarray]:
        """Make the first `count` frames of a request."""
        return list(itertools.islice(deforum.frames(request(**changes), Stages(torch.device("cpu"))), count))

    return generate


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Any, ...]]]:
    """Return what encode and denoise are given and what they return, in the order of the calls."""
    calls: dict[str, list[tuple[Any, ...]]] = {"encode": [], "denoise": []}

    def listen(name: str) -> None:
        real = getattr(img2img, name)

        def listening(*args: Any) -> Any:
            result = real(*args)
            calls[name].append((*args, result))
            return result

        monkeypatch.setattr(f"lib.deforum.{name}", listening)

    listen("encode")
    listen("denoise")
    return calls


def test_frames_are_512_pixels_square_rgb(generate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.deforum.SIZE_PX", SIZE_PX)
    (frame,) = generate(1)
    assert frame.shape == (512, 512, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("max_frames", [1, 2, 5])
def test_there_are_exactly_max_frames(deforum: Deforum, max_frames: int, capsys) -> None:
    short = dataclasses.replace(request(), max_frames=max_frames)
    assert sum(1 for _ in deforum.frames(short, Stages(torch.device("cpu")))) == max_frames
    total = evaluations(short)
    assert f"{total}/{total} [" in capsys.readouterr().out.splitlines()[-1]


@pytest.fixture(scope="module")
def clips(deforum: Deforum, models: Models, size_px: int) -> dict[str, tuple[list[np.ndarray], list[list[float]]]]:
    """Return the first three frames of every sampler, and the timesteps that the model saw for each of them."""
    timesteps: list[float] = []
    clips = {}
    hook = models.unet.register_forward_pre_hook(lambda _unet, args: timesteps.append(float(args[1])))
    for name in SAMPLERS:
        frames, seen = [], []
        for frame in itertools.islice(deforum.frames(request(sampler=name), Stages(torch.device("cpu"))), 3):
            frames.append(frame)
            seen.append(timesteps.copy())
            timesteps.clear()
        clips[name] = frames, seen
    hook.remove()
    return clips


@pytest.mark.parametrize(
    ("sampler", "first", "later"),
    [
        ("klms", 50, 17),
        ("dpm2", 99, 33),
        ("dpm2_ancestral", 99, 33),
        ("heun", 99, 33),
        ("euler", 50, 17),
        ("euler_ancestral", 50, 17),
        ("plms", 51, 18),
        ("ddim", 50, 17),
    ],
)
def test_frame_0_takes_the_full_schedule_and_later_ones_its_end(clips, sampler: str, first: int, later: int) -> None:
    timesteps = clips[sampler][1]
    assert [len(seen) for seen in timesteps] == [first, later, later]
    assert evaluations(request(sampler=sampler)) == first + 99 * later
    assert timesteps[0][0] > 975  # pure noise
    assert timesteps[1] == timesteps[2]
    distinct = sorted(set(timesteps[1]))  # plms evaluates its second one twice
    assert distinct == sorted(set(timesteps[0]))[: len(distinct)]


def test_every_sampler_gives_its_own_frames_and_the_same_ones_again(generate, clips) -> None:
    for n in range(3):
        assert len({frames[n].tobytes() for frames, _ in clips.values()}) == 8
    for name in ("euler_ancestral", "dpm2_ancestral"):  # which draw noise at every step
        assert np.array_equal(generate(2, sampler=name), clips[name][0][:2])


@pytest.mark.parametrize(("mode", "seed"), [*((mode, 7) for mode in COLOR_COHERENCE), ("None", 2**32 - 1)])
def test_a_frame_begins_as_the_last_one_moved_coloured_and_noised(generate, calls, mode: str, seed: int) -> None:
    frames = generate(4, **MOVING, color_coherence=mode, seed=seed)
    matcher = ColorMatcher(mode, frames[0])  # as it was generated
    motions = [(0, 1, 5, 0.5), (3, 1.1, 5, 1.5), (6, 1.2, -7, 2.5), (9, 1.3, -7, 3.5)]
    assert len(calls["encode"]) == 3
    for n in (1, 2, 3):
        moved = warp(frames[n - 1], *motions[n])
        assert not np.array_equal(moved, frames[n - 1])
        source = torch.Generator().manual_seed((seed + n) % 2**32)
        expected = add_noise(matcher.match(moved), 0.02, source)
        np.testing.assert_allclose(calls["encode"][n - 1][1], expected, atol=1e-6)


def test_frame_0_begins_as_noise_of_its_seed(generate, calls, models: Models, size_px: int) -> None:
    generate(1, sampler="ddim")
    noise = torch.randn(models.latent_shape(size_px, size_px), generator=torch.Generator().manual_seed(7))
    assert torch.equal(calls["denoise"][0][2], noise)


def test_later_frames_begin_with_noise_at_the_timestep_of_the_17th_step_from_the_end(
    generate, calls, models: Models, size_px: int
) -> None:
    generate(2, sampler="ddim", color_coherence="None", zoom="0:(1)")
    source = torch.Generator().manual_seed(7 + 1)  # the pixels' noise first, then the latents', then the start's
    torch.randn(size_px, size_px, 3, generator=source)
    latent_noise, step_noise = (torch.randn(models.latent_shape(size_px, size_px), generator=source) for _ in range(2))
    timestep = (17 - 1) * 20 + 1  # in a leading schedule of stride 20 and offset 1
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)[timestep]
    latents = calls["encode"][0][-1].sample(latent_noise)
    expected = (abar.sqrt() * latents + (1 - abar).sqrt() * step_noise).float()
    torch.testing.assert_close(calls["denoise"][1][2], expected)


def test_a_prompt_holds_from_its_frame_on(generate, calls, models: Models) -> None:
    generate(5, animation_prompts="2: red | 3: blue")
    encoder = PromptEncoder(models.tokenizer, models.text_encoder)
    (red,), (blue,), (empty,) = (encoder.encode([text]) for text in ("red", "blue", ""))
    for call, expected in zip(calls["denoise"], [red, red, red, blue, blue], strict=True):
        _models, _sampler, _start, embedding, unconditional, *_ = call
        assert torch.equal(embedding, expected)
        assert torch.equal(unconditional, empty)


def test_a_new_prompt_changes_the_frames_from_there_on_only(generate) -> None:
    constant, changing = generate(4, animation_prompts="red"), generate(4, animation_prompts="red | 2: (blue:1.3)")
    assert [np.array_equal(*pair) for pair in zip(constant, changing, strict=True)] == [True, True, False, False]


def test_long_and_short_prompts_follow_each_other(generate) -> None:
    assert len(generate(3, animation_prompts=f"short | 1: {'long ' * 100} | 2: short")) == 3


def test_a_prompt_is_encoded_when_it_changes_and_not_before_the_first_frame_is_asked_for(small_folder: Path) -> None:
    models = load_models(small_folder, torch.device("cpu"), torch.float32)
    deforum = Deforum(models)  # embeds the empty prompt
    texts: list[int] = []
    models.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    frames = deforum.frames(request(animation_prompts="a | 2: b | 4: b | 5: c"), Stages(torch.device("cpu")))
    assert texts == []
    assert [len(texts) for _ in itertools.islice(frames, 6)] == [1, 1, 2, 2, 2, 3]


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(generate) -> None:
    frames, again, others = generate(3), generate(3), generate(3, seed=8)
    for frame, same, other in zip(frames, again, others, strict=True):
        assert np.array_equal(frame, same)
        assert not np.array_equal(frame, other)


def test_frame_0_depends_on_neither_motion_nor_colour(generate) -> None:
    clips = [generate(2, **change) for change in ({}, MOVING, {"color_coherence": "None"})]
    assert len({clip[0].tobytes() for clip in clips}) == 1
    assert len({clip[1].tobytes() for clip in clips}) == 3


class Undiffused(Deforum):
    """Leave each frame as it is handed to the model, after a first one of smooth shapes."""

    def _diffused(self, _request: Request, image: np.ndarray | None, *_: object) -> np.ndarray:
        if image is None:
            noise = np.random.default_rng(0).normal(0, 400, (512, 512, 3))
            return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
        return np.clip((image + 1) * 127.5, 0, 255).round().astype(np.uint8)


def undiffused(models: Models, **changes: object) -> Iterator[np.ndarray]:
    return Undiffused(models).frames(request(**changes), Stages(torch.device("cpu")))


def shift_px(frame: np.ndarray, later: np.ndarray) -> tuple[float, float]:
    """Return by how much a frame has moved (x, y), by phase correlation."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) for picture in (frame, later)]
    return cv2.phaseCorrelate(*grey)[0]


def test_a_clip_of_translations_moves_by_those_pixels(models: Models) -> None:
    translation = {"translation_x": "0:(3), 6:(3), 7:(-5)", "translation_y": "0:(-2.5)", "zoom": "0:(1)"}
    frames = list(itertools.islice(undiffused(models, **translation), 12))
    for n in range(1, 12):
        assert shift_px(frames[n - 1], frames[n]) == pytest.approx((3 if n < 7 else -5, -2.5), abs=0.1)
    assert shift_px(frames[0], frames[11]) == pytest.approx((3 * 6 - 5 * 5, -2.5 * 11), abs=0.3)


def test_a_clip_at_rest_keeps_its_place_and_gets_noise(models: Models) -> None:
    still = {"zoom": "0:(1)", "color_coherence": "None"}
    first, second = itertools.islice(undiffused(models, **still), 2)
    inside = (first > 20) & (first < 235)  # not clipped
    difference = (second.astype(float) - first)[inside]
    rounding = 1 / 12
    assert math.hypot(0.02 * 127.5, rounding**0.5) == pytest.approx(difference.std(), rel=0.01)
    assert abs(difference.mean()) < 0.02


def test_only_the_last_frame_is_kept(deforum: Deforum) -> None:
    frames = deforum.frames(request(), Stages(torch.device("cpu")))
    made = [weakref.ref(next(frames)) for _ in range(4)]
    assert [frame() is None for frame in made] == [True, True, True, False]


def test_stages_are_measured(deforum: Deforum) -> None:
    stages = Stages(torch.device("cpu"))
    assert len(list(itertools.islice(deforum.frames(request(), stages), 2))) == 2
    assert stages.seconds.keys() == {"motion", "encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in stages.seconds.values())
