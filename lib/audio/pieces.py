"""Turn a spectrogram of any length into sound, in pieces that continue each other, at one loudness.

A piece is inverted together with some columns on either side. The sound of the columns before it is known from the
previous piece, and every iteration puts it back, so the phases of the piece continue those of the previous one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.audio.inverse import FADE_S, FLOOR, SCALE, Synthesis, one_thread
from lib.audio.loudness import LOOK_AHEAD_S, PEAK_DB, amplitude, limit
from lib.audio.spectrogram import HOP_LENGTH, MAX_AMPLITUDE, SAMPLE_RATE_HZ, Image, image_to_mel
from lib.audio.stft import FIRST_COLUMN, INNER_HOP

PIECE_COLUMNS = 1022  # two clips
BEFORE_COLUMNS = 40  # inverted with a piece; their sound is known, except before the first piece
AFTER_COLUMNS = 20  # more than half a window, so that a piece doesn't end as if silence followed
JOIN_COLUMNS = 10  # in which one piece fades into the next; their sounds are nearly the same there
MARGIN = 4 * round(LOOK_AHEAD_S * SAMPLE_RATE_HZ)  # samples; what is further away doesn't change a limiter's gain
FADE = round(FADE_S * SAMPLE_RATE_HZ)  # samples, at the ends of a sound that doesn't loop
LOOP_COLUMNS = 511  # of a clip


@dataclass(frozen=True)
class Score:
    """A spectrogram image, and the part of it that becomes sound; the rest is context."""

    image: Image  # (512, T)
    start: int  # the first sample of the sound, where column t is at sample 441 t
    stop: int  # exclusive
    loops: bool = False  # the end leads to the beginning; start and stop are multiples of 441 then

    @property
    def columns(self) -> range:
        """The columns whose sound is needed."""
        return range(self.start // HOP_LENGTH, -(-self.stop // HOP_LENGTH))

    def mel(self, start: int, stop: int) -> Tensor:
        """Return the mel amplitudes (1, 512, stop - start) of some columns, also of ones beyond the image.

        A loop continues at its other end. Before an image comes what precedes it where its first two bars loop, and
        its last column is held.
        """
        number = np.arange(start, stop)
        if self.loops:
            number = number % len(self.columns)
        number = np.where(number < 0, number + LOOP_COLUMNS, number).clip(max=self.image.shape[1] - 1)
        return image_to_mel(self.image[:, number])


def synthesize(synthesis: Synthesis, score: Score, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the sound (1, samples) of a score in pieces."""
    columns = score.columns
    total = score.stop - score.start
    size = min(PIECE_COLUMNS, -(-len(columns) // 2))  # two pieces at least, because a loop's last one meets the first
    known, opening, held, lead_in = None, None, None, None
    for start in columns[::size]:
        stop = min(start + size, columns.stop)
        is_last = stop == columns.stop
        mel = score.mel(start - BEFORE_COLUMNS, stop + AFTER_COLUMNS)
        waveform, inner = _piece(synthesis, mel, generator, known, opening if is_last and score.loops else None)
        end = BEFORE_COLUMNS + stop - start
        known = _cut(inner, end - BEFORE_COLUMNS, end, INNER_HOP)
        if held is None or lead_in is None:
            opening = _cut(inner, BEFORE_COLUMNS - 2 * JOIN_COLUMNS, BEFORE_COLUMNS + AFTER_COLUMNS, INNER_HOP)
            lead_in = _cut(waveform, BEFORE_COLUMNS - JOIN_COLUMNS, BEFORE_COLUMNS, HOP_LENGTH)
            sound = _cut(waveform, BEFORE_COLUMNS, end, HOP_LENGTH)[:, score.start - columns[0] * HOP_LENGTH :]
        else:
            sound = _cut(waveform, BEFORE_COLUMNS - JOIN_COLUMNS, end, HOP_LENGTH)
            _join(held, sound[:, : held.shape[1]], sound[:, : held.shape[1]])
        if is_last:
            if score.loops:
                _join(sound[:, -lead_in.shape[1] :], lead_in, sound[:, -lead_in.shape[1] :])
            yield sound[:, :total]
        else:
            done, held = sound.tensor_split([-JOIN_COLUMNS * HOP_LENGTH], dim=1)
            total -= done.shape[1]
            yield done


def _join(before: Tensor, after: Tensor, out: Tensor) -> None:
    """Fade from one sound to another, which is nearly the same."""
    out.copy_(torch.lerp(before, after, torch.linspace(0, 1, before.shape[1], device=before.device)))


def _cut(sound: Tensor, start: int, stop: int, hop: int) -> Tensor:
    return sound[:, start * hop : stop * hop].clone()


@torch.no_grad()
def _piece(
    synthesis: Synthesis, mel: Tensor, generator: torch.Generator, before: Tensor | None, after: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the sound of mel amplitudes (1, 512, columns) at 44.1 kHz and at 21 kHz.

    `before` and `after` are the known sounds (1, samples) at 21 kHz of the first and the last columns.
    """
    target = mel.to(synthesis.device, torch.float32).transpose(1, 2) * (SCALE / MAX_AMPLITUDE) + FLOOR
    samples = target.shape[1] * INNER_HOP
    known = [(0, before)] if before is not None else []
    known += [(samples - after.shape[1], after)] if after is not None else []
    origin = FIRST_COLUMN * INNER_HOP  # where column 0 is on the circle
    places = [((origin + torch.arange(start, start + sound.shape[1])) % samples, sound) for start, sound in known]

    def constrain(sound: Tensor) -> Tensor:
        for place, wanted in places:
            sound[:, place.to(sound.device)] = wanted
        return sound

    with one_thread():
        spectrum, circle = synthesis.estimate(target.contiguous(), generator, constrain)
        inner = constrain(circle.sound(spectrum)).roll(-origin, dims=1)
        return circle.full_sound(spectrum) * (MAX_AMPLITUDE / SCALE), inner


def rms(synthesis: Synthesis, image: Image) -> float:
    """Return about the root mean square of the sound of an image, by Parseval's theorem from its mel amplitudes."""
    grid = synthesis.coarse
    mel = image_to_mel(image).to(synthesis.device).transpose(1, 2).contiguous()
    power = grid.to_bins(mel / grid.filter_sums).double().square().sum(dim=2).mean()
    window = grid.full_window.double().square().sum()
    return float((2 * grid.bin_hz / SAMPLE_RATE_HZ * power / window).sqrt())


def levelled(pieces: Iterable[Tensor], gain: float, loops: bool = False) -> Iterator[Tensor]:
    """Yield a sound (1, samples) in pieces with a gain, limited to -0.1 dB relative to full scale.

    A sound that doesn't loop fades in and out within 1.5 ms.
    """
    buffer, opening = torch.zeros(1, 0), None  # the buffer begins with a margin that has been yielded
    for piece in pieces:
        sound = (piece * gain).cpu()
        if opening is None:
            opening = sound[:, :MARGIN].clone()
            buffer = torch.zeros(1, MARGIN)
            if not loops:
                sound[:, :FADE] *= torch.linspace(0, 1, FADE)
        buffer = torch.cat([buffer, sound], dim=1)
        yield _limited(buffer)
        buffer = buffer[:, -2 * MARGIN :]
    if opening is None:
        return
    if not loops:
        buffer[:, -FADE:] *= torch.linspace(1, 0, FADE)
        opening = torch.zeros_like(opening)
    yield _limited(torch.cat([buffer, opening], dim=1))


def _limited(buffer: Tensor) -> Tensor:
    """Return a limited buffer without the margins at its ends."""
    return limit(buffer)[:, MARGIN:-MARGIN] * amplitude(PEAK_DB)
