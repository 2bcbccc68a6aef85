"""Interpolate between two tensors."""

import torch
from torch import Tensor

PARALLEL_COSINE = 0.9995  # above it the chord is as good as the short arc, and sin(angle) is nearly 0


def lerp(alpha: float, a: Tensor, b: Tensor) -> Tensor:
    """Return a + alpha (b - a), which is exactly a at alpha 0 and exactly b at alpha 1."""
    return torch.lerp(a, b, alpha)


def slerp(alpha: float, a: Tensor, b: Tensor) -> Tensor:
    """Interpolate along the arc from a to b, in float32; nearly parallel tensors by lerp.

    Blended Gaussian noise keeps its norm this way, while lerp shrinks it. The tensors have the same shape, and the
    angle is between the flattened tensors. Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.
    """
    a, b = a.float(), b.float()
    norms = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    cosine = (torch.sum(a * b) / norms).item()
    if not abs(cosine) < PARALLEL_COSINE:  # also for NaN, the cosine with a tensor of zeros
        return lerp(alpha, a, b)
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    weight_a = torch.sin((1 - alpha) * angle) / torch.sin(angle)
    weight_b = torch.sin(alpha * angle) / torch.sin(angle)
    return a * weight_a.item() + b * weight_b.item()
