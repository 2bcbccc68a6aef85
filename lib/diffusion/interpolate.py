"""Blends of two tensors."""

import torch
from torch import Tensor

PARALLEL_COSINE = 0.9995  # above it the arc is so short that the chord is as good, and sin(angle) near 0


def lerp(alpha: float, a: Tensor, b: Tensor) -> Tensor:
    """Return a + alpha (b - a); exactly a at alpha 0 and exactly b at alpha 1."""
    return torch.lerp(a, b, alpha)


def slerp(alpha: float, a: Tensor, b: Tensor) -> Tensor:
    """Interpolate from a to b along the arc between them, in float32; by lerp where they are nearly parallel.

    The blend of two Gaussian noises keeps their norm, which a lerp shrinks. Shapes are equal; the angle is that
    between the flattened tensors. Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.
    """
    a, b = a.float(), b.float()
    norms = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    cosine = (torch.sum(a * b) / norms).item()
    if not abs(cosine) < PARALLEL_COSINE:  # NaN, from a tensor of zeros, included
        return lerp(alpha, a, b)
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    weight_a = torch.sin((1 - alpha) * angle) / torch.sin(angle)
    weight_b = torch.sin(alpha * angle) / torch.sin(angle)
    return a * weight_a.item() + b * weight_b.item()
