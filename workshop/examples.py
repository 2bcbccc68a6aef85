"""What the small models learn from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Example(NamedTuple):
    """A picture, (512, 512) grey or (512, 512, 3) RGB, uint8, its caption and its class."""

    picture: NDArray[np.uint8]
    caption: str
    class_name: str
