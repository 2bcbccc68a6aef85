"""Write frames as an mp4 file that every browser plays.

Encoding runs on another thread while the caller makes the next frame, because PyAV releases the GIL. Only a few frames
are queued at any time, so memory doesn't grow with their number.
"""

import functools
import itertools
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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
PRESET = "veryfast"  # at this crf within 0.5 dB of "medium" and not larger, in a third of the time
AUDIO_BITS_PER_S = 192_000  # of stereo; mono has half
MAX_QUEUED_FRAMES = 4  # 3 MB at 512x512

# The pictures are sRGB, which has the primaries of BT.709. Players that ignore the colour metadata of a stream assume
# the matrix of BT.601 for a picture of this size. So BT.601 is used, and all players show the same colours.
AVCOL_SPC_SMPTE170M = 6  # BT.601 in the numbering of codecs, which differs from swscale's
CHROMA_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class Audio(NamedTuple):
    """A sound to go with the frames."""

    samples: NDArray[np.float32]  # (1 or 2 channels, samples)
    rate_hz: int


@functools.cache
def encoding_thread() -> ThreadPoolExecutor:
    """Start the thread that encodes all videos, once, and return it.

    Call this before the first run. Cog cancels a run by raising an exception in it. If the run is just starting a
    thread, the exception can hit the new thread instead, and Thread.start then waits forever
    (https://github.com/python/cpython/issues/140746).
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mp4")
    thread.submit(int).result()
    return thread


@contextmanager
def _encoding() -> Iterator[ThreadPoolExecutor]:
    """Provide the encoding thread, and at the end wait until it has finished its work."""
    thread = encoding_thread()
    try:
        yield thread
    finally:
        thread.submit(int).result()  # the thread works through its queue in order


def write_mp4(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: int,
    settings: Mapping[str, object],
    audio: Audio | None = None,
) -> int:
    """Encode frames to an mp4 file while they are made, and return their number.

    The video is H.264 in yuv420p at exactly `fps` frames per second, with the index at the front (faststart). Audio
    is AAC. The file
    appears at `path` when it is complete. If anything is raised, by the frames or as a cancellation, there is no file
    and the encoding thread is idle again.

    Args:
        path: The file.
        frames: (height, width, 3) uint8 RGB, all of the same even size. An array may be reused for the next frame.
        fps: Frames per second.
        settings: Stored as JSON in the metadata field `comment`.
        audio: The sound, if any, which should be as long as the frames.

    Raises:
        ValueError: There are no frames, or one has another shape or type.
        OSError: The file can't be written.
    """
    comment = json.dumps(dict(settings))
    with whole(path) as unfinished:
        return _write(unfinished, iter(frames), fps, comment, audio)


def _write(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int, comment: str, audio: Audio | None) -> int:
    """Encode the frames to a file, which stays incomplete if anything is raised."""
    first = next(frames, None)
    if first is None:
        raise ValueError("there are no frames to write")
    count = 0
    queued: deque[Future[None]] = deque()
    # The blocks end in reverse order, so the thread has finished with the container before it is closed.
    with (
        av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container,
        _encoding() as thread,
    ):
        container.metadata["comment"] = comment
        encoder = _Encoder(container, fps, first)
        sound = _AudioEncoder(container, audio) if audio else None

        def encode(picture: av.VideoFrame | None, until_s: float) -> None:
            encoder.encode(picture)
            if sound:
                sound.encode(until_s)

        for frame in itertools.chain([first], frames):
            picture = encoder.picture(frame, count)
            count += 1
            # Sound and pictures of the same time stand close to each other in the file.
            queued.append(thread.submit(encode, picture, count / fps))
            while len(queued) > MAX_QUEUED_FRAMES or (queued and queued[0].done()):
                queued.popleft().result()  # raises the thread's error, if any
        queued.append(thread.submit(encode, None, math.inf))
        for encoded in queued:
            encoded.result()
    return count


class _Encoder:
    """Encode frames of one size to a stream of the container."""

    def __init__(self, container: OutputContainer, fps: int, first: NDArray[np.uint8]) -> None:
        if first.ndim != 3 or first.shape[2] != 3 or first.shape[0] % 2 or first.shape[1] % 2:
            raise ValueError(f"frame 0 is {first.shape}, but must be (height, width, 3) with even sides (yuv420p)")
        self._shape = first.shape
        self._container = container
        self._stream = container.add_stream("libx264", fps, {"crf": str(CRF), "preset": PRESET})
        self._reformatter = VideoReformatter()
        context = self._stream.codec_context
        context.height, context.width = first.shape[:2]
        context.pix_fmt = "yuv420p"
        # One thread is fast enough, leaves the other cores to the model, and writes the same bytes on every machine.
        context.thread_count = 1
        context.colorspace = AVCOL_SPC_SMPTE170M
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.IEC61966_2_1  # sRGB

    def picture(self, frame: NDArray[np.uint8], index: int) -> av.VideoFrame:
        """Copy a frame, so that the caller may reuse the array.

        Raises:
            ValueError: Its shape or type differs from the first frame's.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {index} is {frame.shape} {frame.dtype}, but must be {self._shape} uint8")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = index  # in units of 1 / fps
        return picture

    def encode(self, picture: av.VideoFrame | None) -> None:
        """Encode a picture and write the packets that are ready. None writes the rest."""
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


class _AudioEncoder:
    """Encode a sound to a stream of the container, as far as the film is."""

    def __init__(self, container: OutputContainer, audio: Audio) -> None:
        self._container = container
        self._audio = audio
        channels = len(audio.samples)
        layout = "mono" if channels == 1 else "stereo"
        self._stream = container.add_stream(
            "aac", audio.rate_hz, layout=layout, bit_rate=AUDIO_BITS_PER_S * channels // 2
        )
        self._done = 0  # samples

    def encode(self, until_s: float) -> None:
        """Encode up to a moment; beyond the sound's end, write the rest."""
        samples, rate_hz = self._audio
        size, end = self._stream.codec_context.frame_size or 1024, samples.shape[1]
        while self._done < min(until_s * rate_hz, end):
            part = np.ascontiguousarray(samples[:, self._done : self._done + size])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._stream.layout.name)
            frame.sample_rate, frame.pts = rate_hz, self._done
            self._container.mux(self._stream.encode(frame))
            self._done += part.shape[1]
        if until_s == math.inf:
            self._container.mux(self._stream.encode(None))
