"""A prediction's events: server-sent, replayed from the beginning, with ids to go on from."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gateway.api import errors
from gateway.api.services import Services, Serving, base_url
from gateway.api.waiting import states
from gateway.prediction import LinkError
from gateway.record import Json, Prediction, Status, resolve

router = APIRouter()

PING_S = 10  # trap 10: PY1 reads for 30 s; a proxy on the way may be less patient
MAX_S = 24 * 3600.0  # a stream ends then; a client that still listens comes back
EVENT_ID = re.compile(r"(logs|output|error|done)-(\d{1,15})", re.ASCII)
HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


@dataclass
class Place:
    """How far a client is: the characters of the logs and the outputs that it has, and whether it knows the end."""

    logs: int = 0
    outputs: int = 0
    error: bool = False
    done: bool = False


@router.get("/stream/{signature}/{prediction_id}", include_in_schema=False)
async def stream(signature: str, prediction_id: str, request: Request, services: Serving, logs: str = "") -> Response:
    """Send a prediction's events. Trap 7: clients come without a token, so the URL is signed."""
    try:
        services.links.check("stream", prediction_id, signature)
    except LinkError as error:
        raise errors.Refusal(403, "Forbidden", f"This stream can't be opened: {error}.") from error
    request.state.prediction = prediction_id
    row = await services.record.predictions.get(prediction_id)
    if row is None:
        raise errors.not_found()
    place = place_of(request.headers.get("last-event-id", ""), row)
    if place.done:
        return Response(status_code=204)  # tells an EventSource not to come back
    # Some clients fail on events that they don't know, so logs are sent only where they are asked for.
    with_logs = logs in ("1", "true")
    events = _events(services, prediction_id, base_url(request), place, with_logs)
    return EventSourceResponse(events, headers=HEADERS, ping=PING_S, sep="\n")


def place_of(last_event_id: str, row: Prediction) -> Place:
    """Return how far the id of the last event says that a client is; an id that isn't ours says nothing."""
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
    services: Services, prediction_id: str, base: str, place: Place, with_logs: bool
) -> AsyncIterator[ServerSentEvent]:
    """Yield what a client does not have yet, up to `done`.

    Trap 9: PY1 drops events as long as none had an id, and raises on any but output, logs, error and done. Hence an
    id on each, and no others; a comment keeps the connection alive.
    """
    with services.measures.streams.track_inprogress():
        async for row in states(services.record, prediction_id, services.stopping, MAX_S):
            if with_logs and len(row.logs) > place.logs:
                news, place.logs = row.logs[place.logs :], len(row.logs)
                yield _event("logs", place.logs, news)
            if row.status.ended:
                for event in _end(services, row, base, place):
                    yield event


def _end(services: Services, row: Prediction, base: str, place: Place) -> list[ServerSentEvent]:
    """Return the events of a prediction's end."""
    events = []
    if row.status is Status.SUCCEEDED:
        output = resolve(row.output, row.files, lambda file: services.links.file(base, file.key))
        texts = list(_leaves(output))
        events += [_event("output", place.outputs + n + 1, text) for n, text in enumerate(texts[place.outputs :])]
    if row.status is Status.FAILED and not place.error:
        events.append(_event("error", 1, json.dumps({"detail": row.error or ""})))
    reasons = {Status.FAILED: {"reason": "error"}, Status.CANCELED: {"reason": "canceled"}}
    events.append(_event("done", 1, json.dumps(reasons.get(row.status, {}))))
    return events


def _leaves(output: Json) -> list[str]:
    """Return the parts of an output, one for each event: files' URLs and texts as they are, the rest as JSON."""
    if isinstance(output, dict):
        return [leaf for value in output.values() for leaf in _leaves(value)]
    if isinstance(output, list):
        return [leaf for value in output for leaf in _leaves(value)]
    if output is None:
        return []
    return [output if isinstance(output, str) else json.dumps(output)]


def _event(name: str, number: int, data: str) -> ServerSentEvent:
    return ServerSentEvent(data, event=name, id=f"{name}-{number}", sep="\n")
