"""Make clips of music to learn from: a spectrogram picture, a caption of what is heard, and its class.

A clip is drawn from an integer seed alone: one of ten instruments by itself, or a mix of two or three in the same key
and tempo. Most clips have the seed images' tempo, and loop as they do.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lib.audio.spectrogram import HOP_LENGTH, WINDOW_LENGTH, Analysis, mel_to_image
from workshop.chance import Generator, pick
from workshop.music.captions import describe_mix, describe_solo
from workshop.music.harmony import draw_harmony
from workshop.music.parts import ROLES, Part, perform, write
from workshop.sound.loop import TEMPO_BPM, saturate
from workshop.sound.synth import Wave

CLASSES = tuple(ROLES)
MIX = "mix"
COLUMNS = 512
EDGE_COLUMNS = WINDOW_LENGTH // HOP_LENGTH  # no column within the picture sees where the loop is cut
TEMPO_RANGE_BPM = (80.0, 110.0)
MIX_SHARE = 0.25
TWICE_AS_OFTEN = ("bass", "marimba", "vibraphone")  # struck or plucked: the hardest to tell apart
OTHER_TEMPO_SHARE = 0.25

RHYTHM_SECTION = ("drums", "bass")
LEADERS = ("flute", "guitar", "marimba", "vibraphone", "synth lead", "strings", "church bells", "bass")
COMPANIONS = ("drums", "bass", "pad", "strings", "guitar")
COMPANION_GAINS = (0.35, 0.8)  # of the leader's root mean square


class Clip(NamedTuple):
    """Hold a picture (512, 512) uint8, its caption, and its class: one of `CLASSES`, or `MIX`."""

    picture: NDArray[np.uint8]
    caption: str
    class_name: str


class Piece(NamedTuple):
    """Hold what is to be played, the leader's part first, what it is called, and the generator of its noises."""

    parts: list[Part]
    tempo_bpm: float
    caption: str
    class_name: str
    generator: Generator


def clip(seed: int, class_name: str | None = None) -> Clip:
    """Make the clip of a seed, of a class if one is named: the same clip every time."""
    piece = compose(seed, class_name)
    return Clip(draw(play(piece)), piece.caption, piece.class_name)


def class_of(seed: int) -> str:
    """Draw the class of a seed for which none is named."""
    generator = np.random.default_rng(seed)
    return MIX if generator.random() < MIX_SHARE else pick((*CLASSES, *TWICE_AS_OFTEN), generator)


def compose(seed: int, class_name: str | None = None) -> Piece:
    """Write the piece of a seed and its caption, in a hundredth of the time that it takes to play."""
    class_name = class_name or class_of(seed)
    generator = np.random.default_rng([seed, (*CLASSES, MIX).index(class_name)])
    harmony = draw_harmony(generator)
    other_tempo = generator.random() < OTHER_TEMPO_SHARE
    tempo_bpm = float(generator.uniform(*TEMPO_RANGE_BPM)) if other_tempo else TEMPO_BPM
    names = draw_band(generator) if class_name == MIX else [class_name]
    parts = [write(name, harmony, tempo_bpm, generator) for name in names]
    caption = describe_mix(parts, generator) if class_name == MIX else describe_solo(parts[0], generator)
    return Piece(parts, tempo_bpm, caption, class_name, generator)


def play(piece: Piece) -> Wave:
    """Play two bars, (samples,) at 44.1 kHz with a peak of 1; once only, for it goes on with the piece's generator."""
    generator = piece.generator
    leader, *companions = (perform(part, piece.tempo_bpm, generator) for part in piece.parts)
    for wave in companions:
        leader = leader + generator.uniform(*COMPANION_GAINS) * wave
    return saturate(leader, float(generator.uniform(0.2, 1.0)))


def draw_band(generator: Generator) -> list[str]:
    """Draw the instruments of a mix: drums and bass, or a leader with one or two companions."""
    if generator.random() < 0.2:
        return list(RHYTHM_SECTION)
    leader = pick(LEADERS, generator)
    others = [name for name in COMPANIONS if name != leader]
    count = 2 if generator.random() < 0.35 else 1
    return [leader, *map(str, generator.choice(others, count, replace=False))]


@lru_cache(maxsize=1)
def analysis() -> Analysis:
    """Return the transform, whose filters are made once."""
    return Analysis()


def draw(wave: Wave) -> NDArray[np.uint8]:
    """Draw the first 512 columns of a loop that has been playing and goes on; as `make.picture`, in float32."""
    edge = EDGE_COLUMNS * HOP_LENGTH
    positions = np.arange(-edge, (COLUMNS + EDGE_COLUMNS) * HOP_LENGTH)
    mel = analysis()(torch.from_numpy(wave[positions % wave.size])[None])
    return mel_to_image(mel[..., EDGE_COLUMNS : EDGE_COLUMNS + COLUMNS])
