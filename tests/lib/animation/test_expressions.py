import math
import operator
import time
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.animation import expressions
from lib.errors import UserError

FRAMES = np.arange(100)
steady = settings(derandomize=True, deadline=timedelta(milliseconds=500))


def evaluate(text, frames=FRAMES, max_frames=100, seed=42):
    return expressions.parse(text).values(frames, max_frames, seed)


def refusal(text, start=0, frames=FRAMES):
    with pytest.raises(UserError) as caught:
        expressions.parse(text, start).values(frames, 100, 42)
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("max_f", lambda _: 99),
        ("t/max_f", lambda t: t / 99),
        ("s + t", lambda t: 42 + t),
        ("pi", lambda _: math.pi),
        ("e", lambda _: math.e),
        ("-t + +3", lambda t: -t + 3),
        ("1 + 2 * t - 6 / 4", lambda t: 1 + 2 * t - 1.5),
        ("t % 7", lambda t: t % 7),
        ("-t ** 2", lambda t: -(t**2)),
        ("2 ** -3 ** 0", lambda _: 2 ** -(3**0)),
        ("1.5e2 + .5 + 2. + 1E-1", lambda _: 152.6),
        ("0 < t < 5", lambda t: 0 < t < 5),
        ("5 < t != 8 <= 9", lambda t: 5 < t != 8),
        ("where(t < 50, 1.02, 0.98)", lambda t: 1.02 if t < 50 else 0.98),
        ("where(t % 2, t, -t)", lambda t: t if t % 2 else -t),
        ("where(t > 0, 1/t, 0)", lambda t: 1 / t if t else 0),
        ("sin(t)", math.sin),
        ("cos(t)", math.cos),
        ("tan(t)", math.tan),
        ("asin(t/100)", lambda t: math.asin(t / 100)),
        ("acos(t/100)", lambda t: math.acos(t / 100)),
        ("atan(t)", math.atan),
        ("sqrt(t)", math.sqrt),
        ("exp(-t)", lambda t: math.exp(-t)),
        ("log(t + 1)", lambda t: math.log(t + 1)),
        ("min(t)", lambda t: t),
        ("floor(t / -3)", lambda t: math.floor(t / -3)),
        ("ceil(t / 3)", lambda t: math.ceil(t / 3)),
        ("round(t / 2)", lambda t: round(t / 2)),
        ("round(t / 3, 2)", lambda t: round(t / 3, 2)),
        ("round(17 * t, -1)", lambda t: round(17 * t, -1)),
        ("10*sin(2*3.14*t/10)", lambda t: 10 * math.sin(2 * 3.14 * t / 10)),
        ("1.0025+0.002*sin(1.25*3.14*t/30)", lambda t: 1.0025 + 0.002 * math.sin(1.25 * 3.14 * t / 30)),
        ("  (\n t +\t1\u00a0) ", lambda t: t + 1),
        ("(sin)(t)", math.sin),
    ],
)
def test_equals_python(text, reference):
    values = evaluate(text)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, [reference(t) for t in range(100)], rtol=1e-12, atol=1e-12)


# Whole numbers alone, so that both sides are exact.
LEAVES = st.one_of(
    st.integers(0, 99).map(lambda n: (str(n), lambda _: n)),
    st.sampled_from([("t", lambda t: t), ("max_f", lambda _: 99), ("s", lambda _: 42)]),
)
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "%": operator.mod}
BINARY |= {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATIONS = [
    *((f"({{}} {sign} {{}})", 2, operation) for sign, operation in BINARY.items()),
    ("-({})", 1, operator.neg),
    ("abs({})", 1, abs),
    ("floor({} / 4)", 1, lambda a: a // 4),
    ("ceil({} / 4)", 1, lambda a: -(-a // 4)),
    ("min({}, {})", 2, min),
    ("max({}, {})", 2, max),
    ("where({}, {}, {})", 3, lambda c, a, b: a if c else b),
    ("({} < {} <= {})", 3, lambda a, b, c: a < b <= c),
]


@st.composite
def operations(draw, operands):
    """Draw (text, function of t) from operands that are such pairs."""
    text, arity, operation = draw(st.sampled_from(OPERATIONS))
    texts, functions = zip(*[draw(operands) for _ in range(arity)], strict=True)
    return text.format(*texts), lambda t: operation(*[function(t) for function in functions])


@settings(steady, max_examples=300)
@given(st.recursive(LEAVES, operations, max_leaves=7), st.integers(0, 99))
def test_equals_python_for_any_expression(tree, t):
    text, function = tree
    try:
        expected = function(t)
    except ZeroDivisionError:
        return
    if abs(expected) <= expressions.MAX_VALUE:
        assert evaluate(text, np.array([t])).tolist() == [expected]
    else:
        assert "its value is" in refusal(text, frames=np.array([t]))


def test_tells_whether_the_frame_matters():
    assert expressions.parse("sin(t)").moves
    assert not expressions.parse("where(max_f > s, tan(2*pi), sqrt(e))").moves


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 + foo", "'foo' at character 5 is not one of t, max_f,"),
        ("arctan(t)", "'arctan' at character 1 "),
        ("t.real", "'t.real' at character 1 "),
        ("().__class__", "'.__class__' at character 3 "),
        ("__import__('os')", "'__import__' at character 1 "),
        ("t[0]", "'[' at character 2 is not one of numbers,"),
        ("007", "'007' at character 1 "),
        ("1_000", "'1_000' at character 1 "),
        ("0x10", "'0x10' at character 1 "),
        ("1j", "'1j' at character 1 "),
        ("2t", "'2t' at character 1 "),
        ("'a'", "at character 1 "),
        ("f'{t}'", "'f' at character 1 "),
        ("None", "'None' at character 1 "),
        ("True", "'True' at character 1 "),
        ("nan", "'nan' at character 1 "),
        ("inf", "'inf' at character 1 "),
        ("(t:=1)", "':' at character 3 "),
        ("lambda: 1", "'lambda' at character 1 "),
        ("t and 1", "'and' at character 3 "),
        ("1 is 1", "'is' at character 3 "),
        ("1 if t else 2", "'if' at character 3 "),
        ("t // 2", "'//' at character 3 "),
        ("1 # one", "'#' at character 3 "),
        ("t\0", r"'\x00' at character 2 "),
        ("t\ud800", r"'\ud800' at character 2 "),
        ("\uff11", "'\uff11' at character 1 "),
        ("min(key=t)", "'key' at character 5 "),
        ("min(t=1)", "'=' at character 6 "),
        ("min(*t)", "what stands at character 5 is no part"),
        ("min(**t)", "what stands at character 1 is no part"),
        ("1 + sin", "sin at character 5 must be followed by its values in brackets"),
        ("sin()", "sin at character 1 can't take 0 values"),
        ("2*sin(1, 2)", "sin at character 3 can't take 2 values"),
        ("where(t, 1)", "where at character 1 can't take 2 values"),
        ("round(1, 2, 3)", "round at character 1 can't take 3 values"),
        ("2(t)", "what is called at character 1 is no function"),
        ("t(1)", "what is called at character 1 is no function"),
        ("(1, 2)", "there are 2 values at character 1"),
        ("()", "there are 0 values at character 1"),
        ("1 2", "can't be read near character 3"),
        ("  1 2", "can't be read near character 5"),
        ("1 +", "can't be read near character 4"),
        ("1)", "can't be read near character 2"),
        ("", "no value at character 1"),
        (" \n", "no value at character 1"),
        ("1e309", "number at character 1 is too large"),
        ("1+" + "9" * 1000, "number at character 3 is too large"),
        ("1/t", "its value is inf at frame 0,"),
        ("1/(t - 50)", "its value is inf at frame 50,"),
        ("sqrt(50 - t)", "its value is nan at frame 51,"),
        ("t % 0", "its value is nan at frame 0,"),
        ("(-1) ** 0.5", "its value is nan at frame 0,"),
        ("t * 20000", "its value is 1020000.0 at frame 51, but must be from -1000000 to 1000000"),
        ("9**9**9**9", "its value is inf at frame 0,"),
    ],
)
def test_refuses_and_says_what_and_where(text, said):
    assert said in refusal(text)


def test_positions_count_in_all_that_the_user_typed():
    assert "'foo' at character 13 " in refusal("  foo", start=10)
    assert "near character 15" in refusal("  1 2", start=10)
    assert "sin at character 13 " in refusal("  sin", start=10)
    assert "no value at character 11" in refusal("  ", start=10)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 900 + "1" + ")" * 900,
        "sin(" * 101 + "t" + ")" * 101,
        "-" * 1999 + "1",
        "1" + "**1" * 600,
        "1" + "+1" * 999,
        "9" * 1_000_000,
        "t " * 1_000_000,
    ],
)
def test_refuses_what_is_too_long_or_too_deep_at_once(text):
    started_s = time.process_time()
    said = refusal(text)
    assert "levels" in said or "characters, but must have" in said
    assert time.process_time() - started_s < 0.1


def test_depth_is_bounded_wherever_the_call_comes_from():
    def from_below(frames_of_python):
        if frames_of_python:
            return from_below(frames_of_python - 1)
        evaluate("sin(" * 98 + "t" + ")" * 98)
        return refusal("-" * 1999 + "1")

    assert "levels" in from_below(500)


def test_takes_the_longest_and_deepest_at_once():
    started_s = time.process_time()
    evaluate("sin(" * 98 + "t" + ")" * 98, np.arange(1000))
    evaluate("max(" + ",".join(["t**.5"] * 300) + ")", np.arange(1000))
    assert time.process_time() - started_s < 0.2


PIECES = ["t", "max_f", "s", "pi", "sin(", "where(", "round(", "(", ")", ",", "**", "*", "/", "//", "%", "<", "=="]
PIECES += ["-", "0", "1", "9e9", ".", "_", "e", "\n", " ", "=", ":", "'", '"', "[", "{", "\\", "#", "\0", "é", "if"]


@settings(steady, max_examples=2000)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=40)))
def test_only_a_user_error_ever_comes_out(text):
    try:
        values = evaluate(text)
    except UserError as error:
        str(error).encode()
    else:
        assert values.shape == FRAMES.shape
        assert (np.abs(values) <= expressions.MAX_VALUE).all()
