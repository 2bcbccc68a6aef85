import ctypes
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.animation.video import encoding_thread, write_mp4

Frame = NDArray[np.uint8]


class CancelledError(BaseException):
    """Raised by a server in the middle of a run; it is no Exception."""


def grey(count: int) -> Iterator[Frame]:
    return (np.full((64, 64, 3), level, np.uint8) for level in range(count))


def noise(count: int) -> Iterator[Frame]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(count))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    encoding_thread()  # start it: it serves all videos
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, CancelledError, SystemExit])
@pytest.mark.parametrize("good_frames", [0, 1, 30])
def test_a_run_that_fails_or_is_cancelled_leaves_no_file(
    tmp_path: Path, error: type[BaseException], good_frames: int
) -> None:
    def failing() -> Iterator[Frame]:
        yield from grey(good_frames)
        raise error

    with pytest.raises(error):
        write_mp4(tmp_path / "out.mp4", failing(), 15, {})
    assert list(tmp_path.iterdir()) == []


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    def looking() -> Iterator[Frame]:
        for frame in grey(20):
            assert not (tmp_path / "out.mp4").exists()
            yield frame

    write_mp4(tmp_path / "out.mp4", looking(), 15, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_failed_run_keeps_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    with pytest.raises(ValueError, match="no frames"):
        write_mp4(tmp_path / "out.mp4", [], 15, {})
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"


def test_an_error_of_the_encoding_thread_is_raised_soon(tmp_path: Path) -> None:
    """The limit on file sizes stands for a full disk."""
    asked: list[int] = []

    def counted() -> Iterator[Frame]:
        for frame in noise(200):
            asked.append(1)
            yield frame

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_mp4(tmp_path / "out.mp4", counted(), 15, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(asked) < 100
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_mp4(tmp_path / "missing" / "out.mp4", grey(2), 15, {})


def test_no_frames_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no frames"):
        write_mp4(tmp_path / "out.mp4", iter(()), 15, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(63, 64, 3), (64, 63, 3), (64, 64), (64, 64, 4), (64,)])
def test_a_first_frame_of_the_wrong_shape_is_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frame 0 is "):
        write_mp4(tmp_path / "out.mp4", [np.zeros(shape, np.uint8)], 15, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "odd_one", [np.zeros((64, 66, 3), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8)]
)
@pytest.mark.parametrize("index", [0, 7])
def test_an_error_names_the_frame_that_differs_from_the_first(tmp_path: Path, odd_one: Frame, index: int) -> None:
    frames = [*grey(index), odd_one, *grey(2)]
    named = index if odd_one.shape != (64, 66, 3) else max(index, 1)  # as the first frame it is valid
    with pytest.raises(ValueError, match=f"frame {named} is "):
        write_mp4(tmp_path / "out.mp4", frames, 15, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after_s", [0.01, 0.05, 0.2, 0.4])
def test_a_cancellation_at_any_moment_leaves_no_file(tmp_path: Path, after_s: float) -> None:
    """A server cancels by raising an exception in the run's thread, wherever that is."""
    raised: list[CancelledError] = []

    def run() -> None:
        try:
            write_mp4(tmp_path / "out.mp4", noise(10_000), 15, {})
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert thread.ident is not None
    time.sleep(after_s)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(CancelledError))
    thread.join(timeout=300)
    assert not thread.is_alive()
    assert raised
    assert list(tmp_path.iterdir()) == []


def test_a_video_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation while a thread starts would hang the run, so the encoding thread is started before."""
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: pytest.fail("a thread was started"))
    assert write_mp4(tmp_path / "out.mp4", noise(10), 15, {}) == 10
