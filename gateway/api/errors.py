"""Error responses, all of one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from gateway.prediction import JsonObject

NOT_FOUND = "The requested resource could not be found."


@dataclass(frozen=True)
class InvalidField:
    """An invalid part of a request, and why it is invalid."""

    type: str  # such as number_lte, invalid_type, enum, required
    field: str  # such as input.fps
    description: str  # a sentence without a full stop


@dataclass(eq=False)  # not frozen: raising it sets its traceback
class Refusal(Exception):  # noqa: N818 - it is a response, not an error of ours
    """An error response. Code that raises it has stored nothing."""

    status: int
    title: str
    detail: str
    invalid_fields: Sequence[InvalidField] = ()
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> JsonObject:
        """Return the error's JSON: an object whose detail is a string (docs/clients.md#error-bodies)."""
        body: JsonObject = {"title": self.title, "detail": self.detail, "status": self.status}
        if self.invalid_fields:
            body["invalid_fields"] = [
                {"type": wrong.type, "field": wrong.field, "description": wrong.description}
                for wrong in self.invalid_fields
            ]
        if self.retry_after_s is not None:
            body["retry_after"] = self.retry_after_s
        return body

    def response(self) -> JSONResponse:
        """Return the response."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return JSONResponse(self.body(), self.status, headers)


def unauthenticated(detail: str = "You did not pass an authentication token") -> Refusal:
    """Return 401: the token is missing or unknown."""
    return Refusal(401, "Unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def not_found() -> Refusal:
    """Return 404. Another owner's predictions look the same as missing ones."""
    return Refusal(404, "Not found", NOT_FOUND)


def unknown_version() -> Refusal:
    """Return 422: the catalog doesn't have this version."""
    return Refusal(
        422,
        "Invalid version or not permitted",
        "The specified version does not exist (or perhaps you don't have permission to use it?)",
    )


def invalid(fields: Sequence[InvalidField]) -> Refusal:
    """Return 422 with a line for each invalid field."""
    lines = "".join(f"- {wrong.field}: {wrong.description}\n" for wrong in fields)
    return Refusal(422, "Input validation failed", lines, fields)


def unreadable(name: str, description: str) -> Refusal:
    """Return 422 for a part of a request that isn't an input: a header, a cursor, a key of the body."""
    return invalid([InvalidField("invalid", name, description)])


def too_many(detail: str, retry_after_s: int) -> Refusal:
    """Return 429: the token has exceeded a limit."""
    return Refusal(429, "Too many requests", detail, retry_after_s=retry_after_s)


def unavailable(detail: str) -> Refusal:
    """Return 503: nothing was stored.

    The clients retry a 503 at once, without an idempotency key: docs/clients.md#retries-of-a-create
    """
    return Refusal(503, "Service unavailable", detail, retry_after_s=1)


async def refused(_request: Request, error: Exception) -> JSONResponse:
    """Handle a Refusal."""
    assert isinstance(error, Refusal)  # noqa: S101 - FastAPI's handler type is wider
    return error.response()


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """Handle an error of the framework: unknown route, unknown method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.NOT_FOUND:
        return not_found().response()
    title = HTTPStatus(error.status_code).phrase.capitalize()
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return Refusal(error.status_code, title, f"{error.detail}.", headers=headers).response()


def _methods(request: Request) -> list[str]:
    """Return the methods that a path allows: all routes of the path together; the framework names those of one."""
    path = request.url.path
    routes = [route for route in iter_route_contexts(request.app.routes) if route.methods]
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


async def database_unreachable(_request: Request, _error: Exception) -> JSONResponse:
    """Handle a database that can't be reached."""
    return unavailable("The database can't be reached; try again.").response()


async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
    """Handle an error of ours; the server logs its traceback."""
    return Refusal(
        500, "Internal server error", "Something went wrong in the gateway. Its log has the details."
    ).response()
