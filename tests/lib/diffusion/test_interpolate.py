import math

import pytest
import torch

from lib.diffusion.interpolate import lerp, slerp

GENERATOR = torch.Generator().manual_seed(0)
A, B = (torch.randn(1, 4, 64, 64, generator=GENERATOR) for _ in range(2))


@pytest.mark.parametrize("blend", [lerp, slerp])
def test_the_ends_are_exact(blend: type) -> None:
    assert torch.equal(blend(0.0, A, B), A)
    assert torch.equal(blend(1.0, A, B), B)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75])
def test_slerp_follows_the_arc(alpha: float) -> None:
    right_angle = slerp(alpha, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    expected = torch.tensor([math.cos(alpha * math.pi / 2), math.sin(alpha * math.pi / 2)])
    torch.testing.assert_close(right_angle, expected)
    torch.testing.assert_close(lerp(alpha, A, B), A + alpha * (B - A))


def test_slerp_of_nearly_parallel_tensors_is_lerp() -> None:
    near = A * 1.5 + 1e-4 * B
    assert torch.equal(slerp(0.3, A, near), lerp(0.3, A, near))
    assert torch.equal(slerp(0.3, A, A), A)
    assert torch.equal(slerp(0.5, A, -A), torch.zeros_like(A))
    assert slerp(0.5, torch.zeros(4), torch.ones(4)).isfinite().all()


def test_slerp_computes_in_float32() -> None:
    low = slerp(0.5, A.half(), B.half())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, slerp(0.5, A.half().float(), B.half().float()))
