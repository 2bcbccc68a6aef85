"""The seed spectrograms by name; workshop/seeds makes them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEED_IMAGE_IDS = (
    "agile",
    "marim",
    "mask_beat_lines_80",
    "mask_gradient_dark",
    "mask_gradient_top_70",
    "mask_graident_top_fifth_75",  # spelled as in the documented schema
    "mask_top_third_75",
    "mask_top_third_95",
    "motorway",
    "og_beat",
    "vibes",
)
MUSICAL_SEEDS = ("agile", "marim", "motorway", "og_beat", "vibes")


def png_path(name: str) -> Path:
    """Return the path of a seed image.

    Raises:
        KeyError: There is no seed image of this name.
    """
    if name not in SEED_IMAGE_IDS:
        raise KeyError(name)
    return Path(__file__).with_name(f"{name}.png")


def load(name: str) -> NDArray[np.uint8]:
    """Read a seed image: (512, 512) uint8, with the highest frequency in row 0 and 255 for silence."""
    with Image.open(png_path(name)) as image:
        return np.array(image, np.uint8)
