"""Motion strings: "0:(1.04), 50:(10*sin(2*pi*t/30))" -> one float64 per frame.

If the value of a keyframe doesn't depend on `t`, the motion is interpolated linearly from it to the first value of the
next keyframe. If it does, it is evaluated at each frame until the next keyframe.

With music, a keyframe may stand on a beat: "0:(1), 4b:(1.2), 4.5b:(1)".
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lib.animation import expressions
from lib.animation.expressions import Expression
from lib.animation.operations import DEFORUM, Language, Values
from lib.animation.soundtrack import MUSIC, NO_MUSIC, Soundtrack
from lib.errors import Problems, UserError, shown
from lib.inputs import check_text

MAX_CHARS = 50_000  # twice as many as a keyframe of 25 digits for each of 1000 frames
MAX_KEYFRAMES = 2000  # the longest video has 1000 frames
MAX_FRAME = 1_000_000  # a keyframe may be beyond the video, but this far it is a typing error

# Possessive, and only from a number's first digit: the time grows as the length, however many digits there are.
TOKEN = re.compile(r"[()]|(?<![0-9])(?P<digits>[0-9]++)\s*+:")
TOKEN_WITH_BEATS = re.compile(
    r"[()]|(?<![0-9])(?P<digits>[0-9]++)\s*+:|(?<![0-9.])(?P<beat>[0-9]++(?:\.[0-9]++)?)\s*+b\s*+:"
)
# What may stand around keyframes whose values are in brackets: no letters, digits or operators, which would belong to a
# value. `|` is an operator too, but not between a closing bracket and a frame.
JOINER = re.compile(r"[^\w()+\-*/%]*")


@dataclass(frozen=True)
class Bounds:
    """What the values of a motion must be, besides finite."""

    above: float | None = None
    low: float | None = None
    high: float | None = None

    def check(self, frames: NDArray[np.int64], values: Values) -> None:
        """Raise a UserError that names the first value out of bounds."""
        bad, allowed = np.zeros(len(values), bool), ""
        if self.above is not None:
            bad, allowed = values <= self.above, f"above {self.above:g}"
        elif self.low is not None and self.high is not None:
            bad, allowed = (values < self.low) | (values > self.high), f"from {self.low:g} to {self.high:g}"
        if bad.any():
            n = bad.argmax()  # the first
            raise UserError(f"the value is {values[n]} at frame {frames[n]}, but must be {allowed}")


UNBOUNDED = Bounds()


@dataclass(frozen=True)
class Scene:
    """What a motion string is evaluated for."""

    max_frames: int
    seed: int
    sound: Soundtrack = NO_MUSIC


@dataclass(frozen=True)
class Keyframe:
    """The value from `frame` on, or None if it is invalid."""

    frame: int
    written: str  # the frame or beat as the user wrote it
    expression: Expression | None


def parse(name: str, value: object, scene: Scene, bounds: Bounds = UNBOUNDED) -> Values:
    """Return the value of the motion input `name` at each frame, (max_frames,), within expressions.MAX_VALUE.

    The first value of the first keyframe also applies before it. After the last keyframe its number or its expression
    continues. A keyframe at or beyond max_frames is never reached, but the ramp leads towards it. Spaces, the brackets
    around a value, and one comma at the end are optional.

    Keyframes are separated by commas. After a value in brackets any other separator will do (`;`, `|`, spaces, line
    breaks), and so will quotes or braces around the whole: the original searched for `digits:(...)` and skipped
    everything else. If a frame is given twice, the later value counts, as in the original.

    Args:
        name: The input's, for error messages.
        value: The motion string.
        scene: The number of frames, the seed, and the music.
        bounds: What every value must be.

    Raises:
        UserError: The string is invalid; the error has all its problems.
    """
    text = check_text(name, value, MAX_CHARS)
    problems = Problems()
    keyframes = _keyframes(name, text, scene.sound, problems)
    ends = [*(keyframe.frame for keyframe in keyframes[1:]), scene.max_frames]
    rows = [
        problems.check(_row, name, keyframe, min(end, scene.max_frames), scene, bounds)
        for keyframe, end in zip(keyframes, ends, strict=True)
    ]
    problems.raise_any()
    values = _joined(keyframes, [row for row in rows if row is not None], scene.max_frames)
    try:
        bounds.check(np.arange(scene.max_frames), values)  # the ramp to a keyframe beyond the video, too
    except UserError as error:
        raise _labelled(name, error) from error
    return values


def _keyframes(name: str, text: str, sound: Soundtrack, problems: Problems) -> list[Keyframe]:
    """Return the keyframes of a motion string, at least one, sorted by frame, and record invalid values.

    Raises:
        UserError: A frame is invalid too, so that it is unknown where the values apply.
    """
    structure = Problems()
    parts = _split(name, text, TOKEN_WITH_BEATS if sound.frame_of else TOKEN, structure)
    if len(parts) > MAX_KEYFRAMES:
        raise UserError(f"{name} has {len(parts)} keyframes, but must have at most {MAX_KEYFRAMES}")
    last = {frame: part for part in parts if (frame := structure.check(_frame, name, part, sound.frame_of)) is not None}
    language = MUSIC if sound.frame_of else DEFORUM
    found = [
        Keyframe(
            frame,
            written := _written(part, frame),
            problems.check(_expression, f"{name}, keyframe {written}", part.value, part.value_start, language),
        )
        for frame, part in last.items()
    ]
    if structure.found:
        raise UserError(*structure.found, *problems.found)
    found.sort(key=lambda keyframe: keyframe.frame)
    begun = sum(keyframe.frame <= 0 for keyframe in found)  # on beats before the film, there may be several
    return found[max(begun - 1, 0) :]


@dataclass(frozen=True)
class Part:
    """A keyframe as it is written."""

    start: int  # where it begins in the motion string
    number: str
    on_beat: bool  # whether the number is a position in beats
    value: str
    value_start: int


def _frame(name: str, part: Part, frame_of: Callable[[float], int] | None) -> int:
    """Return the frame of a keyframe."""
    number = float(part.number)  # int() refuses thousands of digits
    if number > MAX_FRAME:
        raise UserError(
            f"{name}: character {part.start + 1}: keyframe {shown(part.number)} must be at most {MAX_FRAME}"
        )
    if not frame_of or not part.on_beat:
        return int(number)
    try:
        return frame_of(number)
    except UserError as error:
        raise _labelled(f"{name}, keyframe {_written(part, 0)}", error) from error


def _written(part: Part, frame: int) -> str:
    return f"{float(part.number):g}b" if part.on_beat else str(frame)


def _split(name: str, text: str, token: re.Pattern[str], problems: Problems) -> list[Part]:
    """Split a motion string into its keyframes, at least one, and note what is none."""
    frames = _frames(name, text, token, problems)
    if not frames or not JOINER.fullmatch(text[: frames[0].start()]):
        raise UserError(*(problems.found or [_not_a_keyframe(name, text, 0)]))
    parts = []
    for match, following in zip(frames, [*frames[1:], None], strict=True):
        stop = following.start() if following else len(text)
        value_start = match.end() + len(text[match.end() : stop]) - len(text[match.end() : stop].lstrip())
        end = _end_of_bracket(text, value_start)
        if end is None or not JOINER.fullmatch(text[end:stop]):
            end = _end_at_comma(name, text, match, stop, following, problems)
        value = text[min(value_start, end) : end].rstrip()
        on_beat = match.lastgroup == "beat"
        number = match[match.lastgroup or 0]
        parts.append(Part(match.start(), number, on_beat, value, value_start if value else match.end()))
    return parts


def _frames(name: str, text: str, token: re.Pattern[str], problems: Problems) -> list[re.Match[str]]:
    """Return the matches of all frames outside brackets, and note those with a sign or a fraction."""
    opened: list[int] = []
    frames = []
    for match in token.finditer(text):
        if match[0] == "(":
            opened.append(match.start())
        elif match[0] == ")":
            if not opened:
                raise UserError(f"{name}: character {match.end()}: unmatched ')'")
            opened.pop()
        elif not opened:
            start = match.start()
            while start and not JOINER.fullmatch(text[start - 1]) and text[start - 1] not in "()":
                start -= 1
            if start < match.start():  # 1.5:(1) or -1:(1), of which the original read only 5 or 1
                problems.found.append(_not_a_keyframe(name, text, start))
            else:
                frames.append(match)
    if opened:
        raise UserError(f"{name}: character {opened[-1] + 1}: '(' is never closed")
    return frames


def _end_of_bracket(text: str, start: int) -> int | None:
    """Return where the bracket that opens at `start` ends; None if none opens there."""
    if text[start : start + 1] != "(":
        return None
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    return None


def _end_at_comma(
    name: str, text: str, match: re.Match[str], stop: int, following: re.Match[str] | None, problems: Problems
) -> int:
    """Return where a value that isn't one bracket ends: at the comma before the next keyframe, or at the end."""
    commas = _commas(text, match.end(), stop)
    if not commas and following:
        problems.found.append(
            f"{name}, keyframe {match[match.lastgroup or 0]}: character {following.end()}: unexpected ':'; "
            "put a comma before the next keyframe"
        )
    for comma, end in pairwise([*commas, stop]):
        if not JOINER.fullmatch(text[comma + 1 : end]):
            problems.found.append(_not_a_keyframe(name, text, comma + 1))
    return commas[0] if commas else stop


def _commas(text: str, start: int, stop: int) -> list[int]:
    """Return where the commas outside brackets are."""
    commas, depth = [], 0
    for match in re.compile(r"[(),]").finditer(text, start, stop):
        depth += {"(": 1, ")": -1, ",": 0}[match[0]]
        if match[0] == "," and depth == 0:
            commas.append(match.start())
    return commas


def _not_a_keyframe(name: str, text: str, start: int) -> str:
    """Return the sentence that no keyframe begins at `start`."""
    rest = text[start:]
    blanks = len(rest) - len(rest.lstrip())
    part = rest.strip().split(",")[0].strip()
    return (
        f"{name}: character {start + blanks + 1}: expected a keyframe such as 0:(1.04), not {shown(part)}; "
        "a frame is written in digits"
    )


def _expression(label: str, value: str, start: int, language: Language) -> Expression:
    """Parse the value of a keyframe, which starts at `start` in the motion string."""
    try:
        return expressions.parse(value, start, language)
    except UserError as error:
        raise _labelled(label, error) from error


def _row(name: str, keyframe: Keyframe, end: int, scene: Scene, bounds: Bounds) -> Values | None:
    """Evaluate a keyframe from its own frame to the one before `end`; return None if it is invalid.

    On a beat before the film, it is evaluated from frame 0 on.
    """
    if keyframe.expression is None:
        return None
    first = max(keyframe.frame, 0)
    frames = np.arange(first, max(end, first + 1))
    try:
        row = keyframe.expression.values(frames, scene.max_frames, scene.seed, scene.sound)
        if keyframe.frame < scene.max_frames:
            bounds.check(frames, row)
    except UserError as error:
        raise _labelled(f"{name}, keyframe {keyframe.written}", error) from error
    return row


def _joined(keyframes: Sequence[Keyframe], rows: Sequence[Values], max_frames: int) -> Values:
    """Interpolate between the numbers, and use each expression for its own frames."""
    frames = [keyframe.frame for keyframe in keyframes]
    # Interpolate between all keyframes. An expression that starts beyond the video then applies to no frame.
    values: Values = np.interp(np.arange(max_frames), frames, [row[0] for row in rows])
    for keyframe, row in zip(keyframes, rows, strict=True):
        if keyframe.expression and keyframe.expression.moves:
            first = max(keyframe.frame, 0)
            values[first : first + len(row)] = row
    return values


def _labelled(label: str, error: UserError) -> UserError:
    return UserError(*(f"{label}: {problem}" for problem in error.problems))
