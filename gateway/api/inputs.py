"""Verify a prediction's inputs against its version's schema, before anything is stored."""

import json
import math
from typing import NoReturn

from jsonschema.exceptions import ValidationError

from gateway.api import errors
from gateway.api.errors import InvalidField
from gateway.catalog import Schema, Version
from gateway.record import Json, JsonObject

MAX_SHOWN_CHARS = 60
MAX_DEPTH = 64  # of lists and objects in a body

# What jsonschema calls a rule, what Replicate's answers call breaking it, and the sentence for it.
RULES = {
    "type": ("invalid_type", "Invalid type. Expected: {rule}, given: {given}"),
    "enum": ("enum", "Must be one of the following: {rule}"),
    "minimum": ("number_gte", "Must be greater than or equal to {rule}"),
    "maximum": ("number_lte", "Must be less than or equal to {rule}"),
    "minLength": ("string_gte", "String length must be greater than or equal to {rule}"),
    "maxLength": ("string_lte", "String length must be less than or equal to {rule}"),
    "pattern": ("pattern", "Does not match pattern '{rule}'"),
}
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def parse_json(body: bytes) -> Json:
    """Return the JSON value of a request's body.

    Raises:
        Refusal: it isn't JSON, is nested too deeply, or holds what can't be stored: NaN, an infinity, a NUL
            character, half a surrogate pair.
    """
    try:
        value: Json = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        _check_storable(value, 0)
    except RecursionError as error:
        raise errors.unreadable("body", f"Must be nested at most {MAX_DEPTH} deep") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
        raise errors.unreadable("body", f"Must be JSON: {error}") from error
    return value


def verified(version: Version, given: JsonObject) -> JsonObject:
    """Return the inputs to store: those the version knows, without nulls for optional ones, whole numbers as integers.

    Raises:
        Refusal: inputs are missing, or not as the schema says; it has a sentence for each.
    """
    known = {name: value for name, value in given.items() if name in version.inputs}
    # coglet answers 422 to an explicit null, so one for an optional input is left out, which means the same.
    kept = {name: value for name, value in known.items() if value is not None or name in version.required}
    wrong = [
        InvalidField("required", f"input.{name}", f"{name} is required")
        for name in version.inputs
        if name in version.required and name not in kept
    ]
    for name, value in kept.items():
        wrong += [_field(name, error) for error in version.validators[name].iter_errors(value)]
    if wrong:
        raise errors.invalid(wrong)
    return {name: _whole(version.inputs[name], value) for name, value in kept.items()}


def shown(value: Json) -> str:
    """Return a value as JSON, cut to a length that fits a line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}... ({len(text)} characters)"


def _field(name: str, error: ValidationError) -> InvalidField:
    """Return an error of jsonschema's in the words that Replicate's clients know."""
    field = ".".join(["input", name, *(str(step) for step in error.absolute_path)])
    kind, sentence = RULES.get(str(error.validator), (str(error.validator), "Must be as its schema says: {rule}"))
    rule: Json = error.validator_value  # type: ignore[assignment]  # Unset only in errors made by hand
    instance: Json = error.instance  # type: ignore[assignment]
    listed = ", ".join(shown(choice) for choice in rule) if isinstance(rule, list) else str(rule)
    given = TYPES.get(type(instance), "null")
    description = sentence.format(rule=listed, given=given)
    if kind == "invalid_type" and isinstance(instance, str) and rule in ("integer", "number"):
        description += f", {shown(instance)}; numbers stand without quotes"
    elif kind != "invalid_type":
        description += f", but is {shown(instance)}"
    return InvalidField(kind, field, description)


def _whole(about: Schema, value: Json) -> Json:
    """Return 3 for 3.0 where the schema wants an integer: JSON has one kind of number, Python's models have two."""
    return int(value) if isinstance(value, float) and about.get("type") == "integer" else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:MAX_SHOWN_CHARS]} is too large")
    return number


def _check_storable(value: Json, depth: int) -> None:
    """Raise ValueError for text that PostgreSQL can't hold, RecursionError for nesting beyond MAX_DEPTH."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, str) and ("\0" in value or not _encodes(value)):
        raise ValueError(f"{value[:MAX_SHOWN_CHARS]!r} holds a NUL character or half a surrogate pair")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_storable(key, depth + 1)
            _check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth + 1)


def _encodes(text: str) -> bool:
    """Tell whether a text has a UTF-8 form: a lone surrogate has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
