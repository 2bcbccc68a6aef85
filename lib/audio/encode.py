"""Write a waveform or a spectrogram image to a file."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from lib.audio import spectrogram
from lib.audio.spectrogram import Image, grey_levels
from lib.outputs import whole

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


def write_wav(path: Path, waveform: Tensor, metadata: Mapping[str, str]) -> None:
    """Write a waveform (1, samples) as a 44.1 kHz mono WAV file of 16-bit PCM, the metadata as JSON in its comment.

    The comment (RIFF's ICMT) follows the samples, so that the header is the plain one of 44 bytes that simple readers
    skip. libsndfile can read comments of up to 2 kB, ffmpeg comments of any length.

    Raises:
        ValueError: The waveform is not mono, or has samples beyond full scale.
        OSError: The file can't be written.
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
        file.comment = json.dumps(dict(metadata))  # ASCII, because RIFF doesn't declare an encoding
    with whole(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def write_png(path: Path, image: Image, metadata: Mapping[str, str]) -> None:
    """Write a spectrogram image, (512, T) or (512, T, 3), as a PNG file with the parameters and metadata as its text.

    The file is RGB with three equal channels, because clients of the original model read the first channel.

    Raises:
        ValueError: The image has another shape or type.
        OSError: The file can't be written.
    """
    levels = np.rint(grey_levels(image)).astype(np.uint8)
    text = PngInfo()
    for key, value in {**metadata, **PARAMETERS}.items():
        text.add_text(key, value)
    content = io.BytesIO()
    Pillow.fromarray(levels).convert("RGB").save(content, format="PNG", pnginfo=text)
    with whole(path) as unfinished:
        unfinished.write_bytes(content.getvalue())
