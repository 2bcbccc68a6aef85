"""A client of the real Cog server, and a receiver of its webhooks and uploads."""

import http.client
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from local.serve import Server
from tests.waiting import HANG_S, eventually


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any

    def refused(self) -> list[str]:
        """Return the inputs that a reply with status 422 names, each once."""
        assert self.status == 422, self
        return sorted({problem["loc"][-1] for problem in self.body["detail"]})


@dataclass(frozen=True)
class Client:
    model: str
    server: Server
    log: Path

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send a request; its body becomes JSON unless it is text already."""
        content = body if isinstance(body, str) else json.dumps(body)
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=HANG_S)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return Reply(response.status, json.loads(text) if is_json else text.decode())
        finally:
            connection.close()

    def send_when_free(self, method: str, path: str, body: object, **headers: str) -> Reply:
        """Send a prediction; repeat while the server is busy with the one before."""

        def taken() -> Reply | None:
            reply = self.send(method, path, body, **headers)
            return reply if reply.status != 409 else None

        return eventually(taken)

    def post(self, body: object) -> Reply:
        """Create a synchronous prediction and return the reply."""
        return self.send_when_free("POST", "/predictions", body)

    def predict(self, **inputs: object) -> dict[str, Any]:
        """Return a prediction that has succeeded or failed."""
        reply = self.post({"input": inputs})
        assert reply.status == 200, reply
        prediction: dict[str, Any] = reply.body
        return prediction

    def start(self, name: str, receiver: "Receiver", events: list[str] | None = None, **inputs: object) -> None:
        """Start an asynchronous prediction that reports to `receiver`."""
        body: dict[str, object] = {"input": inputs, "webhook": f"{receiver.url}/{name}"}
        if events is not None:
            body["webhook_events_filter"] = events
        reply = self.send_when_free("PUT", f"/predictions/{name}", body, Prefer="respond-async")
        assert (reply.status, reply.body) == (202, {"id": name, "status": "starting"})

    def files(self) -> list[Path]:
        """Return the output files on the disk, including unfinished ones."""
        return [path for path in (self.server.folder / "tmp").glob(f"{self.model}-*/**/*") if path.is_file()]

    def processes(self) -> list[psutil.Process]:
        """Return the server and its worker."""
        server = psutil.Process(self.server.process.pid)
        return [server, *server.children(recursive=True)]


@dataclass(frozen=True)
class Delivery:
    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.content)
        return body


class Receiver:
    """The webhooks and uploads that have arrived."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.deliveries: queue.Queue[Delivery] = queue.Queue()

    def until(self, last: Callable[[Delivery], bool]) -> list[Delivery]:
        """Return the deliveries up to the first one for which `last` is true."""
        received: list[Delivery] = []
        while not received or not last(received[-1]):
            received.append(self.deliveries.get(timeout=HANG_S))
        return received

    def until_status(self, status: str) -> list[Delivery]:
        """Return the webhooks up to the one with this status."""
        return self.until(lambda delivery: delivery.body["status"] == status)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def take(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.deliveries.put(Delivery(self.command, self.path, dict(self.headers), content))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = take

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
