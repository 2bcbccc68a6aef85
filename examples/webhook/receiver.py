"""Receive webhooks and print what became of the predictions: receiver.py [PORT]."""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

GATEWAY = os.environ.get("REPLICATE_BASE_URL", "http://127.0.0.1:5000")
MAX_BYTES = 10_000_000


def secret() -> str:
    """Return the secret that the gateway signs this token's webhooks with."""
    request = urllib.request.Request(f"{GATEWAY}/webhooks/default/secret")
    request.add_header("Authorization", f"Bearer {os.environ['REPLICATE_API_TOKEN']}")
    with urllib.request.urlopen(request) as answer:
        key: str = json.load(answer)["key"]
    return key


class Receiver(BaseHTTPRequestHandler):
    """Answer the gateway's deliveries."""

    webhook: Webhook

    def do_POST(self) -> None:
        """Verify a delivery; 204 says that it has arrived, and anything else that it shall come again."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(length, MAX_BYTES))
        try:
            prediction = self.webhook.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            print(f"Refused: {error}", flush=True)
            self._answer(400)
            return
        # The same delivery can come twice, with the same webhook-id: what is done here must bear that.
        print(
            f"{prediction['id']} is {prediction['status']}: {prediction['output'] or prediction['error']}", flush=True
        )
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (the library's own name)
        """Print nothing else."""


def main() -> None:
    """Listen until a signal comes."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Receiver.webhook = Webhook(secret())
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"ready on http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
