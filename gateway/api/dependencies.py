"""FastAPI dependencies of the routes: the services, and the caller."""

import asyncio
import gzip
import re
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias, cast

import httpx
from fastapi import Depends, Path, Request
from fastapi.responses import Response

from gateway.api import errors
from gateway.api.limits import CreateRate
from gateway.catalog import Catalog
from gateway.catalog_files import LiveCatalog
from gateway.links import encode
from gateway.metrics import Metrics
from gateway.prediction import Json, JsonObject, Token
from gateway.record import Record
from gateway.settings import Settings
from gateway.thumbnails import Thumbnails

HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)
SCHEMES = ("bearer", "token")
MAX_TOKEN_CHARS = 200
GZIP_BYTES = 1000
GZIP_LEVEL = 5  # a list of 100 predictions takes 2 ms


@dataclass(frozen=True)
class Services:
    """Everything that a route works with."""

    settings: Settings
    live_catalog: LiveCatalog
    record: Record
    rate: CreateRate
    metrics: Metrics
    thumbnails: Thumbnails
    http: httpx.AsyncClient  # for the models' preview servers
    files_origin: str | None = None  # the bucket's, if clients fetch files from there
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the gateway begins to shut down

    @property
    def catalog(self) -> Catalog:
        """The models on offer now."""
        return self.live_catalog.current


@dataclass(frozen=True)
class Caller:
    """The client that sent a request."""

    token: Token
    base_url: str  # the gateway's address as this client sees it

    @property
    def owner(self) -> int:
        """The owner of this client's predictions."""
        return self.token.id


def services(request: Request) -> Services:
    """Return the services of the running application."""
    return cast(Services, request.app.state.services)


async def caller(request: Request) -> Caller:
    """Return the caller.

    Raises:
        Refusal: The request has no valid token.
    """
    found = services(request)
    secret = token_of(request)
    if secret is None:
        raise errors.unauthenticated()
    token = await found.record.tokens.find(secret)
    if token is None:
        raise errors.unauthenticated("You did not pass a valid authentication token")
    request.state.token = token.name  # for the access log
    return Caller(token, base_url(request))


def token_of(request: Request) -> str | None:
    """Return the token that a request carries, or None. It may be invalid."""
    scheme, _, secret = request.headers.get("authorization", "").strip().partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() in SCHEMES and 0 < len(secret) <= MAX_TOKEN_CHARS else None


def base_url(request: Request) -> str:
    """Return the gateway's address: the setting GATEWAY_PUBLIC_URL, or what the Host header says."""
    settings = services(request).settings
    host = request.headers.get("host", "")
    if settings.public_url or not HOST.fullmatch(host):
        return settings.base_url
    return f"{request.url.scheme}://{host}"


def json_response(content: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON as a response."""
    return Response(encode(content), status, headers, media_type="application/json")


async def compressed(request: Request, response: Response) -> Response:
    """Compress a response for clients that accept gzip. Lists are compressed: outputs in data URLs wouldn't shrink."""
    response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) >= GZIP_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        response.body = await asyncio.to_thread(gzip.compress, response.body, GZIP_LEVEL)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response


def single_page(results: list[JsonObject]) -> JsonObject:
    """Return a list that fits on one page."""
    return {"previous": None, "next": None, "results": [*results]}


Owner: TypeAlias = Annotated[str, Path(description="The owner of the model")]
Name: TypeAlias = Annotated[str, Path(description="The name of the model")]
CallerDependency: TypeAlias = Annotated[Caller, Depends(caller)]
ServicesDependency: TypeAlias = Annotated[Services, Depends(services)]
