"""Make what a Cog server gets of a prediction's inputs: its files, wherever they are, and its secrets.

The worker fetches the files, so that models need no network, and a client's URL can't reach into the models' own.
"""

import asyncio
import base64
import copy
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit

from obstore.exceptions import BaseError as StoreError

from gateway import media_types
from gateway.addresses import guarded_pool
from gateway.prediction import REDACTED, File, InputFile, Json, JsonObject, Prediction
from gateway.record import Record
from gateway.record.database import until_stored
from gateway.work.fetch import Budget, Content, Fetcher, FetchError, typed

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Files up to this size together go into the request, as data URLs. Larger ones are served to the Cog server: it takes
# requests of 100 MiB, which is a file of 75 MiB, and needs ten seconds to decode that.
INLINE_BYTES = 16 << 20
# The extensions that a file keeps as a data URL of this type: Cog names it by the type, with the table of its own
# Python, which may lack many. Files with other extensions are served too.
INLINE_TYPES = {
    ".bin": media_types.UNKNOWN,
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".txt": "text/plain",
    ".wav": "audio/x-wav",
    ".zip": "application/zip",
}
FETCHES_AT_ONCE = 4
FETCHED_TIMES = 4  # the files of a prediction that are fetched may take so many times the limit of one
STORE_TRIES = 4  # with pauses of 1, 2 and 3 s


class InputError(Exception):
    """A prediction can't run because of a file that it names; str() is its error."""


@dataclass(frozen=True)
class InputLimits:
    """What the files of a prediction may take."""

    file_bytes: int  # one file
    total_s: float  # all of them together
    private: bool  # allow URLs of private addresses


@dataclass(frozen=True)
class Prepared:
    """Inputs as a Cog server gets them."""

    values: JsonObject = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def redact(self, text: str) -> str:
        """Return a server's message without the secrets, which it may quote."""
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        return text


class Inputs:
    """Prepares the inputs of predictions."""

    def __init__(self, record: Record, limits: InputLimits) -> None:
        self._record = record
        self._limits = limits
        self._pool = guarded_pool(private=limits.private, max_connections=16)
        self._fetcher = Fetcher(self._pool, file_bytes=limits.file_bytes, private=limits.private)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def prepare(self, row: Prediction, base_url: str, served: list[Content]) -> Prepared:
        """Return a prediction's inputs for its Cog server.

        Args:
            row: The prediction.
            base_url: The URL below which the Cog server can fetch served files.
            served: Where to add the files to serve, at `{base_url}/{index}/{name}`.

        Raises:
            InputError: A file can't be had.
        """
        values = copy.deepcopy(row.input)
        secrets: JsonObject = {}
        if any(_is_redacted(value) for value in values.values()):
            secrets = await until_stored(lambda: self._record.secret_inputs.get(row.id))
        if row.input_files:
            await self._place_files(row, values, base_url, served)
        return Prepared(values | secrets, tuple(_texts(list(secrets.values()))))

    async def _place_files(self, row: Prediction, values: JsonObject, base_url: str, served: list[Content]) -> None:
        """Replace what names a file by a URL at which the Cog server gets its content."""
        contents = await self._open(row, values)
        left = INLINE_BYTES
        try:
            for named, content in zip(row.input_files, contents, strict=True):
                suffix = PurePosixPath(content.name).suffix.lower()
                if content.size <= left and (suffix in INLINE_TYPES or not suffix):
                    left -= content.size
                    url = await self._data_url(named, content, INLINE_TYPES.get(suffix, content.media_type))
                    content.close()
                else:
                    url = f"{base_url}/{len(served)}/{quote(content.name, safe='')}"
                    served.append(content)
                _place(values, named.at, url)
        except BaseException:
            for content in contents:
                content.close()
            raise

    async def _open(self, row: Prediction, values: JsonObject) -> list[Content]:
        """Open all files of a prediction."""
        until = asyncio.get_running_loop().time() + self._limits.total_s
        at_once = asyncio.Semaphore(FETCHES_AT_ONCE)
        budget = Budget(self._limits.file_bytes * FETCHED_TIMES)

        async def one(named: InputFile) -> Content:
            async with at_once:
                if named.file:
                    return await self._stored(named, named.file)
                url = cast(str, _at(values, named.at))
                try:
                    async with asyncio.timeout_at(until):
                        return await self._fetcher.fetch(url, budget)
                except TimeoutError as error:
                    raise _unfetched(named, url, f"it didn't arrive within {self._limits.total_s:g} seconds") from error
                except FetchError as error:
                    raise _unfetched(named, url, str(error)) from error

        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(named)) for named in row.input_files]
        except ExceptionGroup as errors:
            for task in tasks:
                if not task.cancelled() and task.exception() is None:
                    task.result().close()
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    async def _stored(self, named: InputFile, file: File) -> Content:
        """Open a file of ours."""
        files = self._record.files

        async def head() -> tuple[int | None, bytes]:
            size = await files.size(file.key)
            wanted = min(size or 0, media_types.MAGIC_BYTES) if file.media_type == media_types.UNKNOWN else 0
            return size, b"".join([chunk async for chunk in files.read(file.key, 0, wanted)]) if wanted else b""

        size, begin = await self._retrying(named, head)
        if size is None:
            raise _gone(named)
        name, media_type = typed(file.name, file.media_type, begin)
        return Content(name, media_type, size, lambda: files.read(file.key))

    async def _data_url(self, named: InputFile, content: Content, media_type: str) -> str:
        async def whole() -> bytes:
            return b"".join([chunk async for chunk in content.read()])

        data = await self._retrying(named, whole)
        encoded = await asyncio.to_thread(base64.b64encode, data)
        return f"data:{media_type};base64,{encoded.decode()}"

    async def _retrying(self, named: InputFile, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the store, a few times if it doesn't answer."""
        for tries in itertools.count(1):
            try:
                return await read()
            except FileNotFoundError as error:
                raise _gone(named) from error
            except (StoreError, OSError) as error:
                if tries == STORE_TRIES:
                    message = f"The file of {named.field} could not be read: {type(error).__name__}."
                    raise InputError(message) from error
                logger.warning("can't read an input; retrying", extra={"field": named.field, "error": str(error)})
                await asyncio.sleep(tries)
        raise AssertionError("the loop returns")


def _unfetched(named: InputFile, url: str, reason: str) -> InputError:
    return InputError(f"The file of {named.field} could not be fetched from {urlsplit(url).hostname}: {reason}.")


def _gone(named: InputFile) -> InputError:
    return InputError(f"The file of {named.field} no longer exists: it has expired, or was deleted.")


def _is_redacted(value: Json) -> bool:
    return value == REDACTED or (isinstance(value, list) and REDACTED in value)


def _at(value: Json, at: tuple[str | int, ...]) -> Json:
    """Return the part of a value at a place."""
    for step in at:
        value = cast(Any, value)[step]
    return value


def _place(values: JsonObject, at: tuple[str | int, ...], value: str) -> None:
    """Replace the part of the inputs at a place."""
    cast(Any, _at(values, at[:-1]))[at[-1]] = value


def _texts(value: Json) -> Iterator[str]:
    """Yield the texts in a secret input that are not empty."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
