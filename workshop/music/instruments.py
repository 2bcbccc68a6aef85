"""The instruments, genres and grooves that clips are made of, as instruments.toml has them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workshop.music.soundfont import Sound

DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Instrument:
    """What an instrument plays and what it is called."""

    names: tuple[str, ...]  # the plain name first, then others that a prompt may use
    sounds: tuple[Sound, ...]
    textures: tuple[str, ...]  # as `workshop.music.parts` has them
    styles: tuple[str, ...]  # of the rhythms in `workshop.music.harmony`, or of the drums' grooves
    low: int = 48  # MIDI pitches: the range that parts are drawn in
    high: int = 84
    dark_word: str = ""  # for a dark tone, where captions speak of brightness


@dataclass(frozen=True)
class Genre:
    """A genre: its words in captions, and the band that plays it."""

    words: tuple[str, ...]
    modes: tuple[str, ...]
    leaders: tuple[str, ...]
    style: str  # of the leader's and the bass's rhythms
    groove: str = ""  # of the drums; empty for none
    kits: tuple[int, ...] = ()  # the drums' programs
    basses: tuple[str, ...] = ()
    beds: tuple[str, ...] = ()  # what holds chords underneath


@dataclass(frozen=True)
class Groove:
    """A style of drums: bars of kick, snare and hi-hat, and the share of silent steps that get a soft hit."""

    bars: tuple[tuple[str, str, str], ...]
    ghosts: float


def _fields(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with tuples in place of lists, and presets in place of their numbers."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    if "programs" in fields:
        played: dict[str, Any] = {name: fields.pop(name) for name in ("bank", "reverb", "vibrato") if name in fields}
        fields["sounds"] = tuple(Sound(program, **played) for program in fields.pop("programs"))
    return fields


INSTRUMENTS = {name: Instrument(**_fields(table)) for name, table in DATA["instruments"].items()}
GENRES = {name: Genre(**_fields(table)) for name, table in DATA["genres"].items()}
GROOVES = {name: Groove(**_fields(table)) for name, table in DATA["grooves"].items()}
