"""Play notes on sampled instruments: Debian's FluidR3 soundfont, rendered by FluidSynth.

The sound is circular: whatever rings beyond the end of a loop comes back at its beginning, so a loop repeats without a
seam.
"""

import ctypes.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ

Wave = NDArray[np.float64]

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
PACKAGES = ("fluid-soundfont-gm", "libfluidsynth3")
DRUM_BANK = 128  # the others are bank 0
CLIP_SAMPLES = 511 * HOP_LENGTH  # 225351: the duration of a picture of 512 columns, 5.11 s
LOOP_BEATS = 8  # two bars of 4/4
TEMPO_BPM = 60 * LOOP_BEATS * SAMPLE_RATE_HZ / CLIP_SAMPLES  # 93.93: two bars are exactly a clip
GAIN = 0.5  # FluidSynth's own: loud chords stay below full scale
MAX_TAIL_S = 4.0  # rendered after the loop's end
BLOCK_SAMPLES = 64  # FluidSynth starts and ends notes at multiples of it
MODULATION_CONTROL, REVERB_CONTROL = 1, 91  # MIDI controllers


class Note(NamedTuple):
    """A note: its start in beats, MIDI pitch (69 is A4, 440 Hz), length in beats, and velocity from 0 to 1."""

    beat: float
    pitch: int
    beats: float
    velocity: float


class Sound(NamedTuple):
    """A preset of the soundfont, and how it is played: its reverb and vibrato, both from 0 to 1."""

    program: int
    bank: int = 0
    reverb: float = 0.3
    vibrato: float = 0.0


@contextmanager
def _synthesizer(sound: Sound) -> Iterator[Any]:
    """Provide FluidSynth with a preset on channel 0.

    A new one each time: its reverb moves, and a reset doesn't bring it back, so the same notes would sound different.
    """
    install()
    import fluidsynth  # it looks for its library as it is imported

    synthesizer = fluidsynth.Synth(gain=GAIN, samplerate=float(SAMPLE_RATE_HZ))
    synthesizer.setting("synth.dynamic-sample-loading", 1)  # only the preset's samples are loaded
    try:
        synthesizer.program_select(0, synthesizer.sfload(str(SOUNDFONT)), sound.bank, sound.program)
        synthesizer.cc(0, REVERB_CONTROL, round(127 * sound.reverb))
        synthesizer.cc(0, MODULATION_CONTROL, round(127 * sound.vibrato))
        yield synthesizer
    finally:
        synthesizer.delete()


@cache
def install() -> None:
    """Install the soundfont and FluidSynth from Debian's packages if one is missing.

    Raises:
        RuntimeError: one is missing, and this user can't install packages.
    """
    if SOUNDFONT.exists() and ctypes.util.find_library("fluidsynth"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RuntimeError(f"FluidSynth or its soundfont is missing: sudo apt-get install {' '.join(PACKAGES)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "--quiet", *command], env=environment, check=True)  # noqa: S603, S607


def play(sound: Sound, notes: Sequence[Note], tempo_bpm: float = TEMPO_BPM) -> Wave:
    """Play a loop, (samples,) at 44.1 kHz."""
    beat_samples = 60 / tempo_bpm * SAMPLE_RATE_HZ
    loop_samples = round(LOOP_BEATS * beat_samples)
    beat_blocks = beat_samples / BLOCK_SAMPLES
    # A key that is struck again is released first, hence the order: in the same block, 0 comes before 1.
    events = sorted(
        event
        for note in notes
        for event in (
            (round(note.beat * beat_blocks), 1, note.pitch, max(1, round(127 * note.velocity))),
            (round((note.beat + note.beats) * beat_blocks), 0, note.pitch, 0),
        )
    )
    last = max(events[-1][0] if events else 0, loop_samples // BLOCK_SAMPLES)
    end = last + round(MAX_TAIL_S * SAMPLE_RATE_HZ / BLOCK_SAMPLES)
    blocks, now = [], 0
    with _synthesizer(sound) as synthesizer:
        for at, is_start, pitch, velocity in [*events, (end, 0, 0, 0)]:
            if at > now:
                blocks.append(synthesizer.get_samples((at - now) * BLOCK_SAMPLES))
                now = at
            if is_start:
                synthesizer.noteon(0, pitch, velocity)
            else:
                synthesizer.noteoff(0, pitch)
    stereo = np.concatenate(blocks).astype(np.float64).reshape(-1, 2) / 32768
    return folded(stereo.mean(axis=1), loop_samples)


def folded(wave: Wave, length: int) -> Wave:
    """Add what lies beyond `length` samples to the beginning, as often as it goes round."""
    rounds = -(-wave.size // length)
    padded = np.pad(wave, (0, rounds * length - wave.size))
    return np.asarray(padded.reshape(rounds, length).sum(axis=0))


def unit_rms(wave: Wave) -> Wave:
    """Scale a wave to a root mean square of 1; silence stays silence."""
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-12)


def tilted(wave: Wave, db_per_octave: float, pivot_hz: float = 1000) -> Wave:
    """Make a loop brighter or, with a negative slope, darker: a straight line in dB, level below a quarter of a pivot.

    It is applied to the loop's own spectrum, so the loop still has no seam.
    """
    hz = np.fft.rfftfreq(wave.size, 1 / SAMPLE_RATE_HZ)
    octaves = np.log2(np.clip(hz / pivot_hz, 0.25, 8))
    return np.asarray(np.fft.irfft(np.fft.rfft(wave) * 10 ** (db_per_octave * octaves / 20), wave.size))
