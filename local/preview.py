"""Show what deforum's motion and prompts will do, without diffusion: a small server beside the model's Cog server.

POST {"input": {...}} answers {"frames", "curves": {name: a value for each frame}, "prompts": [{"frame", "text"}],
"errors": {name: what is wrong with it}}. The values come from the parser that the video is made by.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypedDict

from lib.animation import keyframes, prompts
from lib.deforum_request import MAX_FRAMES, MIN_FRAMES, MIN_ZOOM, Inputs
from lib.errors import UserError
from lib.inputs import MAX_SEED, check_integer

MOTION = {"angle": None, "zoom": MIN_ZOOM, "translation_x": None, "translation_y": None}  # and what each must exceed
MAX_BODY_BYTES = 1 << 20
DIGITS = 6  # of a value that is drawn


class PromptAt(TypedDict):
    """A prompt, and the frame from which it holds."""

    frame: int
    text: str


class Preview(TypedDict):
    """What an input will do, as far as it can be read."""

    frames: int
    curves: dict[str, list[float]]
    prompts: list[PromptAt]
    errors: dict[str, str]


def preview(values: Mapping[str, object]) -> Preview:
    """Read the inputs that are there, the others' defaults, each by itself: one that is wrong hides no other."""
    given = {field.name: values.get(field.name, field.default) for field in fields(Inputs)}
    errors: dict[str, str] = {}

    def whole(name: str, low: int, high: int, otherwise: int) -> int:
        try:
            return check_integer(name, given[name], low, high)
        except UserError as error:
            errors[name] = str(error)
            return otherwise

    frames = whole("max_frames", MIN_FRAMES, MAX_FRAMES, MIN_FRAMES)
    seed = whole("seed", 0, MAX_SEED, 0)
    curves: dict[str, list[float]] = {}
    for name, above in MOTION.items():
        try:
            read = keyframes.parse(name, given[name], frames, seed, above)
        except UserError as error:
            errors[name] = str(error)
        else:
            curves[name] = [_short(float(value)) for value in read]
    texts: list[PromptAt] = []
    try:
        texts = [
            {"frame": frame, "text": prompt.text}
            for frame, prompt in prompts.parse(given[prompts.NAME], frames).keyframes
        ]
    except UserError as error:
        errors[prompts.NAME] = str(error)
    return {"frames": frames, "curves": curves, "prompts": texts, "errors": errors}


def _short(value: float) -> float:
    """Return a value with no more digits than a curve shows."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else 0.0


class Handler(BaseHTTPRequestHandler):
    """Answer one POST."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds that a connection may be idle

    def do_POST(self) -> None:
        """Read an input and answer with its preview."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"detail": f"a body has 0 to {MAX_BODY_BYTES} bytes"})
            return
        try:
            values = json.loads(self.rfile.read(int(length)))["input"]
            shown = preview(values)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(
                HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": "the body must be JSON whose `input` is an object"}
            )
            return
        self._answer(HTTPStatus.OK, shown)

    def _answer(self, status: HTTPStatus, content: Preview | dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: it is asked at every key."""


def main() -> None:
    """Serve on the port that the command line says."""
    parser = argparse.ArgumentParser(description="Serve previews of deforum's motion.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
