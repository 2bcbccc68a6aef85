import itertools
import json
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lib.animation.color import ColorMatcher
from lib.animation.video import write_mp4
from lib.animation.warp import matrix, warp
from lib.deforum import add_noise

Frame = NDArray[np.uint8]
Settings = dict[str, int | str]

STEP_PX = (3, -2)  # (x, y) per frame


def picture(height: int = 512, width: int = 512) -> Frame:
    """Draw smooth shapes with edges and a little grain, different in each channel, that tile the plane."""
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    rng = np.random.default_rng(0)
    frame = np.empty((height, width, 3))
    for channel in range(3):
        disc = np.hypot(x - 0.3 - channel / 9, y - 0.6) < 0.25
        frame[..., channel] = 90 + 50 * np.sin(2 * np.pi * (x + channel * y)) + 80 * disc
    return np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)


def moving(count: int, first: Frame | None = None) -> Iterator[Frame]:
    frame = picture() if first is None else first
    for _ in range(count):
        yield frame
        frame = warp(frame, matrix(frame.shape[0], frame.shape[1], 0, 1, *STEP_PX))


def small(count: int) -> Iterator[Frame]:
    return moving(count, picture(64, 64))


def noise(count: int, side: int = 256) -> Iterator[Frame]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count))


def read(path: Path) -> list[Frame]:
    with av.open(path) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def psnr_db(frame: Frame, other: Frame) -> float:
    return float(10 * np.log10(255**2 / np.mean((frame.astype(float) - other) ** 2)))


def boxes(path: Path) -> list[str]:
    """Return the names of the mp4's outermost boxes, in order."""
    data, names = path.read_bytes(), []
    while data:
        names.append(data[4:8].decode())
        data = data[int.from_bytes(data[:4], "big") :]
    return names


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    path = tmp_path_factory.mktemp("clip") / "out.mp4"
    prompts = " | ".join(f"{n}: Zürich, 16:9, 富士山 \ud800, number {n}" for n in range(999))
    settings: Settings = {"seed": 2**32 - 1, "zoom": "0:(1.04)", "animation_prompts": prompts}
    assert write_mp4(path, moving(100), 15, settings) == 100
    return path, settings


def test_every_frame_is_there_with_little_loss(clip: tuple[Path, Settings]) -> None:
    frames = read(clip[0])
    assert len(frames) == 100
    for decoded, original in zip(frames, moving(100), strict=True):
        assert psnr_db(decoded, original) > 35


def test_the_video_is_h264_that_browsers_play(clip: tuple[Path, Settings]) -> None:
    with av.open(clip[0]) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.profile == "High"
        assert (stream.width, stream.height) == (512, 512)
    assert b"crf=17.0" in clip[0].read_bytes()  # x264 writes its options into the file
    names = boxes(clip[0])
    assert names.index("moov") < names.index("mdat")  # a browser can start before it has the whole file


def test_the_settings_are_stored_in_the_metadata(clip: tuple[Path, Settings]) -> None:
    path, settings = clip
    with av.open(path) as container:
        assert json.loads(container.metadata["comment"]) == settings


@pytest.mark.parametrize(("fps", "count"), [(10, 1), (15, 100), (23, 50), (60, 61)])
def test_the_rate_is_exact_and_constant(tmp_path: Path, fps: int, count: int) -> None:
    path = tmp_path / "out.mp4"
    write_mp4(path, small(count), fps, {})
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == stream.base_rate == fps
        assert stream.frames == count
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base * fps == count
        assert container.duration == pytest.approx(1e6 * count / fps, abs=1)  # in microseconds
        ticks = [frame.pts for frame in container.decode(stream)]
        assert ticks == [Fraction(n, fps) / stream.time_base for n in range(count)]


def test_colours_are_right_and_described_in_the_metadata(tmp_path: Path) -> None:
    mixed = [(128, 128, 128), (250, 128, 114), (17, 99, 201), (200, 30, 90)]
    colours = np.array([*itertools.product((0, 255), repeat=3), *mixed], np.uint8)
    patches = colours.reshape(3, 4, 3).repeat(64, 0).repeat(64, 1)
    write_mp4(tmp_path / "out.mp4", [patches] * 3, 15, {})
    (decoded, *_) = read(tmp_path / "out.mp4")
    inner = decoded.reshape(3, 64, 4, 64, 3)[:, 16:48, :, 16:48].mean((1, 3)).reshape(-1, 3)
    assert np.abs(inner - colours).max() <= 2
    with av.open(tmp_path / "out.mp4") as container:
        context = container.streams.video[0].codec_context
    # In ISO/IEC 23091-2: primaries of BT.709, transfer of sRGB, matrix of BT.601; with limited range.
    assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 13, 6)
    assert context.color_range == 1


def test_an_array_may_be_reused_for_the_next_frame(tmp_path: Path) -> None:
    def in_one_array() -> Iterator[Frame]:
        frame = np.empty((64, 64, 3), np.uint8)
        for level in range(0, 250, 10):
            frame[:] = level
            yield frame

    write_mp4(tmp_path / "out.mp4", in_one_array(), 15, {})
    levels = [frame.mean() for frame in read(tmp_path / "out.mp4")]
    assert levels == pytest.approx(list(range(0, 250, 10)), abs=2)


def test_views_and_any_even_size_are_accepted(tmp_path: Path) -> None:
    frame = picture(72, 130)[:, ::-1][2:, :, ::-1]
    write_mp4(tmp_path / "view.mp4", [frame] * 2, 15, {})
    write_mp4(tmp_path / "copy.mp4", [frame.copy()] * 2, 15, {})
    assert (tmp_path / "view.mp4").read_bytes() == (tmp_path / "copy.mp4").read_bytes()
    assert read(tmp_path / "view.mp4")[0].shape == frame.shape


def test_encoding_runs_on_another_thread_and_few_frames_are_queued(tmp_path: Path) -> None:
    asked_at = []

    def timed(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            asked_at.append(time.process_time())
            yield frame

    own, all_threads = time.thread_time(), time.process_time()
    write_mp4(tmp_path / "out.mp4", timed(noise(80)), 15, {})
    own, total = time.thread_time() - own, time.process_time() - all_threads
    assert own < total / 2  # the rest was spent by the encoding thread
    # If all frames were taken at once, the last would have been requested long before its turn.
    assert asked_at[-1] - asked_at[0] > 0.6 * total


@pytest.mark.limits
def test_everything_but_the_model_takes_under_25_ms_per_frame_on_one_core(tmp_path: Path) -> None:
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    matcher, generator = ColorMatcher("Match Frame 0 LAB", picture()), torch.Generator()

    def frames(count: int) -> Iterator[Frame]:
        frame = picture()
        for seed in range(count):
            yield frame
            frame = matcher.match(warp(frame, matrix(frame.shape[0], frame.shape[1], 1.5, 1.04, *STEP_PX)))
            add_noise(frame, 0.02, generator.manual_seed(seed))

    def frame_ms() -> float:
        start = time.process_time()
        write_mp4(tmp_path / "out.mp4", frames(30), 15, {})
        return 1000 * (time.process_time() - start) / 30

    try:
        assert min(frame_ms() for _ in range(3)) < 25
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
