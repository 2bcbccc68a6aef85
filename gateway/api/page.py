"""The web page's static files, and the routes that only the page uses: previews and thumbnails."""

import base64
import json
import re
from pathlib import Path
from typing import Annotated, cast

import httpx
import mimeparse
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.api import errors
from gateway.api.dependencies import (
    Caller,
    CallerDependency,
    Name,
    Owner,
    Services,
    ServicesDependency,
    compressed,
    json_response,
)
from gateway.api.input_files import own_file
from gateway.api.limits import read_body
from gateway.prediction import Json, JsonObject

router = APIRouter(include_in_schema=False)

PREVIEW_TIMEOUT_S = 60.0  # the first sound takes twenty seconds, because libraries are compiled for it
MAX_PREVIEW_FILE_BYTES = 40_000_000
NO_PREVIEW = "This model has no preview."
PREVIEW_BODY = "The body must be a JSON object whose `input` is an object."

IDS = re.compile(r"[a-z0-9]{26}(?:,[a-z0-9]{26}){0,99}")
THUMBNAILS_S = 3600  # how long a browser keeps thumbnails

# The page's own scripts and styles, and the files that it plays. No other origin but the outputs' bucket, and no inline
# script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: blob:{bucket}; "
    "img-src 'self' data: blob:{bucket}; media-src 'self' data: blob:{bucket}; font-src 'self'; "
    "worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # revalidated each time, and not sent again if unchanged
}


class Page(StaticFiles):
    """The files of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with the page's headers."""
        response = await super().get_response(path, scope)
        response.headers.update(_headers(scope["app"].state.services))
        return response


def mount(app: FastAPI, folder: Path) -> None:
    """Serve the page at / to every client that accepts HTML, and its files at /web/."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request, services: ServicesDependency) -> Response:
        document = folder / "index.html"
        if not _accepts_html(request.headers.get("accept", "")) or not document.is_file():
            raise errors.not_found()
        return FileResponse(document, headers=_headers(services))

    app.mount("/web", GZipMiddleware(Page(directory=folder)), name="web")


def _accepts_html(accept: str) -> bool:
    """Return whether an Accept header admits a page. One that is missing or malformed admits everything."""
    try:
        return not accept.strip() or mimeparse.best_match(["text/html"], accept.lower()) != ""
    except mimeparse.MimeTypeParseException:
        return True


def _headers(services: Services) -> dict[str, str]:
    bucket = f" {services.files_origin}" if services.files_origin else ""
    return {"Content-Security-Policy": POLICY.format(bucket=bucket), **HEADERS}


@router.post("/models/{owner}/{name}/preview")
async def preview(
    owner: Owner, name: Name, request: Request, services: ServicesDependency, caller: CallerDependency
) -> Response:
    """Get a preview of an input from the model's preview server, without running the model.

    The server gets our own files as data URLs: it opens no files or addresses itself.
    """
    url = services.settings.previews.get(f"{owner}/{name}")
    if url is None:
        raise errors.Refusal(404, "Not found", NO_PREVIEW)
    try:
        body = json.loads(await read_body(request, services.settings.body_bytes, services.settings.body_s))
    except ValueError as error:
        raise errors.Refusal(422, "Invalid body", PREVIEW_BODY) from error
    if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
        raise errors.Refusal(422, "Invalid body", PREVIEW_BODY)
    values = {name: await _with_file(services, caller, value) for name, value in body["input"].items()}
    return json_response(await _ask(services.http, url, values))


async def _with_file(services: Services, caller: Caller, value: Json) -> Json:
    """Return a value, or what it names as a data URL if that is a file of ours which isn't too large."""
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return value
    try:
        file = await own_file(services, caller, value)
    except ValueError:
        return value
    if file is None or file.size > MAX_PREVIEW_FILE_BYTES:
        return value
    data = b"".join([chunk async for chunk in services.record.files.read(file.key)])
    return f"data:{file.media_type};base64,{base64.b64encode(data).decode()}"


@router.get("/thumbnails")
async def thumbnails(
    request: Request,
    services: ServicesDependency,
    caller: CallerDependency,
    ids: Annotated[str, Query(description="Ids of up to 100 predictions, separated by commas.")],
) -> Response:
    """Get thumbnails of outputs that are images, as data URLs by id: one request for a whole page of the history."""
    if not IDS.fullmatch(ids):
        raise errors.unreadable("ids", "Must be the ids of up to 100 predictions, separated by commas")
    found: JsonObject = {}
    for prediction_id in ids.split(","):
        row = await services.record.predictions.get(prediction_id, caller.owner)
        image = next((file for file in row.files if file.media_type.startswith("image/")), None) if row else None
        if image and (url := await services.thumbnails.of(image)):
            found[prediction_id] = url
    # A browser may keep them, because the output of a prediction that has ended doesn't change.
    response = json_response(found, headers={"Cache-Control": f"private, max-age={THUMBNAILS_S}"})
    response = await compressed(request, response)
    response.headers["Vary"] = "Accept-Encoding, Authorization"
    return response


async def _ask(client: httpx.AsyncClient, url: str, values: JsonObject) -> JsonObject:
    """Return a preview server's answer, or raise a Refusal if there is none."""
    try:
        reply = await client.post(url, json={"input": values}, timeout=PREVIEW_TIMEOUT_S)
        reply.raise_for_status()
        return cast(JsonObject, reply.json())
    except (httpx.HTTPError, ValueError) as error:
        raise errors.unavailable("The model's preview server doesn't answer.") from error
