"""The PNGs are what the songs are; what they sound like is measured on the sound."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lib.audio.seed_images import MUSICAL_SEEDS
from lib.audio.spectrogram import SAMPLE_RATE_HZ
from workshop.music.soundfont import CLIP_SAMPLES, Wave
from workshop.seeds import songs
from workshop.seeds.make import RENDERED, picture

sound = cache(songs.render)


def load(name: str) -> NDArray[np.uint8]:
    with Image.open(RENDERED / f"{name}.png") as image:
        return np.array(image, np.uint8)


def power_share(wave: Wave, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(wave.size, 1 / SAMPLE_RATE_HZ)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum() / power.sum())


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_png_is_what_the_song_makes(name: str) -> None:
    difference = np.abs(picture(sound(name)).astype(int) - load(name))
    # Rounding on another processor may change a few pixels by one level.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_a_song_lasts_exactly_a_clip_and_does_not_clip(name: str) -> None:
    assert np.abs(sound(name)).max() == pytest.approx(0.9)
    assert sound(name).shape == (CLIP_SAMPLES,) == (225_351,)
    assert np.array_equal(load(name)[:, 0], load(name)[:, 511])  # which stand on the same moment of the loop


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_onsets_lie_on_a_grid_of_93_93_bpm(name: str) -> None:
    darkening = np.maximum(-np.diff(load(name).astype(float), axis=1), 0).sum(axis=0)
    tempos_bpm = np.arange(80, 110.5, 0.1)
    columns = np.arange(darkening.size)
    eighths = np.exp(-2j * np.pi * np.outer(tempos_bpm * 2 / 6000, columns))
    assert tempos_bpm[np.abs(eighths @ (darkening - darkening.mean())).argmax()] == pytest.approx(93.93, abs=0.5)


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_sound_joins_without_a_click(name: str) -> None:
    wave = np.tile(sound(name), 2)
    seam = slice(sound(name).size - 20, sound(name).size + 2)
    assert np.abs(np.diff(wave[seam])).max() < np.abs(np.diff(sound(name))).max() / 3


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_a_song_has_a_bass_and_no_hiss(name: str) -> None:
    assert power_share(sound(name), 20, 120) > 0.1
    assert power_share(sound(name), 6000, 22_050) < 0.02


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_a_song_is_never_steady_noise(name: str) -> None:
    quietest, loudest = np.quantile(load(name)[:80].astype(float).mean(axis=0), (0.95, 0.05))
    assert quietest - loudest > 20  # the treble comes and goes with the beat
