"""What the routes need, and who asks."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypeAlias, cast

from fastapi import Depends, Path, Request
from fastapi.responses import Response

from gateway.api import errors
from gateway.api.limits import CreateRate
from gateway.catalog import Catalog
from gateway.measures import Measures
from gateway.prediction import Links, encode
from gateway.record import Json, JsonObject, Record, Token
from gateway.settings import Settings

HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)
SCHEMES = ("bearer", "token")
MAX_TOKEN_CHARS = 200


class Previews(Protocol):
    """What asks a model's side for the preview of an input."""

    async def ask(self, url: str, values: JsonObject) -> JsonObject | None:
        """Return it, or None where there is no answer."""


@dataclass(frozen=True)
class Services:
    """Everything that a route works with."""

    settings: Settings
    catalog: Catalog
    record: Record
    links: Links
    rate: CreateRate
    measures: Measures
    previews: Previews
    files_origin: str | None = None  # where clients are sent for files: the bucket's
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the gateway is told to end


@dataclass(frozen=True)
class Caller:
    """Who asks, and by which address."""

    token: Token
    base_url: str  # the beginning of the URLs in the answer

    @property
    def owner(self) -> int:
        """Return whose predictions are seen."""
        return self.token.id


def services(request: Request) -> Services:
    """Return the services of the application that runs."""
    return cast(Services, request.app.state.services)


async def caller(request: Request) -> Caller:
    """Return who asks. Raises Refusal without a token that is known."""
    found = services(request)
    scheme, _, secret = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() not in SCHEMES or not secret.strip() or len(secret) > MAX_TOKEN_CHARS:
        raise errors.unauthenticated()
    token = await found.record.tokens.find(secret.strip())
    if token is None:
        raise errors.unauthenticated("You did not pass a valid authentication token")
    request.state.token = token.name  # for the log
    return Caller(token, base_url(request))


def base_url(request: Request) -> str:
    """Return the address by which the gateway is reached: the setting's, or what the request itself says."""
    settings = services(request).settings
    host = request.headers.get("host", "")
    if settings.public_url or not HOST.fullmatch(host):
        return settings.base_url
    return f"{request.url.scheme}://{host}"


def answer(shown: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON as a response."""
    return Response(encode(shown), status, headers, media_type="application/json")


Owner: TypeAlias = Annotated[str, Path(description="The owner of the model")]
Name: TypeAlias = Annotated[str, Path(description="The name of the model")]
Asking: TypeAlias = Annotated[Caller, Depends(caller)]
Serving: TypeAlias = Annotated[Services, Depends(services)]
