"""Coglet 0.23, the server in every Cog container: the one place that knows its protocol and its quirks."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, cast

import httpx

from gateway.record import Json, JsonObject, Status

HEALTH_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
EVENTS = ["start", "logs", "completed"]
_PREFIX = re.compile(r"^(Prediction failed: )+")
_CLASS = re.compile(r"^[A-Za-z_][\w.]*: (?=.)", re.DOTALL)
_INFRASTRUCTURE = "Failed to send request: "  # to the child, which had died while it was idle


class State(StrEnum):
    """Name a server's health, in coglet's words, and one for no answer."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    UNHEALTHY = "UNHEALTHY"
    SETUP_FAILED = "SETUP_FAILED"
    SILENT = "SILENT"  # it took the connection, but did not answer in time
    GONE = "GONE"  # nothing listens


@dataclass(frozen=True)
class Health:
    """What /health-check says."""

    state: State
    boot: str = ""  # when its setup began: another one tells another process
    setup_logs: str = ""

    @property
    def reached(self) -> bool:
        """Say whether the server answered."""
        return self.state not in (State.SILENT, State.GONE)


class Start(StrEnum):
    """Name what became of a start."""

    TAKEN = "taken"
    BUSY = "busy"  # or unhealthy for good: the health tells
    NOT_READY = "not ready"
    UNKNOWN = "unknown"  # no answer: it may run


class RefusedError(Exception):
    """Report that the server refuses an input; str() has its sentences."""


@dataclass(frozen=True)
class Report:
    """What a webhook tells."""

    status: Status
    logs: str
    metrics: JsonObject
    output: Json = None
    error: str | None = None
    infrastructure: bool = False  # it failed before the model saw it: another server may do better


class UnreadableError(ValueError):
    """Report a webhook that is not coglet's."""


class Coglet:
    """Talk to one server."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self.url = url.rstrip("/")

    async def health(self) -> Health:
        """Ask how the server is. Never raises for a server that is away."""
        try:
            answer = await self._client.get(f"{self.url}/health-check", timeout=HEALTH_TIMEOUT_S)
            return _health(answer)
        except httpx.ConnectError:
            return Health(State.GONE)
        except (httpx.TransportError, ValueError, KeyError):
            return Health(State.SILENT)

    async def start(self, cog_id: str, given: JsonObject, callback: str) -> Start:
        """Start a run. Raises RefusedError for an input that the server refuses.

        Never call it twice with one id: while the run goes on that does nothing, but after its end it runs again.
        """
        body = {"input": given, "webhook": callback, "webhook_events_filter": EVENTS}
        try:
            answer = await self._client.put(
                f"{self.url}/predictions/{cog_id}",
                json=body,
                headers={"Prefer": "respond-async"},  # a synchronous run ends with its connection
                timeout=START_TIMEOUT_S,
            )
        except httpx.ConnectError:
            return Start.NOT_READY
        except httpx.TransportError:
            return Start.UNKNOWN
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise RefusedError(_refusal(answer))
        return {202: Start.TAKEN, 409: Start.BUSY, 503: Start.NOT_READY}.get(answer.status_code, Start.NOT_READY)

    async def cancel(self, cog_id: str) -> bool:
        """Ask for a run's cancel; its terminal webhook tells when it is done. False: the server doesn't know of it.

        Once it is taken don't ask again: each one raises in the model anew, in its clean-up too.
        """
        return await self._post(f"/predictions/{cog_id}/cancel")

    async def shut_down(self) -> None:
        """End the server, whose supervisor starts it again: an unhealthy one refuses everything for ever."""
        await self._post("/shutdown")

    async def _post(self, path: str) -> bool:
        """Post, and say whether it was taken. No answer is no error: the health tells that the server is away."""
        try:
            answer = await self._client.post(self.url + path, timeout=HEALTH_TIMEOUT_S)
        except httpx.TransportError:
            return False
        return answer.is_success


def read_report(body: JsonObject) -> Report:
    """Read a webhook's body. Raises UnreadableError."""
    try:
        status = Status(cast(str, body["status"]))
    except (KeyError, ValueError) as error:
        raise UnreadableError("a webhook has no status that is known") from error
    error_text, logs, metrics = body.get("error"), body.get("logs"), body.get("metrics")
    message = error_text if isinstance(error_text, str) else None
    return Report(
        status=status,
        logs=logs if isinstance(logs, str) else "",
        metrics=metrics if isinstance(metrics, dict) else {},
        output=body.get("output"),
        error=None if message is None else plain_error(message),
        infrastructure=message is not None and message.startswith(_INFRASTRUCTURE),
    )


def plain_error(error: str) -> str:
    """Return a model's own words, as Replicate does: "Prediction failed: " comes once or twice, then the class."""
    stripped = _PREFIX.sub("", error)
    return _CLASS.sub("", stripped) if stripped != error else error


_Setup: TypeAlias = dict[str, str]


def _health(answer: httpx.Response) -> Health:
    body = answer.json()
    setup: _Setup = body.get("setup") or {}
    return Health(State(body["status"]), setup.get("started_at", ""), setup.get("logs", ""))


def _refusal(answer: httpx.Response) -> str:
    try:
        problems = answer.json()["detail"]
        return "\n".join(f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in problems)
    except (ValueError, KeyError, TypeError):
        return answer.text[:1000]
