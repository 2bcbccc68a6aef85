"""The catalog's files: one that the operator writes, and a folder with a file for each model that was added.

docs/gateway.md describes both.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Annotated, Self, TypeVar

import jsonschema
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from gateway.catalog import Catalog, Example, Model, Schema, Version
from gateway.settings import Settings

logger = logging.getLogger(__name__)

REFRESH_S = 1.0
Content = TypeVar("Content", bound=BaseModel)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$")]
FullName = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]
PageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")]
VersionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class CatalogError(ValueError):
    """A file of the catalog is invalid; str() says why."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class VersionEntry(_Entry):
    """A version, as a file has it."""

    id: VersionId
    created_at: AwareDatetime
    cog_version: str
    schema_: Path | dict[str, JsonValue] = Field(alias="schema")  # a path relative to the file, or the schema itself
    queue: Annotated[str, StringConstraints(min_length=1, max_length=120)] | None = None  # default: the model's name
    slots: Annotated[int, Field(ge=1, le=1000)] = 1
    url: str | None = None
    callback_host: str = "127.0.0.1"


class ExampleEntry(_Entry):
    """An example prediction, as a file has it."""

    input: dict[str, JsonValue]
    output: JsonValue = None


class ModelEntry(_Entry):
    """A model, as a file has it."""

    owner: Name
    name: Name
    description: str = ""
    visibility: str = "private"
    page: PageName | None = None  # the folder below web/models with the page's own views of this model
    is_official: bool = False
    readme: Path | None = None  # relative to the file
    examples: list[ExampleEntry] = []
    versions: list[VersionEntry] = []

    def model(self, folder: Path) -> Model:
        """Return the model. Its versions are sorted, newest first.

        Raises:
            CatalogError: Its schema, README or an example is missing or invalid.
        """
        full_name = f"{self.owner}/{self.name}"
        if not self.versions:
            raise CatalogError(f"the model {full_name} has no versions")
        versions = [_version(full_name, version, folder) for version in self.versions]
        versions.sort(key=lambda version: version.created_at, reverse=True)
        examples = tuple(Example(example.input, example.output) for example in self.examples)
        for example in examples:
            _check_example(versions[0], example)
        return Model(
            self.owner,
            self.name,
            self.description,
            self.visibility,
            tuple(versions),
            self.page,
            self.is_official,
            _readme(full_name, folder / self.readme) if self.readme else None,
            examples,
        )


class _File(_Entry):
    models: list[ModelEntry] = []
    deployments: dict[FullName, FullName] = {}


@dataclass(frozen=True)
class AddedModels:
    """The folder of the models that were added: OWNER/NAME.json each. It may not exist yet."""

    folder: Path

    def paths(self) -> list[Path]:
        """Return the files of all models."""
        return sorted(self.folder.glob("*/*.json"))

    def get(self, full_name: str) -> ModelEntry | None:
        """Return the entry of a model, or None. Raises CatalogError if it is invalid."""
        path = self._path(full_name)
        return _read(path, ModelEntry) if path.is_file() else None

    def put(self, entry: ModelEntry) -> Path:
        """Add a model, or replace the one of this name, and return its file. It is written whole or not at all.

        Raises:
            CatalogError: The folder can't be written to.
        """
        path = self._path(f"{entry.owner}/{entry.name}")
        content = entry.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise CatalogError(f"can't write {path}: {error.strerror}") from error
        return path

    def remove(self, full_name: str) -> bool:
        """Delete a model's file. Return False if there is none."""
        path = self._path(full_name)
        existed = path.is_file()
        path.unlink(missing_ok=True)
        return existed

    def _path(self, full_name: str) -> Path:
        return self.folder / f"{full_name}.json"


@dataclass(frozen=True)
class CatalogFiles:
    """Where the catalog is."""

    path: Path | None  # the file with models and deployments
    added: AddedModels = AddedModels(Path("/nonexistent"))
    only: tuple[str, ...] = ()  # the models of the file to offer; all if empty

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the files that the settings name."""
        return cls(settings.catalog, AddedModels(settings.models_folder), settings.models)

    def load(self, adding: ModelEntry | None = None) -> Catalog:
        """Read the files. `adding` is a model to treat as if it had been added.

        Raises:
            CatalogError: A file can't be read or is invalid.
        """
        file = _read(self.path, _File) if self.path else _File()
        folder = self.path.parent if self.path else Path()
        known = _by_name([entry.model(folder) for entry in file.models])
        if unknown := set(self.only) - known.keys():
            raise CatalogError(f"the catalog {self.path} has no model {min(unknown)}; it has {', '.join(known)}")
        added = _by_name([_read(path, ModelEntry).model(path.parent) for path in self.added.paths()])
        if adding:
            model = adding.model(self.added.folder)
            added[model.full_name] = model
        if twice := known.keys() & added.keys():
            raise CatalogError(f"the model {min(twice)} was added, but is in {self.path} too")
        if unknown := set(file.deployments.values()) - known.keys() - added.keys():
            raise CatalogError(f"the deployments of {self.path} name the unknown model {min(unknown)}")
        offered = {name: model for name, model in known.items() if not self.only or name in self.only} | added
        _check_unique([version for model in offered.values() for version in model.versions])
        return Catalog(offered, {name: offered[model] for name, model in file.deployments.items() if model in offered})

    def signature(self) -> tuple[tuple[Path, int, int], ...]:
        """Return a value that changes when a file does."""
        found = []
        for path in [*([self.path] if self.path else []), *self.added.paths()]:
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = path.stat()
                found.append((path, status.st_mtime_ns, status.st_size))
        return tuple(found)


class LiveCatalog:
    """The catalog as its files are now."""

    def __init__(self, files: CatalogFiles) -> None:
        """Read the files, or raise CatalogError."""
        self._files = files
        self._signature = files.signature()
        self.current = files.load()

    def refresh(self) -> bool:
        """Read the files again if one has changed, and return whether the catalog is another one now.

        An invalid file changes nothing. It is logged, once.
        """
        signature = self._files.signature()
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            self.current = self._files.load()
        except CatalogError as error:
            logger.error("the changed catalog is invalid; the earlier one stays", extra={"error": str(error)})
            return False
        logger.info("read the changed catalog", extra={"models": ", ".join(self.current.models)})
        return True

    async def refresh_forever(self) -> None:
        """Refresh every second."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await asyncio.to_thread(self.refresh)


def _read(path: Path, content: type[Content]) -> Content:
    try:
        return content.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CatalogError(f"the catalog {path} can't be used: {error}") from error


def _by_name(models: Sequence[Model]) -> dict[str, Model]:
    """Return models by their names. Raise CatalogError if two have the same."""
    named = {model.full_name: model for model in models}
    if len(named) < len(models):
        names = [model.full_name for model in models]
        raise CatalogError(f"the catalog has the model {next(n for n in names if names.count(n) > 1)} twice")
    return named


def _version(model: str, entry: VersionEntry, folder: Path) -> Version:
    """Return a version with its schema, checked."""
    schema = _schema(model, folder / entry.schema_) if isinstance(entry.schema_, Path) else entry.schema_
    version = Version(
        model=model,
        id=entry.id,
        created_at=entry.created_at.astimezone(UTC),
        cog_version=entry.cog_version,
        queue=entry.queue or model,
        openapi_schema=schema,
        slots=entry.slots,
        url=entry.url,
        callback_host=entry.callback_host,
    )
    try:
        jsonschema.Draft202012Validator.check_schema(version.schemas["Input"])
    except (KeyError, TypeError, jsonschema.SchemaError) as error:
        raise CatalogError(f"the schema of {model} can't be used: {error!r}") from error
    return version


def _schema(model: str, path: Path) -> Schema:
    try:
        schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError(f"the schema {path} of {model} can't be used: {error}") from error
    return schema


def _readme(model: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CatalogError(f"the README {path} of {model} can't be used: {error}") from error


def _check_example(version: Version, example: Example) -> None:
    """Raise CatalogError if a client that sends the example's input would get an error."""
    unknown, missing = example.input.keys() - version.inputs.keys(), version.required - example.input.keys()
    errors = [f"{name} is unknown" for name in unknown] + [f"{name} is required" for name in missing]
    errors += [
        f"{name}: {error.message}"
        for name in example.input.keys() - unknown
        for error in version.validators[name].iter_errors(example.input[name])
    ]
    if errors:
        raise CatalogError(f"an example of {version.model} is invalid: {'; '.join(sorted(errors))}")


def _check_unique(versions: Sequence[Version]) -> None:
    """Raise CatalogError if two versions share an id, or a queue: a Cog server would run one in place of the other."""
    ids: set[str] = set()
    serves: dict[str, Version] = {}
    for version in versions:
        if version.id in ids:
            raise CatalogError(f"the catalog has the version {version.id} twice")
        ids.add(version.id)
        other = serves.setdefault(version.queue, version)
        if other is not version:
            raise CatalogError(
                f"the catalog has the queue {version.queue} for two versions, {other.id} and {version.id}: "
                'give one of them another "queue"'
            )
