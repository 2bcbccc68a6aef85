"""Make a song and a film that moves to it: main.py [WALK_INPUTS [FILM_INPUTS]], JSON that is added to those below.

The film starts when the webhook of the song arrives.
"""

import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import replicate
from replicate.webhook import Webhooks

WALK = {"prompts": "0: drums and bass | 4: synth lead", "bars": 4}
FILM = {
    "animation_prompts": "0: a sunset over the sea | 8b: snowy mountains",
    "zoom": "0: (1.01 + 0.06*beat)",
    "strength": "0: (0.65 - 0.3*every(8))",
}
PORT = 8001
FILM_FILE = Path("film.mp4")


class Receiver(BaseHTTPRequestHandler):
    """Receives the webhooks of the song and of the film, and starts what comes next."""

    film_inputs: dict[str, object]
    server: "Server"

    def do_POST(self) -> None:
        """Verify a delivery and act on it. The same one can arrive twice, so what is done already is not repeated."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            Webhooks.validate(headers=headers, body=body, secret=self.server.secret)
        except ValueError as error:
            print(f"Refused: {error}")
            self._answer(400)
            return
        prediction = json.loads(body)
        self._answer(204)
        if prediction["id"] not in self.server.seen:
            self.server.seen.add(prediction["id"])
            self.server.went_on(prediction)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (the library's own name)
        """Log nothing."""


class Server(HTTPServer):
    """Makes one song and one film."""

    def __init__(self, film: dict[str, object]) -> None:
        super().__init__(("127.0.0.1", PORT), Receiver)
        self.secret = replicate.webhooks.default.secret()
        self.film = film
        self.seen: set[str] = set()
        self.done = False

    def create(self, model: str, inputs: dict[str, object]) -> None:
        """Create a prediction that reports its end to this server."""
        webhook = f"http://127.0.0.1:{PORT}/"
        made = replicate.models.predictions.create(model, inputs, webhook=webhook, webhook_events_filter=["completed"])
        print(f"{model}: {made.id}", flush=True)

    def went_on(self, prediction: dict[str, object]) -> None:
        """Start the film of a song that has ended, or save the film."""
        output = prediction["output"]
        if prediction["status"] != "succeeded":
            print(f"{prediction['model']}: {prediction['error']}")
            self.done = True
        elif isinstance(output, dict):  # a walk's; its files are inputs as they are
            self.create("deforum/music-video", {**self.film, "audio": output["audio"], "timeline": output["timeline"]})
        else:
            urllib.request.urlretrieve(str(output), FILM_FILE)
            print(f"Wrote {FILM_FILE}")
            self.done = True


def main() -> None:
    """Make the song, and wait for the film."""
    walk, film = (json.loads(given) for given in (*sys.argv[1:3], "{}", "{}")[:2])
    with Server({**FILM, **film}) as server:
        server.create("riffusion/walk", {**WALK, **walk})
        while not server.done:
            server.handle_request()
    if not FILM_FILE.exists():
        sys.exit(1)


if __name__ == "__main__":
    main()
