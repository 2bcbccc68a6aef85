from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bench import spectrogram_hearing as hearing
from bench.spectrogram_metrics import distance
from lib.audio.inverse import STANDARD, Quality, Synthesis
from lib.audio.loudness import level
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ, Analysis, image_to_mel, mel_to_image
from tests.lib.audio.sounds import music, noise, seconds, seeded

analysis = Analysis()
synthesis = Synthesis()


@cache
def synthesis_of(halved: int, coarse: int, fine: int) -> Synthesis:
    return Synthesis(quality=Quality(halved, coarse, fine))


def tone(hz: float, columns: int = 101) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz * seconds(columns)).float()[None]


def clicks(columns: int = 101) -> torch.Tensor:
    waveform = torch.zeros(1, (columns - 1) * HOP_LENGTH)
    waveform[:, 10 * HOP_LENGTH :: 30 * HOP_LENGTH] = 1
    return waveform


def looped(waveform: torch.Tensor) -> torch.Tensor:
    return analysis(waveform, looped=True)


def spectral_convergence(mel: torch.Tensor, waveform: torch.Tensor) -> float:
    return distance(mel, looped(waveform)).a


def heard_again(sound: np.ndarray) -> np.ndarray:
    """Draw a sound of a clip's length as a picture, and return the sound of that picture."""
    picture = mel_to_image(looped(torch.from_numpy(sound)[None]))
    return synthesis(image_to_mel(picture), seeded())[0].double().numpy()


# Accuracy


@pytest.mark.parametrize(
    ("waveform", "limit"),
    [(tone(440), 0.05), (tone(3000), 0.05), (noise(), 0.05), (clicks(), 0.1), (music(), 0.05)],
    ids=["tone 440", "tone 3000", "noise", "clicks", "music"],
)
def test_a_sound_is_recovered_from_its_mel_amplitudes(waveform: torch.Tensor, limit: float) -> None:
    mel = looped(waveform)
    assert spectral_convergence(mel, synthesis(mel, seeded())) < limit


@pytest.mark.parametrize("hz", [60, 440, 3000, 9000])
def test_a_tone_keeps_its_pitch_and_strength(hz: float) -> None:
    waveform = synthesis(looped(tone(hz)), seeded())
    spectrum = torch.fft.rfft(waveform[0] * torch.hann_window(waveform.shape[1])).abs()
    heard_hz = int(spectrum.argmax()) * SAMPLE_RATE_HZ / waveform.shape[1]
    assert heard_hz == pytest.approx(hz, rel=0.0015, abs=1)  # 2.6 cents, which is inaudible
    if hz <= 3000:  # above, a mel is wider than a tone, and may spread it
        assert float(waveform[0, 10000:30000].square().mean()) == pytest.approx(0.5, rel=0.1)


def test_a_click_keeps_its_time() -> None:
    waveform = synthesis(looped(clicks(61)), seeded())[0]
    loudest = int(waveform.abs()[: 25 * HOP_LENGTH].argmax())
    assert abs(loudest - 10 * HOP_LENGTH) < HOP_LENGTH


def test_more_iterations_are_more_accurate() -> None:
    mel = looped(music())
    qualities = ((0, 0, 0), (8, 0, 0), (8, 8, 0), (8, 8, 8), (STANDARD.halved, STANDARD.coarse, 16))
    errors = [spectral_convergence(mel, synthesis_of(*quality)(mel, seeded())) for quality in qualities]
    assert errors == sorted(errors, reverse=True)


@pytest.fixture(scope="module")
def seed_clips() -> dict[str, torch.Tensor]:
    return {name: synthesis(image_to_mel(load(name)), seeded()) for name in MUSICAL_SEEDS}


def test_the_seeds_are_as_accurate_as_in_the_benchmark(seed_clips: dict[str, torch.Tensor]) -> None:
    distances = [distance(image_to_mel(load(name)), looped(clip)) for name, clip in seed_clips.items()]
    assert np.mean([found.a for found in distances]) < 0.044
    assert np.mean([found.b for found in distances]) < 1.12
    assert np.mean([found.c for found in distances]) < 0.86


# Audible artefacts


def test_steady_noise_does_not_buzz() -> None:
    again = heard_again(hearing.noise())
    assert hearing.treble_modulation(again) < 0.02
    pulsed = again * (1 + 0.1 * np.sin(2 * np.pi * 50 * np.arange(again.size) / SAMPLE_RATE_HZ))
    assert hearing.treble_modulation(pulsed) > 0.08  # the measure detects an audible buzz


def test_a_click_has_little_pre_echo() -> None:
    again = heard_again(hearing.clicks())
    assert hearing.pre_echo_db(again) < -25
    assert hearing.click_width_ms(again) < 2


def test_a_high_tone_is_steady() -> None:
    assert hearing.tone_modulation(heard_again(hearing.tone(3000)), 3000) < 0.05


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_a_clip_starts_ends_and_loops_without_a_click(seed_clips: dict[str, torch.Tensor], name: str) -> None:
    clip = level(seed_clips[name])[0].double().numpy()
    assert hearing.seam_db(clip) < -70
    assert hearing.ends_db(clip) < -60


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_the_loop_has_no_gap(seed_clips: dict[str, torch.Tensor], name: str) -> None:
    """Apart from the fades of 1.5 ms, the seam is not quieter than the quietest moment within 100 ms around it."""
    clip = level(seed_clips[name])[0].double()
    around = torch.cat([clip[-2205:], clip[:2205]])
    energies = around.square().unfold(0, 300, 15).mean(dim=1)
    seam = around[2205 - 150 : 2205 + 150].square().mean()
    assert seam > 0.1 * energies.min()


def test_a_steady_tone_continues_across_the_seam() -> None:
    clip = synthesis_of(20, 8, 3)(looped(tone(440)), seeded())[0]
    joined = torch.cat([clip[-4410:], clip[:4410]]).double()
    at = torch.arange(len(joined), dtype=torch.float64) / SAMPLE_RATE_HZ
    turns = torch.exp(-2j * torch.pi * 440 * at)
    before, after = ((joined * turns)[part].mean() for part in (slice(500, 4000), slice(4820, 8320)))
    assert float((after / before).abs()) == pytest.approx(1, abs=0.05)
    assert abs(float((after / before).angle())) < 0.1


# The waveform


@pytest.mark.parametrize("columns", [1, 2, 3, 8, 9, 511, 512, 1024])
def test_an_image_of_any_width_gives_a_finite_waveform_of_the_exact_length(columns: int) -> None:
    image = np.random.default_rng(columns).integers(0, 256, (512, columns)).astype(np.uint8)
    waveform = synthesis_of(1, 1, 1)(image_to_mel(image), seeded())
    assert waveform.dtype == torch.float32
    assert waveform.shape == (1, (columns - 1) * HOP_LENGTH)  # 5.110 s for 512
    assert waveform.isfinite().all()
    assert columns == 1 or waveform.any()


@pytest.mark.parametrize("level", [0, 255])
def test_white_is_silence_and_black_a_finite_sound(level: int) -> None:
    waveform = synthesis(image_to_mel(np.full((512, 60), level, np.uint8)), seeded())
    assert waveform.isfinite().all()
    assert bool(waveform.any()) == (level == 0)


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, st.tuples(st.just(512), st.integers(1, 24)), fill=st.integers(0, 255)), st.integers(0, 4))
def test_any_image_gives_a_finite_waveform(image: NDArray[np.uint8], iterations: int) -> None:
    waveform = synthesis_of(iterations, iterations, iterations)(image_to_mel(image), seeded())
    assert waveform.shape == (1, (image.shape[1] - 1) * HOP_LENGTH)
    assert waveform.isfinite().all()


@pytest.mark.parametrize("row", [0, 100, 511])
def test_one_row_sounds_at_its_frequency(row: int) -> None:
    image = np.full((512, 60), 255, np.uint8)
    image[row] = 0
    waveform = synthesis(image_to_mel(image), seeded())
    assert waveform.isfinite().all()
    heard = analysis(waveform)[0].mean(dim=1)
    assert abs(int(heard.argmax()) - (511 - row)) <= (2 if row < 500 else 12)  # low filters overlap far


def test_the_same_seed_gives_the_same_bytes_in_any_thread_and_another_seed_different_ones() -> None:
    mel, before = looped(music(51)), torch.random.get_rng_state()
    first = synthesis(mel.requires_grad_(), seeded(7))
    assert not first.requires_grad
    assert torch.equal(first, Synthesis()(mel, seeded(7)))
    assert not torch.allclose(first, synthesis(mel, seeded(8)), atol=1e-3)
    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(first, pool.submit(synthesis, mel, seeded(7)).result())
    assert torch.equal(before, torch.random.get_rng_state())  # the global generator is not used


def test_the_number_of_threads_is_restored() -> None:
    mel = looped(music(21))
    torch.set_num_threads(2)
    synthesis(mel, seeded())
    assert torch.get_num_threads() == 2
    with pytest.raises(TypeError):
        Synthesis(quality=Quality(halved=1.5))(mel, seeded())  # type: ignore[arg-type]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("shape", [(512, 4), (1, 511, 4), (1, 512, 0), (2, 512, 4)])
def test_mel_amplitudes_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mel amplitudes are"):
        synthesis(torch.zeros(shape), seeded())
