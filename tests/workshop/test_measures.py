from collections.abc import Callable, Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workshop.conftest import Rendered
from workshop.judging.classifier import FIRST_SEED, Classifier
from workshop.judging.music_measures import music_measures
from workshop.judging.picture_measures import centre_colour, ground_colour, picture_measures
from workshop.music import clips
from workshop.music.clips import Clip
from workshop.pictures import paintings
from workshop.pictures.paintings import Picture

Pixels = NDArray[np.uint8]

BLANK = np.full((512, 512), 255, np.uint8)


def row_of(frequency_hz: float) -> int:
    """The row of a picture where a frequency lies."""
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


def square(colour: tuple[int, int, int], ground: tuple[int, int, int], size: int = 200) -> Pixels:
    picture: Pixels = np.full((512, 512, 3), ground, np.uint8)
    picture[256 - size // 2 : 256 + size // 2, 256 - size // 2 : 256 + size // 2] = colour
    return picture


@pytest.mark.parametrize("per_s", [1, 2, 5])
def test_onsets_are_counted(per_s: int) -> None:
    assert music_measures(strokes(per_s))["onsets_per_s"] == pytest.approx(per_s, rel=0.1)


def test_strokes_are_percussive_and_lines_are_not() -> None:
    assert music_measures(strokes(3))["percussive_share"] > 0.9
    assert music_measures(lines(220, 440, 880))["percussive_share"] < 0.1


@pytest.mark.parametrize("frequency_hz", [110, 440, 1760])
def test_the_strongest_line_has_its_pitch(frequency_hz: float) -> None:
    measured = music_measures(lines(frequency_hz))
    assert measured["pitch_semitones"] == pytest.approx(12 * np.log2(frequency_hz / 440), abs=1)
    assert measured["leaps"] == 0


def test_lines_are_counted() -> None:
    counted = music_measures(lines(300, 600, 1500, 3000))["lines"]
    assert np.expm1(counted) == pytest.approx(4, abs=0.1)


def test_harmonics_are_more_harmonic_than_a_bell() -> None:
    harmonic = music_measures(lines(*(440 * k for k in range(1, 9))))["harmonicity"]
    bell = music_measures(lines(*(440 * ratio for ratio in (1, 1.2, 1.5, 2.52, 3.4, 4.17, 5.43, 6.79))))["harmonicity"]
    assert harmonic > 2 * bell


def test_silence_has_measures_too() -> None:
    assert np.isfinite(list(music_measures(BLANK).values())).all()
    assert music_measures(BLANK)["onsets_per_s"] == 0


def test_three_channels_measure_as_one() -> None:
    picture = strokes(2)
    assert music_measures(np.repeat(picture[..., None], 3, axis=2)) == music_measures(picture)


def test_colours_of_centre_and_ground() -> None:
    picture = square((214, 48, 44), (48, 92, 204))
    red, blue = cv2.cvtColor(np.array([[[214, 48, 44], [48, 92, 204]]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    assert centre_colour(picture) == pytest.approx(red, abs=1)
    assert ground_colour(picture) == pytest.approx(blue, abs=1)


@pytest.mark.parametrize("size", [64, 256, 512])
def test_a_square_is_square_at_any_size(size: int) -> None:
    picture = cv2.resize(square((240, 240, 240), (20, 20, 90)), (size, size), interpolation=cv2.INTER_AREA)
    measured = picture_measures(np.asarray(picture))
    assert measured["corners"] == 4
    assert measured["extent"] > 0.9
    assert measured["area"] == pytest.approx(200 / 512, rel=0.05)


def test_a_blank_picture_has_measures_too() -> None:
    assert np.isfinite(list(picture_measures(np.zeros((512, 512, 3), np.uint8)).values())).all()


def accuracy(
    classifier: Classifier, held_out: Iterable[Clip | Picture], change: Callable[[Pixels], Pixels] = np.asarray
) -> float:
    return float(np.mean([classifier.nearest_class(change(one.picture)) == one.class_name for one in held_out]))


def softened(image: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5))


def test_held_out_music_is_nearest_to_its_own_class_and_noise_to_none(
    music_classifier: Classifier, rendered: Rendered
) -> None:
    held_out = [clip for name in clips.CLASSES for clip in rendered.solos(name)]
    assert music_classifier.names == clips.CLASSES
    assert accuracy(music_classifier, held_out) >= 0.95
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    farthest = max(music_classifier.distances(clip.picture).min() for clip in held_out)
    assert music_classifier.distances(noise).min() > 1.5 * farthest


def test_held_out_pictures_are_nearest_to_their_own_class(picture_classifier: Classifier, rendered: Rendered) -> None:
    held_out = [one for name in paintings.CLASSES for one in rendered.painted(name)]
    assert picture_classifier.names == paintings.CLASSES
    assert accuracy(picture_classifier, held_out) >= 0.95
    assert accuracy(picture_classifier, held_out, softened) >= 0.95


def test_the_classifiers_seeds_are_none_that_is_trained_on() -> None:
    assert FIRST_SEED >= 10_000_000
