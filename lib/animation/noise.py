"""Give a warped frame a little noise for the next diffusion: without it, details wash out."""

import numpy as np
import torch
from numpy.typing import NDArray

from lib.diffusion.pipeline import to_model_range


def add_noise(frame: NDArray[np.uint8], sigma: float, generator: torch.Generator) -> NDArray[np.float32]:
    """Scale the frame to [-1, 1], the VAE's units, and add Gaussian noise of that sigma.

    frame: (height, width, 3) uint8 RGB. Returns float32 of the same shape. As in the original it is neither
    rounded to levels nor clipped: white may come to 1.05, and clipping would darken it on the average.
    generator: a CPU one, which the caller seeds for the frame.
    """
    noise = torch.randn(frame.shape, generator=generator).mul_(sigma)
    noised: NDArray[np.float32] = to_model_range(frame) + noise.numpy()
    return noised
