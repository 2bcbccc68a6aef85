"""Output files, at signed URLs that a browser plays: in parts, with their types and names."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from gateway.api import errors
from gateway.api.services import Services, Serving
from gateway.prediction import LinkError, file_of
from gateway.record import File

router = APIRouter()

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# What a browser shows without running any of it. Everything else is saved: a model may write a page or an SVG, whose
# scripts would run at the gateway's own address.
SHOWN = re.compile(r"(audio|video)/[\w.+-]+|image/(png|jpeg|gif|webp|avif|bmp)|text/plain|application/json")


@dataclass(frozen=True)
class Span:
    """The bytes of a file from `start` up to, and without, `end`."""

    start: int
    end: int


@router.api_route("/outputs/{signature}/{key:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def output(signature: str, key: str, request: Request, services: Serving) -> Response:
    """Send a file, or the part of it that a Range header asks for."""
    try:
        services.links.check("file", key, signature)
    except LinkError as error:
        raise errors.Refusal(403, "Forbidden", f"This file can't be fetched: {error}.") from error
    prediction_id = request.state.prediction = key.partition("/")[0]
    row = await services.record.predictions.get(prediction_id)
    file = file_of(row, key) if row else None
    if file is None:  # retention has taken it
        raise errors.not_found()
    if bucket_url := await _presigned(request, services, key):
        return RedirectResponse(bucket_url, headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"})
    headers = _headers(file)
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    # A range of another file than the client has begun with would be a wrong piece: If-Range says which that was.
    ranged = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    wanted = request.headers.get("range", "") if ranged else ""
    span = span_of(wanted, file.size)
    if span is None:
        refusal = "The range lies beyond the file's end."
        raise errors.Refusal(416, "Range not satisfiable", refusal, headers={"Content-Range": f"bytes */{file.size}"})
    partial = span != Span(0, file.size) or bool(RANGE.fullmatch(wanted))
    if partial and file.size:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    headers["Content-Length"] = str(span.end - span.start)
    body = (
        _nothing() if request.method == "HEAD" else await _begun(services.record.files.read(key, span.start, span.end))
    )
    return StreamingResponse(body, 206 if partial else 200, headers, media_type=file.media_type)


async def _presigned(request: Request, services: Services, key: str) -> str | None:
    """Return where the bucket itself serves a file; None: this client has it from here."""
    # PY1 sends its token wherever it fetches, and follows no redirect; S3 would refuse a token beside a signature.
    # The URL is signed for GET alone.
    if not services.settings.file_redirects or request.method != "GET" or "authorization" in request.headers:
        return None
    return await services.record.files.presigned(key, services.settings.file_url_s)


def span_of(header: str, size: int) -> Span | None:
    """Return the part that a Range header asks for: the whole where it has none that we know, None beyond the end.

    Several ranges at once are none that we know; the standard lets a server send the whole for these.
    """
    match = RANGE.fullmatch(header.replace(" ", ""))
    if not match or match[0] == "bytes=-":
        return Span(0, size)
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        return Span(max(0, size - int(last)), size) if int(last) and size else None
    if last and int(last) < int(first):
        return Span(0, size)  # not a range at all
    return Span(int(first), min(size, int(last) + 1) if last else size) if int(first) < size else None


def _headers(file: File) -> dict[str, str]:
    """Return what is said of a file."""
    placing = "inline" if SHOWN.fullmatch(file.media_type.partition(";")[0].strip()) else "attachment"
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.key.split("/")[1]}"',  # keys are never used again
        "Cache-Control": "private, max-age=3600, immutable",
        "Content-Disposition": f"{placing}; filename*=UTF-8''{quote(file.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self'; media-src 'self'",
        "Access-Control-Allow-Origin": "*",  # the URL is the permission; pages elsewhere may play it too
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the chunks, the first one read already: after it an error could no longer become an answer."""
    first = b""
    try:
        with suppress(StopAsyncIteration):
            first = await anext(chunks)
    except FileNotFoundError as error:
        raise errors.not_found() from error
    return _joined(first, chunks)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
