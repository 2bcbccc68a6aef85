"""From a waveform or an image to a file, never half written."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from lib.audio import spectrogram
from lib.audio.spectrogram import Image, grey_levels
from lib.outputs import whole

LOUDNESS_DB = -12.0  # the root mean square of a clip before its peaks are limited, relative to full scale
PEAK_DB = -0.1  # the peak of a finished clip, relative to full scale
KNEE = 0.7  # the limiter leaves what is below as it is

PARAMETERS = {
    "sample_rate_hz": str(spectrogram.SAMPLE_RATE_HZ),
    "hop_length": str(spectrogram.HOP_LENGTH),
    "window_length": str(spectrogram.WINDOW_LENGTH),
    "fft_length": str(spectrogram.FFT_LENGTH),
    "mel_count": str(spectrogram.MEL_COUNT),
    "mel_scale": "htk",
    "max_frequency_hz": str(spectrogram.MAX_FREQUENCY_HZ),
    "power": str(spectrogram.POWER),
    "max_amplitude": str(spectrogram.MAX_AMPLITUDE),
}


def level(waveform: Tensor) -> Tensor:
    """Bring a waveform (channel, samples) to the loudness of a finished clip, its peak to -0.1 dBFS exactly.

    Silence stays silence. The crest of music is 15 to 23 dB, so at -12 dBFS its peaks lie above full scale: they
    are bent, where the original cut them off.

    Raises:
        ValueError: a sample is not finite.
    """
    if not waveform.isfinite().all():
        raise ValueError("the waveform has samples that are not finite")
    if not waveform.any():
        return torch.zeros_like(waveform)
    sound = waveform.double()
    sound = sound / sound.abs().max()
    sound = limit(sound * (amplitude(LOUDNESS_DB) / sound.square().mean().sqrt()))
    return (sound * (amplitude(PEAK_DB) / sound.abs().max())).to(waveform.dtype)


def limit(waveform: Tensor) -> Tensor:
    """Bend a waveform smoothly into -1 to 1, so that even the highest peaks keep their order.

    It is linear up to the knee, and from there x / sqrt(1 + x^2), whose slope and curvature join on.
    """
    size = waveform.abs()
    beyond = (size - KNEE) / (1 - KNEE)
    bent = KNEE + (1 - KNEE) * beyond / torch.sqrt(1 + beyond.square())
    return torch.where(size <= KNEE, waveform, bent.copysign(waveform))


def amplitude(level_db: float) -> float:
    """Return the amplitude of a level in dB relative to full scale."""
    return float(10 ** (level_db / 20))


def write_wav(path: Path, waveform: Tensor, metadata: Mapping[str, str]) -> None:
    """Write a waveform (1, samples) as a 44.1 kHz mono WAV file of 16-bit PCM, the metadata as JSON in its comment.

    The comment (RIFF's ICMT) lies behind the samples, so that the header is the plain one of 44 bytes, which simple
    readers skip. libsndfile reads back comments of up to 2 kB, ffmpeg any.

    Raises:
        ValueError: there is more than one channel, or a sample is beyond full scale and would be cut.
        OSError: the file can't be written.
    """
    if waveform.ndim != 2 or len(waveform) != 1:
        raise ValueError(f"a mono waveform is (1, samples), not {tuple(waveform.shape)}")
    samples = waveform[0].cpu().numpy()
    if not np.all(np.abs(samples) <= 1):
        raise ValueError("the waveform has samples beyond full scale")
    pcm = np.rint(samples * np.iinfo(np.int16).max).astype(np.int16)  # libsndfile's own conversion rounds down
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", spectrogram.SAMPLE_RATE_HZ, 1, "PCM_16", format="WAV") as file:
        file.write(pcm)
        file.comment = json.dumps(dict(metadata))  # in ASCII: RIFF knows of no encodings
    with whole(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def write_png(path: Path, image: Image, metadata: Mapping[str, str]) -> None:
    """Write a spectrogram image, (512, T) or (512, T, 3), as a PNG with the parameters and metadata as its text.

    It is written as RGB with three equal channels: clients of the original read the first.

    Raises:
        ValueError: the image has another shape or type.
        OSError: the file can't be written.
    """
    levels = np.rint(grey_levels(image)).astype(np.uint8)
    text = PngInfo()
    for key, value in {**metadata, **PARAMETERS}.items():
        text.add_text(key, value)
    content = io.BytesIO()
    Pillow.fromarray(levels).convert("RGB").save(content, format="PNG", pnginfo=text)
    with whole(path) as unfinished:
        unfinished.write_bytes(content.getvalue())
