"""Create a prediction: read the request, store it, wait for its end if the client asks to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastapi import Request
from fastapi.responses import Response

from gateway.addresses import check_url
from gateway.api import errors
from gateway.api.create_body import CreateBody, discard, read_create_body
from gateway.api.dependencies import Caller, Services, json_response
from gateway.api.files import data_urls
from gateway.api.input_files import prepared, restored
from gateway.api.inputs import ignored, parse_json, shown, verified
from gateway.api.wait import wait_for_end
from gateway.catalog import Catalog, Version
from gateway.prediction import Json, JsonObject, NewPrediction, Prediction, Status
from gateway.record.predictions import NotStoredError, QueueFullError
from gateway.settings import Settings
from gateway.webhooks import rules

MAX_WAIT_S = 60
MIN_DEADLINE_S = 5
MAX_DEADLINE_S = 7 * 86400
QUEUE_FULL_RETRY_S = 10
# Hours, minutes and seconds, each optional, such as 1h30m45s; a number alone is seconds.
DURATION = re.compile(
    r"(?P<only>\d{1,9})|(?=\d)(?:(?P<h>\d{1,9})\s*h)?\s*(?:(?P<m>\d{1,9})\s*m)?\s*(?:(?P<s>\d{1,9})\s*s)?", re.ASCII
)
UNIT_S = {"only": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class CreateRequest:
    """A create's body, its types checked. Unknown keys are ignored."""

    input: JsonObject
    version: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = rules.EVENTS


@dataclass(frozen=True)
class Create:
    """A verified request to create a prediction."""

    new: NewPrediction
    wait_s: float  # how long the client wants to wait for the end; 0 answers at once


async def create(
    request: Request,
    services: Services,
    caller: Caller,
    version: Version | None = None,
    deployment: str | None = None,
) -> Response:
    """Handle a request to create a prediction.

    Args:
        request: The request.
        services: The application's services.
        caller: The client.
        version: The version to run, or None if the body names it.
        deployment: The deployment that the request names, which the prediction keeps.

    Raises:
        Refusal: The request is invalid or exceeds a limit, or the database can't be reached; nothing is stored.
    """
    body = await read_create_body(request, services, caller)
    used: tuple[str, ...] = ()
    try:
        asked = await read(body, request.headers, services, caller, version)
        services.rate.take(caller.owner)
        new = replace(asked.new, deployment=deployment)
        row = await services.record.predictions.create(new, services.settings.queued or None)
        used = asked.new.uploads
    except QueueFullError as error:
        raise errors.too_many(f"{error}.".capitalize(), QUEUE_FULL_RETRY_S) from error
    except NotStoredError as error:
        raise errors.unavailable("The database can't be reached; nothing was stored.") from error
    finally:
        await discard(services, {key: stored for key, stored in body.data_urls.items() if stored.id not in used})
    request.state.prediction = row.id
    return await _response(request, services, row, asked.wait_s)


async def _response(request: Request, services: Services, row: Prediction, wait_s: float) -> Response:
    """Return the response to a create whose prediction is stored, after the wait that the client asks for."""
    if wait_s:
        with services.metrics.waiting.track_inprogress():
            row = await wait_for_end(services.record, row, services.stopping, wait_s)
    timed_out = wait_s > 0 and not row.status.ended
    # In the clients' run(), every status but `starting` counts as finished. So a wait that times out answers
    # `starting` even if the prediction is already processing: docs/clients.md#wait-timeout
    status = Status.STARTING if timed_out else None
    content = services.record.links.prediction(row, await data_urls(request, services, row), status)
    location = f"{row.base_url}/v1/predictions/{row.id}"
    return json_response(content, 202 if timed_out else 201, {"Location": location})


async def read(
    body: CreateBody, headers: Mapping[str, str], services: Services, caller: Caller, version: Version | None = None
) -> Create:
    """Read and verify a request to create a prediction.

    Args:
        body: The request's body.
        headers: Its headers.
        services: The application's services.
        caller: The client.
        version: The version to run, or None if the body names it.

    Raises:
        Refusal: A part of the request is invalid.
    """
    settings = services.settings
    asked = parse_body(body.json)
    version = version or _named_version(asked, services.catalog)
    if asked.webhook is not None:
        _check_webhook(asked.webhook, settings)
    given = await restored(services, version, asked.input, body.data_urls)
    inputs = await prepared(services, caller, version, verified(version, given, body.data_urls), body.data_urls)
    new = NewPrediction(
        owner=caller.owner,
        model=version.model,
        version=version.id,
        queue=version.queue,
        base_url=caller.base_url,
        input=inputs.shown,
        cancel_after_s=parse_deadline(headers.get("cancel-after")),
        webhook=asked.webhook,
        webhook_events=asked.events if asked.webhook else (),
        input_files=inputs.files,
        uploads=inputs.uploads,
        secret_inputs=services.record.secret_inputs.encrypt(inputs.secrets) if inputs.secrets else None,
        logs=ignored(version, asked.input),
    )
    return Create(new, parse_wait(headers.get("prefer", ""), settings.wait_s))


def parse_body(body: bytes) -> CreateRequest:
    """Parse a create's body.

    Raises:
        Refusal: It isn't a JSON object, or a key has an invalid value.
    """
    value = parse_json(body)
    if not isinstance(value, dict):
        raise errors.unreadable("body", "Must be a JSON object")
    given = value.get("input")
    if given == []:  # an empty object as PHP writes it
        given = {}
    if not isinstance(given, dict):
        raise errors.unreadable("input", "input is required, an object")
    stream = value.get("stream")  # accepted and ignored: every prediction has a stream's URL
    if stream is not None and not isinstance(stream, bool):
        raise errors.unreadable("stream", f"Must be true or false, but is {shown(stream)}")
    webhook, events = _webhook(value)
    return CreateRequest(given, _text(value, "version"), webhook, events)


def parse_wait(prefer: str, limit_s: float) -> float:
    """Return the seconds that a Prefer header asks to wait, or 0. Invalid preferences are ignored (RFC 7240)."""
    for preference in prefer.split(","):
        name, _, value = (part.strip() for part in preference.partition("="))
        if name.lower() != "wait":
            continue
        if not value:
            return min(MAX_WAIT_S, limit_s)
        if value.isascii() and value.isdecimal() and len(value) < 10:
            # Always shorter than the Python 2.x client's read timeout of 60 s, after which it would create a second
            # prediction: docs/clients.md#wait-limit
            return min(max(1, int(value)), limit_s)
    return 0


def parse_deadline(cancel_after: str | None) -> float | None:
    """Return the seconds of a Cancel-After header: 90, 90s, 5m, 1h or 1h30m45s.

    Raises:
        Refusal: It is no duration, or out of range.
    """
    if cancel_after is None:
        return None
    match = DURATION.fullmatch(cancel_after.strip().lower())
    parts = match.groupdict(default="0") if match else {}
    seconds = sum(int(number) * UNIT_S[unit] for unit, number in parts.items())
    if not MIN_DEADLINE_S <= seconds <= MAX_DEADLINE_S:
        allowed = f"from {MIN_DEADLINE_S} seconds to 7 days, such as 90, 90s, 5m or 1h30m45s"
        raise errors.unreadable("Cancel-After", f"Must be a time {allowed}, but is {shown(cancel_after)}")
    return seconds


def _check_webhook(url: str, settings: Settings) -> None:
    try:
        check_url(url, http=settings.webhook_http, private=settings.webhook_private)
    except ValueError as error:
        raise errors.unreadable("webhook", f"{error}, but is {shown(url)}") from error


def _named_version(body: CreateRequest, catalog: Catalog) -> Version:
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
    """Return a webhook's URL and events. Old clients send `webhook_completed`, which means one event."""
    webhook = _text(body, "webhook")
    legacy = _text(body, "webhook_completed")
    if webhook is None and legacy is not None:
        return legacy, ("completed",)
    return webhook, _events(body.get("webhook_events_filter"))


def _events(given: Json) -> tuple[str, ...]:
    """Return the events of a filter, which is an array or, as documented, a string. No filter means all events."""
    items = given.split(",") if isinstance(given, str) else given
    if items is None or items == [] or given == "":
        return rules.EVENTS
    if isinstance(items, list):
        names = [item.strip() for item in items if isinstance(item, str)]
        if len(names) == len(items) and set(names) <= set(rules.EVENTS):
            return tuple(event for event in rules.EVENTS if event in names)
    allowed = ", ".join(rules.EVENTS)
    raise errors.unreadable("webhook_events_filter", f"Must be some of {allowed}, but is {shown(given)}")
