"""Write a waveform or a spectrogram image to a file."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from lib.audio import spectrogram
from lib.audio.spectrogram import Image, grey_levels
from lib.outputs import whole

MAX_WIDTH_PX = 16_384  # of a PNG file; browsers don't draw wider ones
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


def write_sound(path: Path, pieces: Iterable[Tensor], metadata: Mapping[str, str]) -> None:
    """Write the pieces (1, samples) of a waveform as a 44.1 kHz mono file: .wav or .flac of 16 bits, or .mp3.

    The metadata is JSON in the file's comment. In WAV (RIFF's ICMT) it follows the samples, so that the header is the
    plain one of 44 bytes that simple readers skip. libsndfile can read comments of up to 2 kB there, ffmpeg comments of
    any length.

    Raises:
        ValueError: The waveform is not mono, or has samples beyond full scale.
        OSError: The file can't be written.
    """
    kind = path.suffix[1:].upper()
    comment = json.dumps(dict(metadata))  # ASCII, because RIFF doesn't declare an encoding
    subtype = "MPEG_LAYER_III" if kind == "MP3" else "PCM_16"
    with (
        whole(path) as unfinished,
        _File(unfinished) as opened,
        opened.errors(),
        soundfile.SoundFile(opened, "w", spectrogram.SAMPLE_RATE_HZ, 1, subtype, format=kind) as file,
    ):
        if kind != "WAV":
            file.comment = comment
        for piece in pieces:
            file.write(_samples(piece, subtype))
        if kind == "WAV":
            file.comment = comment


class _File(io.FileIO):
    """A file for libsndfile to write to. It keeps the system's errors, which libsndfile replaces by its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`; return how many bytes were written, fewer if there is an error."""
        written = 0
        try:
            while written < len(data):  # a full disk takes some bytes, and has an error only for the rest
                written += super().write(data[written:])
        except OSError as error:
            self._error = error
        return written

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the system's error, if there is one, at the end of the block."""
        try:
            yield
        finally:
            if self._error:
                raise self._error


def _samples(piece: Tensor, subtype: str) -> NDArray[np.float32] | NDArray[np.int16]:
    if piece.ndim != 2 or len(piece) != 1:
        raise ValueError(f"a mono waveform is (1, samples), not {tuple(piece.shape)}")
    samples: NDArray[np.float32] = piece[0].cpu().numpy()
    if not np.all(np.abs(samples) <= 1):
        raise ValueError("the waveform has samples beyond full scale")
    if subtype != "PCM_16":
        return samples
    return np.rint(samples * np.iinfo(np.int16).max).astype(np.int16)  # libsndfile's own conversion rounds down


def write_png(path: Path, image: Image, metadata: Mapping[str, str]) -> None:
    """Write a spectrogram image, (512, T) or (512, T, 3), as a PNG file with the parameters and metadata as its text.

    The file is RGB with three equal channels, because clients of the original model read the first channel. An image
    wider than browsers draw is averaged along time.

    Raises:
        ValueError: The image has another shape or type.
        OSError: The file can't be written.
    """
    levels = np.rint(grey_levels(image)).astype(np.uint8)
    picture = Pillow.fromarray(levels)
    if picture.width > MAX_WIDTH_PX:
        metadata = {**metadata, "columns_per_pixel": f"{picture.width / MAX_WIDTH_PX:.6g}"}
        picture = picture.resize((MAX_WIDTH_PX, picture.height), Pillow.Resampling.BOX)
    text = PngInfo()
    for key, value in {**metadata, **PARAMETERS}.items():
        text.add_text(key, value)
    content = io.BytesIO()
    picture.convert("RGB").save(content, format="PNG", pnginfo=text)
    with whole(path) as unfinished:
        unfinished.write_bytes(content.getvalue())
