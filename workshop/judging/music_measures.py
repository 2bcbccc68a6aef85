"""Measure a spectrogram picture: rhythm, share of percussion, pitch, partials. Nothing here is learned.

Pictures are measured at half their size, 20 ms a column and 256 rows of mels; `level` is 0 for silence and 1 for
black, `amplitude` its fourth power, as the picture was drawn (`lib.audio.spectrogram.POWER`).
"""

import numpy as np
from numpy.typing import NDArray

from lib.audio.spectrogram import HOP_LENGTH, MAX_FREQUENCY_HZ, POWER, SAMPLE_RATE_HZ, WHITE

Array = NDArray[np.float32]

ROWS = 256
COLUMN_S = 2 * HOP_LENGTH / SAMPLE_RATE_HZ
MEDIAN_WIDTH = 17  # columns (340 ms) or rows
BAND_EDGES_HZ = (0, 120, 300, 700, 1500, 3000, 5500, MAX_FREQUENCY_HZ)
LINE_LEVEL = 0.3  # a partial is at least as dark
ONSET_SHARE = 0.3  # of the strongest onset's flux, for another to count
FANS_HZ = (4.2, 6.8)  # where tremolo and vibrato lie
CANDIDATES_HZ = np.geomspace(55, 1800, 90)  # fundamentals that are tried
HARMONICS = np.arange(1, 9)


def mel_of(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return HTK mels."""
    return np.asarray(2595 * np.log10(1 + frequency_hz / 700))


TOP_MEL = float(mel_of(np.array(float(MAX_FREQUENCY_HZ))))
ROWS_HZ = 700 * (10 ** ((np.arange(ROWS) + 0.5) / ROWS * TOP_MEL / 2595) - 1)
SEMITONES = 12 * np.log2(ROWS_HZ / 440)


def music_measures(picture: NDArray[np.uint8]) -> dict[str, float]:
    """Return every measure of a picture (512, T) or (512, T, 3) by its name."""
    grey = picture.astype(np.float32).mean(axis=2) if picture.ndim == 3 else picture.astype(np.float32)
    columns = grey.shape[1] // 2
    level = 1 - grey[::-1, : 2 * columns].reshape(ROWS, 2, columns, 2).mean(axis=(1, 3)) / WHITE
    amplitude = level ** (1 / POWER)
    return {
        **rhythm_measures(level),
        **percussion_measures(level, amplitude),
        **band_measures(level, amplitude),
        **line_measures(level, amplitude),
        **harmonic_measures(level),
    }


def rhythm_measures(level: Array) -> dict[str, float]:
    """Measure onsets: how many a second, how sharp, how much faster sounds come than go, how much stays."""
    change = np.diff(level, axis=1)
    rise, fall = np.maximum(change, 0), np.maximum(-change, 0)
    flux = np.pad(rise.mean(axis=0), 2)
    middle = flux[2:-2]
    peaks = (middle >= flux[1:-3]) & (middle > flux[3:-1]) & (middle >= flux[:-4]) & (middle > flux[4:])
    peaks &= middle > max(ONSET_SHARE * float(middle.max()), 0.004)
    mean = float(level.mean()) + 1e-6
    total = level.mean(axis=0)
    kept = [float(np.abs(level[:, lag:] - level[:, :-lag]).mean()) / mean for lag in (1, 5, 20)]
    return {
        "onsets_per_s": float(peaks.sum()) / (level.shape[1] * COLUMN_S),
        "onset_sharpness": float(np.sort(middle)[-8:].mean()) / mean,
        "rise_to_fall": float(np.log((rise**2).sum() + 1e-6) - np.log((fall**2).sum() + 1e-6)),
        "change_20_ms": kept[0],
        "change_100_ms": kept[1],
        "change_400_ms": kept[2],
        "loudness_swing": float(total.std()) / mean,
    }


def median(level: Array) -> Array:
    """Return the running median along the last axis."""
    half = MEDIAN_WIDTH // 2
    padded = np.pad(level, ((0, 0), (half, half)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEDIAN_WIDTH, axis=1)
    return np.asarray(np.partition(windows, half, axis=2)[..., half])


def percussion_measures(level: Array, amplitude: Array) -> dict[str, float]:
    """Measure what share is percussive and what harmonic (Fitzgerald 2010: medians along frequency and time)."""
    lines, strokes = median(level), median(level.T).T
    share = strokes**2 / (strokes**2 + lines**2 + 1e-6)
    high = slice(ROWS // 2, None)
    return {
        "percussive_share": float((share * level).sum() / (level.sum() + 1e-6)),
        "percussive_share_of_amplitude": float((share * amplitude).sum() / (amplitude.sum() + 1e-6)),
        "percussive_share_high": float((share * level)[high].sum() / (level[high].sum() + 1e-2)),
        "harmonic_contrast": float(np.maximum(level - strokes, 0).sum() / (level.sum() + 1e-6)),
        "noise_floor": float(np.minimum(strokes, lines).mean()),
    }


def band_measures(level: Array, amplitude: Array) -> dict[str, float]:
    """Measure where in frequency the sound lies."""
    edges = np.searchsorted(ROWS_HZ, BAND_EDGES_HZ)
    spectrum, mean_level = amplitude.mean(axis=1), level.mean(axis=1)
    total = float(spectrum.sum()) + 1e-9
    measures = {}
    for low, high, low_hz, high_hz in zip(edges, edges[1:], BAND_EDGES_HZ, BAND_EDGES_HZ[1:], strict=False):
        name = f"{low_hz}_to_{high_hz}_hz"
        measures[f"share_{name}"] = float(np.log10(spectrum[low:high].sum() / total + 1e-4))
        measures[f"level_{name}"] = float(mean_level[low:high].mean())
    centre = float((spectrum * SEMITONES).sum()) / total
    measures["centroid_semitones"] = centre
    measures["spread_semitones"] = float(np.sqrt((spectrum * (SEMITONES - centre) ** 2).sum() / total))
    measures["top_row"] = float(np.max(np.flatnonzero(mean_level > 0.1), initial=0)) / ROWS
    return measures


def line_measures(level: Array, amplitude: Array) -> dict[str, float]:
    """Measure the strongest line's pitch and movement, how many lines sound together, and their tremolo."""
    rows = np.arange(ROWS)[:, None]
    strongest = amplitude.argmax(axis=0)
    sounding = level.max(axis=0) > LINE_LEVEL
    near = amplitude * (np.abs(rows - strongest) <= 3)
    pitch = (near * SEMITONES[:, None]).sum(axis=0) / (near.sum(axis=0) + 1e-9)
    steps = np.abs(np.diff(pitch))[sounding[1:] & sounding[:-1]]
    slides = steps[steps < 2.5]
    inner = level[2:-2]
    around = np.maximum(np.maximum(level[1:-3], level[3:-1]), np.maximum(level[:-4], level[4:]))
    lines = (inner >= around) & (inner > LINE_LEVEL) & (inner > level[:-4] + 0.03) & (inner > level[4:] + 0.03)
    count = lines.sum(axis=0)[sounding]
    played = pitch[sounding] if sounding.any() else np.zeros(1)
    return {
        "pitch_semitones": float(np.median(played)),
        "pitch_range_semitones": float(np.subtract(*np.quantile(played, (0.9, 0.1)))),
        "slide_semitones": float(slides.mean()) if slides.size else 0.0,
        "leaps": float((steps >= 2.5).mean()) if steps.size else 0.0,
        "lines": float(np.log1p(count.mean())) if count.size else 0.0,
        "lines_swing": float(count.std() / (count.mean() + 1)) if count.size else 0.0,
        "tremolo": fans(amplitude[level.mean(axis=1).argsort()[-12:]]),
        "vibrato": fans(
            np.where(np.abs(np.diff(pitch, prepend=pitch[0])) < 2.5, np.diff(pitch, prepend=pitch[0]), 0)[None]
        ),
        "silence": float(1 - sounding.mean()),
    }


def fans(rows: NDArray[np.floating]) -> float:
    """Return how much of the movement of rows is at the rate of a tremolo or vibrato."""
    spectrum = np.abs(np.fft.rfft((rows - rows.mean(axis=1, keepdims=True)) * np.hanning(rows.shape[1]), axis=1)) ** 2
    rates_hz = np.fft.rfftfreq(rows.shape[1], COLUMN_S)
    inside = (rates_hz > FANS_HZ[0]) & (rates_hz < FANS_HZ[1])
    return float(spectrum[:, inside].sum() / (spectrum[:, rates_hz > 0.3].sum() + 1e-9))


def harmonic_measures(level: Array) -> dict[str, float]:
    """Measure how well one fundamental explains each column: levels at its harmonics against those between."""
    at = np.interp(mel_of(CANDIDATES_HZ[:, None] * HARMONICS), [0, TOP_MEL], [0, ROWS]).astype(int)
    between = np.interp(mel_of(CANDIDATES_HZ[:, None] * (HARMONICS + 0.5)), [0, TOP_MEL], [0, ROWS]).astype(int)
    padded = np.concatenate([level, np.zeros((max(0, int(between.max()) + 1 - ROWS), level.shape[1]), np.float32)])
    at, between = np.minimum(at, ROWS - 1), np.minimum(between, len(padded) - 1)
    salience = padded[at].mean(axis=1) - padded[between].mean(axis=1)  # (candidate, column)
    best = salience.max(axis=0)
    sounding = level.max(axis=0) > LINE_LEVEL
    harmonicity = best[sounding] / level.max(axis=0)[sounding] if sounding.any() else np.zeros(1)
    return {"harmonicity": float(harmonicity.mean()), "fundamental": float(salience.mean(axis=1).argmax())}
