"""The original's way between picture and sound, and how far a sound is from what its picture says."""

from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor

from lib.audio.spectrogram import FFT_LENGTH, HOP_LENGTH, MAX_FREQUENCY_HZ, MEL_COUNT, SAMPLE_RATE_HZ, WINDOW_LENGTH

RANGE_DB = 60  # the log-spectral distance listens this far below the loudest mel amplitude


class Original:
    """Convert as riffusion does: torchaudio's mel scale and its inverse, and 32 iterations of Griffin-Lim."""

    def __init__(self) -> None:
        transforms = torchaudio.transforms
        stft = {"n_fft": FFT_LENGTH, "hop_length": HOP_LENGTH, "win_length": WINDOW_LENGTH}
        mels = {
            "n_mels": MEL_COUNT,
            "sample_rate": SAMPLE_RATE_HZ,
            "f_min": 0,
            "f_max": MAX_FREQUENCY_HZ,
            "n_stft": FFT_LENGTH // 2 + 1,
            "norm": None,
            "mel_scale": "htk",
        }
        self.to_spectrum = transforms.Spectrogram(**stft, power=None)
        self.to_mel = transforms.MelScale(**mels)
        self.from_mel = transforms.InverseMelScale(**mels)
        self.griffin_lim = transforms.GriffinLim(**stft, n_iter=32, power=1.0, momentum=0.99, rand_init=True)

    @torch.no_grad()
    def analyse(self, waveform: Tensor) -> Tensor:
        """Return mel amplitudes (channel, 512, T) of a waveform (channel, samples)."""
        mel: Tensor = self.to_mel(self.to_spectrum(waveform).abs())
        return mel

    @torch.no_grad()
    def synthesise(self, mel: Tensor) -> Tensor:
        """Return a waveform (channel, samples) of mel amplitudes (channel, 512, T); it starts at random."""
        waveform: Tensor = self.griffin_lim(self.from_mel(mel))
        return waveform


@dataclass(frozen=True)
class Distance:
    """How far the mel amplitudes of a sound are from the target, each after the best gain; 0 is exact.

    a: spectral convergence, the relative error of the amplitudes.
    b: mean error of the image in grey levels.
    c: log-spectral distance in dB, down to 60 dB below the loudest.
    """

    a: float
    b: float
    c: float


def distance(target: Tensor, heard: Tensor) -> Distance:
    """Compare mel amplitudes (1, 512, T), those of a picture and those of a sound; the columns they share."""
    columns = min(target.shape[2], heard.shape[2])
    target, heard = target[..., :columns].double(), heard[..., :columns].double()
    heard = heard * best_gain(target, heard)
    convergence = (target - heard).norm() / target.norm()

    shade, shade_heard = (255 * (mel / target.max()) ** 0.25 for mel in (target, heard))
    level_error = (shade - best_gain(shade, shade_heard) * shade_heard).abs().mean()

    floor = target.max() * 10 ** (-RANGE_DB / 20)
    target_db, heard_db = (20 * torch.log10(mel.clamp(min=floor)) for mel in (target, heard))
    gain_db = (target_db - heard_db)[target > floor].mean()
    heard_db = (heard_db + gain_db).clamp(min=20 * torch.log10(floor))
    distance_db = (target_db - heard_db).square().mean(dim=1).sqrt().mean()
    return Distance(float(convergence), float(level_error), float(distance_db))


def best_gain(target: Tensor, heard: Tensor) -> Tensor:
    """Return the factor that brings heard nearest to target, in the sense of least squares."""
    return (heard * target).sum() / heard.square().sum()
