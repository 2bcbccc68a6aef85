from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workshop.conftest import Rendered
from workshop.judging.judge import Judge, grid_power, judge_of, music_measures, picture_measures
from workshop.pictures import paintings

Pixels = NDArray[np.uint8]
BLANK = np.full((512, 512), 255, np.uint8)


def row_of(frequency_hz: float) -> int:
    """Return the row of a picture where a frequency lies."""
    return 511 - int(512 * np.log(1 + frequency_hz / 700) / np.log(1 + 10_000 / 700))


def lines(*frequencies_hz: float) -> Pixels:
    picture = BLANK.copy()
    for frequency_hz in frequencies_hz:
        picture[row_of(frequency_hz) - 1 : row_of(frequency_hz) + 2] = 0
    return picture


def strokes(per_s: float) -> Pixels:
    picture = BLANK.copy()
    for column in np.arange(5, 500, 100 / per_s).astype(int):
        picture[:, column : column + 4] = 60
    return picture


@pytest.mark.parametrize("per_s", [1, 2, 5])
def test_onsets_are_counted(per_s: int) -> None:
    assert music_measures(strokes(per_s))["onsets_per_s"] == pytest.approx(per_s, rel=0.1)


def test_strokes_are_percussive_and_lines_are_not() -> None:
    assert music_measures(strokes(3))["percussive_share"] > 0.9
    assert music_measures(lines(220, 440, 880))["percussive_share"] < 0.1


@pytest.mark.parametrize("frequency_hz", [110, 440, 880])
def test_harmonics_give_the_pitch(frequency_hz: float) -> None:
    measured = music_measures(lines(*(frequency_hz * k for k in range(1, 7))))
    assert measured["pitch_semitones"] == pytest.approx(12 * np.log2(frequency_hz / 440), abs=1)
    assert measured["pitch_range_semitones"] == 0


def test_lines_are_counted() -> None:
    assert np.expm1(music_measures(lines(300, 600, 1500, 3000))["lines"]) == pytest.approx(4, abs=0.1)


def test_blank_pictures_have_finite_measures_and_three_channels_measure_as_one() -> None:
    for measures in (music_measures(BLANK), picture_measures(np.zeros((512, 512, 3), np.uint8))):
        assert np.isfinite(list(measures.values())).all()
    picture = strokes(2)
    assert music_measures(np.repeat(picture[..., None], 3, axis=2)) == music_measures(picture)


@pytest.mark.parametrize("side_px", [64, 256, 512])
def test_a_square_has_four_corners_at_any_size(side_px: int) -> None:
    picture: Pixels = np.full((512, 512, 3), (20, 20, 90), np.uint8)
    picture[156:356, 156:356] = 240
    measured = picture_measures(np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA)))
    assert measured["corners"] == 4
    assert measured["extent"] > 0.9
    assert measured["area"] == pytest.approx(200 / 512, rel=0.05)


@pytest.mark.parametrize("period_px", [8, 16, 32])
def test_a_grid_has_power_at_its_period(period_px: int, rendered: Rendered) -> None:
    sea = rendered.picture(0, "sea").picture
    blocks = sea.reshape(512 // period_px, period_px, 512 // period_px, period_px, 3).mean(axis=(1, 3))
    blocky = blocks.repeat(period_px, axis=0).repeat(period_px, axis=1).astype(np.uint8)
    assert grid_power(sea, period_px) < 2.5
    assert grid_power(blocky, period_px) > 20


def softened(image: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5))


@pytest.mark.parametrize("change", [np.asarray, softened])
def test_held_out_pictures_are_nearest_to_their_own_class(
    change: Callable[[Pixels], Pixels], rendered: Rendered, pictures_judged: Judge
) -> None:
    held_out = [one for name in paintings.CLASSES for one in rendered.painted(name)]
    right = [pictures_judged.nearest_class(change(one.picture)) == one.class_name for one in held_out]
    assert np.mean(right) >= 0.95


@pytest.fixture(scope="module")
def pictures_judged() -> Judge:
    return judge_of("pictures", each=6)


def test_held_out_clips_are_nearest_to_their_own_instrument(rendered: Rendered) -> None:
    names = ("drums", "bass", "piano", "flute", "choir")
    fitted = [rendered.clip(seed, name) for name in names for seed in range(4)]
    judge = Judge(music_measures, fitted)
    held_out = [rendered.clip(seed, name) for name in names for seed in (4, 5)]
    assert np.mean([judge.nearest_class(clip.picture) == clip.class_name for clip in held_out]) >= 0.9
