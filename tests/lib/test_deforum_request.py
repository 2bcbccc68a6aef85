"""The request of deforum: valid values, parsed strings, and all errors at once."""

import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest

from lib.deforum_request import Inputs, Request
from lib.errors import UserError

DEFAULTS = Inputs(seed=7)
MOTION = ("angle", "zoom", "translation_x", "translation_y")


def request(**changes: Any) -> Request:
    """Return the request of the defaults with other values, of any type."""
    return replace(DEFAULTS, **changes).request()


def refusal(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        request(**changes)
    return error.value.problems


def test_the_documented_defaults_are_valid() -> None:
    read = request()
    assert read.inputs == DEFAULTS
    assert read.prompts.at(0) == read.prompts.at(99)
    assert read.prompts.at(0).text == "a beautiful portrait of a woman by Artgerm, trending on Artstation"
    for name, value in zip(MOTION, (0, 1.04, 0, 0), strict=True):
        assert getattr(read, name).tolist() == [value] * 100


def test_expressions_can_use_the_frame_the_last_frame_and_the_seed() -> None:
    read = request(max_frames=200, angle="0:(t)", translation_x="0:(max_f)", translation_y="0:(s)", seed=11)
    assert read.angle.tolist() == list(range(200))
    assert read.translation_x.tolist() == [199] * 200
    assert read.translation_y.tolist() == [11] * 200


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_frames", 99, "a whole number from 100 to 1000"),
        ("max_frames", 1001, "a whole number from 100 to 1000"),
        ("fps", 9, "a whole number from 10 to 60"),
        ("fps", 61, "a whole number from 10 to 60"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
        ("seed", 2**32, "a whole number from 0 to 4294967295"),
        ("sampler", "k_lms", "one of klms, dpm2, dpm2_ancestral, heun, euler, euler_ancestral, plms, ddim"),
        ("color_coherence", "none", "one of None, Match Frame 0 HSV, Match Frame 0 LAB, Match Frame 0 RGB"),
        ("animation_prompts", None, "text of at most 20000 characters"),
        ("animation_prompts", "x" * 20_001, "text of at most 20000 characters"),
        *((name, 0, "text of at most 50000 characters") for name in MOTION),
    ],
)
def test_an_error_names_the_input_its_value_and_what_is_allowed(name: str, value: object, allowed: str) -> None:
    (problem,) = refusal(**{name: value})
    assert problem.startswith(f"{name} is {repr(value)[:50]}")
    assert f"but must be {allowed}" in problem


def test_the_bounds_are_valid() -> None:
    lowest: dict[str, Any] = {"max_frames": 100, "fps": 10, "seed": 0}
    for bounds in (lowest, {"max_frames": 1000, "fps": 60, "seed": 2**32 - 1}):
        assert request(**bounds).inputs == replace(DEFAULTS, **bounds)
    described = request(max_frames=100.0, fps=20.0).described()  # JSON has one kind of number
    assert [repr(described[name]) for name in ("max_frames", "fps")] == ["100", "20"]


@pytest.mark.parametrize("zoom", ["0:(0)", "0:(1), 20:(-1)", "0:(cos(t))", "0:(1e-9)"])
def test_zoom_must_stay_above_0(zoom: str) -> None:
    (problem,) = refusal(zoom=zoom)
    assert problem.startswith("zoom")
    assert "but must be above 1e-06" in problem
    request(angle=zoom, translation_x=zoom, translation_y=zoom)


EVERYTHING_WRONG: dict[str, Any] = {
    "max_frames": 7,
    "animation_prompts": "0: a | 0: b | 9999: c | 5: (d:500) | ",
    "angle": "0:(1), 10:(lambda), 20:(1+*2)",
    "zoom": "0:(0)",
    "translation_x": "0:(1/0), 3:(log(-1))",
    "translation_y": "(5",
    "color_coherence": "Match Frame 1 LAB",
    "sampler": "dpm3",
    "fps": 1000,
    "seed": -5,
}


def test_all_problems_are_reported_at_once_each_with_its_position() -> None:
    places = [
        ("max_frames is 7,", "from 100 to 1000"),
        ("seed is -5,", "from 0 to 4294967295"),
        ("animation_prompts, part 2 ('0: b')", "part 1"),
        ("animation_prompts, part 3 ('9999: c')", "max_frames"),
        ("animation_prompts, part 4 ('5: (d:500)')", "weight of 'd' is 500"),
        ("animation_prompts, part 5 ('')", "empty"),
        ("angle, keyframe 10:", "character 12: unknown name 'lambda'"),
        ("angle, keyframe 20:", "character 27: "),
        ("zoom, keyframe 0:", "is 0.0 at frame 0"),
        ("translation_x, keyframe 0:", "is inf at frame 0"),
        ("translation_x, keyframe 3:", "is nan at frame 3"),
        ("translation_y: character ", "'(' is never closed"),
        ("color_coherence is 'Match Frame 1 LAB',", "Match Frame 0 LAB"),
        ("sampler is 'dpm3',", "klms, dpm2,"),
        ("fps is 1000,", "from 10 to 60"),
    ]
    problems = refusal(**EVERYTHING_WRONG)
    assert len(problems) == len(places)
    for problem, (beginning, said) in zip(problems, places, strict=True):
        assert problem.startswith(beginning)
        assert said in problem
    assert {problem.split(",")[0].split(":")[0].split()[0] for problem in problems} == asdict(DEFAULTS).keys()


def test_the_minimum_number_of_frames_can_be_lowered() -> None:
    few = replace(DEFAULTS, max_frames=3)
    assert len(few.request(min_frames=3).angle) == 3
    with pytest.raises(UserError, match="from 4 to 1000"):
        few.request(min_frames=4)


@pytest.mark.parametrize("model", ["riffusion", "deforum"])
def test_inputs_are_checked_without_pytorch(model: str) -> None:
    program = (
        f"import sys; from lib.{model}_request import Inputs; Inputs().request(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
