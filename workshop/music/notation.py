"""Read notes and rhythms from text."""

from workshop.music.soundfont import Note

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
VELOCITIES = {"!": 1.0, "": 0.8, "?": 0.5}
STEPS = {"X": 1.0, "x": 0.8, "o": 0.5}


def pitch_of(name: str) -> int:
    """Return the MIDI pitch of a note such as C4 (60), F#3 or Bb5."""
    letter, accidental, octave = name[0], name[1:-1], int(name[-1])
    return 12 * (octave + 1) + SEMITONES[letter] + accidental.count("#") - accidental.count("b")


def score(text: str) -> list[Note]:
    """Read notes that follow each other, such as "G4/1.5 E4/.5? -/1 C3+Eb3+G3/1!".

    A word is a note, a chord (+) or a rest (-), then its length in beats, then ! for loud or ? for soft. Bar lines (|)
    may stand anywhere.
    """
    notes, beat = [], 0.0
    for word in text.replace("|", " ").split():
        names, length = word.split("/")
        beats = float(length.rstrip("!?"))
        velocity = VELOCITIES[length.lstrip(".0123456789")]
        if names != "-":
            notes += [Note(beat, pitch_of(name), beats, velocity) for name in names.split("+")]
        beat += beats
    return notes


def rhythm(steps: str, pitch: int, step_beats: float = 0.25, beats: float = 0.25) -> list[Note]:
    """Read hits on a grid of sixteenths, such as "X..x ..o. |": loud, normal, soft, rest; blanks and bars are free."""
    grid = [step for step in steps if step not in " |"]
    return [Note(i * step_beats, pitch, beats, STEPS[step]) for i, step in enumerate(grid) if step != "."]
