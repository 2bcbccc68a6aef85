"""Turn mel amplitudes back into a waveform: Griffin and Lim's iteration, with the mel bands as its target.

The sound is a loop of T - 1 columns: the last column of the picture is the same moment as column 0. It is refined in
three stages, each starting from the sound of the previous one: on every second column, which is cheap; on every column;
and with bins of half the width, which separate the low mels. Only the end result is computed at 44.1 kHz.

Sources:
    Griffin, Lim: Signal estimation from modified short-time Fourier transform, 1984,
        https://doi.org/10.1109/TASSP.1984.1164317
    Perraudin, Balazs, Søndergaard: A fast Griffin-Lim algorithm, 2013,
        https://doi.org/10.1109/WASPAA.2013.6701851 (the momentum)
    Masuyama, Ueno, Ono: Signal reconstruction from mel-spectrogram based on bi-level consistency of full-band
        magnitude and phase, 2023, https://arxiv.org/abs/2307.12232 (magnitudes estimated together with the phases)
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.audio.phases import start_phases
from lib.audio.spectrogram import HOP_LENGTH, MEL_COUNT, SAMPLE_RATE_HZ, BandedProduct
from lib.audio.stft import FIRST_COLUMN, INNER_HOP, INNER_RATE_HZ, WINDOW_COLUMNS, Circle, Grid


@dataclass(frozen=True)
class Quality:
    """The number of iterations of each stage; any may be 0."""

    halved: int = 40  # on every second column, with bins of 9.4 Hz
    coarse: int = 16  # on every column, with bins of 9.4 Hz; each costs as much as two of the first
    fine: int = 4  # on every column, with bins of 4.7 Hz; each costs as much as four of the first


STANDARD = Quality()  # about 0.5 s of CPU time for a clip of 5 s, bench/RESULTS.md
ON_A_GPU = Quality(300, 300, 100)  # never timed: no GPU was available

COARSE_FFT, FINE_FFT = 2240, 4480  # samples at 21 kHz; these lengths and 2.1 times as many are fast for FFTs
MOMENTUM = 0.99  # near 1 it converges faster, above 1 it overshoots
FINE_MOMENTUM = 0.93  # lower, because few iterations are left for an overshoot to settle

FADE_S = 0.0015  # at both ends; a gap of 2 ms or more in a loop is audible
SCALE = 1000.0  # the largest amplitude of the target during the iteration
FLOOR = 1e-5  # added to the target, so that silence is a small amplitude and never leads to 0 / 0
MIN_MAGNITUDE = 1e-4  # the same for the bins of a frame

# How far an iteration pulls the magnitudes towards smooth ones. Magnitudes that are smooth along the frequency axis
# belong to energy that is compact in time, which is right for an attack and wrong for a tone.
PULL = 0.02
TRANSIENT_PULL = 0.3  # added where the picture shows a transient
TRANSIENT_MELS = 33  # averaged when looking for transients
SHARPNESS = 8  # the exponent of the share of energy that is missing at one end of the window


class Synthesis:
    """Turn mel amplitudes into a sound that can be looped."""

    def __init__(self, device: torch.device | str = "cpu", quality: Quality | None = None) -> None:
        """Prepare windows and mel products, once for any number of calls from any thread.

        Args:
            device: Where to compute.
            quality: By default STANDARD, or on a GPU ON_A_GPU.
        """
        self.device = torch.device(device)
        self.quality = quality or (STANDARD if self.device.type == "cpu" else ON_A_GPU)
        self.coarse = Grid(COARSE_FFT, self.device)
        self.fine = Grid(FINE_FFT, self.device)
        self.average = average_mels(self.device)

    @torch.no_grad()
    def __call__(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Return the waveform (1, (T - 1) * 441) whose mel amplitudes are as close as possible to `mel`.

        Args:
            mel: Amplitudes (1, 512, T), the lowest mel first.
            generator: A CPU generator, which draws the phases to start from.

        Raises:
            ValueError: mel has another shape.
        """
        if mel.ndim != 3 or mel.shape[:2] != (1, MEL_COUNT) or mel.shape[2] == 0:
            raise ValueError(f"mel amplitudes are (1, 512, T), not {tuple(mel.shape)}")
        if mel.shape[2] == 1:
            return torch.zeros(1, 0, device=self.device)
        with one_thread():
            return self._invert(mel.to(self.device, torch.float32), generator)

    def _invert(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        samples = (mel.shape[2] - 1) * HOP_LENGTH
        peak = mel.amax()
        target = close_loop(mel / peak.clamp(min=1e-20) * SCALE + FLOOR)
        fade = partial(fade_seam, seam=FIRST_COLUMN * INNER_HOP, rate_hz=INNER_RATE_HZ)
        spectrum, circle = self.estimate(target, generator, fade)
        waveform = circle.full_sound(spectrum)[:, :samples].contiguous()
        return fade_seam(waveform, 0, SAMPLE_RATE_HZ) * (peak / SCALE)

    def estimate(
        self, target: Tensor, generator: torch.Generator, constrain: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Circle]:
        """Return the spectrum of a loop's mel amplitudes (1, column, 512) up to SCALE, and the circle it lies on.

        `constrain` changes the sound (1, columns * 210) before every iteration, in place.
        """
        columns = target.shape[1]
        transient = transience(target, self.average)
        circle = Circle(self.coarse, columns, step=2)
        held = Target(circle, target, transient)
        spectrum = torch.polar(held.smooth, start_phases(held.mel, circle.step, circle.grid, generator))
        spectrum = refine(spectrum, circle, circle, held, self.quality.halved, MOMENTUM, constrain)
        for grid, iterations, momentum in (
            (self.coarse, self.quality.coarse, MOMENTUM),
            (self.fine, self.quality.fine, FINE_MOMENTUM),
        ):
            if iterations:
                finer = Circle(grid, columns, step=1)
                held = Target(finer, target, transient)
                spectrum = refine(spectrum, circle, finer, held, iterations, momentum, constrain)
                circle = finer
        return spectrum, circle


class Target:
    """What the spectra of a circle have to match."""

    def __init__(self, circle: Circle, mel: Tensor, transient: Tensor) -> None:
        """Select the circle's frames of the mel amplitudes and of the transience, both (1, column, 512)."""
        grid = circle.grid
        self.grid = grid
        self.mel = mel[:, :: circle.step].contiguous()
        self.smooth = grid.to_bins(self.mel / grid.filter_sums)
        pull = (grid.to_bins(transient[:, :: circle.step].contiguous()) + PULL).clamp_(max=1)
        self.pulled, self.kept = pull * self.smooth, 1 - pull

    def hold(self, spectrum: Tensor) -> Tensor:
        """Scale the bins of a spectrum so that its mel amplitudes match the target; the phases stay.

        Within a mel the magnitudes keep their shape, apart from the pull towards smooth ones. The correction of a mel
        overshoots, to the power 5/4, just as the momentum does for the sound. From 4/3 on it would not converge.
        """
        magnitude = spectrum.real.square().add_(spectrum.imag.square()).sqrt_()  # three times as fast as abs()
        wanted = torch.addcmul(self.pulled, magnitude, self.kept)
        correction = self.mel / self.grid.to_mel(wanted).add_(FLOOR)
        correction.mul_(correction.sqrt().sqrt_())
        gain = self.grid.to_bins(correction)
        return spectrum * gain.mul_(wanted).div_(magnitude.add_(MIN_MAGNITUDE))


def refine(
    spectrum: Tensor,
    circle: Circle,
    finer: Circle,
    target: Target,
    iterations: int,
    momentum: float,
    constrain: Callable[[Tensor], Tensor],
) -> Tensor:
    """Iterate from a spectrum on one circle to a spectrum on a finer circle.

    The momentum is applied to the sound, which is smaller than the spectrum; the transform is linear, so the result is
    the same. Each stage starts without momentum.
    """
    previous = None
    for _ in range(iterations):
        sound = constrain(circle.sound(spectrum))
        moved = sound if previous is None else torch.lerp(previous, sound, 1 + momentum)
        spectrum = target.hold(finer.spectrum(moved))
        previous, circle = sound, finer
    return spectrum


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one CPU thread within the block.

    The work consists of thousands of small products. On an idle machine several threads gain a third. On a busy machine
    they wait for each other at every product, and a clip takes more than ten times as long.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def close_loop(mel: Tensor) -> Tensor:
    """Return the columns (1, column, 512) of a loop from a picture's mel amplitudes (1, 512, T >= 2).

    The first and the last column are the same moment, so both become their mean. A loop shorter than the window is
    repeated.
    """
    loop = mel[..., :-1].clone()
    loop[..., 0] = (mel[..., 0] + mel[..., -1]) / 2
    rounds = math.ceil(WINDOW_COLUMNS / loop.shape[2])
    return loop.transpose(1, 2).repeat(1, rounds, 1)


def average_mels(device: torch.device) -> BandedProduct:
    """Return the product that replaces each mel by the mean of the 33 around it (fewer at the ends)."""
    number = torch.arange(MEL_COUNT)
    near = ((number[:, None] - number).abs() <= TRANSIENT_MELS // 2).double()
    return BandedProduct(near / near.sum(dim=0), 64, device)


def transience(mel: Tensor, average: BandedProduct) -> Tensor:
    """Return how much to add to the pull at each amplitude of mel (1, column, 512).

    Energy that is missing at one end of the window and present at the other starts or stops within the window.
    """
    around = average(mel).transpose(1, 2)
    reach = WINDOW_COLUMNS // 2
    around = F.pad(around, (reach, reach), mode="circular")
    high, low = F.max_pool1d(around, 2 * reach + 1, 1), -F.max_pool1d(-around, 2 * reach + 1, 1)
    return TRANSIENT_PULL * (1 - low / high).clamp(0, 1).transpose(1, 2) ** SHARPNESS


def fade_seam(sound: Tensor, seam: int, rate_hz: int) -> Tensor:
    """Fade a circle (1, samples) out before sample `seam` and in after it, in place.

    The iteration works around these fades. Applied only at the end, they would distort the result more.
    """
    length = int(FADE_S * rate_hz)
    ramp = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(length, device=sound.device) + 0.5) / length)
    sound[:, seam : seam + length] *= ramp
    before = (seam - length) % sound.shape[1]
    sound[:, before : before + length] *= ramp.flip(0)
    return sound
