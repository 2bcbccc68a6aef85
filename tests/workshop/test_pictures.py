from collections import Counter

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from tests.workshop.conftest import Rendered
from workshop.examples import Example
from workshop.judging.judge import picture_measures
from workshop.pictures import paintings
from workshop.pictures.canvas import COLOURS

Pixels = NDArray[np.uint8]

SHAPES = ("circle", "square", "triangle", "star")


def lab(colours: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(np.asarray(colours, np.float32), cv2.COLOR_RGB2LAB), np.float32)


def named_colours(picture: Pixels) -> list[str]:
    """Return the names of a picture's two commonest colours, the commoner first."""
    small = lab(np.asarray(cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)) / 255)
    palette = lab(np.stack(list(COLOURS.values()))[None])[0]
    nearest = np.linalg.norm(small[:, :, None] - palette, axis=3).argmin(axis=2)
    return [list(COLOURS)[index] for index, _ in Counter(nearest.ravel().tolist()).most_common(2)]


def words_of(one: Example) -> list[str]:
    return one.caption.replace(",", "").split()


def captioned(rendered: Rendered, words: str, class_name: str, count: int = 1) -> list[Pixels]:
    """Return the first pictures of a class with all these words in their captions."""
    made = (rendered.picture(seed, class_name) for seed in range(300))
    matching = (one.picture for one in made if set(words.split()) <= set(words_of(one)))
    return [next(matching) for _ in range(count)]


def light(picture: Pixels) -> float:
    return float(lab(picture / np.float32(255))[..., 0].mean())


def test_a_seed_makes_the_same_picture_every_time_of_a_class_that_it_draws() -> None:
    first, again, other = paintings.picture(5), paintings.picture(5, paintings.class_of(5)), paintings.picture(6)
    assert np.array_equal(first.picture, again.picture)
    assert first[1:] == again[1:]
    assert first.class_name == paintings.class_of(5)
    assert not np.array_equal(first.picture, other.picture)


def test_every_class_is_drawn() -> None:
    counts = Counter(paintings.class_of(seed) for seed in range(1000))
    assert set(paintings.CLASSES) < set(counts) == set(paintings.PAINTERS)
    assert min(counts.values()) > 40


@pytest.mark.parametrize("name", paintings.PAINTERS)
def test_a_picture_is_512_by_512_rgb_with_a_caption(name: str, rendered: Rendered) -> None:
    for one in rendered.painted(name):
        assert one.picture.shape == (512, 512, 3)
        assert one.picture.dtype == np.uint8
        assert one.picture.std() > 5
        assert one.class_name == name
        assert one.caption == one.caption.lower().strip()
        assert " a orange" not in f" {one.caption}"


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_colours_of_its_caption(name: str, rendered: Rendered) -> None:
    for one in rendered.painted(name):
        colours = [word for word in words_of(one) if word in COLOURS]
        assert name in one.caption
        assert 1 <= len(colours) <= 2
        assert set(colours) <= set(named_colours(one.picture))


def test_shapes_differ_in_roundness_and_corners(rendered: Rendered) -> None:
    shapes = {name: [picture_measures(one.picture) for one in rendered.painted(name)] for name in SHAPES}
    assert min(one["circularity"] for one in shapes["circle"]) > 0.85
    assert min(one["extent"] for one in shapes["square"]) > 0.93
    assert {one["corners"] for one in shapes["square"]} == {4}
    assert {one["corners"] for one in shapes["triangle"]} == {3}
    assert max(one["solidity"] for one in shapes["star"]) < 0.75


def test_a_portrait_has_the_hair_and_ground_of_its_caption(rendered: Rendered) -> None:
    for words, blue in (("blue background", True), ("yellow background", False)):
        for picture in captioned(rendered, words, "face"):
            corner = picture[:60, :60].astype(int).mean(axis=(0, 1))
            assert (corner[2] > corner[0] + 20) == blue
    black, blond = (captioned(rendered, f"{name} hair", "face") for name in ("black", "blond"))
    crowns = [[light(picture[90:110, 225:290]) for picture in some] for some in (black, blond)]
    assert max(crowns[0]) + 20 < min(crowns[1])
