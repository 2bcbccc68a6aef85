"""Play single notes on instruments that the seeds' band lacks: church bells, flute, strings, pad and guitar.

They have the form of those in `workshop.sound.synth`: frequency in Hz, length in seconds and velocity from 0
to 1 in, a wave (samples,) at 44.1 kHz that begins and ends in silence out.
"""

import numpy as np
from numpy.typing import NDArray

from lib.audio.spectrogram import SAMPLE_RATE_HZ
from workshop.chance import Generator
from workshop.music.effects import quick_noise
from workshop.sound.synth import TOP_HZ, Wave, envelope, partials, phase, times

# The partials of a minor-third church bell, with the names bell makers give them: ratio to the strike note, gain,
# and decay in seconds (after Lehr's tables of tuned bells; the hum outlasts all others).
BELL_PARTIALS = [
    (0.5, 0.55, 5.0),  # hum
    (1.0, 0.8, 2.6),  # prime
    (1.2, 0.7, 2.2),  # tierce
    (1.5, 0.35, 1.4),  # quint
    (2.0, 1.0, 1.6),  # nominal
    (2.52, 0.35, 0.9),
    (3.01, 0.5, 1.0),  # superquint
    (4.17, 0.4, 0.7),  # octave nominal
    (5.43, 0.3, 0.4),
    (6.79, 0.2, 0.25),
    (8.21, 0.15, 0.15),
]


def harmonics(turns: Wave, gains: NDArray[np.float64], decay_s: float = np.inf) -> Wave:
    """Sum the sines of 1, 2, 3 ... times a phase, with their gains; harmonic k decays in decay_s / k."""
    fundamental = np.exp(1j * turns - np.arange(turns.size) / (SAMPLE_RATE_HZ * decay_s)).astype(np.complex64)
    power = fundamental.copy()  # each harmonic is the one before times the fundamental: cheaper than a sine for each
    wave: Wave = gains[0] * power.imag.astype(np.float64)
    for gain in gains[1:]:
        power *= fundamental
        wave += gain * power.imag
    return wave


def harmonic_numbers(frequency_hz: float, top_hz: float = TOP_HZ) -> NDArray[np.float64]:
    """Return 1, 2, 3 ... for the harmonics of a frequency up to top_hz; always the first."""
    return np.arange(1, max(2, int(top_hz / frequency_hz) + 1), dtype=np.float64)


def vibrato(t: Wave, rate_hz: float, depth_semitones: float, onset_s: float = 0.25) -> Wave:
    """Return the factor by which a vibrato that begins after the onset moves a frequency."""
    return 2 ** (depth_semitones / 12 * np.clip(t / onset_s - 0.4, 0, 1) * np.sin(2 * np.pi * rate_hz * t))


def church_bell(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Toll a church bell: long partials that are no harmonics of each other, the higher the shorter."""
    amplitude = envelope(duration_s, 0.002, 9, 0.3)
    modes = [(ratio, gain * (velocity if ratio > 2 else 1), decay_s) for ratio, gain, decay_s in BELL_PARTIALS]
    return 0.5 * velocity * amplitude * partials(frequency_hz, amplitude.size / SAMPLE_RATE_HZ, modes)


def flute(frequency_hz: float, duration_s: float, velocity: float, generator: Generator) -> Wave:
    """Blow a flute: few harmonics with a vibrato, and the breath around them, strongest as the note begins."""
    amplitude = envelope(duration_s, 0.06, 99, 0.08)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    turns = phase(frequency_hz * vibrato(t, 5.2, 0.35), t.size)
    tone = harmonics(turns, np.array([1, 0.35 * velocity, 0.16 * velocity, 0.03]))
    breath = quick_noise(0.8 * frequency_hz, 5 * frequency_hz, t.size, generator)
    return velocity * amplitude * (tone + (0.015 + 0.06 * np.exp(-t / 0.05)) * breath)


def strings(
    frequency_hz: float, duration_s: float, velocity: float, generator: Generator, top_hz: float = 8000
) -> Wave:
    """Bow a section of three: rich harmonics that swell, each player with a vibrato of their own."""
    amplitude = envelope(duration_s, min(0.22, 0.4 * duration_s), 99, 0.18)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    numbers = harmonic_numbers(frequency_hz, top_hz)
    gains = velocity ** (numbers / 12) / numbers**0.9 * (1 - (numbers - 1) / numbers.size)
    wave = np.zeros(t.size)
    for detune in (0.998, 1.0, 1.003):
        moving = frequency_hz * detune * vibrato(t, generator.uniform(5.2, 6.2), 0.22)
        wave += harmonics(phase(moving, t.size) + generator.uniform(0, 2 * np.pi), gains)
    return 0.3 * velocity * amplitude * wave


def soft_pad(frequency_hz: float, duration_s: float, velocity: float, top_hz: float = 1200) -> Wave:
    """Hold a soft synthesizer's key: two voices that beat slowly, dark, very slow to come and to go."""
    amplitude = envelope(duration_s, 0.4 * duration_s, 99, 0.5 * duration_s)
    numbers = harmonic_numbers(frequency_hz, top_hz)
    gains = (1 - (numbers - 1) / numbers.size) ** 2 / numbers
    wave = sum(harmonics(phase(frequency_hz * detune, amplitude.size), gains) for detune in (0.9992, 1.0008))
    pad: Wave = 0.3 * velocity * amplitude * wave
    return pad


def guitar(frequency_hz: float, duration_s: float, velocity: float, place: float = 0.21) -> Wave:
    """Pluck a string at a place (0 to 1) of its length: every harmonic at once, and the higher the sooner gone."""
    amplitude = envelope(duration_s, 0.002, 99, 0.06)
    numbers = harmonic_numbers(frequency_hz, 6000)
    gains = np.sin(np.pi * place * numbers) / numbers ** (1.6 - 0.6 * velocity)
    decay_s = 1.6 * (196 / frequency_hz) ** 0.5
    string = harmonics(phase(frequency_hz, amplitude.size), gains, decay_s)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    plectrum = np.sin(2 * np.pi * 3100 * t) * np.exp(-t / 0.003)
    return velocity * amplitude * (string + 0.15 * velocity * plectrum)
