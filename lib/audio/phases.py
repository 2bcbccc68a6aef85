"""The phases with which an inversion begins.

Source:
    Beauregard, Harish, Wyse: Single pass spectrogram inversion, 2015, https://doi.org/10.1109/ICDSP.2015.7251907

It is applied to the mels, not to bins: a mel's neighbours say where a tone lies to a fifth of a hertz, the smooth
magnitudes of coarse bins only to two, and a tone that starts beside its place gets a second one at its side, which
beats with it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.audio.spectrogram import MAX_FREQUENCY_HZ, MEL_COUNT
from lib.audio.stft import FIRST_COLUMN, INNER_HOP, INNER_RATE_HZ, Grid

PEAK_DOUBLINGS = 5  # a mel follows a peak up to 2^5 mels away

# Mels of one peak share its phase at the frame's centre. Where a peak is but the highest of many mels of noise, this
# would be a pulse in each frame, and the frames' rate a buzz. So the phases are strewn, up to half a turn to either
# side, the further the higher: below 2 kHz, where peaks are tones, not at all.
STREWN_FROM_HZ = 2000
STREWN_FULLY_HZ = 4000


def start_phases(mel: Tensor, step: int, grid: Grid, generator: torch.Generator) -> Tensor:
    """Return phases (channel, frame, bin) in radians for mel amplitudes (channel, frame, 512) on every step columns.

    Each mel follows the nearest peak uphill, and a peak's phase advances by its frequency, which a parabola through
    the logarithms of three amplitudes gives. The generator, of the CPU, draws the phases of the first frame and how
    the higher ones are strewn, channel by channel.
    """
    channels, frames, _ = mel.shape
    frequency_hz = torch.arange(grid.bin_count, dtype=torch.float64) * grid.bin_hz
    strewn = ((frequency_hz - STREWN_FROM_HZ) / (STREWN_FULLY_HZ - STREWN_FROM_HZ)).clamp(0, 1).float()
    drawn = [
        (
            torch.rand(MEL_COUNT, generator=generator),
            torch.rand(frames, grid.bin_count, generator=generator).sub_(0.5).mul_(strewn),
        )
        for _ in range(channels)
    ]
    turns = torch.stack([first for first, _ in drawn]).to(mel.device)
    scatter = torch.stack([some for _, some in drawn]).to(mel.device)

    nearest = (mel_of_hz(frequency_hz).round().long() - 1).clamp(0, MEL_COUNT - 1)
    centre_turns = frequency_hz / INNER_RATE_HZ * (FIRST_COLUMN * INNER_HOP)  # a frame's phase 0 is at its first sample
    phases = advance_peaks(mel, step, turns)[..., nearest.to(mel.device)]
    return (phases + scatter - centre_turns.frac().float().to(mel.device)) * (2 * math.pi)


def advance_peaks(mel: Tensor, step: int, turns: Tensor) -> Tensor:
    """Return phases (channel, frame, 512), in turns at each frame's centre; turns (channel, 512) are the first ones."""
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
    """Return the centre of a mel filter on the HTK scale; they are numbered from 1, and 0 and 513 are the borders."""
    return 700 * (10 ** (number * (mels_to(MAX_FREQUENCY_HZ) / (MEL_COUNT + 1)) / 2595) - 1)


def mel_of_hz(frequency_hz: Tensor) -> Tensor:
    """Return the number, with its fraction, of the mel filter that is centred on a frequency."""
    return 2595 * torch.log10(1 + frequency_hz / 700) * ((MEL_COUNT + 1) / mels_to(MAX_FREQUENCY_HZ))


def mels_to(frequency_hz: float) -> float:
    """Return a frequency on the HTK scale."""
    return 2595 * math.log10(1 + frequency_hz / 700)


def uphill(amplitude: Tensor) -> Tensor:
    """Return the step, -1, 0 or 1, from each mel to its louder neighbour; 0 at a peak."""
    after = F.pad(amplitude, (0, 1))[..., 1:]
    before = F.pad(amplitude, (1, 0))[..., :-1]
    up = (after > amplitude) & (after >= before)
    down = (before > amplitude) & (before > after)
    return up.long() - down.long()


def peak_offset(amplitude: Tensor) -> Tensor:
    """Return how far, from -1/2 to 1/2 mel, the top of a parabola through each mel and its neighbours lies away."""
    log = amplitude.clamp(min=1e-6).log()
    before, here, after = log[..., :-2], log[..., 1:-1], log[..., 2:]
    curvature = (before - 2 * here + after).clamp(max=-1e-6)
    return F.pad((0.5 * (before - after) / curvature).clamp(-0.5, 0.5), (1, 1))
