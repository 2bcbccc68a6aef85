"""Paint a shape of one colour on another, or a gradient between two colours."""

import cv2
import numpy as np

from workshop.chance import Generator, pick
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

MIN_CONTRAST = 34  # CIE76 difference of two named colours that may meet
NAMES = ("circle", "square", "triangle", "star")
SMALL, BIG = 0.21, 0.31  # radii, as fractions of the picture


def polygon(corners: int, inner: float, turn_rad: float) -> Points:
    """Return a regular polygon of radius 1 with its first corner on top; inner < 1 makes it a star."""
    angles = np.arange(2 * corners if inner else corners) * (np.pi if inner else 2 * np.pi) / corners
    radii = np.where(np.arange(angles.size) % 2, inner, 1.0) if inner else np.ones(angles.size)
    return turned(np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1), turn_rad)


def outline(name: str, generator: Generator) -> Points:
    """Return the outline of a circle, square, triangle or star about the origin, of radius 1, turned a little."""
    turn_rad = generator.uniform(-0.2, 0.2)
    if name == "square":
        return polygon(4, 0, np.pi / 4 + turn_rad)
    if name == "triangle":
        return polygon(3, 0, turn_rad)
    if name == "star":
        return polygon(5, generator.uniform(0.4, 0.5), turn_rad)
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
    radius = generator.uniform(0.16, 0.38)
    x, y = np.clip(generator.normal(0.5, 0.06, 2), radius * 0.9, 1 - radius * 0.9)
    corners = moved(outline(name, generator), x, y, radius)
    if generator.random() < 0.5:
        canvas.fill(moved(corners, 0.012, 0.018), mix(back, (0, 0, 0), 0.6), blur_px=9, opacity=0.5)
    front = varied(COLOURS[colour], generator, 0.02)
    canvas.fill(corners, vertical(mix(front, (1, 1, 1), 0.1), mix(front, (0, 0, 0), 0.08)))
    size = "small " if radius < SMALL else "big " if radius > BIG else ""
    size = size if generator.random() < 0.5 else ""
    text = pick(
        [
            f"a {size}{colour} {name}",
            f"a {size}{colour} {name} on {ground}",
            f"a {size}{colour} {name} on {ground}",
            f"a {size}{colour} {name} on a {ground} background",
            f"{size}{colour} {name}, {ground} background",
            f"{size}{colour} {name}",
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
