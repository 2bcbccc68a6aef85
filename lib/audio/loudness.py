"""The loudness of a clip: its level, and a look-ahead limiter.

A clip can be looped, so the first sample follows the last one everywhere in this module.
"""

import math

import torch
from torch import Tensor

from lib.audio.spectrogram import SAMPLE_RATE_HZ

LOUDNESS_DB = -12.0  # root mean square of a clip before the limiter, relative to full scale
PEAK_DB = -0.1  # of a finished clip, relative to full scale
LOOK_AHEAD_S = 0.005  # the gain starts to fall this long before a peak, and is back this long after it

# The amplitude of black, 30e6, is about that of 16-bit samples at full scale, so a gain of 2^-15 plays a picture as
# loud as it was drawn; the musical seeds, which reach black, then peak at -3 to 4 dB. Paler pictures are amplified, up
# to a limit. The palest seeds, the gradients, are drawn to level 165, which is 36 dB below black because a level is an
# amplitude to the power 1/4. Up to 36 dB are made up for. Anything paler, such as the grain of a nearly blank picture,
# stays as much quieter as it was drawn.
DRAWN_GAIN = 2.0**-15
TURNED_UP_DB = 36.0


def level(waveform: Tensor) -> Tensor:
    """Bring a waveform (1, samples) from Synthesis to the loudness of a finished clip.

    The clip has -12 dB before the limiter and a peak of exactly -0.1 dB after it, relative to full scale. The crest
    factor of music is 15 to 23 dB, so at -12 dB peaks exceed full scale. The limiter turns them down, while the
    original clipped them. A clip from a nearly blank picture stays quieter, which is logged. Silence stays silence.

    Raises:
        ValueError: A sample is not finite.
    """
    if not waveform.isfinite().all():
        raise ValueError("the waveform has samples that are not finite")
    if not waveform.any():
        return torch.zeros_like(waveform)
    sound = waveform.double()
    peak = float(sound.abs().max())
    sound = sound / peak  # so that no square underflows
    most = DRAWN_GAIN * peak * amplitude(TURNED_UP_DB)
    gain = min(amplitude(LOUDNESS_DB) / float(sound.square().mean().sqrt()), most)
    sound = limit(sound * gain)
    to_peak = amplitude(PEAK_DB) / float(sound.abs().max())
    if to_peak * gain > most:
        quieter_db = decibels(to_peak * gain / most)
        print(f"The spectrogram is nearly blank, so the clip is {quieter_db:.0f} dB quieter than usual")
    return (sound * min(to_peak, most / gain)).to(waveform.dtype)


def limit(waveform: Tensor) -> Tensor:
    """Turn a waveform (1, samples) down around its peaks, so that none exceeds full scale.

    The gain of a sample is the one that the loudest sample within 5 ms needs, smoothed by a Hann window of 10 ms. The
    mean of these minima over a window never exceeds the gain that the sample at its centre needs.
    """
    samples = waveform.shape[1]
    reach = min(round(LOOK_AHEAD_S * SAMPLE_RATE_HZ), (samples - 1) // 2)
    loudest = largest_around(waveform[0].abs(), reach)
    gain = 1 / loudest.clamp(min=1)
    window = torch.hann_window(2 * reach + 3, periodic=False, dtype=gain.dtype, device=gain.device)[1:-1]
    kernel = gain.new_zeros(samples)
    kernel[: len(window)] = window / window.sum()
    spectrum = torch.fft.rfft(gain) * torch.fft.rfft(kernel.roll(-reach))
    smoothed: Tensor = torch.fft.irfft(spectrum, samples)
    return waveform * smoothed


def largest_around(values: Tensor, reach: int) -> Tensor:
    """Return the largest of the circular values (samples,) within `reach` samples before and after each."""
    width = 2 * reach + 1
    largest, covered = values, 1  # the largest of the `covered` values from each on
    while covered < width:
        step = min(covered, width - covered)
        largest = torch.maximum(largest, largest.roll(-step))
        covered += step
    return largest.roll(reach)


def amplitude(level_db: float) -> float:
    """Return the amplitude of a level in dB relative to full scale."""
    return float(10 ** (level_db / 20))


def decibels(ratio: float) -> float:
    """Return a ratio of amplitudes in dB."""
    return 20 * math.log10(ratio)
