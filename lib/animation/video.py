"""Write frames as an mp4 that every browser plays; frame rate and pixel format are known only here.

Encoding runs on another thread while the caller makes the next frame (PyAV releases the GIL in it), and
few frames wait at any time, so memory does not grow with their number.
"""

import functools
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from numpy.typing import NDArray

from lib.outputs import whole

CRF = 17  # constant quality, visually lossless
PRESET = "veryfast"  # at this crf within 0.5 dB of medium and not larger, in a third of its time
WAITING_FRAMES = 4  # so many frames may be made and not yet encoded: 3 MB at 512x512

# The pictures are sRGB, which has the primaries of BT.709. Players that ignore what the stream says of its
# colours take the matrix of a picture of this size to be BT.601's; so it is that one, and all show the same.
AVCOL_SPC_SMPTE170M = 6  # BT.601 as codecs number it; swscale has a number of its own
CHROMA_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


@functools.cache
def encoding_thread() -> ThreadPoolExecutor:
    """Return the thread that encodes all videos, started.

    A server calls this before its first run: an exception that it throws into a run which is just starting a thread
    may hit the new thread instead, and Thread.start then waits for ever (https://github.com/python/cpython/issues/140746).
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mp4")
    thread.submit(int).result()
    return thread


@contextmanager
def _encoding() -> Iterator[ThreadPoolExecutor]:
    """Lend the encoding thread, and take it back when it has done all it was given."""
    thread = encoding_thread()
    try:
        yield thread
    finally:
        thread.submit(int).result()  # it does one thing after the other


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, settings: Mapping[str, object]) -> int:
    """Encode the frames as they come into an mp4 at path, and return how many there were.

    The video is H.264, yuv420p, at exactly fps frames a second, its index in front (faststart), the settings
    as JSON in the metadata's `comment`. frames: (height, width, 3) uint8 RGB, all of one size, of even sides;
    an array may be reused once the next is asked for. Raises ValueError, naming the frame, if one is not so,
    and if there is none. The file appears at path when it is complete: whatever is raised on the way, by the
    frames too, cancellations included, leaves neither a file nor a busy thread.
    """
    comment = json.dumps(dict(settings))
    with whole(path) as unfinished:
        return _write(unfinished, iter(frames), fps, comment)


def _write(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int, comment: str) -> int:
    """Encode the frames into a file at path, which stays there half written when something is raised."""
    first = next(frames, None)
    if first is None:
        raise ValueError("there are no frames to write")
    count = 0
    waiting: deque[Future[None]] = deque()
    # Left in the reverse order: the thread is done with the container when it is closed.
    with (
        av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container,
        _encoding() as thread,
    ):
        container.metadata["comment"] = comment
        encoder = _Encoder(container, fps, first)
        for frame in itertools.chain([first], frames):
            waiting.append(thread.submit(encoder.encode, encoder.picture(frame, count)))
            count += 1
            while len(waiting) > WAITING_FRAMES or (waiting and waiting[0].done()):
                waiting.popleft().result()  # raises what went wrong on the thread
        waiting.append(thread.submit(encoder.encode, None))
        for encoded in waiting:
            encoded.result()
    return count


class _Encoder:
    """Turn frames of one size into a stream of the container."""

    def __init__(self, container: OutputContainer, fps: int, first: NDArray[np.uint8]) -> None:
        if first.ndim != 3 or first.shape[2] != 3 or first.shape[0] % 2 or first.shape[1] % 2:
            raise ValueError(f"frame 0 is {first.shape}, but must be (height, width, 3) of even sides (yuv420p)")
        self._shape = first.shape
        self._container = container
        self._stream = container.add_stream("libx264", fps, {"crf": str(CRF), "preset": PRESET})
        self._reformatter = VideoReformatter()
        context = self._stream.codec_context
        context.height, context.width = first.shape[:2]
        context.pix_fmt = "yuv420p"
        # One is fast enough, leaves the other cores to the model, and writes the same bytes on every machine.
        context.thread_count = 1
        context.colorspace = AVCOL_SPC_SMPTE170M
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.IEC61966_2_1  # sRGB

    def picture(self, frame: NDArray[np.uint8], index: int) -> av.VideoFrame:
        """Copy a frame, so that the caller may reuse it; ValueError if it is not like the first."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {index} is {frame.shape} {frame.dtype}, but must be {self._shape} uint8")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = index  # in units of 1 / fps
        return picture

    def encode(self, picture: av.VideoFrame | None) -> None:
        """Encode a picture and write what comes out; None writes the rest."""
        if picture is not None:
            picture = self._reformatter.reformat(
                picture,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=CHROMA_SCALING,
                threads=1,
            )
        self._container.mux(self._stream.encode(picture))
