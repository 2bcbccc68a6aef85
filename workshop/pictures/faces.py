"""Paint portraits of a few strokes."""

import numpy as np
from numpy.typing import ArrayLike

from workshop.pictures.canvas import COLOURS, Canvas, ellipse, mix, moved, varied, vertical
from workshop.randomness import Generator, pick

BLACK, WHITE = np.zeros(3), np.ones(3)
SKINS = ((0.98, 0.85, 0.75), (0.93, 0.76, 0.62), (0.8, 0.6, 0.44), (0.6, 0.42, 0.3), (0.42, 0.28, 0.2))
HAIR = {
    "black": (0.1, 0.08, 0.08),
    "brown": (0.34, 0.2, 0.12),
    "blond": (0.9, 0.75, 0.42),
    "red": (0.7, 0.28, 0.12),
    "grey": (0.66, 0.66, 0.68),
}
GROUNDS = ("blue", "turquoise", "green", "purple", "pink", "yellow", "grey", "white", "orange")
STYLES = (
    "",
    "",
    "",
    ", trending on artstation",
    " by artgerm, trending on artstation",
    ", oil painting",
    ", digital art",
)


def portrait(generator: Generator) -> tuple[Canvas, str]:
    """Paint a woman or a man, head and shoulders; return the canvas and a caption."""
    woman, smiling = bool(generator.random() < 0.5), bool(generator.random() < 0.5)
    hair, ground = pick(list(HAIR), generator), pick(GROUNDS, generator)
    beard = not woman and bool(generator.random() < 0.4)
    skin = varied(np.array(pick(SKINS, generator), np.float32), generator, 0.02)
    back = mix(COLOURS[ground], WHITE, 0.25)
    canvas = Canvas(vertical(mix(back, WHITE, 0.2), mix(back, BLACK, 0.15)))
    x, y = generator.uniform(0.44, 0.56), generator.uniform(0.4, 0.46)
    size = generator.uniform(0.2, 0.25)
    face = Face(canvas, x, y, size, skin, np.array(HAIR[hair], np.float32))
    face.behind(woman, generator)
    face.head(woman)
    if beard:
        face.beard()
    face.features(woman, smiling, generator)
    face.fringe(woman, generator)
    return canvas, describe(woman, smiling, beard, hair, ground, generator)


def describe(woman: bool, smiling: bool, beard: bool, hair: str, ground: str, generator: Generator) -> str:
    """Write a caption of what was painted."""
    person = "woman" if woman else "man"
    details = ["", "", f" with {hair} hair", f" on a {ground} background", " with a beard" if beard else ""]
    detail = pick(details, generator)
    phrases = [
        "a portrait of a {0}",
        "a beautiful portrait of a {0}",
        "portrait of a {0}",
        "the face of a {0}",
        "a {0}",
    ]
    if smiling:
        phrases += ["a portrait of a smiling {0}", "a smiling {0}"]
    text = pick(phrases, generator).format(person) + detail
    return text + pick(STYLES, generator)


class Face:
    """A painter of the parts of a face about its centre; lengths are in half widths of the head."""

    def __init__(self, canvas: Canvas, x: float, y: float, size: float, skin: ArrayLike, hair: ArrayLike) -> None:
        """Take the head's centre and half width, and the colours of skin and hair."""
        self.canvas, self.x, self.y, self.size = canvas, x, y, size
        self.skin, self.hair = mix(skin, skin, 0), mix(hair, hair, 0)

    def oval(
        self, x: float, y: float, width: float, height: float, colour: ArrayLike, blur_px: float = 0, opacity: float = 1
    ) -> None:
        """Fill an ellipse."""
        s = self.size
        outline = ellipse(self.x + x * s, self.y + y * s, width * s, height * s)
        self.canvas.fill(outline, np.asarray(colour), blur_px, opacity)

    def line(self, points: list[tuple[float, float]], width_px: float, colour: ArrayLike) -> None:
        """Draw a curve through three points."""
        (x0, y0), (x1, y1), (x2, y2) = points
        t = np.linspace(0, 1, 16)[:, None]
        start, middle, end = np.array([[x0, y0], [2 * x1 - (x0 + x2) / 2, 2 * y1 - (y0 + y2) / 2], [x2, y2]])
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        self.canvas.stroke(moved(curve, self.x, self.y, self.size), width_px, np.asarray(colour))

    def behind(self, woman: bool, generator: Generator) -> None:
        """Paint long hair, the neck and the shoulders in a garment of any colour."""
        if woman:
            long = generator.uniform(0.6, 1.4)
            self.oval(0, 0.1 + 0.4 * long, 1.32, 1.2 + 0.6 * long, mix(self.hair, BLACK, 0.15), blur_px=1.5)
        garment = varied(COLOURS[pick(list(COLOURS), generator)], generator)
        self.oval(0, 3.1, 1.75 if woman else 2.05, 1.35, garment, blur_px=1)
        self.oval(0, 1.45, 0.42 if woman else 0.55, 0.75, mix(self.skin, BLACK, 0.16), blur_px=1)

    def head(self, woman: bool) -> None:
        """Paint ears and the head, with light from the left."""
        for side in (-1, 1):
            self.oval(side * 1.0, 0.05, 0.15, 0.25, mix(self.skin, BLACK, 0.1))
        self.oval(0, 0, 1, 1.3, self.skin, blur_px=0.8)
        self.oval(0, 0.45, 0.78 if woman else 0.9, 0.9, self.skin, blur_px=0.8)
        self.oval(0.35, 0.3, 0.5, 0.85, mix(self.skin, BLACK, 0.3), blur_px=18, opacity=0.3)
        for side in (-1, 1):
            self.oval(side * 0.52, 0.42, 0.26, 0.2, (0.9, 0.4, 0.38), blur_px=8, opacity=0.35 if woman else 0.15)

    def beard(self) -> None:
        """Paint a full beard."""
        self.oval(0, 0.86, 0.8, 0.55, self.hair, blur_px=3)
        self.oval(0, 0.5, 0.6, 0.3, self.skin, blur_px=5)

    def features(self, woman: bool, smiling: bool, generator: Generator) -> None:
        """Paint eyes, brows, nose and mouth."""
        iris = np.array(((0.24, 0.42, 0.66), (0.32, 0.2, 0.1), (0.26, 0.46, 0.28))[generator.integers(3)])
        dark = mix(self.hair, BLACK, 0.5)
        for side in (-1, 1):
            self.oval(side * 0.42, -0.1, 0.23, 0.12, WHITE * 0.97)
            self.oval(side * 0.42, -0.1, 0.11, 0.115, iris)
            self.oval(side * 0.42, -0.1, 0.055, 0.06, BLACK)
            self.line(
                [(side * 0.42 - 0.25, -0.09), (side * 0.42, -0.24), (side * 0.42 + 0.25, -0.09)],
                4 if woman else 2,
                dark,
            )
            self.line([(side * 0.18, -0.4), (side * 0.42, -0.5), (side * 0.7, -0.38)], 4 if woman else 7, dark)
        self.line([(0.02, -0.05), (0.16, 0.3), (-0.05, 0.36)], 3, mix(self.skin, BLACK, 0.35))
        lips = np.array([0.78, 0.22, 0.26]) if woman else mix(self.skin, (0.6, 0.2, 0.2), 0.45)
        bend = 0.14 if smiling else 0.0
        self.line([(-0.32, 0.72 - bend), (0, 0.72 + bend / 2), (0.32, 0.72 - bend)], 10 if woman else 6, lips)

    def fringe(self, woman: bool, generator: Generator) -> None:
        """Paint the hair on the top of the head, its parting to one side."""
        part = generator.uniform(-0.4, 0.4)
        angles = np.linspace(np.pi * 1.02, 2 * np.pi - np.pi * 0.02, 40)
        crown = np.stack([1.1 * np.cos(angles), 1.42 * np.sin(angles)], axis=1)
        brow = -0.72 if woman else -0.86
        side = 0.2 if woman else -0.15
        edge = np.array(
            [
                [1.08, side],
                [0.9, -0.45],
                [part + 0.45, brow],
                [part, brow - 0.22],
                [part - 0.45, brow],
                [-0.9, -0.45],
                [-1.08, side],
            ]
        )
        self.canvas.fill(moved(np.concatenate([crown, edge]), self.x, self.y, self.size), self.hair, blur_px=1.5)
        for offset in (-0.5, 0.05, 0.5):
            sheen = [(offset - 0.2, -1.25), (offset * 1.25, -1.12), (offset * 1.5, -0.95)]
            self.line(sheen, 4, mix(self.hair, WHITE, 0.2))
