"""How a sound goes over time: its onsets, its loudness and the energy of three bands.

A column is 10 ms, as in spectrogram.py, but from windows of 46 ms instead of 100 ms. The long windows separate tones;
they would smear an attack over three frames of a film. What a window hears counts at its end, not in its middle, so
that a column knows nothing of what comes later.
Source: McFee et al., librosa: Audio and music signal analysis in Python, 2015, https://librosa.org.
"""

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.audio.decode import Sound

SAMPLE_RATE_HZ = 44_100
HOP_LENGTH = 441  # samples: a column is 10 ms
COLUMNS_PER_S = SAMPLE_RATE_HZ // HOP_LENGTH
WINDOW_LENGTH = 2048  # samples
MEL_COUNT = 128
MAX_FREQUENCY_HZ = 10_000
BANDS_HZ = {"low": (0, 200), "mid": (200, 2000), "high": (2000, MAX_FREQUENCY_HZ)}
DELAY_COLUMNS = -(-WINDOW_LENGTH // (2 * HOP_LENGTH))  # from the middle of a window to its end, rounded up
LOUDEST_PERCENTILE = 99.5  # what counts as 1: a single bang doesn't make the rest small
SILENT = 1e-4  # a root mean square of -80 dB relative to full scale


@dataclass(frozen=True)
class Features:
    """What a sound does in each column, all (columns,)."""

    onset: NDArray[np.float64]  # how much begins: the rise of the mels in dB, in arbitrary units
    low_onset: NDArray[np.float64]  # the same below 200 Hz, where drums and basses mark the beat
    levels: dict[str, NDArray[np.float64]]  # onset, amp, low, mid and high, each 0 to 1 over the whole sound
    silent: bool
    seconds: float


def features(sound: Sound) -> Features:
    """Analyse a sound, (channel, samples) at 44.1 kHz, as a whole."""
    # Here, because librosa takes seconds to import and only this needs it.
    _let_numba_cache()
    from librosa import mel_frequencies, power_to_db
    from librosa.feature import melspectrogram, rms
    from librosa.onset import onset_strength

    mono = np.ascontiguousarray(sound.mean(axis=0))
    power = melspectrogram(
        y=mono,
        sr=SAMPLE_RATE_HZ,
        n_fft=WINDOW_LENGTH,
        hop_length=HOP_LENGTH,
        n_mels=MEL_COUNT,
        fmax=MAX_FREQUENCY_HZ,
        htk=True,
    )
    centres_hz = mel_frequencies(n_mels=MEL_COUNT + 2, fmax=MAX_FREQUENCY_HZ, htk=True)[1:-1]
    decibels = power_to_db(power, ref=np.max)

    def onsets(mels: NDArray[np.float32]) -> NDArray[np.float64]:
        found: NDArray[np.float32] = onset_strength(S=mels, sr=SAMPLE_RATE_HZ, hop_length=HOP_LENGTH, center=False)
        return _at_the_end(found)

    def band(low_hz: float, high_hz: float) -> NDArray[np.float64]:
        return _at_the_end(np.sqrt(power[(centres_hz >= low_hz) & (centres_hz < high_hz)].sum(axis=0)))

    amplitude = _at_the_end(rms(y=mono, frame_length=WINDOW_LENGTH, hop_length=HOP_LENGTH)[0])
    silent = bool(amplitude.max() < SILENT)
    onset = onsets(decibels)
    found = {"onset": np.maximum(onset - np.median(onset), 0), "amp": amplitude}
    found |= {name: band(*edges_hz) for name, edges_hz in BANDS_HZ.items()}
    return Features(
        onset=onset,
        low_onset=onsets(decibels[centres_hz < BANDS_HZ["low"][1]]),
        levels={name: np.zeros_like(level) if silent else _normalized(level) for name, level in found.items()},
        silent=silent,
        seconds=len(mono) / SAMPLE_RATE_HZ,
    )


def _let_numba_cache() -> None:
    """Give numba a folder for librosa's compiled functions where it may not write next to them.

    librosa can't be imported without one, as in a container with a read-only file system. The folder is new and
    private, because whoever can write to it can run code here.
    """
    librosa = find_spec("librosa")
    writable = librosa and librosa.origin and os.access(Path(librosa.origin).parent, os.W_OK)
    if not writable and "NUMBA_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = folder


def _at_the_end(level: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(DELAY_COLUMNS), level[:-DELAY_COLUMNS]])


def _normalized(level: NDArray[np.float64]) -> NDArray[np.float64]:
    loudest = np.percentile(level, LOUDEST_PERCENTILE) or level.max()
    return np.clip(level / loudest, 0, 1) if loudest else level


def by_frame(level: NDArray[np.float64], fps: int, start_s: float, frames: int) -> NDArray[np.float64]:
    """Return a level at each frame, (frames,): its maximum since the frame before. After the sound's end it is 0.

    Nothing is seen before it is heard, and no onset is missed between two frames.
    """
    moments_s = start_s + np.arange(-1, frames) / fps
    columns = np.floor(moments_s * COLUMNS_PER_S + 1e-6).astype(np.int64) + 1  # the first one after each moment
    padded = np.append(level, np.zeros(max(int(columns[-1]) + 1 - len(level), 1)))
    columns = np.maximum(columns, 0)
    return np.array([padded[begin : max(end, begin + 1)].max() for begin, end in pairwise(columns)])
