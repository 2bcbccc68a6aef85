"""Two routes beside the documented ones, which the page uses: a place in the queue, and a preview of an input."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from gateway.api import errors
from gateway.api.bounds import read_body
from gateway.api.services import Asking, Name, Owner, Serving, answer

router = APIRouter()

NO_PREVIEW = "This model has no preview."
BODY = "The body must be a JSON object whose `input` is an object."


@router.get("/predictions/{prediction_id}/queue", include_in_schema=False)
async def get_place(prediction_id: Annotated[str, Path(max_length=64)], services: Serving, caller: Asking) -> Response:
    """Tell how many predictions run before this one of the same model, itself included; null once it has begun."""
    row = await services.record.predictions.get(prediction_id, caller.owner)
    if row is None:
        raise errors.not_found()
    return answer({"position": await services.record.predictions.place(row)})


@router.post("/models/{owner}/{name}/preview", include_in_schema=False)
async def preview(owner: Owner, name: Name, request: Request, services: Serving, _caller: Asking) -> Response:
    """Tell what an input will do, as the model's own side says, without running the model."""
    url = services.settings.previews.get(f"{owner}/{name}")
    if url is None:
        raise errors.Refusal(404, "Not found", NO_PREVIEW)
    try:
        body = json.loads(await read_body(request, services.settings.body_bytes, services.settings.body_s))
    except ValueError as error:
        raise errors.Refusal(422, "Invalid body", BODY) from error
    if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
        raise errors.Refusal(422, "Invalid body", BODY)
    shown = await services.previews.ask(url, body["input"])
    if shown is None:
        raise errors.unavailable("The model's preview does not answer.")
    return answer(shown)
