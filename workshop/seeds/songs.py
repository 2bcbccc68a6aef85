"""Compose the five musical seeds: two bars of 4/4 at 93.93 BPM each, which loop without a seam.

A song is a list of voices, mixed to one loop of 225,351 samples: exactly a clip. They share tempo and length, so clips
made from the same seed, or from different ones, join. The notation is that of `workshop.music.notation`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workshop.music.grooves import CLAP, HAT, KICK, OPEN_HAT, SNARE
from workshop.music.notation import rhythm, score
from workshop.music.soundfont import DRUM_BANK, Note, Sound, Wave, play, tilted, unit_rms

PEAK = 0.9
BACKBEAT = ".... X... .... X... | .... X... .... X..."  # beats 1 3 5 7
KICK_ON_THE_BEAT = "X... ..o. X... ..oo | X... ..o. X..o ...o"  # beats 0 2 4 6 and their pickups
OFF_EIGHTHS = "..x. ..x. ..x. ..x. | ..x. ..x. ..x. ..x."
STANDARD_KIT, POWER_KIT, ELECTRONIC_KIT = (Sound(program, DRUM_BANK, reverb=0.15) for program in (0, 16, 24))


class Voice(NamedTuple):
    """A preset, what it plays, its level (its root mean square in the mix), and its tilt in dB per octave."""

    sound: Sound
    notes: list[Note]
    level: float
    tilt: float = 0.0


def agile() -> list[Voice]:
    """Play a quick lead in G minor over C minor 7 and D, slap bass and a tight beat."""
    drums = [
        *rhythm("X... ..X. .x.. ..x. | X... ..X. .x.. .Xo.", KICK),
        *rhythm("x... X... x... X... | x... X... x... X.o.", CLAP),
        *rhythm("x.oo x.xo x.oo x.xo | x.oo x.xo x.oo x.xo", HAT),
    ]
    bass_1 = "G1/.75! G1/.5 G1/.25? G1/.5! G2/.5? G1/.75 G2/.25? F1/.5"
    bass_2 = "G1/.75! G1/.5 G1/.25? G1/.5! G2/.5? G1/.5 D2/.5 F#1/.5"
    c_minor_7, d_major, d_7 = "G3+Bb3+C4+Eb4", "F#3+A3+D4", "F#3+A3+C4+D4"
    comping = "{0}/1.25 -/.25 {0}/.75? -/.25 {0}/1 {1}/.5?"
    chords = f"{comping.format(c_minor_7, c_minor_7)} | {comping.format(d_major, d_7)}"
    lead_1 = "G4/.75! Bb4/.25 C5/.5 Eb5/.5! D5/.5 C5/.25 D5/.25 Bb4/.5 G4/.5"
    lead_2 = "A4/.75! C5/.25 D5/.5 F#5/.5! E5/.25 D5/.25 C5/.5 A4/.25 F#4/.25 D4/.5"
    return [
        Voice(STANDARD_KIT, drums, 0.6, -3.0),
        Voice(Sound(37, reverb=0.0), score(f"{bass_1} | {bass_2}"), 1.7, -4.0),
        Voice(Sound(4, reverb=0.1), score(chords), 0.25, -2.0),
        Voice(Sound(81, reverb=0.2, vibrato=0.3), score(f"{lead_1} | {lead_2}"), 0.6, -6.0),
    ]


def marim() -> list[Voice]:
    """Play two marimbas in C minor, the lower against the upper, over a band's drums."""
    drums = [*rhythm(KICK_ON_THE_BEAT, KICK), *rhythm(BACKBEAT, SNARE), *rhythm(OFF_EIGHTHS, HAT)]
    upper = "C5/.75! Eb5/.75 G5/.5! Bb5/.75! G5/.75 F5/.5 | Eb5/.75! C5/.75 Ab4/.5! D5/.75! F5/.5 Bb4/.25 G4/.5"
    c_minor = "Eb4/.25? G4/.25? C4/.25? G4/.25? "
    a_flat = "Eb4/.25? Ab4/.25? C4/.25? Ab4/.25? "
    b_flat = "D4/.25? Bb4/.25? F4/.25? Bb4/.25? "
    lower = "C3/1! G3/.5 Bb3/.5 G3/.75 Eb3/.75 F3/.5 | Ab3/1! Eb3/.5 C3/.5 Bb3/.75! F3/.75 D3/.5"
    bass = "C2/1.5! C2/.5 C2/1 G1/1 | Ab1/1.5! Ab1/.5 Bb1/1 Bb1/1"
    return [
        Voice(STANDARD_KIT, drums, 0.8),
        Voice(Sound(12, reverb=0.4), score(upper), 1.0),
        Voice(Sound(12, reverb=0.4), score(4 * c_minor + 2 * a_flat + 2 * b_flat), 0.5),
        Voice(Sound(12, reverb=0.4), score(lower), 0.6),
        Voice(Sound(32, reverb=0.1), score(bass), 0.6),
    ]


def motorway() -> list[Voice]:
    """Drive through the night in G minor: octave bass, a held B flat, and short synthesizer chords."""
    drums = [*rhythm("X... .... X... .... | X... .... X... ..o.", KICK), *rhythm(BACKBEAT, SNARE)]
    drums += rhythm("..x. ..x. ..x. ..x. | ..x. ..x. ..x. ..xo", HAT)
    beat, last_beat = "G1/.5! G2/.25 G1/.25 ", "G1/.5! G2/.25? G2/.25 "
    bar_1 = "{g}+G4/.5! -/.25 {g}+G4/.25 -/.5 {g}+A4/.5 -/.5 {b}+Bb4/.5! -/.5 {b}+A4/.5"
    bar_2 = "{e}+G4/.5! -/.25 {e}+G4/.25 -/.5 {e}+F4/.5 -/.5 {f}+F4/.5! -/.5 {b}+F4/.5"
    chords = {"g": "G3+D4", "b": "F3+D4", "e": "Eb3+G3+D4", "f": "F3+A3+C4"}  # B flat is held already
    return [
        Voice(ELECTRONIC_KIT, drums, 0.8, -1.5),
        Voice(Sound(38, reverb=0.0), score(2 * (3 * beat + last_beat)), 1.0, -2.0),
        Voice(Sound(81, reverb=0.3), score(f"{bar_1} | {bar_2}".format(**chords)), 0.6, -4.0),
        Voice(Sound(90, reverb=0.5), score("Bb3/8"), 0.35),
    ]


def og_beat() -> list[Voice]:
    """Rock between E and A on every eighth, over a power kit and a bass."""
    drums = [
        *rhythm("X... .... X... ..o. | X... .... X..o ....", KICK),
        *rhythm(BACKBEAT, SNARE),
        *rhythm("x.o. o.o. x.o. o.o. | x.o. o.o. x.o. o.o.", HAT),
    ]
    e_major, a_major = "B2+E3+G#3+B3", "A2+E3+A3+C#4"
    rock = "{e}+E4/.25! -/.25 {a}+E4/.25? -/.25 {e}+E4/.25! -/.25 {a}+E4/.25? -/.25 "
    bar_1 = rock + "{e}+E4/.25! -/.25 {a}+E4/.25? -/.25 {e}+G#4/.25! -/.25 {a}+A4/.25 -/.25"
    bar_2 = rock + "{e}+E4/.25! -/.25 {a}+A4/.25? -/.25 {e}+B4/.25! -/.25 {a}+A4/.25 -/.25"
    bass = "E1/.3! -/.2 E1/.3 -/.2 A1/.3 -/.2 E1/.3 -/.2 E1/.3! -/.2 C#2/.3 -/.2 B1/.3! -/.2 A1/.3 -/.2"
    return [
        Voice(POWER_KIT, drums, 0.7, -3.0),
        Voice(Sound(29, reverb=0.0), score(f"{bar_1} | {bar_2}".format(e=e_major, a=a_major)), 0.6, -6.0),
        Voice(Sound(34, reverb=0.0), score(f"{bass} | {bass}"), 1.7, -4.0),
    ]


def vibes() -> list[Voice]:
    """Let a vibraphone ring slowly over soft strings, with a few bells, bass, kick and light hats."""
    drums = [*rhythm(KICK_ON_THE_BEAT, KICK), *rhythm(OFF_EIGHTHS, HAT), *rhythm(".... .... .... ..o.", OPEN_HAT)]
    bed = "F3+A3+C4/2 G3+B3/2 | E3+G3+B3/2 G3+C4/2"  # none doubles the tone above it
    return [
        Voice(STANDARD_KIT, drums, 0.6),
        Voice(Sound(11, reverb=0.5), score("G4/2! E4/2 | D4/2! E4/1 D4/1"), 1.0),
        Voice(Sound(48, reverb=0.6), score(bed), 0.35),
        Voice(Sound(32, reverb=0.1), score("F1/2! C2/2 | E1/2! A1/2"), 0.6),
        Voice(Sound(14, reverb=0.6), score("-/.5 G5/1 -/1.75 B5/.75? | -/1.5 C6/1 -/.5 D6/1?"), 0.3),
    ]


SONGS: dict[str, Callable[[], list[Voice]]] = {
    "agile": agile,
    "marim": marim,
    "motorway": motorway,
    "og_beat": og_beat,
    "vibes": vibes,
}


def render(name: str) -> Wave:
    """Play a song: one loop (225351,) at 44.1 kHz."""
    voices = [voice.level * unit_rms(tilted(play(voice.sound, voice.notes), voice.tilt)) for voice in SONGS[name]()]
    mix = np.sum(voices, axis=0)
    return np.asarray(mix * (PEAK / np.abs(mix).max()))
