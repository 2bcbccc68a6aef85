"""Read a request to create a prediction: its headers, its body, its inputs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway import webhooks
from gateway.api import errors
from gateway.api.inputs import parse_json, shown, verified
from gateway.api.services import Caller
from gateway.catalog import Catalog, Version
from gateway.record import Json, JsonObject, NewPrediction
from gateway.settings import Settings

MAX_WAIT_S = 60
MIN_DEADLINE_S = 5
MAX_DEADLINE_S = 7 * 86400
DURATION = re.compile(r"(\d{1,9})\s*([smh]?)")
UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class CreateBody:
    """The body of a create, of the types that it must have; what else is in it is ignored."""

    input: JsonObject
    version: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = webhooks.EVENTS


def parse_body(body: bytes) -> CreateBody:
    """Return a create's body. Raises Refusal where a key has no value that it can have."""
    value = parse_json(body)
    if not isinstance(value, dict):
        raise errors.unreadable("body", "Must be a JSON object")
    given = value.get("input")
    if not isinstance(given, dict):
        raise errors.unreadable("input", "input is required, an object")
    stream = value.get("stream")  # accepted; there is a stream's URL in any case
    if stream is not None and not isinstance(stream, bool):
        raise errors.unreadable("stream", f"Must be true or false, but is {shown(stream)}")
    webhook, events = _webhook(value)
    return CreateBody(given, _text(value, "version"), webhook, events)


def parse_wait(prefer: str, limit_s: float) -> float:
    """Return how long a Prefer header asks to wait, in seconds; 0 answers at once. What can't be read is ignored."""
    for preference in prefer.split(","):
        name, _, value = (part.strip() for part in preference.partition("="))
        if name.lower() != "wait":
            continue
        if not value:
            return min(MAX_WAIT_S, limit_s)
        if value.isascii() and value.isdecimal() and len(value) < 10:
            # Trap 2: never as long as PY2 reads, for it would post again; so wait=60 waits for less.
            return min(max(1, int(value)), limit_s)
    return 0


def parse_deadline(cancel_after: str | None) -> float | None:
    """Return the seconds of a Cancel-After header: 90, 90s, 5m or 1h. Raises Refusal."""
    if cancel_after is None:
        return None
    match = DURATION.fullmatch(cancel_after.strip().lower())
    seconds = int(match[1]) * UNIT_S[match[2]] if match and match[1].isascii() else 0
    if not MIN_DEADLINE_S <= seconds <= MAX_DEADLINE_S:
        allowed = f"from {MIN_DEADLINE_S} seconds to 7 days, such as 90, 90s, 5m or 1h"
        raise errors.unreadable("Cancel-After", f"Must be a time {allowed}, but is {shown(cancel_after)}")
    return seconds


def new_prediction(
    body: CreateBody, version: Version, headers: Mapping[str, str], caller: Caller, settings: Settings
) -> NewPrediction:
    """Return what is stored for a request. Raises Refusal."""
    if body.webhook is not None:
        try:
            webhooks.check_url(body.webhook, http=settings.webhook_http, private=settings.webhook_private)
        except ValueError as error:
            raise errors.unreadable("webhook", f"{error}, but is {shown(body.webhook)}") from error
    return NewPrediction(
        owner=caller.owner,
        model=version.model,
        version=version.id,
        queue=version.queue,
        base_url=caller.base_url,
        input=verified(version, body.input),
        cancel_after_s=parse_deadline(headers.get("cancel-after")),
        webhook=body.webhook,
        webhook_events=body.events if body.webhook else (),
    )


def named_version(body: CreateBody, catalog: Catalog) -> Version:
    """Return the version that a body names. Raises Refusal."""
    if body.version is None:
        raise errors.unreadable("version", "version is required")
    version = catalog.resolve(body.version)
    if version is None:
        raise errors.unknown_version()
    return version


def _text(body: JsonObject, key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise errors.unreadable(key, f"Must be a string, but is {shown(value)}")
    return value or None


def _webhook(body: JsonObject) -> tuple[str | None, tuple[str, ...]]:
    """Return a webhook and its events; `webhook_completed` is the name that old clients have for one event."""
    webhook = _text(body, "webhook")
    legacy = _text(body, "webhook_completed")
    if webhook is None and legacy is not None:
        return legacy, ("completed",)
    return webhook, _events(body.get("webhook_events_filter"))


def _events(given: Json) -> tuple[str, ...]:
    """Return the events of a filter, an array or, as documented, a string; none given means all."""
    items = given.split(",") if isinstance(given, str) else given
    if items is None or items == [] or given == "":
        return webhooks.EVENTS
    if isinstance(items, list):
        names = [item.strip() for item in items if isinstance(item, str)]
        if len(names) == len(items) and set(names) <= set(webhooks.EVENTS):
            return tuple(event for event in webhooks.EVENTS if event in names)
    allowed = ", ".join(webhooks.EVENTS)
    raise errors.unreadable("webhook_events_filter", f"Must be some of {allowed}, but is {shown(given)}")
