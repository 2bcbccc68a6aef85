"""Transform between a loop of sound, its spectra and mels, at the sample rate of the inversion.

The sound has 21 kHz, because no mel reaches above 10 kHz. A column is 210 samples, the window ten columns. Sound is a
circle: frames that reach beyond its end continue at its beginning. Sample 0 of a circle is five columns before column
0, where the first frame starts. A spectrum is (1, frame, bin) and complex, with only the bins that a mel uses.
"""

import math

import torch
from torch import Tensor

from lib.audio.spectrogram import (
    BIN_COUNT,
    FFT_LENGTH,
    HOP_LENGTH,
    MEL_COUNT,
    SAMPLE_RATE_HZ,
    WINDOW_LENGTH,
    BandedProduct,
    mel_filters,
)

INNER_RATE_HZ = 21_000
INNER_HOP = INNER_RATE_HZ * HOP_LENGTH // SAMPLE_RATE_HZ  # 210 samples, a whole number
WINDOW_COLUMNS = WINDOW_LENGTH // HOP_LENGTH  # 10
INNER_WINDOW = INNER_HOP * WINDOW_COLUMNS  # 2100 samples, the 100 ms of the analysis
FIRST_COLUMN = WINDOW_COLUMNS // 2  # the position of column 0 on a circle, in columns


class Grid:
    """The bins of one FFT length: the windows, and the products that convert to mels and back."""

    def __init__(self, fft_length: int, device: torch.device) -> None:
        """Prepare a grid. `fft_length` is in samples at 21 kHz; 2.1 times as many must be a whole number too."""
        self.fft_length = fft_length
        self.bin_hz = INNER_RATE_HZ / fft_length
        self.window = centred_hann(INNER_WINDOW).to(device)
        self.full_window = centred_hann(WINDOW_LENGTH).to(device)
        filters = grid_filters(fft_length)
        self.bin_count = len(filters)
        self.filter_sums = filters.sum(dim=0).to(device, torch.float32)
        self.to_mel = BandedProduct(filters, 32, device)
        shares = filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-9)
        self.to_bins = BandedProduct(shares.T, 64, device)  # each bin becomes the mean of its mels


class Circle:
    """The frames on a circle of some columns, one on every `step` columns from column 0 on.

    If `step` doesn't divide the number of columns, the last and the first frame are closer together.
    """

    def __init__(self, grid: Grid, columns: int, step: int) -> None:
        """Lay out the frames. There must be at least 10 columns, the length of a window; `step` is 1, 2 or 5."""
        self.grid, self.columns, self.step = grid, columns, step
        self.frame_count = len(range(0, columns, step))
        self._weights = self._inverse_squares(grid.window)
        self._padded = grid.window.new_zeros(1, self.frame_count, grid.fft_length)  # zeros after each frame

    def spectrum(self, sound: Tensor) -> Tensor:
        """Return the spectrum of a sound (1, columns * 210)."""
        wrapped = torch.cat([sound, sound[:, :INNER_WINDOW]], dim=1)
        frames = wrapped.unfold(1, INNER_WINDOW, INNER_HOP * self.step)[:, : self.frame_count]
        torch.mul(frames, self.grid.window, out=self._padded[..., :INNER_WINDOW])
        spectrum: Tensor = torch.fft.rfft(self._padded)
        return spectrum[..., : self.grid.bin_count]

    def sound(self, spectrum: Tensor) -> Tensor:
        """Return the sound (1, columns * 210) whose windowed frames are closest to a spectrum.

        This is the least-squares estimate of Griffin and Lim, equation 6.
        """
        return self._overlap_add(inverse(spectrum, self.grid.window, self.grid.fft_length)).mul_(self._weights)

    def full_sound(self, spectrum: Tensor) -> Tensor:
        """Return the sound at 44.1 kHz, starting at column 0: (1, columns * 441). No resampling is needed."""
        window = self.grid.full_window
        fft_length = self.grid.fft_length * HOP_LENGTH // INNER_HOP
        sound = self._overlap_add(inverse(spectrum, window, fft_length)) * self._inverse_squares(window)
        return sound.roll(-FIRST_COLUMN * HOP_LENGTH, dims=1)

    def _inverse_squares(self, window: Tensor) -> Tensor:
        """Return the inverse (1, samples) of the sum of the overlapping squared windows."""
        return 1 / self._overlap_add((window**2).expand(1, self.frame_count, -1))

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Add up frames (1, frame, ten columns) to a circle (1, samples)."""
        _, count, length = frames.shape
        parts = WINDOW_COLUMNS // self.step
        shifted = frames.reshape(1, count, parts, length // parts)
        line = frames.new_zeros(1, count + parts - 1, length // parts)
        for index in range(parts):
            line[:, index : index + count] += shifted[:, :, index]
        line = line.flatten(1)
        period = self.columns * length // WINDOW_COLUMNS
        circle = line[:, :period].clone()
        circle[:, : line.shape[1] - period] += line[:, period:]  # the tail continues at the beginning
        return circle


def inverse(spectrum: Tensor, window: Tensor, fft_length: int) -> Tensor:
    """Return the windowed frames (1, frame, samples) of a spectrum, at the window's sample rate."""
    frames: Tensor = torch.fft.irfft(spectrum, fft_length)[..., : len(window)]
    return frames * window


def centred_hann(length: int) -> Tensor:
    """Return the Hann window (length,) with its maximum, 1, at sample length // 2, the centre of a frame."""
    offset = torch.arange(length, dtype=torch.float64) - length // 2
    return (0.5 + 0.5 * torch.cos(2 * math.pi * offset / length)).float()


def grid_filters(fft_length: int) -> Tensor:
    """Return the mel filters (bins, 512 mels) for the bins of a grid, in float64.

    The lowest filters are narrower than the bins, so the filters are applied to magnitudes that are interpolated
    linearly onto the 2.5 Hz grid of the analysis. This misplaces some energy, less so on a finer grid.
    """
    filters = mel_filters().double()
    bins_each = SAMPLE_RATE_HZ * fft_length / (FFT_LENGTH * INNER_RATE_HZ)
    position = torch.arange(BIN_COUNT, dtype=torch.float64) * bins_each
    below = position.long()
    above_share = (position - below)[:, None]
    result: Tensor = filters.new_zeros(int(below[-1]) + 2, MEL_COUNT)
    return result.index_add_(0, below, filters * (1 - above_share)).index_add_(0, below + 1, filters * above_share)
