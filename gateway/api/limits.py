"""Limits on requests: the size and duration of bodies, and the rate of creates."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.errors import Refusal, too_many

MIN_BYTES_PER_S = 32 << 10  # of a body that may take longer than GATEWAY_BODY_S because it is large


async def read_body(request: Request, limit_bytes: int, limit_s: float) -> bytes:
    """Return a request's body.

    Raises:
        Refusal: As body_chunks.
    """
    body = bytearray()
    async for chunk in body_chunks(request, limit_bytes, limit_s):
        body += chunk
    return bytes(body)


async def body_chunks(request: Request, limit_bytes: int, limit_s: float) -> AsyncIterator[bytes]:
    """Yield a request's body as it arrives.

    A large body may take longer than `limit_s`, as long as MIN_BYTES_PER_S arrive on average.

    Raises:
        Refusal: The body is compressed, or larger than `limit_bytes`, or arrives too slowly.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        detail = f"The body must not be compressed, but its Content-Encoding is {coding[:20]}."
        raise Refusal(415, "Unsupported media type", detail, headers={"Accept-Encoding": "identity"})
    length = content_length(request)
    if length is not None and length > limit_bytes:
        raise too_large(limit_bytes)
    chunks = request.stream()
    received, waited_s = 0, 0.0
    while True:
        allowed_s = max(limit_s, received / MIN_BYTES_PER_S)
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(allowed_s - waited_s):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            detail = f"The body must arrive within {allowed_s:g} seconds."
            raise Refusal(408, "Request timeout", detail) from error
        except ClientDisconnect as error:
            raise Refusal(400, "Bad request", "The connection was lost.") from error  # nobody reads this
        waited_s += time.monotonic() - began_s  # not what the caller does with the chunk
        if chunk is None:
            return
        received += len(chunk)
        if received > limit_bytes:
            raise too_large(limit_bytes)
        yield chunk


def content_length(request: Request) -> int | None:
    """Return the length that a request announces for its body, or None for a chunked one."""
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else None


def too_large(limit_bytes: int) -> Refusal:
    """Return 413: the body is too large."""
    return Refusal(413, "Request too large", f"The body must have at most {limit_bytes} bytes.")


@dataclass(frozen=True)
class CloseUnread:
    """Middleware that closes the connection after a response to a request whose body was not read to its end.

    Otherwise the server would keep receiving the rest at the client's pace. Routes that need no body don't read one
    either: the JavaScript client labels a GET as JSON and cancels with an empty body (docs/clients.md#unread-bodies).
    """

    app: ASGIApp
    linger_s: float  # how long the rest of the body may keep arriving

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
                # Closing a connection while the client still sends resets it, and the client loses the response. So
                # the response goes out first, then the rest of the body is dropped for a while.
                await send({**message, "more_body": True})
                await _drop(receive, self.linger_s)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, watched_receive, closing_send)


async def _drop(receive: Receive, limit_s: float) -> None:
    """Receive the rest of a request and discard it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while (await receive()).get("more_body"):
                pass


def _has_body(scope: Scope) -> bool:
    """Return whether a request announces a body."""
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


@dataclass
class Bucket:
    """A token bucket: what is left in it, and when that was counted."""

    left: float
    at_s: float


@dataclass
class CreateRate:
    """Limit each token's creates in this process to `per_s` on average, and `burst` at once.

    Each gateway process counts for itself, so n processes allow n times as many.
    """

    per_s: float  # 0: no limit
    burst: int
    clock: Callable[[], float] = time.monotonic
    buckets: dict[int, Bucket] = field(default_factory=dict)  # by token id

    def take(self, token_id: int) -> None:
        """Count one create.

        Raises:
            Refusal: The token has exceeded its limit.
        """
        if not self.per_s:
            return
        now_s = self.clock()
        bucket = self.buckets.setdefault(token_id, Bucket(self.burst, now_s))
        bucket.left = min(self.burst, bucket.left + (now_s - bucket.at_s) * self.per_s)
        bucket.at_s = now_s
        if bucket.left < 1:
            # The JavaScript client retries a 429 six times at once and ignores Retry-After. So the burst is large, and
            # work waits in the queue instead of being refused: docs/clients.md#rate-limits
            raise too_many(
                f"Your token creates more than {self.per_s:g} predictions a second.",
                max(1, ceil((1 - bucket.left) / self.per_s)),
            )
        bucket.left -= 1
