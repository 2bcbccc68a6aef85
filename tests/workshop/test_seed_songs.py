"""Every seed is what it is said to be, measured on its sound and its picture and not read from its notes."""

import numpy as np
import pytest
from scipy.signal import hilbert

from lib.audio.seed_images import MUSICAL_SEEDS, load
from tests.workshop.listen import (
    BACKBEATS,
    BEAT_COLUMNS,
    BEATS,
    CLIP_SAMPLES,
    EIGHTHS,
    STRONG_BEATS,
    band,
    level_db,
    pitch,
    pitch_track,
    rise_db,
    row_of,
    sound,
    span,
    strongest_hz,
    tone_db,
)
from workshop.seeds.make import picture

C_MINOR = {0, 2, 3, 5, 7, 8, 10}  # pitch classes, C is 0


# All five


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_png_is_what_the_generator_makes_now(name: str) -> None:
    difference = np.abs(picture(sound(name)).astype(int) - load(name))
    # Another processor's last bits may turn the rounding of a few pixels.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_a_song_lasts_exactly_a_clip(name: str) -> None:
    assert sound(name).shape == (CLIP_SAMPLES,)
    assert np.array_equal(load(name)[:, 0], load(name)[:, 511])  # which stand on the same moment of the loop
    assert np.abs(sound(name)).max() == pytest.approx(0.9)


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_onsets_lie_on_a_grid_of_93_93_bpm(name: str) -> None:
    darkening = np.maximum(-np.diff(load(name).astype(float), axis=1), 0).sum(axis=0)
    tempos_bpm = np.arange(80, 110.5, 0.1)
    columns = np.arange(darkening.size)
    eighths = np.exp(-2j * np.pi * np.outer(tempos_bpm * 2 / 6000, columns))
    assert tempos_bpm[np.abs(eighths @ (darkening - darkening.mean())).argmax()] == pytest.approx(93.93, abs=0.5)


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_sound_joins_without_a_click(name: str) -> None:
    wave = np.tile(sound(name), 2)
    seam = slice(sound(name).size - 20, sound(name).size + 2)
    assert np.abs(np.diff(wave[seam])).max() < np.abs(np.diff(sound(name))).max() / 3


# og_beat


def test_og_beat_hits_a_chord_on_every_eighth() -> None:
    assert (rise_db("og_beat", 300, 3000, EIGHTHS) > 8).all()


def test_og_beat_alternates_e_and_a() -> None:
    for eighth, beat in enumerate(EIGHTHS):
        b3_over_c_sharp_4_db = tone_db("og_beat", 246.9, beat, 0.35) - tone_db("og_beat", 277.2, beat, 0.35)
        assert b3_over_c_sharp_4_db > 9 if eighth % 2 == 0 else b3_over_c_sharp_4_db < -9


@pytest.mark.parametrize("beat", [0, 1, 2, 3, 4, 5, 6, 7])
def test_og_beat_has_the_roots_of_e_at_125_and_166_hz(beat: float) -> None:
    assert strongest_hz("og_beat", 140, 190, beat, 0.4) == pytest.approx(166, abs=4)
    assert tone_db("og_beat", 123.5, beat, 0.4) > tone_db("og_beat", 145, beat, 0.4) + 6


def test_og_beat_has_bass_from_27_to_70_hz_in_beats_1_and_2() -> None:
    levels_db = level_db("og_beat", 25, 72, BEATS, 1)
    assert min(levels_db[1:3]) > max(np.delete(levels_db, [1, 2])) + 12
    lowest_hz = [strongest_hz("og_beat", 20, 75, beat, 0.5) for beat in (1, 1.5, 2, 2.5)]
    assert min(lowest_hz) == pytest.approx(27.5, abs=2)
    assert max(lowest_hz) == pytest.approx(69, abs=2)


def test_og_beat_hisses_steadily_above_6_khz() -> None:
    above = load("og_beat")[: int(row_of(6600))]
    assert above.mean(axis=0).std() < 2
    assert above.mean() < load("og_beat")[int(row_of(5800)) : int(row_of(5000))].mean() - 10


# agile


def test_agile_has_a_noise_burst_on_every_beat() -> None:
    assert (rise_db("agile", 3500, 5500, BEATS, 0.15) > 15).all()


def test_agile_has_a_bass_at_50_hz() -> None:
    assert strongest_hz("agile", 20, 150) == pytest.approx(50, abs=2)


@pytest.mark.parametrize(
    ("beat", "other_beat", "notes_hz"),
    [(0, 4, {"Bb3": 233.1, "C4": 261.6, "Eb4": 311.1}), (4, 0, {"F#3": 185.0, "A3": 220.0, "D4": 293.7})],
)
def test_agile_plays_c_minor_7_and_then_d(beat: float, other_beat: float, notes_hz: dict[str, float]) -> None:
    for hz in notes_hz.values():
        assert tone_db("agile", hz, beat + 0.05, 1.2) > tone_db("agile", hz, other_beat + 0.05, 1.2) + 10


def test_agile_has_a_lead_with_harmonics_to_3_khz() -> None:
    between_bursts = BEATS[:7] + 0.45
    harmonics_db = level_db("agile", 2000, 2900, between_bursts, 0.4)
    assert (harmonics_db > level_db("agile", 3300, 4500, between_bursts, 0.4) + 20).all()


@pytest.mark.parametrize(("beat", "old", "new"), [(0, 62, 67), (1.5, 72, 75), (4, 62, 69)])
def test_agile_glides_from_note_to_note(beat: float, old: int, new: int) -> None:
    track = pitch_track("agile", old - 1, new + 1, beat * BEAT_COLUMNS, 14)[4:]  # 40 ms on: the old note is over
    assert (np.diff(track) > -0.3).all()  # within which the old note, still in the window, may pull
    assert ((old + 0.5 < track) & (track < new - 0.3)).any()
    assert track[-1] == pytest.approx(new, abs=0.4)


@pytest.mark.parametrize(("beat", "note"), [(0, 67), (4, 69)])
def test_agile_vibrates_on_long_notes(beat: float, note: int) -> None:
    track = pitch_track("agile", note - 1, note + 1, (beat + 0.3) * BEAT_COLUMNS, 26)
    assert 0.4 < np.ptp(track) < 1.0
    assert track.mean() == pytest.approx(note, abs=0.15)


# marim


@pytest.mark.parametrize("name", ["marim", "vibes"])
def test_kick_at_58_hz_on_beats_0_2_4_6_with_pickups(name: str) -> None:
    strong_db = level_db(name, 50, 66, STRONG_BEATS, 0.4)
    assert (strong_db > level_db(name, 50, 66, BACKBEATS, 0.4) + 8).all()
    for beat in STRONG_BEATS.tolist():
        assert strongest_hz(name, 40, 75, beat + 0.1, 0.4) == pytest.approx(58, abs=4)
    pickups_db = level_db(name, 50, 66, np.array([1.5, 3.5, 5.5]), 0.2)
    assert (pickups_db > level_db(name, 50, 66, np.array([1.2, 3.2, 5.2]), 0.2) + 10).all()
    assert (pickups_db < strong_db[:3]).all()


def test_marim_has_a_backbeat_of_175_hz_and_noise() -> None:
    for low_hz, high_hz in ((165, 185), (1500, 5000)):
        backbeat_db = level_db("marim", low_hz, high_hz, BACKBEATS, 0.15)
        assert backbeat_db.min() > np.median(level_db("marim", low_hz, high_hz, STRONG_BEATS, 0.15)) + 6


def test_marim_has_hats_on_the_off_eighths() -> None:
    assert (rise_db("marim", 7500, 10_000, BEATS + 0.5) > 10).all()


def test_marim_plays_pure_tones_in_c_minor_from_260_to_940_hz() -> None:
    melody_hz = [strongest_hz("marim", 255, 1000, beat + 0.03, 0.44) for beat in EIGHTHS]
    assert max(melody_hz) == pytest.approx(932, abs=8)
    for beat, hz in zip(EIGHTHS, melody_hz, strict=True):
        assert pitch(hz) == pytest.approx(round(pitch(hz)), abs=0.15)
        assert round(pitch(hz)) % 12 in C_MINOR
        # Two marimbas may play an octave, but a tone that is not pure would have its twelfth as well.
        assert tone_db("marim", 3 * hz, beat + 0.03, 0.44) < tone_db("marim", hz, beat + 0.03, 0.44) - 18
    assert tone_db("marim", 261.6, 0.5, 0.25) > tone_db("marim", 277.2, 0.5, 0.25) + 12


def test_marim_has_a_lower_counter_line() -> None:
    line = [round(pitch(strongest_hz("marim", 95, 240, beat + 0.03, 0.44))) for beat in EIGHTHS]
    assert {note % 12 for note in line} <= C_MINOR
    assert len(set(line)) >= 6


# motorway


def test_motorway_has_a_snare_on_the_backbeats() -> None:
    snare_db = level_db("motorway", 3300, 4000, BACKBEATS, 0.2)
    assert snare_db.min() > level_db("motorway", 3300, 4000, STRONG_BEATS, 0.2).max() + 6


def test_motorway_has_bass_at_50_hz_on_each_beat_with_octave_pickups() -> None:
    for beat in BEATS.tolist():
        assert strongest_hz("motorway", 30, 75, beat, 0.5) == pytest.approx(50, abs=2)
        assert strongest_hz("motorway", 30, 110, beat + 0.76, 0.22) == pytest.approx(98, abs=4)
    assert np.ptp(level_db("motorway", 44, 54, BEATS, 0.4)) < 2


def test_motorway_holds_a_steady_line_at_233_hz() -> None:
    line_db = level_db("motorway", 231, 235, EIGHTHS, 0.5)
    assert np.ptp(line_db) < 2
    assert (line_db > level_db("motorway", 226, 229, EIGHTHS, 0.5) + 15).all()


def test_motorway_has_stabs_to_3_khz() -> None:
    stabs = np.array([0, 1.5, 2.5, 3.5, 4, 5.5, 6.5, 7.5])
    assert (rise_db("motorway", 1000, 3000, stabs, 0.15) > 6).all()
    spectrum_db = level_db("motorway", 2000, 3000, stabs, 0.2) - level_db("motorway", 4200, 5200, stabs, 0.2)
    assert (spectrum_db > 15).all()


def test_motorway_is_quiet_above_5_khz() -> None:
    above = int(row_of(5000))
    assert load("motorway")[:above].mean() > 220
    assert level_db("motorway", 5000, 10_000, [0], 8) < level_db("motorway", 20, 5000, [0], 8) - 45


# vibes


@pytest.mark.parametrize(("beat", "hz"), [(0, 394), (2, 331), (4, 295)])
def test_vibes_holds_long_tremolo_tones_on_g_e_and_d(beat: float, hz: float) -> None:
    assert strongest_hz("vibes", 270, 450, beat + 0.1, 1.8) == pytest.approx(hz, abs=1)
    loudness = np.abs(hilbert(band("vibes", hz - 12, hz + 12)))[span(beat + 0.1, 1.8)][::441]
    seconds = np.arange(loudness.size) / 100
    ripple = loudness / np.polyval(np.polyfit(seconds, loudness, 3), seconds) - 1
    spectrum = np.abs(np.fft.rfft(ripple * np.hanning(ripple.size), 2048)) * 4 / ripple.size
    rates_hz = np.fft.rfftfreq(2048, 0.01)
    assert rates_hz[np.argmax(spectrum * (rates_hz > 2.5))] == pytest.approx(5, abs=0.4)
    assert spectrum[rates_hz > 2.5].max() > 0.2


def test_vibes_has_a_soft_bed() -> None:
    bed_db = level_db("vibes", 80, 260, BEATS, 1)
    tones_db = level_db("vibes", 270, 450, BEATS, 1)
    assert (bed_db < tones_db).all()
    assert (bed_db > tones_db - 20).all()


def test_vibes_has_sparse_bells_from_700_hz_to_5_khz() -> None:
    starts = np.arange(32) / 4
    rises = starts[rise_db("vibes", 1800, 5500, starts) > 6]
    assert 3 <= rises.size <= 6
    assert strongest_hz("vibes", 700, 1000, 0.5, 1) == pytest.approx(787, abs=2)
    for partial, ratio in enumerate((1, 2.76, 5.40)):
        bell_db = tone_db("vibes", 787.5 * ratio, 0.5, 0.5)
        assert bell_db > tone_db("vibes", 787.5 * ratio * 1.04, 0.5, 0.5) + 10, partial
    assert 787.5 * 5.40 < 5000


def test_vibes_has_light_hats_on_the_off_eighths() -> None:
    assert (rise_db("vibes", 7500, 10_000, BEATS + 0.5) > 8).all()
    hats = {name: level_db(name, 7500, 10_000, BEATS + 0.5, 0.1).mean() for name in ("marim", "vibes")}
    assert hats["vibes"] < hats["marim"] - 3
