"""Logging of the gateway and its workers: one line per event, as text or JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
RESERVED = ("at", "level", "logger", "event", "traceback")  # keys of every line, which no `extra` field may replace


class Lines(logging.Formatter):
    """Format a record and its `extra` fields as one line."""

    def __init__(self, style: Literal["json", "text"]) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        extra = {key: value for key, value in vars(record).items() if key not in STANDARD}
        about = {f"{key}_" if key in RESERVED else key: value for key, value in extra.items()}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if record.exc_info:
            about["traceback"] = self.formatException(record.exc_info)
        if self._json:
            event = {"at": at, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
            return json.dumps(event | about, default=str, ensure_ascii=False)
        details = " ".join(f"{key}={value}" for key, value in about.items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {details}".rstrip()


def configure(level: str, style: Literal["json", "text"]) -> None:
    """Log to standard error in the given style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(style))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Our own code logs each job and request, with the prediction's id.
    for noisy in ("procrastinate", "uvicorn.error", "httpx", "httpcore", "asyncio", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what clients do wrong
