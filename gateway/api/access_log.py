"""One line in the log for each request, and its measures."""

import logging
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.measures import Measures

logger = logging.getLogger(__name__)

PREFIXES = ("/v1/v1", "/v1")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}  # a client may send any word


@dataclass(frozen=True)
class Logged:
    """Log and measure what an application answers. The measures are the application's, once it has started."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = time.monotonic()
        status = 0
        sent_bytes = 0

        async def counting_send(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counting_send)
        finally:
            _tell(scope, status, sent_bytes, time.monotonic() - started_s)


def _tell(scope: Scope, status: int, sent_bytes: int, duration_s: float) -> None:
    """Write the line. A path could hold a signature, which opens a file, so the route stands in its place."""
    route = _route(scope)
    method = scope["method"] if scope["method"] in METHODS else "other"
    measures: Measures = scope["app"].state.services.measures
    measures.requests.labels(method, route, status).inc()
    measures.request_s.labels(route).observe(duration_s)
    state = scope.get("state", {})
    about = {
        "method": method,
        "route": route,
        "status": status,  # 0: the client left before there was an answer
        "ms": round(duration_s * 1000, 1),
        "bytes": sent_bytes,
        "token": state.get("token"),
        "prediction": state.get("prediction"),
    }
    level = logging.DEBUG if route.startswith("/health") else logging.INFO
    logger.log(level, "request", extra={key: value for key, value in about.items() if value is not None})


def _route(scope: Scope) -> str:
    """Return the route's template, the same for its three prefixes: few enough to count by."""
    route = scope.get("route")
    path: str = getattr(route, "path", "unknown")
    for prefix in PREFIXES:
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path
