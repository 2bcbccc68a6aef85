"""Log lines."""

import json
import logging
import sys

from gateway.logs import Lines


def line(style: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "gateway", "levelname": "INFO", "created": 0.0, "msg": "webhook delivered"})
    vars(record).update(extra)
    return Lines("json" if style == "json" else "text").format(record)


def test_a_line_has_the_message_and_the_fields_none_of_which_replaces_it() -> None:
    assert json.loads(line("json", prediction="x", event="completed", level=3)) == {
        "at": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "gateway",
        "event": "webhook delivered",
        "prediction": "x",
        "event_": "completed",
        "level_": 3,
    }
    assert line("text", prediction="x") == "1970-01-01T00:00:00.000Z info    webhook delivered prediction=x"


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        fields = json.loads(line("json", exc_info=sys.exc_info(), traceback="mine"))
    assert fields["traceback"].endswith("ValueError: no")
    assert fields["traceback_"] == "mine"
