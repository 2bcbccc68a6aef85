"""Parse an expression into steps in postfix order: "2*t + 1" -> 2, t, *, 1, +."""

import math
import operator
import re

import numpy as np

from lib.animation.operations import (
    AND,
    COMPARISON,
    COMPARISONS,
    OPERATORS,
    OR,
    POWER,
    PREFIXES,
    Chain,
    Function,
    Language,
    Operation,
    Operator,
    Step,
)
from lib.errors import UserError, shown

MAX_DEPTH = 200  # of nested brackets and operators; expressions that people share have about ten

# "007", "1_000", "0x10", "1j", "2t" and "t.real" are single words, all unknown. The quantifiers are possessive (*+), so
# that the time is linear.
TOKEN = re.compile(
    r"""\s*+(?:
      (?P<number>(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)(?![\w.])
    | (?P<call>[^\W\d]\w*+)\s*+\(
    | (?P<word>[\w.]++)
    | (?P<sign>\*\*|//|[<>=!]=|\S))""",
    re.VERBOSE,
)
KNOWN_SIGNS = ("(", ")", ",", *OPERATORS, *COMPARISONS)
BRACKET = Operator(0, Operation(operator.pos, 1))  # an open one; its precedence is the lowest


def steps(text: str, start: int, language: Language) -> tuple[Step, ...]:
    """Return the steps of `text`, which has no trailing spaces and starts `start` characters into the user's input.

    Raises:
        UserError: A token is invalid or misplaced; the message names the first.
    """
    reader = _Reader(start, language)
    for match in TOKEN.finditer(text):
        reader.read(match)
    return reader.finish(len(text))


def error(position: int, what: str) -> UserError:
    """Build the error "character POSITION: WHAT"."""
    return UserError(f"character {position}: {what}")


class _Reader:
    """Dijkstra's shunting yard algorithm (1961): it handles each token once, without recursion."""

    def __init__(self, start: int, language: Language) -> None:
        self._start = start
        self._variables, self._functions = language.variables, language.functions
        self._steps: list[Step] = []
        self._compared: list[bool] = []  # for each value on the stack so far, whether it is the result of a comparison
        self._wants_value = True
        self._waiting: list[Operator] = []  # operators and brackets whose last value is incomplete
        self._matches: list[re.Match[str]] = []  # the token of each of them
        self._counts: list[int] = []  # for each open bracket, the number of values before the last comma

    def read(self, match: re.Match[str]) -> None:
        """Handle the next token."""
        kind = match.lastgroup or ""  # exactly one group matches
        text = match[kind]
        taken = self._value(kind, text, match) if self._wants_value else self._operator(text, match)
        if not taken:
            raise self._error(match, self._unexpected(kind, text))

    def finish(self, end: int) -> tuple[Step, ...]:
        """Return the steps after the last token."""
        if self._wants_value:
            raise error(self._start + end + 1, "a value is missing at the end")
        self._complete(COMPARISON)
        if self._waiting:
            raise self._error(self._matches[-1], "'(' is never closed")
        return tuple(self._steps)

    def _value(self, kind: str, text: str, match: re.Match[str]) -> bool:
        """Handle a token where a value must start. Return whether it is valid there."""
        if kind == "number":
            number = np.float64(float(text))
            if number == math.inf:
                raise self._error(match, f"the number {shown(text)} is too large")
            self._push(number)
        elif kind == "word" and text in self._variables:
            self._push(text)
        elif text in PREFIXES:
            self._wait(PREFIXES[text], match)
        elif text == "(" or (kind == "call" and text in self._functions):
            self._wait(BRACKET, match)
            self._counts.append(0)
        elif text == ")" and self._waiting and self._waiting[-1] is BRACKET and self._counts[-1]:
            self._close(0)  # after a trailing comma, as in max(1, 2,)
        else:
            return False
        return True

    def _operator(self, text: str, match: re.Match[str]) -> bool:
        """Handle a token after a complete value. Return whether it is valid there."""
        if text in OPERATORS:
            binding = OPERATORS[text].binding
            self._complete(binding + (binding == POWER))  # 2**3**4 is 2**(3**4)
            self._wait(OPERATORS[text], match)
        elif text in COMPARISONS:
            self._compare(COMPARISONS[text], match)
        elif text == ")":
            self._complete(COMPARISON)
            if not self._waiting:
                raise self._error(match, "unmatched ')'")
            self._close(1)
        elif text == ",":
            self._complete(COMPARISON)
            if not self._waiting or not self._matches[-1]["call"]:
                raise self._error(match, "a comma can only separate the values of a function, as in max(1, 2)")
            self._counts[-1] += 1
            self._wants_value = True
        else:
            return False
        return True

    def _push(self, step: Step, compared: bool = False) -> None:
        """Append the step that completes a value."""
        self._steps.append(step)
        self._compared.append(compared)
        self._wants_value = False

    def _wait(self, waiting: Operator, match: re.Match[str]) -> None:
        """Hold an operator or an open bracket back until its last value is complete."""
        if len(self._waiting) == MAX_DEPTH:
            raise self._error(match, f"more than {MAX_DEPTH} nested brackets and operators")
        self._waiting.append(waiting)
        self._matches.append(match)
        self._wants_value = True

    def _complete(self, binding: int) -> None:
        """Append the waiting operations of at least the precedence `binding`."""
        while self._waiting and self._waiting[-1].binding >= binding:
            done, operation = self._waiting.pop()
            match = self._matches.pop()
            joins = done in (AND, OR)
            if joins and not all(self._compared[-2:]):
                raise self._error(match, "& and | join only comparisons in brackets, as in (t > 10) & (t < 20)")
            del self._compared[-operation.takes :]
            self._push(operation, joins or done == COMPARISON)

    def _compare(self, comparison: Function, match: re.Match[str]) -> None:
        """Start a comparison, or extend a chain such as 0 < t < 5."""
        self._complete(COMPARISON + 1)
        before = self._waiting[-1].operation.function if self._waiting else None
        chain = before if isinstance(before, Chain) else Chain([])
        if before is chain:
            self._waiting.pop()
            match = self._matches.pop()
        chain.comparisons.append(comparison)
        self._wait(Operator(COMPARISON, Operation(chain, len(chain.comparisons) + 1)), match)

    def _close(self, more: int) -> None:
        """Close a bracket with `more` values since its last comma."""
        self._waiting.pop()
        match = self._matches.pop()
        count = self._counts.pop() + more
        name = match["call"]
        if name is None:
            return
        function, fewest, most, reads, remembers = self._functions[name]
        if not fewest <= count <= most:
            rest = "" if most == fewest else " or more" if most == math.inf else f" to {most}"
            raise self._error(match, f"{name} takes {fewest}{rest} value{'s' * (most > 1)}, not {count}")
        del self._compared[-count:]
        self._steps += reads
        self._push(Operation(function, count + len(reads), remembers))

    def _error(self, match: re.Match[str], what: str) -> UserError:
        return error(self._start + match.start(match.lastgroup or 0) + 1, what)

    def _unexpected(self, kind: str, text: str) -> str:
        """Describe the error at an invalid or misplaced token."""
        if kind == "sign" and text not in KNOWN_SIGNS:
            return f"unexpected {shown(text)}; allowed symbols are {' '.join(KNOWN_SIGNS)}"
        if kind == "word" and (text[0].isnumeric() or text[0] == "."):
            return f"{shown(text)} is not a number; write 2, .5 or 1e-3, and * to multiply"
        if kind in ("call", "word") and text not in (*self._variables, *self._functions):
            return f"unknown name {shown(text)}; available are {', '.join((*self._variables, *self._functions))}"
        if not self._wants_value:
            return f"an operator such as + or * is missing before {shown(text)}"
        if kind == "word":
            return f"{text} is a function and needs values in brackets"
        if kind == "call":
            return f"{text} is not a function; write * to multiply"
        return f"a value is missing before {shown(text)}"
