"""Make pictures to learn from: shapes, gradients, landscapes and portraits, each with its caption and class."""

from collections.abc import Callable
from functools import partial

import numpy as np

from workshop.examples import Example
from workshop.pictures import scenes, shapes
from workshop.pictures.canvas import Canvas
from workshop.pictures.faces import portrait
from workshop.randomness import Generator, pick

Painter = Callable[[Generator], tuple[Canvas, str]]

# The ten classes that an evaluation asks for.
CLASSES = (*shapes.NAMES, "sunset", "sea", "mountains", "forest", "night sky", "face")
PAINTERS: dict[str, Painter] = {
    **{name: partial(shapes.shape, name) for name in shapes.NAMES},
    "sunset": scenes.sunset,
    "sea": scenes.sea,
    "mountains": scenes.mountains,
    "forest": scenes.forest,
    "night sky": scenes.night_sky,
    "face": portrait,
    "gradient": shapes.gradient,
    "desert": scenes.desert,
    "snow": scenes.snow,
    "city": scenes.city,
}


def picture(seed: int, class_name: str | None = None) -> Example:
    """Make the picture of a seed, of a class if one is named: the same picture every time."""
    class_name = class_name or class_of(seed)
    generator = np.random.default_rng([seed, list(PAINTERS).index(class_name)])
    canvas, caption = PAINTERS[class_name](generator)
    return Example(canvas.finish(), caption.replace("a orange", "an orange"), class_name)


def class_of(seed: int) -> str:
    """Draw the class of a seed for which none is named; shapes twice as often, for they come in most variants."""
    return pick([*PAINTERS, *shapes.NAMES], np.random.default_rng(seed))
