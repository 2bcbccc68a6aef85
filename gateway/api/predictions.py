"""Routes for predictions: create, list, get and cancel."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from gateway.api import errors, openapi
from gateway.api.create import create
from gateway.api.dependencies import (
    Caller,
    CallerDependency,
    Name,
    Owner,
    Services,
    ServicesDependency,
    compressed,
    json_response,
    single_page,
)
from gateway.api.files import data_urls
from gateway.api.inputs import shown
from gateway.links import timestamp
from gateway.prediction import Position, Prediction

router = APIRouter()

ID = re.compile(r"[a-z0-9]{26}")
PAGE = 100
MAX_CURSOR_CHARS = 300


@router.get("/predictions", **openapi.LIST)
async def list_predictions(
    request: Request,
    services: ServicesDependency,
    caller: CallerDependency,
    cursor: Annotated[str | None, Query(description="The page, from `next` or `previous`.")] = None,
    created_after: Annotated[str | None, Query(description="The earliest creation time, inclusive.")] = None,
    created_before: Annotated[str | None, Query(description="The latest creation time, exclusive.")] = None,
    source: Annotated[
        str | None, Query(description="How they were created: `api`, which all are, or `web`, which none is.")
    ] = None,
) -> Response:
    """List the first page of your predictions."""
    newer, position = _position(cursor)
    after, before = _moment("created_after", created_after), _moment("created_before", created_before)
    if source not in (None, "api", "web"):
        raise errors.unreadable("source", f"Must be web or api, but is {shown(source)}")
    if source == "web":
        return json_response(single_page([]))
    page = await services.record.predictions.page(
        caller.owner,
        older_than=None if newer else position,
        newer_than=position if newer else None,
        created_after=after,
        created_before=before,
        limit=PAGE,
    )
    filters = {"created_after": created_after, "created_before": created_before, "source": source}
    kept = {name: value for name, value in filters.items() if value is not None}

    def link(direction: str, start: Position | None) -> str | None:
        """Return the absolute URL of a page (docs/clients.md#page-urls)."""
        query = urlencode({"cursor": _cursor(direction, start), **kept}) if start else ""
        return f"{caller.base_url}/v1/predictions?{query}" if start else None

    response = json_response(
        {
            "previous": link("newer", page.newer),
            "next": link("older", page.older),
            "results": [
                services.record.links.prediction(_seen(await services.record.predictions.with_output(row), caller))
                for row in page.rows
            ],
        }
    )
    return await compressed(request, response)


@router.post("/predictions", **openapi.CREATE)
async def create_prediction(request: Request, services: ServicesDependency, caller: CallerDependency) -> Response:
    """Create a prediction and get the output."""
    return await create(request, services, caller)


@router.get("/predictions/{prediction_id}", **openapi.GET)
async def get_prediction(
    prediction_id: Annotated[str, Path(description="The ID of the prediction to get")],
    request: Request,
    services: ServicesDependency,
    caller: CallerDependency,
) -> Response:
    """Get the latest version of a prediction by id."""
    row = await services.record.predictions.get(_id(request, prediction_id), caller.owner)
    return await _shown(request, services, caller, row)


@router.post("/predictions/{prediction_id}/cancel", **openapi.CANCEL)
async def cancel_prediction(
    prediction_id: Annotated[str, Path(description="The ID of the prediction to cancel")],
    request: Request,
    services: ServicesDependency,
    caller: CallerDependency,
) -> Response:
    """Cancel an in progress prediction."""
    row = await services.record.predictions.cancel(_id(request, prediction_id), caller.owner)
    return await _shown(request, services, caller, row)


@router.post("/models/{owner}/{name}/predictions", **openapi.CREATE_BY_MODEL)
async def create_model_prediction(
    owner: Owner, name: Name, request: Request, services: ServicesDependency, caller: CallerDependency
) -> Response:
    """Create a prediction with the latest version of a model."""
    model = services.catalog.models.get(f"{owner}/{name}")
    if model is None:
        raise errors.not_found()
    return await create(request, services, caller, model.latest)


@router.post("/deployments/{owner}/{name}/predictions", **openapi.CREATE_BY_DEPLOYMENT)
async def create_deployment_prediction(
    owner: Owner, name: Name, request: Request, services: ServicesDependency, caller: CallerDependency
) -> Response:
    """Create a prediction with the model of a deployment."""
    deployment = f"{owner}/{name}"
    model = services.catalog.deployments.get(deployment)
    if model is None:
        raise errors.not_found()
    return await create(request, services, caller, model.latest, deployment)


async def _shown(request: Request, services: Services, caller: Caller, row: Prediction | None) -> Response:
    """Return a prediction as a response, or raise a Refusal if there is none."""
    if row is None:
        raise errors.not_found()
    seen = _seen(await services.record.predictions.with_output(row), caller)
    return json_response(services.record.links.prediction(seen, await data_urls(request, services, seen)))


def _seen(row: Prediction, caller: Caller) -> Prediction:
    """Return a prediction whose URLs begin with the address that this caller uses, which may not be the creator's."""
    return replace(row, base_url=caller.base_url)


def _id(request: Request, prediction_id: str) -> str:
    """Return a well-formed id, or raise a Refusal: PostgreSQL takes no NUL, and a log line no newline."""
    if not ID.fullmatch(prediction_id):
        raise errors.not_found()
    request.state.prediction = prediction_id
    return prediction_id


def _cursor(direction: str, start: Position) -> str:
    """Return the cursor of a page."""
    place = json.dumps([direction, timestamp(start.created_at), start.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _position(cursor: str | None) -> tuple[bool, Position | None]:
    """Parse a cursor: whether its page has newer predictions, and where it starts. Raise a Refusal if invalid."""
    if cursor is None:
        return False, None
    bad = errors.unreadable("cursor", f"Must come from `next` or `previous`, but is {shown(cursor)}")
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
    """Parse a time, in UTC unless it says otherwise. Raise a Refusal if invalid."""
    if text is None:
        return None
    try:
        moment = _parse_moment(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise errors.unreadable(name, f"Must be a time such as 2026-01-31T21:00:00Z, but is {shown(text)}") from error


def _parse_moment(text: str) -> datetime:
    """Parse a time whose plus sign may have become a blank, as it does in a query that isn't escaped."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat("+".join(text.rsplit(" ", 1)))
