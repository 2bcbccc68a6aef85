"""Make clips of music to learn from: a spectrogram picture, a caption of what is heard, and its class.

A clip is drawn from an integer seed alone: an instrument by itself, a mix of two or three in the same key and tempo, or
a band that plays a genre. Most clips have the seed images' tempo, and loop as they do.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lib.audio.spectrogram import HOP_LENGTH, WINDOW_LENGTH, Analysis, mel_to_image
from workshop.examples import Example
from workshop.music.captions import describe_band, describe_mix, describe_solo
from workshop.music.harmony import draw_harmony
from workshop.music.instruments import GENRES, INSTRUMENTS
from workshop.music.parts import Part, perform, write
from workshop.music.soundfont import TEMPO_BPM, Wave
from workshop.randomness import Generator, pick

CLASSES = tuple(INSTRUMENTS)
MIX, BAND = "mix", "band"  # the other classes
COLUMNS = 512
EDGE_COLUMNS = WINDOW_LENGTH // HOP_LENGTH  # no column within the picture sees where the loop is cut
TEMPO_RANGE_BPM = (80.0, 110.0)
MIX_SHARE, BAND_SHARE = 0.15, 0.25
OTHER_TEMPO_SHARE = 0.25

LEADERS = tuple(name for name in INSTRUMENTS if name not in ("drums", "hip hop drums", "synth pad"))
COMPANIONS = ("drums", "drums", "bass", "bass", "synth pad", "strings", "piano", "acoustic guitar")
COMPANION_GAINS = (0.35, 0.7)  # of the leader's root mean square


class Piece(NamedTuple):
    """What is to be played, the leader's part first, with the gain of each, and what it is called."""

    parts: list[Part]
    gains: list[float]
    tempo_bpm: float
    caption: str
    class_name: str


def clip(seed: int, class_name: str | None = None) -> Example:
    """Make the clip of a seed, of a class if one is named: the same clip every time."""
    piece = compose(seed, class_name)
    return Example(draw(play(piece)), piece.caption, piece.class_name)


def class_of(seed: int) -> str:
    """Draw the class of a seed for which none is named."""
    generator = np.random.default_rng(seed)
    kind = generator.random()
    return MIX if kind < MIX_SHARE else BAND if kind < MIX_SHARE + BAND_SHARE else pick(CLASSES, generator)


def compose(seed: int, class_name: str | None = None) -> Piece:
    """Write the piece of a seed and its caption, in a hundredth of the time that it takes to play."""
    class_name = class_name or class_of(seed)
    generator = np.random.default_rng([seed, (*CLASSES, MIX, BAND).index(class_name)])
    other_tempo = generator.random() < OTHER_TEMPO_SHARE
    tempo_bpm = float(generator.uniform(*TEMPO_RANGE_BPM)) if other_tempo else TEMPO_BPM
    if class_name == BAND:
        genre = pick(list(GENRES), generator)
        parts = write_band(genre, tempo_bpm, generator)
        caption = describe_band(genre, parts, generator)
    else:
        harmony = draw_harmony(generator)
        names = draw_mix(generator) if class_name == MIX else [class_name]
        parts = [write(name, harmony, tempo_bpm, generator) for name in names]
        described = class_name == MIX
        caption = describe_mix(parts, generator) if described else describe_solo(parts[0], harmony.mode, generator)
    gains = [1.0, *(float(generator.uniform(*COMPANION_GAINS)) for _ in parts[1:])]
    return Piece(parts, gains, tempo_bpm, caption, class_name)


def draw_mix(generator: Generator) -> list[str]:
    """Draw the instruments of a mix: drums and bass, or a leader with one or two companions."""
    if generator.random() < 0.15:
        return ["drums", "bass"]
    leader = pick(LEADERS, generator)
    if generator.random() < 0.35:
        return [leader, *(["drums", "bass"] if leader != "bass" else ["drums", "piano"])]
    others = [name for name in COMPANIONS if name != leader]
    first = pick(others, generator)
    return [leader, first]


def write_band(genre: str, tempo_bpm: float, generator: Generator) -> list[Part]:
    """Draw the parts of a band: a leader over bass and drums, or over held chords."""
    band = GENRES[genre]
    harmony = draw_harmony(generator, band.modes)
    parts = [write(pick(band.leaders, generator), harmony, tempo_bpm, generator, band.style)]
    for choice in (band.basses, band.beds):
        others = [name for name in choice if name != parts[0].name]
        if others:
            parts.append(write(pick(others, generator), harmony, tempo_bpm, generator, band.style))
    if band.groove:
        parts.append(write("drums", harmony, tempo_bpm, generator, band.groove, band.kits))
    return parts


def play(piece: Piece) -> Wave:
    """Play two bars, (samples,) at 44.1 kHz."""
    waves = (gain * perform(part, piece.tempo_bpm) for part, gain in zip(piece.parts, piece.gains, strict=True))
    return np.asarray(np.sum(list(waves), axis=0))


@lru_cache(maxsize=1)
def analysis() -> Analysis:
    """Return the transform, whose filters are made once."""
    return Analysis()


def draw(wave: Wave) -> NDArray[np.uint8]:
    """Draw the first 512 columns of a repeating loop, as `seeds.make.picture` does, in float32."""
    edge = EDGE_COLUMNS * HOP_LENGTH
    positions = np.arange(-edge, (COLUMNS + EDGE_COLUMNS) * HOP_LENGTH)
    mel = analysis()(torch.from_numpy(wave[positions % wave.size])[None])
    return mel_to_image(mel[..., EDGE_COLUMNS : EDGE_COLUMNS + COLUMNS])
