"""A real S3 server for tests: rclone, behind a relay that corrects one of its responses."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx

from gateway.serve.processes import free_port
from tests.gateway import receiver
from tests.gateway.processes import NO_TLS, TIMEOUT_S
from tests.waiting import eventually

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ALLOW_HTTP": "true"}
RCLONE = Path(sys.executable).with_name("rclone")
HOP = {"connection", "transfer-encoding", "date", "server"}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the subfolders of folder/buckets as buckets, to clients with KEYS, and give the address."""
    port = free_port()
    pair = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    serve = ["serve", "s3", "--config", "", "--vfs-cache-mode", "off", "--auth-key", pair]
    command = [str(RCLONE), *serve, "--addr", f"127.0.0.1:{port}", str(folder / "buckets")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually(lambda: process.poll() is not None or _serves(port), 0.05)
            assert process.poll() is None, (folder / "log").read_text()
            with _relay(port) as url:
                yield url
        finally:
            process.terminate()


def _serves(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}", trust_env=False, verify=NO_TLS).status_code > 0
    except httpx.HTTPError:
        return False


@contextmanager
def _relay(port: int) -> Iterator[str]:
    """Forward requests unchanged, including Host, which is signed, and correct the status of partial content.

    S3 answers a range with 206, which clients insist on. rclone 1.75 sends the range with 200.
    """

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            upstream = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            upstream.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(206 if answer.status == 200 and answer.headers["content-range"] else answer.status)
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
            if self.command != "HEAD" and answer.status != 204:
                kept["Content-Length"] = str(len(content))
            for name, value in kept.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with receiver.serving(Relay) as relay_port:
        yield f"http://127.0.0.1:{relay_port}"
