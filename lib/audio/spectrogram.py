"""Spectrograms: their parameters, conversion between images and mel amplitudes, and the analysis of a waveform.

An image is uint8 (512, T) or (512, T, 3), with the highest mel in row 0 and silence in white. Mel amplitudes are
float32 (channel, 512, T), with the lowest mel first. A waveform is float32 (channel, samples). T columns are
(T - 1) * 441 samples.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SAMPLE_RATE_HZ = 44100
HOP_LENGTH = SAMPLE_RATE_HZ // 100  # 441 samples: a column is 10 ms
WINDOW_LENGTH = SAMPLE_RATE_HZ // 10  # 4410 samples: a Hann window of 100 ms
FFT_LENGTH = 4 * WINDOW_LENGTH  # 17640 samples: the window is zero-padded to bins of 2.5 Hz
MEL_COUNT = 512
MAX_FREQUENCY_HZ = 10_000  # of the highest mel; the lowest starts at 0
BIN_COUNT = MAX_FREQUENCY_HZ * FFT_LENGTH // SAMPLE_RATE_HZ + 1  # 4001, the bins that the mels use
POWER = 0.25  # a grey level is an amplitude to this power
MAX_AMPLITUDE = 30e6  # the mel amplitude of a black pixel, by convention
WHITE = 255  # the grey level of silence

FRAMES_PER_STEP = 64  # 64 frames of 17640 samples are 4.5 MB, which fit in the cache

Image = NDArray[np.uint8]


def grey_levels(image: Image) -> NDArray[np.float32]:
    """Return the grey levels (512, T), 0 to 255, of an image; of three channels, the mean.

    Raises:
        ValueError: The image is not uint8 of shape (512, T) or (512, T, 3) with T at least 1.
    """
    has_channels = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not has_channels or image.shape[0] != MEL_COUNT or image.shape[1] == 0:
        raise ValueError(f"a spectrogram image is uint8 (512, T) or (512, T, 3), not {image.dtype} {image.shape}")
    levels = image.astype(np.float32)
    return levels if levels.ndim == 2 else levels.mean(axis=2)


def image_to_mel(image: Image) -> Tensor:
    """Return the mel amplitudes (1, 512, T) of an image.

    Raises:
        ValueError: The image has another shape or type.
    """
    shade = 1 - grey_levels(image)[::-1] / np.float32(WHITE)
    return torch.from_numpy(shade ** np.float32(1 / POWER) * np.float32(MAX_AMPLITUDE))[None]


def mel_to_image(mel: Tensor) -> Image:
    """Draw mel amplitudes (1, 512, T) as an image (512, T), the largest one black and silence white.

    Levels are rounded to the nearest. The original rounded down, which doubles the error.

    Raises:
        ValueError: mel has another shape.
    """
    if mel.ndim != 3 or mel.shape[:2] != (1, MEL_COUNT):
        raise ValueError(f"mel amplitudes of an image are (1, 512, T), not {tuple(mel.shape)}")
    amplitude = mel[0].flip(0).double().cpu().numpy()
    peak = max(amplitude.max(initial=0), np.finfo(np.float32).tiny)
    level: NDArray[np.float64] = np.rint(WHITE * (1 - (amplitude / peak) ** POWER))
    return level.astype(np.uint8)


def mel_filters() -> Tensor:
    """Return triangular filters (4001 bins of 2.5 Hz, 512 mels) of height 1 on the HTK scale.

    They equal those of torchaudio.functional.melscale_fbanks to the last bit. torchaudio loads a compiled library
    that fits one build of PyTorch, and not every machine has that.
    """
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ // 2, FFT_LENGTH // 2 + 1)[:BIN_COUNT, None]
    mels = torch.linspace(0, 2595 * math.log10(1 + MAX_FREQUENCY_HZ / 700), MEL_COUNT + 2)
    corners_hz = 700 * (10 ** (mels / 2595) - 1)  # of a triangle: its start, its peak and its end
    slopes = corners_hz - bins_hz
    widths_hz = corners_hz.diff()
    rising, falling = -slopes[:, :-2] / widths_hz[:-1], slopes[:, 2:] / widths_hz[1:]
    return torch.minimum(rising, falling).clamp(min=0)


class BandedProduct:
    """Multiply by a banded matrix, in dense blocks on a CPU and as one dense matrix on a GPU."""

    def __init__(self, matrix: Tensor, block_width: int, device: torch.device) -> None:
        """Split matrix (n, m) into blocks of `block_width` columns, each with only the rows that it needs."""
        self.width = matrix.shape[1]
        step = block_width if device.type == "cpu" else self.width
        self.blocks: list[tuple[slice, slice, Tensor]] = []
        for start in range(0, self.width, step):
            columns = slice(start, min(start + step, self.width))
            needed = matrix[:, columns].any(dim=1).nonzero().flatten().tolist() or [0]
            rows = slice(needed[0], needed[-1] + 1)
            self.blocks.append((rows, columns, matrix[rows, columns].to(device, torch.float32).contiguous()))

    def __call__(self, left: Tensor) -> Tensor:
        """Return left (..., n) @ matrix (n, m), as (..., m)."""
        flat = left.flatten(0, -2)
        product = left.new_empty(len(flat), self.width)
        for rows, columns, block in self.blocks:
            torch.mm(flat[:, rows], block, out=product[:, columns])
        return product.view(*left.shape[:-1], self.width)


class Analysis:
    """Turn sound into mel amplitudes, like torchaudio's Spectrogram and MelScale at half the cost.

    The models don't need it: they only turn images into sound. The workshop draws the small model's training set and
    the seed images with it, and the tests and benches measure with it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Prepare window and filters on the device, once for any number of calls from any thread."""
        self.device = torch.device(device)
        self.window = torch.hann_window(WINDOW_LENGTH, device=self.device)
        self.to_mel = BandedProduct(mel_filters(), 32, self.device)

    @torch.no_grad()
    def __call__(self, waveform: Tensor, looped: bool = False) -> Tensor:
        """Return the mel amplitudes (channel, 512, samples // 441 + 1) of a waveform (channel, samples).

        Column t is centred on sample 441 t. At its ends the waveform is reflected, as in the original; a `looped` one
        continues at the other end, as in Synthesis.

        Raises:
            ValueError: The waveform is not two-dimensional, or is shorter than half a window.
        """
        if waveform.ndim != 2 or waveform.shape[1] <= WINDOW_LENGTH // 2:
            raise ValueError(f"a waveform is (channel, more than 2205 samples), not {tuple(waveform.shape)}")
        ends = "circular" if looped else "reflect"
        padded = F.pad(waveform.to(self.device, torch.float32), (WINDOW_LENGTH // 2,) * 2, mode=ends)
        frames = padded.unfold(1, WINDOW_LENGTH, HOP_LENGTH).flatten(0, 1)
        steps = [self._mel(step) for step in torch.split(frames, FRAMES_PER_STEP)]
        return torch.cat(steps).view(len(waveform), -1, MEL_COUNT).transpose(1, 2).contiguous()

    def _mel(self, frames: Tensor) -> Tensor:
        """Return the mel amplitudes (k, 512) of frames (k, 4410)."""
        spectrum = torch.fft.rfft(frames * self.window, n=FFT_LENGTH)
        return self.to_mel(spectrum[:, :BIN_COUNT].abs())
