"""Parse prompts: the weights of their words, and the places where a chunk starts.

`(word)` weighs 1.1, `[word]` 1/1.1 and `(word:1.3)` 1.3. Brackets nest, and a backslash makes a bracket literal. The
word `BREAK`, in capitals, starts a chunk. This is the syntax of AUTOMATIC1111's web UI, including its treatment of
unbalanced brackets: a closing one is literal, and an opening one applies to the end.
"""

import re
from dataclasses import dataclass

import numpy as np

from lib.errors import UserError, shown
from lib.inputs import check_text

ROUND_WEIGHT = 1.1
SQUARE_WEIGHT = 1 / 1.1
MAX_WEIGHT = 100.0  # far more than any prompt uses; keeps every product finite

TOKEN = re.compile(
    r"""\\(?P<literal>[()\[\]\\])        # an escaped bracket or backslash
    | :\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)  # ":1.3)", the end of a weighted group
    | (?P<bracket>[()\[\]])
    | (?P<text>[^\\()\[\]:]+|[\\:])""",
    re.VERBOSE,
)
BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Span:
    """A piece of text and the weight of its tokens."""

    text: str
    weight: float


@dataclass(frozen=True)
class Prompt:
    """A prompt: the original text, and its spans, divided by BREAK into one or more parts."""

    text: str
    parts: tuple[tuple[Span, ...], ...] = ((),)


EMPTY = Prompt("")


def check_prompt(name: str, value: object) -> Prompt:
    """Return the value of the input `name` as a prompt.

    Raises:
        UserError: It is not text, is too long, or has a weight out of range.
    """
    return parse(name, check_text(name, value))


def parse(name: str, text: str) -> Prompt:
    """Parse `text`, the value of the input `name`.

    Raises:
        UserError: A weight is out of range.
    """
    parts: list[list[Span]] = [[]]
    for span in _spans(name, text):
        first, *others = BREAK.split(span.text)
        parts[-1].append(Span(first, span.weight))
        parts += [[Span(other, span.weight)] for other in others]
    return Prompt(text, tuple(tuple(span for span in part if span.text) for part in parts))


def _spans(name: str, prompt: str) -> list[Span]:
    """Split `prompt` into spans of equal weight."""
    texts: list[str] = []
    weights = np.ones(len(prompt))  # of each of `texts`, with room for the most there can be
    open_brackets: dict[str, list[int]] = {"(": [], "[": []}  # the index of each open group's first text

    def weigh(since: int, factor: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # _joined rejects the result
            weights[since : len(texts)] *= factor

    for match in TOKEN.finditer(prompt):
        group, bracket = match.lastgroup, match["bracket"]
        if bracket in ("(", "["):
            open_brackets[bracket].append(len(texts))
        elif bracket == ")" and open_brackets["("]:
            weigh(open_brackets["("].pop(), ROUND_WEIGHT)
        elif bracket == "]" and open_brackets["["]:
            weigh(open_brackets["["].pop(), SQUARE_WEIGHT)
        elif group == "weight" and open_brackets["("]:
            weigh(open_brackets["("].pop(), float(match["weight"]))
        else:
            texts.append(match["literal"] or match[0])
    for since in open_brackets["("]:
        weigh(since, ROUND_WEIGHT)
    for since in open_brackets["["]:
        weigh(since, SQUARE_WEIGHT)

    return _joined(name, texts, weights[: len(texts)].tolist())


def _joined(name: str, texts: list[str], weights: list[float]) -> list[Span]:
    """Join neighbours of equal weight, so that no token ends at a literal bracket."""
    spans: list[Span] = []
    for text, weight in zip(texts, weights, strict=True):
        if not 0 <= weight <= MAX_WEIGHT:
            raise UserError(f"{name}: the weight of {shown(text)} is {weight:g}, but must be from 0 to {MAX_WEIGHT:g}")
        if spans and spans[-1].weight == weight:
            spans[-1] = Span(spans[-1].text + text, weight)
        else:
            spans.append(Span(text, weight))
    return spans
