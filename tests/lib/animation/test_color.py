import itertools

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


def natural_frame(seed: int, side: int = SIDE) -> Frame:
    """Draw smooth shapes with edges and a little grain, different in each channel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.empty((side, side, 3))
    for channel in range(3):
        a, b, c = rng.uniform(1, 9, 3)
        picture[..., channel] = 90 + 60 * np.sin(a * x + b * y * y) + 70 * (np.hypot(x - 0.4, y - c / 9) < 0.3)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


RANDOM = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
FRAMES = {
    "random": RANDOM,
    "natural": natural_frame(2),
    "another, of another size": natural_frame(3, 96),
    "dark": natural_frame(4) // 8,
    "black": np.zeros_like(RANDOM),
    "white": np.full_like(RANDOM, 255),
    "purple": np.full_like(RANDOM, (90, 17, 201)),
    "two levels": np.where(RANDOM < 128, np.uint8(0), np.uint8(255)),
}


def matched_by_scikit_image(mode: str, frame: Frame, reference: Frame) -> Frame:
    if mode not in SPACES:
        return np.asarray(match_histograms(frame, reference, channel_axis=-1))
    to_space, to_rgb = SPACES[mode]
    frame, reference = (np.asarray(cv2.cvtColor(picture, to_space)) for picture in (frame, reference))
    return np.asarray(cv2.cvtColor(match_histograms(frame, reference, channel_axis=-1), to_rgb))


def test_none_turns_matching_off() -> None:
    frame = FRAMES["natural"]
    assert np.array_equal(ColorMatcher("None", FRAMES["purple"]).match(frame), natural_frame(2))


@pytest.mark.parametrize("mode", COLOR_COHERENCE[1:])
def test_the_result_equals_scikit_image_within_one_level(mode: str) -> None:
    for reference_name, frame_name in itertools.product(FRAMES, repeat=2):
        reference, frame = FRAMES[reference_name], FRAMES[frame_name]
        frame.flags.writeable = reference.flags.writeable = False  # both stay unchanged
        matched = ColorMatcher(mode, reference).match(frame)
        expected = matched_by_scikit_image(mode, frame, reference)
        assert matched.dtype == np.uint8
        difference = np.abs(matched.astype(int) - expected).max()
        assert difference <= 1, f"{frame_name} to {reference_name}: {difference} levels"


def test_the_reference_matched_to_itself_is_unchanged() -> None:
    reference = FRAMES["natural"]
    assert np.array_equal(ColorMatcher("Match Frame 0 RGB", reference).match(reference), reference)


def test_an_unknown_mode_is_a_user_error() -> None:
    with pytest.raises(UserError, match="color_coherence is 'Match Frame 0 XYZ', but must be one of None, Match"):
        ColorMatcher("Match Frame 0 XYZ", FRAMES["natural"])
