"""The phases from which an inversion starts.

Source:
    Beauregard, Harish, Wyse: Single pass spectrogram inversion, 2015, https://doi.org/10.1109/ICDSP.2015.7251907

The method is applied to mels instead of bins. From a mel and its neighbours the frequency of a tone is known to a fifth
of a hertz, from the smooth magnitudes of coarse bins only to two. A tone that starts at a wrong frequency gets a second
one next to it, and the two beat.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.audio.spectrogram import MAX_FREQUENCY_HZ, MEL_COUNT
from lib.audio.stft import FIRST_COLUMN, INNER_HOP, INNER_RATE_HZ, Grid

PEAK_DOUBLINGS = 5  # a mel follows a peak up to 2^5 mels away

# The mels of a peak share its phase at the centre of the frame. In noise, where a peak is only the highest of many
# mels, this would put a pulse in each frame, audible as a buzz at the frame rate. So the phases are scattered by up to
# half a turn: fully from 4 kHz on, and not at all below 2 kHz, where peaks are tones.
SCATTER_FROM_HZ = 2000
SCATTER_FULLY_HZ = 4000


def start_phases(mel: Tensor, step: int, grid: Grid, generator: torch.Generator) -> Tensor:
    """Return phases (1, frame, bin) in radians for mel amplitudes (1, frame, 512) on every `step` columns.

    Each mel follows the nearest peak uphill. The phase of a peak advances by its frequency, which comes from a parabola
    through the logarithms of three amplitudes. `generator`, a CPU one, draws the phases of the first frame and the
    scatter.
    """
    frequency_hz = torch.arange(grid.bin_count, dtype=torch.float64) * grid.bin_hz
    share = ((frequency_hz - SCATTER_FROM_HZ) / (SCATTER_FULLY_HZ - SCATTER_FROM_HZ)).clamp(0, 1).float()
    turns = torch.rand(1, MEL_COUNT, generator=generator).to(mel.device)
    scatter = torch.rand(1, mel.shape[1], grid.bin_count, generator=generator).sub_(0.5).mul_(share).to(mel.device)

    nearest = (mel_of_hz(frequency_hz).round().long() - 1).clamp(0, MEL_COUNT - 1)
    centre_turns = frequency_hz / INNER_RATE_HZ * (FIRST_COLUMN * INNER_HOP)  # a frame's phase 0 is at its first sample
    phases = advance_peaks(mel, step, turns)[..., nearest.to(mel.device)]
    return (phases + scatter - centre_turns.frac().float().to(mel.device)) * (2 * math.pi)


def advance_peaks(mel: Tensor, step: int, turns: Tensor) -> Tensor:
    """Return phases (1, frame, 512) in turns at the centre of each frame, given those of the first frame (1, 512)."""
    mels = torch.arange(MEL_COUNT, device=mel.device)
    peak = mels + uphill(mel)
    for _ in range(PEAK_DOUBLINGS):
        peak = peak.gather(-1, peak)
    peak_hz = hz_of_mel(mels + 1 + peak_offset(mel).double())
    advance = (peak_hz * (step * INNER_HOP / INNER_RATE_HZ)).frac().float().gather(-1, peak)

    phases = torch.empty_like(mel)
    for frame in range(mel.shape[1]):
        turns = turns.gather(-1, peak[:, frame]).add_(advance[:, frame]).frac_()
        phases[:, frame] = turns
    return phases


def hz_of_mel(number: Tensor) -> Tensor:
    """Return the centre of a mel filter on the HTK scale. Filters are numbered from 1; 0 and 513 are the borders."""
    return 700 * (10 ** (number * (mels_to(MAX_FREQUENCY_HZ) / (MEL_COUNT + 1)) / 2595) - 1)


def mel_of_hz(frequency_hz: Tensor) -> Tensor:
    """Return the number, with a fraction, of the mel filter whose centre is at a frequency."""
    return 2595 * torch.log10(1 + frequency_hz / 700) * ((MEL_COUNT + 1) / mels_to(MAX_FREQUENCY_HZ))


def mels_to(frequency_hz: float) -> float:
    """Return a frequency on the HTK scale."""
    return 2595 * math.log10(1 + frequency_hz / 700)


def uphill(amplitude: Tensor) -> Tensor:
    """Return the step (-1, 0 or 1) from each mel to its louder neighbour, 0 at a peak."""
    after = F.pad(amplitude, (0, 1))[..., 1:]
    before = F.pad(amplitude, (1, 0))[..., :-1]
    up = (after > amplitude) & (after >= before)
    down = (before > amplitude) & (before > after)
    return up.long() - down.long()


def peak_offset(amplitude: Tensor) -> Tensor:
    """Return the offset, from -1/2 to 1/2 mel, of the vertex of the parabola through each mel and its neighbours."""
    log = amplitude.clamp(min=1e-6).log()
    before, here, after = log[..., :-2], log[..., 1:-1], log[..., 2:]
    curvature = (before - 2 * here + after).clamp(max=-1e-6)
    return F.pad((0.5 * (before - after) / curvature).clamp(-0.5, 0.5), (1, 1))
