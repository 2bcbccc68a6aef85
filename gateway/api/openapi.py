"""The OpenAPI document: what it says about each route, and its part for each model.

The texts of the documented routes are Replicate's.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypedDict

from gateway.catalog import Model, Version
from gateway.prediction import Status

PATHS = ("/predictions", "/predictions/{prediction_id}", "/predictions/{prediction_id}/cancel")
REFERENCE = "#/components/schemas/"
FRAMEWORKS_ERROR = REFERENCE + "HTTPValidationError"
COG_ONLY = ("title", "x-order", "nullable")  # keys of Cog's schemas that the documented ones don't have

SchemaObject = dict[str, Any]  # a part of the document, as FastAPI takes it


class Route(TypedDict, total=False):
    """The arguments of a route's decorator."""

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
    "description": "Eg: 90s. Cancel the prediction after this time, at least 5 seconds: 90, 90s, 5m, 1h or 1h30m45s.",
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
        "output": {"description": "See the model's Output schema. Null until the prediction has succeeded."},
        "logs": {"type": "string"},
        "error": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": [str(status) for status in Status]},
        "source": {"type": "string"},
        "deployment": {"type": "string"},
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
    """Return the schema of a page of a list."""
    link = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {"previous": link, "next": link, "results": {"type": "array", "items": item}},
        "required": ["previous", "next", "results"],
    }


def answers(
    schema: SchemaObject, *refusals: int, status: int = 200, media_type: str = "application/json"
) -> dict[int | str, SchemaObject]:
    """Return the responses of a route: the successful one and its errors."""
    successful = {"description": "successful operation", "content": {media_type: {"schema": schema}}}
    return {status: successful, **_refusals(*refusals)}


def _refusals(*codes: int) -> dict[int | str, SchemaObject]:
    """Return the errors of a route that needs a token."""
    refused = {
        401: "no valid token",
        404: "not found",
        408: "the body arrived too slowly",
        413: "the body is too large",
        415: "the body is compressed",
    }
    refused |= {422: "the request is invalid", 429: "too many requests", 503: "the database can't be reached"}
    return {
        code: {"description": refused[code], "content": {"application/json": {"schema": ERROR}}}
        for code in (401, *codes, 503)
    }


def create_body(inputs: SchemaObject, version: str | None) -> SchemaObject:
    """Return the schema of a create's body with a model's inputs, and a version's id as the example."""
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


ANY_INPUT: SchemaObject = {"type": "object", "description": "See the Input schema of the model's version."}
EXAMPLE = "8cf61ea6c56afd61d8f5b9ffd14d7c216c0a93844ce2d82ac1c9ecc9c7f24e05"


def _create(version: str | None, *refusals: int) -> Route:
    """Describe a route that creates a prediction."""
    responses = answers(PREDICTION, *refusals, 408, 413, 415, 422, 429, status=201)
    responses[202] = {**responses[201], "description": "created; the wait timed out before the end"}
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


def _route(text: str, schema: SchemaObject, *refusals: int, media_type: str = "application/json") -> Route:
    """Describe a route that needs only a token."""
    return Route(
        summary=text,
        description=text,
        responses=answers(schema, *refusals, media_type=media_type),
        openapi_extra={"parameters": [AUTHORIZATION]},
    )


OBJECT: SchemaObject = {"type": "object"}

LIST = _route("List the first page of your predictions", page_of(PREDICTION), 422)
GET = _route("Get the latest version of a prediction by id", PREDICTION, 404)
CANCEL = _route("Cancel an in progress prediction", PREDICTION, 404)
CREATE = _create(EXAMPLE)
CREATE_BY_MODEL = _create(None, 404)
CREATE_BY_DEPLOYMENT = _create(None, 404)
MODELS = _route("List the models", page_of(OBJECT), 422)
MODEL = _route("Get a model", OBJECT, 404)
README = _route("Get a model's README", {"type": "string"}, 404, media_type="text/plain")
EXAMPLES = _route("List a model's example predictions", page_of(PREDICTION), 404)
VERSIONS = _route("List a model's versions, newest first", page_of(OBJECT), 404)
VERSION = _route("Get a version with its schemas", OBJECT, 404)
DOCUMENT = _route("Get the part of this document for a model", OBJECT, 404)
DEPLOYMENTS = _route("List the deployments", page_of(OBJECT))
DEPLOYMENT = _route("Get a deployment", OBJECT, 404)
COLLECTIONS = _route("List the collections: none", page_of(OBJECT))
TRAININGS = _route("List the trainings: none", page_of(OBJECT))
HARDWARE = _route("List the hardware to choose from: none", {"type": "array", "items": OBJECT})
SECRET = _route("Get the signing secret of your webhooks", OBJECT)
ACCOUNT = _route("Get your account: the name of your token", OBJECT)


FILE: SchemaObject = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "content_type": {"type": "string"},
        "size": {"type": "integer"},
        "etag": {"type": "string"},
        "checksums": {"type": "object", "additionalProperties": {"type": "string"}},
        "metadata": {"type": "object"},
        "created_at": TIME,
        "expires_at": {**TIME, "type": ["string", "null"]},
        "urls": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["id", "name", "content_type", "size", "etag", "checksums", "metadata", "created_at", "expires_at"],
}
FILE_FORM: SchemaObject = {
    "type": "object",
    "properties": {
        "content": {"description": "The file content", "type": "string", "format": "binary"},
        "filename": {"description": "The filename", "type": "string"},
        "type": {"description": "The content / MIME type for the file", "type": "string"},
        "metadata": {"description": "User-provided metadata associated with the file, JSON", "type": "string"},
    },
    "required": ["content"],
}
FILES = _route("Get a paginated list of all files created by the owner of the token", page_of(FILE), 422)
FILE_GET = _route("Get the details of a file", FILE, 404)
FILE_CREATE = Route(
    summary="Create a file",
    description="Create a file by uploading its content and optional metadata.",
    status_code=201,
    responses=answers(FILE, 408, 413, 422, status=201),
    openapi_extra={
        "parameters": [AUTHORIZATION],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FILE_FORM}}},
    },
)
FILE_DELETE = Route(
    summary="Delete a file",
    description="Delete a file.",
    status_code=204,
    responses={204: {"description": "deleted"}, **_refusals(404)},
    openapi_extra={"parameters": [AUTHORIZATION]},
)


def remove_unused_errors(document: SchemaObject) -> None:
    """Remove FastAPI's own form of a 422, which it describes for every route with parameters and we never send."""
    for methods in document["paths"].values():
        for operation in methods.values():
            described = operation["responses"].get("422", {})
            if FRAMEWORKS_ERROR in _references(described):
                del operation["responses"]["422"]
    document.pop("components", None)  # nothing else is in it: our own schemas are written where they are used


def model_document(document: SchemaObject, model: Model, base_url: str) -> SchemaObject:
    """Return the documented page of a model: three paths, with the inputs of its latest version."""
    paths = {path: deepcopy(document["paths"][path]) for path in PATHS}
    content = paths["/predictions"]["post"]["requestBody"]["content"]["application/json"]
    inputs = documented_inputs(model.latest)
    content["schema"] = create_body(inputs, model.latest.id)
    return {
        "openapi": document["openapi"],
        "info": {"title": f"{model.owner}_{model.name}", "version": "1.0.0", "description": model.description},
        "servers": [{"url": f"{base_url}/v1"}],
        "paths": paths,
        **_components(inputs, model.latest),
    }


def _components(inputs: SchemaObject, version: Version) -> SchemaObject:
    """Return the schemas that the inputs refer to, and those that these refer to, as the document's components."""
    needed: SchemaObject = {}
    missing = set(_references(inputs))
    while missing:
        names = {reference.removeprefix(REFERENCE) for reference in missing}
        needed |= {name: version.schemas[name] for name in names}
        missing = {reference for name in names for reference in _references(version.schemas[name])}
        missing -= {REFERENCE + name for name in needed}
    return {"components": {"schemas": needed}} if needed else {}


def _references(part: object) -> Iterator[str]:
    """Yield the references in a part of a document."""
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def documented_inputs(version: Version) -> SchemaObject:
    """Return a version's inputs as the documented page shows them, sorted by name."""
    shown: SchemaObject = {}
    for name, about in sorted(version.inputs.items()):
        shown[name] = {
            key: value
            for key, value in about.items()
            if key not in COG_ONLY and not (key == "default" and value is None)
        }
    inputs: SchemaObject = {"type": "object", "properties": shown}
    if version.required:
        inputs["required"] = sorted(version.required)
    return inputs
