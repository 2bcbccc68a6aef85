"""Stored files: at signed URLs, with range requests, or as data URLs in the JSON."""

import base64
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from obstore.exceptions import BaseError

from gateway.api import errors
from gateway.api.dependencies import Services, ServicesDependency
from gateway.links import LinkError
from gateway.prediction import File, Prediction
from gateway.record.uploads import FOLDER as UPLOADS_FOLDER

logger = logging.getLogger(__name__)

router = APIRouter()

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# Types that a browser displays without running scripts. Everything else is downloaded: a model may write HTML or SVG,
# whose scripts would run with the gateway's origin.
INLINE = re.compile(r"(audio|video)/[\w.+-]+|image/(png|jpeg|gif|webp|avif|bmp)|text/plain|application/json")
# From version 1 on, the official clients wrap an output in a file object only if it begins with https: or data:. They
# pass any other string through, as versions before pass all strings: docs/clients.md#file-outputs
OFFICIAL_CLIENTS = re.compile(r"replicate-(python|javascript)/(?!0\.)|(Async)?Replicate/Python ")


@dataclass(frozen=True)
class Span:
    """The bytes of a file from `start` to `end`, exclusive."""

    start: int
    end: int


@router.api_route("/outputs/{signature}/{key:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def output(signature: str, key: str, request: Request, services: ServicesDependency) -> Response:
    """Send a file of an output, or one that an input contained."""
    try:
        services.record.links.check("file", key, signature)
    except LinkError as error:
        raise forbidden(error) from error
    if not key.startswith(f"{UPLOADS_FOLDER}/"):
        request.state.prediction = key.partition("/")[0]  # for the access log
    file = await stored_file(services, key)
    if file is None:  # retention has deleted it
        raise errors.not_found()
    return await send(request, services, file)


def forbidden(error: LinkError) -> errors.Refusal:
    """Return 403: a URL's signature is invalid or has expired."""
    return errors.Refusal(403, "Forbidden", f"This file can't be fetched: {error}.")


async def stored_file(services: Services, key: str) -> File | None:
    """Return the file with this key, or None."""
    folder, _, rest = key.partition("/")
    if folder == UPLOADS_FOLDER:
        upload = await services.record.uploads.get(rest.partition("/")[0])
        return upload.file if upload and upload.key == key else None
    row = await services.record.predictions.get(folder)
    return row.file(key) if row else None


async def send(request: Request, services: Services, file: File) -> Response:
    """Send a file, or the part that a Range header asks for."""
    if bucket_url := await _presigned(request, services, file.key):
        return RedirectResponse(bucket_url, headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"})
    headers = _headers(file)
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    # If-Range names the file that the client has a part of; a range of another file would not fit.
    ranged = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    wanted = request.headers.get("range", "") if ranged else ""
    span = span_of(wanted, file.size)
    if span is None:
        refusal = "The range starts beyond the end of the file."
        raise errors.Refusal(416, "Range not satisfiable", refusal, headers={"Content-Range": f"bytes */{file.size}"})
    partial = span != Span(0, file.size) or bool(RANGE.fullmatch(wanted))
    if partial and file.size:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    headers["Content-Length"] = str(span.end - span.start)
    # An empty file has no range.
    chunks = services.record.files.read(file.key, span.start, span.end if file.size else None)
    body = _nothing() if request.method == "HEAD" else await _started(chunks)
    return StreamingResponse(body, 206 if partial else 200, headers, media_type=file.media_type)


async def _presigned(request: Request, services: Services, key: str) -> str | None:
    """Return the bucket's own URL of a file, or None if this client gets it from the gateway."""
    # The Python 1.x client sends its token to every URL and follows no redirect (docs/clients.md#file-downloads), and
    # S3 rejects a token next to a signature. The URL is signed for GET only.
    if not services.settings.file_redirects or request.method != "GET" or "authorization" in request.headers:
        return None
    return await services.record.files.presigned(key, services.settings.file_url_s)


def span_of(header: str, size: int) -> Span | None:
    """Parse a Range header.

    Returns:
        The part of the file, or None if it starts beyond the end. A header that we don't support, such as one with
        several ranges, gives the whole file, as RFC 9110 allows.
    """
    match = RANGE.fullmatch(header.replace(" ", ""))
    if not match or match[0] == "bytes=-":
        return Span(0, size)
    first, last = match[1], match[2]
    if not first:  # bytes=-N: the last N bytes
        return Span(max(0, size - int(last)), size) if int(last) and size else None
    if last and int(last) < int(first):
        return Span(0, size)  # not a range at all
    return Span(int(first), min(size, int(last) + 1) if last else size) if int(first) < size else None


def _headers(file: File) -> dict[str, str]:
    """Return the headers of a file."""
    disposition = "inline" if INLINE.fullmatch(file.media_type.partition(";")[0].strip()) else "attachment"
    # The URL of an output ends with its name. In a header it would override the name that a page gives a download.
    name = f"; filename*=UTF-8''{quote(file.name, safe='')}" if file.key.startswith(f"{UPLOADS_FOLDER}/") else ""
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.key.split("/")[1]}"',  # keys are never reused
        "Cache-Control": "private, max-age=3600, immutable",
        "Content-Disposition": disposition + name,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self'; media-src 'self'",
        "Access-Control-Allow-Origin": "*",  # the URL is the permission; other sites may play it too
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


async def _started(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the chunks after reading the first: later, an error could no longer become a response."""
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


def wants_data_urls(request: Request, services: Services, base_url: str) -> bool:
    """Return whether this client gets data URLs."""
    if services.settings.output_files != "auto":
        return services.settings.output_files == "data"
    return not base_url.startswith("https:") and bool(OFFICIAL_CLIENTS.match(request.headers.get("user-agent", "")))


async def data_urls(request: Request, services: Services, row: Prediction) -> dict[str, str]:
    """Return data URLs by the keys of a prediction's files, or none if this client gets signed URLs."""
    size = sum(file.size for file in row.files)
    if not size or size > services.settings.data_url_bytes or not wants_data_urls(request, services, row.base_url):
        return {}
    urls = {}
    try:
        for file in row.files:
            data = b"".join([chunk async for chunk in services.record.files.read(file.key)])
            urls[file.key] = f"data:{file.media_type};base64,{base64.b64encode(data).decode()}"
    except (OSError, BaseError) as error:  # retention has deleted it, or the store doesn't answer
        logger.warning("can't make data URLs; sending signed URLs", extra={"prediction": row.id, "error": str(error)})
        return {}
    return urls
