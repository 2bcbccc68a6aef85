"""Cog's schemas of inputs and outputs: types in words, sample values, and outputs that don't match."""

import base64
from collections.abc import Mapping

import jsonschema

from gateway.catalog import Schema, Version
from gateway.prediction import Json, JsonObject

# A picture of one pixel, for inputs that are files.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def kind_of(about: Schema, schemas: Mapping[str, Schema]) -> str:
    """Return a type in words, such as `list (file), produced one by one`."""
    if isinstance(reference := about.get("$ref"), str):
        about = schemas[reference.rpartition("/")[2]]
    kind, items, properties = about.get("type"), about.get("items"), about.get("properties")
    if isinstance(choices := about.get("enum"), list):
        return f"one of {len(choices)} values"
    if about.get("x-cog-secret"):
        return "secret"
    if about.get("format") == "uri":
        return "file"
    if kind == "array":
        of = kind_of(items, schemas) if isinstance(items, dict) else "anything"
        if about.get("x-cog-array-display") == "concatenate":
            return f"{of}, produced piece by piece"
        return f"list ({of})" + (", produced one by one" if about.get("x-cog-array-type") == "iterator" else "")
    if isinstance(properties, dict) and properties:
        parts = (f"{name} ({kind_of(part, schemas)})" for name, part in properties.items() if isinstance(part, dict))
        return f"object with {', '.join(parts)}"
    return TYPES.get(str(kind), "object" if kind == "object" else "anything")


def sample_inputs(version: Version) -> JsonObject:
    """Return a value for each required input."""
    return {name: _sample(about) for name, about in version.inputs.items() if name in version.required}


def _sample(about: Schema) -> Json:
    kind, items = about.get("type"), about.get("items")
    if isinstance(choices := about.get("enum"), list):
        return choices[0]
    if kind in ("integer", "number"):
        return about.get("minimum", 1)
    if kind == "array":
        return [_sample(items)] if isinstance(items, dict) else []
    if about.get("format") == "uri":
        return data_url(PIXEL, "image/png")
    samples: dict[str, Json] = {"boolean": False, "object": {}}
    return samples.get(str(kind), "test")


def data_url(content: bytes, media_type: str) -> str:
    """Return a file as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def invalid_output(output: Json, version: Version) -> str:
    """Return how an output differs from its schema, or an empty string."""
    schema = {**version.schemas.get("Output", {}), "components": version.openapi_schema["components"]}
    validator = jsonschema.Draft202012Validator({key: _nullable(value) for key, value in schema.items()})
    return "; ".join(f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(output))


def _nullable(schema: Json) -> Json:
    """Return a schema whose `nullable`, which OpenAPI 3.0 knows and JSON Schema doesn't, became a type."""
    if isinstance(schema, list):
        return [_nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _nullable(value) for key, value in schema.items()}
    if changed.pop("nullable", False) is True and isinstance(changed.get("type"), str):
        changed["type"] = [changed["type"], "null"]
    return changed
