"""Play single notes on a small band of instruments.

Every instrument takes a frequency in Hz, how long the note is held in seconds and a velocity from 0 to 1 (louder and
often brighter), and returns a wave (samples,) at 44.1 kHz that begins and ends in silence; its release may make it
longer than the note. Noisy instruments draw from the generator they are given, so the same generator gives the same
sound.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from lib.audio.spectrogram import SAMPLE_RATE_HZ
from workshop.chance import Generator

Wave = NDArray[np.float64]

TOP_HZ = 10_000  # no partial above: the picture does not show it


# Parts of a sound


def times(duration_s: float) -> Wave:
    """Return the moment of each sample, in seconds."""
    return np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def envelope(duration_s: float, attack_s: float, decay_s: float, release_s: float) -> Wave:
    """Return a raised-cosine attack, an exponential decay, and a release after the note is let go."""
    t = times(duration_s + release_s)
    rise = (1 - np.cos(np.pi * np.clip(t / attack_s, 0, 1))) / 2
    fall = (1 + np.cos(np.pi * np.clip((t - duration_s) / release_s, 0, 1))) / 2
    return rise * np.exp(-t / decay_s) * fall


def phase(frequency_hz: float | Wave, samples: int) -> Wave:
    """Integrate a frequency, steady or (samples,), to a phase in radians."""
    return np.cumsum(np.broadcast_to(2 * np.pi * frequency_hz / SAMPLE_RATE_HZ, samples))


def partials(frequency_hz: float, duration_s: float, ratios_gains_decays: list[tuple[float, float, float]]) -> Wave:
    """Sum sines at ratios of a frequency, each with its gain and its own decay in seconds."""
    turns = 2 * np.pi * frequency_hz * times(duration_s)
    wave = np.zeros_like(turns)
    for ratio, gain, decay_s in ratios_gains_decays:
        if ratio * frequency_hz < TOP_HZ:
            wave += gain * np.sin(ratio * turns) * np.exp(-times(duration_s) / decay_s)
    return wave


def saw(frequency_hz: float | Wave, samples: int, top_hz: float = TOP_HZ) -> Wave:
    """Sum the harmonics 1/k of a sawtooth up to top_hz; the frequency may move."""
    fundamental = np.exp(1j * phase(frequency_hz, samples))
    harmonic = np.ones(samples, complex)
    wave = np.zeros(samples)
    for k in range(1, int(top_hz / np.max(frequency_hz)) + 1):
        harmonic *= fundamental  # its power k turns k times as fast: cheaper than a sine for each
        wave += harmonic.imag / k
    return wave


def lowpass(wave: Wave, cutoff_hz: float, order: int = 2) -> Wave:
    """Filter with a Butterworth low-pass."""
    sections = butter(order, cutoff_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sections, wave), np.float64)


def noise_band(low_hz: float, high_hz: float, samples: int, generator: Generator) -> Wave:
    """Draw noise (RMS 1) that has power only from low_hz to high_hz, and whose end joins its beginning."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    bins_hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    low_edge = np.clip((bins_hz / low_hz - 0.8) / 0.4, 0, 1)
    high_edge = np.clip((1.2 - bins_hz / high_hz) / 0.4, 0, 1)
    return unit_rms(np.fft.irfft(spectrum * low_edge * high_edge, samples))


def unit_rms(wave: Wave) -> Wave:
    """Scale a wave to a root mean square of 1; silence stays silence."""
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-12)


# Drums


def kick(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Strike a bass drum: a sine that falls to its frequency within 60 ms, and the click of the beater."""
    amplitude = envelope(duration_s, 0.002, 0.14, 0.03)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    head = np.sin(phase(frequency_hz * (1 + 2.5 * np.exp(-t / 0.018)), amplitude.size))
    click = np.sin(2 * np.pi * 1800 * t) * np.exp(-t / 0.004)
    return velocity * amplitude * (head + 0.25 * velocity * click)


def snare(
    frequency_hz: float, duration_s: float, velocity: float, generator: Generator, top_hz: float = TOP_HZ
) -> Wave:
    """Strike a snare drum: two modes of the head, and the wires as noise up to top_hz."""
    amplitude = envelope(duration_s, 0.001, 0.09, 0.03)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    bend = 1 + 0.3 * np.exp(-t / 0.012)
    head = sum(np.sin(phase(ratio * frequency_hz * bend, t.size)) / ratio for ratio in (1.0, 1.83))
    wires = noise_band(500, top_hz, t.size, generator)
    return velocity * amplitude * (0.7 * head + 0.35 * velocity * wires)


def clap(frequency_hz: float, duration_s: float, velocity: float, generator: Generator) -> Wave:
    """Clap: a burst of noise around a frequency, in three quick strokes and a tail."""
    t = times(duration_s)
    strokes = sum(np.exp(-(t - start) / 0.005) * (t >= start) for start in (0.0, 0.011, 0.022))
    amplitude = 0.5 * strokes + np.exp(-t / (0.2 * duration_s))
    burst = noise_band(0.45 * frequency_hz, 2.2 * frequency_hz, t.size, generator)
    return 0.5 * velocity * amplitude * envelope(duration_s, 0.001, 9, 0.001)[: t.size] * burst


def hat(frequency_hz: float, duration_s: float, velocity: float, generator: Generator) -> Wave:
    """Strike a hi-hat: noise above a frequency, closed when short and open when long."""
    amplitude = envelope(duration_s, 0.001, duration_s / 3, 0.01)
    return 0.3 * velocity * amplitude * noise_band(frequency_hz, 2 * TOP_HZ, amplitude.size, generator)


# Beds, whose end joins their beginning so that they can fill a loop


def hiss(frequency_hz: float, duration_s: float, velocity: float, generator: Generator) -> Wave:
    """Sound steadily like tape: noise above a frequency."""
    return velocity * noise_band(frequency_hz, 2 * TOP_HZ, times(duration_s).size, generator)


def room(frequency_hz: float, duration_s: float, velocity: float, generator: Generator) -> Wave:
    """Sound steadily like a quiet room: pink noise (3 dB less an octave) below a frequency."""
    samples = times(duration_s).size
    spectrum = np.fft.rfft(noise_band(40, frequency_hz, samples, generator))
    pink = spectrum / np.sqrt(1 + np.arange(spectrum.size))
    return velocity * unit_rms(np.fft.irfft(pink, samples))


def drone(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Hold a tone with two soft overtones, over a whole number of periods."""
    cycles = round(frequency_hz * duration_s)
    turns = 2 * np.pi * cycles * times(duration_s) / (times(duration_s).size / SAMPLE_RATE_HZ)
    return velocity * (np.sin(turns) + 0.12 * np.sin(2 * turns) + 0.06 * np.sin(3 * turns))


# Tuned percussion


def mallet(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Strike a marimba: a nearly pure tone, with the bar's second mode tuned two octaves above."""
    decay_s = 0.35 * (261.6 / frequency_hz) ** 0.5
    modes = [(1.0, 1.0, decay_s), (4.0, 0.18 * velocity, decay_s / 5), (10.0, 0.05 * velocity, decay_s / 15)]
    amplitude = envelope(duration_s, 0.003, 9, 0.08)
    return velocity * amplitude * partials(frequency_hz, amplitude.size / SAMPLE_RATE_HZ, modes)


def vibraphone(frequency_hz: float, duration_s: float, velocity: float, tremolo_hz: float = 5.0) -> Wave:
    """Strike a vibraphone: long modes at 1, 4 and 10, opened and shut by the fans in the resonators."""
    modes = [(1.0, 1.0, 2.0), (4.0, 0.22 * velocity, 0.8), (10.0, 0.05 * velocity, 0.2)]
    amplitude = envelope(duration_s, 0.004, 9, 0.25)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    fans = 0.57 + 0.43 * np.cos(2 * np.pi * tremolo_hz * t)
    return velocity * amplitude * fans * partials(frequency_hz, t.size / SAMPLE_RATE_HZ, modes)


def bell(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Strike a small bell: the modes of a free bar (1, 2.76, 5.40), the higher the shorter."""
    modes = [(1.0, 1.0, 0.7), (2.76, 0.5 * velocity, 0.35), (5.40, 0.25 * velocity, 0.18)]
    amplitude = envelope(duration_s, 0.001, 9, 0.1)
    return 0.5 * velocity * amplitude * partials(frequency_hz, amplitude.size / SAMPLE_RATE_HZ, modes)


# Strings, reeds and synthesizers


def bass(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Pluck a bass: a strong fundamental, and harmonics that die away the sooner the higher they are."""
    modes = [(k, 0.8 * velocity / k**1.4, 0.6 / k) for k in range(2, 16)]
    amplitude = envelope(duration_s, 0.006, 9, 0.04)
    return velocity * amplitude * partials(frequency_hz, amplitude.size / SAMPLE_RATE_HZ, [(1.0, 1.0, 0.6), *modes])


def electric_piano(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    """Strike a tine: frequency modulation at the same pitch, the brighter the harder (after Chowning)."""
    amplitude = envelope(duration_s, 0.003, 0.9, 0.12)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    turns = phase(frequency_hz, t.size)
    index = 1.6 * velocity * np.exp(-t / 0.35)
    tine = 0.15 * velocity * np.exp(-t / 0.05) * np.sin(7 * turns)
    return 0.6 * velocity * amplitude * (np.sin(turns + index * np.sin(turns)) + tine)


def stab(frequency_hz: float, duration_s: float, velocity: float, top_hz: float = 3000) -> Wave:
    """Hit a synthesizer's key briefly: two detuned saws under a low-pass that shuts as they fade."""
    amplitude = envelope(duration_s, 0.004, 0.25, 0.05)
    pair = saw(frequency_hz * 0.9975, amplitude.size) + saw(frequency_hz * 1.0025, amplitude.size)
    shut = np.exp(-times(amplitude.size / SAMPLE_RATE_HZ) / 0.1)
    filtered = shut * lowpass(pair, top_hz, order=4) + (1 - shut) * lowpass(pair, 0.2 * top_hz)
    return 0.35 * velocity * amplitude * filtered


def lead(
    frequency_hz: float, duration_s: float, velocity: float, from_hz: float | None = None, top_hz: float = 3000
) -> Wave:
    """Sing with harmonics up to top_hz: glide in from another pitch, then vibrate."""
    amplitude = envelope(duration_s, 0.015, 3.0, 0.06)
    t = times(amplitude.size / SAMPLE_RATE_HZ)
    glide = ((from_hz or frequency_hz) / frequency_hz) ** np.exp(-t / 0.035)
    vibrato = 2 ** (0.35 / 12 * np.clip((t - 0.12) / 0.15, 0, 1) * np.sin(2 * np.pi * 5.8 * t))
    wave = saw(frequency_hz * glide * vibrato, t.size, top_hz)
    return 0.5 * velocity * amplitude * lowpass(wave, top_hz)


def pad(frequency_hz: float, duration_s: float, velocity: float, top_hz: float = 1500) -> Wave:
    """Hold a string machine's key: three saws that beat, slow to come and to go."""
    amplitude = envelope(duration_s, 0.15, 9, 0.35)
    strings = sum(saw(frequency_hz * detune, amplitude.size, TOP_HZ) for detune in (0.996, 1.0, 1.0045))
    return 0.25 * velocity * amplitude * lowpass(np.asarray(strings), top_hz)
