"""Sound of any length is made in pieces; nobody may hear where they meet."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfiltfilt
from torch import Tensor

from lib.audio.inverse import Quality, Synthesis
from lib.audio.loudness import PEAK_DB, amplitude, limit
from lib.audio.pieces import LOOP_COLUMNS, MARGIN, PIECE_COLUMNS, Score, levelled, rms, synthesize
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import HOP_LENGTH, MAX_AMPLITUDE, SAMPLE_RATE_HZ, Analysis, Image, image_to_mel, mel_to_image
from lib.device import generator

SEEDS = ("og_beat",)
CLIPS = 3  # the second piece begins after two


@cache
def picture(name: str) -> Image:
    return np.concatenate([load(name)[:, :LOOP_COLUMNS]] * CLIPS, axis=1)


@cache
def sound(name: str, *, loops: bool) -> Tensor:
    score = Score(picture(name), 0, CLIPS * LOOP_COLUMNS * HOP_LENGTH, loops)
    return torch.cat(list(synthesize(Synthesis(), score, generator(1))), dim=1)


def errors(waveform: Tensor, image: Image) -> Tensor:
    """Return the mean difference in grey levels between a looped sound's spectrogram and its image, by column."""
    heard, wanted = (
        255 * (mel[0, :, : image.shape[1]] / MAX_AMPLITUDE) ** 0.25
        for mel in (Analysis()(waveform, looped=True), image_to_mel(image))
    )
    return (heard - wanted).abs().mean(dim=0)


def treble_db(waveform: Tensor, sample: int) -> float:
    """Return the level above 11 kHz, where mels have nothing, in 10 ms around a sample of a looped sound."""
    samples = waveform[0].roll(len(waveform[0]) // 2 - sample).double().numpy()
    filtered = sosfiltfilt(butter(8, 11_000, "hp", fs=SAMPLE_RATE_HZ, output="sos"), samples)
    near = filtered[len(samples) // 2 - 220 : len(samples) // 2 + 220]
    return float(20 * np.log10(np.sqrt(np.mean(near**2)) / np.sqrt(np.mean(samples**2))))


@pytest.mark.parametrize("name", SEEDS)
def test_pieces_equal_the_whole_within_half_a_grey_level(name: str) -> None:
    whole = Synthesis()(image_to_mel(np.concatenate([picture(name), picture(name)[:, :1]], axis=1)), generator(1))
    pieces = sound(name, loops=True)
    assert pieces.shape == whole.shape
    in_whole, in_pieces = errors(whole, picture(name)), errors(pieces, picture(name))
    assert in_pieces.mean() < in_whole.mean() + 0.1
    for join in (0, PIECE_COLUMNS):
        near = torch.arange(join - 10, join + 10) % len(in_pieces)
        assert in_pieces[near].mean() < in_whole[near].mean() + 0.5


@pytest.mark.parametrize("name", SEEDS)
def test_joins_do_not_click(name: str) -> None:
    pieces = sound(name, loops=True)
    for join in (0, PIECE_COLUMNS * HOP_LENGTH - 5 * HOP_LENGTH, PIECE_COLUMNS * HOP_LENGTH):
        assert treble_db(pieces, join) < -60
    assert treble_db(sound(name, loops=False), 0) > -60  # the two ends of a sound that doesn't loop do


def test_a_tone_goes_on_through_joins() -> None:
    """Without the sound that is known from the piece before, the tone would stop and start again."""
    waveform = torch.sin(2 * torch.pi * 440.5 / SAMPLE_RATE_HZ * torch.arange(CLIPS * LOOP_COLUMNS * HOP_LENGTH))[None]
    mel = Analysis()(waveform)
    image = mel_to_image(mel)
    score = Score(image, 0, (CLIPS * LOOP_COLUMNS - 20) * HOP_LENGTH)
    made = torch.cat(list(synthesize(Synthesis(), score, generator(1))), dim=1)[0]
    envelope = made.unfold(0, 441, 441).square().mean(dim=1).sqrt()
    around = envelope[PIECE_COLUMNS - 30 : PIECE_COLUMNS + 30] / envelope[100:-100].median()
    assert 0.9 < around.min() <= around.max() < 1.1


@pytest.mark.parametrize("start", [0, 112_676, 441 * 300 + 7])
@pytest.mark.parametrize("length", [50_000, 441 * PIECE_COLUMNS + 1])
def test_a_part_has_exactly_its_samples(start: int, length: int) -> None:
    image = np.full((512, CLIPS * LOOP_COLUMNS), 255, np.uint8)
    pieces = list(synthesize(Synthesis(quality=Quality(1, 0, 0)), Score(image, start, start + length), generator(1)))
    assert sum(piece.shape[1] for piece in pieces) == length


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_loudness_is_known_from_the_image(name: str) -> None:
    synthesis = Synthesis()
    waveform = synthesis(image_to_mel(load(name)), generator(1))
    assert abs(20 * np.log10(rms(synthesis, load(name)) / float(waveform.square().mean().sqrt()))) < 1.5


def test_the_limiter_does_in_pieces_what_it_does_at_once() -> None:
    waveform = 2 * torch.randn(1, 100_000, generator=generator(3))
    pieces = waveform.tensor_split([30_000, 50_001], dim=1)
    made = torch.cat(list(levelled(pieces, 0.9, loops=True)), dim=1)
    once = limit(waveform * 0.9) * amplitude(PEAK_DB)
    assert made.shape == once.shape
    # The first piece doesn't know yet what the end of the loop needs.
    torch.testing.assert_close(made[:, MARGIN:], once[:, MARGIN:], atol=1e-5, rtol=1e-4)
    assert made.abs().max() <= amplitude(PEAK_DB) * 1.0001


def test_a_sound_that_does_not_loop_fades_in_and_out() -> None:
    made = torch.cat(list(levelled([torch.ones(1, 10_000), torch.ones(1, 10_000)], 0.5)), dim=1)[0]
    assert made[0] == made[-1] == 0
    torch.testing.assert_close(made[70:-70], torch.full((20_000 - 140,), 0.5 * amplitude(PEAK_DB)))


def test_silence_has_no_piece() -> None:
    assert list(levelled([], 1.0)) == []
