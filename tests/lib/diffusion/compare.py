"""Compare a result with a reference."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def relative_error(result: Tensor | Array, reference: Tensor | Array) -> float:
    """Return the norm of the difference, relative to that of the reference, computed in float64."""
    expected = np.asarray(reference, dtype=np.float64)
    return float(np.linalg.norm(np.asarray(result, dtype=np.float64) - expected) / np.linalg.norm(expected))
