from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.workshop.conftest import Rendered
from workshop.judging.music_measures import music_measures
from workshop.music import clips
from workshop.music.captions import NAMES, PLAIN, adjectives
from workshop.music.parts import Part
from workshop.seeds import make
from workshop.sound.loop import CLIP_SAMPLES, TEMPO_BPM

FLUTE = Part("flute", [], onsets_per_s=2.0, register=0.5, brightness=0.5, style="steady", echoes=False)


def measured(rendered: Rendered, word: str, class_name: str) -> list[dict[str, float]]:
    """Measure the first two clips of a class whose caption has a word."""
    captions = ((seed, clips.compose(seed, class_name).caption) for seed in range(1000))
    seeds = (seed for seed, caption in captions if word in caption.replace(",", "").split())
    return [music_measures(rendered.clip(next(seeds), class_name).picture) for _ in range(2)]


def test_a_seed_makes_the_same_clip_every_time_of_a_class_that_it_draws() -> None:
    first, again, other = clips.clip(3), clips.clip(3, clips.class_of(3)), clips.clip(4)
    assert np.array_equal(first.picture, again.picture)
    assert first[1:] == again[1:] == (clips.compose(3).caption, clips.class_of(3))
    assert not np.array_equal(first.picture, other.picture)


def test_every_class_is_drawn_and_a_quarter_are_mixes() -> None:
    counts = Counter(clips.class_of(seed) for seed in range(2000))
    assert set(counts) == {*clips.CLASSES, clips.MIX}
    assert counts[clips.MIX] / 2000 == pytest.approx(clips.MIX_SHARE, abs=0.04)
    assert min(counts.values()) > 0.6 * 2000 * (1 - clips.MIX_SHARE) / len(clips.CLASSES)


@pytest.mark.parametrize("name", clips.CLASSES)
def test_a_clip_is_a_picture_of_512_by_512_with_its_instrument_in_its_caption(name: str, rendered: Rendered) -> None:
    for clip in rendered.solos(name):
        assert clip.picture.shape == (512, 512)
        assert clip.picture.dtype == np.uint8
        assert clip.picture.min() == 0
        assert clip.class_name == name
        assert clip.caption == clip.caption.lower().strip()
        nouns = [noun.removeprefix("a ") for noun in NAMES[name]]
        assert any(noun in clip.caption for noun in nouns)


@pytest.mark.parametrize("name", [*clips.CLASSES, clips.MIX])
def test_most_clips_loop_as_the_seed_images_do(name: str) -> None:
    pieces = (clips.compose(seed, name) for seed in range(20))
    wave = clips.play(next(piece for piece in pieces if piece.tempo_bpm == TEMPO_BPM))
    assert wave.size == CLIP_SAMPLES
    assert abs(wave[0] - wave[-1]) <= np.abs(np.diff(wave)).max()
    levels = clips.draw(wave).astype(float)
    assert np.abs(levels[:, -1] - levels[:, 0]).mean() < 0.05  # where the loop begins again


def test_a_picture_is_the_seeds_own_transform() -> None:
    wave = clips.play(clips.compose(1, "guitar"))
    difference = np.abs(clips.draw(wave).astype(int) - make.picture(wave))
    assert difference.mean() < 0.05  # float32's rounding; a shift by a tenth of a column makes 0.34
    assert difference.max() <= 2


def test_a_mix_names_every_instrument() -> None:
    for piece in (clips.compose(seed, clips.MIX) for seed in range(50)):
        assert 2 <= len({part.name for part in piece.parts}) == len(piece.parts) <= 3
        for played in piece.parts:
            nouns = [noun.removeprefix("a ") for noun in (*NAMES[played.name], PLAIN[played.name])]
            assert any(noun in piece.caption for noun in nouns), piece.caption


def test_captions_vary() -> None:
    assert len({clips.compose(seed).caption for seed in range(200)}) > 120


def test_tempi_are_the_seeds_mostly_and_80_to_110_otherwise() -> None:
    tempi = np.array([clips.compose(seed, "flute").tempo_bpm for seed in range(400)])
    assert (tempi == TEMPO_BPM).mean() == pytest.approx(0.75, abs=0.07)
    assert 80 <= tempi.min() < 84 < 106 < tempi.max() <= 110


def test_fast_has_more_onsets_than_slow(rendered: Rendered) -> None:
    fast, slow = (measured(rendered, word, "marimba") for word in ("fast", "slow"))
    assert min(one["onsets_per_s"] for one in fast) > 1.5 * max(one["onsets_per_s"] for one in slow)


def test_busy_drums_have_more_onsets_than_sparse_ones(rendered: Rendered) -> None:
    busy, sparse = measured(rendered, "busy", "drums"), measured(rendered, "sparse", "drums")
    assert min(one["onsets_per_s"] for one in busy) > max(one["onsets_per_s"] for one in sparse)


def test_high_is_higher_than_low(rendered: Rendered) -> None:
    high, low = (measured(rendered, word, "flute") for word in ("high", "low"))
    assert min(one["pitch_semitones"] for one in high) > max(one["pitch_semitones"] for one in low)


def test_a_bright_lead_reaches_higher_than_a_warm_one(rendered: Rendered) -> None:
    bright, warm = measured(rendered, "bright", "synth lead"), measured(rendered, "warm", "synth lead")
    assert min(one["top_row"] for one in bright) > max(one["top_row"] for one in warm)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (FLUTE, []),
        (replace(FLUTE, onsets_per_s=0.8), ["slow"]),
        (replace(FLUTE, onsets_per_s=5.0, register=0.9), ["fast", "busy", "high"]),
        (replace(FLUTE, register=0.1, style="jazzy"), ["low", "jazzy"]),
        (replace(FLUTE, name="drums", register=0.0, style="techno"), ["sparse", "techno"]),
        (replace(FLUTE, name="synth lead", brightness=0.1, style="funky"), ["warm", "funky"]),
        (replace(FLUTE, name="bass", register=0.9, brightness=0.9), []),
    ],
)
def test_adjectives_follow_from_what_was_played(part: Part, words: list[str]) -> None:
    assert adjectives(part) == words
