"""Match the colours of each warped frame to frame 0. Otherwise they would drift from frame to frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.errors import invalid

LEVELS = 256  # of a uint8 channel

# OpenCV's codes for the conversion to each colour space and back. In uint8, hue is 0 to 179, in steps of 2 degrees.
_CONVERSIONS: dict[str, tuple[int, int] | None] = {
    "None": None,
    "Match Frame 0 HSV": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB),
    "Match Frame 0 LAB": (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB),
    "Match Frame 0 RGB": None,
}
COLOR_COHERENCE = tuple(_CONVERSIONS)


class ColorMatcher:
    """Match the histogram of each channel to that of a reference frame, in the colour space of the mode.

    The result equals scikit-image's match_histograms between the same conversions, but uses a table of 256 levels and
    counts the reference only once. As there, fractions of a level are dropped. This error doesn't accumulate, because
    every frame is matched to the same reference. As in the original, hue is matched like any other channel.
    Source: https://scikit-image.org/docs/stable/auto_examples/color_exposure/plot_histogram_matching.html
    """

    def __init__(self, mode: str, reference_frame: NDArray[np.uint8]) -> None:
        """Count the levels of the reference, (height, width, 3) uint8 RGB.

        Raises:
            UserError: The mode is not in COLOR_COHERENCE.
        """
        if mode not in COLOR_COHERENCE:
            raise invalid("color_coherence", mode, f"one of {', '.join(COLOR_COHERENCE)}")
        self.mode = mode
        self._conversion = _CONVERSIONS[mode]
        self._reference = []
        for counts in _histograms(self._convert(reference_frame)):
            levels = np.flatnonzero(counts)  # other levels result only from interpolation
            self._reference.append((levels, _quantiles(counts)[levels]))

    def match(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame, (height, width, 3) uint8 RGB of any size, with matched colours; in mode None, unchanged."""
        if self.mode == "None":
            return frame
        picture = self._convert(frame)
        table = np.empty((1, LEVELS, 3), np.uint8)
        for channel, counts in enumerate(_histograms(picture)):
            levels, quantiles = self._reference[channel]
            table[0, :, channel] = np.interp(_quantiles(counts), quantiles, levels)
        return self._convert_back(cv2.LUT(picture, table))

    def _convert(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.cvtColor(frame, self._conversion[0]) if self._conversion else frame

    def _convert_back(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.cvtColor(picture, self._conversion[1]) if self._conversion else picture


def _histograms(picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Count the pixels at each level, (256,) per channel. float32 is exact up to 2**24 pixels."""
    return [cv2.calcHist([picture], [channel], None, [LEVELS], [0, LEVELS]).ravel() for channel in range(3)]


def _quantiles(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of pixels at or below each level, (256,)."""
    cumulative = np.cumsum(counts, dtype=np.float64)
    quantiles: NDArray[np.float64] = cumulative / cumulative[-1]
    return quantiles
