"""The small HTTP server that the Cog server's webhooks go to."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import uvicorn
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.record import JsonObject, Status
from gateway.work.coglet import Report, UnreadableError, read_report

logger = logging.getLogger(__name__)

ANSWER_WITHIN_S = 25.0  # coglet waits 30 s
TOO_LARGE = "The output is larger than {limit} MB, which the gateway takes at most"


class Inbox:
    """The webhooks of one attempt."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.terminal: Report | None = None
        self.settled: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def put(self, report: Report) -> None:
        """Take a report. Of terminal ones the first counts: coglet repeats it, however large, until it is answered."""
        if self.terminal is None:
            self.terminal = report if report.status.ended else None
            self.reports.put_nowait(report)

    def settle(self, committed: bool) -> None:
        """Say that the attempt's end is committed, or (False) that it was no longer ours to end."""
        self._answer(200 if committed else 410)

    def leave(self) -> None:
        """Stop waiting; where nothing was settled, coglet is to try again: with the next worker."""
        self._answer(503)

    def _answer(self, status: int) -> None:
        if not self.settled.done():
            self.settled.set_result(status)


class Callbacks:
    """Receive webhooks at URLs that can't be guessed: whoever is on the host can reach the port."""

    def __init__(self, host: str, listening: socket.socket, max_bytes: int) -> None:
        self._base = f"http://{host}:{listening.getsockname()[1]}"
        self._max_bytes = max_bytes
        self._inboxes: dict[str, Inbox] = {}

    def new_url(self) -> str:
        """Make a URL for one attempt."""
        return f"{self._base}/{secrets.token_urlsafe(24)}"

    @contextmanager
    def inbox(self, url: str) -> Iterator[Inbox]:
        """Take what comes to a URL, for the block."""
        path = urlsplit(url).path
        inbox = self._inboxes[path] = Inbox()
        try:
            yield inbox
        finally:
            inbox.leave()
            del self._inboxes[path]

    async def receive(self, request: Request) -> Response:
        """Answer one webhook; a terminal one only when its end is committed, since coglet forgets it then."""
        inbox = self._inboxes.get(request.url.path)
        if inbox is None:
            return Response(status_code=410)  # ended, or taken over; coglet gives up at a 4xx
        try:
            report = await self._read(request) if inbox.terminal is None else await _skip(request, inbox.terminal)
        except ClientDisconnect:
            return Response(status_code=400)
        except (UnreadableError, ValueError) as error:
            logger.warning("a webhook can't be read", extra={"error": str(error)})
            return Response(status_code=400)
        inbox.put(report)
        if not report.status.ended:
            return Response(status_code=200)
        try:
            status = await asyncio.wait_for(asyncio.shield(inbox.settled), ANSWER_WITHIN_S)
        except TimeoutError:
            return Response(status_code=503)  # it comes again
        return Response(status_code=status)

    async def _read(self, request: Request) -> Report:
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                message = TOO_LARGE.format(limit=self._max_bytes >> 20)
                return Report(Status.FAILED, logs="", metrics={}, error=message)
        # Hundreds of megabytes: not on the event loop, and not by way of json, which copies all of it once more.
        whole = b"".join(chunks)
        chunks.clear()
        body: JsonObject = await asyncio.to_thread(from_json, whole, allow_inf_nan=False)
        if not isinstance(body, dict):
            raise UnreadableError("a webhook is not an object")
        return read_report(body)


async def _skip(request: Request, report: Report) -> Report:
    """Read past a terminal webhook that is being dealt with: it may be as large as the first."""
    async for _ in request.stream():
        pass
    return report


class _Server(uvicorn.Server):
    """A server inside a program that has its own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@asynccontextmanager
async def serving(callbacks: Callbacks, listening: socket.socket) -> AsyncIterator[None]:
    """Receive webhooks for the block."""
    app = Starlette(routes=[Route("/{secret}", callbacks.receive, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="callbacks")
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task
