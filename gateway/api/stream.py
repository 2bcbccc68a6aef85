"""A prediction's events as server-sent events, replayed from the beginning or from a client's last event id."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gateway.api import errors
from gateway.api.dependencies import Services, ServicesDependency, base_url
from gateway.api.wait import states
from gateway.links import LinkError
from gateway.prediction import Json, Prediction, Status, resolve
from gateway.record.database import until_stored

router = APIRouter()

PING_S = 10  # the Python 1.x client gives up after 30 s of silence: docs/clients.md#stream-keep-alive
MAX_S = 24 * 3600.0  # then the stream ends, and a client that still listens reconnects
EVENT_ID = re.compile(r"(logs|output|error|done)-(\d{1,15})", re.ASCII)
HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


@dataclass
class Place:
    """What a client has received: characters of the logs, outputs, and the end."""

    logs: int = 0
    outputs: int = 0
    chunks: int = 0  # items of a running iterator's output that were read; they have `read` outputs
    read: int = 0
    error: bool = False
    done: bool = False


@router.get("/stream/{signature}/{prediction_id}", include_in_schema=False)
async def stream(
    signature: str,
    prediction_id: str,
    request: Request,
    services: ServicesDependency,
    logs: str = "",
    status: str = "",
) -> Response:
    """Send a prediction's events. Clients send no token here, so the URL is signed: docs/clients.md#signed-urls."""
    try:
        services.record.links.check("stream", prediction_id, signature)
    except LinkError as error:
        raise errors.Refusal(403, "Forbidden", f"This stream can't be opened: {error}.") from error
    request.state.prediction = prediction_id
    row = await services.record.predictions.get(prediction_id)
    if row is None:
        raise errors.not_found()
    if request.method == "HEAD":  # must not wait for events
        return Response(headers=HEADERS, media_type="text/event-stream")
    place = place_of(request.headers.get("last-event-id", ""), row)
    if place.done:
        return Response(status_code=204)  # tells an EventSource not to reconnect
    # Some clients fail on unknown events, so logs and statuses are sent only on request.
    with_logs, with_status = logs in ("1", "true"), status in ("1", "true")
    events = _events(services, prediction_id, base_url(request), place, with_logs, with_status)
    return EventSourceResponse(events, headers=HEADERS, ping=PING_S, sep="\n")


def place_of(last_event_id: str, row: Prediction) -> Place:
    """Return the place that a client's last event id stands for: the beginning for an unknown id."""
    match = EVENT_ID.fullmatch(last_event_id)
    if not match:
        return Place()
    kind, number = match[1], int(match[2])
    if kind == "logs":
        return Place(logs=number)
    # Logs come before outputs, outputs before error and done.
    outputs = number if kind == "output" else len(row.files) + 1_000_000
    return Place(logs=len(row.logs), outputs=outputs, error=kind == "error", done=kind == "done")


async def _events(
    services: Services, prediction_id: str, base: str, place: Place, with_logs: bool, with_status: bool
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events that a client has not received yet, up to `done`.

    Without `with_status` every event has an id, and there are no types but output, logs, error and done, because the
    Python 1.x client drops or rejects anything else (docs/clients.md#stream-events). Comments keep the connection
    alive.
    """
    sent_status = ""
    with services.metrics.streams.track_inprogress():
        async for row in states(services.record, prediction_id, services.stopping, MAX_S):
            if with_status and (current := await _status(services, row)) != sent_status:
                sent_status = current
                yield ServerSentEvent(current, event="status", sep="\n")  # without an id: sent again on reconnecting
            if with_logs and len(row.logs) > place.logs:
                news, place.logs = row.logs[place.logs :], len(row.logs)
                yield _event("logs", place.logs, news)
            if row.status is Status.PROCESSING:
                for event in await _output_so_far(services, row, base, place):
                    yield event
            if row.status.ended:
                for event in _end(services, row, base, place):
                    yield event


async def _status(services: Services, row: Prediction) -> str:
    """Return a status event's data. The position in the queue counts from 1, and is null once the prediction starts."""
    position = await services.record.predictions.queue_position(row)
    return json.dumps({"status": row.status, "position": position})


async def _output_so_far(services: Services, row: Prediction, base: str, place: Place) -> list[ServerSentEvent]:
    """Return the events of what a running iterator has produced since the last call."""
    chunks = await until_stored(lambda: services.record.predictions.chunks(row.id, place.chunks))
    texts = list(_leaves(resolve(chunks, row.files, lambda file: services.record.links.file(base, file.key))))
    first = place.read
    place.chunks += len(chunks)
    place.read += len(texts)
    new = texts[max(0, place.outputs - first) :]
    events = [_event("output", place.read - len(new) + n + 1, text) for n, text in enumerate(new)]
    place.outputs = max(place.outputs, place.read)
    return events


def _end(services: Services, row: Prediction, base: str, place: Place) -> list[ServerSentEvent]:
    """Return the events of a prediction's end."""
    events = []
    if row.output is not None:
        since = row.completed_at or row.created_at
        output = resolve(row.output, row.files, lambda file: services.record.links.file(base, file.key, since))
        texts = list(_leaves(output))
        events += [_event("output", place.outputs + n + 1, text) for n, text in enumerate(texts[place.outputs :])]
    if row.status is Status.FAILED and not place.error:
        events.append(_event("error", 1, json.dumps({"detail": row.error or ""})))
    reasons = {Status.FAILED: {"reason": "error"}, Status.CANCELED: {"reason": "canceled"}}
    events.append(_event("done", 1, json.dumps(reasons.get(row.status, {}))))
    return events


def _leaves(output: Json) -> list[str]:
    """Return the parts of an output, one per event: strings as they are, everything else as JSON."""
    if isinstance(output, dict):
        return [leaf for value in output.values() for leaf in _leaves(value)]
    if isinstance(output, list):
        return [leaf for value in output for leaf in _leaves(value)]
    if output is None:
        return []
    return [output if isinstance(output, str) else json.dumps(output)]


def _event(name: str, number: int, data: str) -> ServerSentEvent:
    return ServerSentEvent(data, event=name, id=f"{name}-{number}", sep="\n")
