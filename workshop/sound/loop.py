"""Write notes down, place them on the beats of a loop, and add space: all of it circular.

Whatever sounds beyond the end of a loop comes back at its beginning, so a loop can be played on and on without a
seam. Notes are written in beats; beats count from 0.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lib.audio.spectrogram import SAMPLE_RATE_HZ
from workshop.chance import Generator
from workshop.sound.synth import Wave, noise_band, times

Instrument = Callable[[float, float, float], Wave]

CONCERT_PITCH_HZ = 440.0
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
VELOCITIES = {"!": 1.0, "": 0.8, "?": 0.5}
STEPS = {"X": 1.0, "x": 0.8, "o": 0.5}


class Note(NamedTuple):
    """Say when (beat), what (one frequency), how long (beats) and how hard (0 to 1) to play."""

    beat: float
    frequency_hz: float
    beats: float
    velocity: float


def note_hz(name: str, concert_pitch_hz: float = CONCERT_PITCH_HZ) -> float:
    """Return the equal-tempered frequency of a note such as C4, F#3 or Bb5 (A4 is the concert pitch)."""
    letter, accidental, octave = name[0], name[1:-1], int(name[-1])
    semitones = SEMITONES[letter] + accidental.count("#") - accidental.count("b") + 12 * octave
    return float(concert_pitch_hz * 2 ** ((semitones - 57) / 12))


def score(text: str, concert_pitch_hz: float = CONCERT_PITCH_HZ) -> list[Note]:
    """Read notes that follow each other: "G4/1.5 E4/.5? -/1 C3+Eb3+G3/1!".

    A word is a note, or several that sound together, or a rest (-), then its length in beats, then ! for loud or ?
    for soft. A bar line (|) may stand anywhere.
    """
    notes, beat = [], 0.0
    for word in text.replace("|", " ").split():
        names, length = word.split("/")
        beats = float(length.rstrip("!?"))
        velocity = VELOCITIES[length.lstrip(".0123456789")]
        if names != "-":
            pitches = [note_hz(name, concert_pitch_hz) for name in names.split("+")]
            notes += [Note(beat, pitch_hz, beats, velocity) for pitch_hz in pitches]
        beat += beats
    return notes


def rhythm(steps: str, frequency_hz: float, beats: float, step_beats: float = 0.25) -> list[Note]:
    """Read hits on a grid of sixteenths, "X..x ..o. |": loud, normal, soft, none; blanks and bar lines are free."""
    grid = [step for step in steps if step not in " |"]
    return [Note(i * step_beats, frequency_hz, beats, STEPS[step]) for i, step in enumerate(grid) if step != "."]


class Loop:
    """Hold the sound of a loop, (samples,), and place notes on its beats."""

    def __init__(self, beats: int = 8, tempo_bpm: float = 94) -> None:
        self.beat_s = 60 / tempo_bpm
        self.duration_s = beats * self.beat_s
        self.wave = np.zeros(times(self.duration_s).size)

    def add(self, wave: Wave, beat: float = 0) -> None:
        """Add a wave that begins on a beat; what reaches beyond the end comes back at the beginning."""
        start = round(beat * self.beat_s * SAMPLE_RATE_HZ)
        positions = (start + np.arange(wave.size)) % self.wave.size
        np.add.at(self.wave, positions, wave)

    def play(self, instrument: Instrument, notes: Iterable[Note], gain: float = 1) -> None:
        """Play notes on an instrument."""
        for note in notes:
            wave = instrument(note.frequency_hz, note.beats * self.beat_s, note.velocity)
            self.add(gain * wave, note.beat)


def reverb(wave: Wave, decay_s: float, gain: float, generator: Generator) -> Wave:
    """Add a room to a loop: its circular convolution with noise that falls by 60 dB in decay_s."""
    tail = noise_band(150, 7000, wave.size, generator)
    t = times(wave.size / SAMPLE_RATE_HZ)
    tail *= np.exp(-6.9 * t / decay_s) * np.clip(t / 0.02, 0, 1)
    tail /= np.sqrt(np.sum(tail**2))
    return wave + gain * np.fft.irfft(np.fft.rfft(wave) * np.fft.rfft(tail), wave.size)


def echo(wave: Wave, delay_s: float, feedback: float, gain: float) -> Wave:
    """Add echoes to a loop, each one softer by the feedback: a comb filter, applied to the loop's own spectrum."""
    turns = 2 * np.pi * np.fft.rfftfreq(wave.size, 1 / SAMPLE_RATE_HZ) * delay_s
    repeat = np.exp(-1j * turns)
    echoes = repeat / (1 - feedback * repeat)
    return wave + gain * np.fft.irfft(np.fft.rfft(wave) * echoes, wave.size)


def saturate(wave: Wave, drive: float) -> Wave:
    """Round the peaks off, the more the higher the drive, and bring the peak to 1."""
    peak = max(float(np.abs(wave).max()), 1e-12)
    rounded: Wave = np.tanh(drive * wave / peak) / np.tanh(drive)
    return rounded
