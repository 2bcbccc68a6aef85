"""Errors that the user can fix, and how they are worded."""

import itertools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_SHOWN_CHARS = 60
MAX_PROBLEMS = 50  # in one error


class UserError(ValueError):
    """An error that the user can fix. Each problem is one sentence; str() puts one on each line, at most 50."""

    def __init__(self, *problems: str) -> None:
        if (more := len(problems) - MAX_PROBLEMS) > 1:
            problems = (*problems[:MAX_PROBLEMS], f"... and {more} more problems")
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Collect the problems of several checks, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `check` returns. If it raises a UserError, record its problems and return None."""
        try:
            return check(*args, **kwargs)
        except UserError as error:
            self.found += error.problems
            return None

    def raise_any(self) -> None:
        """Raise everything that was found.

        Raises:
            UserError: There are problems.
        """
        if self.found:
            raise UserError(*self.found)


class InputProblems:
    """Collect the problems of inputs, by the input's name, for a preview that shows each where it belongs."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, ...]] = {}

    def check(self, check: Callable[Concatenate[str, P], T], name: str, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `check` returns for the input `name`. If it raises a UserError, record it and return None."""
        try:
            return check(name, *args, **kwargs)
        except UserError as error:
            self.found[name] = error.problems
            return None

    def raise_any(self) -> None:
        """Raise everything that was found.

        Raises:
            UserError: There are problems.
        """
        if self.found:
            raise UserError(*itertools.chain.from_iterable(self.found.values()))


def invalid(name: str, value: object, allowed: str) -> UserError:
    """Build the error "NAME is VALUE, but must be ALLOWED"."""
    return UserError(f"{name} is {shown(value)}, but must be {allowed}")


def shown(value: object) -> str:
    """Return repr(value), shortened to fit on a line."""
    if isinstance(value, str) and len(value) > MAX_SHOWN_CHARS:
        return f"{value[:MAX_SHOWN_CHARS]!r}... ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def logged() -> Iterator[None]:
    """Print the traceback of an unexpected error before it reaches Cog's server, which prints none."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        traceback.print_exc()
        raise
