import itertools
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.exposure import match_histograms

from lib.animation.color import COLOR_COHERENCE, ColorMatcher
from lib.errors import UserError

Frame = NDArray[np.uint8]

SIDE = 256
SPACES = {
    "Match Frame 0 HSV": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB),
    "Match Frame 0 LAB": (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB),
}


def random_frame(seed: int, side: int = SIDE) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def natural_frame(seed: int, side: int = SIDE) -> Frame:
    """Draw smooth shapes with edges and a little grain, different in each channel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.empty((side, side, 3))
    for channel in range(3):
        a, b, c = rng.uniform(1, 9, 3)
        picture[..., channel] = 90 + 60 * np.sin(a * x + b * y * y) + 70 * (np.hypot(x - 0.4, y - c / 9) < 0.3)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def constant_frame(*color: int) -> Frame:
    return np.full((SIDE, SIDE, 3), color, np.uint8)


def hue_frame() -> Frame:
    hsv = np.full((SIDE, SIDE, 3), 255, np.uint8)
    hsv[..., 0] = np.arange(SIDE) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


FRAMES = {
    "random": random_frame(1),
    "natural": natural_frame(2),
    "another": natural_frame(3),
    "dark": natural_frame(4) // 8,
    "black": constant_frame(0, 0, 0),
    "white": constant_frame(255, 255, 255),
    "red": constant_frame(255, 0, 0),
    "purple": constant_frame(90, 17, 201),
    "two levels": np.where(random_frame(5) < 128, np.uint8(0), np.uint8(255)),
    "hues": hue_frame(),
}


def matched_by_scikit_image(mode: str, frame: Frame, reference: Frame) -> Frame:
    if mode not in SPACES:
        return np.asarray(match_histograms(frame, reference, channel_axis=-1))
    to_space, to_rgb = SPACES[mode]
    frame, reference = (np.asarray(cv2.cvtColor(picture, to_space)) for picture in (frame, reference))
    return np.asarray(cv2.cvtColor(match_histograms(frame, reference, channel_axis=-1), to_rgb))


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def median_ms(action: Callable[[], object], runs: int = 9) -> float:
    """Measure processor time, which the load of other programs doesn't affect."""
    action()
    times = []
    for _ in range(runs):
        start = time.thread_time()
        action()
        times.append(time.thread_time() - start)
    return 1000 * float(np.median(times))


def test_the_choices_are_the_documented_ones() -> None:
    assert COLOR_COHERENCE == ("None", "Match Frame 0 HSV", "Match Frame 0 LAB", "Match Frame 0 RGB")


def test_none_turns_matching_off() -> None:
    frame = FRAMES["natural"]
    assert np.array_equal(ColorMatcher("None", FRAMES["red"]).match(frame), natural_frame(2))


@pytest.mark.parametrize("mode", COLOR_COHERENCE[1:])
def test_the_result_equals_scikit_image_within_one_level(mode: str) -> None:
    for reference_name, frame_name in itertools.product(FRAMES, repeat=2):
        reference, frame = FRAMES[reference_name], FRAMES[frame_name]
        matched = ColorMatcher(mode, reference).match(frame)
        expected = matched_by_scikit_image(mode, frame, reference)
        assert matched.dtype == np.uint8
        difference = np.abs(matched.astype(int) - expected).max()
        assert difference <= 1, f"{frame_name} to {reference_name}: {difference} levels"


def test_a_frame_may_be_of_another_size_than_the_reference() -> None:
    frame, reference = natural_frame(6, 96), FRAMES["another"]
    matched = ColorMatcher("Match Frame 0 LAB", reference).match(frame)
    expected = matched_by_scikit_image("Match Frame 0 LAB", frame, reference)
    assert np.abs(matched.astype(int) - expected).max() <= 1


def test_the_reference_matched_to_itself_is_unchanged() -> None:
    reference = FRAMES["natural"]
    assert np.array_equal(ColorMatcher("Match Frame 0 RGB", reference).match(reference), reference)


@pytest.mark.parametrize("mode", COLOR_COHERENCE[1:])
def test_matching_again_does_not_drift(mode: str) -> None:
    matcher = ColorMatcher(mode, FRAMES["natural"])
    once = matcher.match(FRAMES["another"])
    many_times = once
    for _ in range(50):
        many_times = matcher.match(many_times)
    assert np.abs(many_times.mean((0, 1)) - once.mean((0, 1))).max() < 2


@pytest.mark.parametrize("mode", COLOR_COHERENCE[1:])
def test_a_faded_frame_gets_its_colours_back(mode: str) -> None:
    reference = FRAMES["natural"]
    faded = (reference * 0.5 + 60).astype(np.uint8)
    matched = ColorMatcher(mode, reference).match(faded)
    assert np.abs(matched.mean((0, 1)) - reference.mean((0, 1))).max() < 3
    assert np.abs(matched.std((0, 1)) - reference.std((0, 1))).max() < 3


def test_the_order_of_levels_is_kept() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None], (16, 1, 3))
    matched = ColorMatcher("Match Frame 0 RGB", FRAMES["natural"]).match(ramp)
    assert (np.diff(matched[0].astype(int), axis=0) >= 0).all()


def test_both_frames_stay_unchanged() -> None:
    reference, frame = natural_frame(2), natural_frame(3)
    ColorMatcher("Match Frame 0 RGB", reference).match(frame)
    assert np.array_equal(reference, natural_frame(2))
    assert np.array_equal(frame, natural_frame(3))


def test_an_unknown_mode_is_a_user_error() -> None:
    with pytest.raises(UserError, match="color_coherence is 'Match Frame 0 XYZ', but must be one of None, Match"):
        ColorMatcher("Match Frame 0 XYZ", FRAMES["natural"])


@pytest.mark.limits
@pytest.mark.parametrize("mode", COLOR_COHERENCE)
def test_a_frame_takes_under_10_ms_on_one_core(mode: str, one_thread: None) -> None:
    matcher, frame = ColorMatcher(mode, natural_frame(2, 512)), natural_frame(3, 512)
    assert median_ms(lambda: matcher.match(frame)) < 10


def test_a_read_only_frame_is_fine() -> None:
    frame = natural_frame(2)
    frame.flags.writeable = False
    assert ColorMatcher("Match Frame 0 LAB", frame).match(frame).shape == frame.shape
