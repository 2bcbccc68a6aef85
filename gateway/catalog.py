"""The models that are offered, their versions and the schemas of these: data, read from a file at the start.

Any Cog container can stand in it. docs/gateway.md tells how a model of one's own is added.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

import jsonschema
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$")]
FullName = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]
VersionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Schema = dict[str, JsonValue]


class CatalogError(ValueError):
    """Say what is wrong with the catalog's file."""


@dataclass(frozen=True)
class Version:
    """One version of a model: what its id stands for, and the queue that its Cog servers serve."""

    model: str  # owner/name
    id: str  # 64 hex digits
    created_at: datetime
    cog_version: str
    queue: str
    openapi_schema: Schema  # what Cog makes of the predictor

    @property
    def schemas(self) -> dict[str, Schema]:
        """Return the schemas by name: Input, Output and what these refer to."""
        return self.openapi_schema["components"]["schemas"]  # type: ignore[index, call-overload, return-value]

    @cached_property
    def inputs(self) -> dict[str, Schema]:
        """Return each input's schema by name, references resolved, in the predictor's order."""
        properties: dict[str, Schema] = self.schemas["Input"].get("properties", {})  # type: ignore[assignment]
        named = {name: self._resolved(about) for name, about in properties.items()}
        return dict(sorted(named.items(), key=lambda item: _order(item[1])))

    @cached_property
    def validators(self) -> dict[str, jsonschema.Draft202012Validator]:
        """Return what verifies each input; to make one takes longer than to use it."""
        # References within a schema have the form #/components/schemas/NAME, so the components go along.
        components = self.openapi_schema["components"]
        made = {name: {**about, "components": components} for name, about in self.inputs.items()}
        return {name: jsonschema.Draft202012Validator(schema) for name, schema in made.items()}

    @cached_property
    def required(self) -> frozenset[str]:
        """Return the names of the inputs that a request must give."""
        return frozenset(self.schemas["Input"].get("required", []))  # type: ignore[arg-type]

    def _resolved(self, about: Schema) -> Schema:
        """Return an input's schema with its choices in it: Cog keeps these apart, behind allOf and $ref."""
        parts = [part for part in about.get("allOf", []) if isinstance(part, dict)]  # type: ignore[union-attr]
        merged: Schema = {}
        for part in [*parts, about]:
            if isinstance(reference := part.get("$ref"), str):
                merged |= self.schemas[reference.rpartition("/")[2]]
            merged |= part
        return {key: value for key, value in merged.items() if key not in ("allOf", "$ref")}


@dataclass(frozen=True)
class Model:
    """A model with its versions, the newest first."""

    owner: str
    name: str
    description: str
    visibility: str
    versions: tuple[Version, ...]

    @property
    def full_name(self) -> str:
        """Return owner/name."""
        return f"{self.owner}/{self.name}"

    @property
    def latest(self) -> Version:
        """Return the version that a request without one gets."""
        return self.versions[0]

    def version(self, version_id: str) -> Version | None:
        """Return the version with that id, if the model has it."""
        return next((version for version in self.versions if version.id == version_id), None)


@dataclass(frozen=True)
class Catalog:
    """All that is offered: models by owner/name, and deployments, which are other names for them."""

    models: dict[str, Model]
    deployments: dict[str, Model]

    def versions(self) -> Iterator[Version]:
        """Return every version of every model."""
        for model in self.models.values():
            yield from model.versions

    def resolve(self, reference: str) -> Version | None:
        """Return what a request means by 64 hex digits, by owner/name:digits or by owner/name; None for nothing."""
        name, colon, version_id = reference.rpartition(":")
        if colon:
            model = self.models.get(name)
            return model.version(version_id) if model else None
        if model := self.models.get(reference):
            return model.latest
        return next((version for version in self.versions() if version.id == reference), None)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Version(_Entry):
    id: VersionId
    created_at: AwareDatetime
    cog_version: str
    schema_: Path = Field(alias="schema")
    queue: Annotated[str, StringConstraints(min_length=1, max_length=120)] | None = None


class _Model(_Entry):
    owner: Name
    name: Name
    description: str = ""
    visibility: str = "private"
    versions: Annotated[list[_Version], Field(min_length=1)]


class _File(_Entry):
    models: Annotated[list[_Model], Field(min_length=1)]
    deployments: dict[FullName, FullName] = Field(default_factory=dict)


def load(path: Path, only: tuple[str, ...] = ()) -> Catalog:
    """Read the catalog's file and the schemas that it names, relative to it; of the models those in `only`, if any.

    Raises:
        CatalogError: the file, or a schema in it, can't be read or is not as it must be.
    """
    try:
        file = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CatalogError(f"the catalog {path} can't be used: {error}") from error
    models = [_model(entry, path.parent) for entry in file.models]
    ids = [version.id for model in models for version in model.versions]
    if twice := {version_id for version_id in ids if ids.count(version_id) > 1}:
        raise CatalogError(f"the catalog {path} has the version {min(twice)} twice")
    _check_queues(path, models)
    named = {model.full_name: model for model in models}
    if unknown := {*only, *file.deployments.values()} - named.keys():
        raise CatalogError(f"the catalog {path} has no model {min(unknown)}; it has {', '.join(named)}")
    offered = {name: model for name, model in named.items() if not only or name in only}
    deployments = {name: offered[model] for name, model in file.deployments.items() if model in offered}
    return Catalog(offered, deployments)


def _check_queues(path: Path, models: list[Model]) -> None:
    """Raise CatalogError for a queue of two versions: a Cog server would run the one for the other."""
    serves: dict[str, Version] = {}
    for version in (version for model in models for version in model.versions):
        other = serves.setdefault(version.queue, version)
        if other is not version:
            raise CatalogError(
                f"the catalog {path} has the queue {version.queue} for two versions, {other.id} and {version.id}: "
                'give one of them another by its "queue"'
            )


def _model(entry: _Model, folder: Path) -> Model:
    """Return a model with its schemas read, its versions sorted."""
    name = f"{entry.owner}/{entry.name}"
    versions = [_version(name, version, folder) for version in entry.versions]
    versions.sort(key=lambda version: version.created_at, reverse=True)
    return Model(entry.owner, entry.name, entry.description, entry.visibility, tuple(versions))


def _version(model: str, entry: _Version, folder: Path) -> Version:
    """Return a version with its schema read and checked."""
    path = folder / entry.schema_
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema["components"]["schemas"]["Input"])
    except (OSError, ValueError, KeyError, TypeError, jsonschema.SchemaError) as error:
        raise CatalogError(f"the schema {path} of {model} can't be used: {error!r}") from error
    return Version(model, entry.id, entry.created_at.astimezone(UTC), entry.cog_version, entry.queue or model, schema)


def _order(about: Schema) -> float:
    """Return the place of an input in its predictor; those without one come last."""
    order = about.get("x-order")
    return float(order) if isinstance(order, int) else float("inf")
