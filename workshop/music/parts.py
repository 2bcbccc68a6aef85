"""Write an instrument's part of a loop, note what a caption may say of it, and play it.

A part is written in one of its instrument's styles and textures within a window of its range, so its density, register
and brightness vary.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from workshop.music.grooves import draw_groove
from workshop.music.harmony import Harmony, draw_melody, draw_rhythm
from workshop.music.instruments import INSTRUMENTS
from workshop.music.soundfont import LOOP_BEATS, Note, Sound, Wave, play, tilted, unit_rms
from workshop.randomness import Generator, pick

WINDOW_SEMITONES = 14
ACCENTS = (0.65, 0.8, 0.8, 1.0)
TILT_DB_PER_OCTAVE = (-3.5, 2.5)  # at a brightness of 0 and of 1


@dataclass(frozen=True)
class Take:
    """How a part is to be played: harmony, style, lowest and highest pitch, and where the chances come from."""

    harmony: Harmony
    style: str
    low: int
    high: int
    generator: Generator


@dataclass(frozen=True)
class Part:
    """A part and what a caption may say of it: onsets per second, register and brightness from 0 to 1, and style."""

    name: str
    sound: Sound
    notes: list[Note]
    onsets_per_s: float
    register: float
    brightness: float
    style: str


def melody(take: Take, ring_beats: float = 0) -> list[Note]:
    """Write a melody; every note is held at least `ring_beats`."""
    rhythm = draw_rhythm(take.style, take.generator)
    pitches = draw_melody(take.harmony, rhythm, take.low, take.high, take.generator)
    velocities = take.generator.choice(ACCENTS, len(rhythm))
    return [
        Note(beat, pitch, max(0.92 * beats, ring_beats), float(velocity))
        for (beat, beats), pitch, velocity in zip(rhythm, pitches, velocities, strict=True)
    ]


def chords(take: Take, voices: int = 3, strum_beats: float = 0, ring_beats: float = 0) -> list[Note]:
    """Write chords, struck together or strummed upwards."""
    notes = []
    for beat, beats in draw_rhythm(take.style, take.generator):
        velocity = pick(ACCENTS, take.generator)
        for voice, pitch in enumerate(take.harmony.chord(beat, take.low, voices)):
            notes.append(Note(beat + voice * strum_beats, pitch, max(0.95 * beats, ring_beats), velocity))
    return notes


def power_chords(take: Take) -> list[Note]:
    """Write roots with their fifths."""
    low = min(take.low, 50)
    notes = []
    for beat, beats in draw_rhythm(take.style, take.generator):
        root = take.harmony.bass_note(beat, low)
        notes += [Note(beat, root + interval, 0.9 * beats, 0.9) for interval in (0, 7, 12)]
    return notes


def melody_and_chords(take: Take) -> list[Note]:
    """Write a melody over softer held chords an octave below."""
    held = replace(take, style="slow", low=max(take.low - 12, 43))
    lower = [note._replace(velocity=0.7 * note.velocity) for note in chords(held)]
    return melody(take) + lower


def arpeggios(take: Take, ring_beats: float = 0.5) -> list[Note]:
    """Write broken chords that keep one figure throughout, in sixteenths, eighths or quarters."""
    step_beats = 0.25 if take.style == "fast" else 1.0 if take.style in ("slow", "held") else 0.5
    figure = take.generator.integers(0, 4, 4)
    notes = []
    for step in range(round(LOOP_BEATS / step_beats)):
        beat = step * step_beats
        pitch = take.harmony.chord(beat, take.low, 4)[figure[step % 4]]
        notes.append(Note(beat, pitch, max(ring_beats, step_beats), 0.9 if step % 4 == 0 else 0.7))
    return notes


def glissandi(take: Take) -> list[Note]:
    """Write quick runs over the chord's notes, up or down, each ringing on."""
    notes = []
    for start in range(0, LOOP_BEATS, 2):
        pitches = take.harmony.chord(start, take.low, 4)
        run = sorted({pitch + octave for pitch in pitches for octave in (0, 12, 24)})[:10]
        if take.generator.random() < 0.4:
            run.reverse()
        notes += [Note(start + 0.125 * step, pitch, 2, 0.75) for step, pitch in enumerate(run)]
    return notes


def peal(take: Take) -> list[Note]:
    """Toll bells that ring on, or peal them down the scale in each bar."""
    notes = melody(take, ring_beats=float(take.generator.uniform(4, 7)))
    if take.generator.random() < 0.25:
        pitches = sorted(notes, key=lambda note: (note.beat // 4, -note.pitch))
        notes = [note._replace(pitch=other.pitch) for note, other in zip(notes, pitches, strict=True)]
    return notes


def bass_line(take: Take) -> list[Note]:
    """Write roots, and some of the scale's notes between them."""
    written = melody(take)
    moving = take.generator.random(len(written)) < 0.35
    return [
        note if move else note._replace(pitch=take.harmony.bass_note(note.beat, take.low))
        for note, move in zip(written, moving, strict=True)
    ]


def slap_line(take: Take) -> list[Note]:
    """Write short roots with popped octaves between them."""
    line = []
    for note in bass_line(take):
        popped = take.generator.random() < 0.35
        line.append(note._replace(pitch=note.pitch + 12 * popped, beats=min(note.beats, 0.3), velocity=1.0))
    return line


def pulse(take: Take) -> list[Note]:
    """Write roots in steady eighths or sixteenths, now and then an octave up."""
    step_beats = 0.25 if take.style in ("fast", "funky") else 0.5
    beats = np.arange(0, LOOP_BEATS, step_beats)
    octaves = 12 * (take.generator.random(len(beats)) < 0.25)
    sounding = take.generator.random(len(beats)) < (0.6 if take.style == "funky" else 0.92)
    return [
        Note(float(beat), take.harmony.bass_note(float(beat), take.low) + int(octave), 0.8 * step_beats, 0.9)
        for beat, octave, is_sounding in zip(beats, octaves, sounding, strict=True)
        if is_sounding or beat % 2 == 0
    ]


TEXTURES: dict[str, Callable[[Take], list[Note]]] = {
    "melody": melody,
    "ringing melody": partial(melody, ring_beats=2),
    "chords": chords,
    "ringing chords": partial(chords, voices=2, ring_beats=2),
    "power chords": power_chords,
    "melody and chords": melody_and_chords,
    "arpeggios": partial(arpeggios, ring_beats=1),
    "ringing arpeggios": partial(arpeggios, ring_beats=2),
    "strums": partial(chords, voices=4, strum_beats=0.04, ring_beats=0.5),
    "glissandi": glissandi,
    "peal": peal,
    "bass line": bass_line,
    "slap line": slap_line,
    "pulse": pulse,
    "groove": lambda take: draw_groove(take.style, take.generator),
}


def write(
    name: str, harmony: Harmony, tempo_bpm: float, generator: Generator, style: str = "", kits: tuple[int, ...] = ()
) -> Part:
    """Draw an instrument's part in a key: in one of its styles unless one is named, drums on one of `kits` if given."""
    instrument = INSTRUMENTS[name]
    low = int(generator.integers(instrument.low, max(instrument.high - WINDOW_SEMITONES, instrument.low) + 1))
    style = style or pick(instrument.styles, generator)
    sound = pick(instrument.sounds, generator)
    if kits:
        sound = sound._replace(program=pick(kits, generator))
    take = Take(harmony, style, low, low + WINDOW_SEMITONES, generator)
    notes = TEXTURES[pick(instrument.textures, generator)](take)
    onsets = {round(4 * note.beat) for note in notes}  # a strum is one onset
    pitch = float(np.mean([note.pitch for note in notes]))
    return Part(
        name=name,
        sound=sound,
        notes=notes,
        onsets_per_s=len(onsets) / (LOOP_BEATS * 60 / tempo_bpm),
        register=(pitch - instrument.low) / (instrument.high - instrument.low),
        brightness=float(generator.random()),
        style=style,
    )


def perform(part: Part, tempo_bpm: float) -> Wave:
    """Play a part, (samples,) at 44.1 kHz with a root mean square of 1."""
    dark, bright = TILT_DB_PER_OCTAVE
    return unit_rms(tilted(play(part.sound, part.notes, tempo_bpm), dark + part.brightness * (bright - dark)))
