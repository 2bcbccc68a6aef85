"""A small HTTP server that receives the Cog server's webhooks, on a port that a restarted worker takes over."""

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvicorn
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.prediction import Json, JsonObject, Status
from gateway.work.coglet import Report, UnreadableError, read_report
from gateway.work.fetch import Content

logger = logging.getLogger(__name__)

ANSWER_WITHIN_S = 25.0  # coglet waits for 30 s
TOO_LARGE = "The output is larger than {limit} MB, the limit of this gateway"


class AttemptWebhooks:
    """The webhooks of one attempt."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.outputs: asyncio.Queue[Json] = asyncio.Queue()  # the output so far, of an iterator that runs
        self.terminal: Report | None = None
        self.files: list[Content] = []  # of the inputs, which the server fetches
        self.settled: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def put(self, report: Report) -> None:
        """Take a report. Of several terminal ones the first counts: coglet repeats it until it is answered."""
        if self.terminal is None:
            self.terminal = report if report.status.ended else None
            self.reports.put_nowait(report)
            if not report.status.ended and report.output is not None:
                self.outputs.put_nowait(report.output)

    def settle(self, committed: bool) -> None:
        """Answer the terminal webhook: the end is committed, or the attempt was no longer ours (False)."""
        self._answer(200 if committed else 410)

    def leave(self) -> None:
        """Stop waiting. If nothing was settled, coglet retries, and reaches the next worker."""
        self._answer(503)
        for content in self.files:
            content.close()

    def _answer(self, status: int) -> None:
        if not self.settled.done():
            self.settled.set_result(status)


class Callbacks:
    """Receive webhooks at URLs that can't be guessed, because every process on the host can reach the port."""

    def __init__(self, host: str, listening: socket.socket, max_bytes: int, token: str | None = None) -> None:
        """Take the address, the largest webhook, and the token that webhooks must have (None: any will do)."""
        self._authorization = None if token is None else f"Bearer {token}"
        self._base = f"http://{host}:{listening.getsockname()[1]}"
        self._max_bytes = max_bytes
        self._attempts: dict[str, AttemptWebhooks] = {}

    def new_url(self) -> str:
        """Return a new URL for one attempt."""
        return f"{self._base}/{secrets.token_urlsafe(24)}"

    @contextmanager
    def receiving(self, url: str) -> Iterator[AttemptWebhooks]:
        """Receive the webhooks that are sent to a URL, for the block."""
        path = urlsplit(url).path
        webhooks = self._attempts[path] = AttemptWebhooks()
        try:
            yield webhooks
        finally:
            webhooks.leave()
            del self._attempts[path]

    async def receive(self, request: Request) -> Response:
        """Answer a webhook. A terminal one is answered only after the commit, because coglet then forgets it."""
        webhooks = self._attempts.get(request.url.path)
        if webhooks is None:
            return Response(status_code=410)  # ended, or taken over: a 4xx stops coglet's retries
        if not self._is_authentic(request):
            logger.warning(
                "refused a webhook without the token: GATEWAY_CALLBACK_TOKEN must be the same as the Cog server's "
                "WEBHOOK_AUTH_TOKEN"
            )
            return Response(status_code=401)
        try:
            report = await self._read(request) if webhooks.terminal is None else await _skip(request, webhooks.terminal)
        except ClientDisconnect:
            return Response(status_code=400)
        except (UnreadableError, ValueError) as error:
            logger.warning("received an unreadable webhook", extra={"error": str(error)})
            return Response(status_code=400)
        webhooks.put(report)
        if not report.status.ended:
            return Response(status_code=200)
        try:
            status = await asyncio.wait_for(asyncio.shield(webhooks.settled), ANSWER_WITHIN_S)
        except TimeoutError:
            return Response(status_code=503)  # coglet retries
        return Response(status_code=status)

    def _is_authentic(self, request: Request) -> bool:
        """Return whether the Cog server sent a webhook, and not another user of its host."""
        if self._authorization is None:
            return True
        sent = request.headers.get("authorization", "")
        return hmac.compare_digest(sent.encode(), self._authorization.encode())

    async def send_file(self, request: Request) -> Response:
        """Send a file of an attempt's inputs."""
        webhooks = self._attempts.get(f"/{request.path_params['secret']}")
        number: int = request.path_params["number"]
        if webhooks is None or number >= len(webhooks.files):
            return Response(status_code=410)
        content = webhooks.files[number]
        headers = {"Content-Length": str(content.size)}
        return StreamingResponse(content.read(), headers=headers, media_type=content.media_type)

    async def _read(self, request: Request) -> Report:
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                message = TOO_LARGE.format(limit=self._max_bytes >> 20)
                return Report(Status.FAILED, logs="", metrics={}, error=message)
        # Up to hundreds of megabytes: parsed off the event loop, and not by json, which makes another copy.
        whole = b"".join(chunks)
        chunks.clear()
        body: JsonObject = await asyncio.to_thread(from_json, whole, allow_inf_nan=False)
        if not isinstance(body, dict):
            raise UnreadableError("the webhook isn't a JSON object")
        return read_report(body)


async def _skip(request: Request, report: Report) -> Report:
    """Discard the repetition of a terminal webhook: it may be as large as the first."""
    async for _ in request.stream():
        pass
    return report


@dataclass(frozen=True)
class CallbackSocket:
    """A listening socket for webhooks."""

    socket: socket.socket
    adopts: bool  # it has the port of an earlier worker, which is dead, so its attempt can be adopted

    @classmethod
    def bind(cls, host: str, port: int, earlier_url: str | None) -> "CallbackSocket":
        """Bind the port of an earlier worker's URL if there is one, else `port`, with 0 for a free one.

        An earlier worker that still drains holds its port; then it keeps its attempt too.
        """
        earlier_port = urlsplit(earlier_url).port if earlier_url else None
        if earlier_port:
            try:
                return cls(_bound(host, earlier_port), adopts=True)
            except OSError as error:
                logger.warning(
                    "an earlier worker still has its port", extra={"port": earlier_port, "error": str(error)}
                )
                if port == earlier_port:
                    port = 0
        return cls(_bound(host, port), adopts=False)


def _bound(host: str, port: int) -> socket.socket:
    # The protocol is named: only then does asyncio turn off Nagle's algorithm, which holds a body back for 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        # Listening, not only bound: two sockets may be bound to one port with SO_REUSEADDR while neither listens.
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


class _Server(uvicorn.Server):
    """A server in a program with its own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Don't touch the signal handlers."""
        yield


@asynccontextmanager
async def serving(callbacks: Callbacks, listening: socket.socket) -> AsyncIterator[None]:
    """Serve the webhooks' port for the block."""
    routes = [
        Route("/{secret}", callbacks.receive, methods=["POST"]),
        Route("/{secret}/{number:int}/{name}", callbacks.send_file),
    ]
    app = Starlette(routes=routes)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="callbacks")
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task
