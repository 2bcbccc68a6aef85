"""Read the beginning of a sound file, by FFmpeg's decoders."""

import itertools
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lib.errors import UserError

# FFmpeg also knows playlists, which would make it open other files and addresses. These formats contain the sound.
FORMATS = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,gsm,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
MIN_S = 0.25
SILENT = 1e-4  # a peak of -80 dB relative to full scale


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
    try:
        sound = _decoded(name, Path(str(value)), samples, rate_hz)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{name} is not a sound file that can be read: {error.strerror}") from error
    if len(sound) < min(MIN_S * rate_hz, samples):
        raise UserError(f"{name} has {len(sound) / rate_hz:.3f} s of sound, but must have at least {MIN_S} s")
    if np.abs(sound).max() < SILENT:
        raise UserError(f"{name} is silent in its first {len(sound) / rate_hz:.2f} s, but must have a sound there")
    return sound


def _decoded(name: str, path: Path, samples: int, rate_hz: int) -> NDArray[np.float32]:
    sound = np.zeros(0, np.float32)
    resampler = av.AudioResampler(format="fltp", rate=rate_hz)  # FFmpeg's own mix to mono would be louder
    with av.open(str(path), options={"protocol_whitelist": "file", "format_whitelist": FORMATS}) as container:
        if not container.streams.audio:
            raise UserError(f"{name} has no sound: the file contains no audio stream")
        for frame in itertools.chain(container.decode(audio=0), [None]):  # None: what the resampler still holds
            blocks = [block.to_ndarray().mean(axis=0) for block in resampler.resample(frame)]
            sound = np.concatenate([sound, *blocks], dtype=np.float32)
            if len(sound) >= samples:
                break
    return np.nan_to_num(sound[:samples], posinf=0, neginf=0)
