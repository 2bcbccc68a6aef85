"""Walk's predictor, called as the server calls it."""

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from lib.errors import UserError
from lib.walk_request import CLIP_SAMPLES
from predict_walk import Predictor as OwnPredictor
from tests.contract.predicting import Clip, KeepsMetrics, cancelled, files_of, full_disk, make_clip

DEFAULTS: dict[str, Any] = {
    "prompts": "0: church bells | 1: drums and bass",
    "bars": 2,
    "start_bar": 0,
    "seed": 5,
    "denoising": 0.75,
    "guidance_scale": 7.0,
    "negative_prompt": None,
    "num_inference_steps": 2,
    "seed_image_id": "vibes",
    "seed_audio": None,
    "seed_drift": 0.0,
    "loop": True,
    "output_format": "mp3",
}


class Predictor(KeepsMetrics, OwnPredictor):
    """Walk's predictor."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture(scope="module")
def walk(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make_clip(predictor, tmp_path_factory.mktemp("walk"), DEFAULTS)


def test_a_walk_is_a_sound_its_spectrogram_and_its_timeline(walk: Clip) -> None:
    sound, spectrogram, timeline = walk.files
    with av.open(io.BytesIO(sound), "r") as file:
        heard = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
        assert json.loads(file.metadata["comment"])["prompts"] == DEFAULTS["prompts"]
    assert heard.shape == (1, CLIP_SAMPLES)
    with Image.open(io.BytesIO(spectrogram)) as picture:
        assert picture.size == (511, 512)
        assert picture.info["seed"] == "5"
    assert [bar["prompt"] for bar in json.loads(timeline)["bars"]] == ["church bells", "drums and bass"]


def test_the_metrics_describe_the_run(walk: Clip) -> None:
    stages = {f"seconds.{stage}" for stage in ("encode", "denoise", "decode", "sound")}
    assert walk.metrics.keys() == {"seed", "bars", "steps", "model", *stages}
    assert (walk.metrics["seed"], walk.metrics["bars"], walk.metrics["steps"]) == (5, 2, 1)
    assert "Using seed: 5" in walk.log


def test_a_seed_gives_the_same_files_again(predictor: Predictor, output_root: Path, walk: Clip) -> None:
    assert files_of(predictor.run(**DEFAULTS)) == walk.files
    assert files_of(predictor.run(**{**DEFAULTS, "seed": None})) != walk.files


def test_the_seeds_sound_arrives_as_a_path(predictor: Predictor, output_root: Path) -> None:
    soundfile.write(output_root / "a.wav", np.sin(np.arange(CLIP_SAMPLES) / 10), 44_100)
    output = predictor.run(**{**DEFAULTS, "seed_audio": output_root / "a.wav", "output_format": "flac"})
    assert soundfile.info(output.audio).frames == CLIP_SAMPLES


def test_an_invalid_input_is_rejected_before_any_work(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^bars is 1, but must be "):
        predictor.run(**{**DEFAULTS, "bars": 1})
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_full_disk_is_reported_and_leaves_nothing(predictor: Predictor, output_root: Path) -> None:
    with full_disk(), pytest.raises(UserError, match="File too large"):
        predictor.run(**DEFAULTS)
    assert list(output_root.iterdir()) == []


def test_a_cancelled_run_stops_at_once_and_leaves_nothing(predictor: Predictor, output_root: Path) -> None:
    with cancelled(predictor, 1):
        predictor.run(**DEFAULTS)
    assert list(output_root.iterdir()) == []
