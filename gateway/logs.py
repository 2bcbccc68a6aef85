"""What the gateway and its workers log: a line for each event, for people or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """Format a record as one line, with what `extra` adds to it."""

    def __init__(self, style: Literal["json", "text"]) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        about = {key: value for key, value in vars(record).items() if key not in STANDARD}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if record.exc_info:
            about["traceback"] = self.formatException(record.exc_info)
        if self._json:
            said = {"at": at, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
            return json.dumps(said | about, default=str, ensure_ascii=False)
        details = " ".join(f"{key}={value}" for key, value in about.items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {details}".rstrip()


def configure(level: str, style: Literal["json", "text"]) -> None:
    """Send all logs to standard error, in lines of the style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(style))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A line for each job and request comes from our own code, with the prediction's id.
    for noisy in ("procrastinate", "uvicorn.error", "httpx", "httpcore", "asyncio", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
