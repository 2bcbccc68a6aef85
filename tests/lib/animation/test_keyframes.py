import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.animation import keyframes
from lib.animation.keyframes import Bounds, Scene
from lib.animation.operations import Values
from lib.errors import UserError
from tests.lib.conftest import assert_linear_time

repeatable = settings(derandomize=True, deadline=None)


def parse(text: object, max_frames: int = 100, above: float | None = None) -> Values:
    return keyframes.parse("zoom", text, Scene(max_frames, 42), Bounds(above=above))


def refusal(text: object, above: float | None = None) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, above=above)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("0:(10*sin(2*3.14*t/10))", lambda t: 10 * math.sin(2 * 3.14 * t / 10)),
        ("0: (0), 30: (15), 60: (0)", lambda t: max(15 - abs(t - 30) / 2, 0)),
        ("0: (1+0.02*sin(2*pi*t/50))", lambda t: 1 + 0.02 * math.sin(2 * math.pi * t / 50)),
    ],
)
def test_motion_strings_that_people_share_are_parsed(text: str, reference: Callable[[int], float]) -> None:
    np.testing.assert_allclose(parse(text), [reference(t) for t in range(100)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "0:(3),40:(5)",
        " 0 : ( 3 ) ,\n40\t:\n(5)  ",
        "0: 3, 40: 5",
        "0:((3)), 40:(((5)))",
        "0:(3), 40:(5),",
        "0:(3), 40:(5) , \n",
        "40:(5), 0:(3)",
        "0:(max(1, 3)), 40:(min(5, 7, (9)))",
        "0:(s/14), 40:(max_f-94)",
        "0:(3) | 40:(5)",
        "0:(3); 40:(5);",
        "0:(3) 40:(5)",
        "0:(3),, 40:(5) | ",
        '"0:(3), 40:(5)"',
        "{0:(3), 40:(5)}",
        "0:(3), 40:(5).",
        "0:(9), 40:(5), 0:(3)",
    ],
)
def test_equivalent_spellings_have_the_same_values(text: str) -> None:
    np.testing.assert_allclose(parse(text), parse("0:(3), 40:(5)"), rtol=1e-15)


def test_a_number_is_interpolated_to_the_first_value_of_the_next_expression() -> None:
    values = parse("0:(0), 10:(t*3)")
    np.testing.assert_allclose(values, 3.0 * np.arange(100))


def test_a_value_without_t_is_a_number() -> None:
    np.testing.assert_allclose(parse("0:(2*pi), 10:(4*pi)")[5], 3 * math.pi)
    np.testing.assert_allclose(parse("0:(max_f), 10:(s)")[5], (99 + 42) / 2)


def test_the_first_value_applies_before_its_keyframe() -> None:
    assert parse("30:(5), 60:(8)")[:31].tolist() == [5] * 31
    assert parse("30:(t)")[:32].tolist() == [30] * 31 + [31]


@pytest.mark.parametrize("beyond", ["100:(200)", "200:(400)", "200:(2*t)", "500000:(1000000)"])
def test_a_keyframe_beyond_the_video_shapes_the_ramp(beyond: str) -> None:
    np.testing.assert_allclose(parse(f"0:(0), {beyond}"), np.arange(100) * 2)


def test_only_keyframes_beyond_the_video() -> None:
    assert parse("150:(t), 170:(3)").tolist() == [150] * 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "zoom: character 1: expected a keyframe such as 0:(1.04), not ''"),
        ("0:(1), 2", "zoom: character 8: expected a keyframe such as 0:(1.04), not '2'"),
        ("\u0663:(1)", "zoom: character 1: expected a keyframe such as 0:(1.04), not '\u0663:(1)'"),
        ("0:(1), 50:()", "zoom, keyframe 50: character 12: a value is missing before ')'"),
        ("0:(1)\n,\n50:(2 3)", "zoom, keyframe 50: character 15: an operator such as + or * is missing before '3'"),
        ("0:1 50:(2)", "zoom, keyframe 0: character 7: unexpected ':'; put a comma before the next"),
        ("-1:(1)", "zoom: character 1: expected a keyframe such as 0:(1.04), not '-1:(1)'"),
        ("0:(1), 12.5:(2)", "zoom: character 8: expected a keyframe such as 0:(1.04), not '12.5:(2)'"),
        ("0:(1, 50:(2)", "zoom: character 3: '(' is never closed"),
        ("0:(1)), 50:(2)", "zoom: character 6: unmatched ')'"),
        ("0:(1), 1000001:(2)", "zoom: character 8: keyframe '1000001' must be at most 1000000"),
        (",".join(["1:1"] * 2001), "zoom has 2001 keyframes, but must have at most 2000"),
        ("0:(1000001)", "zoom, keyframe 0: the value is 1000001.0 at frame 0, but must be from -1000000"),
        ("0:(1), 50:(1/(t-60))", "zoom, keyframe 50: the value is inf at frame 60,"),
        ("0:(1)\ud800", "without the lone surrogate"),
        (None, "zoom is None, but must be text"),
    ],
)
def test_an_error_names_the_place_and_the_problem(text: object, said: str) -> None:
    assert said in refusal(text)


def test_an_expression_is_only_evaluated_where_it_applies() -> None:
    assert parse("0:(1/(t-60)), 50:(2)")[50:].tolist() == [2] * 50


def test_all_problems_are_reported_at_once() -> None:
    problems = refusal("0:(x), 5:(1), oops, 5:(2), 7:(sin), 9:(1+)").split("\n")
    heads = [problem.split(": ")[0].removeprefix("zoom, keyframe ") for problem in problems]
    assert heads == ["zoom", "0", "7", "9"]
    assert len(refusal("0:(1/0), 5:(log(0)), 7:(1), 9:(0/0*t)").split("\n")) == 3


def test_problems_of_frames_values_and_bounds_are_reported_together() -> None:
    problems = refusal("0:(0), 10:(foo), 20:(1), 30:(0/0), 40:(1)", above=0).split("\n")
    heads = ["zoom, keyframe 10: character 12: unknown name 'foo'", "zoom, keyframe 0: the", "zoom, keyframe 30: the"]
    assert [problem.startswith(head) for problem, head in zip(problems, heads, strict=True)] == [True] * 3


def test_an_error_about_the_bound_names_the_keyframe_and_the_first_frame_below_it() -> None:
    assert refusal("0:(1), 50:(-1)", above=0) == "zoom, keyframe 50: the value is -1.0 at frame 50, but must be above 0"
    assert refusal("0:(0)", above=0) == "zoom, keyframe 0: the value is 0.0 at frame 0, but must be above 0"
    assert "keyframe 0: the value is -0.5 at frame 3," in refusal("0:(where(t<3, 1, -.5))", above=0)
    assert refusal("0:(1), 200:(-3)", above=0) == "zoom: the value is 0.0 at frame 50, but must be above 0"
    assert parse("0:(1), 200:(-.9)", above=0).min() > 0
    assert parse("0:(-1)").max() == -1


def keyframed(value: str) -> Callable[[int], str]:
    """Return a function that builds a motion string of about n characters, with `value` at each keyframe."""
    return lambda n: ",".join(f"{frame}:({value})" for frame in range(min(n // (len(value) + 7), 1999)))


HOSTILE: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "1" * n,
    "a frame of digits": lambda n: "1" * n + ":1",
    "blanks": lambda n: "0" + " " * n + "x",
    "commas": lambda n: "," * n,
    "brackets that open": lambda n: "0:" + "(" * n,
    "signs": keyframed("-" * 190 + "x"),
    "sums": keyframed("1" + "+1" * 900 + "+"),
    "values": keyframed("sin(" + "t," * 900 + "t)"),
    "blanks in values": keyframed("t" + " " * 1900 + "t"),
    "numbers": keyframed("1" * 900 + "." + "1" * 900 + "e5x"),
    "names": keyframed("x"),
    "infinite values": keyframed("1/0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_to_parse_is_linear_in_the_length(kind: str) -> None:
    assert_linear_time(lambda text: parse(text, above=0), HOSTILE[kind](12_000), HOSTILE[kind](48_000))


Keys = dict[int, tuple[str, Callable[[int], float]]]  # what a motion string means: text and function of t by frame

VALUES: st.SearchStrategy[tuple[str, Callable[[int], float]]] = st.one_of(
    st.floats(-1e6, 1e6).map(lambda number: (repr(number), lambda _: number)),
    st.integers(-999, 999).map(lambda n: (f"{n} * t", lambda t: n * t)),
    st.integers(1, 99).map(lambda n: (f"where(t % {n} < 3, 7, -t)", lambda t: 7 if t % n < 3 else -t)),
)
BLANKS = st.sampled_from(["", " ", "\n", "\t ", "  "])


@st.composite
def motions(draw: st.DrawFn) -> tuple[str, Keys]:
    """Draw (text, {frame: (text, function of t)}): a motion string and its meaning."""
    keys = draw(st.dictionaries(st.integers(0, 300), VALUES, min_size=1, max_size=8))
    parts = []
    for frame, (value, _) in draw(st.permutations(sorted(keys.items(), key=lambda item: item[0]))):
        blanks = [draw(BLANKS) for _ in range(4)]
        value = f"({blanks[3]}{value})" if draw(st.booleans()) else value
        parts.append(f"{blanks[0]}{frame}{blanks[1]}:{blanks[2]}{value}{blanks[3]}")
    return ",".join(parts) + draw(st.sampled_from(["", ",", " , "])), keys


def value_at(n: int, keys: Keys) -> float:
    """Return the value at frame n, computed by the rules for one frame."""
    frames = sorted(keys)
    if n < frames[0]:
        return keys[frames[0]][1](frames[0])
    here = max(frame for frame in frames if frame <= n)
    later = [frame for frame in frames if frame > n]
    text, function = keys[here]
    if "t" in text or not later:
        return function(n)
    start, end = function(here), keys[later[0]][1](later[0])
    return start + (end - start) * (n - here) / (later[0] - here)


@settings(repeatable, max_examples=200)
@given(motions())
def test_any_motion_string_has_the_values_it_describes(motion: tuple[str, Keys]) -> None:
    text, keys = motion
    np.testing.assert_allclose(parse(text), [value_at(n, keys) for n in range(100)], rtol=1e-9, atol=1e-9)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a motion string with a few characters deleted or inserted."""
    text, _ = draw(motions())
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(text)))
        text = text[:i] + draw(st.sampled_from([*"(),:|.-*/0t'[\0 e", "**", "٣", "\ud800", "sin("])) + text[i:]
        j = draw(st.integers(0, len(text)))
        text = text[:j] + text[j + draw(st.integers(0, 3)) :]
    return text


@settings(repeatable, max_examples=300)
@given(st.one_of(mutated(), st.text(), st.text("0123456789:(),.+-*/%t sinmax_f<=")))
def test_invalid_input_raises_nothing_but_a_user_error(text: str) -> None:
    try:
        values = parse(text, above=-1e5)
    except UserError as error:
        assert all(problem.startswith("zoom") for problem in error.problems)
        str(error).encode()
    else:
        assert values.shape == (100,)
        assert (np.abs(values) <= 1e6).all()
