"""Deforum's predictor, called as the server calls it."""

import io
import json
import re
import threading
from collections.abc import Iterator
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
from tests.contract.predicting import Clip, KeepsMetrics, cancelled, full_disk, make_clip
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
STEPS = 15 + 2 * 5  # of three frames
EVALUATIONS = 16 + 2 * 6  # by plms


class Predictor(KeepsMetrics, OwnPredictor):
    """Deforum's predictor for a few small frames of few steps."""

    # Not below 128: with rows of fewer than 8 macroblocks, x264's assembly reads beyond them (with mbtree and
    # B-frames), so the same frames may give different bytes.
    recipe = Recipe(size_px=128, steps=15)
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


@pytest.fixture(scope="module")
def clip(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make_clip(predictor, tmp_path_factory.mktemp("clip"), DEFAULTS)


@pytest.fixture
def evaluated(predictor: Predictor) -> Iterator[list[int]]:
    """Return a list that gets an entry for each evaluation of the UNet, and for each encoded text."""
    evaluated: list[int] = []
    models = predictor.models
    hooks = [part.register_forward_hook(lambda *_: evaluated.append(1)) for part in (models.unet, models.text_encoder)]
    yield evaluated
    for hook in hooks:
        hook.remove()


def test_a_clip_is_an_mp4_with_max_frames_frames_at_fps(predictor: Predictor, output_root: Path) -> None:
    path = Path(predictor.run(**{**DEFAULTS, "max_frames": 4, "fps": 23}))
    assert path.suffix == ".mp4"
    with av.open(path) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == stream.base_rate == 23
        assert stream.frames == 4
        times_s = [frame.time for frame in container.decode(video=0)]
    assert times_s == pytest.approx([n / 23 for n in range(4)])


def test_the_clip_shows_the_frames_and_has_the_settings(predictor: Predictor, clip: Clip) -> None:
    with av.open(io.BytesIO(clip.files[0]), "r") as container:
        assert json.loads(container.metadata["comment"]) == DEFAULTS
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    request = Inputs(**DEFAULTS).request(predictor.min_frames)
    with torch.inference_mode():
        made = list(predictor.deforum.frames(request, Stages(predictor.models.device)))
    assert len(seen) == len(made) == 3
    likeness = np.corrcoef([frame.mean(axis=2).ravel() for frame in (*seen, *made)])[:3, 3:]
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2]
    assert likeness.diagonal().min() > 0.9


@pytest.mark.parametrize("given", [None, 0])
def test_the_seed_is_logged_and_reported_and_gives_the_same_file_again(
    predictor: Predictor, output_root: Path, clip: Clip, capsys: pytest.CaptureFixture[str], given: int | None
) -> None:
    path = Path(predictor.run(**{**DEFAULTS, "seed": given}))
    video = path.read_bytes()
    logged = re.search(r"^Using seed: (\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert logged
    seed = int(logged[1])
    assert 0 <= seed < 2**32 if given is None else seed == given
    assert predictor.metrics["seed"] == seed
    with av.open(path) as container:
        assert json.loads(container.metadata["comment"])["seed"] == seed
    assert video != clip.files[0]
    assert Path(predictor.run(**{**DEFAULTS, "seed": seed})).read_bytes() == video


def test_progress_is_logged_in_lines_that_clients_parse(clip: Clip) -> None:
    first, *lines = clip.log.splitlines()
    assert first == "Using seed: 7"
    matches = [CLIENTS_PATTERN.match(line) for line in lines]
    assert None not in matches
    done = [int(match[2]) for match in matches if match]
    assert done[0] == 0
    assert done == sorted(set(done))
    assert f"{STEPS}/{STEPS} [" in lines[-1]


def test_the_metrics_describe_the_run(clip: Clip) -> None:
    stages = {f"seconds.{stage}" for stage in ("motion", "encode", "denoise", "decode", "video")}
    assert clip.metrics.keys() == {"seed", "frames", "steps", "model", *stages}
    assert (clip.metrics["frames"], clip.metrics["steps"], clip.metrics["model"]) == (3, STEPS, "small")
    assert all(float(str(clip.metrics[stage])) >= 0 for stage in stages)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_frames", 2), ("animation_prompts", None), ("zoom", "0:(0)"), ("seed", -2)),
    ],
)
def test_an_invalid_input_is_rejected_before_any_work(
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


@pytest.mark.parametrize("after", [1, EVALUATIONS])
def test_a_cancelled_run_stops_at_once_and_leaves_nothing(
    predictor: Predictor, output_root: Path, evaluated: list[int], after: int
) -> None:
    with cancelled(predictor, after):
        predictor.run(**DEFAULTS)
    texts = 1 if after <= 16 else 2
    assert len(evaluated) == after + texts
    assert list(output_root.iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_nothing(predictor: Predictor, output_root: Path) -> None:
    with full_disk(), pytest.raises(UserError, match="File too large") as error:
        predictor.run(**DEFAULTS)
    assert str(output_root) in str(error.value)
    assert list(output_root.iterdir()) == []


def test_later_runs_are_like_the_first_and_replace_its_file(
    predictor: Predictor, output_root: Path, clip: Clip
) -> None:
    with cancelled(predictor, 5):
        predictor.run(**DEFAULTS)
    predictor.run(**{**DEFAULTS, "max_frames": 4})
    path = Path(predictor.run(**DEFAULTS))
    assert path.read_bytes() == clip.files[0]
    assert [found for found in output_root.rglob("*") if found.is_file()] == [path]
