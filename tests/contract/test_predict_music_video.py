"""music-video's predictor, called as the server calls it."""

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from lib.errors import UserError
from predict_music_video import Predictor as OwnPredictor
from tests.contract.predicting import Clip, KeepsMetrics, cancelled, files_of, full_disk, make_clip
from tests.lib.audio.test_beats import drums

SECONDS = 0.53
DEFAULTS: dict[str, Any] = {
    "audio": None,
    "audio_start_s": 0.25,
    "max_frames": None,
    "animation_prompts": "0: a red circle | 1b: a blue square",
    "angle": "0:(3*beat)",
    "zoom": "0: (1.01 + 0.08*onset)",
    "translation_x": "0: (0)",
    "translation_y": "0: (0)",
    "strength": "0: (0.5)",
    "noise": "0: (0.02)",
    "guidance_scale": "0: (7)",
    "negative_prompt": None,
    "prompt_blend": 0,
    "bpm": 120.0,
    "timeline": None,
    "init_image": None,
    "cadence": 2,
    "border": "reflect",
    "color_coherence": "Match Frame 0 LAB",
    "sampler": "euler",
    "num_inference_steps": 2,
    "width": 256,
    "height": 320,
    "fps": 15,
    "seed": 5,
}


class Predictor(KeepsMetrics, OwnPredictor):
    """music-video's predictor."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("song") / "song.ogg"
    soundfile.write(path, drums(120, 0.25, 0.25 + SECONDS)[0], 44_100)
    return {**DEFAULTS, "audio": path}


@pytest.fixture(scope="module")
def film(predictor: Predictor, inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make_clip(predictor, tmp_path_factory.mktemp("film"), inputs)


def test_a_film_has_its_frames_its_sound_and_its_settings(film: Clip) -> None:
    with av.open(io.BytesIO(film.files[0]), "r") as file:
        settings = json.loads(file.metadata["comment"])
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.frames) == (256, 320, 8)
        for stream in (video, audio):
            assert stream.duration is not None
            assert stream.time_base is not None
            assert float(stream.duration * stream.time_base) == pytest.approx(8 / 15, abs=0.001)
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(audio)], axis=1)
    assert settings == {name: value for name, value in DEFAULTS.items() if value is not None} | {
        "audio": "song.ogg",
        "max_frames": 8,
    }
    assert np.abs(samples[0, :4000]).max() > 0.3  # the kick at 0.25 s of the song is the film's beginning


def test_the_metrics_describe_the_run(film: Clip) -> None:
    stages = {f"seconds.{stage}" for stage in ("analysis", "motion", "encode", "denoise", "decode", "video")}
    assert film.metrics.keys() == {"seed", "frames", "steps", "bpm", "model", *stages}
    assert (film.metrics["seed"], film.metrics["frames"], film.metrics["bpm"]) == (5, 8, 120)
    assert film.metrics["steps"] == 2 + 4 * 1  # of the frames 0, 2, 4, 6 and 7
    assert "Using seed: 5" in film.log


def test_a_seed_gives_the_same_film_again(
    predictor: Predictor, inputs: dict[str, Any], output_root: Path, film: Clip
) -> None:
    assert files_of(predictor.run(**inputs)) == film.files
    assert files_of(predictor.run(**{**inputs, "seed": None})) != film.files


def test_an_invalid_input_is_rejected_before_any_work(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^width is 300, but must be a multiple of 64$"):
        predictor.run(**{**DEFAULTS, "width": 300})
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_full_disk_is_reported_and_leaves_nothing(
    predictor: Predictor, inputs: dict[str, Any], output_root: Path
) -> None:
    with full_disk(), pytest.raises(UserError, match="File too large"):
        predictor.run(**inputs)
    assert list(output_root.iterdir()) == []


def test_a_cancelled_run_stops_at_once_and_leaves_nothing(
    predictor: Predictor, inputs: dict[str, Any], output_root: Path
) -> None:
    with cancelled(predictor, 1):
        predictor.run(**inputs)
    assert list(output_root.iterdir()) == []
