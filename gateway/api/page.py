"""The page that a browser sees: static files, under a policy that lets nothing else in."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.api import errors
from gateway.api.services import Services, Serving

# The page, its own scripts and styles, the outputs and the seeds that it plays; no other place, no inline script.
# Outputs that are in a bucket come from there.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: blob:{bucket}; "
    "img-src 'self' data: blob:{bucket}; media-src 'self' data: blob:{bucket}; font-src 'self'; "
    "worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again each time, and not sent again when it is the same
}


class Page(StaticFiles):
    """The files of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with the headers that all of the page has."""
        response = await super().get_response(path, scope)
        response.headers.update(_headers(scope["app"].state.services))
        return response


def mount(app: FastAPI, folder: Path) -> None:
    """Serve the page at / where a browser asks, and what it loads at /web/."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request, services: Serving) -> Response:
        document = folder / "index.html"
        if "text/html" not in request.headers.get("accept", "") or not document.is_file():
            raise errors.not_found()
        return FileResponse(document, headers=_headers(services))

    app.mount("/web", Page(directory=folder), name="web")


def _headers(services: Services) -> dict[str, str]:
    bucket = f" {services.files_origin}" if services.files_origin else ""
    return {"Content-Security-Policy": POLICY.format(bucket=bucket), **HEADERS}
