"""Routes of predictions: create, list, get, cancel."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from gateway.api import described, errors
from gateway.api.bounds import read_body
from gateway.api.creating import CreateBody, named_version, new_prediction, parse_body, parse_wait
from gateway.api.inline import data_urls
from gateway.api.inputs import shown
from gateway.api.services import Asking, Caller, Name, Owner, Services, Serving, answer
from gateway.api.waiting import ended
from gateway.catalog import Version
from gateway.prediction import timestamp
from gateway.record import NotStoredError, Position, Prediction, QueueFullError, Status

router = APIRouter()

ID = re.compile(r"[a-z0-9]{26}")
PAGE = 100
QUEUE_FULL_S = 10  # when to try again
MAX_CURSOR_CHARS = 300


@router.get("/predictions", **described.LIST)
async def list_predictions(
    services: Serving,
    caller: Asking,
    cursor: Annotated[str | None, Query(description="Which page, as `next` and `previous` say.")] = None,
    created_after: Annotated[str | None, Query(description="The earliest time of creation, inclusive.")] = None,
    created_before: Annotated[str | None, Query(description="The latest time of creation, exclusive.")] = None,
) -> Response:
    """List the first page of your predictions."""
    newer, position = _position(cursor)
    page = await services.record.predictions.page(
        caller.owner,
        older_than=None if newer else position,
        newer_than=position if newer else None,
        created_after=_moment("created_after", created_after),
        created_before=_moment("created_before", created_before),
        limit=PAGE,
    )
    bounds = {"created_after": created_after, "created_before": created_before}
    kept = {name: value for name, value in bounds.items() if value is not None}

    def link(direction: str, beside: Position | None) -> str | None:
        """Return a page's URL. Trap 11: an absolute one."""
        query = urlencode({"cursor": _cursor(direction, beside), **kept}) if beside else ""
        return f"{caller.base_url}/v1/predictions?{query}" if beside else None

    return answer(
        {
            "previous": link("newer", page.newer),
            "next": link("older", page.older),
            "results": [services.links.shown(_seen(row, caller)) for row in page.rows],
        }
    )


@router.post("/predictions", **described.CREATE)
async def create_prediction(request: Request, services: Serving, caller: Asking) -> Response:
    """Create a prediction and get the output."""
    body = await _body(request, services)
    return await create(request, services, caller, body, named_version(body, services.catalog))


@router.get("/predictions/{prediction_id}", **described.GET)
async def get_prediction(
    prediction_id: Annotated[str, Path(description="The ID of the prediction to get")],
    request: Request,
    services: Serving,
    caller: Asking,
) -> Response:
    """Get the latest version of a prediction by id."""
    row = await services.record.predictions.get(_id(request, prediction_id), caller.owner)
    return await _shown(request, services, caller, row)


@router.post("/predictions/{prediction_id}/cancel", **described.CANCEL)
async def cancel_prediction(
    prediction_id: Annotated[str, Path(description="The ID of the prediction to cancel")],
    request: Request,
    services: Serving,
    caller: Asking,
) -> Response:
    """Cancel an in progress prediction."""
    row = await services.record.predictions.cancel(_id(request, prediction_id), caller.owner)
    return await _shown(request, services, caller, row)


@router.post("/models/{owner}/{name}/predictions", **described.CREATE_BY_MODEL)
async def create_model_prediction(
    owner: Owner, name: Name, request: Request, services: Serving, caller: Asking
) -> Response:
    """Create a prediction with the newest version of a model."""
    model = services.catalog.models.get(f"{owner}/{name}")
    if model is None:
        raise errors.not_found()
    return await create(request, services, caller, await _body(request, services), model.latest)


@router.post("/deployments/{owner}/{name}/predictions", **described.CREATE_BY_DEPLOYMENT)
async def create_deployment_prediction(
    owner: Owner, name: Name, request: Request, services: Serving, caller: Asking
) -> Response:
    """Create a prediction with the model that a deployment stands for."""
    model = services.catalog.deployments.get(f"{owner}/{name}")
    if model is None:
        raise errors.not_found()
    return await create(request, services, caller, await _body(request, services), model.latest)


async def create(request: Request, services: Services, caller: Caller, body: CreateBody, version: Version) -> Response:
    """Store a prediction, wait as long as the client asks, and answer with what is then known."""
    new = new_prediction(body, version, request.headers, caller, services.settings)
    services.rate.take(caller.owner)
    try:
        row = await services.record.predictions.create(new, services.settings.queued or None)
    except QueueFullError as error:
        raise errors.too_many(f"{error}.".capitalize(), QUEUE_FULL_S) from error
    except NotStoredError as error:
        raise errors.unavailable("The database can't be reached; nothing was stored.") from error
    request.state.prediction = row.id
    wait_s = parse_wait(request.headers.get("prefer", ""), services.settings.wait_s)
    if wait_s:
        with services.measures.waiting.track_inprogress():
            row = await ended(services.record, row, services.stopping, wait_s)
    ran_out = wait_s > 0 and not row.status.ended
    # Trap 1: to run(), any status but `starting` is the end, so a wait that ran out says that, whatever is true.
    status = Status.STARTING if ran_out else None
    prediction = services.links.shown(row, await data_urls(request, services, row), status)
    location = f"{row.base_url}/v1/predictions/{row.id}"
    return answer(prediction, 202 if ran_out else 201, {"Location": location})


async def _shown(request: Request, services: Services, caller: Caller, row: Prediction | None) -> Response:
    """Return a prediction as a response. Raises Refusal for none."""
    if row is None:
        raise errors.not_found()
    seen = _seen(row, caller)
    return answer(services.links.shown(seen, await data_urls(request, services, seen)))


def _seen(row: Prediction, caller: Caller) -> Prediction:
    """Return a prediction whose URLs begin with the address that this caller uses; it may not be the creator's."""
    return replace(row, base_url=caller.base_url)


async def _body(request: Request, services: Services) -> CreateBody:
    settings = services.settings
    return parse_body(await read_body(request, settings.body_bytes, settings.body_s))


def _id(request: Request, prediction_id: str) -> str:
    """Return an id that could be one. Raises Refusal for another: the database takes no NUL, nor the log a line."""
    if not ID.fullmatch(prediction_id):
        raise errors.not_found()
    request.state.prediction = prediction_id
    return prediction_id


def _cursor(direction: str, beside: Position) -> str:
    """Return a place in the list as clients carry it around."""
    place = json.dumps([direction, timestamp(beside.created_at), beside.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _position(cursor: str | None) -> tuple[bool, Position | None]:
    """Return whether a cursor points to newer ones, and from where. Raises Refusal."""
    if cursor is None:
        return False, None
    bad = errors.unreadable("cursor", f"Must be as `next` or `previous` say, but is {shown(cursor)}")
    if len(cursor) > MAX_CURSOR_CHARS or not cursor.isascii():
        raise bad
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        direction, created_at, prediction_id = json.loads(place)
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise bad from error
    if direction not in ("newer", "older") or not _is_id(prediction_id):
        raise bad
    return direction == "newer", Position(moment, prediction_id)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def _moment(name: str, text: str | None) -> datetime | None:
    """Return a time of the query, UTC where it doesn't say. Raises Refusal."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise errors.unreadable(name, f"Must be a time such as 2026-01-31T21:00:00Z, but is {shown(text)}") from error
