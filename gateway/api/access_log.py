"""The access log: a line for each request, and its metrics."""

import logging
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics import Metrics

logger = logging.getLogger(__name__)

PREFIXES = ("/v1/v1", "/v1")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}  # clients may send any word


@dataclass(frozen=True)
class AccessLog:
    """Middleware that logs and counts responses."""

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
            _log(scope, status, sent_bytes, time.monotonic() - started_s)


def _log(scope: Scope, status: int, sent_bytes: int, duration_s: float) -> None:
    """Log a request by its route, not its path: a path may contain a signature, which opens a file."""
    route = _route(scope)
    method = scope["method"] if scope["method"] in METHODS else "other"
    metrics: Metrics = scope["app"].state.services.metrics
    metrics.requests.labels(method, route, status).inc()
    metrics.request_s.labels(route).observe(duration_s)
    state = scope.get("state", {})
    about = {
        "method": method,
        "route": route,
        "status": status,  # 0: the client left before the response
        "ms": round(duration_s * 1000, 1),
        "bytes": sent_bytes,
        "token": state.get("token"),
        "prediction": state.get("prediction"),
    }
    level = logging.DEBUG if route.startswith("/health") else logging.INFO
    logger.log(level, "request", extra={key: value for key, value in about.items() if value is not None})


def _route(scope: Scope) -> str:
    """Return the route's template without its prefix, so that there are few metrics labels."""
    route = scope.get("route")
    path: str = getattr(route, "path", "unknown")
    for prefix in PREFIXES:
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path
