"""Read the body of a create: JSON, whose long data URLs are stored as files while they arrive.

A data URL may have a hundred megabytes. It is never held in memory, nor in the database, nor shown in lists and
webhooks: what is left of it in the JSON is a reference to its file.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fastapi import Request
from obstore.exceptions import BaseError

from gateway import media_types
from gateway.api import errors
from gateway.api.dependencies import Caller, Services
from gateway.api.limits import body_chunks, content_length
from gateway.prediction import File
from gateway.record.uploads import Limits, QuotaError, TooLargeError
from gateway.settings import Settings

LONG_CHARS = 16 << 10  # a data URL with as many characters becomes a file
_START = b'"data:'
_HEAD = re.compile(rb"data:((?:[\w.+-]+\\?/[\w.+-]+)?)(?:;[\w.+-]+=[\w.+-]+)*;base64,")
_MAX_HEAD_CHARS = 1000
_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_MAX_ESCAPE_BYTES = 6
_BACKSLASH = ord("\\")


@dataclass(frozen=True)
class Begin:
    """A long data URL begins."""

    media_type: str
    head: str  # up to and with the comma


@dataclass(frozen=True)
class Data:
    """A decoded piece of a long data URL."""

    data: bytes


@dataclass(frozen=True)
class End:
    """A long data URL has ended. What stands for it can be added to the scanner's `kept` now."""


Event: TypeAlias = Begin | Data | End


class DataUrlScanner:
    """Takes the long data URLs out of JSON that arrives in chunks, without parsing it.

    That works because `"data:` begins a string in JSON, unless its quotation mark is escaped.
    """

    def __init__(self) -> None:
        self.kept = bytearray()  # the JSON without its long data URLs
        self._searched = 0  # up to here, `kept` has no beginning of one
        self._inside = False  # a long data URL
        self._encoded = bytearray()  # its characters that are not decoded yet
        self._padded = False  # it has had a =

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take a chunk of the JSON, and yield what it has of long data URLs.

        Raises:
            ValueError: A long data URL isn't valid base64.
        """
        if self._inside:
            self._encoded += chunk
        else:
            self.kept += chunk
        while True:
            if self._inside:
                yield from self._decode()
                if self._inside:
                    return
            else:
                begin = self._find()
                if begin is None:
                    return
                yield begin

    def _find(self) -> Begin | None:
        """Go to the next long data URL in `kept`, and cut it off there. Return None if none is known to begin."""
        while (at := self.kept.find(_START, self._searched)) >= 0:
            start = at + 1
            self._searched = start
            if self._is_escaped(at) or self.kept.find(b'"', start, start + LONG_CHARS) >= 0:
                continue
            if len(self.kept) < start + LONG_CHARS:
                self._searched = at  # it may become a long one
                return None
            if head := _HEAD.match(self.kept, start, start + _MAX_HEAD_CHARS):
                whole, media_type = (group.replace(b"\\", b"").decode() for group in (head[0], head[1]))
                self._encoded += self.kept[head.end() :]
                del self.kept[start:]
                self._inside, self._padded = True, False
                return Begin(media_type, whole)
        self._searched = max(self._searched, len(self.kept) - len(_START) + 1)
        return None

    def _is_escaped(self, at: int) -> bool:
        """Return whether an odd number of backslashes comes before a position."""
        first = at
        while first and self.kept[first - 1] == _BACKSLASH:
            first -= 1
        return (at - first) % 2 == 1

    def _decode(self) -> Iterator[Event]:
        """Decode what is there of a long data URL."""
        end = self._encoded.find(b'"')
        if end < 0:
            begun_escape = self._encoded.find(b"\\", max(0, len(self._encoded) - _MAX_ESCAPE_BYTES + 1))
            stop = begun_escape if begun_escape >= 0 else len(self._encoded)
        else:
            stop = end
        text = _ESCAPE.sub(_unescape, bytes(self._encoded[:stop])).translate(None, b"\r\n")
        rest = bytes(self._encoded[stop:])
        whole = len(text) if end >= 0 else len(text) // 4 * 4
        self._encoded = bytearray(text[whole:] + rest)
        if whole:
            yield Data(self._decoded(text[:whole]))
        if end >= 0:
            self._inside = False
            yield End()
            self._searched = len(self.kept)
            self.kept += rest
            self._encoded.clear()

    def _decoded(self, text: bytes) -> bytes:
        if self._padded:
            raise ValueError("there is more after its padding")
        self._padded = text.endswith(b"=")
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def _unescape(escape: re.Match[bytes]) -> bytes:
    text: str = json.loads(b'"' + escape[0] + b'"')
    return text.encode()


@dataclass(frozen=True)
class DataUrl:
    """A long data URL that was stored as a file."""

    id: str  # of the upload
    file: File
    head: str  # its beginning, up to and with the comma


@dataclass(frozen=True)
class CreateBody:
    """The body of a create as it arrived."""

    json: bytes  # with references in place of the long data URLs
    data_urls: Mapping[str, DataUrl]  # by reference; they are not kept unless a prediction is stored with them


async def read_create_body(request: Request, services: Services, caller: Caller) -> CreateBody:
    """Read a create's body, and store its long data URLs.

    Raises:
        Refusal: It is too large or too slow, has an invalid data URL, or the store doesn't answer. No file is left.
    """
    settings = services.settings
    scanner = DataUrlScanner()
    data_urls: dict[str, DataUrl] = {}
    try:
        events = _events(request, settings, scanner)
        async for begin in events:
            assert isinstance(begin, Begin)  # noqa: S101 - the block below takes the other events
            stored = await _store(begin, events, request, services, caller)
            data_urls[stored.file.reference] = stored
            scanner.kept += stored.file.reference.encode()
    except BaseException as error:
        await discard(services, data_urls)
        if refusal := store_refusal(error):
            raise refusal from error
        raise
    return CreateBody(bytes(scanner.kept), data_urls)


async def discard(services: Services, data_urls: Mapping[str, DataUrl]) -> None:
    """Delete the files of data URLs that no prediction has."""
    await services.record.uploads.discard([stored.id for stored in data_urls.values()])


def store_refusal(error: BaseException) -> errors.Refusal | None:
    """Return the response to an error of receiving a file, or None for other errors."""
    if isinstance(error, QuotaError | TooLargeError):
        return errors.Refusal(413, "Request too large", f"{error}.".capitalize())
    if isinstance(error, BaseError):
        return errors.unavailable("The file store doesn't answer; nothing was stored.")
    return None


def file_limits(settings: Settings) -> Limits:
    """Return how much a client may store."""
    return Limits(settings.file_bytes, settings.file_quota_bytes)


async def _events(request: Request, settings: Settings, scanner: DataUrlScanner) -> AsyncIterator[Event]:
    """Feed a request's body to a scanner, and yield its events."""
    limit_bytes = settings.body_bytes + _encoded_bytes(settings.file_bytes)
    async for chunk in body_chunks(request, limit_bytes, settings.body_s):
        try:
            for event in scanner.feed(chunk):
                yield event
        except ValueError as error:
            raise errors.unreadable("body", f"Has a data URL that isn't valid base64: {error}") from error
        if len(scanner.kept) > settings.body_bytes + LONG_CHARS:
            break
    if len(scanner.kept) > settings.body_bytes:
        detail = f"Without its data URLs, the body must have at most {settings.body_bytes} bytes."
        raise errors.Refusal(413, "Request too large", detail)


def _encoded_bytes(size: int) -> int:
    """Return how many bytes as many bytes take in base64."""
    return (size + 2) // 3 * 4


async def _store(
    begin: Begin, events: AsyncIterator[Event], request: Request, services: Services, caller: Caller
) -> DataUrl:
    """Store a data URL that begins, up to its end."""
    media_type = begin.media_type or "text/plain"  # as RFC 2397 says
    name = f"input{media_types.extension(media_type)}"
    limits = file_limits(services.settings)
    expected_bytes = content_length(request) or limits.file_bytes  # its base64 is larger anyway
    async with services.record.uploads.receiving(caller.owner, name, media_type, expected_bytes, limits) as arriving:
        async for event in events:
            if not isinstance(event, Data):
                break
            await arriving.write(event.data)
    return DataUrl(arriving.id, arriving.file, begin.head)
