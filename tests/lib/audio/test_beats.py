"""What is heard in a sound: its levels by frame, and its beat."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.audio.beats import Beats, estimate
from lib.audio.features import SAMPLE_RATE_HZ, by_frame, features

ROOT = Path(__file__).parents[3]
Sound = NDArray[np.float32]


def hits(times_s: NDArray[np.float64], seconds: float, loud: float = 0.5) -> Sound:
    """Return short bursts of noise over a faint hiss, (1, samples)."""
    generator = np.random.default_rng(0)
    sound = 1e-3 * generator.standard_normal(round(seconds * SAMPLE_RATE_HZ))
    burst = loud * np.exp(-np.arange(4410) / 800)
    for start in (times_s * SAMPLE_RATE_HZ).astype(int):
        length = max(min(len(burst), len(sound) - start), 0)
        sound[start : start + length] += burst[:length] * generator.standard_normal(length)
    return sound.astype(np.float32)[None]


def drums(bpm: float, first_s: float, seconds: float = 20.0) -> Sound:
    """Return a kick on every beat, a snare on every second, and a hi-hat on every half."""
    beats_s = np.arange(first_s, seconds - 0.1, 60 / bpm)
    kick = np.sin(2 * np.pi * 60 * np.arange(6000) / SAMPLE_RATE_HZ) * np.exp(-np.arange(6000) / 1500)
    sound: Sound = hits(beats_s[1::2], seconds, 0.3)[0] + hits(beats_s + 30 / bpm, seconds, 0.05)[0]
    for start in (beats_s * SAMPLE_RATE_HZ).astype(int):
        sound[start : start + 6000] += 0.8 * kick[: len(sound) - start]
    return sound[None]


def test_nothing_is_seen_before_it_is_heard_and_no_onset_is_missed() -> None:
    times_s = np.array([0.5003, 1.437, 2.374, 3.311])
    heard = features(hits(times_s, 5))
    for fps in (10, 15, 24, 60):
        onset = by_frame(heard.levels["onset"], fps, 0.0, 5 * fps)
        frames = np.ceil(times_s * fps).astype(int)  # the first frame after each
        assert onset[frames - 1] == pytest.approx(0, abs=0.1)
        assert np.maximum(onset[frames], onset[frames + 1]) == pytest.approx(1, abs=0.3)


def test_levels_are_0_to_1_and_tell_the_bands_apart() -> None:
    t = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tones = [np.sin(2 * np.pi * hz * t) for hz in (80, 800, 5000)]
    heard = features(np.concatenate([*tones, 0 * t]).astype(np.float32)[None])
    for place, name in enumerate(("low", "mid", "high")):
        level = heard.levels[name]
        seconds = [float(np.median(level[100 * n + 10 : 100 * n + 90])) for n in range(4)]
        assert seconds[place] == pytest.approx(1, abs=0.1)
        assert max(seconds[:place] + seconds[place + 1 :]) < 0.05
    assert all(level.min() >= 0 and level.max() <= 1 for level in heard.levels.values())


def test_a_film_may_begin_late_and_outlast_the_sound() -> None:
    heard = features(hits(np.array([2.0]), 3))
    onset = by_frame(heard.levels["onset"], 10, 1.5, 40)
    assert np.flatnonzero(onset > 0.5).tolist() in ([5], [5, 6], [6])
    assert not onset[20:].any()


def test_silence_has_no_levels_and_no_beat() -> None:
    heard = features(np.zeros((2, SAMPLE_RATE_HZ), np.float32))
    assert heard.silent
    assert not any(level.any() for level in heard.levels.values())
    assert estimate(heard) is None


@pytest.mark.slow  # numba compiles for half a minute
def test_librosa_is_imported_where_only_the_temporary_folder_is_writable(tmp_path: Path) -> None:
    """A stand-in for a container's read-only file system: root may write anywhere else."""
    program = (
        "import os, numpy; os.access = lambda *_: False\n"
        "from lib.audio.features import features\n"
        "features(numpy.zeros((1, 44100), numpy.float32)); print(os.environ['NUMBA_CACHE_DIR'])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{tmp_path}/numba-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bpm", [80.0, 97.3, 120.0, 143.0, 160.0])
def test_the_beat_of_drums_is_found(bpm: float) -> None:
    found = estimate(features(drums(bpm, 0.31)))
    assert found
    ratio = found.beats.bpm / bpm
    assert min(abs(ratio / multiple - 1) for multiple in (0.5, 1, 2)) < 0.005
    times_s = np.array([found.beats.time_s(beat) for beat in range(20)])
    beat_s = 60 / max(bpm, found.beats.bpm)  # at the double tempo, every second beat is one
    distance_s = (times_s - 0.31 + beat_s / 2) % beat_s - beat_s / 2
    assert np.abs(distance_s).max() < 0.02
    assert 0 < found.confidence <= 1


def test_hits_at_random_are_less_sure_than_a_beat() -> None:
    chance = np.random.default_rng(1)
    sure = estimate(features(drums(120, 0.2)))
    unsure = [estimate(features(hits(np.sort(chance.uniform(0, 29, 150)), 30))) for _ in range(4)]
    assert sure
    assert all(found and found.confidence < sure.confidence for found in unsure)


def test_positions_and_times_are_inverse_also_outside() -> None:
    beats = Beats(np.array([1.0, 1.6, 2.0]), 16.0, 100.0)
    assert beats.position(np.array([1.0, 1.3, 1.6, 2.0])).tolist() == [16, 16.5, 17, 18]
    assert beats.position(np.array([0.4, 2.6])).tolist() == [15, 19]  # at 100 beats per minute
    for position in (14.0, 16.25, 18.0, 20.5):
        assert beats.position(np.array([beats.time_s(position)]))[0] == pytest.approx(position)
