"""Checks of single input values: each returns the value in its right type or raises a UserError.

Types are checked as well as bounds, because the values may come from a server without a schema, JSON has only one kind
of number (3 may arrive as 3.0, 1.0 as 1), and a caller may omit a value.
"""

import math
from collections.abc import Sequence

from lib.errors import invalid

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1  # what other interfaces write for a random seed; the documented ones leave it blank
MAX_PROMPT_CHARS = 4000  # some 700 words; every 75 tokens cost attention time, and longer text only dilutes itself


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int.

    Raises:
        UserError: It is not a whole number in [low, high].
    """
    allowed = f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, value, allowed)
    if not low <= value <= high or value != int(value):
        raise invalid(name, value, allowed)
    return int(value)


def check_number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float.

    Raises:
        UserError: It is not a number in [low, high].
    """
    allowed = f"a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, value, allowed)
    if not low <= value <= high or math.isnan(value):
        raise invalid(name, value, allowed)
    return float(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value`.

    Raises:
        UserError: It is not one of `choices`.
    """
    if not isinstance(value, str) or value not in choices:
        raise invalid(name, value, f"one of {', '.join(choices)}")
    return value


def check_text(name: str, value: object, max_chars: int = MAX_PROMPT_CHARS) -> str:
    """Return `value`.

    Raises:
        UserError: It is not text, is longer than `max_chars`, or can't be encoded as UTF-8.
    """
    allowed = f"text of at most {max_chars} characters"
    if not isinstance(value, str) or len(value) > max_chars:
        raise invalid(name, value, allowed)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, value, f"{allowed}, without the lone surrogate at {error.start}") from error
    return value
