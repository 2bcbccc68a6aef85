from collections import Counter

import numpy as np
import pytest

from workshop.judging.music_measures import music_measures
from workshop.music import clips
from workshop.music.captions import NAMES, PLAIN, adjectives
from workshop.music.parts import Part
from workshop.seeds import make

TWO_BARS_AT_94_BPM = 225_191  # samples
SAMPLES_PER_COLUMN = 441


def measured(word, class_name, count):
    """Measure the first so many clips of a class whose caption has a word."""
    captions = ((seed, clips.compose(seed, class_name).caption) for seed in range(100, 1000))
    seeds = (seed for seed, caption in captions if word in caption.replace(",", "").split())
    return [music_measures(clips.clip(next(seeds), class_name).picture) for _ in range(count)]


def part(**changes):
    facts = {"onsets_per_s": 2.0, "register": 0.5, "brightness": 0.5, "style": "steady", "echoes": False}
    return Part(**({"name": "flute", "voices": []} | facts | changes))


def test_a_seed_makes_the_same_clip_every_time():
    first, second, other = clips.clip(12), clips.clip(12), clips.clip(13)
    assert np.array_equal(first.picture, second.picture)
    assert first[1:] == second[1:]
    assert not np.array_equal(first.picture, other.picture)


def test_a_seed_without_a_class_draws_one():
    drawn = clips.clip(3)
    assert drawn.class_name == clips.class_of(3)
    assert np.array_equal(drawn.picture, clips.clip(3, drawn.class_name).picture)


def test_every_class_is_drawn_and_a_third_are_mixes():
    counts = Counter(clips.class_of(seed) for seed in range(2000))
    assert set(counts) == {*clips.CLASSES, clips.MIX}
    assert counts[clips.MIX] / 2000 == pytest.approx(clips.MIX_SHARE, abs=0.04)
    assert min(counts.values()) > 0.6 * 2000 * (1 - clips.MIX_SHARE) / len(clips.CLASSES)


@pytest.mark.parametrize("name", clips.CLASSES)
def test_a_clip_is_a_picture_of_512_by_512_with_its_instrument_in_its_caption(name, solos):
    for clip in solos(name):
        assert clip.picture.shape == (512, 512)
        assert clip.picture.dtype == np.uint8
        assert clip.picture.min() == 0
        assert clip.class_name == name
        assert clip.caption == clip.caption.lower().strip()
        nouns = [noun.removeprefix("a ") for noun in NAMES[name]]
        assert any(noun in clip.caption for noun in nouns)


@pytest.mark.parametrize("name", [*clips.CLASSES, clips.MIX])
def test_two_bars_at_94_bpm_loop(name):
    pieces = (clips.compose(seed, name) for seed in range(20))
    wave = clips.play(next(piece for piece in pieces if piece.tempo_bpm == 94))
    assert wave.size == TWO_BARS_AT_94_BPM
    assert abs(wave[0] - wave[-1]) <= np.abs(np.diff(wave)).max()
    levels = clips.draw(wave).astype(float)
    after = TWO_BARS_AT_94_BPM / SAMPLES_PER_COLUMN  # the column where the loop begins again: 510.6
    again = (int(after) + 1 - after) * levels[:, int(after)] + (after - int(after)) * levels[:, int(after) + 1]
    beat = TWO_BARS_AT_94_BPM // 8 // SAMPLES_PER_COLUMN
    between_beats = np.abs(levels[:, beat:] - levels[:, :-beat]).mean(axis=0)
    assert np.abs(again - levels[:, 0]).mean() <= between_beats.max() + 2


def test_a_picture_is_the_seeds_own_transform():
    wave = clips.play(clips.compose(1, "guitar"))
    assert np.array_equal(clips.draw(wave), make.picture(wave))


@pytest.mark.parametrize("seed", range(50))
def test_a_mix_names_every_instrument(seed):
    piece = clips.compose(seed, clips.MIX)
    assert 2 <= len({part.name for part in piece.parts}) == len(piece.parts) <= 3
    for played in piece.parts:
        nouns = [noun.removeprefix("a ") for noun in (*NAMES[played.name], PLAIN[played.name])]
        assert any(noun in piece.caption for noun in nouns)


def test_captions_vary_and_a_clip_has_its_pieces_own():
    assert len({clips.compose(seed).caption for seed in range(500)}) > 250
    assert clips.clip(8).caption == clips.compose(8).caption


def test_tempi_are_94_bpm_mostly_and_80_to_110_otherwise():
    tempi = np.array([clips.compose(seed, "flute").tempo_bpm for seed in range(400)])
    assert (tempi == 94).mean() == pytest.approx(0.75, abs=0.07)
    assert 80 <= tempi.min() < 84 < 106 < tempi.max() <= 110


@pytest.mark.parametrize("name", ["marimba", "guitar"])
def test_fast_has_more_onsets_than_slow(name):
    fast, slow = measured("fast", name, 2), measured("slow", name, 2)
    assert min(one["onsets_per_s"] for one in fast) > 1.5 * max(one["onsets_per_s"] for one in slow)


def test_busy_drums_have_more_onsets_than_sparse_ones():
    busy, sparse = measured("busy", "drums", 2), measured("sparse", "drums", 2)
    assert min(one["onsets_per_s"] for one in busy) > max(one["onsets_per_s"] for one in sparse)


@pytest.mark.parametrize("name", ["flute", "vibraphone"])
def test_high_is_higher_than_low(name):
    high, low = measured("high", name, 2), measured("low", name, 2)
    assert min(one["pitch_semitones"] for one in high) > max(one["pitch_semitones"] for one in low)


def test_a_bright_lead_reaches_higher_than_a_warm_one():
    bright, warm = measured("bright", "synth lead", 2), measured("warm", "synth lead", 2)
    assert min(one["top_row"] for one in bright) > max(one["top_row"] for one in warm)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"onsets_per_s": 0.8}, ["slow"]),
        ({"onsets_per_s": 5.0, "register": 0.9}, ["fast", "busy", "high"]),
        ({"register": 0.1, "style": "jazzy"}, ["low", "jazzy"]),
        ({"name": "drums", "onsets_per_s": 2.0, "register": 0.0, "style": "techno"}, ["sparse", "techno"]),
        ({"name": "synth lead", "brightness": 0.1, "style": "funky"}, ["warm", "funky"]),
        ({"name": "bass", "register": 0.9, "brightness": 0.9}, []),
    ],
)
def test_adjectives_follow_from_what_was_played(changes, words):
    assert adjectives(part(**changes)) == words
