"""The predictor of riffusion, called as the server calls it."""

import gc
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lib.audio.inverse import Synthesis
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import Analysis, image_to_mel, mel_to_image
from lib.errors import UserError
from predict_riffusion import Predictor as OwnPredictor

DEFAULTS: dict[str, Any] = {
    "prompt_a": "funky synth solo",
    "denoising": 0.75,
    "prompt_b": None,
    "alpha": 0.5,
    "num_inference_steps": 4,
    "seed_image_id": "vibes",
}


class Predictor(OwnPredictor):
    """The predictor, which keeps the metrics that the server would get."""

    metrics: dict[str, str | float]

    def record_metric(self, name: str, value: str | float) -> None:
        self.metrics[name] = value


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture
def output_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def metrics(predictor: Predictor) -> dict[str, str | float]:
    metrics: dict[str, str | float] = {}
    predictor.metrics = metrics
    return metrics


def test_a_clip_is_a_wav_and_its_spectrogram(predictor: Predictor, output_root: Path) -> None:
    output = predictor.run(**DEFAULTS)
    sound, rate = soundfile.read(output.audio)
    info = soundfile.info(output.audio)
    assert (info.format, info.subtype, info.channels, rate) == ("WAV", "PCM_16", 1, 44100)
    assert len(sound) == 225351  # 5.11 s
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(-0.1, abs=0.001)
    with Image.open(output.spectrogram) as picture:
        assert isinstance(picture, PngImageFile)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (512, 512))
        assert picture.text["prompt_a"] == "funky synth solo"
        assert picture.text["seed_image_id"] == "vibes"
        assert "prompt_b" not in picture.text
        assert picture.text["sample_rate_hz"] == "44100"
        pixels = np.array(picture)
    assert (pixels == pixels[:, :, :1]).all()


def test_the_picture_is_lossless(predictor: Predictor, output_root: Path) -> None:
    output = predictor.run(**{**DEFAULTS, "denoising": 0, "seed_image_id": "agile"})
    assert np.array_equal(np.array(Image.open(output.spectrogram))[:, :, 0], load("agile"))


@pytest.mark.parametrize("name", MUSICAL_SEEDS)
def test_without_denoising_one_hears_the_seed(predictor: Predictor, output_root: Path, name: str) -> None:
    """The clip, analysed again, shows the seed picture within the converter's own error."""
    output = predictor.run(**{**DEFAULTS, "denoising": 0, "seed_image_id": name})
    sound, _ = soundfile.read(output.audio, dtype="float32")
    seed = load(name)

    def error(waveform: NDArray[np.float32]) -> float:
        """Return the mean difference in levels between the picture of a sound and the seed's, its loudest set black."""
        again = mel_to_image(Analysis()(torch.from_numpy(waveform)[None], looped=True))
        return float(np.abs(again.astype(float) - mel_to_image(image_to_mel(seed))).mean())

    own = Synthesis(torch.device("cpu"))(image_to_mel(seed), torch.Generator().manual_seed(0))[0].numpy()
    assert error(own) < 4
    # Beyond it come 16 bits and the limiter, which turns the few loudest peaks down.
    assert error(sound) < error(own) + 1.5


def test_the_seed_is_logged_reported_and_makes_the_same_bytes_again(
    predictor: Predictor,
    output_root: Path,
    metrics: dict[str, str | float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = predictor.run(**DEFAULTS)
    files = [Path(path).read_bytes() for path in (output.audio, output.spectrogram)]
    logged = re.search(r"^Using seed: (\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert logged
    assert metrics["seed"] == int(logged[1])
    monkeypatch.setenv("RIFFUSION_SEED", logged[1])
    again = predictor.run(**DEFAULTS)
    assert [Path(path).read_bytes() for path in (again.audio, again.spectrogram)] == files


def test_without_a_seed_every_clip_is_another(predictor: Predictor, output_root: Path) -> None:
    assert Path(predictor.run(**DEFAULTS).audio).read_bytes() != Path(predictor.run(**DEFAULTS).audio).read_bytes()


def test_metrics_say_what_was_done(predictor: Predictor, output_root: Path, metrics: dict[str, str | float]) -> None:
    predictor.run(**DEFAULTS)
    assert metrics.keys() == {
        "seed",
        "steps",
        "model",
        *(f"seconds.{stage}" for stage in ("encode", "denoise", "decode", "sound")),
    }
    assert metrics["steps"] == 3
    assert metrics["model"] == "small"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_inference_steps", 0),
        ("num_inference_steps", 1001),
        ("num_inference_steps", 2.5),
        ("alpha", 1.1),
        ("alpha", float("nan")),
        ("seed_image_id", "unknown"),
        ("prompt_a", None),
        ("prompt_a", "x" * 100_000),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    with pytest.raises(UserError, match=f"^{name} is .*, but must be "):
        predictor.run(**{**DEFAULTS, name: value})
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_bad_fixed_seed_is_refused(predictor: Predictor, output_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIFFUSION_SEED", "lucky")
    for call in (lambda: predictor.run(**DEFAULTS), Predictor().setup):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value) == "RIFFUSION_SEED is 'lucky', but must be a whole number from 0 to 4294967295"


@contextmanager
def full_disk() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_nothing_says_where_and_the_next_run_works(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"No file can be written in {output_root}: File too large. Make room"
    with full_disk(), pytest.raises(UserError, match=sentence):
        predictor.run(**DEFAULTS)
    assert list(output_root.iterdir()) == []
    assert "Traceback" not in capsys.readouterr().err
    assert Path(predictor.run(**DEFAULTS).audio).exists()


def test_a_cancelled_run_stops_at_the_evaluation_and_leaves_nothing(predictor: Predictor, output_root: Path) -> None:
    evaluations: list[int] = []

    def cancel(*_: object) -> None:
        evaluations.append(1)
        raise KeyboardInterrupt

    hook = predictor.models.unet.register_forward_hook(cancel)
    try:
        with pytest.raises(KeyboardInterrupt):
            predictor.run(**DEFAULTS)
    finally:
        hook.remove()
    assert len(evaluations) == 1
    assert list(output_root.iterdir()) == []


@pytest.mark.limits
def test_runs_do_not_accumulate_memory_or_files(predictor: Predictor, output_root: Path) -> None:
    process = psutil.Process()
    for n in range(20):
        predictor.run(**{**DEFAULTS, "num_inference_steps": 2})
        if n == 2:
            gc.collect()
            before = process.memory_info().rss
    gc.collect()
    assert process.memory_info().rss - before < 50e6
    assert len([path for path in output_root.rglob("*") if path.is_file()]) == 2
