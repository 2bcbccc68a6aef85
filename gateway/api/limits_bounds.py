"""Bounds on what a client sends, kept before anything is made of it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import h11
from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.api.errors import Refusal


async def read_body(request: Request, limit_bytes: int, limit_s: float) -> bytes:
    """Return a request's body.

    Raises:
        Refusal: it is larger than `limit_bytes` (also where it only says so), or takes longer than `limit_s`.
    """
    too_large = Refusal(413, "Request too large", f"The body must have at most {limit_bytes} bytes.")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError as error:
        detail = f"The body must arrive within {limit_s:g} seconds."
        raise Refusal(408, "Request timeout", detail) from error
    return bytes(body)


@dataclass(frozen=True)
class CloseUnread:
    """Close the connection after an answer whose request was not read to its end.

    The server would go on receiving what is left, at the client's pace. Bodies that a route has no use for are
    not read either: JS says that a GET is JSON, and cancels with an empty body.
    """

    app: ASGIApp
    linger_s: float  # how long the rest may go on coming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        unread = True

        async def watched_receive() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def closing_send(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            elif unread and not message.get("more_body"):
                # A connection that is closed while the client still sends is reset, and the answer lost with it.
                # So the answer goes out, what comes is dropped for a while, and only then the connection ends.
                await send({**message, "more_body": True})
                await _drop(receive, self.linger_s)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, watched_receive, closing_send)


async def _drop(receive: Receive, limit_s: float) -> None:
    """Receive the rest of a request, and keep none of it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while (await receive()).get("more_body"):
                pass


def _has_body(scope: Scope) -> bool:
    """Tell whether a request says that a body follows."""
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def protocol(header_s: float) -> type[H11Protocol]:
    """Return the protocol that uvicorn makes one of for each connection."""
    return type("Protocol", (BoundedProtocol,), {"header_s": header_s})


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a limit to the time that a request line and its headers may take.

    uvicorn has one for the pause between requests only: a client that sends a byte now and then would stay for ever.
    """

    header_s = 10.0  # subclassed with the setting
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Take what came; the timer runs from the first byte of a request to the end of its headers."""
        if self._header_timer is None and self.conn.their_state is h11.IDLE:
            self._start_timer()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._header_timer = None
        # A short request's answer may be under way: then the headers came, and their_state is back at IDLE.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
