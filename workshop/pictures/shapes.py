"""Paint a shape of one colour on another, or a gradient between two colours."""

import cv2
import numpy as np

from workshop.pictures.canvas import (
    COLOURS,
    COLUMNS,
    ROWS,
    Canvas,
    Colour,
    Points,
    ellipse,
    mix,
    moved,
    turned,
    varied,
    vertical,
)
from workshop.randomness import Generator, pick

MIN_CONTRAST = 34  # CIE76 difference of two named colours that may meet
NAMES = ("circle", "square", "triangle", "star")
# Radii by the word for them, as fractions of the picture. Shapes are upright, near the middle and of three sizes, so
# that a caption says all of their outlines: what it leaves open, a small model takes from the noise.
RADII = {"small": 0.2, "": 0.28, "big": 0.36}


def polygon(corners: int, inner: float = 0) -> Points:
    """Return a regular polygon of radius 1 with its first corner on top; inner < 1 makes it a star."""
    angles = np.arange(2 * corners if inner else corners) * (np.pi if inner else 2 * np.pi) / corners
    radii = np.where(np.arange(angles.size) % 2, inner, 1.0) if inner else np.ones(angles.size)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def outline(name: str) -> Points:
    """Return the outline of a circle, square, triangle or star about the origin, of radius 1, upright."""
    if name == "square":
        return turned(polygon(4), np.pi / 4)
    if name == "triangle":
        return polygon(3)
    if name == "star":
        return polygon(5, inner=0.45)
    return ellipse(0, 0, 0.92, 0.92, count=180)


def lab(colour: Colour) -> Colour:
    """Return a colour in CIE L*a*b*."""
    converted = cv2.cvtColor(colour[None, None], cv2.COLOR_RGB2LAB)
    return np.asarray(converted[0, 0], np.float32)


def draw_colours(generator: Generator) -> tuple[str, str]:
    """Draw the names of two colours that stand off from each other."""
    while True:
        first, second = map(str, generator.choice(list(COLOURS), 2, replace=False))
        if np.linalg.norm(lab(COLOURS[first]) - lab(COLOURS[second])) > MIN_CONTRAST:
            return first, second


def shape(name: str, generator: Generator) -> tuple[Canvas, str]:
    """Paint a circle, square, triangle or star; return it and its caption."""
    colour, ground = draw_colours(generator)
    back = varied(COLOURS[ground], generator, 0.02)
    canvas = Canvas(vertical(mix(back, (1, 1, 1), 0.06), mix(back, (0, 0, 0), 0.06)))
    size = pick(list(RADII), generator)
    x, y = generator.normal(0.5, 0.01, 2)
    corners = moved(outline(name), x, y, RADII[size] * generator.uniform(0.97, 1.03))
    front = varied(COLOURS[colour], generator, 0.02)
    canvas.fill(corners, vertical(mix(front, (1, 1, 1), 0.1), mix(front, (0, 0, 0), 0.08)))
    what = f"{size} {colour} {name}".lstrip()
    text = pick(
        [
            f"a {what}",
            f"a {what} on {ground}",
            f"a {what} on {ground}",
            f"a {what} on a {ground} background",
            f"{what}, {ground} background",
            what,
        ],
        generator,
    )
    return canvas, text


def gradient(generator: Generator) -> tuple[Canvas, str]:
    """Paint a gradient between two colours, in any of four directions or from the middle; and its caption."""
    first, second = draw_colours(generator)
    kinds = {
        "left to right": COLUMNS,
        "top to bottom": ROWS,
        "corner to corner": (COLUMNS + ROWS) / 2,
        "centre outwards": np.clip(np.hypot(COLUMNS - 0.5, ROWS - 0.5) / 0.7, 0, 1),
    }
    kind = pick(list(kinds), generator)
    canvas = Canvas(COLOURS[first])
    canvas.blend(kinds[kind], COLOURS[second])
    texts = [f"{first} fading to {second}", f"a gradient from {first} to {second}", f"a {first} and {second} gradient"]
    text = pick([*texts, f"{texts[1]}, {kind}"], generator)
    return canvas, text
