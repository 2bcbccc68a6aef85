import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.workshop.conftest import Rendered
from workshop.judging.judge import music_measures
from workshop.music import clips
from workshop.music.captions import PLAIN, adjectives, qualified
from workshop.music.instruments import GENRES, INSTRUMENTS
from workshop.music.notation import pitch_of, score
from workshop.music.parts import Part
from workshop.music.soundfont import CLIP_SAMPLES, LOOP_BEATS, TEMPO_BPM, Note, Sound, play
from workshop.seeds import make

FLUTE = Part("flute", Sound(73), [], onsets_per_s=2.0, register=0.5, brightness=0.5, style="steady")


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


def test_every_class_and_tempo_is_drawn() -> None:
    counts = Counter(clips.class_of(seed) for seed in range(4000))
    assert set(counts) == {*clips.CLASSES, clips.MIX, clips.BAND}
    assert counts[clips.MIX] / 4000 == pytest.approx(clips.MIX_SHARE, abs=0.03)
    assert counts[clips.BAND] / 4000 == pytest.approx(clips.BAND_SHARE, abs=0.03)
    tempi = np.array([clips.compose(seed, "flute").tempo_bpm for seed in range(400)])
    assert (tempi == TEMPO_BPM).mean() == pytest.approx(0.75, abs=0.07)
    assert 80 <= tempi.min() < 84 < 106 < tempi.max() <= 110


@pytest.mark.parametrize("name", clips.CLASSES)
def test_a_solo_has_its_instrument_in_its_caption(name: str) -> None:
    nouns = [re.sub("^an? ", "", noun) for noun in INSTRUMENTS[name].names]
    for seed in range(20):
        caption = clips.compose(seed, name).caption
        assert caption == caption.lower().strip() or "Rhodes" in caption or "Hammond" in caption
        assert any(noun in caption for noun in nouns), caption


@pytest.mark.parametrize("name", ["piano", "drums", clips.MIX, clips.BAND])
def test_most_clips_loop_as_the_seed_images_do(name: str) -> None:
    pieces = (clips.compose(seed, name) for seed in range(20))
    wave = clips.play(next(piece for piece in pieces if piece.tempo_bpm == TEMPO_BPM))
    assert wave.size == CLIP_SAMPLES
    assert abs(wave[0] - wave[-1]) <= np.abs(np.diff(wave)).max()
    levels = clips.draw(wave).astype(float)
    assert np.abs(levels[:, -1] - levels[:, 0]).mean() < 0.05  # where the loop begins again


def test_a_picture_is_the_seeds_own_transform() -> None:
    wave = clips.play(clips.compose(1, "acoustic guitar"))
    difference = np.abs(clips.draw(wave).astype(int) - make.picture(wave))
    assert difference.mean() < 0.05  # float32's rounding; a shift by a tenth of a column makes 0.34
    assert difference.max() <= 2


def test_a_mix_names_every_instrument() -> None:
    for piece in (clips.compose(seed, clips.MIX) for seed in range(50)):
        assert 2 <= len({part.name for part in piece.parts}) == len(piece.parts) <= 3
        for played in piece.parts:
            nouns = [re.sub("^an? ", "", noun) for noun in (*INSTRUMENTS[played.name].names, PLAIN[played.name])]
            assert any(noun in piece.caption for noun in nouns), piece.caption


def test_a_band_names_its_genre() -> None:
    words = {word for genre in GENRES.values() for word in genre.words}
    for piece in (clips.compose(seed, clips.BAND) for seed in range(50)):
        assert words & set(piece.caption.replace(",", "").split()), piece.caption
        assert len(piece.parts) >= 2


@pytest.mark.parametrize(
    ("more", "less", "name", "measure"),
    [
        ("fast", "slow", "piano", "onsets_per_s"),
        ("high", "low", "flute", "pitch_semitones"),
        ("bright", "warm", "synth lead", "band_6"),
    ],
)
def test_words_say_what_is_heard(more: str, less: str, name: str, measure: str, rendered: Rendered) -> None:
    of_more, of_less = ([one[measure] for one in measured(rendered, word, name)] for word in (more, less))
    assert min(of_more) > max(of_less)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (FLUTE, []),
        (replace(FLUTE, onsets_per_s=0.8), ["slow"]),
        (replace(FLUTE, onsets_per_s=5.0, register=0.9), ["fast", "busy", "high"]),
        (replace(FLUTE, name="drums", register=0.0, style="techno"), ["sparse", "techno"]),
        (replace(FLUTE, name="synth lead", brightness=0.1), ["warm"]),
        (replace(FLUTE, name="bass", register=0.9, brightness=0.9), []),
    ],
)
def test_adjectives_follow_from_what_was_played(part: Part, words: list[str]) -> None:
    assert adjectives(part) == words
    assert qualified("an organ solo", words) == f"{'a' if words else 'an'} {' '.join([*words, 'organ solo'])}"


def test_notes_are_read_from_text() -> None:
    assert pitch_of("A4") == 69
    assert (pitch_of("F#3"), pitch_of("Bb5")) == (54, 82)
    assert score("G4/1.5! -/.5 | C3+E3/1?") == [Note(0, 67, 1.5, 1.0), Note(2, 48, 1, 0.5), Note(2, 52, 1, 0.5)]


def test_what_rings_beyond_the_end_comes_back_at_the_beginning() -> None:
    late = play(Sound(14), [Note(LOOP_BEATS - 0.5, 72, 0.5, 1.0)])
    beat = CLIP_SAMPLES // LOOP_BEATS
    assert np.abs(late[:beat]).max() > 0.1 * np.abs(late).max()
    assert np.abs(late[: 4 * beat]).max() > 10 * np.abs(late[6 * beat : 7 * beat]).max()


def test_a_key_that_is_struck_again_sounds_again() -> None:
    wave = play(Sound(0), [Note(beat, 60, 1, 0.8) for beat in range(LOOP_BEATS)])
    beat = CLIP_SAMPLES // LOOP_BEATS
    peaks = np.abs(wave[: beat * LOOP_BEATS].reshape(LOOP_BEATS, beat)).max(axis=1)
    assert peaks.min() > 0.7 * peaks.max()
