"""How loud a clip is: its level, and a limiter that sees peaks coming.

A clip may be looped, so all here goes round: what comes after the last sample is the first.
"""

import math

import torch
from torch import Tensor

from lib.audio.spectrogram import SAMPLE_RATE_HZ

LOUDNESS_DB = -12.0  # the root mean square of a clip before its peaks are limited, relative to full scale
PEAK_DB = -0.1  # the peak of a finished clip, relative to full scale
LOOK_AHEAD_S = 0.005  # how long before a peak the limiter begins to turn down, and after it to come back

# A picture's black, 30e6, is about what 16-bit samples of full scale have, so 2^-15 plays a picture as loud as it was
# drawn; the musical seeds, which reach black, then peak at -3 to 4 dB. Paler pictures are turned up, but not without
# end. Among the seeds that are there to be filled, the gradients are drawn to level 165: 36 dB below black, since a
# level is an amplitude to the power 1/4. Up to there the difference is made up for; what is paler still, such as the
# grain of a picture that stayed nearly blank, is left as quiet as it was drawn beside the others.
DRAWN_GAIN = 2.0**-15
TURNED_UP_DB = 36.0


def level(waveform: Tensor) -> Tensor:
    """Bring a waveform (channel, samples), as `Synthesis` gives it, to the loudness of a finished clip.

    That is -12 dB before the limiter, and then a peak of -0.1 dB exactly, relative to full scale. The crest of music is
    15 to 23 dB, so at -12 dB its peaks lie above full scale: they are turned down, where the original cut them off.
    The clip of a nearly blank picture stays quieter, and the log says so. Silence stays silence.

    Raises:
        ValueError: a sample is not finite.
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
        print(f"The picture is nearly blank: its clip stays {quieter_db:.0f} dB below the usual level")
    return (sound * min(to_peak, most / gain)).to(waveform.dtype)


def limit(waveform: Tensor) -> Tensor:
    """Turn a waveform (channel, samples) down round its peaks, so that none is beyond full scale.

    The gain of each sample is what the loudest within 5 ms needs, smoothed by a Hann window of 10 ms. The mean of such
    minima in a window is never above what the sample at its centre needs. All channels have the same gain.
    """
    samples = waveform.shape[1]
    reach = min(round(LOOK_AHEAD_S * SAMPLE_RATE_HZ), (samples - 1) // 2)
    loudest = largest_around(waveform.abs().amax(dim=0), reach)
    gain = 1 / loudest.clamp(min=1)
    window = torch.hann_window(2 * reach + 3, periodic=False, dtype=gain.dtype, device=gain.device)[1:-1]
    kernel = gain.new_zeros(samples)
    kernel[: len(window)] = window / window.sum()
    spectrum = torch.fft.rfft(gain) * torch.fft.rfft(kernel.roll(-reach))
    smoothed: Tensor = torch.fft.irfft(spectrum, samples)
    return waveform * smoothed


def largest_around(values: Tensor, reach: int) -> Tensor:
    """Return the largest of the values (samples,) up to `reach` samples before and after each, going round."""
    width = 2 * reach + 1
    largest, covered = values, 1  # of so many values from each on
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
