"""Motion expressions: "10*sin(2*pi*t/30)" -> one float64 per frame, from an allow-list of operations.

User input is never run as Python. Known tokens become a list of steps, which compute in float64, so that no exponent
can produce huge integers. The variables are those of Deforum: `t` is the frame, `max_f` the last frame (so that t/max_f
runs from 0 to 1), and `s` the seed. operations.py lists everything an expression can use, and the differences from
numexpr. soundtrack.py adds what follows music.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.animation import postfix
from lib.animation.operations import DEFORUM, Language, Operation, Step, Values
from lib.animation.soundtrack import NO_MUSIC, Soundtrack
from lib.errors import UserError

MAX_CHARS = 2000  # the longest sums of waves that people share have a few hundred
MAX_VALUE = 1e6  # pixels, degrees or zoom; far beyond what is visible, and small enough for finite matrices
CONSTANT = {"max_f", "s", "pi", "e", "fps", "bpm"}  # variables that don't depend on the frame


@dataclass(frozen=True)
class Expression:
    """A valid expression in postfix order."""

    steps: tuple[Step, ...]

    @property
    def moves(self) -> bool:
        """Whether it depends on the frame."""
        return any(isinstance(step, str) and step not in CONSTANT for step in self.steps)

    def values(self, frames: NDArray[np.int64], max_frames: int, seed: int, sound: Soundtrack = NO_MUSIC) -> Values:
        """Return the value at each of `frames`, (n,), consecutive.

        Intermediate values may be infinite: where(t > 0, 1/t, 0) is valid at frame 0 too.

        Raises:
            UserError: A value is not finite or exceeds MAX_VALUE; the message names the first.
        """
        remembers = any(isinstance(step, Operation) and step.remembers for step in self.steps)
        first = min(frames[0], 0) if remembers else frames[0]
        span = np.arange(first, frames[-1] + 1)
        t = span.astype(np.float64)
        variables = {
            "t": t if t.size > 1 else t[0],  # a number is ten times faster than an array of one
            "max_f": np.float64(max_frames - 1),
            "s": np.float64(seed),
            "pi": np.float64(np.pi),
            "e": np.float64(np.e),
            **sound.variables(span),
        }
        with np.errstate(all="ignore"):
            values = np.full(span.shape, self._evaluate(variables))[frames[0] - first :]
            good = np.abs(values) <= MAX_VALUE  # False for NaN
        if not good.all():
            n = good.argmin()  # the first
            allowed = f"from {-MAX_VALUE:.0f} to {MAX_VALUE:.0f}"
            raise UserError(f"the value is {float(values[n])} at frame {frames[n]}, but must be {allowed}")
        return values

    def _evaluate(self, variables: Mapping[str, Values | np.float64]) -> Values | np.float64:
        values: list[Values | np.float64] = []
        for step in self.steps:
            if isinstance(step, Operation):
                values[-step.takes :] = [step.function(*values[-step.takes :])]
            else:
                values.append(variables[step] if isinstance(step, str) else step)
        (value,) = values
        return value


def parse(text: str, start: int = 0, language: Language = DEFORUM) -> Expression:
    """Compile `text`, which starts `start` characters into the user's input.

    Raises:
        UserError: The expression is invalid. Characters in the message count from 1 in the user's input.
    """
    text = text.rstrip()
    if not text:
        raise postfix.error(start + 1, "the value is missing")
    if len(text) > MAX_CHARS:
        raise postfix.error(start + 1, f"the value has {len(text)} characters, but must have at most {MAX_CHARS}")
    return Expression(postfix.steps(text, start, language))
