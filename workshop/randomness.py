"""Draw from a choice."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Generator = np.random.Generator
Option = TypeVar("Option")


def pick(options: Sequence[Option], generator: Generator) -> Option:
    """Draw one of the options, all equally likely; name one twice to make it so."""
    return options[int(generator.integers(len(options)))]
