"""Verify a prediction's inputs against the schema of its version, before anything is stored."""

import json
import math
import re
from collections.abc import Container, Iterator
from typing import NoReturn, TypeAlias

from jsonschema.exceptions import ValidationError

from gateway.api import errors
from gateway.api.errors import InvalidField
from gateway.catalog import Schema, Version
from gateway.prediction import Json, JsonObject

Place: TypeAlias = tuple[str | int, ...]  # steps into lists and objects

MAX_SHOWN_CHARS = 60
MAX_DEPTH = 64  # of lists and objects in a body

# By jsonschema's name of a rule: the error type in Replicate's responses, and the sentence.
RULES = {
    "type": ("invalid_type", "Invalid type. Expected: {rule}, given: {given}"),
    "enum": ("enum", "Must be one of the following: {rule}"),
    "minimum": ("number_gte", "Must be greater than or equal to {rule}"),
    "maximum": ("number_lte", "Must be less than or equal to {rule}"),
    "minLength": ("string_gte", "String length must be greater than or equal to {rule}"),
    "maxLength": ("string_lte", "String length must be less than or equal to {rule}"),
    "pattern": ("pattern", "Does not match pattern '{rule}'"),
}
# What a worker can turn into a file. Cog would take any other text for the path of a file in its container.
URI = re.compile(r"https?://[^/?#]|data:[^,]*,", re.IGNORECASE)
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def parse_json(body: bytes) -> Json:
    """Parse a request's body.

    Raises:
        Refusal: It isn't JSON, is nested too deeply, or contains what PostgreSQL can't store: NaN, an infinity, a
            NUL character or a lone surrogate.
    """
    try:
        value: Json = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        _check_storable(value, 0)
    except RecursionError as error:
        raise errors.unreadable("body", f"Must be nested at most {MAX_DEPTH} deep") from error
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise errors.unreadable("body", f"Must be JSON: {error}") from error
    return value


def ignored(version: Version, given: JsonObject) -> str:
    """Return a log line that names the unknown inputs, which are dropped; nothing if there are none."""
    unknown = [name for name in given if name not in version.inputs]
    return f"Unknown inputs are ignored: {', '.join(shown(name) for name in unknown[:10])}\n" if unknown else ""


def verified(version: Version, given: JsonObject, references: Container[str] = ()) -> JsonObject:
    """Return the inputs to store: the known ones, without nulls for optional ones, whole numbers as integers.

    Args:
        version: The version to run.
        given: The inputs.
        references: Strings that stand for files where the schema wants a URI.

    Raises:
        Refusal: Inputs are missing or don't match the schema. It has a sentence for each.
    """
    known = {name: value for name, value in given.items() if name in version.inputs}
    # coglet answers an explicit null with 422, so a null for an optional input is left out, which means the same.
    kept = {name: value for name, value in known.items() if value is not None or name in version.required}
    wrong = [
        InvalidField("required", f"input.{name}", f"{name} is required")
        for name in version.inputs
        if name in version.required and name not in kept
    ]
    for name, value in kept.items():
        about = version.inputs[name]
        wrong += [_field(name, error, is_secret(about)) for error in version.validators[name].iter_errors(value)]
        for at, uri in uris(about, value):
            if uri not in references and not URI.match(uri):
                wrong.append(_not_a_uri(name, at, uri))
    if wrong:
        raise errors.invalid(wrong)
    return {name: _whole(version.inputs[name], value) for name, value in kept.items()}


def shown(value: Json) -> str:
    """Return a value as JSON, shortened to fit on a line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}... ({len(text)} characters)"


def uris(about: Schema, value: Json, at: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the places of an input's value at which its schema wants a URI, with the strings there."""
    if isinstance(value, str) and about.get("format") == "uri":
        yield at, value
    items, properties, others = (about.get(key) for key in ("items", "properties", "additionalProperties"))
    if isinstance(value, list) and isinstance(items, dict):
        for number, item in enumerate(value):
            yield from uris(items, item, (*at, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            part = properties.get(key, others) if isinstance(properties, dict) else others
            if isinstance(part, dict):
                yield from uris(part, item, (*at, key))


def is_secret(about: Schema) -> bool:
    """Return whether an input is one of Cog's secrets, or a list of them."""
    items = about.get("items")
    return bool(about.get("x-cog-secret")) or (isinstance(items, dict) and is_secret(items))


def _not_a_uri(name: str, at: Place, uri: str) -> InvalidField:
    field = ".".join(["input", name, *map(str, at)])
    return InvalidField("format", field, f"Must be an http, https or data URL, but is {shown(uri)}")


def _field(name: str, error: ValidationError, secret: bool) -> InvalidField:
    """Return an error of jsonschema in Replicate's form."""
    field = ".".join(["input", name, *(str(step) for step in error.absolute_path)])
    kind, sentence = RULES.get(str(error.validator), (str(error.validator), "Does not match its schema: {rule}"))
    rule: Json = error.validator_value  # type: ignore[assignment]  # Unset only in errors made by hand
    instance: Json = error.instance  # type: ignore[assignment]
    listed = ", ".join(shown(choice) for choice in rule) if isinstance(rule, list) else str(rule)
    given = TYPES.get(type(instance), "null")
    description = sentence.format(rule=listed, given=given)
    if secret:
        return InvalidField(kind, field, description)
    if kind == "invalid_type" and isinstance(instance, str) and rule in ("integer", "number"):
        description += f", {shown(instance)}; write numbers without quotes"
    elif kind != "invalid_type":
        description += f", but is {shown(instance)}"
    return InvalidField(kind, field, description)


def _whole(about: Schema, value: Json) -> Json:
    """Return 3 for 3.0 if the schema wants an integer: JSON has one kind of number, Python has two."""
    return int(value) if isinstance(value, float) and about.get("type") == "integer" else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:MAX_SHOWN_CHARS]} is too large")
    return number


def _check_storable(value: Json, depth: int) -> None:
    """Raise ValueError for text that PostgreSQL can't store, RecursionError for nesting beyond MAX_DEPTH."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, str) and ("\0" in value or not _encodes(value)):
        raise ValueError(f"{value[:MAX_SHOWN_CHARS]!r} contains a NUL character or a lone surrogate")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_storable(key, depth + 1)
            _check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth + 1)


def _encodes(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8: a lone surrogate can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
