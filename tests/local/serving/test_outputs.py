"""A client gets files that open, made with the documented defaults, progress that it can parse, and metrics."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile
from PIL import Image

from local.inputs import inputs_of
from tests.local.serving.client import Client
from tests.local.serving.conftest import serving

PROGRESS = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)", re.MULTILINE)  # as clients of these models parse it
RIFFUSION_STAGES = {"encode", "denoise", "decode", "sound"}
DEFORUM_STAGES = {"encode", "denoise", "decode", "motion", "video"}


def decoded(url: str, media_type: str) -> io.BytesIO:
    """Return the content of a data URL."""
    header, comma, content = url.partition(",")
    assert (header, comma) == (f"data:{media_type};base64", ",")
    return io.BytesIO(base64.b64decode(content, validate=True))


def defaults(model: str) -> dict[str, Any]:
    return {name: one.default for name, one in inputs_of(model).items() if one.default is not None}


def check_progress(logs: str) -> None:
    lines = [tuple(map(int, match)) for match in PROGRESS.findall(logs)]
    assert len(lines) == logs.count("%|")
    percents, counts, totals = zip(*lines, strict=True)
    assert list(counts) == sorted(set(counts))
    assert list(percents) == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert set(totals) == {counts[-1]}


def check_metrics(prediction: dict[str, Any], stages: set[str]) -> None:
    metrics = prediction["metrics"]
    assert metrics["model"] == "small"
    assert f"Using seed: {metrics['seed']}\n" in prediction["logs"]
    assert metrics["seconds"].keys() == stages
    assert all(seconds >= 0 for seconds in metrics["seconds"].values())
    assert sum(metrics["seconds"].values()) <= metrics["predict_time"]


def test_walk_returns_sound_picture_and_beats(clients: dict[str, Client]) -> None:
    prediction = clients["walk"].predict(bars=2, num_inference_steps=2, output_format="mp3", seed=3)
    output = prediction["output"]
    assert output.keys() == {"audio", "spectrogram", "timeline"}
    with av.open(decoded(output["audio"], "audio/mpeg"), "r") as sound:
        assert sum(frame.samples for frame in sound.decode(audio=0)) == 225_351
    assert [bar["bar"] for bar in json.load(decoded(output["timeline"], "application/json"))["bars"]] == [0, 1]
    check_progress(prediction["logs"])
    check_metrics(prediction, RIFFUSION_STAGES)


def test_riffusion_without_inputs_uses_the_documented_defaults(riffusion: Client) -> None:
    prediction = riffusion.predict()
    assert prediction["status"] == "succeeded"
    assert prediction["output"].keys() == {"audio", "spectrogram"}
    with Image.open(decoded(prediction["output"]["spectrogram"], "image/png")) as picture:
        assert (picture.format, picture.size) == ("PNG", (512, 512))
        text = dict(picture.info)
    settings = {**defaults("riffusion"), "seed": prediction["metrics"]["seed"]}
    assert {name: str(value) for name, value in settings.items()}.items() <= text.items()
    with soundfile.SoundFile(decoded(prediction["output"]["audio"], "audio/x-wav")) as sound:
        assert (sound.format, sound.subtype, sound.channels, sound.samplerate) == ("WAV", "PCM_16", 1, 44100)
        assert sound.frames / sound.samplerate == pytest.approx(5.11, abs=0.01)
        assert json.loads(sound.comment) == {name: str(value) for name, value in settings.items()}
    check_progress(prediction["logs"])
    check_metrics(prediction, RIFFUSION_STAGES)
    assert prediction["metrics"]["steps"] == 37


def check_deforum(prediction: dict[str, Any], size_px: int, steps: int) -> None:
    assert prediction["status"] == "succeeded"
    with av.open(decoded(prediction["output"], "video/mp4"), "r") as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate is not None
        assert float(stream.average_rate) == 15
        assert (stream.width, stream.height) == (size_px, size_px)
        settings = json.loads(video.metadata["comment"])
        assert len(list(video.decode(stream))) == 100
    assert settings == {**defaults("deforum"), "seed": prediction["metrics"]["seed"]}
    check_progress(prediction["logs"])
    check_metrics(prediction, DEFORUM_STAGES)
    assert (prediction["metrics"]["frames"], prediction["metrics"]["steps"]) == (100, steps)


def test_deforum_without_inputs_uses_the_documented_defaults(deforum: Client) -> None:
    check_deforum(deforum.predict(), size_px=64, steps=10 + 99)


@pytest.mark.slow
def test_a_whole_animation(tmp_path: Path) -> None:
    with serving(tmp_path, quick=False) as clients:
        check_deforum(clients["deforum"].predict(), size_px=512, steps=50 + 99 * 17)


def test_whole_numbers_may_be_written_with_a_fraction(riffusion: Client) -> None:
    prediction = riffusion.predict(num_inference_steps=3.0, denoising=1, alpha=0, prompt_b="drums")
    assert (prediction["status"], prediction["metrics"]["steps"]) == ("succeeded", 3)
    with Image.open(decoded(prediction["output"]["spectrogram"], "image/png")) as picture:
        assert (picture.info["num_inference_steps"], picture.info["denoising"]) == ("3", "1.0")


def test_unknown_inputs_are_ignored(riffusion: Client) -> None:
    assert riffusion.predict(denoising=0, width=1024, motto="x")["status"] == "succeeded"
