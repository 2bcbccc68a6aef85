"""Measure what the musical seeds sound and look like, without a look at their notes."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.audio.seed_images import load
from workshop.seeds.make import render
from workshop.sound.synth import Wave

SAMPLE_RATE_HZ = 44100
CLIP_SAMPLES = 225351
BEAT_S = CLIP_SAMPLES / 8 / SAMPLE_RATE_HZ
BEAT_COLUMNS = 100 * BEAT_S
BEATS = np.arange(8.0)
EIGHTHS = np.arange(16) / 2
STRONG_BEATS, BACKBEATS = BEATS[::2], BEATS[1::2]

sound = cache(render)


@cache
def band(name: str, low_hz: float, high_hz: float) -> Wave:
    spectrum = np.fft.rfft(sound(name))
    bins_hz = np.fft.rfftfreq(sound(name).size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.where((bins_hz >= low_hz) & (bins_hz <= high_hz), spectrum, 0), sound(name).size)


def span(beat: float, beats: float) -> NDArray[np.int64]:
    return np.arange(round(beat * BEAT_S * SAMPLE_RATE_HZ), round((beat + beats) * BEAT_S * SAMPLE_RATE_HZ))


def level_db(name: str, low_hz: float, high_hz: float, starts: ArrayLike, beats: float) -> Wave:
    """Return the RMS level of a band for so many beats from each start, in dB."""
    wave = band(name, low_hz, high_hz)
    return np.array(
        [10 * np.log10(np.mean(wave[span(at, beats) % wave.size] ** 2)) for at in np.asarray(starts).tolist()]
    )


def rise_db(name: str, low_hz: float, high_hz: float, starts: ArrayLike, beats: float = 0.1) -> Wave:
    """Return how much louder a band is just after each moment than shortly before it, in dB."""
    before = level_db(name, low_hz, high_hz, np.asarray(starts) - 0.15, 0.1)
    return level_db(name, low_hz, high_hz, starts, beats) - before


def tone_db(name: str, frequency_hz: float, beat: float, beats: float) -> float:
    """Return the level of one frequency through a Hann window, in dB."""
    at = span(beat, beats)
    turns = np.exp(-2j * np.pi * frequency_hz * at / SAMPLE_RATE_HZ)
    return float(20 * np.log10(abs(np.mean(sound(name)[at % sound(name).size] * np.hanning(at.size) * turns))))


def strongest_hz(name: str, low_hz: float, high_hz: float, beat: float = 0.0, beats: float = 8.0) -> float:
    wave = sound(name)[span(beat, beats) % sound(name).size]
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size), 1 << 18))
    bins_hz = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE_HZ)
    return float(bins_hz[np.argmax(spectrum * ((bins_hz >= low_hz) & (bins_hz <= high_hz)))])


def pitch(frequency_hz: float) -> float:
    """Return the MIDI pitch, in which 69 is A4 and 1 is a semitone."""
    return float(12 * np.log2(frequency_hz / 440) + 69)


def row_of(frequency_hz: ArrayLike) -> Wave:
    return 512 - 2595 * np.log10(1 + np.asarray(frequency_hz) / 700) / 5.9907


def pitch_track(name: str, low: float, high: float, first_column: float, columns: int) -> Wave:
    """Return the pitch of each column, between low and high, whose harmonics 3 to 6 are darkest in the picture."""
    pitches = np.arange(low, high, 0.05)
    darkness = 255 - load(name)[:, round(first_column) : round(first_column) + columns].astype(float)
    rows = row_of(np.outer([3, 4, 5, 6], 440 * 2 ** ((pitches - 69) / 12)))
    above, part = np.floor(rows).astype(int), (rows % 1)[..., None]
    salience = (darkness[above] * (1 - part) + darkness[above + 1] * part).sum(axis=0)
    track: Wave = pitches[salience.argmax(axis=0)]
    return track
