"""Write one instrument's part of a loop, note what is in it for its caption, and play it.

A part is written in one of its instrument's styles within a window of its range, so that its density, register and
brightness vary; the sound is circular like the seeds' (`workshop.sound.loop`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from workshop.chance import Generator, pick
from workshop.music import instruments
from workshop.music.drums import BARS, Voice, drum_kit
from workshop.music.effects import echo, reverb
from workshop.music.harmony import LOOP_BEATS, Harmony, draw_melody, draw_rhythm, hertz
from workshop.sound import synth
from workshop.sound.loop import Loop, Note
from workshop.sound.synth import Wave, unit_rms

WINDOW_SEMITONES = 13
ACCENTS = (0.65, 0.8, 0.8, 1.0)


@dataclass(frozen=True)
class Take:
    """Say how a part is to be played: its style, its lowest and highest pitch, and its brightness from 0 to 1."""

    harmony: Harmony
    style: str
    low: int
    high: int
    brightness: float
    generator: Generator

    def between(self, dark: float, bright: float) -> float:
        """Return a value as far from `dark` to `bright`, in octaves, as the part is bright."""
        return float(dark * (bright / dark) ** self.brightness)


@dataclass(frozen=True)
class Part:
    """Hold what is to be played, and what a caption may say of it.

    That is how many onsets a second there are, where in the instrument's range the part lies and how bright it is
    (0 to 1), its style, and whether it has echoes.
    """

    name: str
    voices: list[Voice]
    onsets_per_s: float
    register: float
    brightness: float
    style: str
    echoes: bool


def melody(take: Take, ring_beats: float = 0) -> list[Note]:
    """Write a melody; every note is held at least `ring_beats`."""
    rhythm = draw_rhythm(take.style, take.generator)
    pitches = draw_melody(take.harmony, rhythm, take.low, take.high, take.generator)
    velocities = take.generator.choice(ACCENTS, len(rhythm))
    return [
        Note(beat, hertz(pitch), max(0.92 * beats, ring_beats), float(velocity))
        for (beat, beats), pitch, velocity in zip(rhythm, pitches, velocities, strict=True)
    ]


def chords(take: Take, voices: int, strum_beats: float = 0, ring_beats: float = 0) -> list[Note]:
    """Write chords, struck together or strummed upwards."""
    notes = []
    for beat, beats in draw_rhythm(take.style, take.generator):
        velocity = pick(ACCENTS, take.generator)
        for voice, pitch in enumerate(take.harmony.chord(beat, take.low, voices)):
            notes.append(Note(beat + voice * strum_beats, hertz(pitch), max(beats, ring_beats), velocity))
    return notes


def arpeggios(take: Take, ring_beats: float) -> list[Note]:
    """Write broken chords that keep one figure throughout, in eighths or sixteenths."""
    step_beats = 0.25 if take.style == "fast" else 1.0 if take.style == "slow" else 0.5
    figure = take.generator.integers(0, 4, 4)
    notes = []
    for step in range(round(LOOP_BEATS / step_beats)):
        beat = step * step_beats
        pitch = take.harmony.chord(beat, take.low, 4)[figure[step % 4]]
        notes.append(Note(beat, hertz(pitch), ring_beats, 0.9 if step % 4 == 0 else 0.7))
    return notes


def drums(take: Take) -> list[Voice]:
    """Play a kit of kick, snare or clap, and hat."""
    return drum_kit(take.style, take.generator)


def bass(take: Take) -> list[Voice]:
    """Play roots, and some of the scale's notes between them."""
    written = melody(take)
    moving = take.generator.random(len(written)) < 0.35
    roots = [note._replace(frequency_hz=hertz(take.harmony.bass_note(note.beat, take.low))) for note in written]
    return [(synth.bass, [note if move else root for note, root, move in zip(written, roots, moving, strict=True)])]


def church_bells(take: Take) -> list[Voice]:
    """Toll bells that ring on, or peal them down the scale."""
    notes = melody(take, ring_beats=float(take.generator.uniform(4, 7)))
    if take.generator.random() < 0.25:
        notes.sort(key=lambda note: (note.beat // 4, -note.frequency_hz))
    return [(instruments.church_bell, notes)]


def marimba(take: Take) -> list[Voice]:
    """Play a melody or broken chords with mallets, sometimes with a second voice below."""
    notes = melody(take) if take.generator.random() < 0.7 else arpeggios(take, 0.4)
    lower = chords(take, 2) if take.generator.random() < 0.3 else []
    lower = [note._replace(frequency_hz=note.frequency_hz / 2, velocity=0.6 * note.velocity) for note in lower]
    return [(synth.mallet, notes + lower)]


def vibraphone(take: Take) -> list[Voice]:
    """Let a melody ring under the fans, sometimes in thirds or over soft chords."""
    notes = melody(take, ring_beats=float(take.generator.uniform(1.5, 3)))
    lower = chords(take, 2, ring_beats=2) if take.style != "steady" and take.generator.random() < 0.4 else []
    lower = [note._replace(velocity=0.6 * note.velocity) for note in lower]
    fans = partial(synth.vibraphone, tremolo_hz=take.generator.uniform(4.5, 6.5))
    return [(fans, notes + lower)]


def flute(take: Take) -> list[Voice]:
    """Play one line of melody."""
    return [(partial(instruments.flute, generator=take.generator), melody(take))]


def strings(take: Take) -> list[Voice]:
    """Bow a melody, held chords, or both."""
    section = partial(instruments.strings, generator=take.generator, top_hz=take.between(3500, 9000))
    kind = take.generator.random()
    if kind < 0.35:
        return [(section, melody(take))]
    if kind < 0.7:
        return [(section, chords(take, 2))]
    held = Take(take.harmony, "held", max(take.low - 12, 45), take.high, take.brightness, take.generator)
    lower = [note._replace(velocity=0.6 * note.velocity) for note in chords(held, 2)]
    return [(section, melody(take) + lower)]


def pad(take: Take) -> list[Voice]:
    """Hold chords of three or four notes that melt into each other."""
    voices = int(take.generator.integers(3, 5))
    return [(partial(instruments.soft_pad, top_hz=take.between(700, 2200)), chords(take, voices))]


def guitar(take: Take) -> list[Voice]:
    """Pluck a melody or broken chords, or strum."""
    string = partial(instruments.guitar, place=take.between(0.38, 0.09))
    kind = take.generator.random()
    if take.style != "funky" and kind < 0.45:
        return [(string, arpeggios(take, float(take.generator.uniform(1, 2))))]
    if kind < 0.7:
        return [(string, melody(take, ring_beats=0.75))]
    return [(string, chords(take, 4, strum_beats=0.03, ring_beats=0.5))]


def synth_lead(take: Take) -> list[Voice]:
    """Sing a solo that glides from each note to the next."""
    notes, top_hz = melody(take), take.between(2200, 6000)
    pairs = zip([notes[-1], *notes[:-1]], notes, strict=True)
    return [(partial(synth.lead, from_hz=before.frequency_hz, top_hz=top_hz), [note]) for before, note in pairs]


@dataclass(frozen=True)
class Role:
    """Say who plays a part: how, in which styles, from which pitch to which, in what room (seconds, gain)."""

    play: Callable[[Take], list[Voice]]
    styles: tuple[str, ...]
    low: int
    high: int
    reverb_decay_s: float
    reverb_gain: float


ROLES = {
    "drums": Role(drums, tuple(BARS), 40, 53, 0.4, 0.08),
    "bass": Role(bass, ("slow", "steady", "fast", "funky", "jazzy"), 28, 45, 0.3, 0.02),
    "church bells": Role(church_bells, ("held", "slow", "slow", "steady"), 58, 82, 2.5, 0.25),
    "marimba": Role(marimba, ("slow", "steady", "fast", "funky", "jazzy"), 48, 86, 0.8, 0.15),
    "vibraphone": Role(vibraphone, ("held", "slow", "steady", "jazzy"), 58, 88, 1.6, 0.25),
    "flute": Role(flute, ("held", "slow", "steady", "jazzy", "fast"), 69, 96, 1.4, 0.2),
    "strings": Role(strings, ("held", "slow", "slow", "steady"), 50, 84, 1.2, 0.2),
    "pad": Role(pad, ("held", "held", "slow"), 45, 70, 2.0, 0.3),
    "guitar": Role(guitar, ("slow", "steady", "fast", "funky"), 40, 72, 0.7, 0.12),
    "synth lead": Role(synth_lead, ("slow", "steady", "fast", "funky", "funky"), 57, 86, 0.8, 0.12),
}


def write(name: str, harmony: Harmony, tempo_bpm: float, generator: Generator) -> Part:
    """Draw an instrument's part in a key."""
    role = ROLES[name]
    low = int(generator.integers(role.low, role.high - WINDOW_SEMITONES + 1))
    brightness = float(generator.random())
    style = pick(role.styles, generator)
    voices = role.play(Take(harmony, style, low, low + WINDOW_SEMITONES, brightness, generator))
    notes = [note for _, played in voices for note in played]
    onsets = {round(8 * note.beat) for note in notes}  # a strum is one onset
    pitch = float(np.mean([69 + 12 * np.log2(note.frequency_hz / 440) for note in notes]))
    return Part(
        name=name,
        voices=voices,
        onsets_per_s=len(onsets) / (LOOP_BEATS * 60 / tempo_bpm),
        register=(pitch - role.low) / (role.high - role.low),
        brightness=brightness,
        style=style,
        echoes=name == "synth lead" and bool(generator.random() < 0.3),
    )


def perform(part: Part, tempo_bpm: float, generator: Generator) -> Wave:
    """Play a part in its instrument's room, (samples,) at 44.1 kHz with a root mean square of 1."""
    role = ROLES[part.name]
    loop = Loop(LOOP_BEATS, tempo_bpm)
    for instrument, notes in part.voices:
        loop.play(cache(instrument), notes)  # most parts repeat notes
    wave = echo(loop.wave, 0.75 * loop.beat_s, 0.4, 0.35) if part.echoes else loop.wave
    return unit_rms(reverb(wave, role.reverb_decay_s, role.reverb_gain * generator.uniform(0.3, 1.3), generator))
