"""Receive webhooks."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 1.5


@dataclass(frozen=True)
class Delivery:
    path: str
    at: float  # seconds of the monotonic clock
    headers: dict[str, str]
    body: str
    method: str = "POST"


@dataclass
class Receiver:
    """A server that answers 200, except that it redirects /redirect/... to /trap, answers 500 to /fail/..., and
    answers 500 to the first delivery of each message to /late/..., and after SLOW_S to /slow/.... It answers N to
    /status/N/..., and not at all if N is 0.
    """

    host: str = "127.0.0.1"
    port: int = 0
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    def at(self, path: str) -> list[Delivery]:
        return [delivery for delivery in list(self.deliveries) if delivery.path == path]

    def statuses(self, path: str) -> list[str]:
        """Return the statuses of the predictions in the deliveries to a path, in order."""
        return [json.loads(delivery.body)["status"] for delivery in self.at(path)]


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Iterator[int]:
    with ThreadingHTTPServer((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    receiver = Receiver(host)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            if len(body.encode()) < length:  # the sender was killed
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            message = headers.get("webhook-id")
            first = all(delivery.headers.get("webhook-id") != message for delivery in receiver.at(self.path))
            receiver.deliveries.append(Delivery(self.path, time.monotonic(), headers, body, self.command))
            kind = self.path.split("/")[1]
            if kind == "slow" and first:
                time.sleep(SLOW_S)
            answers = {"redirect": 302, "fail": 500, "late": 500 if first else 200, "slow": 500 if first else 200}
            status = int(self.path.split("/")[2]) if kind == "status" else answers.get(kind, 200)
            if not status:
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{receiver.url}/trap")
            self.send_header("Content-Length", str(10**12) if kind == "status" else "0")  # nobody should wait for it
            self.end_headers()

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with serving(Handler, host) as receiver.port:
        yield receiver
