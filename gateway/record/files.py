"""The stored files, in a folder or a bucket on S3, GCS or Azure."""

import asyncio
import hashlib
import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from gateway.prediction import File

if TYPE_CHECKING:
    from obstore import GetOptions, WritableFile  # exist for type checkers only

CHUNK_BYTES = 1 << 20
PART_BYTES = 5 << 20  # S3's minimum
PARTS_AT_ONCE = 2  # each takes PART_BYTES of memory
MAX_PRESIGNED_S = 7 * 86400  # S3's and GCS's limit
NOT_FOUND = (FileNotFoundError, NotFoundError)  # obstore raises either
_RANDOM_BYTES = 24


class FileWriter:
    """Writes one file in pieces, and computes its checksums."""

    def __init__(self, writer: "WritableFile") -> None:
        self._writer = writer
        self._buffer = bytearray()
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Write a piece. It is in the store after the next one at the earliest."""
        self.size += len(data)
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is left."""
        data, self._buffer = bytes(self._buffer), bytearray()
        await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        self._md5.update(data)
        self._writer.write(data)

    @property
    def sha256(self) -> str:
        """The checksum of what was flushed, in hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """The checksum of what was flushed, in hex."""
        return self._md5.hexdigest()


class Files:
    """Store, read and delete files under keys that can't be guessed.

    obstore runs in threads: its own asyncio functions leave threads behind that need the interpreter, and a process
    that exits soon after one of them is aborted.
    """

    def __init__(self, url: str) -> None:
        """Take the store's URL: file:///folder (created if missing), s3://bucket/prefix, gs:// or az://."""
        self.store: ObjectStore = _store(url)
        self._folder = Path(unquote(urlsplit(url).path)) if isinstance(self.store, LocalStore) else None

    async def put(self, prediction_id: str, name: str, media_type: str, data: bytes | bytearray) -> File:
        """Store a file under a new key, whole or not at all."""
        key = f"{prediction_id}/{secrets.token_urlsafe(_RANDOM_BYTES)}/{name}"
        # The row has the media type. A bucket needs it too, because clients may fetch the file from there; a folder
        # can't store it.
        attributes = None if isinstance(self.store, LocalStore) else {"Content-Type": media_type}
        await asyncio.to_thread(obstore.put, self.store, key, data, attributes=attributes)
        return File(key, name, media_type, len(data))

    @asynccontextmanager
    async def writing(self, key: str, media_type: str) -> AsyncIterator[FileWriter]:
        """Write a file in pieces. It is there, whole, after the block; if the block raises an error, it never is.

        A bucket may keep the parts of a file that was not finished. A lifecycle rule of the bucket deletes them.
        """
        attributes = None if isinstance(self.store, LocalStore) else {"Content-Type": media_type}
        opened = obstore.open_writer(
            self.store, key, attributes=attributes, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        writer = FileWriter(opened)
        yield writer
        await writer.flush()
        await asyncio.to_thread(opened.close)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from start to end (exclusive) in chunks.

        Raises:
            FileNotFoundError: No file has this key; raised before the first chunk.
        """
        try:
            options: GetOptions = {}
            if start or end is not None:  # no range for the whole file: an empty file has none
                options = {"range": {"offset": start} if end is None else (start, end)}
            result = await asyncio.to_thread(obstore.get, self.store, key, options=options)
        except NOT_FOUND as error:
            raise FileNotFoundError(key) from error
        chunks = iter(result.stream(min_chunk_size=CHUNK_BYTES))
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """Return the size of a stored file in bytes, or None if no file has this key."""
        try:
            return (await asyncio.to_thread(obstore.head, self.store, key))["size"]
        except NOT_FOUND:
            return None

    async def presigned(self, key: str, seconds: float) -> str | None:
        """Return a URL at which the bucket serves the file for this long, or None for a folder."""
        if isinstance(self.store, S3Store | GCSStore | AzureStore):
            lifetime = timedelta(seconds=min(seconds, MAX_PRESIGNED_S))
            return await asyncio.to_thread(obstore.sign, self.store, "GET", key, lifetime)
        return None

    async def origin(self) -> str | None:
        """Return the origin of presigned URLs, such as https://s3.us-east-1.amazonaws.com, or None for a folder."""
        url = await self.presigned("any", 1)
        return f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" if url else None

    async def delete(self, keys: list[str]) -> None:
        """Delete files. Missing ones are ignored."""
        if self._folder is not None:
            await asyncio.to_thread(_unlink, self._folder, keys)
            return
        for key in keys:
            with suppress(*NOT_FOUND):
                await asyncio.to_thread(obstore.delete, self.store, key)

    async def by_prediction(self) -> dict[str, list[str]]:
        """Return the keys of all stored files, half-written ones too, by the id of their prediction."""
        if self._folder is not None:
            return await asyncio.to_thread(_walk, self._folder)
        return await asyncio.to_thread(_list, self.store)


def _list(store: ObjectStore) -> dict[str, list[str]]:
    """Return the keys in a store by their first part."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for chunk in obstore.list(store, chunk_size=1000):
        for entry in chunk:
            found[entry["path"].split("/")[0]].append(entry["path"])
    return dict(found)


def _unlink(folder: Path, keys: list[str]) -> None:
    """Delete files in a folder, and the subfolders that are empty then."""
    for key in keys:
        (folder / key).unlink(missing_ok=True)
        for parent in list(Path(key).parents)[:-1]:
            try:
                (folder / parent).rmdir()
            except OSError:  # it has another file, or another process has deleted it
                break


def _walk(folder: Path) -> dict[str, list[str]]:
    """Return the paths of the files below a folder by their first part."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name).relative_to(folder)
            found[path.parts[0]].append(str(path))
    return dict(found)


def _store(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), mkdir=True)
    return from_url(url)
