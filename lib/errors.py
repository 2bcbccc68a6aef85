"""What the user can mend, said in sentences."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_SHOWN_CHARS = 60
MAX_PROBLEMS = 50  # enough to mend at a time


class UserError(ValueError):
    """Report mistakes that the user can mend; each problem is one sentence, and str() has one a line."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Gather the problems of several checks, so that a request's errors are all reported at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `check` returns, or note its problems and return None."""
        try:
            return check(*args, **kwargs)
        except UserError as error:
            self.found += error.problems
            return None

    def raise_any(self) -> None:
        """Raise one UserError with the problems noted so far, if there are any; of very many, the first."""
        more = len(self.found) - MAX_PROBLEMS
        if more > 0:
            raise UserError(*self.found[:MAX_PROBLEMS], f"... and {more} more problems")
        if self.found:
            raise UserError(*self.found)


def invalid(name: str, value: object, allowed: str) -> UserError:
    """Build the error "NAME is VALUE, but must be ALLOWED", with a long value shortened."""
    return UserError(f"{name} is {shown(value)}, but must be {allowed}")


def shown(value: object) -> str:
    """Return repr(value), cut to a length that fits a line."""
    if isinstance(value, str) and len(value) > MAX_SHOWN_CHARS:
        return f"{value[:MAX_SHOWN_CHARS]!r}... ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its class if it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def logged() -> Iterator[None]:
    """Print the traceback of an unexpected error on its way up: the server that receives it shows none."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        traceback.print_exc()
        raise
