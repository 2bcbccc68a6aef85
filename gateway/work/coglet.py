"""A client of coglet 0.23, the server in every Cog container. Only this module knows its protocol and quirks."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias, cast

import httpx

from gateway.prediction import Json, JsonObject, Status
from gateway.work.listener import is_loopback

HEALTH_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
EVENTS = ["start", "logs", "completed"]
FOLDER = Path("/tmp/coglet/predictions")  # noqa: S108 - fixed in coglet, whatever TMPDIR is
PROBE: JsonObject = {"input": 5}  # never a valid input, so it starts nothing
BROKEN = "Healthcheck error: "  # coglet's own, after its child has died; a model's verdict is "Healthcheck failed: "
_PREFIX = re.compile(r"^(Prediction failed: )+(Generator iteration error: )?")
_CLASS = re.compile(r"^[A-Za-z_][\w.]*: (?=.)", re.DOTALL)
INVALID = "Input validation error: "  # also if the server can't fetch a file
_INFRASTRUCTURE = "Failed to send request: "  # coglet can't reach its child, which died while idle


class State(StrEnum):
    """A server's health in coglet's words, with two more for a server that doesn't answer."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    UNHEALTHY = "UNHEALTHY"
    SETUP_FAILED = "SETUP_FAILED"
    SILENT = "SILENT"  # it accepts connections but doesn't answer in time
    GONE = "GONE"  # nothing listens


@dataclass(frozen=True)
class Health:
    """The answer of /health-check."""

    state: State
    broken: bool = False  # UNHEALTHY because the child has died; False if only the model's own healthcheck fails
    boot: str = ""  # the time when its setup began, which identifies the process
    setup_logs: str = ""
    version: str = ""  # of Cog

    @property
    def reached(self) -> bool:
        """Whether the server answered."""
        return self.state not in (State.SILENT, State.GONE)


NOT_READY = {
    State.STARTING: "has not finished its setup",
    State.SETUP_FAILED: "has failed its setup",
    State.GONE: "doesn't answer: nothing listens there",
    State.SILENT: "doesn't answer, or not as a Cog server does",
}


class Start(StrEnum):
    """The answer to a request to start a prediction."""

    TAKEN = "taken"
    BUSY = "busy"  # or permanently unhealthy; the health check says which
    NOT_READY = "not ready"
    UNKNOWN = "unknown"  # no answer; it may be running


class Streaming(StrEnum):
    """How a model's output can be received while it is produced."""

    NO = "no"
    WEBHOOKS = "webhooks"  # an iterator: each webhook has the whole output so far
    EVENTS = "events"  # an iterator with @streaming: server-sent events have one item each


class Liveness(StrEnum):
    """The answer to the question whether a prediction runs on a server."""

    RUNNING = "running"
    ENDED = "ended"  # or never started
    UNKNOWN = "unknown"  # no clear answer


@dataclass(frozen=True)
class Probe:
    """What a server says of one of its predictions."""

    liveness: Liveness
    output: Json = None  # so far


@dataclass(frozen=True)
class Chunk:
    """An item of an iterator's output."""

    number: int  # from 0
    value: Json


@dataclass(frozen=True)
class Description:
    """What a container says about itself."""

    document: JsonObject  # its OpenAPI document, with the schemas of inputs and outputs
    cog_version: str


class NotReadyError(Exception):
    """A server can't describe its container yet, or isn't a Cog server; str() says why."""


class RefusedError(Exception):
    """The server rejects the input; str() has its message."""


@dataclass(frozen=True)
class Report:
    """The contents of a webhook."""

    status: Status
    logs: str
    metrics: JsonObject
    output: Json = None
    error: str | None = None
    infrastructure: bool = False  # it failed before it reached the model, so another server may succeed


class UnreadableError(ValueError):
    """A webhook isn't in coglet's format."""


class Coglet:
    """A client of one Cog server."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self.url = url.rstrip("/")

    async def health(self) -> Health:
        """Return the server's health. Raises nothing if it can't be reached."""
        try:
            answer = await self._client.get(f"{self.url}/health-check", timeout=HEALTH_TIMEOUT_S)
            return _health(answer)
        except httpx.ConnectError:
            return Health(State.GONE)
        except (httpx.TransportError, ValueError, KeyError):
            return Health(State.SILENT)

    async def describe(self) -> Description:
        """Return what the container says about itself.

        Raises:
            NotReadyError: The server doesn't answer, has not finished its setup, or isn't a Cog server.
        """
        health = await self.health()
        if health.state in (State.STARTING, State.SETUP_FAILED, State.GONE, State.SILENT):
            logs = f":\n{health.setup_logs.strip()}" if health.state is State.SETUP_FAILED else ""
            raise NotReadyError(f"the Cog server at {self.url} {NOT_READY[health.state]}{logs}")
        try:
            answer = await self._client.get(f"{self.url}/openapi.json", timeout=HEALTH_TIMEOUT_S)
            document = answer.json()
            inputs = document["components"]["schemas"]["Input"]
        except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
            raise NotReadyError(f"{self.url}/openapi.json is not the document of a Cog server") from error
        if not isinstance(inputs, dict):
            raise NotReadyError(f"{self.url}/openapi.json has no schema of inputs")
        return Description(document, health.version)

    async def streaming(self) -> Streaming:
        """Return how the model's output can be received while it is produced. Raises nothing."""
        try:
            answer = await self._client.get(f"{self.url}/openapi.json", timeout=HEALTH_TIMEOUT_S)
            document = answer.json()
            post = document["paths"]["/predictions"]["post"]
            iterates = document["components"]["schemas"]["Output"].get("x-cog-array-type") == "iterator"
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return Streaming.NO
        if not iterates:
            return Streaming.NO
        return Streaming.EVENTS if post.get("x-cog-streaming") else Streaming.WEBHOOKS

    async def probe(self, cog_id: str) -> Probe:
        """Return whether a prediction runs. At any concurrency, and whatever the server's health."""
        try:
            answer = await self._client.put(
                f"{self.url}/predictions/{cog_id}",
                json=PROBE,
                headers={"Prefer": "respond-async"},
                timeout=HEALTH_TIMEOUT_S,
            )
            if answer.status_code == httpx.codes.ACCEPTED:
                return Probe(Liveness.RUNNING, answer.json().get("output"))
        except (httpx.TransportError, ValueError):
            return Probe(Liveness.UNKNOWN)
        ended = answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        return Probe(Liveness.ENDED if ended else Liveness.UNKNOWN)

    async def chunks(self, cog_id: str) -> AsyncIterator[Chunk]:
        """Yield the output of a running prediction, from the first item that coglet still has.

        Ends with the prediction, or when coglet has dropped events or the connection is lost. Dropping this connection
        doesn't cancel the prediction, because it was not started by it. The probe is never a valid input, so this
        starts nothing.
        """
        headers = {"Accept": "text/event-stream"}
        timeout = httpx.Timeout(HEALTH_TIMEOUT_S, read=None)
        url = f"{self.url}/predictions/{cog_id}"
        try:
            async with self._client.stream("PUT", url, json=PROBE, headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    return
                event = ""
                async for line in answer.aiter_lines():
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                    elif event == "output" and line.startswith("data: "):
                        data = json.loads(line.removeprefix("data: "))
                        yield Chunk(data["index"], data["chunk"])
        except (httpx.TransportError, ValueError, KeyError):
            return

    async def start(self, cog_id: str, given: JsonObject, callback: str, *, outputs: bool = False) -> Start:
        """Start a prediction. With `outputs`, its webhooks have the output so far.

        Never call this twice with the same id: coglet ignores an id that is running, but runs a finished one again.

        Raises:
            RefusedError: The server rejects the input.
        """
        body = {
            "input": given,
            "webhook": callback,
            "webhook_events_filter": [*EVENTS, *(["output"] if outputs else [])],
        }
        try:
            answer = await self._client.put(
                f"{self.url}/predictions/{cog_id}",
                json=body,
                headers={"Prefer": "respond-async"},  # otherwise the run ends with its connection
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
        """Cancel a prediction; its terminal webhook follows. Return False if the server doesn't know it.

        Don't call this again after True: every cancel raises another exception in the model, in its clean-up too.
        """
        return await self._post(f"/predictions/{cog_id}/cancel")

    async def shut_down(self) -> None:
        """Shut the server down, so that its supervisor restarts it: an unhealthy one rejects everything forever."""
        await self._post("/shutdown")

    async def clean_up(self, cog_id: str) -> None:
        """Delete the folder of an ended prediction, which coglet leaves behind, if it is on this host and ours."""
        if is_loopback(httpx.URL(self.url).host):
            await asyncio.to_thread(shutil.rmtree, FOLDER / cog_id, ignore_errors=True)

    async def folders(self) -> list[str]:
        """Return the predictions that have a folder, those of this host's other Cog servers too."""
        if not is_loopback(httpx.URL(self.url).host) or not FOLDER.is_dir():
            return []
        return await asyncio.to_thread(os.listdir, FOLDER)

    async def _post(self, path: str) -> bool:
        """Post, and return whether the server accepted. No answer isn't an error: the health check will notice."""
        try:
            answer = await self._client.post(self.url + path, timeout=HEALTH_TIMEOUT_S)
        except httpx.TransportError:
            return False
        return answer.is_success


def read_report(body: JsonObject) -> Report:
    """Parse a webhook's body.

    Raises:
        UnreadableError: It isn't in coglet's format.
    """
    try:
        status = Status(cast(str, body["status"]))
    except (KeyError, ValueError) as error:
        raise UnreadableError("the webhook has no known status") from error
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
    """Return the model's own message, as Replicate does, without coglet's prefixes and the exception's class."""
    stripped = _PREFIX.sub("", error)
    return _CLASS.sub("", stripped) if stripped != error else error


_Setup: TypeAlias = dict[str, str]


def _health(answer: httpx.Response) -> Health:
    body = answer.json()
    setup: _Setup = body.get("setup") or {}
    # DEFUNCT and UNKNOWN are words of later versions.
    status = {"DEFUNCT": "UNHEALTHY", "UNKNOWN": "STARTING"}.get(body["status"], body["status"])
    complaint = body.get("user_healthcheck_error")
    broken = status == State.UNHEALTHY and (complaint is None or complaint.startswith(BROKEN))
    version: JsonObject = body.get("version") or {}
    return Health(
        State(status), broken, setup.get("started_at", ""), setup.get("logs", ""), str(version.get("coglet", "unknown"))
    )


def _refusal(answer: httpx.Response) -> str:
    try:
        problems = answer.json()["detail"]
        return "\n".join(f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in problems)
    except (ValueError, KeyError, TypeError):
        return answer.text[:1000]
