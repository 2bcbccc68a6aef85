"""Start an animation and follow it by webhook: `python3 film.py URL PROMPTS [name=value]...`.

This program receives the webhooks itself, on 127.0.0.1. If the Cog server runs on another machine, use an address that
it can reach.
"""

import json
import re
import secrets
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import SimpleQueue

from unpack import unpack

PROGRESS = re.compile(r"^\s*(\d+)%\|.+?\|\s*(\d+)/(\d+)", re.MULTILINE)
ENDS = ("succeeded", "failed", "canceled")

arrived: SimpleQueue[dict[str, object]] = SimpleQueue()


class Hook(BaseHTTPRequestHandler):
    """Receives webhooks, each with the prediction at that moment."""

    def do_POST(self) -> None:
        """Store the prediction and answer at once; without an answer the server retries."""
        arrived.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing, to keep the screen for the progress."""


def send(method: str, url: str, body: object) -> None:
    """Send a request with a JSON body."""
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)):
        pass


def follow(url: str, inputs: dict[str, object]) -> dict[str, object]:
    """Start a prediction and return it once it has ended."""
    prediction_url = f"{url}/predictions/film-{secrets.token_hex(8)}"  # becomes a path on the server
    with HTTPServer(("127.0.0.1", 0), Hook) as hooks:
        webhook = f"http://127.0.0.1:{hooks.server_port}"
        send(
            "PUT", prediction_url, {"input": inputs, "webhook": webhook, "webhook_events_filter": ["logs", "completed"]}
        )
        try:
            while True:
                hooks.handle_request()
                prediction = arrived.get()
                if prediction["status"] in ENDS:
                    return prediction
                for percent, done, of in PROGRESS.findall(str(prediction.get("logs")))[-1:]:
                    print(f"{percent} %, {done} of {of}", flush=True)
        except KeyboardInterrupt:
            send("POST", f"{prediction_url}/cancel", {})
            raise


if __name__ == "__main__":
    given = dict(assignment.split("=", 1) for assignment in sys.argv[3:])
    for path in unpack(follow(sys.argv[1], {"animation_prompts": sys.argv[2], **given})):
        print(f"Wrote {path}")
