"""Preview deforum's motion and prompts without diffusion: a small server next to the model's Cog server.

POST {"input": {...}} returns {"frames", "curves": {name: a value for each frame}, "prompts": [{"frame", "text"}],
"errors": {name: message}}. Inputs are parsed exactly as for a video.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypedDict

from lib.deforum_request import MOTION, Inputs

MAX_BODY_BYTES = 1 << 20
DIGITS = 6  # significant digits of a value in a curve


class PromptAt(TypedDict):
    """A prompt, and the frame from which it applies."""

    frame: int
    text: str


class Preview(TypedDict):
    """The effect of an input. Invalid parts are missing and have an error."""

    frames: int
    curves: dict[str, list[float]]
    prompts: list[PromptAt]
    errors: dict[str, str]


def preview(values: Mapping[str, object]) -> Preview:
    """Return the preview of an input; values that are not given have their defaults."""
    given: dict[str, Any] = {field.name: values[field.name] for field in fields(Inputs) if field.name in values}
    request, problems = Inputs(**given).read()
    return {
        "frames": request.inputs.max_frames,
        "curves": {
            name: [float(f"{value:.{DIGITS}g}") for value in getattr(request, name)]
            for name in MOTION
            if name not in problems
        },
        "prompts": []
        if "animation_prompts" in problems
        else [{"frame": frame, "text": prompt.text} for frame, prompt in request.prompts.keyframes],
        "errors": {name: "\n".join(its_problems) for name, its_problems in problems.items()},
    }


class Handler(BaseHTTPRequestHandler):
    """Handle POST requests."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds that a connection may be idle

    def do_POST(self) -> None:
        """Respond with the preview of the input in the body."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            detail = f"the body must have at most {MAX_BODY_BYTES} bytes"
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"detail": detail})
            return
        try:
            values = json.loads(self.rfile.read(int(length)))["input"]
        except (ValueError, KeyError, TypeError):
            values = None
        if isinstance(values, dict):
            self._answer(HTTPStatus.OK, preview(values))
        else:
            detail = 'the body must be JSON of the form {"input": {...}}'
            self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": detail})

    def _answer(self, status: HTTPStatus, content: Preview | dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing, because the page asks at every key press."""


def main() -> None:
    """Serve on the port given on the command line."""
    parser = argparse.ArgumentParser(description="Serve previews of deforum's motion.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
