"""Preview motion and prompts without diffusion: a small server next to the Cog servers of deforum and music-video.

POST /MODEL {"input": {...}} returns {"frames", "curves": {name: a value for each frame}, "prompts": [{"frame",
"text"}], "errors": {name: message}}. Inputs are parsed exactly as for a video. music-video adds "music": the waveform,
the beats and the levels. Its files must be data URLs, because this server opens neither files nor addresses for others.
"""

import argparse
import binascii
import hashlib
import json
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import fields
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from lib import deforum_request, music_video_request
from lib.animation.soundtrack import LEVELS, every
from lib.deforum_request import MOTION
from lib.music_video_request import Request
from lib.prompts import Prompts

MAX_BODY_BYTES = 64 << 20  # of three minutes of WAV as a data URL
FILES = ("audio", "timeline", "init_image")
DIGITS = 6  # significant digits of a value in a curve
PEAKS_PER_FRAME = 4


class PromptAt(TypedDict):
    """A prompt, and the frame from which it applies."""

    frame: int
    text: str


class Music(TypedDict):
    """The music of a film, by frame."""

    bpm: float
    beats: list[int]  # the frames that show a beat
    bars: list[int]  # the frames that show the first beat of a bar
    levels: dict[str, list[float]]
    peaks: list[float]  # of the waveform, PEAKS_PER_FRAME for each frame
    notes: list[str]


class Preview(TypedDict):
    """The effect of an input. Invalid parts are missing and have an error."""

    frames: int
    curves: dict[str, list[float]]
    prompts: list[PromptAt]
    errors: dict[str, str]
    music: NotRequired[Music]


def preview(values: Mapping[str, object]) -> Preview:
    """Return the preview of an input of deforum; values that are not given have their defaults."""
    request, problems = deforum_request.Inputs(**_known(deforum_request.Inputs, values)).read()
    curves = {name: getattr(request, name) for name in MOTION}
    return _preview(curves, request.prompts, problems.found)


def preview_music_video(values: Mapping[str, object], folder: Path) -> Preview:
    """Return the preview of an input of music-video, whose files are data URLs; `folder` keeps the last of each."""
    known, refused = _known(music_video_request.Inputs, values), {}
    for name in FILES:
        if known.get(name) is not None:
            known[name] = _stored(known[name], folder / name)
            if known[name] is None:
                refused[name] = (f"The preview needs an uploaded file. A URL of {name} is fetched when it runs.",)
    request, problems = music_video_request.Inputs(**known).read()
    return _preview(request.curves, request.prompts, problems.found | refused) | {"music": _music(request)}


def _known(inputs: type[Any], values: Mapping[str, object]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(inputs) if field.name in values}


def _stored(value: object, file: Path) -> str | None:
    """Write the content of a data URL to a file unless it is there, and return its path; None if it is no data URL."""
    head, comma, encoded = str(value).partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        return None
    try:
        content = b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    path = file.with_name(f"{file.name}-{hashlib.sha256(content).hexdigest()[:16]}")
    if not path.exists():
        for earlier in file.parent.glob(f"{file.name}-*"):
            earlier.unlink()
        path.write_bytes(content)
    return str(path)


def _preview(
    curves: Mapping[str, NDArray[np.float64]], prompts: Prompts, errors: Mapping[str, tuple[str, ...]]
) -> Preview:
    return {
        "frames": len(next(iter(curves.values()))),
        "curves": {name: _rounded(values) for name, values in curves.items() if name not in errors},
        "prompts": []
        if "animation_prompts" in errors
        else [{"frame": max(frame, 0), "text": prompt.text} for frame, prompt in prompts.keyframes],
        "errors": {name: "\n".join(problems) for name, problems in errors.items()},
    }


def _music(request: Request) -> Music:
    curves, count = request.soundtrack.curves, request.frames * PEAKS_PER_FRAME
    sound = request.music.cut(request.frames / request.inputs.fps)
    peaks = np.zeros(count)
    if sound is not None:
        edges = np.linspace(0, sound.shape[1], count + 1).astype(int)[:-1]
        peaks = np.maximum.reduceat(np.abs(sound).max(axis=0), edges).astype(float)
    beats, bars = (every(np.float64(n), curves["b"], curves["b_before"]) for n in (1, request.beats_per_bar))
    return {
        "bpm": round(request.soundtrack.constants["bpm"], 3),
        "beats": np.flatnonzero(beats).tolist(),
        "bars": np.flatnonzero(bars).tolist(),
        "levels": {name: _rounded(curves[name], 3) for name in LEVELS},
        "peaks": _rounded(peaks, 3),
        "notes": list(request.notes()),
    }


def _rounded(values: NDArray[np.float64], digits: int = DIGITS) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


class Handler(BaseHTTPRequestHandler):
    """Handle POST requests."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds that a connection may be idle
    folder: Path  # for files from data URLs

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
        model = self.path.strip("/")
        if model not in ("", "deforum", "music-video"):
            self._answer(HTTPStatus.NOT_FOUND, {"detail": f"there is no preview of {model}"})
        elif isinstance(values, dict):
            music = model == "music-video"
            self._answer(HTTPStatus.OK, preview_music_video(values, self.folder) if music else preview(values))
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
    parser = argparse.ArgumentParser(description="Serve previews of deforum and music-video.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="preview-") as folder:
        handler = type("FolderHandler", (Handler,), {"folder": Path(folder)})
        ThreadingHTTPServer((arguments.host, arguments.port), handler).serve_forever()


if __name__ == "__main__":
    main()
