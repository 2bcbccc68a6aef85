import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.audio.inverse import Synthesis
from lib.audio.spectrogram import (
    BIN_COUNT,
    HOP_LENGTH,
    MAX_AMPLITUDE,
    SAMPLE_RATE_HZ,
    Analysis,
    grey_levels,
    image_to_mel,
    mel_filters,
    mel_to_image,
)

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
synthesis = Synthesis()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Work as one clip does by default; several threads on a busy machine wait for one another for seconds."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seconds(columns: int) -> torch.Tensor:
    return torch.arange((columns - 1) * HOP_LENGTH, dtype=torch.float64) / SAMPLE_RATE_HZ


def tone(hz: float, columns: int = 101) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz * seconds(columns)).float()[None]


def noise(columns: int = 101) -> torch.Tensor:
    return torch.randn(1, (columns - 1) * HOP_LENGTH, generator=seeded(1))


def clicks(columns: int = 101) -> torch.Tensor:
    waveform = torch.zeros(1, (columns - 1) * HOP_LENGTH)
    waveform[:, 10 * HOP_LENGTH :: 30 * HOP_LENGTH] = 1
    return waveform


def music(columns: int = 101) -> torch.Tensor:
    """Three notes with six harmonics each that die away, a drum, and a little noise."""
    time = seconds(columns)
    waveform = 0.002 * noise(columns)[0].double()
    for start_s, hz in ((0.0, 196.0), (0.25, 246.9), (0.5, 329.6)):
        since = (time - start_s).clamp(min=0)
        envelope = torch.where(time >= start_s, torch.exp(-4 * since), 0)
        for harmonic in range(1, 7):
            waveform += 0.2 / harmonic * envelope * torch.sin(2 * torch.pi * hz * harmonic * since)
    waveform += torch.exp(-15 * (time % 0.5)) * torch.sin(2 * torch.pi * 55 * (time % 0.5))
    return waveform.float()[None]


def original_mel(waveform: torch.Tensor) -> torch.Tensor:
    spectrum = torchaudio.transforms.Spectrogram(**STFT_SETTINGS, power=None)(waveform)
    return torchaudio.transforms.MelScale(**MEL_SETTINGS)(spectrum.abs())


def original_waveform(mel: torch.Tensor) -> torch.Tensor:
    linear = torchaudio.transforms.InverseMelScale(**MEL_SETTINGS)(mel)
    griffin_lim = torchaudio.transforms.GriffinLim(**STFT_SETTINGS, n_iter=32, power=1.0, momentum=0.99)
    return griffin_lim(linear)


def levels(mel: torch.Tensor) -> torch.Tensor:
    return 255 * (1 - (mel.double() / mel.max()) ** 0.25)


def spectral_convergence(mel: torch.Tensor, waveform: torch.Tensor) -> float:
    """Return the relative error of a waveform's mel amplitudes after the best gain."""
    heard = analysis(waveform)[..., : mel.shape[2]]
    target = mel[..., : heard.shape[2]]
    gain = (heard * target).sum() / heard.square().sum()
    return float((target - gain * heard).norm() / target.norm())


# Image and mel amplitudes


def test_row_0_is_the_highest_mel_and_white_is_silent():
    image = np.full((512, 3), 255, np.uint8)
    image[0, 1] = 0
    mel = image_to_mel(image)
    assert mel.dtype == torch.float32
    assert mel.shape == (1, 512, 3)
    assert mel[0, 511, 1] == MAX_AMPLITUDE
    assert mel.sum() == MAX_AMPLITUDE


def test_every_level_survives_the_way_to_mel_and_back():
    image = np.arange(512 * 3, dtype=np.uint32).reshape(512, 3).astype(np.uint8)
    assert np.array_equal(mel_to_image(image_to_mel(image)), image)


def test_the_fourth_power_of_the_shade_is_the_amplitude():
    image = np.full((512, 1), 155, np.uint8)
    expected = torch.full((1, 512, 1), (100 / 255) ** 4 * 30e6)
    torch.testing.assert_close(image_to_mel(image), expected, rtol=1e-6, atol=0)


def test_levels_are_rounded_not_cut_off():
    mel = torch.full((1, 512, 1), 1.0)
    mel[0, 0, 0] = (1 - 100.4 / 255) ** 4
    mel[0, 1, 0] = (1 - 100.6 / 255) ** 4
    image = mel_to_image(mel)
    assert image[511, 0] == 100
    assert image[510, 0] == 101


def test_three_channels_count_with_their_mean():
    image = np.zeros((512, 2, 3), np.uint8)
    image[...] = (10, 20, 33)
    assert np.all(grey_levels(image) == 21)


def test_silence_is_drawn_white():
    assert np.all(mel_to_image(torch.zeros(1, 512, 4)) == 255)


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
def test_what_is_no_spectrogram_image_is_refused(image):
    with pytest.raises(ValueError, match="spectrogram image"):
        image_to_mel(image)


@pytest.mark.parametrize("shape", [(2, 512, 4), (1, 511, 4), (512, 4)])
def test_what_is_no_mel_of_one_channel_is_not_drawn(shape):
    with pytest.raises(ValueError, match="mel amplitudes"):
        mel_to_image(torch.zeros(shape))


# From sound to mel amplitudes


def test_the_filters_equal_torchaudio_s():
    filters = torchaudio.functional.melscale_fbanks(8821, 0.0, 10000.0, 512, 44100, None, "htk")
    assert torch.equal(mel_filters(), filters[:BIN_COUNT])
    assert not filters[BIN_COUNT:].any()


@pytest.mark.parametrize("waveform", [music(), noise(), noise(257) * torch.linspace(0.1, 1, 256 * HOP_LENGTH)])
def test_the_analysis_draws_the_same_image_as_torchaudio(waveform):
    original, own = levels(original_mel(waveform)), levels(analysis(waveform))
    assert own.shape == original.shape
    assert float((own - original).abs().max()) < 0.01
    # A level within float rounding of a whole number may fall on either side of it.
    assert int((own.floor() != original.floor()).sum()) <= 2


def test_two_channels_are_analysed_as_each_alone():
    both = analysis(torch.cat([music(), noise()]))
    torch.testing.assert_close(both, torch.cat([analysis(music()), analysis(noise())]), rtol=1e-5, atol=1e-3)


def test_a_waveform_too_short_to_reflect_is_refused():
    assert analysis(torch.ones(1, 2206)).shape == (1, 512, 6)
    for waveform in (torch.ones(1, 2205), torch.ones(44100)):
        with pytest.raises(ValueError, match="waveform is"):
            analysis(waveform)


# From mel amplitudes to sound


@pytest.mark.parametrize(
    ("waveform", "limit"),
    [(tone(440), 0.03), (tone(3000), 0.13), (noise(), 0.09), (clicks(), 0.2), (music(), 0.06)],
    ids=["tone 440", "tone 3000", "noise", "clicks", "music"],
)
def test_sound_returns_from_its_mel_amplitudes(waveform, limit):
    mel = analysis(waveform)
    assert spectral_convergence(mel, synthesis(mel, seeded())) < limit


@pytest.mark.parametrize("hz", [60, 440, 3000, 9000])
def test_a_tone_keeps_its_pitch(hz):
    waveform = synthesis(analysis(tone(hz)), seeded())
    spectrum = torch.fft.rfft(waveform[0] * torch.hann_window(waveform.shape[1])).abs()
    heard_hz = int(spectrum.argmax()) * SAMPLE_RATE_HZ / waveform.shape[1]
    assert heard_hz == pytest.approx(hz, rel=0.0015, abs=1)  # 2.6 cents, less than one can hear


@pytest.mark.parametrize("hz", [60, 440, 3000])  # above, a mel is wider than a tone, and may spread it
def test_a_tone_keeps_its_strength(hz):
    waveform = synthesis(analysis(tone(hz)), seeded())
    assert float(waveform[0, 10000:30000].square().mean()) == pytest.approx(0.5, rel=0.1)


def test_a_click_keeps_its_time():
    waveform = synthesis(analysis(clicks(61)), seeded())[0]
    loudest = int(waveform.abs()[: 25 * HOP_LENGTH].argmax())
    assert abs(loudest - 10 * HOP_LENGTH) < HOP_LENGTH


def test_the_inverse_is_at_least_as_true_as_the_original():
    mel = image_to_mel(mel_to_image(analysis(music())))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the original draws from the global generator
        original = spectral_convergence(mel, original_waveform(mel))
    assert spectral_convergence(mel, synthesis(mel, seeded())) <= original


def test_more_iterations_come_nearer():
    mel = analysis(music())
    errors = [spectral_convergence(mel, synthesis(mel, seeded(), iterations=count)) for count in (0, 4, 32)]
    assert errors == sorted(errors, reverse=True)


def test_a_clip_of_512_columns_lasts_5_110_seconds():
    waveform = synthesis(torch.rand(1, 512, 512), seeded(), iterations=1)
    assert waveform.shape == (1, 225351)
    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx(5.110, abs=5e-4)


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9, 100, 511, 512, 513, 1024])
def test_every_width_is_finite_and_exactly_long(columns):
    image = np.random.default_rng(columns).integers(0, 256, (512, columns)).astype(np.uint8)
    waveform = synthesis(image_to_mel(image), seeded())
    assert waveform.dtype == torch.float32
    assert waveform.shape == (1, (columns - 1) * HOP_LENGTH)
    assert waveform.isfinite().all()
    assert columns == 1 or waveform.any()


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, st.tuples(st.just(512), st.integers(1, 24)), fill=st.integers(0, 255)), st.integers(0, 4))
def test_any_image_is_finite(image, iterations):
    waveform = synthesis(image_to_mel(image), seeded(), iterations=iterations)
    assert waveform.shape == (1, (image.shape[1] - 1) * HOP_LENGTH)
    assert waveform.isfinite().all()


def test_white_is_silence():
    waveform = synthesis(image_to_mel(np.full((512, 60), 255, np.uint8)), seeded())
    assert not waveform.any()


def test_black_is_finite_and_sounds():
    waveform = synthesis(image_to_mel(np.zeros((512, 60), np.uint8)), seeded())
    assert waveform.isfinite().all()
    assert waveform.any()


@pytest.mark.parametrize("row", [0, 100, 511])
def test_one_row_is_finite_and_sounds_at_its_frequency(row):
    image = np.full((512, 60), 255, np.uint8)
    image[row] = 0
    waveform = synthesis(image_to_mel(image), seeded())
    assert waveform.isfinite().all()
    heard = analysis(waveform)[0].mean(dim=1)
    assert abs(int(heard.argmax()) - (511 - row)) <= (2 if row < 500 else 12)  # low filters overlap far


def test_two_channels_sound_as_each_alone():
    mel = analysis(torch.cat([music(), noise()]))
    generator = seeded()
    alone = torch.cat([synthesis(mel[:1], generator), synthesis(mel[1:], generator)])
    assert torch.equal(synthesis(mel, seeded()), alone)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    mel = analysis(music(51))
    first = synthesis(mel, seeded(7))
    assert torch.equal(first, synthesis(mel, seeded(7)))
    assert torch.equal(first, Synthesis()(mel, seeded(7)))
    assert not torch.allclose(first, synthesis(mel, seeded(8)), atol=1e-3)


def test_it_works_on_one_thread_and_gives_the_others_back():
    mel = analysis(music(21))
    torch.set_num_threads(2)
    synthesis(mel, seeded())
    assert torch.get_num_threads() == 2
    with pytest.raises(TypeError):
        synthesis(mel, seeded(), iterations=1.5)
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_changes_no_bit():
    mel, turns = analysis(music()), torch.rand(1, synthesis.bin_count, generator=seeded())
    alone = synthesis._invert(mel, turns, iterations=3)
    torch.set_num_threads(2)
    assert torch.equal(alone, synthesis._invert(mel, turns, iterations=3))


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    synthesis(analysis(music(51)), seeded())
    assert torch.equal(before, torch.random.get_rng_state())


def test_another_thread_hears_the_same():
    mel = analysis(music(51))
    heard = []
    thread = threading.Thread(target=lambda: heard.append(synthesis(mel.requires_grad_(), seeded())))
    thread.start()
    thread.join()
    assert torch.equal(heard[0], synthesis(mel, seeded()))
    assert not heard[0].requires_grad


@pytest.mark.parametrize("shape", [(512, 4), (1, 511, 4), (1, 512, 0)])
def test_mel_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="mel amplitudes are"):
        synthesis(torch.zeros(shape), seeded())
