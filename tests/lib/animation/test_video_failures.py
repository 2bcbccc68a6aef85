import ctypes
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.animation.video import encoding_thread, write_mp4
from tests.lib.conftest import files_of_at_most

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


@pytest.mark.parametrize(("error", "good_frames"), [(RuntimeError, 0), (CancelledError, 1), (KeyboardInterrupt, 30)])
def test_a_run_that_fails_or_is_cancelled_leaves_no_file(
    tmp_path: Path, error: type[BaseException], good_frames: int
) -> None:
    def failing() -> Iterator[Frame]:
        yield from grey(good_frames)
        raise error

    with pytest.raises(error):
        write_mp4(tmp_path / "out.mp4", failing(), 15, {})
    assert list(tmp_path.iterdir()) == []


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

    with files_of_at_most(200_000), pytest.raises(OSError, match="File too large"):
        write_mp4(tmp_path / "out.mp4", counted(), 15, {})
    assert len(asked) < 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("index", "shape", "dtype", "named"),
    [
        (0, (63, 64, 3), np.uint8, 0),
        (0, (64, 64, 4), np.uint8, 0),
        (0, (64,), np.uint8, 0),
        (0, (64, 66, 3), np.uint8, 1),  # valid as the first frame
        (7, (64, 66, 3), np.uint8, 7),
        (7, (64, 64, 3), np.float32, 7),
    ],
)
def test_an_error_names_the_frame_that_is_wrong_or_differs_from_the_first(
    tmp_path: Path, index: int, shape: tuple[int, ...], dtype: type[np.generic], named: int
) -> None:
    frames: list[Any] = [*grey(index), np.zeros(shape, dtype), *grey(2)]
    with pytest.raises(ValueError, match=f"frame {named} is "):
        write_mp4(tmp_path / "out.mp4", frames, 15, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after_s", [0.01, 0.1, 0.3])
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
