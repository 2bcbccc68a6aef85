"""Fetch the file that an input's URL names, from a public address, with its size bounded."""

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit

import httpcore
import httpx

from gateway import media_types
from gateway.addresses import AddressError, check_url, host_header, normalized

MAX_URL_CHARS = 8000  # a presigned URL may have thousands
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
MAX_NAME_CHARS = 100
CHUNK_BYTES = 1 << 20
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


class FetchError(Exception):
    """A file can't be fetched; str() says why."""


@dataclass(frozen=True)
class Content:
    """A file whose content can be read."""

    name: str
    media_type: str
    size: int  # bytes
    read: Callable[[], AsyncIterator[bytes]]
    close: Callable[[], None] = lambda: None


@dataclass
class Budget:
    """How much the files of a prediction that are still to be fetched may have."""

    bytes: int


class Fetcher:
    """Fetches files. Each address is checked, also after redirects."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, *, file_bytes: int, private: bool) -> None:
        """Take a pool that is guarded, the size of the largest file, and whether private addresses are allowed."""
        self._pool = pool
        self._file_bytes = file_bytes
        self._private = private

    async def fetch(self, url: str, budget: Budget) -> Content:
        """Fetch a file from a URL, into a temporary file.

        Raises:
            FetchError: It can't be had.
        """
        name = unquote(PurePosixPath(urlsplit(url).path).name)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                url = normalized(url)
                check_url(url, http=True, private=self._private, max_chars=MAX_URL_CHARS)
                headers = {
                    "host": host_header(httpcore.URL(url)),
                    "user-agent": "gateway-inputs",
                    "accept": "*/*",
                    "accept-encoding": "identity",
                }
                async with self._pool.stream("GET", url, headers=list(headers.items())) as answer:
                    location = _header(answer, b"location")
                    if answer.status not in REDIRECTS or not location:
                        return await self._download(answer, name, budget)
                url = urljoin(url, location)
            raise FetchError(f"it redirects more than {MAX_REDIRECTS} times")
        except AddressError as error:
            raise FetchError(str(error)) from error
        except ValueError as error:
            raise FetchError(f"the URL is refused: {error}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise FetchError(str(error) or type(error).__name__) from error

    async def _download(self, answer: httpcore.Response, name: str, budget: Budget) -> Content:
        """Receive an answer into a temporary file, which is deleted when it is closed, or its process dies."""
        if answer.status != httpx.codes.OK:
            raise FetchError(f"the answer was {answer.status}")
        if (encoding := _header(answer, b"content-encoding")) not in ("", "identity"):
            raise FetchError(f"the answer is compressed with {encoding}, though it should not be")
        too_large = FetchError(f"it has more than {self._file_bytes} bytes")
        length = _header(answer, b"content-length")
        if length.isdecimal() and int(length[:20]) > self._file_bytes:
            raise too_large
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the content is read later
        try:
            size = 0
            async for chunk in answer.aiter_stream():
                size += len(chunk)
                budget.bytes -= len(chunk)
                if size > self._file_bytes:
                    raise too_large
                if budget.bytes < 0:
                    raise FetchError("the prediction's files are too large together")
                file.write(chunk)
            file.flush()
            begin = os.pread(file.fileno(), CHUNK_BYTES, 0)
        except BaseException:
            file.close()
            raise
        name, media_type = typed(name, _header(answer, b"content-type"), begin)
        if size <= CHUNK_BYTES:  # hundreds of small ones would need too many file descriptors
            file.close()
            return Content(name, media_type, size, lambda: _once(begin))
        return Content(name, media_type, size, lambda: _chunks(file), file.close)


def typed(name: str, media_type: str, begin: bytes) -> tuple[str, str]:
    """Return a file's name, with an extension if its type is known, and its type."""
    given = media_type.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(given) or given == media_types.UNKNOWN:
        given = media_types.of_content(begin) or media_types.of_name(name) or media_types.UNKNOWN
    name = _UNSAFE.sub("-", name)[-MAX_NAME_CHARS:].strip(". ") or "file"
    if not PurePosixPath(name).suffix and given != media_types.UNKNOWN:
        name += media_types.extension(given)
    return name, given


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next((value for key, value in answer.headers if key.lower() == name), b"").decode("latin-1")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    offset = 0
    while chunk := await asyncio.to_thread(os.pread, file.fileno(), CHUNK_BYTES, offset):
        offset += len(chunk)
        yield chunk
