import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.animation import expressions
from lib.animation.operations import FUNCTIONS, Values
from lib.animation.postfix import MAX_DEPTH
from lib.errors import UserError

Reference = Callable[[int], float]

FRAMES = np.arange(100, dtype=np.int64)
repeatable = settings(derandomize=True, deadline=None)


def evaluate(text: str, frames: NDArray[np.int64] = FRAMES) -> Values:
    return expressions.parse(text).values(frames, 100, 42)


def refusal(text: str, start: int = 0, frames: NDArray[np.int64] = FRAMES) -> str:
    with pytest.raises(UserError) as caught:
        expressions.parse(text, start).values(frames, 100, 42)
    (problem,) = caught.value.problems
    return problem


REFERENCES: dict[str, Reference] = {
    "max_f": lambda _: 99,
    "s + t/max_f": lambda t: 42 + t / 99,
    "pi * e": lambda _: math.pi * math.e,
    "1 + 2 * t - 6 / 4": lambda t: 1 + 2 * t - 1.5,
    "-t ** 2": lambda t: -(t**2),
    "2 ** -3 ** 2 * 2": lambda _: 2 ** -(3**2) * 2,
    "1.5e2 + .5 + 2. + 1E-1": lambda _: 152.6,
    "(t - 50) % 7 + t % -7": lambda t: (t - 50) % 7 + t % -7,
    "(t - 50) // 7 + t // -7 + t // 2.5": lambda t: (t - 50) // 7 + t // -7 + t // 2.5,
    "5 < t != 8 <= 9": lambda t: 5 < t != 8,
    "(t > 10) & (t < 20) | (t == 50)": lambda t: 10 < t < 20 or t == 50,
    "(2 < 1) & (2 < 1) | (1 < 2)": lambda _: 1,
    "where(t < 50, 1.02, 0.98)": lambda t: 1.02 if t < 50 else 0.98,
    "where(t > 0, 1/t, 0)": lambda t: 1 / t if t else 0,
    "sin(t) + cos(t) + tan(t)": lambda t: math.sin(t) + math.cos(t) + math.tan(t),
    "asin(t/100) + acos(t/200) + atan(t)": lambda t: math.asin(t / 100) + math.acos(t / 200) + math.atan(t),
    "arcsin(t/100) + arccos(t/200) + arctan(t)": lambda t: math.asin(t / 100) + math.acos(t / 200) + math.atan(t),
    "arctan2(t - 50, -2)": lambda t: math.atan2(t - 50, -2),
    "sinh(t/9) - cosh(t/9) / 2 + tanh(t)": lambda t: math.sinh(t / 9) - math.cosh(t / 9) / 2 + math.tanh(t),
    "sign(t - 50) + abs(t - 50)": lambda t: (t > 50) - (t < 50) + abs(t - 50),
    "sqrt(t) + exp(-t) + log(t + 1)": lambda t: math.sqrt(t) + math.exp(-t) + math.log(t + 1),
    "min(t) + max(3, t, 7,)": lambda t: t + max(3, t, 7),
    "floor(t / -3) + ceil(t / 3)": lambda t: math.floor(t / -3) + math.ceil(t / 3),
    "round(t / 2) + round(t / 3, 2) + round(17 * t, -1)": lambda t: round(t / 2) + round(t / 3, 2) + round(17 * t, -1),
    "  (\n t +\t1\u00a0) ": lambda t: t + 1,
}


@pytest.mark.parametrize("text", REFERENCES)
def test_an_expression_has_the_value_that_python_computes(text: str) -> None:
    values = evaluate(text)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, [REFERENCES[text](t) for t in range(100)], rtol=1e-12, atol=1e-12)
    alone = [evaluate(text, np.array([t])).item() for t in range(100)]
    assert values.tolist() == alone  # to the bit, whatever the number of frames


def test_every_function_has_a_reference() -> None:
    assert all(any(f"{name}(" in text for text in REFERENCES) for name in FUNCTIONS)


# Only whole numbers, so that both sides are exact.
LEAVES: st.SearchStrategy[tuple[str, Reference]] = st.one_of(
    st.integers(0, 99).map(lambda n: (str(n), lambda _: n)),
    st.sampled_from([("t", lambda t: t), ("max_f", lambda _: 99), ("s", lambda _: 42)]),
)
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "%": operator.mod,
    "//": operator.floordiv,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATIONS: list[tuple[str, int, Callable[..., Any]]] = [
    *((f"({{}} {sign} {{}})", 2, operation) for sign, operation in BINARY.items()),
    ("-({})", 1, operator.neg),
    ("abs({})", 1, abs),
    ("max({}, {})", 2, max),
    ("where({}, {}, {})", 3, lambda c, a, b: a if c else b),
    ("({} < {} <= {})", 3, lambda a, b, c: a < b <= c),
    ("({} - {} - {} * -{} % 7)", 4, lambda a, b, c, d: a - b - c * -d % 7),
    ("(({} < {}) & ({} >= {}))", 4, lambda a, b, c, d: a < b and c >= d),
]


@st.composite
def operations(
    draw: st.DrawFn, operands: st.SearchStrategy[tuple[str, Reference]]
) -> tuple[str, Callable[[int], float]]:
    """Draw (text, function of t) from operands that are such pairs."""
    text, arity, operation = draw(st.sampled_from(OPERATIONS))
    texts, functions = zip(*[draw(operands) for _ in range(arity)], strict=True)
    return text.format(*texts), lambda t: operation(*[function(t) for function in functions])


@settings(repeatable, max_examples=300)
@given(st.recursive(LEAVES, operations, max_leaves=7), st.integers(0, 99))
def test_any_expression_has_the_value_that_python_computes(tree: tuple[str, Reference], t: int) -> None:
    text, function = tree
    try:
        expected = function(t)
    except ZeroDivisionError:
        return
    if abs(expected) <= expressions.MAX_VALUE:
        assert evaluate(text, np.array([t])).tolist() == [expected]
    else:
        assert "the value is" in refusal(text, frames=np.array([t]))


def test_an_expression_knows_whether_it_depends_on_the_frame() -> None:
    assert expressions.parse("sin(t)").moves
    assert not expressions.parse("where(max_f > s, tan(2*pi), sqrt(e))").moves


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 + foo", "character 5: unknown name 'foo'; available are t, max_f,"),
        ("__import__('os')", "character 1: unknown name '__import__'"),
        ("t and 1", "character 3: unknown name 'and'"),
        ("t[0]", "character 2: unexpected '['; allowed symbols are ( ) , "),
        ("'a'", 'character 1: unexpected "\'"; allowed'),
        ("t\0", r"character 2: unexpected '\x00'"),
        ("t\ud800", r"character 2: unexpected '\ud800'"),
        ("007", "character 1: '007' is not a number; write 2, .5 or 1e-3, and * to multiply"),
        ("0x10", "character 1: '0x10' is not a number"),
        ("2t", "character 1: '2t' is not a number"),
        ("1e309", "character 1: the number '1e309' is too large"),
        ("1+" + "9" * 1000, "character 3: the number '999"),
        ("1 2", "character 3: an operator such as + or * is missing before '2'"),
        ("2(t)", "character 2: an operator such as + or * is missing before '('"),
        ("t(1)", "character 1: t is not a function; write * to multiply"),
        ("1 + sin", "character 5: sin is a function and needs values in brackets"),
        ("2*sin(1, 2)", "character 3: sin takes 1 value, not 2"),
        ("where(t, 1)", "character 1: where takes 3 values, not 2"),
        ("sin()", "character 5: a value is missing before ')'"),
        ("min(1,,2)", "character 7: a value is missing before ','"),
        ("1 +", "character 4: a value is missing at the end"),
        ("(1, 2)", "character 3: a comma can only separate the values of a function, as in max(1, 2)"),
        ("1)", "character 2: unmatched ')'"),
        ("2*(1", "character 3: '(' is never closed"),
        ("t > 1 & t < 5", "character 7: & and | join only comparisons in brackets, as in (t > 10) & (t < 20)"),
        (" \n", "character 1: the value is missing"),
        ("1" * 2001, "character 1: the value has 2001 characters, but must have at most 2000"),
        ("-" * 1999 + "1", f"character {MAX_DEPTH + 1}: more than {MAX_DEPTH} nested brackets and operators"),
        ("1" + "**1" * 600, f"more than {MAX_DEPTH} nested brackets and operators"),
        ("1/(t - 50)", "the value is inf at frame 50,"),
        ("sqrt(50 - t)", "the value is nan at frame 51,"),
        ("t % 0", "the value is nan at frame 0,"),
        ("t * 20000", "the value is 1020000.0 at frame 51, but must be from -1000000 to 1000000"),
    ],
)
def test_an_error_names_the_place_and_the_problem(text: str, said: str) -> None:
    assert said in refusal(text)


def test_positions_count_from_the_start_of_the_users_input() -> None:
    said = [refusal(text, start=10) for text in ("  foo", "  1 2", "  1 +", "  ")]
    assert [problem.split(":")[0] for problem in said] == [f"character {n}" for n in (13, 15, 16, 11)]


def test_the_deepest_and_the_longest_expression_are_accepted() -> None:
    assert evaluate("-(" * (MAX_DEPTH // 2) + "t" + ")" * (MAX_DEPTH // 2)).tolist() == FRAMES.tolist()
    assert evaluate("+".join(["t"] * 1000)).tolist() == (1000 * FRAMES).tolist()


PIECES = ["t", "max_f", "s", "pi", "sin(", "where(", "round(", "(", ")", ",", "**", "*", "/", "//", "%", "<", "=="]
PIECES += ["-", "0", "1", "9e9", ".", "_", "e", "\n", " ", "=", ":", "'", '"', "[", "{", "\\", "#", "\0", "é", "&", "|"]


@settings(repeatable, max_examples=500)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=40)))
def test_invalid_input_raises_nothing_but_a_user_error(text: str) -> None:
    try:
        values = evaluate(text)
    except UserError as error:
        str(error).encode()
    else:
        assert values.shape == FRAMES.shape
        assert (np.abs(values) <= expressions.MAX_VALUE).all()
