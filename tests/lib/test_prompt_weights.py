"""The syntax of prompts."""

import pytest

from lib.errors import UserError
from lib.prompt_weights import Prompt, Span, check_prompt, parse


def spans_of(text: str) -> tuple[Span, ...]:
    (part,) = parse("prompt", text).parts
    return part


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a ((cat))", [("a ", 1.0), ("cat", 1.21)]),
        ("a [cat]", [("a ", 1.0), ("cat", 1 / 1.1)]),
        ("(cat:1.3) sat", [("cat", 1.3), (" sat", 1.0)]),
        ("(cat : 0.5 )", [("cat ", 0.5)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3.0), (" c", 1.5)]),
        (r"a \(cat\) \[x\] \\", [(r"a (cat) [x] " + "\\", 1.0)]),
        ("at 16:9, 3:4 (ratio)", [("at 16:9, 3:4 ", 1.0), ("ratio", 1.1)]),
        ("smile :) and :]", [("smile :) and :]", 1.0)]),
        ("never (closed [here", [("never ", 1.0), ("closed ", 1.1), ("here", 1.0)]),
        ("(a:b) (:1.2)", [("a:b", 1.1), (" ", 1.0)]),
        ("(word:1e9)", [("word:1e9", 1.1)]),
        ("🎹 (日本:1.2)", [("🎹 ", 1.0), ("日本", 1.2)]),
        ("a\\b", [("a\\b", 1.0)]),
    ],
)
def test_brackets_weigh_words(prompt: str, spans: list[tuple[str, float]]) -> None:
    assert [span.text for span in spans_of(prompt)] == [text for text, _ in spans]
    assert [span.weight for span in spans_of(prompt)] == pytest.approx([weight for _, weight in spans])


@pytest.mark.parametrize("prompt", ["(cat:-1)", "(cat:101)", "(" * 200 + "cat", "(cat:" + "9" * 400 + ")"])
def test_a_weight_out_of_range_is_a_user_error(prompt: str) -> None:
    with pytest.raises(UserError, match=r"^prompt_b: the weight of 'cat' is .*, but must be from 0 to 100$"):
        parse("prompt_b", prompt)


def test_spans_are_joined_across_literal_brackets() -> None:
    assert spans_of(r"f\(x\)") == (Span("f(x)", 1.0),)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a BREAK b", [[("a ", 1.0)], [(" b", 1.0)]]),
        ("(a BREAK b:1.2), c", [[("a ", 1.2)], [(" b", 1.2), (", c", 1.0)]]),
        ("a, BREAK, b", [[("a, ", 1.0)], [(", b", 1.0)]]),
        ("BREAK a BREAK", [[], [(" a ", 1.0)], []]),
        ("break BREAKS aBREAK Break", [[("break BREAKS aBREAK Break", 1.0)]]),
        (r"\(BREAK\)", [[("(", 1.0)], [(")", 1.0)]]),
    ],
)
def test_the_word_break_in_capitals_starts_a_part(prompt: str, parts: list[list[tuple[str, float]]]) -> None:
    assert parse("prompt", prompt).parts == tuple(tuple(Span(*span) for span in part) for part in parts)


def test_the_original_text_is_kept() -> None:
    for text in ("", "  ", r"a (b:1.3) BREAK \(c"):
        assert parse("prompt", text).text == text
    assert parse("prompt", "") == Prompt("")


@pytest.mark.parametrize("value", [None, 5, "x" * 4001, "a\ud800", "(x:500)"])
def test_an_invalid_prompt_is_a_user_error_that_names_the_input(value: object) -> None:
    with pytest.raises(UserError, match=r"^prompt_a"):
        check_prompt("prompt_a", value)
