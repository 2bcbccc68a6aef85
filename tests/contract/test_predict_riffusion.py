"""The face of riffusion, called as the server calls it."""

import gc
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch
from PIL import Image

from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import Analysis, image_to_mel, mel_to_image
from lib.errors import UserError
from predict_riffusion import Predictor

DEFAULTS = {
    "prompt_a": "funky synth solo",
    "denoising": 0.75,
    "prompt_b": None,
    "alpha": 0.5,
    "num_inference_steps": 4,
    "seed_image_id": "vibes",
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture
def output_root(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def metrics(monkeypatch) -> dict[str, object]:
    recorded: dict[str, object] = {}
    monkeypatch.setattr(Predictor, "record_metric", lambda _self, name, value: recorded.update({name: value}))
    return recorded


def test_a_clip_is_a_wav_and_its_spectrogram(predictor: Predictor, output_root: Path) -> None:
    output = predictor.run(**DEFAULTS)
    sound, rate = soundfile.read(output.audio)
    info = soundfile.info(output.audio)
    assert (info.format, info.subtype, info.channels, rate) == ("WAV", "PCM_16", 1, 44100)
    assert len(sound) == 225351  # 5.11 s
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(-0.1, abs=0.001)
    with Image.open(output.spectrogram) as picture:
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

    def error(waveform: np.ndarray) -> float:
        """Return the mean difference in levels between the picture of a sound and the seed's, its loudest set black."""
        again = mel_to_image(Analysis()(torch.from_numpy(waveform)[None]))
        return float(np.abs(again.astype(float) - mel_to_image(image_to_mel(seed))).mean())

    own = predictor.synthesis(image_to_mel(seed), torch.Generator().manual_seed(0))[0].numpy()
    assert error(own) < 4
    # Beyond it come 16 bits and the limiter, which bends the few loudest peaks.
    assert error(sound) < error(own) + 1.5


def test_the_seed_is_logged_reported_and_makes_the_same_bytes_again(
    predictor: Predictor, output_root: Path, metrics, monkeypatch, capsys
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


def test_metrics_say_what_was_done(predictor: Predictor, output_root: Path, metrics) -> None:
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
    predictor: Predictor, output_root: Path, capsys, name: str, value: object
) -> None:
    with pytest.raises(UserError, match=f"^{name} is .*, but must be "):
        predictor.run(**{**DEFAULTS, name: value})
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_bad_fixed_seed_is_refused(predictor: Predictor, output_root: Path, monkeypatch) -> None:
    monkeypatch.setenv("RIFFUSION_SEED", "lucky")
    for call in (predictor.setup, lambda: predictor.run(**DEFAULTS)):
        with pytest.raises(
            UserError, match=r"^RIFFUSION_SEED is 'lucky', but must be a whole number from 0 to 4294967295$"
        ):
            call()


@pytest.mark.parametrize("level", [0, 255])
def test_a_black_and_a_white_picture_become_files(predictor: Predictor, output_root: Path, monkeypatch, level) -> None:
    monkeypatch.setattr("lib.riffusion.load", lambda _name: np.full((512, 512), level, dtype=np.uint8))
    sound, _ = soundfile.read(predictor.run(**{**DEFAULTS, "denoising": 0}).audio)
    assert np.isfinite(sound).all()
    assert (np.abs(sound).max() == 0) == (level == 255)


def test_a_failing_run_leaves_nothing_says_where_and_the_next_one_works(
    predictor: Predictor, output_root: Path, monkeypatch, capsys
) -> None:
    def full_disk(*_args: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("predict_riffusion.write_png", full_disk)
        with pytest.raises(OSError, match="No space left"):
            predictor.run(**DEFAULTS)
    assert list(output_root.iterdir()) == []
    assert "Traceback" in capsys.readouterr().err
    assert Path(predictor.run(**DEFAULTS).audio).exists()


def test_a_cancelled_run_stops_at_the_next_evaluation_and_leaves_nothing(
    predictor: Predictor, output_root: Path, monkeypatch
) -> None:
    evaluations = []

    def cancelled(_self: object) -> None:
        evaluations.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.progress.Progress.advance", cancelled)
    with pytest.raises(KeyboardInterrupt):
        predictor.run(**DEFAULTS)
    assert len(evaluations) == 1
    assert list(output_root.iterdir()) == []


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
