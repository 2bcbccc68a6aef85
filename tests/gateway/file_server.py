"""Somebody's server with files, for inputs that are URLs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event

from tests.gateway import receiver

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3200  # 800 kB
FILE_BYTES = 20_000_000  # one more is too large


@dataclass
class Server:
    asked: list[str] = field(default_factory=list)
    may_go_on: Event = field(default_factory=Event)
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    """Answer by the path: a file, a redirect, an error, too much, too slowly."""

    state: Server

    def do_GET(self) -> None:
        self.state.asked.append(self.path)
        kind = self.path.split("/")[1]
        locations = {"redirect": self.path.removeprefix("/redirect"), "to": self.path.removeprefix("/to/")}
        status = 302 if kind in locations else 307 if kind == "round" else int(kind) if kind.isdecimal() else 200
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", locations.get(kind, self.path))
        if kind == "typed":
            self.send_header("Content-Type", "image/png; charset=x")
        if kind == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if kind == "huge":
            self.send_header("Content-Length", str(FILE_BYTES + 1))
        self.end_headers()
        if kind == "endless":
            while True:
                self.wfile.write(bytes(1 << 20))
        if kind == "slow":
            self.wfile.write(b"x")
            self.wfile.flush()
            self.state.may_go_on.wait(60)
        self.wfile.write(PNG)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the worker had enough
            super().handle()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    with receiver.serving(type("Bound", (Handler,), {"state": server})) as server.port:
        try:
            yield server
        finally:
            server.may_go_on.set()
