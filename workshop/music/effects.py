"""Add space to a loop, circularly: as `workshop.sound.loop` does, at a tenth of the cost.

The transform of a loop's own length, which has large prime factors, is slow; here all lengths are padded to quick ones.
"""

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import oaconvolve

from lib.audio.spectrogram import SAMPLE_RATE_HZ
from workshop.chance import Generator
from workshop.sound.synth import Wave, noise_band, times


def quick_noise(low_hz: float, high_hz: float, samples: int, generator: Generator) -> Wave:
    """Draw noise (RMS 1) from low_hz to high_hz; unlike `noise_band`'s, its end does not join its beginning."""
    noise: Wave = noise_band(low_hz, high_hz, next_fast_len(samples, real=True), generator)[:samples]
    return noise


def reverb(wave: Wave, decay_s: float, gain: float, generator: Generator) -> Wave:
    """Add a room to a loop: its circular convolution with noise that falls by 60 dB in decay_s."""
    t = times(min(decay_s, wave.size / SAMPLE_RATE_HZ))
    tail = quick_noise(150, 7000, t.size, generator) * np.exp(-6.9 * t / decay_s) * np.clip(t / 0.02, 0, 1)
    tail /= np.sqrt(np.sum(tail**2))
    wet = oaconvolve(wave, tail)
    room: Wave = wet[: wave.size].copy()
    room[: wet.size - wave.size] += wet[wave.size :]  # what rings beyond the end comes back at the beginning
    return wave + gain * room


def echo(wave: Wave, delay_s: float, feedback: float, gain: float, repeats: int = 4) -> Wave:
    """Add echoes to a loop, each one softer by the feedback."""
    delay = round(delay_s * SAMPLE_RATE_HZ)
    echoes = [gain * feedback**k * np.roll(wave, (k + 1) * delay) for k in range(repeats)]
    echoed: Wave = wave + np.sum(echoes, axis=0)
    return echoed
