"""The inputs of the models, read from schema/, and their values from a command line."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from lib.errors import UserError
from local import ROOT

SCHEMA_SUFFIX = ".openapi.json"
MODELS = ("riffusion", "walk", "deforum", "music-video")
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "file": "a file",
}

Value = str | float | bool | None


@dataclass(frozen=True)
class Input:
    """An input of a model."""

    name: str
    kind: str  # JSON Schema's type: integer, number, string or boolean; or file
    default: Value
    description: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @classmethod
    def described(cls, name: str, about: dict[str, Any], schemas: dict[str, Any]) -> Self:
        """Read one property of a schema; `schemas` has its choices, under the input's name."""
        return cls(
            name=name,
            kind="file" if about.get("format") == "uri" else about.get("type", "string"),
            default=about.get("default"),
            description=about.get("description", ""),
            choices=tuple(schemas.get(name, {}).get("enum", ())),
            minimum=about.get("minimum"),
            maximum=about.get("maximum"),
        )

    @property
    def allowed(self) -> str:
        """The values it accepts, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = {
            (True, True): f" from {self.minimum} to {self.maximum}",
            (True, False): f" of at least {self.minimum}",
            (False, True): f" of at most {self.maximum}",
        }
        return KINDS[self.kind] + bounds.get((self.minimum is not None, self.maximum is not None), "")

    @property
    def default_text(self) -> str:
        """The default as one writes it; empty if there is none."""
        return (
            "" if self.default is None else str(self.default).lower() if self.kind == "boolean" else str(self.default)
        )

    def typed(self, text: str) -> Value:
        """Return `text` as the input's type where it can be; blank text is the default. lib verifies the value."""
        if self.kind == "string":
            return text
        if self.kind == "boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if self.kind in ("boolean", "file"):
            return text or self.default
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
        return text or self.default


def module_name(model: str) -> str:
    """Return a model's name as it stands in the names of its modules."""
    return model.replace("-", "_")


def inputs_of(model: str) -> dict[str, Input]:
    """Return the inputs of a model by name, in the predictor's order."""
    schema = json.loads((ROOT / "schema" / f"{model}{SCHEMA_SUFFIX}").read_text(encoding="utf-8"))
    schemas = schema["components"]["schemas"]
    properties = schemas["Input"]["properties"]
    return {name: Input.described(name, about, schemas) for name, about in properties.items()}


def parsed(assignments: Iterable[str], inputs: dict[str, Input]) -> dict[str, Value]:
    """Return a value for every input: the one assigned by NAME=VALUE, or the default.

    Raises:
        UserError: an assignment has no `=`, or its input is unknown.
    """
    values = {name: one.default for name, one in inputs.items()}
    problems: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            problems.append(f"-i expects NAME=VALUE, not {assignment!r}")
        elif name in inputs:
            values[name] = inputs[name].typed(text)
        elif name == "seed":
            problems.append("this model has no input 'seed'; use --seed N")
        else:
            problems.append(f"unknown input {name!r}; the inputs are {', '.join(inputs)}")
    if problems:
        raise UserError(*problems)
    return values
