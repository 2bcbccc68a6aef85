from collections import Counter
from functools import cache

import cv2
import numpy as np
import pytest

from workshop.judging.picture_measures import picture_measures
from workshop.pictures import paintings
from workshop.pictures.canvas import COLOURS

SHAPES = ("circle", "square", "triangle", "star")


def lab(colours):
    return cv2.cvtColor(np.asarray(colours, np.float32), cv2.COLOR_RGB2LAB)


def named_colours(picture):
    """Return the names of a picture's two commonest colours, the commoner first."""
    small = lab(cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA) / 255)
    palette = lab(np.stack(list(COLOURS.values()))[None])[0]
    nearest = np.linalg.norm(small[:, :, None] - palette, axis=3).argmin(axis=2)
    return [list(COLOURS)[index] for index, _ in Counter(nearest.ravel().tolist()).most_common(2)]


def colours_in(caption):
    return [word for word in caption.replace(",", "").split() if word in COLOURS]


@cache
def painted(seed, class_name):
    return paintings.picture(seed, class_name)


def captioned(words, class_name, count):
    """Return the first pictures of a class with all these words in their captions."""
    made = (painted(seed, class_name) for seed in range(100, 400))
    matching = (one.picture for one in made if set(words.split()) <= set(one.caption.replace(",", "").split()))
    return [next(matching) for _ in range(count)]


def light(picture):
    return float(lab(picture / np.float32(255))[..., 0].mean())


def test_a_seed_makes_the_same_picture_every_time():
    first, second, other = paintings.picture(5), paintings.picture(5), paintings.picture(6)
    assert np.array_equal(first.picture, second.picture)
    assert first[1:] == second[1:]
    assert not np.array_equal(first.picture, other.picture)


def test_a_seed_without_a_class_draws_one():
    drawn = paintings.picture(3)
    assert drawn.class_name == paintings.class_of(3)
    assert np.array_equal(drawn.picture, paintings.picture(3, drawn.class_name).picture)


def test_every_class_is_drawn():
    counts = Counter(paintings.class_of(seed) for seed in range(1000))
    assert set(paintings.CLASSES) < set(counts) == set(paintings.PAINTERS)
    assert min(counts.values()) > 40


@pytest.mark.parametrize("name", paintings.PAINTERS)
def test_a_picture_is_512_by_512_rgb_with_a_caption(name, painted):
    for one in painted(name):
        assert one.picture.shape == (512, 512, 3)
        assert one.picture.dtype == np.uint8
        assert one.picture.std() > 5
        assert one.class_name == name
        assert one.caption == one.caption.lower().strip()
        assert " a orange" not in f" {one.caption}"


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_colours_of_its_caption(name, painted):
    for one in painted(name):
        colours = colours_in(one.caption)
        assert name in one.caption
        assert 1 <= len(colours) <= 2
        seen = named_colours(one.picture)
        assert set(colours) <= set(seen)


def test_shapes_differ_in_roundness_and_corners(painted):
    shapes = {name: [picture_measures(one.picture) for one in painted(name)] for name in SHAPES}
    assert min(one["circularity"] for one in shapes["circle"]) > 0.85
    assert min(one["extent"] for one in shapes["square"]) > 0.93
    assert {one["corners"] for one in shapes["square"]} == {4}
    assert {one["corners"] for one in shapes["triangle"]} == {3}
    assert max(one["solidity"] for one in shapes["star"]) < 0.75


def test_big_is_bigger_than_small():
    big, small = (captioned(word, "circle", 3) for word in ("big", "small"))
    areas = [[picture_measures(one)["area"] for one in some] for some in (big, small)]
    assert min(areas[0]) > 1.3 * max(areas[1])


def test_a_gradient_has_its_colours_at_its_ends():
    (picture,) = captioned("gradient top to bottom", "gradient", 1)
    assert np.abs(picture[0].astype(int) - picture[0, 0]).max() == 0
    assert np.abs(picture[0].astype(int) - picture[-1]).max() > 40


def test_night_is_dark_and_snow_is_light(painted):
    night = [light(one.picture) for one in painted("night sky")]
    snow = [light(one.picture) for one in painted("snow")]
    assert max(night) < 25
    assert min(snow) > 60


def test_a_sunset_is_warm_and_the_sea_is_not(painted):
    def warmth(picture):
        return float(picture[..., 0].mean()) - float(picture[..., 2].mean())

    assert min(warmth(one.picture) for one in painted("sunset")) > max(warmth(one.picture) for one in painted("sea"))


def test_autumn_is_orange_and_a_green_forest_green():
    autumn, green = captioned("autumn", "forest", 3), captioned("green", "forest", 3)
    assert all(picture[150:300, ..., 0].mean() > picture[150:300, ..., 1].mean() + 15 for picture in autumn)
    assert all(picture[200:400, ..., 1].mean() > picture[200:400, ..., 0].mean() + 15 for picture in green)


def test_a_full_moon_is_bright_and_stars_are_small():
    def largest_light(picture):
        _, mask = cv2.threshold(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 190, 255, cv2.THRESH_BINARY)
        return cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA].max()

    assert min(map(largest_light, captioned("full moon", "night sky", 3))) > 1000
    assert largest_light(captioned("night sky stars", "night sky", 1)[0]) > 0


def test_a_portrait_has_the_hair_and_ground_of_its_caption():
    for words, blue in (("blue background", True), ("yellow background", False)):
        for picture in captioned(words, "face", 1):
            corner = picture[:60, :60].astype(int).mean(axis=(0, 1))
            assert (corner[2] > corner[0] + 20) == blue
    black, blond = (captioned(f"{name} hair", "face", 1) for name in ("black", "blond"))
    crowns = [[light(picture[90:110, 225:290]) for picture in some] for some in (black, blond)]
    assert max(crowns[0]) + 20 < min(crowns[1])


def test_women_have_long_hair_or_men_none(painted):
    """Beside the neck there is hair on a woman's portrait, and the ground on a man's."""

    def beside_neck(picture):
        ground = picture[330, 5].astype(int)
        return np.abs(picture[330, 150:180].astype(int) - ground).mean()

    women, men = ([beside_neck(picture) for picture in captioned(word, "face", 5)] for word in ("woman", "man"))
    assert np.median(women) > 2 * np.median(men) + 5
