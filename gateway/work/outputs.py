"""The files in an output: coglet sends them as data URLs, and the record stores them."""

import asyncio
import base64
import re
from dataclasses import dataclass

from gateway import media_types
from gateway.prediction import File, Json
from gateway.record.files import Files

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS = 60
_CHUNK_CHARS = 4 << 20  # a multiple of four


@dataclass(frozen=True)
class Stored:
    """An output with stored files."""

    output: Json  # with a reference in place of each file
    files: tuple[File, ...]


async def store(output: Json, files: Files, prediction_id: str, name: str = "output") -> Stored:
    """Store the data URLs in an output and replace them with references. `name` is that of its files.

    If the store raises an error, the files stored so far are deleted.
    """
    stored: list[File] = []

    async def walk(value: Json, name: str) -> Json:
        if isinstance(value, str) and (head := _DATA_URL.match(value)):
            # Up to hundreds of megabytes: decoded off the event loop, so that heartbeats go on.
            data = await asyncio.to_thread(_decode, value, head.end())
            if data is None:
                return value
            file = await files.put(prediction_id, name + media_types.extension(head[1]), head[1], data)
            stored.append(file)
            return file.reference
        if isinstance(value, list):
            return [await walk(item, f"{name}-{index}") for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: await walk(item, _name(key)) for key, item in value.items()}
        return value

    try:
        replaced = await walk(output, name)
    except BaseException:
        await files.delete([file.key for file in stored])
        raise
    return Stored(replaced, tuple(stored))


def _decode(url: str, start: int) -> bytearray | None:
    """Return the contents of a data URL, or None for text that only looks like one."""
    data = bytearray()
    try:
        for begin in range(
            start, len(url), _CHUNK_CHARS
        ):  # in chunks, because a copy of the whole would double the memory
            data += base64.b64decode(url[begin : begin + _CHUNK_CHARS], validate=True)
    except ValueError:
        return None
    return data


def _name(key: str) -> str:
    return _UNSAFE.sub("-", key)[:_MAX_NAME_CHARS].strip(".-") or "output"
