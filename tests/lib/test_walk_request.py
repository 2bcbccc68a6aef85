"""The inputs of a walk, and the prompts at each bar."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile

from lib.audio.spectrogram import SAMPLE_RATE_HZ
from lib.errors import UserError
from lib.walk_request import BEAT_S, BEATS_PER_BAR, BPM, CLIP_BARS, CLIP_SAMPLES, Inputs, Request

HOLD = "0: a | 4: b | 8: b | 10: c"


def request(**changes: Any) -> Request:
    return replace(Inputs(), **changes).request()


def blend(bar: float, **changes: Any) -> tuple[str, str, float]:
    found = request(**changes).blend(bar)
    return found.prompt.text, found.following.text, found.share


def test_a_bar_lasts_2_555_seconds() -> None:
    assert pytest.approx(CLIP_BARS * BEATS_PER_BAR * BEAT_S) == CLIP_SAMPLES / SAMPLE_RATE_HZ
    assert pytest.approx(93.93, abs=0.005) == BPM
    assert pytest.approx(2.555, abs=0.0005) == BEATS_PER_BAR * BEAT_S


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        (0, ("a", "b", 0)),
        (1, ("a", "b", 0.25)),
        (4, ("b", "b", 0)),
        (7, ("b", "b", 0.75)),
        (9, ("b", "c", 0.5)),
        (10, ("c", "c", 0)),
        (200, ("c", "c", 0)),
    ],
)
def test_prompts_blend_between_two_bars_and_a_prompt_given_twice_holds(
    bar: float, expected: tuple[str, str, float]
) -> None:
    assert blend(bar, prompts=HOLD) == expected


def test_the_first_prompt_plays_from_the_start() -> None:
    assert blend(1, prompts="4: a | 8: b") == ("a", "a", 0)


@pytest.mark.parametrize("bars", [2, 12, 240])
@pytest.mark.parametrize("start_bar", [0, 1])
def test_the_prompt_at_a_bar_does_not_depend_on_the_part_that_is_rendered(bars: int, start_bar: int) -> None:
    assert blend(6.5, prompts=HOLD, bars=bars, start_bar=start_bar) == ("b", "b", 0.625)


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        (10, ("c", "a", 0)),
        (13, ("c", "a", 0.5)),
        (15.5, ("c", "a", 5.5 / 6)),
        (16, ("a", "b", 0)),
        (-1, ("c", "a", 5 / 6)),
    ],
)
def test_in_a_loop_the_last_prompt_leads_to_the_first(bar: float, expected: tuple[str, str, float]) -> None:
    assert blend(bar, prompts=HOLD, loop=True) == pytest.approx(expected)


def test_a_loop_may_begin_between_two_prompts() -> None:
    assert blend(0, prompts="4: a | 12: b", loop=True) == ("b", "a", 0.5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bars": 1}, "bars is 1, but must be a whole number from 2 to 240"),
        ({"bars": 241}, "bars is 241, but must be a whole number from 2 to 240"),
        ({"bars": None}, "bars is None, but must be a whole number from 2 to 240"),
        ({"start_bar": 16}, "start_bar is 16, but must be a whole number from 0 to 15"),
        ({"start_bar": -1}, "start_bar is -1, but must be a whole number from 0 to 15"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0 to 4294967295"),
        ({"denoising": 1.1}, "denoising is 1.1, but must be a number from 0 to 1"),
        ({"guidance_scale": 31}, "guidance_scale is 31, but must be a number from 0 to 30"),
        ({"seed_drift": float("nan")}, "seed_drift is nan, but must be a number from 0 to 1"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0, but must be a whole number from 1 to 1000"),
        ({"seed_image_id": "disco"}, "seed_image_id is 'disco', but must be one of agile, marim"),
        ({"output_format": "ogg"}, "output_format is 'ogg', but must be one of wav, flac, mp3"),
        ({"loop": "yes"}, "loop is 'yes', but must be true or false"),
        ({"loop": True, "bars": 7, "prompts": "0: a"}, "bars is 7, but must be even in a loop"),
        ({"loop": True, "bars": 8}, "prompts: bar 8 is not in the loop, whose bars are 0 to 7"),
        ({"negative_prompt": 5}, "negative_prompt is 5, but must be text of at most 4000 characters"),
        ({"prompts": 5}, "prompts is 5, but must be text of at most 20000 characters"),
        ({"prompts": "0: a | 0: b"}, "prompts, part 2 ('0: b'): bar 0 already has a prompt, in part 1"),
        (
            {"prompts": "0: a | 241: b"},
            "prompts, part 2 ('241: b'): bar '241' is above the longest walk's last bar, 240",
        ),
        ({"prompts": "0: a | 4:"}, "prompts, part 2 ('4:'): the prompt is empty"),
        ({"prompts": "0: a --neg b"}, "prompts, part 1 ('0: a --neg b'): move what follows --neg to negative_prompt"),
        ({"seed_audio": "missing.wav"}, "seed_audio is not a sound file that can be read: No such file or directory"),
    ],
)
def test_an_error_names_the_input_its_value_and_what_is_allowed(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as error:
        request(**changes)
    assert str(error.value).startswith(problem)
    assert len(error.value.problems) == 1


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        request(prompts="", bars=0, denoising=7, seed_audio="missing.wav")
    assert [problem.split()[0] for problem in error.value.problems] == ["prompts,", "bars", "denoising", "seed_audio"]


def test_the_metadata_has_the_name_of_the_seeds_file_without_its_folder(tmp_path: Any) -> None:
    soundfile.write(tmp_path / "drums.wav", np.ones(44_100), 44_100)
    described = request(seed_audio=str(tmp_path / "drums.wav")).described()
    assert described["seed_audio"] == "drums.wav"
    assert described["bars"] == "16"
    assert "negative_prompt" not in described
