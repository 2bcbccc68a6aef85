"""What a request of music-video is made of, and the frames of its film, with tiny models of random weights."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from lib import deforum_request
from lib.animation.video import Audio, write_mp4
from lib.animation.warp import matrix, warp
from lib.deforum import Deforum, Film, Frame, Recipe
from lib.diffusion.models import Models
from lib.errors import UserError
from lib.music_video import film_of
from lib.music_video_request import Inputs, Request
from lib.progress import Stages
from tests.lib.audio.test_beats import drums
from tests.lib.conftest import CPU

RATE_HZ = 44_100
SMALL = {"num_inference_steps": 6, "animation_prompts": "0: a red circle", "seed": 7, "color_coherence": "None"}


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write 10 s of drums at 120 beats per minute, the first beat at 0.25 s."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, drums(120, 0.25, 10.0)[0], RATE_HZ)
    return str(path)


def request(**changes: Any) -> Request:
    return replace(Inputs(), **changes).request()


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        request(**changes)
    return str(error.value)


def render(tiny: Models, made: Film, count: int = 1000) -> list[Frame]:
    return list(itertools.islice(Deforum(tiny).render(made, Stages(CPU)), count))


def small(made: Request) -> Film:
    """Return the film of a request in frames of 64 pixels, which the schema doesn't allow."""
    return replace(film_of(made), height_px=64, width_px=64)


def test_with_deforums_inputs_alone_the_frames_are_deforums(tiny: Models) -> None:
    inputs = deforum_request.Inputs(
        animation_prompts="0: a red circle | 2: a (blue:1.3) square",
        angle="0: (3*t)",
        seed=3,
        sampler="euler_ancestral",
    )
    expected = Deforum(tiny, Recipe(size_px=64)).frames(inputs.request(), Stages(CPU))
    shared = {name: getattr(inputs, name) for name in deforum_request.Inputs.__dataclass_fields__}
    found = small(request(**shared))
    for one, other in itertools.islice(zip(expected, Deforum(tiny).render(found, Stages(CPU)), strict=True), 4):
        assert np.array_equal(one, other)


def test_without_a_sound_a_film_is_as_long_as_deforums_and_nothing_follows_the_music() -> None:
    made = request()
    assert made.frames == 100
    assert set(made.curves["zoom"]) == {1.01}
    assert made.music.cut(5) is None
    assert list(made.notes()) == []


@pytest.mark.parametrize("seconds", [1.0, 2.5, 3.333])
@pytest.mark.parametrize("fps", [10, 24])
@pytest.mark.parametrize("frames", [None, 40])
def test_a_film_and_its_sound_have_the_same_length(
    tmp_path: Path, seconds: float, fps: int, frames: int | None
) -> None:
    soundfile.write(tmp_path / "a.flac", 0.1 * np.ones((round(seconds * RATE_HZ), 2)), RATE_HZ)
    made = request(audio=str(tmp_path / "a.flac"), fps=fps, max_frames=frames)
    assert made.frames == (frames or -(-seconds * fps // 1))
    sound = made.music.cut(made.frames / fps)
    assert sound is not None
    assert sound.shape == (2, round(made.frames / fps * RATE_HZ))
    write_mp4(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * made.frames, fps, {}, Audio(sound, RATE_HZ))
    with av.open(tmp_path / "a.mp4") as film:
        lengths = [float((stream.duration or 0) * (stream.time_base or 0)) for stream in film.streams]
    assert lengths == pytest.approx([made.frames / fps] * 2, abs=0.002)
    end = min(round(seconds * RATE_HZ), sound.shape[1])
    assert sound[:, :end].any(axis=0).all()
    assert not sound[:, end:].any()


def test_a_sound_of_more_than_1000_frames_is_cut_and_the_log_says_so(song: str) -> None:
    made = request(audio=song, audio_start_s=2.0, fps=60)
    assert made.frames == 480
    soundless = replace(made.music, features=replace(made.music.features, seconds=100.0))  # type: ignore[type-var]
    assert soundless.frames(60) == 1000
    assert "The film ends after 16.7 of 98.0 s" in "".join(
        replace(made, music=soundless, curves={"zoom": np.ones(1000)}).notes()
    )


def test_the_beat_is_estimated_given_or_a_walks(song: str, tmp_path: Path) -> None:
    estimated = request(audio=song)
    assert estimated.soundtrack.constants["bpm"] == pytest.approx(120, rel=0.01)
    assert "Estimated tempo: 1" in next(estimated.notes())
    beats = np.flatnonzero(estimated.soundtrack.curves["beat"] == 1) / 15
    assert (((beats - 0.25 + 0.1) % 0.5) < 0.1 + 1.5 / 15).all()

    given = request(audio=song, bpm=90.0)
    assert given.soundtrack.curves["b"][:3] == pytest.approx([0, 0.1, 0.2])
    assert list(given.notes()) == []

    bars = [{"bar": bar, "beats_s": [2 * (bar - 4) + 0.5 * n for n in range(4)]} for bar in (4, 5)]
    timeline = tmp_path / "timeline.json"
    timeline.write_text(json.dumps({"bpm": 120.0, "bars": bars}))
    walked = request(timeline=str(timeline), animation_prompts="16b: a | 20b: b", fps=10)
    assert walked.soundtrack.curves["b"][:6] == pytest.approx([16, 16.2, 16.4, 16.6, 16.8, 17])
    assert walked.soundtrack.curves["bar"][20] == 5
    assert [frame for frame, _ in walked.prompts.keyframes] == [0, 20]


def test_a_later_start_moves_frames_and_not_beats(song: str) -> None:
    whole, later = request(audio=song, bpm=120.0, fps=10), request(audio=song, bpm=120.0, fps=10, audio_start_s=2.0)
    for name in ("b", "onset", "low"):
        assert later.soundtrack.curves[name] == pytest.approx(whole.soundtrack.curves[name][20:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 300}, "width is 300, but must be a multiple of 64"),
        ({"height": 128}, "height is 128, but must be a whole number from 256 to 1024"),
        ({"cadence": 9}, "cadence is 9, but must be a whole number from 1 to 8"),
        ({"border": "mirror"}, "border is 'mirror', but must be one of wrap, reflect, replicate"),
        ({"strength": "0: (1.5)"}, "strength, keyframe 0: the value is 1.5 at frame 0, but must be from 0 to 1"),
        (
            {"guidance_scale": "0: (40)"},
            "guidance_scale, keyframe 0: the value is 40.0 at frame 0, but must be from 0 to 30",
        ),
        ({"audio": "missing.wav"}, "audio is not a sound file that can be read: No such file or directory"),
        ({"bpm": 10.0}, "bpm is 10.0, but must be a number from 30 to 300"),
        ({"angle": "4b: (1)"}, "angle, keyframe 4b: the music has no beat; set audio, bpm or timeline"),
        (
            {"animation_prompts": "4b: b"},
            "animation_prompts, part 1 ('4b: b'): the music has no beat; set audio, bpm or",
        ),
        ({"animation_prompts": "a --neg b"}, "animation_prompts, part 1 ('a --neg b'): move what follows --neg to "),
    ],
)
def test_a_bad_input_gets_a_sentence(changes: dict[str, Any], message: str) -> None:
    assert refusal(**changes).startswith(message)


def test_bad_files_get_a_sentence(tmp_path: Path, song: str) -> None:
    text, picture = tmp_path / "a.json", tmp_path / "a.png"
    text.write_text("{}")
    Image.new("RGB", (64, 64)).save(picture)
    assert refusal(timeline=str(text)) == (
        "timeline is not a walk's timeline: a JSON file with bpm and bars that have beats_s"
    )
    text.write_text(json.dumps({"bpm": 120, "bars": [{"bar": 0, "beats_s": [1, 0]}]}))
    assert "must have from 2 to 10000 ascending beats" in refusal(timeline=str(text))
    text.write_text(json.dumps({"bpm": 120, "bars": [{"bar": 0, "beats_s": [0, 1]}]}))
    assert refusal(timeline=str(text), bpm=120.0) == "bpm is 120.0, but must be blank, because timeline has the beat"
    assert refusal(init_image=song) == "init_image is not a picture that can be read"
    assert refusal(audio=str(picture)).startswith("audio ")
    assert (
        refusal(audio=song, audio_start_s=10.0) == "audio_start_s is 10, but must be below 10.00, where the sound ends"
    )


@pytest.mark.parametrize("cadence", [2, 3])
def test_frames_between_diffused_ones_are_warped_and_mixed(tiny: Models, cadence: int) -> None:
    made = small(request(**SMALL, max_frames=6, angle="0: (5)", zoom="0: (1)", cadence=cadence))
    assert made.diffused == sorted({*range(0, 6, cadence), 5})
    frames = render(tiny, made)
    assert len(frames) == 6
    assert made.total_steps == 6 + 2 * (len(made.diffused) - 1)
    moved = warp(frames[0], matrix(64, 64, 5, 1, 0, 0)).astype(float)
    change = np.abs(frames[1] - moved).mean()
    assert 0 < change < np.abs(frames[cadence] - warp(frames[0], made.motion(0, cadence)).astype(float)).mean()


def test_a_dip_of_strength_counts_in_the_next_diffused_frame() -> None:
    made = film_of(request(max_frames=10, cadence=3, strength="0: (where(t == 4, 0.2, 0.9))"))
    assert [made.steps_of(n) for n in made.diffused] == [50, 4, 40, 4]


def test_what_is_between_two_diffused_frames_leads_from_one_to_the_other() -> None:
    made = small(request(max_frames=5, zoom="0: (1)", translation_x="0: (4)", cadence=4))
    before = np.full((64, 64, 3), 50, np.uint8)
    after = np.full((64, 64, 3), 90, np.uint8)
    moved = list(made.moved(before, 0, 4))
    between = list(made.between(moved, after, 0, 4))
    assert [int(picture[32, 32, 0]) for picture in between] == [60, 70, 80]


def test_prompts_cross_over(tiny: Models) -> None:
    changes = SMALL | {"animation_prompts": "0: a red circle | 1: a blue square", "max_frames": 3}
    sudden, crossing, still = (
        render(tiny, small(request(**changes | more)))
        for more in ({}, {"prompt_blend": 3}, {"animation_prompts": "0: a red circle"})
    )
    assert np.array_equal(sudden[0], crossing[0])
    away = [np.abs(frames[1].astype(int) - still[1]).mean() for frames in (crossing, sudden)]
    assert 0 < away[0] < away[1]


def test_a_negative_prompt_and_guidance_change_the_frames(tiny: Models) -> None:
    plain = render(tiny, small(request(**SMALL, max_frames=2)))
    avoided = render(tiny, small(request(**SMALL, max_frames=2, negative_prompt="a blue square")))
    stronger = render(tiny, small(request(**SMALL, max_frames=2, guidance_scale="0: (7), 1: (20)")))
    assert not np.array_equal(plain[0], avoided[0])
    assert np.array_equal(plain[0], stronger[0])
    assert not np.array_equal(plain[1], stronger[1])


def test_a_film_may_begin_from_a_picture(tiny: Models, tmp_path: Path) -> None:
    picture = np.zeros((300, 600, 3), np.uint8)
    picture[:, 300:] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    made = request(**SMALL, max_frames=2, strength="0: (1)", init_image=str(tmp_path / "a.png"))
    assert made.init is not None
    assert made.init.shape == (512, 512, 3)
    halves = made.init[:, :200].mean(), made.init[:, -200:].mean()
    assert halves == (0, 255)  # cut at its sides, so the border stays in the middle
    shown = render(tiny, replace(small(made), init=cv2.resize(made.init, (64, 64))), 1)[0]
    assert np.array_equal(shown, cv2.resize(made.init, (64, 64)))  # a strength of 1 keeps it
    changed = replace(small(made), init=cv2.resize(made.init, (64, 64)), strength=np.array([0.5, 0.5]))
    assert changed.steps_of(0) == 3
    assert not np.array_equal(render(tiny, changed, 1)[0], shown)


def test_frames_have_the_requested_size_and_border(tiny: Models) -> None:
    made = film_of(request(**SMALL, width=256, height=320, max_frames=2, translation_x="0: (64)", border="replicate"))
    first, second = render(tiny, replace(made, strength=np.ones(2), noise_sigma=np.zeros(2), zoom=np.ones(2)))
    assert first.shape == (320, 256, 3)
    assert np.array_equal(second[:, 64:], first[:, :-64])
    assert np.array_equal(second[:, :64], np.repeat(first[:, :1], 64, axis=1))
