"""A client of the real Cog server."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.serve import Server
from tests.gateway.receiver import Receiver
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

    def start(self, name: str, receiver: Receiver, events: list[str] | None = None, **inputs: object) -> None:
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


def webhooks(receiver: Receiver, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the webhooks up to the first one for which `last` is true, once it has arrived."""

    def arrived() -> list[dict[str, Any]]:
        bodies = [json.loads(delivery.body) for delivery in list(receiver.deliveries)]
        found = next((number for number, body in enumerate(bodies, 1) if last(body)), 0)
        return bodies[:found]

    return eventually(arrived)


def until_status(receiver: Receiver, status: str) -> list[dict[str, Any]]:
    """Return the webhooks up to the one with this status."""
    return webhooks(receiver, lambda body: body["status"] == status)
