import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfiltfilt

from lib.audio.loudness import DRAWN_GAIN, TURNED_UP_DB, amplitude, level, limit

PEAK = 10 ** (-0.1 / 20)


def music_like(crest_db: float) -> torch.Tensor:
    """Return noise with a few strong beats, so that its peak is crest_db above its root mean square."""
    waveform = torch.randn(1, 44100, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    beats = torch.sin(torch.arange(200) * 0.31) * torch.tensor([[1.0], [0.9], [0.8], [0.7]])
    waveform[0, 5000:40000].unfold(0, 200, 10000).copy_(beats * rms(waveform) * 10 ** (crest_db / 20))
    return waveform / DRAWN_GAIN / 10


def rms(waveform: torch.Tensor) -> float:
    return float(waveform.double().square().mean().sqrt())


def in_db(ratio: float) -> float:
    return float(20 * np.log10(ratio))


# Levels


@pytest.mark.parametrize("gain", [0.1, 1, 1e6])
def test_the_peak_is_0_1_db_below_full_scale_whatever_the_level_before(
    gain: float, capsys: pytest.CaptureFixture[str]
) -> None:
    levelled = level(music_like(15) * gain)
    assert levelled.dtype == torch.float32
    assert float(levelled.abs().max()) == pytest.approx(PEAK, rel=1e-6)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("crest_db", [15, 19, 23])
def test_a_clip_is_nearly_as_loud_as_with_the_original(crest_db: float) -> None:
    waveform = music_like(crest_db)
    original = (waveform / rms(waveform) * 10 ** (-12 / 20)).clamp(-1, 1) * PEAK
    assert -2 < in_db(rms(level(waveform)) / rms(original)) < 0.5


def test_a_clip_without_peaks_is_only_scaled() -> None:
    waveform = torch.sin(torch.arange(44100) * 0.05)[None] / DRAWN_GAIN
    torch.testing.assert_close(level(waveform), waveform / waveform.abs().max() * PEAK)


@pytest.mark.parametrize("samples", [0, 1000])
def test_silence_stays_silence(samples: int) -> None:
    assert torch.equal(level(torch.zeros(1, samples)), torch.zeros(1, samples))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        level(torch.tensor([[0.0, bad]]))


# Nearly blank pictures


def test_a_nearly_blank_picture_stays_quiet_which_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = music_like(15) * amplitude(-100)
    levelled = level(quiet)
    torch.testing.assert_close(levelled, quiet * DRAWN_GAIN * amplitude(TURNED_UP_DB))
    below_db = in_db(PEAK / float(levelled.abs().max()))
    said = capsys.readouterr().out
    assert said == f"The spectrogram is nearly blank, so the clip is {below_db:.0f} dB quieter than usual\n"


def test_the_limit_of_the_gain_causes_no_step_in_loudness(capsys: pytest.CaptureFixture[str]) -> None:
    clip = music_like(19)
    gains_db = np.arange(-70.0, -10.0)
    peaks_db = [in_db(float(level(clip * amplitude(gain_db)).abs().max())) for gain_db in gains_db]
    assert np.diff(peaks_db).min() > -1e-4
    assert np.diff(peaks_db).max() < 1.01
    assert peaks_db[-1] == pytest.approx(-0.1, abs=1e-3)
    assert peaks_db[0] < -10


# The limiter


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 440, 441, 442, 5000])
def test_no_sample_exceeds_full_scale_and_quiet_waveforms_stay_unchanged(samples: int) -> None:
    waveform = 3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    limited = limit(waveform)
    assert float(limited.abs().max()) <= 1 + 1e-9
    torch.testing.assert_close(limit(waveform / 100), waveform / 100)


def test_the_gain_falls_smoothly_5_ms_before_a_peak_and_recovers_after_it() -> None:
    waveform = torch.full((1, 4410), 0.5, dtype=torch.float64)
    waveform[0, 2000] = 4
    gain = (limit(waveform) / waveform)[0]
    assert gain[2000] == pytest.approx(0.25)
    assert gain.diff().abs().max() < 0.01
    changed = (gain < 1 - 1e-6).nonzero().flatten()
    assert 2000 - changed[0] == changed[-1] - 2000
    assert 220 < 2000 - changed[0] < 442


def test_the_limiter_treats_a_clip_as_a_loop() -> None:
    waveform = music_like(19).double() * DRAWN_GAIN * 10
    turned = waveform.roll(22000, dims=1)
    torch.testing.assert_close(limit(turned), limit(waveform).roll(22000, dims=1))


def test_the_limiter_adds_far_less_energy_above_11_khz_than_clipping() -> None:
    """A loud clip without energy above 10 kHz gets almost none there."""
    time = torch.arange(44100, dtype=torch.float64) / 44100
    loud = 3 * (torch.sin(2 * torch.pi * 110 * time) + torch.sin(2 * torch.pi * 2217 * time)) * (0.2 + time % 0.25)
    sections = butter(8, 11_000, "highpass", fs=44100, output="sos")

    def splatter_db(waveform: torch.Tensor) -> float:
        above = sosfiltfilt(sections, np.tile(waveform.numpy(), 3))[44100:88200]
        return in_db(float(np.sqrt(np.mean(above**2))) / rms(waveform))

    smooth = torch.from_numpy(np.array(loud))
    assert splatter_db(limit(smooth[None])[0]) < splatter_db(smooth.clamp(-1, 1)) - 10
