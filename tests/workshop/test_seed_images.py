import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lib.audio.seed_images import MUSICAL_SEEDS, SEED_IMAGE_IDS, load, png_path
from workshop.seeds.masks import MASKS

GRADIENTS = {
    # name: length of the gradient in rows, first silent row
    "mask_gradient_top_70": (259, 258),
    "mask_graident_top_fifth_75": (148, 151),
}


def widths_at_half_depth(levels: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return (first, last) column of each run that is darker than half way to the deepest level."""
    dark = np.concatenate([[False], levels < (255 + 203) / 2, [False]])
    edges = np.flatnonzero(np.diff(dark.astype(int)))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def test_eleven_ids_in_the_documented_order() -> None:
    assert SEED_IMAGE_IDS == (
        "agile",
        "marim",
        "mask_beat_lines_80",
        "mask_gradient_dark",
        "mask_gradient_top_70",
        "mask_graident_top_fifth_75",
        "mask_top_third_75",
        "mask_top_third_95",
        "motorway",
        "og_beat",
        "vibes",
    )
    assert set(MUSICAL_SEEDS) | set(MASKS) == set(SEED_IMAGE_IDS)


@pytest.mark.parametrize("name", SEED_IMAGE_IDS)
def test_every_seed_is_a_grey_png_of_512_by_512(name: str) -> None:
    image = load(name)
    assert image.shape == (512, 512)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    with Image.open(png_path(name)) as png:
        assert (png.format, png.mode) == ("PNG", "L")


def test_the_pngs_are_small_enough_to_keep_in_the_repository() -> None:
    assert sum(png_path(name).stat().st_size for name in SEED_IMAGE_IDS) < 2.5e6


@pytest.mark.parametrize("name", ["", "nothing", "../../../README", "mask_gradient_top_fifth_75"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        load(name)


def test_loading_imports_neither_the_synthesizer_nor_torch() -> None:
    code = (
        "import sys; from lib.audio.seed_images import load; load('vibes');"
        "print([m for m in sys.modules if m in ('torch', 'scipy') or m.startswith('lib.audio.seed_images.')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_png_is_what_its_numbers_make(name: str) -> None:
    assert np.array_equal(load(name), MASKS[name]())


@pytest.mark.parametrize(("name", "rows", "level"), [("mask_top_third_75", 180, 192), ("mask_top_third_95", 165, 242)])
def test_top_third_is_one_level_and_silence_below(name: str, rows: int, level: int) -> None:
    image = load(name)
    assert (image[:rows] == level).all()
    assert (image[rows:] == 255).all()


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_falls_from_165_to_silence(name: str) -> None:
    length, silent_from_row = GRADIENTS[name]
    image = load(name)
    assert (image == image[:, :1]).all()
    levels = image[:, 0].astype(int)
    assert (levels[:5] == 165).all()
    assert (np.diff(levels) >= 0).all()
    assert (levels[:silent_from_row] < 255).all()
    assert (levels[silent_from_row:] == 255).all()
    for row in range(silent_from_row):
        t = min(max((row - 4) / length, 0), 1)
        assert levels[row] == round(165 + 90 * (t + t * t * (3 - 2 * t)) / 2)


def test_beat_lines_are_soft_lines_on_the_backbeats_and_two_halves_at_the_edges() -> None:
    levels = load("mask_beat_lines_80")[0].astype(float)
    assert levels.min() == 203
    lines = widths_at_half_depth(levels)
    assert len(lines) == 6
    for (first, last), column in zip(lines[1:-1], (64.0, 191.6, 319.6, 446.8), strict=True):
        assert (first + last) / 2 == pytest.approx(column, abs=0.5)
        assert 11 <= last - first + 1 <= 12
        around = slice(first - 10, last + 11)
        centre = np.average(np.arange(512)[around], weights=255 - levels[around])
        assert centre == pytest.approx(column, abs=0.05)
        assert np.abs(np.diff(levels[around])).max() < 10  # soft
    assert (lines[0][0], lines[-1][1]) == (0, 511)
    assert (levels[1], levels[509]) == (203, 203)
    assert levels[95:160].min() == 255


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_mean_grey(name: str) -> None:
    assert 170 <= load(name).mean() <= 195
    assert load(name).min() == 0
