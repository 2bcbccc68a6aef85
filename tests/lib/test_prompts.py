import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import prompts
from lib.errors import UserError
from tests.lib.conftest import assert_linear_time

NAME = "animation_prompts"
repeatable = settings(derandomize=True, deadline=None)


def keyframes(text: str, max_frames: int = 100) -> dict[int, str]:
    return {frame: prompt.text for frame, prompt in prompts.parse(NAME, text, max_frames).keyframes}


def problems(text: object, max_frames: int = 100) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        prompts.parse(NAME, text, max_frames)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0: a red circle | 50: a blue square", {0: "a red circle", 50: "a blue square"}),
        ("50: b | 0: a", {0: "a", 50: "b"}),
        ("  0  :  a  \n|\n\t50 : b\n", {0: "a", 50: "b"}),
        ("a red circle", {0: "a red circle"}),
        ("a red circle | 50: a blue square", {0: "a red circle", 50: "a blue square"}),
        ("50: a blue square | a red circle", {0: "a red circle", 50: "a blue square"}),
        ("0: a 16:9 photo: wide", {0: "a 16:9 photo: wide"}),
        ("0: 16:9 photo", {0: "16:9 photo"}),
        ("a 16:9 photo", {0: "a 16:9 photo"}),
        ("(cat:1.2) | 7: (dog:0.8)", {0: "(cat:1.2)", 7: "(dog:0.8)"}),
        ("0: : a", {0: ": a"}),
        ("-5: a", {0: "-5: a"}),
        ("5 cats: one sleeps", {0: "5 cats: one sleeps"}),
        ("2001 | 5: a", {0: "2001", 5: "a"}),
        ("007: Bond", {7: "Bond"}),
        ("0: two\nlines", {0: "two\nlines"}),
        ("0: \u4e00\u532f\u99ac | 5: \u0642\u0637\u0629 | 6: \U0001f431", {0: "一匯馬", 5: "قطة", 6: "🐱"}),
        ("\u0663: a", {0: "\u0663: a"}),  # only 0 to 9 make a frame number
        ("100: past the last frame", {100: "past the last frame"}),
        ('{"0": "a cat", "50": "a dog | bird"}', {0: "a cat", 50: "a dog | bird"}),
        ('{"0": "a cat"', {0: '{"0": "a cat"'}),
        ('{"a": "b"}', {0: '{"a": "b"}'}),
        ("0: a cat\n50: a dog\n", {0: "a cat", 50: "a dog"}),
        ("0: a cat\nand its tail", {0: "a cat\nand its tail"}),
        ("0: a\n50: b | 60: c", {0: "a\n50: b", 60: "c"}),
        ("a cat --negative space", {0: "a cat --negative space"}),
    ],
)
def test_prompts_that_people_write_are_parsed(text: str, expected: dict[int, str]) -> None:
    assert keyframes(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "animation_prompts, part 1 (''): the prompt is empty"),
        ("0: a cat --neg blurry", "this model has no negative prompt; leave out --neg and what follows"),
        ('{"0": "a", "200": "b"}', "frame '200' is above max_frames, 100"),
        ("0: a | | 5: b", "animation_prompts, part 2 (''): the prompt is empty"),
        ("0: a | 50: ", "animation_prompts, part 2 ('50:'): the prompt is empty"),
        ("5: a | 05: b", "animation_prompts, part 2 ('05: b'): frame 5 already has a prompt, in part 1"),
        ("a | b", "animation_prompts, part 2 ('b'): frame 0 already has a prompt, in part 1"),
        ("0: a | 101: b", "animation_prompts, part 2 ('101: b'): frame '101' is above max_frames, 100 ("),
        ("2001: a space odyssey", "needs a frame too, as in 0: 16:9 photo"),
        ("9" * 9999 + ": a", "is above max_frames, 100"),
        ("0: a\ud800", "without the lone surrogate at 4"),
        ("a" * 4001, "the prompt has 4001 characters, but must have at most 4000"),
        ("a | 9: (b:101)", "animation_prompts, part 2 ('9: (b:101)'): the weight of 'b' is 101, but must be from 0"),
        ("a" * 20_001, "animation_prompts is 'aaa"),
        ("|" * 101, "animation_prompts has 102 parts, but must have at most 101"),
        (None, "animation_prompts is None, but must be text"),
    ],
)
def test_an_error_names_the_part(text: object, said: str) -> None:
    (problem,) = problems(text)
    assert said in problem


def test_max_frames_is_the_highest_frame() -> None:
    assert keyframes("1000: a", 1000) == {1000: "a"}
    assert problems("1001: a", 1000)
    assert len(keyframes("|".join(f"{frame}: a" for frame in range(101)))) == 101


def test_all_problems_are_reported_at_once() -> None:
    found = problems("0: a | 0: b | 500: c | 7: | 8: good | (a:999) | ")
    assert [problem.split("(")[0] for problem in found] == [f"animation_prompts, part {n} " for n in (2, 3, 4, 6, 7)]


HOSTILE: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "0:" + "1" * n,
    "a frame of digits": lambda n: "0" * n + "1:a",
    "a weight of digits": lambda n: "(a:" + "1" * n,
    "a weight of digits and blanks": lambda n: "(a:" + "1" * (n // 2) + " " * (n // 2) + "x",
    "blanks": lambda n: "1" + " " * n + "x",
    "parts": lambda n: "|" * (n // 4),
    "brackets that open": lambda n: "(a" * (n // 2),
    "brackets in brackets": lambda n: "(a" * (n // 3) + ")" * (n // 3),
    "weights in weights": lambda n: "(a" * (n // 6) + ":1)" * (n // 6),
    "backslashes": lambda n: "\\" * n,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_to_parse_is_linear_in_the_length(kind: str) -> None:
    assert_linear_time(lambda text: prompts.parse(NAME, text, 1000), HOSTILE[kind](990), HOSTILE[kind](3960))


TEXTS = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), min_size=1, max_size=40)
TEXTS = TEXTS.map(str.strip).filter(bool)
BLANKS = st.sampled_from(["", " ", "\n", "\t ", "\u3000"])


@settings(repeatable, max_examples=200)
@given(st.dictionaries(st.integers(0, 100), TEXTS, min_size=1, max_size=8), st.data())
def test_any_prompts_have_the_frames_they_are_written_for(expected: dict[int, str], data: st.DataObject) -> None:
    parts = []
    for frame, text in data.draw(st.permutations(list(expected.items()))):
        blank, other = data.draw(BLANKS), data.draw(BLANKS)
        plain = frame == 0 and not re.match(r"[0-9]+\s*:", text) and data.draw(st.booleans())
        parts.append(f"{blank}{text}{other}" if plain else f"{blank}{frame}{other}:{blank}{text}{other}")
    found = prompts.parse(NAME, "|".join(parts), 100)
    assert {frame: prompt.text for frame, prompt in found.keyframes} == expected
    assert [frame for frame, _ in found.keyframes] == sorted(expected)
    for n in range(100):
        before = [frame for frame in expected if frame <= n]
        assert found.at(n).text == expected[max(before) if before else min(expected)]


@settings(repeatable, max_examples=500)
@given(st.one_of(st.text(), st.text("019:| ab\n\ud800", max_size=60)))
def test_invalid_input_raises_nothing_but_a_user_error(text: str) -> None:
    try:
        found = prompts.parse(NAME, text, 100)
    except UserError as error:
        assert all(problem.startswith("animation_prompts") for problem in error.problems)
        str(error).encode()
    else:
        assert all(0 <= frame <= 100 and prompt.text == prompt.text.strip() != "" for frame, prompt in found.keyframes)
