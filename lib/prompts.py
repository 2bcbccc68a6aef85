"""Keyframed prompts: "0: a red circle | 50: a blue square" -> the prompt of each frame, or of each bar of a walk."""

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from lib import prompt_weights
from lib.errors import Problems, UserError, shown
from lib.inputs import MAX_PROMPT_CHARS, check_text
from lib.prompt_weights import Prompt

MAX_CHARS = 20_000  # about thirty prompts of a hundred words

FRAME = re.compile(r"\s*(?P<digits>[0-9]+)\s*:")  # ASCII digits only; digits of other scripts are text
BEAT = re.compile(r"\s*(?P<digits>[0-9]+(?:\.[0-9]+)?)\s*b\s*:")
MAX_BEAT = 1_000_000  # farther than any music; beyond, it is a typing error
NEGATIVE = re.compile(r"--neg\b")  # how other Deforums separate a negative prompt


@dataclass(frozen=True)
class Unit:
    """What a model counts its keyframes in, and how an error explains it."""

    name: str = "frame"
    limit: str = "max_frames"  # what the highest keyframe is called
    negative: str = "this model has no negative prompt; leave out --neg and what follows"


FRAMES = Unit()


@dataclass(frozen=True)
class Blend:
    """The prompt of a moment: `share` of the way from one prompt to the next one."""

    prompt: Prompt
    following: Prompt
    share: float = 0.0  # 0 to 1


@dataclass(frozen=True)
class Prompts:
    """Prompts by frame or bar: `keyframes`, at least one, are sorted pairs of a frame and the prompt from there on.

    A prompt on a beat before the film has a negative frame.
    """

    keyframes: tuple[tuple[int, Prompt], ...]

    def at(self, frame: int) -> Prompt:
        """Return the prompt of `frame`. Before the first keyframe, the first prompt applies."""
        return self.crossing(frame, 0).following

    def crossing(self, frame: int, over: int) -> Blend:
        """Return the blend at `frame` if each prompt takes `over` frames to replace the one before it."""
        after = bisect_right(self.keyframes, frame, key=lambda keyframe: keyframe[0])
        n = max(after - 1, 0)
        since, prompt = self.keyframes[n]
        share = (frame - since + 1) / (over + 1)
        return Blend(prompt, prompt) if n == 0 or share >= 1 else Blend(self.keyframes[n - 1][1], prompt, share)


def parse(
    name: str, value: object, last: int, unit: Unit = FRAMES, frame_of: Callable[[float], int] | None = None
) -> Prompts:
    """Parse the value of the input `name`: parts separated by `|`, each `frame: prompt`, or a prompt for frame 0.

    JSON such as {"0": "a cat", "50": "a dog"}, and one `frame: prompt` per line, are accepted too. With `frame_of`,
    which converts positions in beats, a prompt may stand on a beat: `4b: a night sky`. A beat may lie outside the film.

    The frame is the digits before the first colon, so a prompt that starts with digits and a colon needs a frame:
    "0: 16:9 photo". Spaces around a prompt are removed. `last` is the highest frame that is accepted: the length of the
    video, although that is one past its last frame.

    Raises:
        UserError: A part is invalid; the error has the problems of all parts.
    """
    text = check_text(name, value, MAX_CHARS)
    parts = _parts(text, frame_of is not None)
    if len(parts) > last + 1:  # one for each frame from 0 on
        raise UserError(f"{name} has {len(parts)} parts, but must have at most {last + 1}")
    problems = Problems()
    found: dict[int, tuple[int, Prompt]] = {}  # frame: the number of its part, and its prompt
    for number, part in enumerate(parts, start=1):
        label = f"{name}, part {number} ({shown(part.strip())})"
        keyframe = problems.check(_keyframe, label, part, last, unit, frame_of)
        if keyframe and keyframe[0] in found:
            frame = keyframe[0]
            problems.found.append(f"{label}: {unit.name} {frame} already has a prompt, in part {found[frame][0]}")
        elif keyframe:
            found[keyframe[0]] = number, keyframe[1]
    problems.raise_any()
    return Prompts(tuple((frame, found[frame][1]) for frame in sorted(found)))


def _parts(text: str, beats: bool) -> list[str]:
    """Split prompts that are joined by `|`, or in one of the forms that other Deforums write.

    Those are a JSON object of texts by frame, and one `frame: prompt` a line.
    """
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            return text.split("|")  # a text that begins with a brace
        if given and all(_is_place(key, beats) and isinstance(given[key], str) for key in given):
            return [f"{key}: {given[key]}" for key in given]
    lines = [line for line in text.splitlines() if line.strip()]
    if "|" not in text and len(lines) > 1 and all(_place(line, beats) for line in lines):
        return lines
    return text.split("|")


def _place(text: str, beats: bool) -> re.Match[str] | None:
    """Match the frame that a text begins with, or with `beats` a beat, and the colon after it."""
    return (BEAT.match(text) if beats else None) or FRAME.match(text)


def _is_place(key: str, beats: bool) -> bool:
    place = _place(f"{key}:", beats)
    return place is not None and place.end() == len(key) + 1


def _keyframe(
    label: str, part: str, last: int, unit: Unit, frame_of: Callable[[float], int] | None
) -> tuple[int, Prompt]:
    """Parse one part into its frame and its prompt."""
    match = _place(part, frame_of is not None)
    digits = match["digits"] if match else "0"
    text = (part[match.end() :] if match else part).strip()
    frame = float(digits)  # int() rejects thousands of digits
    if match and match.re is BEAT and frame_of:
        if frame > MAX_BEAT:
            raise UserError(f"{label}: beat {shown(digits)} must be at most {MAX_BEAT}")
        try:
            frame = frame_of(frame)
        except UserError as error:
            raise UserError(*(f"{label}: {problem}" for problem in error.problems)) from error
    elif frame > last:
        hint = f"a prompt that starts with a number and a colon needs a {unit.name} too, as in 0: 16:9 photo"
        raise UserError(f"{label}: {unit.name} {shown(digits)} is above {unit.limit}, {last} ({hint})")
    if not text:
        raise UserError(f"{label}: the prompt is empty")
    if NEGATIVE.search(text):
        raise UserError(f"{label}: {unit.negative}")
    if len(text) > MAX_PROMPT_CHARS:
        raise UserError(f"{label}: the prompt has {len(text)} characters, but must have at most {MAX_PROMPT_CHARS}")
    return int(frame), prompt_weights.parse(label, text)
