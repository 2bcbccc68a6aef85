import numpy as np
import pytest
from numpy.typing import NDArray

from workshop.examples import Example
from workshop.judging.evaluate import (
    EACH,
    HELD_OUT_SEED,
    colour_name,
    colours_met,
    held_out,
)
from workshop.judging.judge import to_lab
from workshop.pictures.canvas import COLOURS
from workshop.pictures.paintings import picture


def flat(name: str) -> NDArray[np.uint8]:
    return np.full((512, 512, 3), np.round(255 * COLOURS[name]), np.uint8)


@pytest.mark.parametrize("name", COLOURS)
def test_every_colour_is_nearest_to_its_own_name(name: str) -> None:
    assert colour_name(to_lab(flat(name), 96)) == name


def test_colours_count_where_the_caption_puts_them() -> None:
    right, wrong = flat("blue"), flat("blue")
    right[128:384, 128:384] = flat("red")[0, 0]
    examples = [Example(right, "a red square on blue", "square")] * 2 + [Example(right, "a red square", "square")]
    assert colours_met(examples, [right, wrong, wrong]) == (2, 1, 2)


def test_held_out_captions_are_distinct_and_the_unseen_ones_come_first() -> None:
    classes = ("circle", "sunset", "face")
    seen = {picture(HELD_OUT_SEED + n, name).caption for n in range(3) for name in classes}
    examples = held_out("pictures", seen, classes, tries=60)
    assert len({one.caption for one in examples}) == len(examples) == len(classes) * EACH
    for name in classes:
        known = [one.caption in seen for one in examples if one.class_name == name]
        assert known == sorted(known)
        assert sum(known) <= 3
