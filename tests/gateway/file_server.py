"""Somebody's server with files, for inputs that are URLs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3200  # 800 kB
FILE_BYTES = 20_000_000  # one more is too large


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.may_go_on = Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    """Answer by the path: a file, a redirect, an error, too much, too slowly."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]
        if kind in ("redirect", "to"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/redirect").removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if kind == "round":
            self.send_response(307)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        self.send_response(int(kind) if kind.isdecimal() else 200)
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
            self.server.may_go_on.wait(60)
        self.wfile.write(PNG)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the worker had enough
            super().handle()


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.may_go_on.set()
            server.shutdown()
            thread.join()
