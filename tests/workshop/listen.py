"""Measure what the musical seeds sound and look like, without a look at their notes."""

from functools import cache

import numpy as np

from lib.audio.seed_images import load
from workshop.seeds.make import render

SAMPLE_RATE_HZ = 44100
BEAT_S = 60 / 94
BEAT_COLUMNS = 100 * BEAT_S
BEATS = np.arange(8)
EIGHTHS = np.arange(16) / 2
STRONG_BEATS, BACKBEATS = BEATS[::2], BEATS[1::2]

sound = cache(render)


@cache
def band(name, low_hz, high_hz):
    spectrum = np.fft.rfft(sound(name))
    bins_hz = np.fft.rfftfreq(sound(name).size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.where((bins_hz >= low_hz) & (bins_hz <= high_hz), spectrum, 0), sound(name).size)


def span(beat, beats):
    return np.arange(round(beat * BEAT_S * SAMPLE_RATE_HZ), round((beat + beats) * BEAT_S * SAMPLE_RATE_HZ))


def level_db(name, low_hz, high_hz, starts, beats):
    """Return the RMS level of a band for so many beats from each start, in dB."""
    wave = band(name, low_hz, high_hz)
    return np.array([10 * np.log10(np.mean(wave[span(at, beats) % wave.size] ** 2)) for at in starts])


def rise_db(name, low_hz, high_hz, starts, beats=0.1):
    """Return how much louder a band is just after each moment than shortly before it, in dB."""
    before = level_db(name, low_hz, high_hz, starts - 0.15, 0.1)
    return level_db(name, low_hz, high_hz, starts, beats) - before


def tone_db(name, frequency_hz, beat, beats):
    """Return the level of one frequency through a Hann window, in dB."""
    at = span(beat, beats)
    turns = np.exp(-2j * np.pi * frequency_hz * at / SAMPLE_RATE_HZ)
    return 20 * np.log10(abs(np.mean(sound(name)[at % sound(name).size] * np.hanning(at.size) * turns)))


def strongest_hz(name, low_hz, high_hz, beat=0.0, beats=8.0):
    wave = sound(name)[span(beat, beats) % sound(name).size]
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size), 1 << 18))
    bins_hz = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE_HZ)
    return bins_hz[np.argmax(spectrum * ((bins_hz >= low_hz) & (bins_hz <= high_hz)))]


def pitch(frequency_hz):
    """Return the MIDI pitch, in which 69 is A4 and 1 is a semitone."""
    return 12 * np.log2(frequency_hz / 440) + 69


def row_of(frequency_hz):
    return 512 - 2595 * np.log10(1 + np.asarray(frequency_hz) / 700) / 5.9907


def pitch_track(name, low, high, first_column, columns):
    """Return the pitch of each column, between low and high, whose harmonics 3 to 6 are darkest in the picture."""
    pitches = np.arange(low, high, 0.05)
    darkness = 255 - load(name)[:, round(first_column) : round(first_column) + columns].astype(float)
    rows = row_of(np.outer([3, 4, 5, 6], 440 * 2 ** ((pitches - 69) / 12)))
    above, part = np.floor(rows).astype(int), (rows % 1)[..., None]
    salience = (darkness[above] * (1 - part) + darkness[above + 1] * part).sum(axis=0)
    return pitches[salience.argmax(axis=0)]
