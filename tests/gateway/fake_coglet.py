r"""A stand-in for coglet 0.23.1 that has its quirks and injects faults. It needs only the standard library.

    python tests/gateway/fake_coglet.py --port 0 --journal FILE [--setup-fails]

It prints `listening on URL`. Each request is a line of JSON in the journal. A prediction's input controls its run:

    seconds: 0.2     how long it runs
    logs: ["a"]      lines, printed evenly over the run
    fail: "no"       it fails with ValueError: no
    crash: true      its child dies at the end of the run: "Worker crashed", unhealthy for good, 409 to every PUT
    files: 0|1|2     the output: `text`, or a data URL, or an object of two
    bytes: 1000      the size of each file
    text: "done"     the output without files
    image, images    files, which it reads as Cog does; the output says of each its name, size, hash, and how it came
    pause_s: 0.5     how long it pauses before it reads a file that it has opened
    key: "secret"    a secret; the output is its hash, and it is what a failure says
    deaf: true       it can't be cancelled
    tidy_s: 0.5      how long it tidies up after a cancel

POST /faults takes {"lose_terminal": n, "busy_s": s, "dead_child": true, "silent_s": s}: lose the next n terminal
webhooks, answer 409 to a PUT for s seconds after an end, let the idle child die, or answer nothing for s seconds.
"""

import argparse
import base64
import hashlib
import http.client
import json
import mimetypes
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RETRIED = {429, 500, 502, 503, 504}
TERMINAL_TRIES = 12
LOGS_EVERY_S = 0.5

JsonObject = dict[str, Any]  # whatever a test sends


@dataclass
class Run:
    id: str
    input: JsonObject
    webhook: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    logs: str = ""


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.started_at = datetime.now(UTC).isoformat()
        self.health = "SETUP_FAILED" if options.setup_fails else "READY"
        self.run: Run | None = None
        self.ended_at = 0.0
        self.faults: JsonObject = {}
        self.silent_until = 0.0
        self.lock = threading.Lock()
        self._journal = options.journal

    def note(self, method: str, path: str, status: int) -> None:
        if self._journal:
            line = json.dumps({"t": time.time(), "method": method, "path": path, "status": status}) + "\n"
            with self.lock, self._journal.open("a") as journal:
                journal.write(line)

    def health_check(self) -> JsonObject:
        status = "BUSY" if self.health == "READY" and self.run else self.health
        setup = {"started_at": self.started_at, "status": "succeeded", "logs": ""}
        if self.health == "SETUP_FAILED":
            logs = "worker setup failed: Setup failed: setup failed: RuntimeError: no weights"
            setup |= {"status": "failed", "logs": logs}
        return {"status": status, "setup": setup, "version": {"coglet": "0.23.1"}}

    def start(self, prediction_id: str, body: JsonObject) -> tuple[int, JsonObject]:
        """Answer PUT /predictions/{id}; an id that has ended runs again."""
        with self.lock:
            if not isinstance(body.get("input", {}), dict) and not (self.run and self.run.id == prediction_id):
                return 422, {"detail": [{"loc": ["body", "input"], "msg": 'not of type "object"', "type": "x"}]}
            if self.health == "SETUP_FAILED":
                return 503, {"error": "Setup has not finished yet.", "status": "failed"}
            if self.run and self.run.id == prediction_id:
                return 202, {"id": prediction_id, "status": "processing", "logs": self.run.logs, "metrics": {}}
            busy = time.monotonic() < self.ended_at + self.faults.get("busy_s", 0)
            if self.run or self.health == "UNHEALTHY" or busy:
                return 409, {"error": "At capacity - all prediction slots busy", "status": "failed"}
            given = body.get("input", {})
            if nulls := [name for name, value in given.items() if value is None]:
                detail = {"loc": ["body", "input", nulls[0]], "msg": "null is not of type", "type": "x"}
                return 422, {"detail": [detail]}
            self.run = Run(prediction_id, given, body["webhook"])
            threading.Thread(target=self._predict, args=(self.run,), daemon=True).start()
        return 202, {"id": prediction_id, "status": "starting"}

    def cancel(self, prediction_id: str) -> int:
        """Answer POST /predictions/{id}/cancel."""
        run = self.run
        if run is None or run.id != prediction_id:
            return 404
        if not run.input.get("deaf"):
            run.cancelled.set()
        return 200

    def _predict(self, run: Run) -> None:
        if self.faults.pop("dead_child", False):
            self.health = "UNHEALTHY"
            error = "Failed to send request: Failed to send on slot socket: Broken pipe (os error 32)"
            self._finish(run, {"status": "failed", "error": error})
            return
        threading.Thread(target=self._send, args=(run, {"status": "processing"}), daemon=True).start()
        if self._work(run):
            time.sleep(run.input.get("tidy_s", 0))
            self._finish(run, {"status": "canceled"})
        elif run.input.get("crash"):
            self.health = "UNHEALTHY"
            self._finish(run, {"status": "failed", "error": "Worker crashed"})
        elif text := run.input.get("fail"):
            error = f"Prediction failed: Prediction failed: ValueError: {text}"
            self._finish(run, {"status": "failed", "error": error})
        else:
            try:
                self._finish(run, {"status": "succeeded", "output": _output(run.input)})
            except (OSError, http.client.HTTPException) as error:  # it can't fetch a file; Cog's error may name the URL
                url = f" for url: {error.url}" if isinstance(error, urllib.error.HTTPError) else ""
                self._finish(run, {"status": "failed", "error": f"Input validation error: {error}{url}"})

    def _work(self, run: Run) -> bool:
        """Run to the end. Return True if the run was canceled."""
        seconds, lines = float(run.input.get("seconds", 0.05)), run.input.get("logs", [])
        sent_at = time.monotonic()
        for line in [*lines, None]:
            if run.cancelled.wait(seconds / (len(lines) + 1)):
                return True
            if line is not None:
                run.logs += f"{line}\n"
                if time.monotonic() > sent_at + LOGS_EVERY_S:
                    sent_at = time.monotonic()
                    threading.Thread(target=self._send, args=(run, {"status": "processing"}), daemon=True).start()
        return False

    def _finish(self, run: Run, result: JsonObject) -> None:
        with self.lock:
            self.run = None
            self.ended_at = time.monotonic()
            lost = self.faults.get("lose_terminal", 0)
            if lost:
                self.faults["lose_terminal"] = lost - 1
        if lost:
            return
        pause_s = 0.1
        for _ in range(TERMINAL_TRIES):
            status = self._send(run, {**result, "metrics": {"predict_time": 0.1}})
            if status is not None and status not in RETRIED:
                return
            pause_s *= 2
            time.sleep(pause_s)

    def _send(self, run: Run, result: JsonObject) -> int | None:
        """Send a webhook and return the status of the response, or None without a connection."""
        body = {"id": run.id, "logs": run.logs, "metrics": {}, **result}
        request = urllib.request.Request(  # noqa: S310 - the worker's own
            run.webhook, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None


def _file(url: str, pause_s: float) -> JsonObject:
    """Read a file as Cog does: by urllib, and named by the type of a data URL or the last part of a path."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        time.sleep(pause_s)
        content = answer.read()
        kind = answer.headers.get_content_type()
    is_data = url.startswith("data:")
    name = f"file{mimetypes.guess_extension(kind) or ''}" if is_data else urllib.parse.unquote(url.rpartition("/")[2])
    sha256 = hashlib.sha256(content).hexdigest()
    return {"name": name, "bytes": len(content), "sha256": sha256, "data_url": is_data}


def _output(given: JsonObject) -> Any:
    if urls := [url for url in (given.get("image"), *given.get("images", [])) if url]:
        return [_file(url, given.get("pause_s", 0)) for url in urls]
    if key := given.get("key"):
        return hashlib.sha256(key.encode()).hexdigest()
    if not given.get("files"):
        return given.get("text", "done")
    audio, picture = (base64.b64encode(fill * int(given.get("bytes", 100))).decode() for fill in (b"w", b"j"))
    files = {"audio": f"data:audio/wav;base64,{audio}", "spectrogram": f"data:image/jpeg;base64,{picture}"}
    return files["audio"] if given["files"] == 1 else files


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server
    probing = False

    def do_GET(self) -> None:
        self.probing = False
        if self.path == "/health-check":
            self._answer(200, self.server_state.health_check())
        elif self.path == "/openapi.json":
            self._answer(200, json.loads(Path(__file__).with_name("fake.openapi.json").read_text(encoding="utf-8")))
        else:
            self._answer(405 if self.path.startswith("/predictions/") else 404, {})

    def do_PUT(self) -> None:
        body = self._body()
        self.probing = not isinstance(body.get("input", {}), dict)  # the worker asks whether a prediction runs
        self._answer(*self.server_state.start(self.path.removeprefix("/predictions/"), body))

    def do_POST(self) -> None:
        self.probing = False
        body = self._body()
        if self.path == "/shutdown":
            self._answer(200, {})
            self.wfile.flush()
            os._exit(0)
        elif self.path == "/faults":
            self.server_state.silent_until = time.monotonic() + body.pop("silent_s", 0)
            self.server_state.faults.update(body)
            if body.get("dead_child"):
                self.server_state.health = "READY"  # until it is asked to run something
            self._answer(200, {}, now=True)
        else:
            status = self.server_state.cancel(self.path.removeprefix("/predictions/").removesuffix("/cancel"))
            self._answer(status, {})

    def _body(self) -> JsonObject:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parsed: JsonObject = json.loads(raw) if raw else {}
        return parsed

    def _answer(self, status: int, body: JsonObject, *, now: bool = False) -> None:
        if not now:
            time.sleep(max(0.0, self.server_state.silent_until - time.monotonic()))
        if self.path not in ("/health-check", "/openapi.json") and not self.probing:
            self.server_state.note(self.command, self.path, status)
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing, since there is the journal."""


def main() -> None:
    """Serve until killed. SIGTERM drops a run without a webhook, as coglet does."""
    parser = argparse.ArgumentParser(description="a stand-in for coglet, for tests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--setup-fails", action="store_true")
    options = parser.parse_args()
    listener = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Handler.server_state = Server(options)
    sys.stdout.write(f"listening on http://127.0.0.1:{listener.server_port}\n")
    sys.stdout.flush()
    listener.serve_forever()


if __name__ == "__main__":
    main()
