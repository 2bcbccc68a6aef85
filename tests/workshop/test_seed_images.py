import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lib.audio.seed_images import MUSICAL_SEEDS, SEED_IMAGE_IDS, load, png_path
from workshop.seeds.masks import MASKS


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


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_mean_grey(name: str) -> None:
    assert 170 <= load(name).mean() <= 195
    assert load(name).min() == 0
