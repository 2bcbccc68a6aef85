"""What the OpenAPI document says of each route. The words of the documented routes are Replicate's."""

from typing import Any, TypedDict

from gateway.record import Status

SchemaObject = dict[str, Any]  # a part of the document, as FastAPI takes it


class Route(TypedDict, total=False):
    """What a route's decorator is given."""

    summary: str
    description: str
    status_code: int
    responses: dict[int | str, SchemaObject]
    openapi_extra: SchemaObject


AUTHORIZATION: SchemaObject = {
    "name": "Authorization",
    "in": "header",
    "required": True,
    "description": "Eg: Bearer $REPLICATE_API_TOKEN. ",
    "schema": {"type": "string"},
}
CONTENT_TYPE: SchemaObject = {
    "name": "Content-Type",
    "in": "header",
    "required": True,
    "description": "Eg: application/json. ",
    "schema": {"type": "string"},
}
PREFER: SchemaObject = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "Eg: wait=10. How many seconds, from 1 to 60, to wait for the output; wait alone means 60.",
    "schema": {"type": "string"},
}
CANCEL_AFTER: SchemaObject = {
    "name": "Cancel-After",
    "in": "header",
    "required": False,
    "description": "Eg: 90s. After how long the prediction is cancelled, at least 5 seconds: 90, 90s, 5m or 1h.",
    "schema": {"type": "string"},
}

TIME: SchemaObject = {"type": "string", "format": "date-time"}
PREDICTION: SchemaObject = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "input": {"type": "object"},
        "output": {"description": "As the model's Output schema says; null until it has succeeded."},
        "logs": {"type": "string"},
        "error": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": [str(status) for status in Status]},
        "source": {"type": "string"},
        "data_removed": {"type": "boolean"},
        "created_at": TIME,
        "started_at": {**TIME, "type": ["string", "null"]},
        "completed_at": {**TIME, "type": ["string", "null"]},
        "deadline": TIME,
        "metrics": {"type": "object"},
        "webhook": {"type": "string"},
        "webhook_events_filter": {"type": "array", "items": {"type": "string"}},
        "urls": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": [
        *("id", "model", "version", "input", "output", "logs", "error", "status", "source", "data_removed"),
        *("created_at", "started_at", "completed_at", "metrics", "urls"),
    ],
}
ERROR: SchemaObject = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "status": {"type": "integer"},
        "invalid_fields": {"type": "array", "items": {"type": "object"}},
        "retry_after": {"type": "integer"},
    },
    "required": ["title", "detail", "status"],
}


def page_of(item: SchemaObject) -> SchemaObject:
    """Return the schema of a page."""
    link = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {"previous": link, "next": link, "results": {"type": "array", "items": item}},
        "required": ["previous", "next", "results"],
    }


def answers(schema: SchemaObject, *refusals: int, status: int = 200) -> dict[int | str, SchemaObject]:
    """Return the responses of a route: its own, and the errors that it can have."""
    refused = {401: "no valid token", 404: "no such resource", 408: "the body came too slowly", 413: "too large"}
    refused |= {422: "something in the request is not as it must be", 429: "too many requests", 503: "no database"}
    found: dict[int | str, SchemaObject] = {
        status: {"description": "successful operation", "content": {"application/json": {"schema": schema}}}
    }
    for code in (401, *refusals, 503):
        found[code] = {"description": refused[code], "content": {"application/json": {"schema": ERROR}}}
    return found


def create_body(inputs: SchemaObject, version: str | None) -> SchemaObject:
    """Return the schema of a create's body: with a model's inputs, and the id that stands as the example's."""
    properties = {
        "input": inputs,
        "stream": {
            "description": "Request a URL to receive streaming output using server-sent events (SSE).",
            "type": "boolean",
        },
        "version": {"description": f"Eg: {version}. The ID of the model version", "type": "string"},
        "webhook": {
            "description": "An HTTPS URL for receiving a webhook when the prediction has new output. The webhook will "
            "be a POST request where the request body is the same as the response body of the get prediction "
            "operation. If there are network problems, we will retry the webhook a few times, so make sure it can be "
            "safely called more than once. Replicate will not follow redirects when sending webhook requests to your "
            "service, so be sure to specify a URL that will resolve without redirecting.",
            "type": "string",
        },
        "webhook_events_filter": {
            "description": "By default, we will send requests to your webhook URL whenever there are new outputs or "
            "the prediction has finished. You can change which events trigger webhook requests by specifying "
            "webhook_events_filter in the prediction request: start: immediately on prediction start, output: each "
            "time a prediction generates an output (note that predictions can generate multiple outputs), logs: each "
            "time log output is generated by a prediction, completed: when the prediction reaches a terminal state "
            "(succeeded/canceled/failed).",
            "type": "string",
        },
    }
    if version is None:
        del properties["version"]
    required = [name for name in ("input", "version") if name in properties]
    return {"type": "object", "properties": properties, "required": required}


def _request_body(schema: SchemaObject) -> SchemaObject:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


ANY_INPUT: SchemaObject = {"type": "object", "description": "As the Input schema of the model's version says."}
EXAMPLE = "8cf61ea6c56afd61d8f5b9ffd14d7c216c0a93844ce2d82ac1c9ecc9c7f24e05"


def _create(version: str | None, *refusals: int) -> Route:
    """Return what is said of a route that creates."""
    responses = answers(PREDICTION, *refusals, 408, 413, 422, 429, status=201)
    responses[202] = {**responses[201], "description": "created; the wait ran out before its end"}
    return Route(
        summary="Create a prediction and get the output.",
        description="Create a prediction and get the output.",
        status_code=201,
        responses=responses,
        openapi_extra={
            "parameters": [AUTHORIZATION, CONTENT_TYPE, PREFER, CANCEL_AFTER],
            "requestBody": _request_body(create_body(ANY_INPUT, version)),
        },
    )


def _said(text: str, schema: SchemaObject, *refusals: int) -> Route:
    """Return what is said of a route that needs only a token."""
    return Route(
        summary=text,
        description=text,
        responses=answers(schema, *refusals),
        openapi_extra={"parameters": [AUTHORIZATION]},
    )


OBJECT: SchemaObject = {"type": "object"}

LIST = _said("List the first page of your predictions", page_of(PREDICTION), 422)
GET = _said("Get the latest version of a prediction by id", PREDICTION, 404)
CANCEL = _said("Cancel an in progress prediction", PREDICTION, 404)
CREATE = _create(EXAMPLE)
CREATE_BY_MODEL = _create(None, 404)
CREATE_BY_DEPLOYMENT = _create(None, 404)
MODELS = _said("List the models", page_of(OBJECT))
MODEL = _said("Get a model", OBJECT, 404)
VERSIONS = _said("List a model's versions, newest first", page_of(OBJECT), 404)
VERSION = _said("Get a version with its schemas", OBJECT, 404)
DOCUMENT = _said("Get a model's own page of this document", OBJECT, 404)
SECRET = _said("Get the secret that your webhooks are signed with", OBJECT)
ACCOUNT = _said("Get your account: the name of your token", OBJECT)
