"""The predictor of deforum, called as the server calls it."""

import json
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from lib.deforum import Recipe
from lib.deforum_request import Inputs
from lib.errors import UserError
from lib.progress import Stages
from predict_deforum import Predictor as OwnPredictor
from tests.lib.test_progress import CLIENTS_PATTERN

DEFAULTS: dict[str, Any] = {
    "max_frames": 3,
    "animation_prompts": "0: a red circle | 1: a blue square",
    "angle": "0:(0)",
    "zoom": "0: (1.04)",
    "translation_x": "0: (0)",
    "translation_y": "0: (10*sin(2*pi*t/10))",
    "color_coherence": "Match Frame 0 LAB",
    "sampler": "plms",
    "fps": 15,
    "seed": 7,
}
STEPS = 50 + 2 * 17
EVALUATIONS = 51 + 2 * 18  # of plms in three frames


class FullPredictor(OwnPredictor):
    """The predictor, which keeps the metrics that the server would get."""

    metrics: dict[str, str | float]

    def record_metric(self, name: str, value: str | float) -> None:
        self.metrics[name] = value


class Predictor(FullPredictor):
    """The same for a few small frames."""

    # Not below 128: from rows of less than 8 macroblocks, x264's assembly reads on into whatever memory holds there
    # (with mbtree and B-frames), and the same frames may give other bytes.
    recipe = Recipe(size_px=128)
    min_frames = 3


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor()
    predictor.setup()
    return predictor


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def output_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def metrics(predictor: Predictor) -> dict[str, str | float]:
    metrics: dict[str, str | float] = {}
    predictor.metrics = metrics
    return metrics


@pytest.fixture
def evaluated(predictor: Predictor) -> Iterator[list[int]]:
    """Return a list that gets an entry for each evaluation of the UNet, and for each text that is encoded."""
    evaluated: list[int] = []
    models = predictor.models
    hooks = [part.register_forward_hook(lambda *_: evaluated.append(1)) for part in (models.unet, models.text_encoder)]
    yield evaluated
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(("max_frames", "fps"), [(3, 10), (5, 23)])
def test_a_clip_is_an_mp4_of_max_frames_frames_at_fps(
    predictor: Predictor, output_root: Path, max_frames: int, fps: int
) -> None:
    path = Path(predictor.run(**{**DEFAULTS, "max_frames": max_frames, "fps": fps}))
    assert path.suffix == ".mp4"
    with av.open(path) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == stream.base_rate == fps
        assert stream.frames == max_frames
        times_s = [frame.time for frame in container.decode(video=0)]
    assert times_s == pytest.approx([n / fps for n in range(max_frames)])


def test_the_clip_shows_the_frames(predictor: Predictor, output_root: Path) -> None:
    with av.open(predictor.run(**DEFAULTS)) as container:
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    request = Inputs(**DEFAULTS).request(predictor.min_frames)
    with torch.inference_mode():
        made = list(predictor.deforum.frames(request, Stages(predictor.models.device)))
    assert len(seen) == len(made) == 3
    likeness = np.corrcoef([frame.mean(axis=2).ravel() for frame in (*seen, *made)])[:3, 3:]
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2]
    assert likeness.diagonal().min() > 0.9


def test_settings_and_seed_are_in_the_metadata(predictor: Predictor, output_root: Path) -> None:
    with av.open(predictor.run(**DEFAULTS)) as container:
        assert json.loads(container.metadata["comment"]) == DEFAULTS


def test_without_a_seed_one_is_drawn_logged_reported_and_makes_the_same_bytes_again(
    predictor: Predictor, output_root: Path, metrics: dict[str, str | float], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(predictor.run(**{**DEFAULTS, "seed": None}))
    clip = path.read_bytes()
    logged = re.search(r"^Using seed: (\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert logged
    seed = int(logged[1])
    assert 0 <= seed < 2**32
    assert metrics["seed"] == seed
    with av.open(path) as container:
        assert json.loads(container.metadata["comment"])["seed"] == seed
    assert Path(predictor.run(**{**DEFAULTS, "seed": seed})).read_bytes() == clip
    assert Path(predictor.run(**{**DEFAULTS, "seed": None})).read_bytes() != clip


def test_seed_0_is_one_like_any_other(
    predictor: Predictor, output_root: Path, metrics: dict[str, str | float], capsys: pytest.CaptureFixture[str]
) -> None:
    clip = Path(predictor.run(**{**DEFAULTS, "seed": 0})).read_bytes()
    assert metrics["seed"] == 0
    assert "Using seed: 0\n" in capsys.readouterr().out
    assert Path(predictor.run(**{**DEFAULTS, "seed": 0})).read_bytes() == clip


def test_progress_rises_to_the_end_in_lines_that_clients_parse(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor.run(**DEFAULTS)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "Using seed: 7"
    matches = [CLIENTS_PATTERN.match(line) for line in lines]
    assert None not in matches
    done = [int(match[2]) for match in matches if match]
    assert done[0] == 0
    assert done == sorted(set(done))
    assert f"{STEPS}/{STEPS} [" in lines[-1]


def test_metrics_say_what_was_done(predictor: Predictor, output_root: Path, metrics: dict[str, str | float]) -> None:
    predictor.run(**DEFAULTS)
    stages = {f"seconds.{stage}" for stage in ("motion", "encode", "denoise", "decode", "video")}
    assert metrics.keys() == {"seed", "frames", "steps", "model", *stages}
    assert (metrics["frames"], metrics["steps"], metrics["model"]) == (3, 50 + 2 * 17, "small")
    assert all(float(str(metrics[stage])) >= 0 for stage in stages)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_frames", 2),
        ("max_frames", 1001),
        ("animation_prompts", "0: a | 4: b"),
        ("animation_prompts", None),
        ("angle", "0:(__import__('os'))"),
        ("zoom", "0:(0)"),
        ("translation_x", "0"),
        ("translation_y", "0:(1/0)"),
        ("color_coherence", "LAB"),
        ("sampler", "k_euler"),
        ("fps", 61),
        ("seed", -1),
    ],
)
def test_bad_input_is_refused_before_any_work(
    predictor: Predictor,
    output_root: Path,
    evaluated: list[int],
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: object,
) -> None:
    with pytest.raises(UserError) as error:
        predictor.run(**{**DEFAULTS, name: value})
    (problem,) = error.value.problems
    assert problem.startswith(name)
    assert evaluated == []
    assert list(output_root.iterdir()) == []
    assert capsys.readouterr() == ("", "")


class CancelledError(BaseException):
    """What a server raises in the middle of a run: no Exception."""


@contextmanager
def cancelled(predictor: Predictor, after: int) -> Iterator[None]:
    """Cancel the run within after so many evaluations."""
    evaluations: list[int] = []

    def cancel(*_: object) -> None:
        evaluations.append(1)
        if len(evaluations) == after:
            raise CancelledError

    hook = predictor.models.unet.register_forward_hook(cancel)
    try:
        with pytest.raises(CancelledError):
            yield
    finally:
        hook.remove()


@pytest.mark.parametrize("after", [1, 30, 60, EVALUATIONS])
def test_a_cancelled_run_stops_at_the_evaluation_and_leaves_nothing(
    predictor: Predictor, output_root: Path, evaluated: list[int], after: int
) -> None:
    with cancelled(predictor, after):
        predictor.run(**DEFAULTS)
    texts = 1 if after <= 51 else 2
    assert len(evaluated) == after + texts
    assert list(output_root.iterdir()) == []


def test_the_run_after_a_cancelled_one_works_as_ever(predictor: Predictor, output_root: Path) -> None:
    clip = Path(predictor.run(**DEFAULTS)).read_bytes()
    with cancelled(predictor, 5):
        predictor.run(**DEFAULTS)
    assert Path(predictor.run(**DEFAULTS)).read_bytes() == clip


def test_a_full_disk_leaves_nothing_says_where_and_the_next_run_works(
    predictor: Predictor, output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            predictor.run(**DEFAULTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(output_root.iterdir()) == []
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "write_mp4" in printed
    assert Path(predictor.run(**DEFAULTS)).exists()


def test_only_the_last_run_is_kept(predictor: Predictor, output_root: Path) -> None:
    for _ in range(3):
        path = Path(predictor.run(**DEFAULTS))
    assert [found for found in output_root.rglob("*") if found.is_file()] == [path]


@pytest.mark.slow
def test_the_shortest_documented_run_has_100_frames_of_512_pixels(
    output_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = FullPredictor()
    predictor.setup()
    predictor.metrics = {}
    path = Path(predictor.run(**{**DEFAULTS, "max_frames": 100}))
    with av.open(path) as container:
        assert container.streams.video[0].average_rate == 15
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(512, 512)] * 100
    assert predictor.metrics["frames"] == 100
    assert predictor.metrics["steps"] == 50 + 99 * 17
    assert "1733/1733 [" in capsys.readouterr().out.splitlines()[-1]
