"""The files in an output: coglet sends them as data URLs, the record keeps them in its store."""

import asyncio
import base64
import mimetypes
import re
from dataclasses import dataclass

from gateway.record import File, Json
from gateway.record.files import Files

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS = 60
_CHUNK_CHARS = 4 << 20  # whole groups of four
# Those that a machine's own table may lack or name otherwise.
_EXTENSIONS = {
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "application/octet-stream": ".bin",
    "text/plain": ".txt",
}


@dataclass(frozen=True)
class Stored:
    """An output whose files are stored."""

    output: Json  # with references in their places
    files: tuple[File, ...]


async def store(output: Json, files: Files, prediction_id: str) -> Stored:
    """Store every data URL in an output, and put references in their places.

    Raises what the store raises; files that were stored before are deleted then.
    """
    stored: list[File] = []

    async def walk(value: Json, name: str) -> Json:
        if isinstance(value, str) and (head := _DATA_URL.match(value)):
            # Hundreds of megabytes: not on the event loop, where the heartbeat waits.
            data = await asyncio.to_thread(_decode, value, head.end())
            if data is None:
                return value
            file = await files.put(prediction_id, name + _extension(head[1]), head[1], data)
            stored.append(file)
            return file.reference
        if isinstance(value, list):
            return [await walk(item, f"{name}-{index}") for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: await walk(item, _name(key)) for key, item in value.items()}
        return value

    try:
        replaced = await walk(output, "output")
    except BaseException:
        await files.delete([file.key for file in stored])
        raise
    return Stored(replaced, tuple(stored))


def _decode(url: str, start: int) -> bytearray | None:
    """Return what a data URL holds; None: it is text that only looks like one."""
    data = bytearray()
    try:
        for begin in range(start, len(url), _CHUNK_CHARS):  # a copy of the whole would be as large again
            data += base64.b64decode(url[begin : begin + _CHUNK_CHARS], validate=True)
    except ValueError:
        return None
    return data


def _name(key: str) -> str:
    return _UNSAFE.sub("-", key)[:_MAX_NAME_CHARS].strip(".-") or "output"


def _extension(media_type: str) -> str:
    return _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
