import math
import time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lib.animation.warp import matrix, warp

Frame = NDArray[np.uint8]
Motion = tuple[float, float, float, float]

SIDE = 512
CENTRE = SIDE // 2


def noise_frame(height: int = SIDE, width: int = SIDE) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_frame() -> Frame:
    return np.asarray(cv2.GaussianBlur(noise_frame(), (0, 0), 3, borderType=cv2.BORDER_REFLECT))


def dot(x: int, y: int) -> Frame:
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[y, x] = 200
    return frame


def dot_place(frame: Frame) -> tuple[float, float]:
    """Return the centre of mass, (x, y)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    weight = frame[..., 0] / frame[..., 0].sum(dtype=float)
    return (x * weight).sum(), (y * weight).sum()


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


def test_without_motion_the_matrix_is_the_identity() -> None:
    assert np.array_equal(matrix(SIDE, SIDE, 0, 1, 0, 0), np.eye(3))


def test_the_matrix_equals_one_computed_by_hand() -> None:
    # alpha = 2 cos 90 = 0, beta = 2 sin 90 = 2; R = (0 2 256-2*256; -2 0 2*256+256), and T adds R's columns
    # times (10, 3) to the last one: -256 + 2*3, 768 - 2*10.
    expected = [[0, 2, -250], [-2, 0, 748], [0, 0, 1]]
    assert matrix(SIDE, SIDE, 90, 2, 10, 3) == pytest.approx(np.array(expected), abs=1e-10)


def test_the_matrix_of_a_small_angle_equals_one_computed_by_hand() -> None:
    alpha, beta = 1.04 * math.cos(math.radians(10)), 1.04 * math.sin(math.radians(10))
    turn = np.array(
        [
            [alpha, beta, (1 - alpha) * 256 - beta * 256],
            [-beta, alpha, beta * 256 + (1 - alpha) * 256],
            [0, 0, 1],
        ]
    )
    shift = np.array([[1, 0, 5], [0, 1, -7], [0, 0, 1]])
    assert matrix(SIDE, SIDE, 10, 1.04, 5, -7) == pytest.approx(turn @ shift, abs=1e-9)


def test_the_translation_comes_first() -> None:
    # A point that the translation moves to the centre stays there, whatever the rotation and the zoom.
    for angle, zoom in [(0, 1), (33, 1.5), (-120, 0.25)]:
        moved = matrix(SIDE, SIDE, angle, zoom, 40, -9) @ (256 - 40, 256 + 9, 1)
        assert moved == pytest.approx((256, 256, 1))


@pytest.mark.parametrize("size", [(512, 512), (33, 47), (64, 16), (1, 1)])
def test_no_motion_is_exact(size: tuple[int, int]) -> None:
    frame = noise_frame(*size)
    assert np.array_equal(warp(frame, 0, 1, 0, 0), frame)


@pytest.mark.parametrize(
    ("x_px", "y_px"), [(1, 0), (0, 1), (-7, 100), (511, -511), (600, -1300), (10**6, -(10**6)), (10**12, 7)]
)
def test_translations_by_whole_pixels_are_exact_and_wrap_around(x_px: int, y_px: int) -> None:
    frame = noise_frame()
    expected = np.roll(frame, (y_px % SIDE, x_px % SIDE), (0, 1))
    assert np.array_equal(warp(frame, 0, 1, x_px, y_px), expected)


def test_a_positive_translation_moves_the_picture_right_and_down() -> None:
    assert dot_place(warp(dot(100, 200), 0, 1, 10, 0)) == pytest.approx((110, 200))
    assert dot_place(warp(dot(100, 200), 0, 1, 0, 10)) == pytest.approx((100, 210))


def test_steps_of_translation_add_up() -> None:
    frame = noise_frame()
    moved = frame
    for _ in range(20):
        moved = warp(moved, 0, 1, 3, -2)
    assert np.array_equal(moved, np.roll(frame, (-40, 60), (0, 1)))


def test_a_translation_by_half_a_pixel_is_the_mean_of_two_pixels() -> None:
    frame = noise_frame().astype(int)
    mean = (frame + np.roll(frame, 1, 1)) / 2
    assert np.abs(warp(noise_frame(), 0, 1, 0.5, 0) - mean).max() <= 0.5


def test_a_positive_angle_turns_counter_clockwise_about_the_centre() -> None:
    assert dot_place(warp(dot(CENTRE + 50, CENTRE), 90, 1, 0, 0)) == pytest.approx((CENTRE, CENTRE - 50))
    assert dot_place(warp(dot(CENTRE, CENTRE), 37, 1, 0, 0)) == pytest.approx((CENTRE, CENTRE), abs=0.05)


def test_whole_turns_change_nothing() -> None:
    frame = smooth_frame()
    difference = warp(frame, 10 + 360 * 1000, 1, 0, 0).astype(int) - warp(frame, 10, 1, 0, 0)
    assert np.abs(difference).max() <= 1


def test_zoom_above_1_magnifies_about_the_centre() -> None:
    place = dot_place(warp(dot(CENTRE + 50, CENTRE - 20), 0, 2, 0, 0))
    assert place == pytest.approx((CENTRE + 100, CENTRE - 40), abs=0.05)


def test_the_zoom_scales_the_translation() -> None:
    place = dot_place(warp(dot(CENTRE, CENTRE), 0, 2, 10, 0))
    assert place == pytest.approx((CENTRE + 20, CENTRE), abs=0.05)


def test_zooming_out_tiles_the_frame() -> None:
    small = warp(smooth_frame(), 0, 0.5, 0, 0)
    assert np.array_equal(small[:256], small[256:])
    assert np.array_equal(small[:, :256], small[:, 256:])


@pytest.mark.parametrize(
    "motion",
    [
        (0, 1.04, 0, 0),
        (10, 1, 0, 0),
        (-10, 1.04, 3.3, -7.7),
        (37, 0.3, 100.25, 50),
        (181, 3, 700, -900),
        (0, 0.9, 0, 0),
    ],
)
def test_every_pixel_is_sampled_linearly(motion: Motion) -> None:
    frame = noise_frame()
    assert np.abs(warp(frame, *motion) - sampled_by_hand(frame, motion)).max() < 1


def test_a_frame_that_is_not_square_is_sampled_linearly_too() -> None:
    frame = noise_frame(96, 160)
    motion = (20, 0.7, 30.5, -11)
    assert np.abs(warp(frame, *motion) - sampled_by_hand(frame, motion)).max() < 1


def test_a_tiny_zoom_is_sampled_in_the_right_places() -> None:
    frame = noise_frame()
    assert np.abs(warp(frame, 0, 1e-6, 5, 0) - sampled_by_hand(frame, (0, 1e-6, 5, 0))).max() < 1


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
    warped = warp(frame, *motion)
    assert (warped.shape, str(warped.dtype)) == (frame.shape, "uint8")


@pytest.mark.limits
@pytest.mark.parametrize("motion", EXTREMES)
def test_extreme_motion_takes_under_500_ms(motion: Motion) -> None:
    frame = noise_frame()
    started_s = time.thread_time()
    warp(frame, *motion)
    assert time.thread_time() - started_s < 0.5


@pytest.mark.parametrize("zoom", [0, -1, -1e-9, 1e-320, math.nan])
def test_a_zoom_without_an_inverse_is_an_error(zoom: float) -> None:
    with pytest.raises(ValueError, match="zoom"):
        warp(noise_frame(), 0, zoom, 0, 0)


def test_the_given_frame_stays_unchanged() -> None:
    frame = noise_frame()
    warped = warp(frame, 0, 1, 0, 0)
    warped[:] = 0
    assert np.array_equal(frame, noise_frame())
