"""The stored files, in a folder or a bucket on S3, GCS or Azure, and how long they and other data are kept."""

import asyncio
import glob
import hashlib
import logging
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
from gateway.record.database import HAS_ENDED, Database, file_from

if TYPE_CHECKING:
    from obstore import GetOptions, WritableFile  # exist for type checkers only

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
PART_BYTES = 5 << 20  # S3's minimum
PARTS_AT_ONCE = 2  # each takes PART_BYTES of memory
MAX_PRESIGNED_S = 7 * 86400  # S3's and GCS's limit
NOT_FOUND = (FileNotFoundError, NotFoundError)  # obstore raises either
FINISHED_JOBS_H = 1  # procrastinate's finished jobs are kept this long
_BATCH = 500
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


class Retention:
    """Remove old data, and files that belong to no prediction."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    async def remove(self, older_than_s: float) -> int:
        """Remove the data of predictions that ended this long ago, and return how many. Safe to run concurrently."""
        count = 0
        while done := await self._remove_some(older_than_s):
            count += done
        return count

    async def sweep_files(self) -> int:
        """Delete the stored files that an ended prediction doesn't name, and return how many.

        A worker leaves them behind if it dies, or loses its attempt, between storing files and writing the end. The
        files of a live prediction stay, because its end may be about to name them. Files of an unknown prediction
        stay too: they belong to another database.
        """
        stored = await self._files.by_prediction()
        if not stored:
            return 0
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                f"select id, files from predictions where id = any(%s) and {HAS_ENDED}", (list(stored),)
            )
            ended = {row[0]: {file_from(entry).key for entry in row[1]} for row in await found.fetchall()}
        left = [key for id_, known in ended.items() for key in stored[id_] if key not in known]
        await self._files.delete(left)
        if left:
            logger.info("deleted files that belong to no prediction", extra={"count": len(left)})
        return len(left)

    async def delete_old_rows(self) -> None:
        """Delete finished jobs and servers that have not been seen for long."""
        async with self._database.transaction() as connection:
            await connection.execute("delete from servers where seen_at < now() - interval '1 day'")
        await self._database.procrastinate.job_manager.delete_old_jobs(
            FINISHED_JOBS_H, include_failed=True, include_cancelled=True, include_aborted=True
        )

    async def _remove_some(self, older_than_s: float) -> int:
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """with old as (
                       select id, files from predictions
                       where not data_removed and completed_at < now() - %s
                       -- an owed webhook keeps its prediction: its body names the files
                       and not exists (select 1 from deliveries d where d.id = predictions.id and d.done_at is null)
                       order by completed_at limit %s for update skip locked),
                   bodies as (delete from deliveries d using old where d.id = old.id),
                   -- the sweep of the uploads deletes their files
                   inputs as (update files f set state = 'deleted' from old where f.prediction = old.id)
                   update predictions p set data_removed = true, input = '{}', input_files = '[]', output = null,
                   files = '[]', logs = '' from old where p.id = old.id returning old.files""",
                (timedelta(seconds=older_than_s), _BATCH),
            )
            rows = await found.fetchall()
        # After the commit: a crash in between leaves files that sweep_files finds, not a row whose files are gone.
        await self._files.delete([file_from(entry).key for (files,) in rows for entry in files])
        return len(rows)


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
        path = folder / key
        # A process that dies while it writes NAME leaves NAME#1.
        for half_written in path.parent.glob(f"{glob.escape(path.name)}#*"):
            half_written.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
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
