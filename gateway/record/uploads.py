"""The files that clients upload, and the large data URLs in inputs, which are stored in the same way.

A row comes before its file and goes after it. So whichever process dies, no file is forgotten in the store, and the
quota counts them all.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from obstore.exceptions import BaseError
from psycopg.rows import class_row
from psycopg.types.json import Json as AsJson

from gateway.prediction import File, JsonObject, Position
from gateway.record.database import IS_LIVE, UNAVAILABLE, Connection, Database, random_id
from gateway.record.files import Files, FileWriter

logger = logging.getLogger(__name__)

ABANDONED_S = 3600  # a file that has been arriving for this long, and a second for each 32 KiB, is given up
ABANDONED_BYTES_PER_S = 32 << 10  # no client may send more slowly than that
FOLDER = "uploads"  # of the store; a prediction's id has another form
BATCH = 500
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_KEY_NAME_CHARS = 100
_COLUMNS = (
    "f.id, f.owner, t.name as owner_name, f.prediction, f.key, f.name, f.media_type, f.size, f.sha256, f.md5, "
    "f.metadata, f.created_at, f.expires_at"
)


class QuotaError(RuntimeError):
    """The owner may not store this much; str() says how much is allowed."""

    def __init__(self, quota_bytes: int) -> None:
        super().__init__(f"your files would take more than {quota_bytes} bytes, which is your limit")


class TooLargeError(RuntimeError):
    """A file is larger than allowed; str() says how large it may be."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"a file may have at most {limit_bytes} bytes")


@dataclass(frozen=True)
class Upload:
    """A row of the table `files`, with its owner's name."""

    id: str
    owner: int
    owner_name: str
    prediction: str | None  # whose input contained it
    key: str
    name: str
    media_type: str
    size: int  # bytes
    sha256: str
    md5: str
    metadata: JsonObject
    created_at: datetime
    expires_at: datetime | None

    @property
    def file(self) -> File:
        """The file in the store."""
        return File(self.key, self.name, self.media_type, self.size)


@dataclass(frozen=True)
class Limits:
    """How much a client may store."""

    file_bytes: int  # of one file
    quota_bytes: int  # of all files of an owner; 0: no limit


class Arriving:
    """A file that is being received."""

    def __init__(self, file_id: str, file: File, writer: FileWriter, reserved_bytes: int, limits: Limits) -> None:
        self.id = file_id
        self._file = file
        self._writer = writer
        self._reserved_bytes = reserved_bytes
        self._limits = limits

    async def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            TooLargeError: The file is too large.
            QuotaError: The owner's files are.
        """
        size = self._writer.size + len(data)
        if size > self._limits.file_bytes:
            raise TooLargeError(self._limits.file_bytes)
        if size > self._reserved_bytes:
            raise QuotaError(self._limits.quota_bytes)
        await self._writer.write(data)

    @property
    def file(self) -> File:
        """The file with the size that it has so far."""
        return replace(self._file, size=self._writer.size)


class Uploads:
    """Store, list and delete files of clients."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    @asynccontextmanager
    async def receiving(
        self, owner: int, name: str, media_type: str, expected_bytes: int, limits: Limits
    ) -> AsyncIterator[Arriving]:
        """Receive a file in the block. Afterwards it is in the store, and discarded unless keep() or a create follows.

        Args:
            owner: The token's id.
            name: The file's name.
            media_type: Its type.
            expected_bytes: The most that it may turn out to have.
            limits: How much the owner may store.

        Raises:
            TooLargeError: It is too large.
            QuotaError: The owner's files are.
        """
        file_id = random_id()
        file = File(f"{FOLDER}/{file_id}/{_key_name(name)}", name, media_type, 0)
        reserved = await self._reserve(file_id, owner, file, expected_bytes, limits)
        try:
            async with self._files.writing(file.key, media_type) as writer:
                yield Arriving(file_id, file, writer, reserved, limits)
            async with self._database.transaction() as connection:
                await connection.execute(
                    "update files set size = %s, sha256 = %s, md5 = %s where id = %s",
                    (writer.size, writer.sha256, writer.md5, file_id),
                )
        except BaseException:
            await self.discard([file_id])
            raise

    async def keep(
        self, file_id: str, name: str, media_type: str, metadata: JsonObject, keep_s: float
    ) -> Upload | None:
        """Keep a received file for `keep_s`, or forever for 0. Return None if it took so long that it was given up."""
        async with self._database.transaction() as connection:
            await connection.execute(
                """update files set state = 'stored', name = %s, media_type = %s, metadata = %s,
                   expires_at = created_at + %s
                   where id = %s and state = 'arriving'""",
                (
                    name,
                    media_type,
                    AsJson(metadata, dumps=json.dumps),
                    timedelta(seconds=keep_s) if keep_s else None,
                    file_id,
                ),
            )
        return await self.get(file_id)

    async def get(self, file_id: str, owner: int | None = None) -> Upload | None:
        """Return a file that has not expired, or None. Owner None: any owner's."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(Upload)) as c,
        ):
            await c.execute(
                f"""select {_COLUMNS} from files f join tokens t on t.id = f.owner
                    where f.id = %s and (%s::bigint is null or f.owner = %s) and f.state = 'stored'
                    and (f.expires_at is null or f.expires_at > now())""",
                (file_id, owner, owner),
            )
            return await c.fetchone()

    async def page(self, owner: int, older_than: Position | None, limit: int) -> list[Upload]:
        """List an owner's uploaded files, newest first, at most `limit`."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(Upload)) as c,
        ):
            await c.execute(
                f"""select {_COLUMNS} from files f join tokens t on t.id = f.owner
                    where f.owner = %(owner)s and f.state = 'stored' and f.prediction is null
                    and (f.expires_at is null or f.expires_at > now())
                    {"and (f.created_at, f.id) < (%(at)s, %(id)s)" if older_than else ""}
                    order by f.created_at desc, f.id desc limit %(limit)s""",
                {
                    "owner": owner,
                    "at": older_than.created_at if older_than else None,
                    "id": older_than.id if older_than else None,
                    "limit": limit,
                },
            )
            return await c.fetchall()

    async def delete(self, file_id: str, owner: int) -> bool:
        """Delete an uploaded file. Return False if there is none, or it belongs to another owner or a prediction."""
        async with self._database.transaction() as connection:
            done = await connection.execute(
                """update files set state = 'deleted'
                   where id = %s and owner = %s and state = 'stored' and prediction is null""",
                (file_id, owner),
            )
        if done.rowcount:
            await self._remove([file_id])
        return done.rowcount == 1

    async def discard(self, file_ids: Sequence[str]) -> None:
        """Delete files that were received but are not kept. What can't be deleted now is left to the sweep."""
        if not file_ids:
            return
        try:
            async with self._database.transaction() as connection:
                await connection.execute(
                    "update files set state = 'deleted' where id = any(%s) and state = 'arriving'", (list(file_ids),)
                )
            await self._remove(file_ids)
        except (*UNAVAILABLE, BaseError, OSError) as error:
            logger.warning("can't delete files", extra={"count": len(file_ids), "error": str(error).strip()})

    async def sweep(self) -> int:
        """Delete the files that have expired or were given up, and return how many.

        An expired file stays as long as a prediction that has not ended needs it.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                f"""update files f set state = 'deleted' where state = 'stored' and expires_at < now()
                    and not exists (select 1 from predictions p where p.owner = f.owner and p.{IS_LIVE}
                        and position(f.key in p.input_files::text) > 0)"""
            )
            await connection.execute(
                """update files set state = 'deleted' where state = 'arriving'
                   and created_at < now() - make_interval(secs => %s + size::float8 / %s)""",
                (ABANDONED_S, ABANDONED_BYTES_PER_S),
            )
        count = 0
        while removed := await self._remove(None):
            count += removed
        return count

    async def _reserve(self, file_id: str, owner: int, file: File, expected_bytes: int, limits: Limits) -> int:
        """Insert a row that takes as much of the quota as the file may need, and return how much that is."""
        async with self._database.transaction() as connection:
            # One of an owner's files at a time, so that two can't take the same rest of the quota.
            await connection.execute("select 1 from tokens where id = %s for no key update", (owner,))
            wanted = min(expected_bytes, limits.file_bytes)
            if limits.quota_bytes:
                wanted = min(wanted, limits.quota_bytes - await _stored_bytes(connection, owner))
                if wanted <= 0:
                    raise QuotaError(limits.quota_bytes)
            await connection.execute(
                "insert into files (id, owner, key, name, media_type, size) values (%s, %s, %s, %s, %s, %s)",
                (file_id, owner, file.key, file.name, file.media_type, wanted),
            )
        return wanted

    async def _remove(self, file_ids: Sequence[str] | None) -> int:
        """Remove deleted files from the store, then their rows; with None some of them all. Return how many."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                "select id, key from files where state = 'deleted' and (%s::text[] is null or id = any(%s)) limit %s",
                (file_ids and list(file_ids), file_ids and list(file_ids), BATCH),
            )
            rows = await found.fetchall()
        await self._files.delete([key for _, key in rows])
        async with self._database.transaction() as connection:
            await connection.execute("delete from files where id = any(%s)", ([file_id for file_id, _ in rows],))
        return len(rows)


async def bind_uploads(connection: Connection, file_ids: Sequence[str], prediction_id: str) -> None:
    """Make received files part of a prediction, in the connection's transaction."""
    await connection.execute(
        "update files set state = 'stored', prediction = %s where id = any(%s)", (prediction_id, list(file_ids))
    )


async def _stored_bytes(connection: Connection, owner: int) -> int:
    found = await connection.execute(
        "select coalesce(sum(size), 0)::bigint from files where owner = %s and state != 'deleted'", (owner,)
    )
    row = await found.fetchone()
    return int(row[0]) if row else 0


def _key_name(name: str) -> str:
    """Return a file's name as the end of its key: with its extension, and with nothing that a URL treats specially."""
    return _UNSAFE.sub("-", name)[-_MAX_KEY_NAME_CHARS:].strip(".-") or "file"
