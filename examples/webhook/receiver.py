"""Receive webhooks and print the results of predictions: receiver.py [PORT]."""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

GATEWAY = os.environ.get("REPLICATE_BASE_URL", "http://127.0.0.1:5000")
MAX_BYTES = 10_000_000


def secret() -> str:
    """Return the secret that this token's webhooks are signed with."""
    request = urllib.request.Request(f"{GATEWAY}/webhooks/default/secret")
    request.add_header("Authorization", f"Bearer {os.environ['REPLICATE_API_TOKEN']}")
    with urllib.request.urlopen(request) as answer:
        key: str = json.load(answer)["key"]
    return key


class Receiver(BaseHTTPRequestHandler):
    """Receives the gateway's deliveries."""

    webhook: Webhook

    def do_POST(self) -> None:
        """Verify a delivery. 204 accepts it; the gateway retries `completed` after any error."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(length, MAX_BYTES))
        try:
            prediction = self.webhook.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            print(f"Refused: {error}", flush=True)
            self._answer(400)
            return
        # The same delivery can arrive twice, with the same webhook-id. Make what you do here idempotent.
        print(
            f"{prediction['id']} is {prediction['status']}: {prediction['output'] or prediction['error']}", flush=True
        )
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (the library's own name)
        """Log nothing."""


def main() -> None:
    """Listen until interrupted."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Receiver.webhook = Webhook(secret())
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"ready on http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
