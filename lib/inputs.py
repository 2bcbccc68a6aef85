"""Checks of single raw values: each returns the value in its right type, or raises a UserError.

A server without a schema validates nothing, JSON has one kind of number (3 may arrive as 3.0, 1.0 as 1), and a
caller may leave a value out, so the types are checked here as well as the bounds.
"""

import math
from collections.abc import Sequence

from lib.errors import invalid

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1  # what other interfaces write for a random seed; the documented ones leave it blank
MAX_PROMPT_CHARS = 4000  # some 700 words; longer text only dilutes, and each 75 tokens cost attention time


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int if it is a whole number in [low, high]."""
    allowed = f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, value, allowed)
    if not low <= value <= high or value != int(value):
        raise invalid(name, value, allowed)
    return int(value)


def check_number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float if it is a finite number in [low, high]."""
    allowed = f"a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, value, allowed)
    if not low <= value <= high or math.isnan(value):
        raise invalid(name, value, allowed)
    return float(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise invalid(name, value, f"one of {', '.join(choices)}")
    return value


def check_text(name: str, value: object, max_chars: int = MAX_PROMPT_CHARS) -> str:
    """Return `value` if it is text of at most `max_chars` characters that can be written as UTF-8."""
    allowed = f"text of at most {max_chars} characters"
    if not isinstance(value, str) or len(value) > max_chars:
        raise invalid(name, value, allowed)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, value, f"{allowed}, without the lone surrogate at {error.start}") from error
    return value
