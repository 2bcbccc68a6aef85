"""Parse multipart/form-data as it arrives, so that a file in it is never held in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.api import errors
from gateway.api.limits import body_chunks


@dataclass(frozen=True)
class Part:
    """The head of a part of a form."""

    name: str
    filename: str | None
    media_type: str | None


class FormParser:
    """Parses a form that arrives in chunks into parts, their data, and None at the end of each part."""

    def __init__(self, content_type: str) -> None:
        kind, parameters = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in parameters:
            raise errors.unreadable("body", "Must be multipart/form-data, with the file in the field content")
        self.ended = False
        self._found: list[Part | bytes | None] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._parser = MultipartParser(
            parameters[b"boundary"],
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: self._found.append(data[start:end]),
                "on_part_end": lambda: self._found.append(None),
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> list[Part | bytes | None]:
        """Take a chunk, and return what it has.

        Raises:
            FormParserError: It is no part of a form.
        """
        self._found = []
        self._parser.write(chunk)
        return self._found

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        filename = parameters.get(b"filename")
        media_type = self._headers.get(b"content-type")
        self._found.append(
            Part(
                parameters.get(b"name", b"").decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                None if media_type is None else media_type.decode("latin-1"),
            )
        )

    def _on_end(self) -> None:
        self.ended = True


async def parts(request: Request, limit_bytes: int, limit_s: float) -> AsyncIterator[Part | bytes | None]:
    """Yield the parts of a form, their data as it arrives, and None at the end of each.

    Raises:
        Refusal: It isn't multipart/form-data, or is too large or too slow.
    """
    parser = FormParser(request.headers.get("content-type", ""))
    async for chunk in body_chunks(request, limit_bytes, limit_s):
        try:
            found = parser.feed(chunk)
        except FormParserError as error:
            raise errors.unreadable("body", f"Must be multipart/form-data: {error}") from error
        for part in found:
            yield part
    if not parser.ended:
        raise errors.unreadable("body", "Must be multipart/form-data: it has no end")
