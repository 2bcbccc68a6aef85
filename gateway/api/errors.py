"""What a client is told when its request is refused: one form for every error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.record import JsonObject

NOT_FOUND = "The requested resource could not be found."


@dataclass(frozen=True)
class InvalidField:
    """One input that was refused, and why."""

    type: str  # such as number_lte, invalid_type, enum, required
    field: str  # such as input.fps
    description: str  # a sentence without its full stop


@dataclass(eq=False)  # not frozen: what raises it sets its traceback
class Refusal(Exception):  # noqa: N818 (it is the answer, not a fault of ours)
    """Refuse a request; whoever raises it has stored nothing."""

    status: int
    title: str
    detail: str
    invalid_fields: Sequence[InvalidField] = ()
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> JsonObject:
        """Return the error's JSON. Trap 12: always an object whose detail is a string; PY1 dies on an array."""
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
        """Return the answer."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return JSONResponse(self.body(), self.status, headers)


def unauthenticated(detail: str = "You did not pass an authentication token") -> Refusal:
    """Refuse a request whose token is missing or unknown."""
    return Refusal(401, "Unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def not_found() -> Refusal:
    """Refuse a request for what is not there, or is another's: the two look the same."""
    return Refusal(404, "Not found", NOT_FOUND)


def unknown_version() -> Refusal:
    """Refuse a version that the catalog doesn't have."""
    return Refusal(
        422,
        "Invalid version or not permitted",
        "The specified version does not exist (or perhaps you don't have permission to use it?)",
    )


def invalid(fields: Sequence[InvalidField]) -> Refusal:
    """Refuse inputs, each with its own line."""
    lines = "".join(f"- {wrong.field}: {wrong.description}\n" for wrong in fields)
    return Refusal(422, "Input validation failed", lines, fields)


def unreadable(name: str, description: str) -> Refusal:
    """Refuse a part of a request that is not an input: a header, a cursor, a key of the body."""
    return invalid([InvalidField("invalid", name, description)])


def too_many(detail: str, retry_after_s: int) -> Refusal:
    """Refuse what goes over a token's limit."""
    return Refusal(429, "Too many requests", detail, retry_after_s=retry_after_s)


def unavailable(detail: str) -> Refusal:
    """Refuse while the database can't be reached; nothing is stored (trap 13: clients post again at once)."""
    return Refusal(503, "Service unavailable", detail, retry_after_s=1)


async def refused(_request: Request, error: Exception) -> JSONResponse:
    """Answer a Refusal."""
    assert isinstance(error, Refusal)  # noqa: S101 (FastAPI's type of a handler is wider)
    return error.response()


async def http_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer an error of the framework's own: no such route, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.NOT_FOUND:
        return not_found().response()
    title = HTTPStatus(error.status_code).phrase.capitalize()
    return Refusal(error.status_code, title, f"{error.detail}.", headers=error.headers or {}).response()


async def database_away(_request: Request, _error: Exception) -> JSONResponse:
    """Answer while the database can't be reached."""
    return unavailable("The database can't be reached; try again.").response()


async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
    """Answer a fault of ours; the server logs its traceback."""
    return Refusal(500, "Internal server error", "Something went wrong in the gateway; its log says what.").response()
