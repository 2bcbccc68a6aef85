"""Riffusion's predictor, called as the server calls it."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lib.audio.seed_images import load
from lib.audio.spectrogram import Analysis, image_to_mel, mel_to_image
from lib.errors import UserError
from predict_riffusion import Predictor as OwnPredictor
from tests.contract.predicting import Clip, KeepsMetrics, cancelled, files_of, full_disk, make_clip

DEFAULTS: dict[str, Any] = {
    "prompt_a": "funky synth solo",
    "denoising": 0.75,
    "prompt_b": None,
    "alpha": 0.5,
    "num_inference_steps": 4,
    "seed_image_id": "vibes",
}


class Predictor(KeepsMetrics, OwnPredictor):
    """Riffusion's predictor."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture(scope="module")
def clip(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Make the clip that several tests look at, with a random seed."""
    return make_clip(predictor, tmp_path_factory.mktemp("clip"), DEFAULTS)


def test_a_clip_is_a_wav_and_its_spectrogram(clip: Clip) -> None:
    with soundfile.SoundFile(io.BytesIO(clip.files[0])) as file:
        assert (file.format, file.subtype, file.channels, file.samplerate) == ("WAV", "PCM_16", 1, 44100)
        sound = file.read()
    assert len(sound) == 225351  # 5.11 s
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(-0.1, abs=0.001)
    with Image.open(io.BytesIO(clip.files[1])) as picture:
        assert isinstance(picture, PngImageFile)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (512, 512))
        assert picture.text["prompt_a"] == "funky synth solo"
        assert picture.text["seed_image_id"] == "vibes"
        assert "prompt_b" not in picture.text
        assert picture.text["sample_rate_hz"] == "44100"
        pixels = np.array(picture)
    assert (pixels == pixels[:, :, :1]).all()


def test_the_metrics_describe_the_run(clip: Clip) -> None:
    stages = {f"seconds.{stage}" for stage in ("encode", "denoise", "decode", "sound")}
    assert clip.metrics.keys() == {"seed", "steps", "model", *stages}
    assert clip.metrics["steps"] == 3
    assert clip.metrics["model"] == "small"


def test_the_seed_is_logged_and_reported_and_gives_the_same_files_again(
    predictor: Predictor, output_root: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = re.search(r"^Using seed: (\d+)$", clip.log, re.MULTILINE)
    assert logged
    assert clip.metrics["seed"] == int(logged[1])
    monkeypatch.setenv("RIFFUSION_SEED", logged[1])
    assert files_of(predictor.run(**DEFAULTS)) == clip.files


def test_without_denoising_the_clip_is_the_seed_image(predictor: Predictor, output_root: Path) -> None:
    """The picture is the seed image, and so is that of the sound, but for what the synthesis and its limiter change."""
    output = predictor.run(**{**DEFAULTS, "denoising": 0, "seed_image_id": "marim"})
    seed = load("marim")
    assert np.array_equal(np.array(Image.open(output.spectrogram))[:, :, 0], seed)
    sound, _ = soundfile.read(output.audio, dtype="float32")
    again = mel_to_image(Analysis()(torch.from_numpy(sound)[None], looped=True))
    assert np.abs(again.astype(float) - mel_to_image(image_to_mel(seed))).mean() < 5.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_inference_steps", 1001), ("alpha", float("nan")), ("seed_image_id", "unknown"), ("prompt_a", None)),
    ],
)
def test_an_invalid_input_is_rejected_before_any_work(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    with pytest.raises(UserError, match=f"^{name} is .*, but must be "):
        predictor.run(**{**DEFAULTS, name: value})
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_an_invalid_seed_in_the_environment_is_rejected(
    predictor: Predictor, output_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIFFUSION_SEED", "lucky")
    for call in (lambda: predictor.run(**DEFAULTS), Predictor().setup):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value) == "RIFFUSION_SEED is 'lucky', but must be a whole number from 0 to 4294967295"


def test_a_full_disk_is_reported_and_leaves_nothing(
    predictor: Predictor, output_root: Path, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(), pytest.raises(UserError, match="File too large") as error:
        predictor.run(**DEFAULTS)
    assert str(output_root) in str(error.value)
    assert list(output_root.iterdir()) == []
    assert "Traceback" not in capsys.readouterr().err
    assert files_of(predictor.run(**DEFAULTS)) != clip.files  # every run without a seed draws another one


def test_a_cancelled_run_stops_at_once_and_leaves_nothing(predictor: Predictor, output_root: Path) -> None:
    with cancelled(predictor, 1):
        predictor.run(**DEFAULTS)
    assert list(output_root.iterdir()) == []
