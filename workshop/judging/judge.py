"""Say which class a spectrogram or a picture is nearest to, by measures that are not learned from any model.

The measures go to a linear discriminant analysis that is fitted on renderings: it knows what the training data's
generators make, and nothing of the models that it judges. Colours are CIE L*a*b*.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lib.audio.phases import hz_of_mel, mel_of_hz
from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ, WHITE
from workshop.examples import Example
from workshop.training.dataset import CLASSES, render

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]
Measures = dict[str, float]

# Spectrograms are measured at half their size.
ROWS = 256
COLUMN_S = 2 * HOP_LENGTH / SAMPLE_RATE_HZ
MEDIAN_WIDTH = 17  # columns (340 ms) or rows
LAGS = (1, 5, 20)  # columns
ROWS_HZ = hz_of_mel(2 * torch.arange(ROWS, dtype=torch.float64) + 1.5).numpy()
BAND_EDGES_HZ = (120, 250, 500, 1000, 2000, 4000, 7000)
CANDIDATES_HZ = np.geomspace(55, 1760, 121)[:, np.newaxis]  # fundamentals that are tried
HARMONICS = np.arange(1, 7)
SOUNDING_LEVEL = 0.3
ONSET_SHARE, ONSET_FLOOR = 0.3, 0.004  # of the strongest onset's flux, and at least, for another to count

# Pictures are measured at a smaller size.
SIDE_PX, SHAPE_SIDE_PX = 128, 256
BORDER_PX = 12  # columns of a shape's picture that show its background
SKIN_LAB = np.array([[88, 8, 14], [80, 12, 24], [67, 17, 27], [47, 17, 22], [33, 14, 18]])

FIRST_SEED = 10_000_000  # beyond any that a training draws
SHRINKAGE = 0.1  # of the covariance, towards the identity
SOFTENED_PX = 2.0  # standard deviation of a Gaussian
LARGEST_DEVIATION = 4.0  # in standard deviations; larger ones are clipped to it


def music_measures(picture: Picture) -> Measures:
    """Measure a spectrogram picture (512, T) or (512, T, 3): rhythm, percussion, bands, pitch and harmonics."""
    grey = picture.astype(np.float32).mean(axis=2) if picture.ndim == 3 else picture.astype(np.float32)
    columns = grey.shape[1] // 2
    # 0 for silence, 1 for black; (row from the lowest frequency up, column).
    level = 1 - grey[::-1, : 2 * columns].reshape(ROWS, 2, columns, 2).mean(axis=(1, 3)) / WHITE
    mean = float(level.mean()) + 1e-6
    bands = np.split(level, np.searchsorted(ROWS_HZ, BAND_EDGES_HZ))
    return {
        **{f"change_{20 * lag}_ms": float(np.abs(level[:, lag:] - level[:, :-lag]).mean()) / mean for lag in LAGS},
        **{f"band_{i}": float(band.mean()) for i, band in enumerate(bands)},
        "treble_swing": float(bands[-1].mean(axis=0).std()),
        **rhythm_measures(level, mean),
        **harmonic_measures(level),
    }


def rhythm_measures(level: Array, mean: float) -> Measures:
    """Measure onsets, the share of percussion (Fitzgerald 2010: medians along frequency and time) and the noise."""
    flux = np.pad(np.maximum(np.diff(level, axis=1), 0).mean(axis=0), 2)
    middle = flux[2:-2]
    peaks = (middle >= flux[1:-3]) & (middle > flux[3:-1]) & (middle >= flux[:-4]) & (middle > flux[4:])
    peaks &= middle > max(ONSET_SHARE * float(middle.max()), ONSET_FLOOR)
    lines, strokes = (median_filter(level, size, mode="nearest") for size in ((1, MEDIAN_WIDTH), (MEDIAN_WIDTH, 1)))
    share = strokes**2 / (strokes**2 + lines**2 + 1e-6)
    return {
        "onsets_per_s": float(peaks.sum()) / (level.shape[1] * COLUMN_S),
        "onset_sharpness": float(np.sort(middle)[-8:].mean()) / mean,
        "percussive_share": float((share * level).sum() / (level.sum() + 1e-6)),
        "noise": float(np.minimum(strokes, lines).mean()) / mean,
    }


def harmonic_measures(level: Array) -> Measures:
    """Measure pitch and harmonics: each column's fundamental is the one whose harmonics stand out most."""
    at, between = (level[rows_of(CANDIDATES_HZ * (HARMONICS - shift))] for shift in (0, 0.5))  # (candidate, k, column)
    salience = np.einsum("ckt,k->ct", at - between, 1 / np.sqrt(HARMONICS))
    best = salience.argmax(axis=0)
    sounding = level.max(axis=0) > SOUNDING_LEVEL
    sounding |= not sounding.any()
    semitones = 12 * np.log2(CANDIDATES_HZ[best, 0] / 440)
    profile, gaps = (part[best, :, np.arange(best.size)][sounding] for part in (at, between))  # (column, k)
    strongest = profile.max(axis=1) + 1e-6
    steps = np.abs(np.diff(semitones))[sounding[1:] & sounding[:-1]]
    inner = level[1:-1]
    lines = ((inner > level[:-2]) & (inner >= level[2:]) & (inner > SOUNDING_LEVEL)).sum(axis=0)[sounding]
    return {
        "pitch_semitones": float(np.median(semitones[sounding])),
        "pitch_range_semitones": float(np.subtract(*np.quantile(semitones[sounding], (0.9, 0.1)))),
        **{f"harmonic_{k}": float(np.mean(profile[:, k - 1] / strongest)) for k in HARMONICS},
        "between_harmonics": float(np.mean(gaps.mean(axis=1) / strongest)),
        "lines": float(np.log1p(lines.mean())),
        "wobble_semitones": float(steps[steps < 2].mean()) if (steps < 2).any() else 0.0,
    }


def rows_of(frequency_hz: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows that show frequencies, at most the highest."""
    numbers = mel_of_hz(torch.from_numpy(frequency_hz)).numpy()
    return np.clip(np.rint((numbers - 1.5) / 2), 0, ROWS - 1).astype(np.intp)


def picture_measures(picture: Picture) -> Measures:
    """Measure an RGB picture (height, width, 3): colours and edges by region, and the shape that stands out."""
    lab = to_lab(picture, SIDE_PX)
    third = SIDE_PX // 3
    regions = {"top": lab[:third], "middle": lab[third : 2 * third], "bottom": lab[2 * third :]}
    centre = regions["middle"][:, third : 2 * third]
    rows = lab.mean(axis=1)
    variance = float(((lab - lab.mean(axis=(0, 1))) ** 2).sum(axis=2).mean()) + 1e-3
    light = lab[..., 0]
    edges = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)) / 8
    specks = light - cv2.morphologyEx(light, cv2.MORPH_OPEN, np.ones((4, 4), np.uint8))
    skin = np.min([np.linalg.norm(centre - colour, axis=2) for colour in SKIN_LAB], axis=0)
    return {
        **{
            f"{name}_{axis}": float(mean)
            for name, region in regions.items()
            for axis, mean in zip("Lab", region.mean(axis=(0, 1)), strict=True)
        },
        "centre_swing": float(centre[..., 0].std()),
        "bands_share": float(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()) / variance,
        "contrast": float(np.log(variance)),
        "largest_step": float(np.linalg.norm(np.diff(rows, axis=0), axis=1).max()),
        "asymmetry": float(np.abs(lab - lab[:, ::-1]).mean() / np.sqrt(variance)),
        "skin": float((skin < 14).mean()),
        "specks": float(np.sqrt((specks[:third] > 8).mean())),
        **{
            f"edges_{name}": float(np.sqrt((part > 2).mean()))
            for name, part in zip(regions, np.array_split(edges, 3), strict=True)
        },
        **shape_measures(to_lab(picture, SHAPE_SIDE_PX)),
    }


def to_lab(picture: Picture, side_px: int) -> Array:
    """Return a picture in L*a*b* at a smaller size."""
    small = cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def shape_measures(lab: Array) -> Measures:
    """Measure the largest region that stands out from the border: its area, how full its hulls are, its corners.

    The background may be a vertical gradient, so each row is compared with its own ends. The threshold is Otsu's.
    """
    ends = np.concatenate([lab[:, :BORDER_PX], lab[:, -BORDER_PX:]], axis=1)
    distance = np.linalg.norm(lab - np.median(ends, axis=1, keepdims=True), axis=2)
    grey = np.clip(distance * 255 / max(float(distance.max()), 1), 0, 255).astype(np.uint8)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    names = ("area", "circularity", "extent", "solidity", "circle_fill", "triangle_fill", "corners")
    if largest is None or cv2.contourArea(largest) < 50:
        return dict.fromkeys(names, 0.0)
    area, perimeter = cv2.contourArea(largest), cv2.arcLength(cv2.approxPolyDP(largest, 1, True), True)
    (_, (width, height), _), (_, radius) = cv2.minAreaRect(largest), cv2.minEnclosingCircle(largest)
    fills = (max(width * height, 1), cv2.contourArea(cv2.convexHull(largest)), np.pi * radius**2)
    triangle, _ = cv2.minEnclosingTriangle(largest)
    shares = [area / whole for whole in (*fills, max(triangle, 1))]
    corners = min(len(cv2.approxPolyDP(largest, 0.03 * perimeter, True)), 12)
    values = (np.sqrt(area) / SHAPE_SIDE_PX, 4 * np.pi * area / perimeter**2, *shares, corners)
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def grid_power(picture: Picture, period_px: int = 16) -> float:
    """Return how much of a grid shows: 1 for none, the more the stronger.

    The profile of |gradient| along rows and along columns has lines in its spectrum at multiples of 1 / `period_px`:
    this is their mean power over the mean power elsewhere.
    """
    inside, outside = [], []
    for axis in (0, 1):
        gradient = np.abs(np.diff(picture.astype(np.float64), axis=axis))
        profile = gradient.mean(axis=tuple(other for other in range(picture.ndim) if other != axis))
        power = np.abs(np.fft.rfft(profile - profile.mean(), picture.shape[axis])) ** 2
        lines = np.arange(power.size) % (picture.shape[axis] // period_px) == 0
        inside.append(power[1:][lines[1:]].mean())
        outside.append(power[~lines].mean())
    return float(np.sum(inside) / np.sum(outside))


class Judge:
    """Find the class whose renderings an image is nearest to."""

    def __init__(self, measures: Callable[[Picture], Measures], examples: Sequence[Example]) -> None:
        """Fit on examples, each also softened, as a model's picture may be."""
        self.measures = measures
        self.pipeline = make_pipeline(
            StandardScaler(),
            FunctionTransformer(np.clip, kw_args={"a_min": -LARGEST_DEVIATION, "a_max": LARGEST_DEVIATION}),
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE),
        )
        images = [one.picture for one in examples]
        softened = [cv2.GaussianBlur(image, (0, 0), SOFTENED_PX) for image in images]
        names = [one.class_name for one in examples]
        self.pipeline.fit([self._features(image) for image in [*images, *softened]], [*names, *names])

    def _features(self, image: Picture) -> list[float]:
        return list(self.measures(image).values())

    def nearest_class(self, image: Picture) -> str:
        """Return the name of the class that an image is nearest to."""
        return str(self.pipeline.predict([self._features(image)])[0])


def judge_of(domain: str, each: int = 40) -> Judge:
    """Fit a judge of a domain on `each` renderings of every class."""
    classes = CLASSES[domain]
    examples = [render(domain, FIRST_SEED + i, name) for name in classes for i in range(each)]
    return Judge(music_measures if domain == "music" else picture_measures, examples)
