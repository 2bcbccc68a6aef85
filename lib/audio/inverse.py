"""From mel amplitudes back to a waveform: Griffin and Lim's iteration, with the mel bands themselves as its target.

The iteration runs at half the sample rate, since no mel hears anything above 10 kHz, and on every second column,
which leaves the windows a five-fold overlap. Only the last step writes 44.1 kHz. A spectrum is
(channel, frame, bin) and complex; only the bins that a mel hears are kept.

Sources:
    Griffin, Lim: Signal estimation from modified short-time Fourier transform, 1984,
        https://doi.org/10.1109/TASSP.1984.1164317
    Perraudin, Balazs, Søndergaard: A fast Griffin-Lim algorithm, 2013,
        https://doi.org/10.1109/WASPAA.2013.6701851 (the momentum)
    Masuyama, Ueno, Ono: Signal reconstruction from mel-spectrogram based on bi-level consistency of full-band
        magnitude and phase, 2023, https://arxiv.org/abs/2307.12232 (magnitudes estimated jointly with the phases)
    Beauregard, Harish, Wyse: Single pass spectrogram inversion, 2015,
        https://doi.org/10.1109/ICDSP.2015.7251907 (the phases of the start)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.audio.spectrogram import (
    BIN_COUNT,
    FFT_LENGTH,
    HOP_LENGTH,
    MEL_COUNT,
    WINDOW_LENGTH,
    BandedProduct,
    mel_filters,
)

ITERATIONS = 32
MOMENTUM = 0.93  # near 1 it converges faster, until it overshoots
PULL = 0.05  # how far an iteration draws the magnitudes back to the smooth ones of the start

# Lengths are in samples of 22.05 kHz.
FRAME_COLUMNS = 2  # a frame stands on every second column, 20 ms
FRAME_HOP = HOP_LENGTH * FRAME_COLUMNS // 2  # 441
FRAME_LENGTH = WINDOW_LENGTH // 2  # 2205: the 100 ms of the analysis
FRAME_CENTRE = FRAME_LENGTH // 2  # 1102
FRAME_FFT = 3072  # the window zero-padded to 2^10 * 3, a length that FFTs like: bins of 7.2 Hz
OVERLAP = FRAME_LENGTH // FRAME_HOP  # exactly 5, so that frames add up hop by hop
MIN_COLUMNS = 8  # a shorter picture is continued up to here: the ends of the sound need room to be reflected

SCALE = 1000.0  # the largest amplitude of the target while it is worked on
FLOOR = 1e-5  # added to it, so that silence is a small amplitude and never 0 / 0
MIN_MAGNITUDE = 1e-4  # likewise for the bins of a frame
PEAK_DOUBLINGS = 5  # a bin follows a peak up to 2^5 bins away


class Synthesis:
    """Turn mel amplitudes into sound."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Prepare the windows and the mel products, once for any number of calls from any thread."""
        self.device = torch.device(device)
        self.half_window = centred_hann(FRAME_LENGTH).to(self.device)
        self.full_window = centred_hann(WINDOW_LENGTH).to(self.device)
        filters = frame_filters()
        self.bin_count = len(filters)
        self.filter_sums = filters.sum(dim=0).to(self.device, torch.float32)
        self.to_mel = BandedProduct(filters, 32, self.device)
        shares = filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-9)
        self.to_bins = BandedProduct(shares.T, 64, self.device)  # each bin: the mean of its mels

    @torch.no_grad()
    def __call__(self, mel: Tensor, generator: torch.Generator, iterations: int = ITERATIONS) -> Tensor:
        """Return the waveform (channel, (T - 1) * 441) that sounds as mel says, as nearly as one can.

        Args:
            mel: amplitudes (channel, 512, T), the lowest mel first.
            generator: a CPU generator; it draws the phases with which each channel starts.
            iterations: how often the sound is refined.

        Raises:
            ValueError: mel has another shape.
        """
        if mel.ndim != 3 or mel.shape[1] != MEL_COUNT or mel.shape[2] == 0:
            raise ValueError(f"mel amplitudes are (channel, 512, T), not {tuple(mel.shape)}")
        turns = torch.rand(len(mel), self.bin_count, generator=generator).to(self.device)
        mel = mel.to(self.device, torch.float32)
        # One channel at a time stays in the CPU's cache; a GPU is only filled by all of them.
        together = 1 if self.device.type == "cpu" else max(len(mel), 1)
        parts = zip(torch.split(mel, together), torch.split(turns, together), strict=True)
        with one_thread():
            return torch.cat([self._invert(*part, iterations) for part in parts])

    def _invert(self, mel: Tensor, turns: Tensor, iterations: int) -> Tensor:
        # 1. The target: scaled, on frames, and never quite silent.
        columns = mel.shape[2]
        peak = mel.amax(dim=(1, 2), keepdim=True)
        target = stand_frames(mel / peak.clamp(min=1e-20) * SCALE + FLOOR)

        # 2. The start: smooth magnitudes, with phases that carry the peaks on.
        smooth = self.to_bins(target / self.filter_sums)
        spectrum = torch.polar(smooth, start_phases(smooth, turns))

        # 3. The iteration. The momentum is applied to the sound: the transform is linear, and sound is smaller.
        weights = overlap_weights(self.half_window, target.shape[1])
        previous = None
        for _ in range(iterations):
            sound = reflect_ends(inverse_stft(spectrum, self.half_window, weights), columns)
            moved = sound if previous is None else torch.lerp(previous, sound, 1 + MOMENTUM)
            previous = sound
            frames = moved.unfold(1, FRAME_LENGTH, FRAME_HOP) * self.half_window
            spectrum = torch.fft.rfft(frames, FRAME_FFT)[..., : self.bin_count]
            spectrum = self._hold_to_target(spectrum, target, smooth)

        # 4. The sound at the full rate, from the centre of the first frame.
        weights = overlap_weights(self.full_window, target.shape[1])
        start = 2 * FRAME_CENTRE
        sound = inverse_stft(spectrum, self.full_window, weights)[:, start : start + (columns - 1) * HOP_LENGTH]
        return sound * (peak[:, :, 0] / SCALE)

    def _hold_to_target(self, spectrum: Tensor, target: Tensor, smooth: Tensor) -> Tensor:
        """Scale the bins of a spectrum so that its mel amplitudes become the target's; the phases stay.

        Within a mel the magnitudes keep their shape, but for the pull towards the smooth ones.
        """
        magnitude = spectrum.real.square().add_(spectrum.imag.square()).sqrt_()  # 3x as fast as abs()
        pulled = torch.lerp(magnitude, smooth, PULL)
        gain = self.to_bins(target / self.to_mel(pulled).add_(FLOOR))
        return spectrum * gain.mul_(pulled).div_(magnitude.add_(MIN_MAGNITUDE))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one CPU thread, and give the others back afterwards.

    The work is thousands of small products. Several threads gain a third on an idle machine, but on a busy one they
    wait for each other at every product, and a clip takes ten seconds and more instead of a sixth of one.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def centred_hann(length: int) -> Tensor:
    """Return the Hann window (length,) that is 1 at sample (length - 1) // 2, the centre of a frame."""
    offset = torch.arange(length, dtype=torch.float64) - (length - 1) // 2
    return (0.5 + 0.5 * torch.cos(2 * math.pi * offset / length)).float()


def frame_filters() -> Tensor:
    """Return the mel filters (bins, 512 mels) for the bins of a frame, in float64.

    The lowest 250 filters are narrower than these bins, so a filter is applied to the magnitudes that linear
    interpolation gives on the grid of 2.5 Hz.
    """
    filters = mel_filters().double()
    position = torch.arange(BIN_COUNT, dtype=torch.float64) * (2 * FRAME_FFT / FFT_LENGTH)
    below = position.long()
    above_share = (position - below)[:, None]
    result = filters.new_zeros(int(below[-1]) + 2, MEL_COUNT)
    return result.index_add_(0, below, filters * (1 - above_share)).index_add_(0, below + 1, filters * above_share)


def stand_frames(mel: Tensor) -> Tensor:
    """Return every second column of mel (channel, 512, T) as frames (channel, frame, 512).

    Of an even number of columns the last frame stands beyond the end, and is the mirror image of the last but one.
    """
    mel = F.pad(mel, (0, max(MIN_COLUMNS - mel.shape[2], 0)), mode="replicate")
    if mel.shape[2] % 2 == 0:
        mel = F.pad(mel, (0, 1), mode="reflect")
    return mel[..., ::FRAME_COLUMNS].transpose(1, 2).contiguous()


def inverse_stft(spectrum: Tensor, window: Tensor, weights: Tensor) -> Tensor:
    """Return the sound (channel, samples) whose windowed frames are nearest to a spectrum, at the window's rate.

    The first frame begins with the first sample. This is the least-squares estimate of Griffin and Lim, equation 6.
    """
    frames = torch.fft.irfft(spectrum, FRAME_FFT * len(window) // FRAME_LENGTH)[..., : len(window)] * window
    return overlap_add(frames).mul_(weights)


def overlap_weights(window: Tensor, frame_count: int) -> Tensor:
    """Return the inverse (1, samples) of what overlapping squares of the window add up to."""
    return 1 / overlap_add((window**2).expand(1, frame_count, -1)).clamp(min=1e-3)


def overlap_add(frames: Tensor) -> Tensor:
    """Add up frames (channel, frame, 5 hops), each a hop later than the one before, to (channel, samples)."""
    channels, count, length = frames.shape
    hops = frames.reshape(channels, count, OVERLAP, length // OVERLAP)
    total = frames.new_zeros(channels, count + OVERLAP - 1, length // OVERLAP)
    for index in range(OVERLAP):
        total[:, index : index + count] += hops[:, :, index]
    return total.flatten(1)


def reflect_ends(sound: Tensor, columns: int) -> Tensor:
    """Overwrite what lies outside a waveform of so many columns with its mirror image, in place.

    The analysis reflects a waveform at its first and last samples. At 44.1 kHz the last has the number
    (T - 1) * 441 - 1; here it may fall half-way between two samples.
    """
    first = FRAME_CENTRE
    sound[:, :first] = sound[:, first + 1 : 2 * first + 1].flip(1)
    last, half = divmod((max(columns, MIN_COLUMNS) - 1) * HOP_LENGTH - 1, 2)
    outside = first + last + 1
    length = sound.shape[1] - outside
    mirror_end = outside - 1 + half
    sound[:, outside:] = sound[:, mirror_end - length : mirror_end].flip(1)
    return sound


def start_phases(magnitude: Tensor, turns: Tensor) -> Tensor:
    """Return phases in radians for magnitude (channel, frame, bin), by single pass spectrogram inversion.

    Each bin follows the nearest peak uphill, and a peak's phase advances by its frequency, which a parabola through
    the logarithms of three magnitudes gives. turns (channel, bin) are the phases of the first frame, in turns.
    """
    bins = torch.arange(magnitude.shape[2], device=magnitude.device)
    peak = bins + uphill(magnitude)
    for _ in range(PEAK_DOUBLINGS):
        peak = peak.gather(-1, peak)
    turns_per_hop = (bins + peak_offset(magnitude)) * (FRAME_HOP / FRAME_FFT)
    advance = turns_per_hop.gather(-1, peak)

    phases = torch.empty_like(magnitude)
    for frame in range(magnitude.shape[1]):
        turns = turns.gather(-1, peak[:, frame]).add_(advance[:, frame]).frac_()
        phases[:, frame] = turns
    centre = (bins.double() * (FRAME_CENTRE / FRAME_FFT)).frac().float()  # phases so far are those at the centre
    return (phases - centre) * (2 * math.pi)


def uphill(magnitude: Tensor) -> Tensor:
    """Return the step, -1, 0 or 1 bins, from each bin to its higher neighbour; 0 at a peak."""
    after = F.pad(magnitude, (0, 1))[..., 1:]
    before = F.pad(magnitude, (1, 0))[..., :-1]
    up = (after > magnitude) & (after >= before)
    down = (before > magnitude) & (before > after)
    return up.long() - down.long()


def peak_offset(magnitude: Tensor) -> Tensor:
    """Return how far, from -1/2 to 1/2 bin, the top of a parabola through each bin and its neighbours lies away."""
    log = magnitude.clamp(min=1e-6).log()
    before, here, after = log[..., :-2], log[..., 1:-1], log[..., 2:]
    curvature = (before - 2 * here + after).clamp(max=-1e-6)
    return F.pad((0.5 * (before - after) / curvature).clamp(-0.5, 0.5), (1, 1))
