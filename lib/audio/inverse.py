"""From mel amplitudes back to a waveform: Griffin and Lim's iteration, with the mel bands themselves as its target.

The sound is a loop of T - 1 columns: column T - 1 of the picture stands on the same moment as column 0. It is refined
in three stages, each from the sound of the one before: on every second column, which is cheap; on every column; and
on bins half as wide, which place the low mels. Only the last step writes 44.1 kHz.

Sources:
    Griffin, Lim: Signal estimation from modified short-time Fourier transform, 1984,
        https://doi.org/10.1109/TASSP.1984.1164317
    Perraudin, Balazs, Søndergaard: A fast Griffin-Lim algorithm, 2013,
        https://doi.org/10.1109/WASPAA.2013.6701851 (the momentum)
    Masuyama, Ueno, Ono: Signal reconstruction from mel-spectrogram based on bi-level consistency of full-band
        magnitude and phase, 2023, https://arxiv.org/abs/2307.12232 (magnitudes estimated jointly with the phases)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.audio.phases import start_phases
from lib.audio.spectrogram import HOP_LENGTH, MEL_COUNT, SAMPLE_RATE_HZ, BandedProduct
from lib.audio.stft import FIRST_COLUMN, INNER_HOP, INNER_RATE_HZ, WINDOW_COLUMNS, Circle, Grid


@dataclass(frozen=True)
class Quality:
    """How often each stage refines the sound; the numbers may be 0."""

    halved: int = 40  # on every second column, bins of 9.4 Hz
    coarse: int = 16  # on every column, bins of 9.4 Hz: each costs two of the first
    fine: int = 4  # on every column, bins of 4.7 Hz: each costs four


# About 0.3, 0.6 and 2 s of one thread for a clip of 5 s, and a second of a GPU's time, roughly.
FAST = Quality(20, 8, 3)
STANDARD = Quality()
BEST = Quality(140, 70, 20)
ON_A_GPU = Quality(300, 300, 100)

COARSE_FFT, FINE_FFT = 2240, 4480  # samples of 21 kHz; lengths that FFTs like, and 2.1 times as long ones too
MOMENTUM = 0.99  # near 1 it converges faster, beyond 1 it overshoots
FINE_MOMENTUM = 0.93  # few iterations follow in which an overshoot would settle

FADE_S = 0.0015  # at both ends; a gap of 2 ms or more in a loop would be heard
SCALE = 1000.0  # the largest amplitude of the target while it is worked on
FLOOR = 1e-5  # added to it, so that silence is a small amplitude and never 0 / 0
MIN_MAGNITUDE = 1e-4  # likewise for the bins of a frame

# How far an iteration draws the magnitudes back to smooth ones. Magnitudes that are smooth along the frequencies are
# energy that is compact in time, which is what an attack needs, and a tone does not.
PULL = 0.02
TRANSIENT_PULL = 0.3  # added to it where the picture is transient
TRANSIENT_MELS = 33  # that are looked at together
SHARPNESS = 8  # the power of the share that is absent at one end of the window


class Synthesis:
    """Turn mel amplitudes into sound that can be looped."""

    def __init__(self, device: torch.device | str = "cpu", quality: Quality | None = None) -> None:
        """Prepare the windows and the mel products, once for any number of calls from any thread.

        quality is by default what one CPU thread does in about 0.6 s a clip of 5 s, and on a GPU ten times as much.
        """
        self.device = torch.device(device)
        self.quality = quality or (STANDARD if self.device.type == "cpu" else ON_A_GPU)
        self.coarse = Grid(COARSE_FFT, self.device)
        self.fine = Grid(FINE_FFT, self.device)
        self.average = average_mels(self.device)

    @torch.no_grad()
    def __call__(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Return the waveform (channel, (T - 1) * 441) that sounds as mel says, as nearly as one can.

        Args:
            mel: amplitudes (channel, 512, T), the lowest mel first.
            generator: a CPU generator; it draws the phases with which each channel starts.

        Raises:
            ValueError: mel has another shape.
        """
        if mel.ndim != 3 or mel.shape[1] != MEL_COUNT or mel.shape[2] == 0:
            raise ValueError(f"mel amplitudes are (channel, 512, T), not {tuple(mel.shape)}")
        if mel.shape[2] == 1 or len(mel) == 0:
            return torch.zeros(len(mel), (mel.shape[2] - 1) * HOP_LENGTH, device=self.device)
        mel = mel.to(self.device, torch.float32)
        # One channel at a time stays in the CPU's cache; a GPU is only filled by all of them.
        together = 1 if self.device.type == "cpu" else len(mel)
        with one_thread():
            return torch.cat([self._invert(part, generator) for part in torch.split(mel, together)])

    def _invert(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        samples = (mel.shape[2] - 1) * HOP_LENGTH
        peak = mel.amax(dim=(1, 2), keepdim=True)
        target = close_loop(mel / peak.clamp(min=1e-20) * SCALE + FLOOR)
        channels, columns, _ = target.shape
        transient = transience(target, self.average)
        circle = Circle(self.coarse, channels, columns, step=2)
        held = Target(circle, target, transient)
        spectrum = torch.polar(held.smooth, start_phases(held.mel, circle.step, circle.grid, generator))
        spectrum = refine(spectrum, circle, circle, held, self.quality.halved, MOMENTUM)
        for grid, iterations, momentum in (
            (self.coarse, self.quality.coarse, MOMENTUM),
            (self.fine, self.quality.fine, FINE_MOMENTUM),
        ):
            if iterations:
                finer = Circle(grid, channels, columns, step=1)
                held = Target(finer, target, transient)
                spectrum = refine(spectrum, circle, finer, held, iterations, momentum)
                circle = finer
        waveform = circle.full_sound(spectrum)[:, :samples].contiguous()
        return fade_seam(waveform, 0, SAMPLE_RATE_HZ) * (peak[:, :, 0] / SCALE)


class Target:
    """What the spectra of a circle are held to."""

    def __init__(self, circle: Circle, mel: Tensor, transient: Tensor) -> None:
        """Take the circle's frames of mel amplitudes, and of how transient they are, both (channel, column, 512)."""
        grid = circle.grid
        self.grid = grid
        self.mel = mel[:, :: circle.step].contiguous()
        self.smooth = grid.to_bins(self.mel / grid.filter_sums)
        pull = (grid.to_bins(transient[:, :: circle.step].contiguous()) + PULL).clamp_(max=1)
        self.pulled, self.kept = pull * self.smooth, 1 - pull

    def hold(self, spectrum: Tensor) -> Tensor:
        """Scale the bins of a spectrum so that its mel amplitudes become the target's; the phases stay.

        Within a mel the magnitudes keep their shape, but for the pull towards the smooth ones. A mel's correction
        goes beyond the mark, to the power 5/4, as the momentum does for the sound: from 4/3 on it would not settle.
        """
        magnitude = spectrum.real.square().add_(spectrum.imag.square()).sqrt_()  # 3x as fast as abs()
        wanted = torch.addcmul(self.pulled, magnitude, self.kept)
        correction = self.mel / self.grid.to_mel(wanted).add_(FLOOR)
        correction.mul_(correction.sqrt().sqrt_())
        gain = self.grid.to_bins(correction)
        return spectrum * gain.mul_(wanted).div_(magnitude.add_(MIN_MAGNITUDE))


def refine(spectrum: Tensor, circle: Circle, finer: Circle, target: Target, iterations: int, momentum: float) -> Tensor:
    """Return the spectrum on the finer circle that some iterations make of a spectrum on a circle.

    The momentum is applied to the sound: the transform is linear, and sound is smaller than spectra. A stage begins
    without the momentum of the one before.
    """
    previous = None
    for _ in range(iterations):
        sound = fade_seam(circle.sound(spectrum), FIRST_COLUMN * INNER_HOP, INNER_RATE_HZ)
        moved = sound if previous is None else torch.lerp(previous, sound, 1 + momentum)
        spectrum = target.hold(finer.spectrum(moved))
        previous, circle = sound, finer
    return spectrum


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one CPU thread, and give the others back afterwards.

    The work is thousands of small products. Several threads gain a third on an idle machine, but on a busy one they
    wait for each other at every product, and a clip takes ten times as long and more.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def close_loop(mel: Tensor) -> Tensor:
    """Return the columns of a loop, (channel, column, 512), of a picture's mel amplitudes (channel, 512, T >= 2).

    The first and the last column stand on the same moment, so they become their mean. A loop shorter than the window
    goes round several times.
    """
    loop = mel[..., :-1].clone()
    loop[..., 0] = (mel[..., 0] + mel[..., -1]) / 2
    rounds = math.ceil(WINDOW_COLUMNS / loop.shape[2])
    return loop.transpose(1, 2).repeat(1, rounds, 1)


def average_mels(device: torch.device) -> BandedProduct:
    """Return the product that replaces each mel by the mean of 33 around it, or of those that there are."""
    number = torch.arange(MEL_COUNT)
    near = ((number[:, None] - number).abs() <= TRANSIENT_MELS // 2).double()
    return BandedProduct(near / near.sum(dim=0), 64, device)


def transience(mel: Tensor, average: BandedProduct) -> Tensor:
    """Return how much more of the pull each of mel (channel, column, 512) is due; average is that of `average_mels`.

    Energy that is absent at one end of the window and present at the other begins or ends inside it.
    """
    around = average(mel).transpose(1, 2)
    reach = WINDOW_COLUMNS // 2
    around = F.pad(around, (reach, reach), mode="circular")
    high, low = F.max_pool1d(around, 2 * reach + 1, 1), -F.max_pool1d(-around, 2 * reach + 1, 1)
    return TRANSIENT_PULL * (1 - low / high).clamp(0, 1).transpose(1, 2) ** SHARPNESS


def fade_seam(sound: Tensor, seam: int, rate_hz: int) -> Tensor:
    """Fade a circle (channel, samples) out before its seam and in after it, in place.

    Within the iteration the sound is refined around the fades; only at the end they would cost four times as much.
    """
    length = int(FADE_S * rate_hz)
    ramp = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(length, device=sound.device) + 0.5) / length)
    sound[:, seam : seam + length] *= ramp
    before = (seam - length) % sound.shape[1]
    sound[:, before : before + length] *= ramp.flip(0)
    return sound
