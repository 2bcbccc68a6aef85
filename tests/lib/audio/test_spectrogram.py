import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray

from lib.audio.spectrogram import (
    BIN_COUNT,
    HOP_LENGTH,
    MAX_AMPLITUDE,
    Analysis,
    grey_levels,
    image_to_mel,
    mel_filters,
    mel_to_image,
)
from tests.lib.audio.sounds import music, noise

MEL_SETTINGS = {
    "sample_rate": 44100,
    "n_mels": 512,
    "f_min": 0,
    "f_max": 10000,
    "n_stft": 8821,
    "norm": None,
    "mel_scale": "htk",
}
STFT_SETTINGS = {"n_fft": 17640, "hop_length": 441, "win_length": 4410}
analysis = Analysis()


def original_mel(waveform: torch.Tensor) -> torch.Tensor:
    spectrum = torchaudio.transforms.Spectrogram(**STFT_SETTINGS, power=None)(waveform)
    mel: torch.Tensor = torchaudio.transforms.MelScale(**MEL_SETTINGS)(spectrum.abs())
    return mel


def levels(mel: torch.Tensor) -> torch.Tensor:
    return 255 * (1 - (mel.double() / mel.max()) ** 0.25)


# Image and mel amplitudes


def test_row_0_is_the_highest_mel_and_white_is_silence() -> None:
    image = np.full((512, 3), 255, np.uint8)
    image[0, 1] = 0
    mel = image_to_mel(image)
    assert mel.dtype == torch.float32
    assert mel.shape == (1, 512, 3)
    assert mel[0, 511, 1] == MAX_AMPLITUDE
    assert mel.sum() == MAX_AMPLITUDE


def test_every_level_survives_the_conversion_to_mel_and_back() -> None:
    image = np.arange(512 * 3, dtype=np.uint32).reshape(512, 3).astype(np.uint8)
    assert np.array_equal(mel_to_image(image_to_mel(image)), image)


def test_the_fourth_power_of_the_shade_is_the_amplitude_and_levels_are_rounded_to_the_nearest() -> None:
    mel = image_to_mel(np.full((512, 1), 155, np.uint8))
    torch.testing.assert_close(mel, torch.full((1, 512, 1), (100 / 255) ** 4 * 30e6), rtol=1e-6, atol=0)
    shades = torch.tensor([255, 100.4, 100.6, 0])
    mel = ((shades / 255) ** 4).repeat(128)[None, :, None]
    assert mel_to_image(mel)[::-1, 0].tolist() == [0, 155, 154, 255] * 128
    assert np.all(mel_to_image(torch.zeros(1, 512, 4)) == 255)


def test_three_channels_are_replaced_by_their_mean() -> None:
    image = np.zeros((512, 2, 3), np.uint8)
    image[...] = (10, 20, 33)
    assert np.all(grey_levels(image) == 21)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((511, 4), np.uint8),
        np.zeros((512, 0), np.uint8),
        np.zeros((512, 4, 4), np.uint8),
        np.zeros((512, 4), np.float32),
        np.zeros(512, np.uint8),
    ],
)
def test_an_image_of_another_shape_or_type_is_an_error(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="spectrogram image"):
        image_to_mel(image)


@pytest.mark.parametrize("shape", [(2, 512, 4), (1, 511, 4), (512, 4)])
def test_mel_amplitudes_of_another_shape_are_not_drawn(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mel amplitudes"):
        mel_to_image(torch.zeros(shape))


# From sound to mel amplitudes


def test_the_filters_equal_torchaudios() -> None:
    filters = torchaudio.functional.melscale_fbanks(8821, 0.0, 10000.0, 512, 44100, None, "htk")
    assert torch.equal(mel_filters(), filters[:BIN_COUNT])
    assert not filters[BIN_COUNT:].any()


@pytest.mark.parametrize("waveform", [music(), noise(), noise(257) * torch.linspace(0.1, 1, 256 * HOP_LENGTH)])
def test_the_analysis_draws_the_same_image_as_torchaudio(waveform: torch.Tensor) -> None:
    original, own = levels(original_mel(waveform)), levels(analysis(waveform))
    assert own.shape == original.shape
    assert float((own - original).abs().max()) < 0.01
    # A level within rounding of a whole number may be on either side of it.
    assert int((own.floor() != original.floor()).sum()) <= 2


def test_a_loop_is_analysed_as_if_it_continued() -> None:
    loop = noise(31)
    again = analysis(torch.cat([loop, loop, loop], dim=1))[..., 30:61]
    torch.testing.assert_close(analysis(loop, looped=True), again, rtol=1e-5, atol=1e-3)
    assert torch.equal(analysis(loop, looped=True)[..., 0], analysis(loop, looped=True)[..., 30])


def test_a_waveform_too_short_to_reflect_is_an_error() -> None:
    assert analysis(torch.ones(1, 2206)).shape == (1, 512, 6)
    for waveform in (torch.ones(1, 2205), torch.ones(44100)):
        with pytest.raises(ValueError, match="waveform is"):
            analysis(waveform)
