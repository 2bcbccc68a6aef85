"""How walks are made, with tiny models of random weights."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from lib.audio.seed_images import load
from lib.audio.spectrogram import Image
from lib.diffusion.models import Models
from lib.diffusion.pipeline import decode
from lib.progress import Stages
from lib.walk import CLIP_COLUMNS, Music, Span, Walk, sample_of, timeline
from lib.walk_request import CLIP_SAMPLES, Inputs, Request
from tests.lib.conftest import CPU

SHORT = Inputs(prompts="0: bells | 4: drums", bars=4, num_inference_steps=3, seed=7)
HOPS = CLIP_COLUMNS - 1


@pytest.fixture(scope="module")
def walk(tiny: Models) -> Walk:
    return Walk(tiny)


def request(**changes: Any) -> Request:
    return replace(SHORT, **changes).request()


def generate(walk: Walk, **changes: Any) -> Music:
    return walk.generate(request(**changes), Stages(CPU))


def image(walk: Walk, **changes: Any) -> NDArray[np.float64]:
    return generate(walk, **changes).image.astype(float)


def clips(picture: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.split(picture, picture.shape[1] // HOPS, axis=1)


def difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize(("bars", "start_bar"), [(2, 0), (5, 0), (8, 5)])
def test_a_walk_has_exactly_its_bars(walk: Walk, bars: int, start_bar: int) -> None:
    music = generate(walk, bars=bars, start_bar=start_bar, num_inference_steps=2)
    samples = sum(piece.shape[1] for piece in music.sound)
    assert samples == sample_of(bars) - sample_of(start_bar)
    assert music.image.shape[0] == 512
    assert 0 <= music.image.shape[1] * 441 - samples < 2 * 441
    assert sample_of(bars) * 2 == pytest.approx(bars * CLIP_SAMPLES, abs=1)


def test_a_part_equals_the_whole_there(walk: Walk) -> None:
    changes: dict[str, Any] = {"prompts": "0: bells | 4: drums | 9: bells", "seed_drift": 0.3}
    whole = image(walk, **changes, bars=8)
    for start_bar, bars in ((0, 4), (5, 6), (5, 8)):
        part = image(walk, **changes, bars=bars, start_bar=start_bar)[:, :-1]
        first = sample_of(start_bar) // 441
        assert difference(part, whole[:, first : first + part.shape[1]]) < 3
        assert difference(part, np.roll(whole, 100, axis=1)[:, first : first + part.shape[1]]) > 6  # elsewhere


def test_windows_are_predicted_with_the_prompt_of_their_middle(walk: Walk, tiny: Models) -> None:
    contexts: list[torch.Tensor] = []

    def record(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        contexts.append(kwargs["encoder_hidden_states"][1])

    hook = tiny.unet.register_forward_pre_hook(record, with_kwargs=True)
    generate(walk, num_inference_steps=2)
    hook.remove()
    windows = len(Span.of(request()).windows)
    assert windows == 5
    assert len(contexts) == windows  # one step
    # Bars 1 to 3 are a quarter to three quarters of the way; from bar 4 on, all is drums.
    first, last = contexts[0], contexts[-1]
    for number, share in enumerate((0, 1 / 3, 2 / 3, 1, 1)):
        torch.testing.assert_close(contexts[number], torch.lerp(first, last, share))


def test_a_loop_has_no_beginning(walk: Walk) -> None:
    """Prompts that begin one clip later give the same picture, one clip later."""
    loop = image(walk, prompts="0: bells | 1: drums", loop=True)
    later = image(walk, prompts="2: bells | 3: drums", loop=True)
    assert difference(np.roll(loop, HOPS, axis=1), later) < 0.01
    assert difference(loop, later) > 0.1


def test_all_clips_of_a_loop_with_one_prompt_are_the_same_unless_the_noise_drifts(walk: Walk) -> None:
    still, drifting = (image(walk, prompts="bells", loop=True, bars=6, seed_drift=drift) for drift in (0, 0.5))
    first, *others = clips(still)
    assert all(difference(first, other) < 0.01 for other in others)
    first, second, third = clips(drifting)
    assert min(difference(first, second), difference(second, third), difference(third, first)) > 1


def test_the_decoded_pieces_equal_the_whole_within_a_grey_level(models: Models) -> None:
    """With the small model: the VAE normalizes what it decodes as a whole."""
    walk, span = Walk(models), Span(0, 4, loops=False)
    seeds = [walk._encoded(load(name)) for name in ("vibes", "og_beat")]
    latents = torch.cat([seed.mean for seed in seeds], dim=-1)
    whole = decode(models, latents).mean(axis=2)
    kept = [whole[:, start : start + HOPS] for start in range(0, whole.shape[1], CLIP_COLUMNS)]
    pieces = np.concatenate(list(walk._decoded(latents, span)), axis=1)
    assert difference(pieces, np.concatenate(kept, axis=1)) < 1


def test_without_steps_the_seed_image_is_repeated(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    seed = np.tile(load("og_beat")[:, :HOPS], 2)
    assert np.array_equal(generate(walk, denoising=0, seed_image_id="og_beat").image, seed)
    assert capsys.readouterr().out == ""
    assert np.array_equal(generate(walk, denoising=0.1, seed_image_id="og_beat").image, seed)
    assert capsys.readouterr().out.startswith("0 diffusion steps (num_inference_steps x denoising < 1)")


def test_a_sound_takes_the_place_of_the_seed_image(
    walk: Walk, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = np.arange(24_000 * 2) / 24_000
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 1000 * seconds), 24_000)
    made = generate(walk, denoising=0, seed_audio=str(tmp_path / "a.wav")).image
    rows = made.astype(float).mean(axis=1)
    # 1 kHz is 1000 mel on the HTK scale, whose highest mel here is 10 kHz: 3075.
    assert abs((511 - rows.argmin()) / 513 - 1000 / 3075) < 0.01
    assert capsys.readouterr().out == "seed_audio has 2.00 s, less than the 5.11 s of two bars: repeating it\n"


def test_the_negative_prompt_and_the_guidance_scale_steer(walk: Walk) -> None:
    plain = image(walk, bars=2)
    assert difference(plain, image(walk, bars=2, negative_prompt="drums " * 100)) > 0.5
    unguided = {image(walk, bars=2, guidance_scale=0, prompts=text).tobytes() for text in ("bells", "drums")}
    assert len(unguided) == 1  # the prompt has no influence then


def test_parts_have_the_gain_of_the_whole(walk: Walk) -> None:
    assert generate(walk, num_inference_steps=2).gain == generate(walk, num_inference_steps=2, start_bar=2).gain


def test_progress_counts_the_windows_of_all_evaluations(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    generate(walk, num_inference_steps=4)
    lines = capsys.readouterr().out.splitlines()
    assert " 0/20 " in lines[0]  # five windows, three steps, of which the first evaluates them twice
    assert " 20/20 " in lines[-1]


def test_the_timeline_has_the_beats_and_prompts_of_the_part() -> None:
    found = json.loads(json.dumps(timeline(request(start_bar=3, bars=6), gain=0.5)))
    assert (found["bpm"], found["seed"], found["gain"], found["loop"]) == (93.933464, 7, 0.5, False)
    first, *_, last = found["bars"]
    assert (first["bar"], first["start_s"], first["beats_s"]) == (3, 0, [0, 0.63875, 1.2775, 1.91625])
    assert (first["prompt"], first["following_prompt"], first["share"]) == ("bells", "drums", 0.75)
    assert (last["bar"], last["start_s"], last["prompt"], last["share"]) == (5, 5.11, "drums", 0)


def test_every_seed_gives_another_walk(walk: Walk) -> None:
    pictures: list[Image] = [generate(walk, bars=2, seed=seed).image for seed in (7, 8)]
    assert difference(*(picture.astype(float) for picture in pictures)) > 1
