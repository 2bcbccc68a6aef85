"""Motion strings: "0:(1.04), 50:(10*sin(2*pi*t/30))" -> one float64 per frame.

If the value of a keyframe doesn't depend on `t`, the motion is interpolated linearly from it to the first value of the
next keyframe. If it does, it is evaluated at each frame until the next keyframe.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.animation import expressions
from lib.animation.expressions import Expression
from lib.animation.operations import Values
from lib.errors import Problems, UserError, shown
from lib.inputs import check_text

MAX_CHARS = 50_000  # twice as many as a keyframe of 25 digits for each of 1000 frames
MAX_KEYFRAMES = 2000  # the longest video has 1000 frames
MAX_FRAME = 1_000_000  # a keyframe may be beyond the video, but this far it is a typing error

FRAME = re.compile(r"(?P<digits>[0-9]+)\s*:")


@dataclass(frozen=True)
class Keyframe:
    """The value from `frame` on, or None if it is invalid."""

    frame: int
    expression: Expression | None


def parse(name: str, value: object, max_frames: int, seed: int, above: float | None = None) -> Values:
    """Return the value of the motion input `name` at each frame, (max_frames,), within expressions.MAX_VALUE.

    The first value of the first keyframe also applies before it. After the last keyframe its number or its expression
    continues. A keyframe at or beyond max_frames is never reached, but the ramp leads towards it. Spaces, the brackets
    around a value, and one comma at the end are optional.

    Args:
        name: The input's, for error messages.
        value: The motion string.
        max_frames: The number of frames.
        seed: The value of the variable `s`.
        above: A bound that every value must exceed, if any.

    Raises:
        UserError: The string is invalid; the error has all its problems.
    """
    text = check_text(name, value, MAX_CHARS)
    problems = Problems()
    keyframes = _keyframes(name, text, problems)
    ends = [*(keyframe.frame for keyframe in keyframes[1:]), max_frames]
    rows = [
        problems.check(_row, name, keyframe, min(end, max_frames), max_frames, seed, above)
        for keyframe, end in zip(keyframes, ends, strict=True)
    ]
    problems.raise_any()
    values = _joined(keyframes, [row for row in rows if row is not None], max_frames)
    try:
        _check_above(np.arange(max_frames), values, above)  # the ramp to a keyframe beyond the video, too
    except UserError as error:
        raise _labelled(name, error) from error
    return values


def _keyframes(name: str, text: str, problems: Problems) -> list[Keyframe]:
    """Return the keyframes of a motion string, at least one, sorted by frame, and record invalid values.

    Raises:
        UserError: A frame is invalid too, so that it is unknown where the values apply.
    """
    parts = _split(name, text)
    if len(parts) > MAX_KEYFRAMES:
        raise UserError(f"{name} has {len(parts)} keyframes, but must have at most {MAX_KEYFRAMES}")
    found: dict[int, Expression | None] = {}
    for start, part in parts:
        frame, value, value_start = problems.check(_frame, name, part, start) or (None, "", 0)
        if frame is None:
            continue
        if frame in found:
            problems.found.append(f"{name}, keyframe {frame}: character {start + 1}: duplicate keyframe")
        found.setdefault(frame, problems.check(_expression, f"{name}, keyframe {frame}", value, value_start))
    if len(found) < len(parts):
        problems.raise_any()
    return [Keyframe(frame, found[frame]) for frame in sorted(found)]


def _split(name: str, text: str) -> list[tuple[int, str]]:
    """Split at the commas outside brackets. Return each part, stripped, and the position where it starts."""
    opened: list[int] = []
    starts = [0]
    for match in re.finditer(r"[(),]", text):
        if match[0] == "(":
            opened.append(match.start())
        elif match[0] == ")":
            if not opened:
                raise UserError(f"{name}: character {match.end()}: unmatched ')'")
            opened.pop()
        elif not opened:
            starts.append(match.end())
    if opened:
        raise UserError(f"{name}: character {opened[-1] + 1}: '(' is never closed")
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    parts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # a comma at the end
    blanks = [len(part) - len(part.lstrip()) for part in parts]
    return [(starts[i] + blanks[i], part.strip()) for i, part in enumerate(parts)]


def _frame(name: str, part: str, start: int) -> tuple[int, str, int]:
    """Split `frame: value`, which starts at `start` in the motion string; also return where the value starts."""
    match = FRAME.match(part)
    if match is None:
        raise UserError(f"{name}: character {start + 1}: expected a keyframe such as 0:(1.04), not {shown(part)}")
    frame = float(match["digits"])  # int() rejects thousands of digits
    if frame > MAX_FRAME:
        raise UserError(f"{name}: character {start + 1}: keyframe {shown(match['digits'])} must be at most {MAX_FRAME}")
    return int(frame), part[match.end() :], start + match.end()


def _expression(label: str, value: str, start: int) -> Expression:
    """Parse the value of a keyframe, which starts at `start` in the motion string."""
    if ":" in value:
        position = start + value.index(":") + 1
        raise UserError(f"{label}: character {position}: unexpected ':'; put a comma before the next keyframe")
    try:
        return expressions.parse(value, start)
    except UserError as error:
        raise _labelled(label, error) from error


def _row(name: str, keyframe: Keyframe, end: int, max_frames: int, seed: int, above: float | None) -> Values | None:
    """Evaluate a keyframe from its own frame to the one before `end`; return None if it is invalid."""
    if keyframe.expression is None:
        return None
    frames = np.arange(keyframe.frame, max(end, keyframe.frame + 1))
    try:
        row = keyframe.expression.values(frames, max_frames, seed)
        if keyframe.frame < max_frames:
            _check_above(frames, row, above)
    except UserError as error:
        raise _labelled(f"{name}, keyframe {keyframe.frame}", error) from error
    return row


def _check_above(frames: NDArray[np.int64], values: Values, above: float | None) -> None:
    if above is not None and (values <= above).any():
        n = (values <= above).argmax()  # the first
        raise UserError(f"the value is {values[n]} at frame {frames[n]}, but must be above {above:g}")


def _joined(keyframes: Sequence[Keyframe], rows: Sequence[Values], max_frames: int) -> Values:
    """Interpolate between the numbers, and use each expression for its own frames."""
    frames = [keyframe.frame for keyframe in keyframes]
    # Interpolate between all keyframes. An expression that starts beyond the video then applies to no frame.
    values: Values = np.interp(np.arange(max_frames), frames, [row[0] for row in rows])
    for keyframe, row in zip(keyframes, rows, strict=True):
        if keyframe.expression and keyframe.expression.moves:
            values[keyframe.frame : keyframe.frame + len(row)] = row
    return values


def _labelled(label: str, error: UserError) -> UserError:
    return UserError(*(f"{label}: {problem}" for problem in error.problems))
