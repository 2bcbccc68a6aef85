"""The documented pages: for each model, a part of the gateway's own OpenAPI document, with that model's inputs."""

from copy import deepcopy

from gateway.api.described import SchemaObject, create_body
from gateway.catalog import Model, Version

PATHS = ("/predictions", "/predictions/{prediction_id}", "/predictions/{prediction_id}/cancel")
COGS_OWN = ("title", "x-order", "nullable")  # what Cog's schemas say beyond the documented ones


def page_of(document: SchemaObject, model: Model, base_url: str) -> SchemaObject:
    """Return the document of a model: three paths, and a create whose body has the inputs of its newest version."""
    paths = {path: deepcopy(document["paths"][path]) for path in PATHS}
    content = paths["/predictions"]["post"]["requestBody"]["content"]["application/json"]
    content["schema"] = create_body(documented_inputs(model.latest), model.latest.id)
    return {
        "openapi": document["openapi"],
        "info": {"title": f"{model.owner}_{model.name}", "version": "1.0.0", "description": model.description},
        "servers": [{"url": f"{base_url}/v1"}],
        "paths": paths,
    }


def documented_inputs(version: Version) -> SchemaObject:
    """Return a version's inputs as its documented page shows them, in the order of their names."""
    shown: SchemaObject = {}
    for name, about in sorted(version.inputs.items()):
        shown[name] = {
            key: value
            for key, value in about.items()
            if key not in COGS_OWN and not (key == "default" and value is None)
        }
    inputs: SchemaObject = {"type": "object", "properties": shown}
    if version.required:
        inputs["required"] = sorted(version.required)
    return inputs
