"""Sounds to analyse and to invert."""

import torch

from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seconds(columns: int) -> torch.Tensor:
    return torch.arange((columns - 1) * HOP_LENGTH, dtype=torch.float64) / SAMPLE_RATE_HZ


def noise(columns: int = 101) -> torch.Tensor:
    return torch.randn(1, (columns - 1) * HOP_LENGTH, generator=seeded(1))


def music(columns: int = 101) -> torch.Tensor:
    """Return three decaying notes with six harmonics each, a drum, and a little noise."""
    time = seconds(columns)
    waveform = 0.002 * noise(columns)[0].double()
    for start_s, hz in ((0.0, 196.0), (0.25, 246.9), (0.5, 329.6)):
        since = (time - start_s).clamp(min=0)
        envelope = torch.where(time >= start_s, torch.exp(-4 * since), 0)
        for harmonic in range(1, 7):
            waveform += 0.2 / harmonic * envelope * torch.sin(2 * torch.pi * hz * harmonic * since)
    waveform += torch.exp(-15 * (time % 0.5)) * torch.sin(2 * torch.pi * 55 * (time % 0.5))
    return waveform.float()[None]
