"""Draw the six mask seeds from their numbers.

A mask is a (512, 512) uint8 picture in which 255 is silence: it says where sound may be, and how much, without
saying what it is. Rows count from the highest frequency, columns are 10 ms.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SIZE = 512
SILENCE = 255

GRADIENT_START_ROW = 4
GRADIENT_TOP_LEVEL = 165
DARK_EXPONENT = 4.763  # takes the top level from 165 down to 32

# Beats 1, 3, 5 and 7 at 94 BPM, within a column, and the two halves of a line where the loop is cut.
BEAT_LINE_COLUMNS = (1.0, 64.0, 191.6, 319.6, 446.8, 509.0)
BEAT_LINE_LEVEL = 203
BEAT_LINE_WIDTH = 11.5  # columns between the two sides at half depth
BEAT_LINE_FULL_ROWS = 200
BEAT_LINE_END_ROW = 209


def top_third(rows: int, level: int) -> NDArray[np.uint8]:
    """Draw one level in the upper rows and silence below."""
    mask = np.full((SIZE, SIZE), SILENCE, np.uint8)
    mask[:rows] = level
    return mask


def gradient_top(length: int, silent_from_row: int) -> NDArray[np.uint8]:
    """Draw a gradient from the top level to silence, over `length` rows: the mean of a ramp and a smooth step."""
    t = np.clip((np.arange(SIZE) - GRADIENT_START_ROW) / length, 0, 1)
    levels = GRADIENT_TOP_LEVEL + (SILENCE - GRADIENT_TOP_LEVEL) * (t + smoothstep(t)) / 2
    levels[silent_from_row:] = SILENCE
    return as_rows(levels)


def gradient_dark() -> NDArray[np.uint8]:
    """Draw the gradient of `mask_gradient_top_70` by a power darker."""
    levels = SILENCE * (gradient_top(259, 258)[:, 0] / SILENCE) ** DARK_EXPONENT
    return as_rows(levels)


def beat_lines() -> NDArray[np.uint8]:
    """Draw soft vertical lines on the backbeats, in the upper rows."""
    columns = np.arange(SIZE)
    distances = columns - np.array(BEAT_LINE_COLUMNS)[:, None]
    across = np.exp2(-((2 * distances / BEAT_LINE_WIDTH) ** 2)).max(axis=0)  # a bell, 1/2 at half the width
    fade = (columns - BEAT_LINE_FULL_ROWS) / (BEAT_LINE_END_ROW - BEAT_LINE_FULL_ROWS)
    down = 1 - smoothstep(np.clip(fade, 0, 1))
    depth = (SILENCE - BEAT_LINE_LEVEL) * np.outer(down, across)
    levels: NDArray[np.float64] = np.rint(SILENCE - depth)
    return levels.astype(np.uint8)


def smoothstep(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t^2 (3 - 2t): from 0 to 1 with level ends, for t in [0, 1]."""
    return t**2 * (3 - 2 * t)


def as_rows(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Repeat one column of levels over the width of the picture."""
    return np.repeat(np.rint(levels).astype(np.uint8)[:, None], SIZE, axis=1)


MASKS: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "mask_beat_lines_80": beat_lines,
    "mask_gradient_dark": gradient_dark,
    "mask_gradient_top_70": lambda: gradient_top(259, 258),
    "mask_graident_top_fifth_75": lambda: gradient_top(148, 151),
    "mask_top_third_75": lambda: top_third(180, 192),
    "mask_top_third_95": lambda: top_third(165, 242),
}
