from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from workshop.chance import Generator
from workshop.sound import synth
from workshop.sound.loop import Loop, Note, echo, note_hz, reverb, rhythm, saturate, score
from workshop.sound.synth import Wave

SAMPLE_RATE_HZ = 44100
Instrument = Callable[..., Wave]
TONES = [
    synth.bass,
    synth.bell,
    synth.electric_piano,
    synth.kick,
    synth.lead,
    synth.mallet,
    synth.pad,
    synth.stab,
    synth.vibraphone,
]
NOISES = [synth.clap, synth.hat, synth.snare]
BEDS = [synth.hiss, synth.room]


def generator() -> Generator:
    return np.random.default_rng(7)


def strongest_hz(wave: Wave) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size), 1 << 18))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / (1 << 18))


@pytest.mark.parametrize("instrument", TONES)
@pytest.mark.parametrize("frequency_hz", [55.0, 440.0])
def test_a_tone_has_its_pitch_and_ends_in_silence(instrument: Instrument, frequency_hz: float) -> None:
    wave = instrument(frequency_hz, 0.8, 0.8)
    assert strongest_hz(wave) == pytest.approx(frequency_hz, rel=0.06)
    assert 0.8 * SAMPLE_RATE_HZ <= wave.size < 1.3 * SAMPLE_RATE_HZ
    assert max(abs(wave[0]), abs(wave[-1])) < 1e-3 * np.abs(wave).max()


@pytest.mark.parametrize("instrument", NOISES)
def test_a_noise_is_the_same_from_the_same_generator_and_ends_in_silence(instrument: Instrument) -> None:
    wave = instrument(1000, 0.2, 0.8, generator())
    assert np.array_equal(wave, instrument(1000, 0.2, 0.8, generator()))
    assert not np.array_equal(wave, instrument(1000, 0.2, 0.8, np.random.default_rng(8)))
    assert max(abs(wave[0]), abs(wave[-1])) < 2e-2 * np.abs(wave).max()


@pytest.mark.parametrize("instrument", [*TONES, *(partial(noise, generator=generator()) for noise in NOISES)])
def test_a_higher_velocity_is_louder(instrument: Instrument) -> None:
    assert np.std(instrument(200, 0.3, 1.0)) > 1.5 * np.std(instrument(200, 0.3, 0.5))


@pytest.mark.parametrize("bed", [*(partial(bed, generator=generator()) for bed in BEDS), synth.drone])
def test_a_bed_joins_its_own_beginning(bed: Instrument) -> None:
    wave = bed(2000, 0.5, 1.0)
    assert abs(wave[0] - wave[-1]) <= np.abs(np.diff(wave)).max()


@pytest.mark.parametrize(
    ("name", "hz"), [("A4", 440), ("C4", 261.63), ("Bb3", 233.08), ("F#3", 185.0), ("G1", 49.0), ("Cb4", 246.94)]
)
def test_note_names(name: str, hz: float) -> None:
    assert note_hz(name) == pytest.approx(hz, abs=0.01)
    assert note_hz(name, 442) == pytest.approx(hz * 442 / 440, abs=0.01)


def test_score_reads_notes_chords_rests_and_velocities() -> None:
    assert score("A4/.5! -/1 A3+A5/2? | A2/1") == [
        Note(0, 440, 0.5, 1.0),
        Note(1.5, 220, 2, 0.5),
        Note(1.5, 880, 2, 0.5),
        Note(3.5, 110, 1, 0.8),
    ]


def test_rhythm_reads_sixteenths() -> None:
    assert rhythm("X..o | .x", 58, 0.3) == [
        Note(0, 58, 0.3, 1.0),
        Note(0.75, 58, 0.3, 0.5),
        Note(1.25, 58, 0.3, 0.8),
    ]


@pytest.mark.parametrize("text", ["H4/1", "A4", "A4/1/2", "A4/x"])
def test_a_wrong_note_is_an_error(text: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        score(text)


def test_what_runs_over_the_end_comes_back_at_the_beginning() -> None:
    loop = Loop(beats=4, tempo_bpm=120)
    assert loop.wave.size == 2 * SAMPLE_RATE_HZ
    loop.add(np.ones(SAMPLE_RATE_HZ), beat=3)
    quarter = SAMPLE_RATE_HZ // 2
    assert np.array_equal(np.flatnonzero(loop.wave == 0), np.arange(quarter, 3 * quarter))


def test_a_wave_longer_than_the_loop_overlaps_itself() -> None:
    loop = Loop(beats=1, tempo_bpm=120)
    loop.add(np.ones(SAMPLE_RATE_HZ))
    assert (loop.wave == 2).all()


@pytest.mark.parametrize(
    "effect", [lambda wave: reverb(wave, 1.0, 0.5, generator()), lambda wave: echo(wave, 0.15, 0.4, 0.5)]
)
def test_effects_are_circular(effect: Callable[[Wave], Wave]) -> None:
    wave = synth.kick(60, 0.4, 1.0)
    assert np.allclose(effect(np.roll(wave, 5000)), np.roll(effect(wave), 5000), atol=1e-9)


def test_echo_repeats_softer() -> None:
    wave = np.zeros(SAMPLE_RATE_HZ)
    wave[0] = 1
    echoes = echo(wave, 0.25, 0.5, 0.8)[[0, 11025, 22050, 33075]]
    assert echoes == pytest.approx([1.107, 0.853, 0.427, 0.213], abs=1e-3)  # the fourth falls on the first


def test_saturation_keeps_the_peak_at_one_and_lifts_the_rest() -> None:
    wave = saturate(np.array([0.0, 0.25, -0.5]), 1.5)
    assert wave == pytest.approx([0, np.tanh(0.75) / np.tanh(1.5), -1])
    assert not saturate(np.zeros(8), 1.0).any()
