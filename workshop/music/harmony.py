"""Draw keys, chord progressions, rhythms and melodies from a generator. Pitches are MIDI numbers: 69 is A4, 440 Hz."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workshop.music.soundfont import LOOP_BEATS
from workshop.randomness import Generator, pick

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# The root of each half bar, as a degree of the scale counted from 0.
# fmt: off
PROGRESSIONS = (
    (0, 0, 0, 0), (0, 0, 3, 3), (0, 0, 4, 4), (0, 5, 3, 4), (0, 3, 4, 3), (0, 4, 5, 3), (1, 4, 0, 0), (5, 3, 0, 4),
    (0, 6, 5, 4),
)
# fmt: on
# A beat or two as a row of lengths in beats; a negative one is a rest.
CELLS: dict[str, tuple[tuple[float, ...], ...]] = {
    "held": ((4.0,), (4.0,), (2.0, 2.0)),
    "slow": ((2.0,), (2.0,), (1.0, 1.0), (3.0, 1.0), (-1.0, 1.0)),
    "steady": ((1.0,), (0.5, 0.5), (1.5, 0.5), (1.0,), (0.5, 0.5)),
    "fast": ((0.25, 0.25, 0.25, 0.25), (0.5, 0.25, 0.25), (0.25, 0.25, 0.5)),
    "funky": ((0.75, 0.75, 0.5), (0.25, 0.5, 0.25), (-0.25, 0.25, 0.25, 0.25), (0.75, 0.25), (-0.5, 0.25, 0.25)),
    "jazzy": ((2 / 3, 1 / 3), (2 / 3, 1 / 3), (1 / 3, 1 / 3, 1 / 3), (1.0,), (-2 / 3, 1 / 3)),
}


@dataclass(frozen=True)
class Harmony:
    """A key and its chords: the tonic's pitch class, the mode, and the root of each half bar as a degree."""

    tonic: int
    mode: str
    roots: tuple[int, ...]

    def pitch(self, degree: int) -> int:
        """Return the pitch of a degree of the scale; degree 0 is the tonic of the lowest octave."""
        octave, step = divmod(degree, 7)
        return self.tonic + 12 * octave + SCALES[self.mode][step]

    def chord(self, beat: float, low: int, voices: int) -> list[int]:
        """Return so many notes of the chord at a beat, stacked upwards from the pitch `low`."""
        root = self.roots[int(beat % LOOP_BEATS) // 2]
        degrees = sorted({(root + third) % 7 for third in (0, 2, 4, 6)[: max(3, voices)]})
        pitches = [self.pitch(degree + 7 * octave) for octave in range(11) for degree in degrees]
        return [pitch for pitch in pitches if pitch >= low][:voices]

    def bass_note(self, beat: float, low: int) -> int:
        """Return the root of the chord at a beat, at or next above the pitch `low`."""
        root = self.pitch(self.roots[int(beat % LOOP_BEATS) // 2])
        return low + (root - low) % 12

    def degrees_between(self, low: int, high: int) -> list[int]:
        """Return the degrees whose pitches lie from `low` to `high`."""
        return [degree for degree in range(75) if low <= self.pitch(degree) <= high]


def draw_harmony(generator: Generator, modes: Sequence[str] = tuple(SCALES)) -> Harmony:
    """Draw a key in one of these modes, and a progression."""
    mode = pick(modes, generator)
    return Harmony(int(generator.integers(12)), mode, pick(PROGRESSIONS, generator))


def draw_rhythm(style: str, generator: Generator) -> list[tuple[float, float]]:
    """Draw (beat, length in beats) of notes that fill the loop in a style of `CELLS`; half of them repeat a bar."""
    repeats = generator.random() < 0.5
    span = LOOP_BEATS // 2 if repeats else LOOP_BEATS
    notes: list[tuple[float, float]] = []
    beat = 0.0
    while beat < span - 1e-6:
        cell = pick(CELLS[style], generator)
        if beat + sum(map(abs, cell)) > span + 1e-6:
            continue
        for length in cell:
            notes += [(beat, length)] if length > 0 else []
            beat += abs(length)
    if not notes:  # rests only
        notes = [(0.0, 1.0)]
    return notes + [(beat + span, length) for beat, length in notes] if repeats else notes


def draw_melody(
    harmony: Harmony, rhythm: list[tuple[float, float]], low: int, high: int, generator: Generator
) -> list[int]:
    """Draw one pitch for each note of a rhythm, no two in a row alike: chord notes on the beats, steps between."""
    pitches = [harmony.pitch(degree) for degree in harmony.degrees_between(low, high)]
    index = int(generator.integers(len(pitches)))
    melody: list[int] = []
    for beat, _ in rhythm:
        aim = int(np.clip(index + pick((-3, -2, -1, -1, 1, 1, 2, 3), generator), 0, len(pitches) - 1))
        tones = {pitch % 12 for pitch in harmony.chord(beat, 0, 3)} if beat % 1 == 0 else set(range(12))
        allowed = [i for i, pitch in enumerate(pitches) if pitch % 12 in tones and pitch not in melody[-1:]]
        index = min(allowed, key=lambda i: abs(i - aim))
        melody.append(pitches[index])
    return melody
