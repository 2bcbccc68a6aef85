"""Read sound files, by FFmpeg's decoders."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lib.errors import UserError

# FFmpeg also knows playlists, which would make it open other files and addresses. These formats contain the sound.
FORMATS = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,gsm,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
MIN_S = 0.25
MAX_MINUTES = 15  # of a sound that is read as a whole: 320 MB in stereo
SILENT = 1e-4  # a peak of -80 dB relative to full scale

Sound = NDArray[np.float32]  # (channel, samples)


def read_beginning(name: str, value: object, samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Return at most the first `samples` samples of a file, mono, resampled to `rate_hz`.

    Only the beginning is decoded, however long the file is.

    Args:
        name: The input that errors name.
        value: The path of the file.
        samples: The number of samples wanted.
        rate_hz: Their sample rate.

    Raises:
        UserError: The file can't be read, has no sound, is shorter than 0.25 s, or is silent.
    """
    # FFmpeg's own mix to mono would be louder.
    sound: NDArray[np.float32] = _read(name, value, samples, rate_hz).mean(axis=0)
    if np.abs(sound).max() < SILENT:
        raise UserError(f"{name} is silent in its first {len(sound) / rate_hz:.2f} s, but must have a sound there")
    return sound


def read_whole(name: str, value: object, rate_hz: int) -> Sound:
    """Return a file's sound, (1 or 2, samples), resampled to `rate_hz`. More channels are mixed to two.

    Raises:
        UserError: The file can't be read, has no sound, is shorter than 0.25 s, or is longer than 15 minutes.
    """
    most = MAX_MINUTES * 60 * rate_hz
    sound = _read(name, value, most + 1, rate_hz)
    if sound.shape[1] > most:
        raise UserError(f"{name} is longer than {MAX_MINUTES} minutes, but must be at most that long")
    # FFmpeg's mix of more than two channels may exceed full scale, and so may a file of floats.
    return sound / max(1.0, float(np.abs(sound).max()))


def _read(name: str, value: object, samples: int, rate_hz: int) -> Sound:
    """Return at most the first `samples` samples of a file's one or two channels."""
    try:
        blocks: list[Sound] = []
        count = 0
        for block in _decoded(name, Path(str(value)), rate_hz):
            blocks.append(block)
            count += block.shape[1]
            if count >= samples:
                break
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{name} is not a sound file that can be read: {error.strerror}") from error
    if count < min(MIN_S * rate_hz, samples):
        raise UserError(f"{name} has {count / rate_hz:.3f} s of sound, but must have at least {MIN_S} s")
    return np.nan_to_num(np.concatenate(blocks, axis=1)[:, :samples], posinf=0, neginf=0)


def _decoded(name: str, path: Path, rate_hz: int) -> Iterator[Sound]:
    with av.open(str(path), options={"protocol_whitelist": "file", "format_whitelist": FORMATS}) as container:
        if not container.streams.audio:
            raise UserError(f"{name} has no sound: the file contains no audio stream")
        stream = container.streams.audio[0]
        layout = "mono" if stream.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate_hz)
        for frame in itertools.chain(container.decode(stream), [None]):  # None: what the resampler still holds
            yield from (block.to_ndarray().astype(np.float32, copy=False) for block in resampler.resample(frame))
