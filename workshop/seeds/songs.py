"""Compose the five musical seeds: two bars of 4/4 at 94 BPM each, which loop without a seam.

A song takes a generator for its noises and returns one loop's sound, (225191,) at 44.1 kHz. They share tempo and
length so that clips made from the same seed, or from different ones, join. Sixteenths are written in groups of a
beat; the notation is that of `loop.rhythm` and `loop.score`.
"""

from collections.abc import Callable
from functools import partial

from workshop.chance import Generator
from workshop.sound import synth
from workshop.sound.loop import Loop, echo, note_hz, reverb, rhythm, saturate, score
from workshop.sound.synth import Wave

KICK_HZ = 58
KICK_STEPS = "X... ..o. X... ..oo | X... ..o. X..o ...o"  # beats 0 2 4 6 and their pickups
BACKBEAT_STEPS = ".... X... .... X... | .... X... .... X..."  # beats 1 3 5 7
OFF_EIGHTH_STEPS = "..x. ..x. ..x. ..x. | ..x. ..x. ..x. ..x."
VIBES_CONCERT_PITCH_HZ = 442  # as vibraphones are tuned: G4 is 394 Hz


def agile(generator: Generator) -> Wave:
    """Play a quick gliding lead in G minor over C minor 7 and D, on a pedal of low G."""
    drums = Loop()
    clap = partial(synth.clap, generator=generator)
    drums.play(clap, rhythm("x... X... x... X... | x... X... x... X.o.", 1800, 0.4), 0.5)
    hat = partial(synth.hat, generator=generator)
    drums.play(hat, rhythm("..oo ..xo ..oo ..xo | ..oo ..xo ..oo ..xo", 6500, 0.1), 0.5)

    bass = Loop()
    bar_1 = "G1/.75! G1/.5 G1/.25? G1/.5! G2/.5? G1/.75 G2/.25? F1/.5"
    bar_2 = "G1/.75! G1/.5 G1/.25? G1/.5! G2/.5? G1/.5 D2/.5 F#1/.5"
    bass.play(synth.bass, score(f"{bar_1} | {bar_2}"), 0.9)

    keys = Loop()
    c_minor_7, d_major, d_7 = "G3+Bb3+C4+Eb4", "F#3+A3+D4", "F#3+A3+C4+D4"
    comping = "{0}/1.25 -/.25 {0}/.75? -/.25 {0}/1 {1}/.5?"
    chords = f"{comping.format(c_minor_7, c_minor_7)} | {comping.format(d_major, d_7)}"
    keys.play(synth.electric_piano, score(chords), 0.3)

    solo = Loop()
    bar_1 = "G4/.75! Bb4/.25 C5/.5 Eb5/.5! D5/.5 C5/.25 D5/.25 Bb4/.5 G4/.5"
    bar_2 = "A4/.75! C5/.25 D5/.5 F#5/.5! E5/.25 D5/.25 C5/.5 A4/.25 F#4/.25 D4/.5"
    melody = score(f"{bar_1} | {bar_2}")
    for previous, note in zip([melody[-1], *melody[:-1]], melody, strict=True):
        solo.play(partial(synth.lead, from_hz=previous.frequency_hz), [note], 0.4)

    wet = reverb(keys.wave + echo(solo.wave, 0.75 * solo.beat_s, 0.3, 0.25), 1.2, 0.3, generator)
    bed = synth.room(9000, drums.duration_s, 0.001, generator)
    return saturate(drums.wave + bass.wave + wet + bed, 1.0)


def marim(generator: Generator) -> Wave:
    """Play two marimbas in C minor, the lower against the upper, over a band's drums."""
    drums = Loop()
    drums.play(synth.kick, rhythm(KICK_STEPS, KICK_HZ, 0.5))
    drums.play(partial(synth.snare, generator=generator), rhythm(BACKBEAT_STEPS, 175, 0.4), 0.8)
    drums.play(partial(synth.hat, generator=generator), rhythm(OFF_EIGHTH_STEPS, 6000, 0.2), 0.7)

    marimba = Loop()
    bar_1 = "C5/.75! Eb5/.75 G5/.5! Bb5/.75! G5/.75 F5/.5"
    bar_2 = "Eb5/.75! C5/.75 Ab4/.5! D5/.75! F5/.5 Bb4/.25 G4/.5"
    marimba.play(synth.mallet, score(f"{bar_1} | {bar_2}"), 0.5)

    c_minor = "Eb4/.25? G4/.25? C4/.25? G4/.25? "
    a_flat = "Eb4/.25? Ab4/.25? C4/.25? Ab4/.25? "
    b_flat = "D4/.25? Bb4/.25? F4/.25? Bb4/.25? "
    marimba.play(synth.mallet, score(4 * c_minor + 2 * a_flat + 2 * b_flat), 0.35)

    bar_1 = "C3/1! G3/.5 Bb3/.5 G3/.75 Eb3/.75 F3/.5"
    bar_2 = "Ab3/1! Eb3/.5 C3/.5 Bb3/.75! F3/.75 D3/.5"
    marimba.play(synth.mallet, score(f"{bar_1} | {bar_2}"), 0.5)

    bed = synth.room(10_000, drums.duration_s, 0.003, generator)
    return saturate(reverb(drums.wave, 0.5, 0.1, generator) + reverb(marimba.wave, 1.4, 0.4, generator) + bed, 1.0)


def motorway(generator: Generator) -> Wave:
    """Drive through the night in G minor: octave bass, a held B flat, and short synthesizer chords."""
    drums = Loop()
    drums.play(synth.kick, rhythm("X... .... X... .... | X... .... X... ..o.", 52, 0.4), 0.6)
    snare = partial(synth.snare, generator=generator, top_hz=4000)
    drums.play(snare, rhythm(".... X... .... X... | .... X... .... X..o", 185, 0.4), 0.6)

    bass = Loop()
    beat, last_beat = "G1/.5! -/.25 G2/.25 ", "G1/.5! G2/.25? G2/.25 "
    bass.play(synth.bass, score(2 * (3 * beat + last_beat)), 0.9)

    keys = Loop()
    bar_1 = "{g}+G4/.5! -/.25 {g}+G4/.25 -/.5 {g}+A4/.5 -/.5 {b}+Bb4/.5! -/.5 {b}+A4/.5"
    bar_2 = "{e}+G4/.5! -/.25 {e}+G4/.25 -/.5 {e}+F4/.5 -/.5 {f}+F4/.5! -/.5 {b}+F4/.5"
    chords = {"g": "G3+D4", "b": "F3+D4", "e": "Eb3+G3+D4", "f": "F3+A3+C4"}  # B flat is held already
    keys.play(synth.stab, score(f"{bar_1} | {bar_2}".format(**chords)), 0.5)

    held = synth.drone(note_hz("Bb3"), drums.duration_s, 0.3)
    wet = reverb(echo(keys.wave, 0.75 * keys.beat_s, 0.35, 0.3), 1.4, 0.3, generator)
    bed = synth.room(4000, drums.duration_s, 0.001, generator)
    return saturate(drums.wave + bass.wave + held + wet + bed, 1.2)


def og_beat(generator: Generator) -> Wave:
    """Rock between E and A on every eighth, over hiss, with a deep bass line early in the loop."""
    keys = Loop()
    e_major, a_major = "B2+E3+G#3+B3", "A2+E3+A3+C#4"
    rock = "{e}+E4/.3! -/.2 {a}+E4/.4? -/.1 {e}+E4/.3! -/.2 {a}+E4/.4? -/.1 "
    bar_1 = rock + "{e}+E4/.3! -/.2 {a}+E4/.4? -/.1 {e}+G#4/.3! -/.2 {a}+A4/.4 -/.1"
    bar_2 = rock + "{e}+E4/.3! -/.2 {a}+A4/.4? -/.1 {e}+B4/.3! -/.2 {a}+A4/.4 -/.1"
    keys.play(synth.stab, score(f"{bar_1} | {bar_2}".format(e=e_major, a=a_major)), 0.4)

    bass = Loop()
    bass.play(synth.bass, score("-/1 E1/.5! C#2/.5! B1/.5! A0/.5!"))

    drums = Loop()
    drums.play(synth.kick, rhythm("X... .... X... ..o. | X... .... X..o ....", 105, 0.3), 0.7)
    drums.play(partial(synth.clap, generator=generator), rhythm(BACKBEAT_STEPS, 1500, 0.4), 0.5)

    tape = synth.hiss(6000, drums.duration_s, 0.01, generator)
    bed = synth.room(6000, drums.duration_s, 0.001, generator)
    return saturate(drums.wave + bass.wave + reverb(keys.wave, 0.8, 0.25, generator) + tape + bed, 1.2)


def vibes(generator: Generator) -> Wave:
    """Let a vibraphone ring slowly over soft strings, with a few bells, kick and light hats."""
    write = partial(score, concert_pitch_hz=VIBES_CONCERT_PITCH_HZ)
    drums = Loop()
    drums.play(synth.kick, rhythm(KICK_STEPS, KICK_HZ, 0.5))
    drums.play(partial(synth.hat, generator=generator), rhythm(OFF_EIGHTH_STEPS, 6500, 0.15), 0.4)

    tones = Loop()
    tones.play(synth.vibraphone, write("G4/2! E4/2 | D4/2! E4/1 D4/1"), 0.9)

    bed = Loop()
    chords = "F2+F3+A3+C4/2 C3+G3+B3/2 | E2+G3+B3/2 A2+G3+C4/2"  # none doubles the tone above it
    bed.play(partial(synth.pad, top_hz=1500), write(chords), 0.3)
    bed.add(synth.room(10_000, bed.duration_s, 0.012, generator))

    bells = Loop()
    bells.play(synth.bell, write("-/.5 G5/1 -/1.75 B5/.75? | -/1.5 C6/1 -/.5 D6/1?"), 0.5)
    wet = reverb(tones.wave + echo(bells.wave, 0.5 * bells.beat_s, 0.4, 0.4), 2.0, 0.4, generator)
    return saturate(drums.wave + bed.wave + wet, 1.0)


SONGS: dict[str, Callable[[Generator], Wave]] = {
    "agile": agile,
    "marim": marim,
    "motorway": motorway,
    "og_beat": og_beat,
    "vibes": vibes,
}
