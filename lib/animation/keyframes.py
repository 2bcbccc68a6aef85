"""Motion strings: "0:(1.04), 50:(10*sin(2*pi*t/30))" -> one float64 per frame.

A keyframe whose value doesn't depend on `t` is a number: the motion runs in a straight line from it to what
the next keyframe begins with. If its value does, it is an expression, evaluated at each frame until the next.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.animation import expressions
from lib.animation.expressions import Expression, Values
from lib.errors import Problems, UserError, shown
from lib.inputs import check_text

MAX_CHARS = 50_000  # a keyframe of 25 digits for each of 1000 frames, and as much again
MAX_KEYFRAMES = 2000  # the longest video has 1000 frames
MAX_FRAME = 1_000_000  # a keyframe may lie beyond the video, but a typing error shouldn't

FRAME = re.compile(r"(?P<digits>[0-9]+)\s*:")


@dataclass(frozen=True)
class Keyframe:
    """The value from `frame` on."""

    frame: int
    expression: Expression


def parse(name: str, value: object, max_frames: int, seed: int, above: float | None = None) -> Values:
    """Return the value of the motion input `name` at each frame, (max_frames,), within expressions.MAX_VALUE.

    Before the first keyframe, the value that it begins with holds; after the last, its number holds or its
    expression goes on. A keyframe at or beyond max_frames is never reached, but the ramp leads towards it.
    Blanks, the brackets round a whole value, and one comma at the end are free.

    Raises a UserError with every problem of `value`; with `above`, also for the first value not above it.
    """
    text = check_text(name, value, MAX_CHARS)
    values = _values(name, _keyframes(name, text), max_frames, seed)
    if above is not None and (values <= above).any():
        frame = np.argmax(values <= above)  # the first
        raise UserError(f"{name} is {values[frame]} at frame {frame}, but must be above {above:g}")
    return values


def _keyframes(name: str, text: str) -> list[Keyframe]:
    """Return the keyframes of a motion string in the order of their frames, at least one."""
    parts = _split(name, text)
    if len(parts) > MAX_KEYFRAMES:
        raise UserError(f"{name} has {len(parts)} keyframes, but must have at most {MAX_KEYFRAMES}")
    problems = Problems()
    found: dict[int, Keyframe] = {}
    for start, part in parts:
        keyframe = problems.check(_keyframe, name, part, start)
        if keyframe and keyframe.frame in found:
            problems.found.append(f"{name}, keyframe {keyframe.frame}: given again at character {start + 1}")
        elif keyframe:
            found[keyframe.frame] = keyframe
    problems.raise_any()
    return [found[frame] for frame in sorted(found)]


def _split(name: str, text: str) -> list[tuple[int, str]]:
    """Split at the commas outside brackets; return each part without blanks round it, and where it begins."""
    opened: list[int] = []
    starts = [0]
    for match in re.finditer(r"[(),]", text):
        if match[0] == "(":
            opened.append(match.start())
        elif match[0] == ")":
            if not opened:
                raise UserError(f"{name}: the bracket at character {match.end()} was never opened")
            opened.pop()
        elif not opened:
            starts.append(match.end())
    if opened:
        raise UserError(f"{name}: the bracket at character {opened[-1] + 1} is never closed")
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    parts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # a comma at the end
    blanks = [len(part) - len(part.lstrip()) for part in parts]
    return [(starts[i] + blanks[i], part.strip()) for i, part in enumerate(parts)]


def _keyframe(name: str, part: str, start: int) -> Keyframe:
    """Read `frame: value`, which begins `start` characters into the motion string."""
    match = FRAME.match(part)
    if match is None:
        raise UserError(f"{name}: {shown(part)} at character {start + 1} must be a keyframe such as 0:(1.04)")
    digits, value, start = match["digits"], part[match.end() :], start + match.end()
    frame = float(digits)  # int() refuses thousands of digits
    if frame > MAX_FRAME:
        raise UserError(f"{name}, keyframe {shown(digits)}: the frame must be at most {MAX_FRAME}")
    label = f"{name}, keyframe {frame:.0f}"
    if ":" in value:
        position = start + value.index(":") + 1
        raise UserError(f"{label}: a second ':' at character {position}; commas separate keyframes")
    try:
        return Keyframe(int(frame), expressions.parse(value, start))
    except UserError as error:
        raise _labelled(label, error) from error


def _values(name: str, keyframes: Sequence[Keyframe], max_frames: int, seed: int) -> Values:
    """Evaluate the keyframes' expressions, and draw straight lines from the numbers."""
    problems = Problems()
    ends = [*(keyframe.frame for keyframe in keyframes[1:]), max_frames]
    checked = [
        problems.check(_row, name, keyframe, min(end, max_frames), max_frames, seed)
        for keyframe, end in zip(keyframes, ends, strict=True)
    ]
    problems.raise_any()
    rows = [row for row in checked if row is not None]
    frames = [keyframe.frame for keyframe in keyframes]
    # A straight line between all keyframes, level outside them; then each expression takes its own frames (none,
    # where it begins beyond the video).
    values: Values = np.interp(np.arange(max_frames), frames, [row[0] for row in rows])
    for keyframe, row in zip(keyframes, rows, strict=True):
        if keyframe.expression.moves:
            values[keyframe.frame : keyframe.frame + len(row)] = row
    return values


def _row(name: str, keyframe: Keyframe, end: int, max_frames: int, seed: int) -> Values:
    """Evaluate a keyframe at its own frame, and on to the one before `end`."""
    frames = np.arange(keyframe.frame, max(end, keyframe.frame + 1))
    try:
        return keyframe.expression.values(frames, max_frames, seed)
    except UserError as error:
        raise _labelled(f"{name}, keyframe {keyframe.frame}", error) from error


def _labelled(label: str, error: UserError) -> UserError:
    return UserError(*(f"{label}: {problem}" for problem in error.problems))
