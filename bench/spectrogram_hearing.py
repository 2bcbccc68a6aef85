"""What one hears and the metrics of a picture do not see, since they look at 100 ms at a time.

A sound here is (samples,) at 44.1 kHz. The test sounds last a clip, 225351 samples, and can be looped.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, hilbert, sosfiltfilt

Sound = NDArray[np.float64]

RATE_HZ = 44100
SAMPLES = 225351
TREBLE_HZ = ((4000, 7000), (7000, 9500))  # where the frame rate was heard
FRAME_RATE_HZ = 50  # of frames on every second column
NEIGHBOUR_RATES_HZ = (37, 43, 57, 63)
CLICK_STARTS = [round((0.25 + 0.5 * number) * RATE_HZ) for number in range(10)]
ABOVE_HZ = 11_000  # no mel hears anything from 10 kHz on


# Test sounds


def noise() -> Sound:
    """Draw steady noise from 60 Hz to 9 kHz."""
    return band(0.2 * np.random.default_rng(0).standard_normal(SAMPLES), 60, 9000)


def clicks() -> Sound:
    """Draw ten bursts of noise that decay within 40 samples, half a second apart, from 60 Hz to 9 kHz."""
    generator = np.random.default_rng(1)
    sound = np.zeros(SAMPLES)
    for start in CLICK_STARTS:
        sound[start : start + 200] = generator.standard_normal(200) * np.exp(-np.arange(200) / 40)
    return band(sound, 60, 9000)


def tone(frequency_hz: float) -> Sound:
    """Sound a steady tone, of the nearest frequency of which whole periods fill the clip."""
    periods = round(frequency_hz * SAMPLES / RATE_HZ)
    return np.sin(2 * np.pi * periods * np.arange(SAMPLES) / SAMPLES)


# Measures


def modulation(sound: Sound, low_hz: float, high_hz: float, rate_hz: float) -> float:
    """Return how deeply a band is modulated at a rate, 0 to 1; it is heard on noise from about 0.06 on.

    The band's envelope, without its first and last 0.2 s, is divided by its own part below 8 Hz; where that is less
    than a tenth of its mean, nothing is heard, and the tenth is taken.
    """
    envelope = np.abs(hilbert(band(sound, low_hz, high_hz)))
    slow = sosfiltfilt(butter(2, 8, "lowpass", fs=RATE_HZ, output="sos"), envelope)
    ripple = inside(envelope / np.maximum(slow, 0.1 * slow.mean()) - 1)
    window = np.hanning(ripple.size)
    turns = np.exp(-2j * np.pi * rate_hz * np.arange(ripple.size) / RATE_HZ)
    return float(2 * abs(np.sum(window * ripple * turns)) / window.sum())


def treble_modulation(sound: Sound, rate_hz: float = FRAME_RATE_HZ) -> float:
    """Return the deeper modulation of 4 to 7 and 7 to 9.5 kHz at a rate."""
    return max(modulation(sound, *edges_hz, rate_hz) for edges_hz in TREBLE_HZ)


def modulation_error(sound: Sound, truth: Sound, rate_hz: float) -> float:
    """Return how far the treble's modulation at a rate is from the true sound's, the mean of both bands."""
    return float(
        np.mean([abs(modulation(sound, *edges, rate_hz) - modulation(truth, *edges, rate_hz)) for edges in TREBLE_HZ])
    )


def pre_echo_db(sound: Sound) -> float:
    """Return the share of energy that is heard from 150 to 5 ms before the clicks, of that from -150 to 200 ms."""
    spans = [click_energy(sound, start) for start in CLICK_STARTS]
    early = sum(energy[time_s < -0.005].sum() for time_s, energy in spans)
    return float(10 * np.log10(early / sum(energy.sum() for _, energy in spans)))


def click_width_ms(sound: Sound) -> float:
    """Return the spread in time of the clicks' energy, its standard deviation; the mean of the clicks."""
    widths_s = []
    for time_s, energy in (click_energy(sound, start) for start in CLICK_STARTS):
        centre_s = np.average(time_s, weights=energy)
        widths_s.append(np.sqrt(np.average((time_s - centre_s) ** 2, weights=energy)))
    return float(1000 * np.mean(widths_s))


def click_energy(sound: Sound, start: int) -> tuple[Sound, Sound]:
    """Return the times in s from a click's start, and the energy of each sample."""
    at = np.arange(start - round(0.15 * RATE_HZ), start + round(0.2 * RATE_HZ))
    return (at - start) / RATE_HZ, sound[at] ** 2


def tone_modulation(sound: Sound, frequency_hz: float) -> float:
    """Return the depth of a tone's modulation at whatever rates: that of a sine that varies as much."""
    envelope = inside(np.abs(hilbert(band(sound, frequency_hz / 1.2, frequency_hz * 1.2))))
    return float(np.sqrt(2) * envelope.std() / envelope.mean())


def seam_db(sound: Sound) -> float:
    """Return what is heard above 11 kHz in the 10 ms where a clip joins its own beginning, to the clip's mean."""
    joined = high(np.tile(sound, 2))[sound.size - RATE_HZ // 200 : sound.size + RATE_HZ // 200]
    return float(10 * np.log10(np.mean(joined**2) / np.mean(sound**2)))


def splatter_db(sound: Sound) -> float:
    """Return the energy above 11 kHz, where nothing should be, to the clip's."""
    return float(10 * np.log10(np.mean(high(sound) ** 2) / np.mean(sound**2)))


def ends_db(sound: Sound) -> float:
    """Return the first or last sample, whichever is larger, to the clip's peak."""
    return float(20 * np.log10(max(abs(sound[0]), abs(sound[-1]), 1e-12) / np.abs(sound).max()))


def band(sound: Sound, low_hz: float, high_hz: float) -> Sound:
    """Filter with a Butterworth band-pass of order 4, forward and backward."""
    sections = butter(4, (low_hz, high_hz), "bandpass", fs=RATE_HZ, output="sos")
    return np.ascontiguousarray(sosfiltfilt(sections, sound))


def high(sound: Sound) -> Sound:
    """Filter with a Butterworth high-pass of order 8 at 11 kHz, forward and backward."""
    return np.ascontiguousarray(sosfiltfilt(butter(8, ABOVE_HZ, "highpass", fs=RATE_HZ, output="sos"), sound))


def inside(sound: Sound) -> Sound:
    """Leave out the first and last 0.2 s, where filters begin and end."""
    return sound[round(0.2 * RATE_HZ) : -round(0.2 * RATE_HZ)]
