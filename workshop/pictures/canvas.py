"""Paint soft-edged shapes on a picture, in floating point, and finish it as uint8 RGB.

Coordinates are fractions of the picture: x from 0 at the left to 1 at the right, y from 0 at the top to 1 at the
bottom. Colours are sRGB from 0 to 1.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from workshop.randomness import Generator

SIZE = 512
SUBPIXEL_BITS = 4  # polygons are placed to a sixteenth of a pixel

Colour = NDArray[np.float32]
Points = NDArray[np.float64]
Mask = NDArray[np.float32]
Window = tuple[slice, slice]

EVERYWHERE = (slice(0, SIZE), slice(0, SIZE))

COLOURS: dict[str, Colour] = {
    name: np.array(rgb, np.float32) / np.float32(255)
    for name, rgb in {
        "red": (214, 48, 44),
        "orange": (240, 140, 40),
        "yellow": (248, 214, 66),
        "green": (64, 160, 76),
        "turquoise": (64, 196, 188),
        "blue": (48, 92, 204),
        "purple": (128, 64, 172),
        "pink": (242, 150, 184),
        "brown": (126, 82, 48),
        "black": (28, 28, 32),
        "grey": (140, 142, 146),
        "white": (246, 246, 242),
    }.items()
}
ROWS, COLUMNS = (np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5) / SIZE


def mix(first: ArrayLike, second: ArrayLike, share: float) -> Colour:
    """Return the colour a share of the way from the first to the second."""
    return np.asarray((1 - share) * np.asarray(first) + share * np.asarray(second), np.float32)


def varied(colour: Colour, generator: Generator, amount: float = 0.04) -> Colour:
    """Return a colour nearby: a little lighter or darker, a little off in hue."""
    shift = generator.normal(0, amount) + generator.normal(0, amount / 2, 3)
    return np.clip(colour + shift, 0, 1).astype(np.float32)


def vertical(top: ArrayLike, bottom: ArrayLike) -> NDArray[np.float32]:
    """Return a gradient (512, 1, 3) from a colour at the top to another at the bottom."""
    share = ROWS[:, :1, None]
    return np.asarray((1 - share) * np.asarray(top) + share * np.asarray(bottom), np.float32)


def ellipse(x: float, y: float, width: float, height: float, count: int = 64) -> Points:
    """Return the outline (count, 2) of an ellipse of half-axes width and height."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return moved(np.stack([width * np.cos(angles), height * np.sin(angles)], axis=1), x, y)


def moved(points: ArrayLike, x: float, y: float, scale: float = 1) -> Points:
    """Scale points about the origin and move that to a place."""
    return np.asarray(np.asarray(points, np.float64) * scale + np.array([x, y]))


def turned(points: Points, turn_rad: float) -> Points:
    """Turn points about the origin, clockwise on the picture."""
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def ridge(height: float, roughness: float, generator: Generator, decay: float = 0.55) -> Points:
    """Return the line (129, 2) of a ridge at a height, by midpoint displacement; roughness is its greatest swing."""
    line = height + roughness * generator.uniform(-1, 1, 3)
    while line.size < 129:
        roughness *= decay
        middles = (line[1:] + line[:-1]) / 2 + roughness * generator.uniform(-1, 1, line.size - 1)
        line = np.insert(middles, np.arange(line.size - 1), line[:-1])
        line = np.append(line, line[-2] + roughness * generator.uniform(-1, 1))
    return np.stack([np.linspace(0, 1, line.size), line], axis=1)


def below(line: Points) -> Points:
    """Close a line from left to right around all that is below it."""
    return np.concatenate([[[-0.1, line[0, 1]]], line, [[1.1, line[-1, 1]], [1.1, 1.1], [-0.1, 1.1]]])


class Canvas:
    """A picture while it is painted: float32 (512, 512, 3)."""

    def __init__(self, ground: ArrayLike) -> None:
        """Cover the canvas with a colour or a gradient."""
        self.pixels = np.broadcast_to(np.asarray(ground, np.float32), (SIZE, SIZE, 3)).copy()

    def fill(
        self, outlines: Points | Sequence[Points], colour: ArrayLike, blur_px: float = 0, opacity: float = 1
    ) -> None:
        """Fill outlines with a colour or a gradient, their edges antialiased or blurred."""
        polygons = [outlines] if isinstance(outlines, np.ndarray) else list(outlines)
        if polygons:
            window = self._window(np.concatenate(polygons), 3 * blur_px + 2)
            stencil = np.zeros(self.pixels[window].shape[:2], np.uint8)
            for polygon in polygons:
                cv2.fillPoly(stencil, [self._corners(polygon, window)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
            if blur_px and stencil.size:
                stencil = cv2.GaussianBlur(stencil, (0, 0), blur_px)
            self.blend(stencil.astype(np.float32) * np.float32(opacity / 255), colour, window)

    def stroke(self, points: Points, width_px: float, colour: ArrayLike) -> None:
        """Draw a line through points."""
        window = self._window(points, width_px + 2)
        stencil = np.zeros(self.pixels[window].shape[:2], np.uint8)
        corners = self._corners(points, window)
        cv2.polylines(stencil, [corners], False, 255, max(1, round(width_px)), cv2.LINE_AA, SUBPIXEL_BITS)
        self.blend(stencil.astype(np.float32) / np.float32(255), colour, window)

    def _window(self, points: Points, margin_px: float) -> Window:
        """Return the rows and columns, one at least, that hold points and a margin around them."""
        low = np.clip(np.floor(points.min(axis=0) * SIZE - margin_px), 0, SIZE - 1).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) * SIZE + margin_px), 0, SIZE).astype(int)
        return slice(low[1], max(high[1], low[1] + 1)), slice(low[0], max(high[0], low[0] + 1))

    def _corners(self, points: Points, window: Window) -> NDArray[np.int32]:
        """Return points as OpenCV draws them in a window: whole sub-pixels from the centre of its first pixel."""
        first = np.array([window[1].start, window[0].start])
        return np.asarray(np.rint((points * SIZE - first - 0.5) * (1 << SUBPIXEL_BITS)), np.int32)

    def glow(self, x: float, y: float, radius: float, colour: ArrayLike, opacity: float = 1) -> None:
        """Add light that fades from a point: half as strong at the radius."""
        distance = np.hypot(COLUMNS - np.float32(x), ROWS - np.float32(y)) / np.float32(radius)
        self.blend(np.float32(opacity) / (1 + distance**2), colour)

    def blend(self, mask: Mask, colour: ArrayLike, window: Window = EVERYWHERE) -> None:
        """Lay a colour (3,) or colours (512, 512 or 1, 3) over a window where the mask says how much."""
        paint = np.asarray(colour, np.float32)
        if paint.ndim == 3:
            paint = paint[window] if paint.shape[1] > 1 else paint[window[0]]
        self.pixels[window] += mask[..., None] * (paint - self.pixels[window])

    def finish(self) -> NDArray[np.uint8]:
        """Return the picture as uint8 RGB (512, 512, 3)."""
        return np.rint(np.clip(self.pixels, 0, 1) * 255).astype(np.uint8)
