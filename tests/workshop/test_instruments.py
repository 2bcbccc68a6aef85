from collections.abc import Callable

import numpy as np
import pytest

from workshop.chance import Generator
from workshop.music import instruments
from workshop.music.effects import echo, reverb
from workshop.sound.synth import Wave

SAMPLE_RATE_HZ = 44100
Instrument = Callable[[float, float, float], Wave]


def generator() -> Generator:
    return np.random.default_rng(7)


def flute(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    return instruments.flute(frequency_hz, duration_s, velocity, generator())


def strings(frequency_hz: float, duration_s: float, velocity: float) -> Wave:
    return instruments.strings(frequency_hz, duration_s, velocity, generator())


ALL = [instruments.church_bell, instruments.guitar, instruments.soft_pad, flute, strings]


def spectrum_at(wave: Wave, *frequencies_hz: float) -> list[float]:
    """The greatest amplitudes within 2 % of some frequencies."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    bins_hz = np.fft.rfftfreq(wave.size, 1 / SAMPLE_RATE_HZ)
    return [float(spectrum[np.abs(bins_hz - f) < 0.02 * f].max()) for f in frequencies_hz]


def rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(wave**2)))


@pytest.mark.parametrize("instrument", ALL)
@pytest.mark.parametrize("frequency_hz", [110.0, 880.0])
def test_an_instrument_begins_and_ends_in_silence(instrument: Instrument, frequency_hz: float) -> None:
    wave = instrument(frequency_hz, 0.8, 0.8)
    assert 0.8 * SAMPLE_RATE_HZ <= wave.size < 1.3 * SAMPLE_RATE_HZ
    assert max(abs(wave[0]), abs(wave[-1])) < 1e-2 * np.abs(wave).max()


@pytest.mark.parametrize("instrument", ALL)
def test_an_instrument_has_its_pitch(instrument: Instrument) -> None:
    at_pitch, beside = spectrum_at(instrument(440, 1.0, 0.8), 440, 475)
    assert at_pitch > 30 * beside


@pytest.mark.parametrize("instrument", ALL)
def test_a_higher_velocity_is_louder(instrument: Instrument) -> None:
    assert rms(instrument(300, 0.5, 1.0)) > 1.5 * rms(instrument(300, 0.5, 0.5))


def test_a_bell_is_inharmonic_and_a_string_is_not() -> None:
    bell_tierce, bell_third = spectrum_at(instruments.church_bell(400, 2, 0.9), 1.2 * 400, 3.2 * 400)
    string_tierce, string_second = spectrum_at(strings(400, 2, 0.9), 1.2 * 400, 2 * 400)
    assert bell_tierce > 10 * bell_third
    assert string_second > 30 * string_tierce


def test_a_plucked_string_fades_and_a_bowed_one_swells() -> None:
    quarter = SAMPLE_RATE_HZ // 4
    plucked, bowed = instruments.guitar(220, 2, 0.8), strings(220, 2, 0.8)
    assert rms(plucked[:quarter]) > 2 * rms(plucked[4 * quarter : 5 * quarter])
    assert rms(bowed[: quarter // 3]) < 0.5 * rms(bowed[4 * quarter : 5 * quarter])


def test_no_partial_lies_above_the_picture() -> None:
    wave = strings(3000, 1, 1.0)
    spectrum = np.abs(np.fft.rfft(wave))
    assert spectrum[round(10_500 * wave.size / SAMPLE_RATE_HZ) :].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("decay_s", [0.3, 2.0, 9.0])
def test_reverb_is_circular(decay_s: float) -> None:
    """A loop that begins elsewhere has the same room, elsewhere."""
    wave = generator().standard_normal(44_101)
    expected = np.roll(reverb(wave, decay_s, 0.5, generator()), 12_345)
    assert np.allclose(reverb(np.roll(wave, 12_345), decay_s, 0.5, generator()), expected)


def test_an_echo_comes_after_its_delay_and_is_circular() -> None:
    wave = np.zeros(44_100)
    wave[40_000] = 1
    heard = echo(wave, 0.2, 0.5, 0.4, repeats=2)
    assert np.flatnonzero(heard).tolist() == [40_000 - 44_100 + 8820, 40_000 - 44_100 + 17640, 40_000]
    assert heard[[4720, 13540]] == pytest.approx([0.4, 0.2])
