"""What expressions know of the music: the beat, how loud it is, and functions that follow it.

Frame n of a film is shown from n / fps on. Its values describe the sound since frame n - 1, so nothing moves before it
is heard, and no attack between two frames is missed.

Names as in Parseq (`b`, `bpm`) where it has them: https://github.com/rewbs/sd-parseq.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lib.animation.operations import FUNCTIONS, VARIABLES, Language, Signature, Values

LEVELS = ("onset", "amp", "low", "mid", "high")  # 0 to 1
Number: TypeAlias = Values | np.float64

RELEASE_S = 0.2  # the time in which `beat` and the variables _smooth fall to 37 %


def smooth(value: Number, attack_s: Number, release_s: Number, fps: np.float64) -> Values:
    """Follow a value, rising and falling by exponential curves with these time constants; 0 follows at once."""
    values, attacks_s, releases_s = np.broadcast_arrays(np.atleast_1d(value), attack_s, release_s)
    with np.errstate(divide="ignore"):
        rises, falls = (1 - np.exp(-1 / (fps * np.maximum(times_s, 0))) for times_s in (attacks_s, releases_s))
    followed = np.empty(values.shape)
    last = np.float64(0)
    for n, aim in enumerate(values):
        last += (rises[n] if aim > last else falls[n]) * (aim - last)
        followed[n] = last
    return followed


def every(beats: Number, *rest: Number) -> Values:
    """Return 1 in the frames that reach a multiple of `beats`, moved by an offset in beats if given; else 0."""
    *offsets, position, before = rest
    offset = offsets[0] if offsets else np.float64(0)
    reached = np.floor((position - offset) / beats) > np.floor((before - offset) / beats)
    return np.where(np.asarray(beats) > 0, reached, np.nan)


MUSIC = Language(
    variables=(*VARIABLES, "fps", "b", "bar", "bpm", "beat", *LEVELS, *(f"{name}_smooth" for name in LEVELS)),
    functions={
        **FUNCTIONS,
        "smooth": Signature(smooth, 3, 3, reads=("fps",), remembers=True),
        "every": Signature(every, 1, 2, reads=("b", "b_before")),
    },
)


@dataclass(frozen=True)
class Soundtrack:
    """The music of a film: the variables of MUSIC that Deforum lacks."""

    constants: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Values] = field(default_factory=dict)  # (frames,)
    frame_of: Callable[[float], int] | None = None  # from a position in beats; before the film it is negative

    @classmethod
    def of(
        cls,
        fps: int,
        positions: Values,
        frame_of: Callable[[float], int],
        *,
        bpm: float,
        beats_per_bar: int,
        levels: Mapping[str, Values],
    ) -> "Soundtrack":
        """Derive all variables.

        Args:
            fps: Frames per second.
            positions: In beats, (frames + 1,): that of each frame, after that of the moment one frame before the film.
            frame_of: The frame that shows a position in beats.
            bpm: Beats per minute; 0 if there is no beat.
            beats_per_bar: Beats in a bar.
            levels: Those of LEVELS, (frames,) each, from 0 to 1.
        """
        before, position = positions[:-1], positions[1:]
        pulse = every(np.float64(1), position, before)

        def released(level: Values) -> Values:
            return smooth(level, np.float64(0), np.float64(RELEASE_S), np.float64(fps))

        curves = {
            "b": position,
            "b_before": before,
            "bar": np.floor(position / beats_per_bar),
            "beat": released(pulse),
            **levels,
            **{f"{name}_smooth": released(level) for name, level in levels.items()},
        }
        return cls({"fps": fps, "bpm": bpm}, curves, frame_of)

    def variables(self, frames: NDArray[np.int64]) -> dict[str, Values | np.float64]:
        """Return the variables at `frames`, (n,). Outside the film its first and last values hold."""
        constants = {name: np.float64(value) for name, value in self.constants.items()}
        return constants | {name: curve[np.clip(frames, 0, len(curve) - 1)] for name, curve in self.curves.items()}


NO_MUSIC = Soundtrack()
