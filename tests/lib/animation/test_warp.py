import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.animation.warp import WRAP, matrix, warp

Frame = NDArray[np.uint8]
Motion = tuple[float, float, float, float]

SIDE = 512


def noise_frame(height: int = SIDE, width: int = SIDE) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sampled_by_hand(frame: Frame, motion: Motion) -> NDArray[np.float64]:
    """Sample the wrapped frame linearly in float64, given only the definition of the matrix."""
    height, width = frame.shape[:2]
    to_source = np.linalg.inv(matrix(height, width, *motion))
    y, x = np.mgrid[:height, :width]
    source_x, source_y, _ = np.einsum("ij,jyx->iyx", to_source, np.stack([x, y, np.ones_like(x)]))
    left, top = np.floor(source_x).astype(np.int64), np.floor(source_y).astype(np.int64)
    right_share, low_share = (source_x - left)[..., None], (source_y - top)[..., None]

    def row(y: NDArray[np.int64]) -> NDArray[np.float64]:
        ends = [frame[y % height, (left + step) % width].astype(float) for step in (0, 1)]
        return np.asarray(ends[0] * (1 - right_share) + ends[1] * right_share)

    return np.asarray(row(top) * (1 - low_share) + row(top + 1) * low_share)


def moved(frame: Frame, *motion: float, border: str = WRAP) -> Frame:
    return warp(frame, matrix(*frame.shape[:2], *motion), border)


def test_without_motion_the_matrix_is_the_identity() -> None:
    assert np.array_equal(matrix(SIDE, SIDE, 0, 1, 0, 0), np.eye(3))


def test_the_matrix_equals_one_computed_by_hand() -> None:
    # alpha = 2 cos 90 = 0, beta = 2 sin 90 = 2; R = (0 2 256-2*256; -2 0 2*256+256), and T adds R's columns
    # times (10, 3) to the last one: -256 + 2*3, 768 - 2*10.
    expected = [[0, 2, -250], [-2, 0, 748], [0, 0, 1]]
    assert matrix(SIDE, SIDE, 90, 2, 10, 3) == pytest.approx(np.array(expected), abs=1e-10)


def test_the_translation_comes_first() -> None:
    # A point that the translation moves to the centre stays there, whatever the rotation and the zoom.
    for angle, zoom in [(0, 1), (33, 1.5), (-120, 0.25)]:
        moved = matrix(SIDE, SIDE, angle, zoom, 40, -9) @ (256 - 40, 256 + 9, 1)
        assert moved == pytest.approx((256, 256, 1))


@pytest.mark.parametrize("size", [(512, 512), (33, 47), (64, 16), (1, 1)])
def test_no_motion_is_exact(size: tuple[int, int]) -> None:
    frame = noise_frame(*size)
    assert np.array_equal(moved(frame, 0, 1, 0, 0), frame)


@pytest.mark.parametrize(
    ("x_px", "y_px"), [(1, 0), (0, 1), (-7, 100), (511, -511), (600, -1300), (10**6, -(10**6)), (10**12, 7)]
)
def test_translations_by_whole_pixels_are_exact_and_wrap_around(x_px: int, y_px: int) -> None:
    frame = noise_frame()
    expected = np.roll(frame, (y_px % SIDE, x_px % SIDE), (0, 1))
    assert np.array_equal(moved(frame, 0, 1, x_px, y_px), expected)


@pytest.mark.parametrize(
    ("x", "y", "motion", "place"),
    [
        pytest.param(100, 200, (0, 1, 10, 0), (110, 200), id="right"),
        pytest.param(100, 200, (0, 1, 0, 10), (100, 210), id="down"),
        pytest.param(306, 256, (90, 1, 0, 0), (256, 206), id="counter-clockwise about the centre"),
        pytest.param(306, 236, (0, 2, 0, 0), (356, 216), id="magnified about the centre"),
        pytest.param(256, 256, (0, 2, 10, 0), (276, 256), id="the zoom scales the translation"),
    ],
)
def test_a_dot_moves(x: int, y: int, motion: Motion, place: tuple[int, int]) -> None:
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[y, x] = 200
    weight = moved(frame, *motion)[..., 0].astype(float)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    assert (np.average(columns, weights=weight), np.average(rows, weights=weight)) == pytest.approx(place, abs=0.05)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (96, 160)])
@pytest.mark.parametrize(
    "motion", [(0, 1, 0.5, 0), (-10, 1.04, 3.3, -7.7), (37, 0.3, 100.25, 50), (3610, 3, 700, -900), (0, 1e-6, 5, 0)]
)
def test_every_pixel_is_sampled_linearly(size: tuple[int, int], motion: Motion) -> None:
    frame = noise_frame(*size)
    assert np.abs(moved(frame, *motion) - sampled_by_hand(frame, motion)).max() < 1


EXTREMES = [
    (0, 1e-6, 0, 0),
    (0, 1e6, 0, 0),
    (1e6, 1, 0, 0),
    (0, 1, 1e6, -1e6),
    (12, 1e-300, 1, 1),
    (12, 1e300, 1, 1),
    (1e15, 1, 1e300, -1e300),
]


@pytest.mark.parametrize("motion", EXTREMES)
def test_extreme_motion_gives_a_frame(motion: Motion) -> None:
    frame = noise_frame()
    warped = moved(frame, *motion)
    assert (warped.shape, str(warped.dtype)) == (frame.shape, "uint8")


@pytest.mark.limits
@pytest.mark.parametrize("motion", EXTREMES)
def test_extreme_motion_takes_under_500_ms(motion: Motion) -> None:
    frame = noise_frame()
    started_s = time.thread_time()
    moved(frame, *motion)
    assert time.thread_time() - started_s < 0.5


@pytest.mark.parametrize("zoom", [0, -1, -1e-9, 1e-320, math.nan])
def test_a_zoom_without_an_inverse_is_an_error(zoom: float) -> None:
    with pytest.raises(ValueError, match="zoom"):
        moved(noise_frame(), 0, zoom, 0, 0)


def test_the_given_frame_stays_unchanged() -> None:
    frame = noise_frame()
    warped = moved(frame, 0, 1, 0, 0)
    warped[:] = 0
    assert np.array_equal(frame, noise_frame())


@pytest.mark.parametrize("x_px", [5, -5, 600, 2 * 512 * 10**7 + 5])
def test_what_comes_in_from_outside_is_the_other_side_a_reflection_or_the_edge(x_px: int) -> None:
    frame = noise_frame()
    wanted = np.arange(SIDE) - x_px
    turned = wanted % (2 * SIDE)
    sources = {
        "wrap": wanted % SIDE,
        "reflect": np.where(turned < SIDE, turned, 2 * SIDE - 1 - turned),
        "replicate": wanted.clip(0, SIDE - 1),
    }
    for border, columns in sources.items():
        assert np.array_equal(moved(frame, 0, 1, x_px, 0, border=border), frame[:, columns]), border
