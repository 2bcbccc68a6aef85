"""What the record holds, as frozen data."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gateway.record.statuses import Status

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]

FILE_PREFIX = "file:"


@dataclass(frozen=True)
class File:
    """A stored output file."""

    key: str  # {prediction id}/{unguessable}/{name}
    name: str  # shown to the user: audio.wav
    media_type: str
    size: int  # bytes

    @property
    def reference(self) -> str:
        """Return the string that stands for this file in an output."""
        return FILE_PREFIX + self.key


@dataclass(frozen=True)
class NewPrediction:
    """What a client asks for, verified."""

    owner: int  # id of the token
    model: str  # owner/name
    version: str
    queue: str
    base_url: str  # by which the client reached the gateway, without a slash at the end
    input: JsonObject
    cancel_after_s: float | None = None
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A row of the table, without the webhook's body."""

    id: str
    owner: int
    model: str
    version: str
    queue: str
    base_url: str
    input: JsonObject
    status: Status
    output: Json
    files: tuple[File, ...]
    logs: str
    error: str | None
    metrics: JsonObject
    created_at: datetime  # all times are the database's and aware, in UTC
    started_at: datetime | None
    completed_at: datetime | None
    deadline: datetime | None
    cancel_requested_at: datetime | None
    data_removed: bool
    webhook: str | None
    webhook_events: tuple[str, ...]
    job_id: int  # the fence: the job of the attempt that may write
    attempts: int  # begun
    server: str | None
    boot: str | None
    callback: str | None


Body: TypeAlias = Callable[[Prediction], bytes]  # serialises a prediction as GET answers it


@dataclass(frozen=True)
class Position:
    """A place between two rows of a list: created_at and id of the row beside it."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class Page:
    """A page of a list, newest first."""

    rows: tuple[Prediction, ...]
    newer: Position | None  # where the page before begins; None on the first
    older: Position | None  # where the page after begins; None on the last


@dataclass(frozen=True)
class Token:
    """A token's row. The token itself is not known."""

    id: int
    name: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Attempt:
    """One run of a prediction on a Cog server."""

    id: str  # the prediction's
    job_id: int
    server: str  # name of the worker's Cog server
    boot: str  # the server's boot id
    callback: str  # URL for the server's webhooks

    @property
    def cog_id(self) -> str:
        """Return the id that the Cog server knows it by: fresh for each attempt, since coglet runs an id again."""
        return f"{self.id}-{self.job_id}"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    status: Status
    output: Json = None
    files: tuple[File, ...] = ()
    logs: str | None = None  # None keeps what is there
    error: str | None = None
    metrics: JsonObject | None = None


def resolve(output: Json, files: tuple[File, ...], url_of: Callable[[File], str]) -> Json:
    """Return the output with each reference to one of `files` replaced by its URL.

    A string that only looks like a reference stays: keys are unguessable, so a model can't have made one.
    """
    by_reference = {file.reference: file for file in files}

    def walk(value: Json) -> Json:
        if isinstance(value, str):
            return url_of(by_reference[value]) if value in by_reference else value
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return value

    return walk(output)
