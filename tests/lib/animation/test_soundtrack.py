"""What expressions know of the music, and keyframes and prompts on beats."""

import numpy as np
import pytest

from lib import prompts
from lib.animation import keyframes
from lib.animation.keyframes import Bounds, Scene
from lib.animation.operations import Values
from lib.animation.soundtrack import LEVELS, MUSIC, RELEASE_S, Soundtrack, smooth
from lib.errors import UserError

FPS, FRAMES = 10, 40
BEAT_FRAMES = 5  # 120 beats per minute


def soundtrack(first_beat: float = 0.0, **levels: Values) -> Soundtrack:
    """Return music of 120 beats per minute whose beat 0 is at the film's frame 0, or `first_beat` beats before."""
    positions = np.round(np.arange(-1, FRAMES) / BEAT_FRAMES + first_beat, 9)
    silent = {name: np.zeros(FRAMES) for name in LEVELS}
    return Soundtrack.of(
        FPS,
        positions,
        lambda beat: int(np.ceil((beat - first_beat) * BEAT_FRAMES)),
        bpm=120.0,
        beats_per_bar=4,
        levels=silent | levels,
    )


def parse(text: str, sound: Soundtrack | None = None, bounds: Bounds | None = None) -> Values:
    return keyframes.parse("zoom", text, Scene(FRAMES, 7, sound or soundtrack()), bounds or Bounds())


def test_the_beat_is_counted_in_beats_and_bars() -> None:
    assert np.allclose(parse("0: (b)"), np.arange(FRAMES) / BEAT_FRAMES)
    assert np.array_equal(parse("0: (bar)"), np.arange(FRAMES) // (4 * BEAT_FRAMES))
    assert set(parse("0: (bpm)")) == {120}
    assert np.array_equal(parse("0: (t/fps)"), np.arange(FRAMES) / FPS)


def test_beat_is_1_on_each_beat_and_decays() -> None:
    beat = parse("0: (beat)")
    assert np.array_equal(np.flatnonzero(beat == 1), np.arange(0, FRAMES, BEAT_FRAMES))
    assert beat[1:5] == pytest.approx(np.exp(-np.arange(1, 5) / FPS / RELEASE_S))


@pytest.mark.parametrize(
    ("text", "frames"),
    [("every(1)", range(0, 40, 5)), ("every(4)", (0, 20)), ("every(4, 1)", (5, 25)), ("every(.5)", range(0, 40, 1))],
)
def test_every_is_1_where_a_multiple_is_reached(text: str, frames: range) -> None:
    found = np.flatnonzero(parse(f"0: ({text})"))
    expected = [n for n in frames if text != "every(.5)" or n % 5 in (0, 3)]
    assert found.tolist() == expected


def test_levels_follow_the_sound_and_smooth_ones_fall_slowly() -> None:
    onset = np.zeros(FRAMES)
    onset[[3, 20]] = 1.0, 0.5
    sound = soundtrack(onset=onset)
    assert np.array_equal(parse("0: (onset)", sound), onset)
    assert np.array_equal(parse("0: (onset_smooth)", sound), parse(f"0: (smooth(onset, 0, {RELEASE_S}))", sound))
    followed = parse("0: (smooth(onset, 0, 0.5))", sound)
    assert followed[3:20] == pytest.approx(np.exp(-np.arange(17) / FPS / 0.5))
    assert followed[20] == 0.5
    assert parse("0: (smooth(onset, 0.3, 0.3))", sound)[3] == pytest.approx(1 - np.exp(-1 / FPS / 0.3))


def test_smooth_remembers_what_was_before_its_keyframe() -> None:
    onset = np.zeros(FRAMES)
    onset[3] = 1.0
    whole = parse("0: (smooth(onset, 0, 1))", soundtrack(onset=onset))
    late = parse("0: (0), 10: (smooth(onset, 0, 1))", soundtrack(onset=onset))
    assert np.array_equal(late[10:], whole[10:])


def test_smooth_without_time_follows_at_once() -> None:
    values = np.random.default_rng(0).random(FRAMES)
    assert np.array_equal(smooth(values, np.float64(0), np.float64(0), np.float64(FPS)), values)


def test_keyframes_stand_on_beats() -> None:
    assert np.array_equal(parse("0: (0), 4b: (1), 6b: (1)"), parse("0: (0), 20: (1), 30: (1)"))
    assert np.array_equal(parse("0: (0) 4.5 b : (t)"), parse("0: (0), 23: (t)"))


def test_a_beat_before_the_film_still_shapes_the_way_to_the_next() -> None:
    sound = soundtrack(first_beat=8.0)  # the film begins on beat 8
    assert np.array_equal(parse("0b: (1), 8b: (2)", sound)[:2], [2, 2])
    assert parse("6b: (0), 10b: (4)", sound)[:11] == pytest.approx(np.linspace(2, 4, 11))
    assert np.array_equal(parse("0b: (t), 4b: (7*t), 12b: (5)", sound)[:20], 7 * np.arange(20))


def test_what_is_wrong_on_a_beat_is_named() -> None:
    with pytest.raises(UserError, match=r"^zoom, keyframe 4b: the value is 2\.0 at frame 20, but must be from 0 to 1$"):
        parse("0: (0), 4b: (2), 8b: (0)", bounds=Bounds(low=0, high=1))
    with pytest.raises(
        UserError, match=r"^zoom, keyframe 4b: character 8: unknown name 'foo'; available are t, .*beat"
    ):
        parse("4b: (1+foo)")


@pytest.mark.parametrize("text", ["every(0)", "every(-1)"])
def test_every_needs_a_positive_number_of_beats(text: str) -> None:
    with pytest.raises(UserError, match="the value is nan"):
        parse(f"0: ({text})")


def test_deforum_has_neither_the_names_nor_beats() -> None:
    deforum = Scene(FRAMES, 7)
    for name in sorted(set(MUSIC.variables) - {"t", "max_f", "s", "pi", "e"}):
        with pytest.raises(UserError, match=f"unknown name '{name}'"):
            keyframes.parse("zoom", f"0: ({name})", deforum)
    with pytest.raises(UserError, match="unknown name 'every'"):
        keyframes.parse("zoom", "0: (every(4))", deforum)
    with pytest.raises(UserError, match=r"expected a keyframe such as 0:\(1.04\), not '4b:\(1\)'"):
        keyframes.parse("zoom", "4b:(1)", deforum)
    assert prompts.parse("p", "4b: a night sky", 100).keyframes[0][1].text == "4b: a night sky"


def test_prompts_stand_on_beats_also_outside_the_film() -> None:
    frame_of = soundtrack(first_beat=8.0).frame_of
    found = prompts.parse("p", "0b: a | 8b: b | 30: c | 100b: d", FRAMES, frame_of=frame_of)
    assert [(frame, prompt.text) for frame, prompt in found.keyframes] == [(-40, "a"), (0, "b"), (30, "c"), (460, "d")]
    assert found.at(0).text == "b"
    lines = prompts.parse("p", "0: a\n4.5b: b", FRAMES, frame_of=soundtrack().frame_of)
    assert lines == prompts.parse("p", '{"0": "a", "4.5b": "b"}', FRAMES, frame_of=soundtrack().frame_of)
    assert [frame for frame, _ in lines.keyframes] == [0, 23]
    with pytest.raises(UserError, match=r"part 2 .*: frame 20 already has a prompt, in part 1"):
        prompts.parse("p", "20: a | 4b: b", FRAMES, frame_of=soundtrack().frame_of)


def test_a_prompt_crosses_over_to_the_next_in_as_many_frames_as_given() -> None:
    crossing = prompts.parse("p", "0: a | 10: b", FRAMES).crossing
    shares = [crossing(n, 3).share for n in range(9, 14)]
    assert shares == [0, 0.25, 0.5, 0.75, 0]
    assert [crossing(n, 3).prompt.text for n in (9, 10, 13)] == ["a", "a", "b"]
    assert [crossing(n, 0).following.text for n in (9, 10)] == ["a", "b"]
