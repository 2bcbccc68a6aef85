"""How the small models follow prompts. Random weights would fail every margin here."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.audio.inverse import Synthesis
from lib.audio.seed_images import load as load_seed_image
from lib.audio.spectrogram import HOP_LENGTH, Analysis, image_to_mel, mel_to_image
from lib.device import generator
from lib.diffusion.models import Models, load
from lib.progress import Stages
from lib.weights import SMALL
from tests.lib.conftest import CPU
from workshop.judging.judge import music_measures, to_lab

STEPS, MANY_STEPS = 12, 25  # of the default 50, as few as show the effect
CLIP = riffusion_request.Inputs(denoising=1.0, num_inference_steps=STEPS, seed_image_id="og_beat")
ANIMATION = deforum_request.Inputs(zoom="0:(1)", color_coherence="None", sampler="euler", seed=3)
Clip = Callable[..., NDArray[np.uint8]]
WINDOW_PX = 10


@pytest.fixture(scope="module")
def musician(models: Models) -> riffusion.Riffusion:
    return riffusion.Riffusion(models)


@pytest.fixture(scope="module")
def clip(musician: riffusion.Riffusion) -> Clip:
    @cache
    def clip(prompt: str, seed: int = 1, **changes: Any) -> NDArray[np.uint8]:
        request = replace(CLIP, prompt_a=prompt, seed=seed, **changes).request()
        return musician.picture(request, Stages(CPU))

    return clip


def onsets_per_s(picture: NDArray[np.uint8]) -> float:
    return music_measures(picture)["onsets_per_s"]


def liveliness(picture: NDArray[np.uint8]) -> float:
    """Return the share of the energy that changes within 100 ms.

    Ten rendered drum beats have 0.35 to 0.8, pads 0.07 to 0.15, and clips of random weights 0.12.
    """
    return music_measures(picture)["change_100_ms"]


def test_drums_have_more_onsets_than_a_pad(clip: Clip) -> None:
    drums, pad = clip("a busy drum beat"), clip("a synth pad")
    assert onsets_per_s(drums) > 1.2 * onsets_per_s(pad)
    assert liveliness(drums) > liveliness(pad) + 0.2


def test_unknown_words_do_no_harm(clip: Clip) -> None:
    assert liveliness(clip("Drums, 太鼓 🥁, by Xqzt Blorf")) > liveliness(clip("a synth pad")) + 0.2
    assert liveliness(clip("a synth pad in the style of Xqzt Blorf")) < liveliness(clip("a busy drum beat")) - 0.2


def test_alpha_moves_a_clip_from_one_prompt_to_the_other(clip: Clip) -> None:
    alphas = (0.0, 0.25, 0.5, 0.75, 1.0)
    steps = [liveliness(clip("a busy drum beat", prompt_b="a synth pad", alpha=alpha)) for alpha in alphas]
    assert steps[0] > steps[-1] + 0.2
    assert all(earlier > later - 0.03 for earlier, later in itertools.pairwise(steps)), steps


def test_denoising_goes_from_the_seed_image_to_the_prompt(clip: Clip) -> None:
    seed_image = load_seed_image("og_beat").astype(float)
    clips = [
        clip("a synth pad", num_inference_steps=MANY_STEPS, denoising=denoising) for denoising in (0.0, 0.3, 0.6, 1.0)
    ]
    distances = [np.abs(picture - seed_image).mean() for picture in clips]
    assert distances[0] == 0
    assert all(earlier < later for earlier, later in itertools.pairwise(distances)), distances
    assert liveliness(clips[0]) > liveliness(clips[-1]) + 0.18  # the beat has become a pad


def test_the_default_request_makes_a_loop(clip: Clip) -> None:
    picture = clip("funky synth solo", denoising=0.75, num_inference_steps=50, seed_image_id="vibes")
    sound = Synthesis()(image_to_mel(picture), generator(1))
    heard = mel_to_image(Analysis()(torch.cat([sound, sound, sound], dim=1))).astype(float)
    clip_columns = sound.shape[1] / HOP_LENGTH
    *beats, seam = [change_at(heard, round(clip_columns * (1 + beat / 8))) for beat in range(1, 9)]
    assert seam <= max(beats), (beats, seam)


def change_at(heard: NDArray[np.float64], column: int) -> float:
    """Return the change from before a column to after it, over the window of the analysis, 100 ms."""
    before, after = heard[:, column - WINDOW_PX : column], heard[:, column : column + WINDOW_PX]
    return float(np.abs(after.mean(axis=1) - before.mean(axis=1)).mean())


def test_a_new_prompt_shows_in_the_frames() -> None:
    painter = deforum.Deforum(load(SMALL / "deforum", CPU, torch.float32), deforum.Recipe(steps=20))
    request = replace(ANIMATION, animation_prompts="0: a sunset over the sea | 2: snowy mountains").request()
    frames = itertools.islice(painter.frames(request, Stages(CPU)), 10)
    redness, yellowness = np.array([to_lab(frame, 64).mean(axis=(0, 1))[1:] for frame in frames]).T
    assert redness[:2].min() > 20
    assert yellowness[:2].min() > 10
    assert redness[9] < 10
    assert yellowness[9] < 5
