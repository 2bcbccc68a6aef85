import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from lib.audio.encode import MAX_WIDTH_PX, PARAMETERS, write_png, write_sound
from tests.lib.conftest import files_of_at_most


def clip() -> torch.Tensor:
    """Return a second of noise with a peak of -0.1 dB."""
    waveform = torch.randn(1, 44100, generator=torch.Generator().manual_seed(0))
    return waveform / waveform.abs().max() * 10 ** (-0.1 / 20)


def in_db(amplitude: float) -> float:
    return float(20 * np.log10(amplitude))


def test_a_wav_is_44_1_khz_mono_16_bit_and_can_be_read_back(tmp_path: Path) -> None:
    waveform = clip()
    settings = {"prompt_a": "café 音楽, (funky:1.3)\nand more", "seed": "42"}
    write_sound(tmp_path / "clip.wav", [waveform], settings)
    info = soundfile.info(tmp_path / "clip.wav")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 44100, 1)
    samples, _ = soundfile.read(tmp_path / "clip.wav", dtype="int16")
    assert np.abs(samples - waveform[0].numpy() * 32767).max() < 0.51
    assert in_db(np.abs(samples).max() / 32767) == pytest.approx(-0.1, abs=0.001)
    with soundfile.SoundFile(tmp_path / "clip.wav") as file:
        assert json.loads(file.comment) == settings
    assert (tmp_path / "clip.wav").read_bytes()[36:40] == b"data"  # the plain header of 44 bytes


@pytest.mark.parametrize("samples", [0, 101])
def test_ffmpeg_can_read_settings_of_any_length(tmp_path: Path, samples: int) -> None:
    settings = {"prompt_a": "音" * 4000}
    write_sound(tmp_path / "clip.wav", [torch.zeros(1, samples)], settings)
    with av.open(tmp_path / "clip.wav") as container:
        assert json.loads(container.metadata["comment"]) == settings
    assert soundfile.info(tmp_path / "clip.wav").frames == samples


@pytest.mark.parametrize(
    "waveform", [torch.zeros(2, 10), torch.zeros(10), torch.tensor([[1.01]]), torch.tensor([[float("nan")]])]
)
def test_a_waveform_that_a_wav_can_not_hold_is_an_error(tmp_path: Path, waveform: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="waveform"):
        write_sound(tmp_path / "clip.wav", [waveform], {})
    assert list(tmp_path.iterdir()) == []


def test_a_png_is_lossless_rgb_with_equal_channels_and_its_text(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    metadata = {"prompt_a": "café 音楽, (funky:1.3)\nand more", "seed": "42"}
    write_png(tmp_path / "spectrogram.png", image, metadata)
    with Image.open(tmp_path / "spectrogram.png") as png:
        png.load()
        assert (png.format, png.mode, png.size) == ("PNG", "RGB", (512, 512))
        assert all(np.array_equal(np.asarray(channel), image) for channel in png.split())
        assert png.info == metadata | PARAMETERS
    assert (PARAMETERS["sample_rate_hz"], PARAMETERS["hop_length"]) == ("44100", "441")


def test_an_image_that_browsers_could_not_draw_is_averaged_along_time(tmp_path: Path) -> None:
    image = np.tile(np.array([10, 30], np.uint8), (512, MAX_WIDTH_PX))
    write_png(tmp_path / "spectrogram.png", image, {})
    with Image.open(tmp_path / "spectrogram.png") as png:
        assert png.size == (MAX_WIDTH_PX, 512)
        assert np.all(np.asarray(png) == 20)
        assert png.info["columns_per_pixel"] == "2"


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_pieces_become_one_file_of_exactly_their_length(tmp_path: Path, kind: str) -> None:
    waveform, path = torch.sin(torch.arange(100_000) * 0.05)[None] / 2, tmp_path / f"clip.{kind}"
    write_sound(path, waveform.tensor_split([1000, 50_000], dim=1), {"prompts": "0: é"})
    with av.open(path) as container:
        assert json.loads(container.metadata["comment"]) == {"prompts": "0: é"}
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert heard.shape == waveform.shape
    if kind == "flac":
        np.testing.assert_allclose(heard / 32767, waveform, atol=1 / 65000)
    else:
        assert np.corrcoef(heard[0], waveform[0])[0, 1] > 0.98


def write_some(path: Path) -> None:
    if path.suffix == ".png":
        write_png(path, np.random.default_rng(0).integers(0, 256, (512, 64)).astype(np.uint8), {})
    else:
        write_sound(path, [clip()], {})


@pytest.mark.parametrize("name", ["file.wav", "file.flac", "file.mp3", "file.png"])
def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"earlier")
    with files_of_at_most(4096), pytest.raises(OSError, match="too large"):
        write_some(tmp_path / name)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"earlier")]
