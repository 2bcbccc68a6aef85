"""A prediction and what belongs to it, as frozen data: statuses, files, attempts, outcomes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]

FILE_PREFIX = "file:"
REDACTED = "**********"  # shown in place of a secret input, as Replicate does


class Status(StrEnum):
    """The status of a prediction, in the API's own words."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """Whether this status is terminal."""
        return not _NEXT[self]


# A prediction whose attempt was lost stays `processing` until its next attempt: a client that has seen it run
# treats a step back to `starting` as an error.
_NEXT: dict[Status, frozenset[Status]] = {
    Status.STARTING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELED}),
    Status.PROCESSING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}
LIVE = tuple(status for status in Status if not status.ended)
ENDED = tuple(status for status in Status if status.ended)


def may_follow(status: Status, following: Status) -> bool:
    """Return whether a prediction may go from `status` to `following`."""
    return following in _NEXT[status]


@dataclass(frozen=True)
class File:
    """A stored file."""

    key: str  # {prediction id}/{random}/{name} of an output, uploads/{id}/{name} of an input
    name: str  # the name that a browser saves it under, such as audio.wav
    media_type: str
    size: int  # bytes

    @property
    def reference(self) -> str:
        """The string that stands for this file in a stored input or output."""
        return FILE_PREFIX + self.key


@dataclass(frozen=True)
class InputFile:
    """A file that an input names. The worker hands its contents to the Cog server."""

    at: tuple[str | int, ...]  # the input's name, then the steps into lists and objects
    file: File | None  # in the store; None if the input is a URL that the worker fetches

    @property
    def field(self) -> str:
        """The input's name in messages, such as input.images.0."""
        return ".".join(["input", *map(str, self.at)])


@dataclass(frozen=True)
class NewPrediction:
    """A verified request to create a prediction."""

    owner: int  # the token's id
    model: str  # owner/name
    version: str
    queue: str
    base_url: str  # the gateway's address as this client sees it, without a trailing slash
    input: JsonObject  # without its secrets
    cancel_after_s: float | None = None
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    deployment: str | None = None  # owner/name of the deployment that it was created with
    input_files: tuple[InputFile, ...] = ()
    uploads: tuple[str, ...] = ()  # the ids of the files that its inputs contained; they live as long as it does
    secret_inputs: bytes | None = field(default=None, repr=False)  # encrypted
    logs: str = ""  # its first lines


@dataclass(frozen=True)
class Prediction:
    """A row of the table `predictions`."""

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
    created_at: datetime  # all times come from the database's clock and are aware, in UTC
    started_at: datetime | None
    completed_at: datetime | None
    deadline: datetime | None
    cancel_requested_at: datetime | None
    data_removed: bool
    webhook: str | None
    webhook_events: tuple[str, ...]
    job_id: int  # the fence: only the attempt of this job may write
    attempts: int  # started so far
    server: str | None
    boot: str | None
    callback: str | None
    draining: bool = False  # its worker is shutting down: if the attempt is lost now, it doesn't count
    deployment: str | None = None
    input_files: tuple[InputFile, ...] = ()

    def file(self, key: str) -> File | None:
        """Return the file with that key, if the prediction has it."""
        return next((file for file in self.files if file.key == key), None)

    @property
    def attempt(self) -> "Attempt":
        """The attempt that is running, as the row records it."""
        return Attempt(self.id, self.job_id, self.server or "", self.boot or "", self.callback or "")


@dataclass(frozen=True)
class Position:
    """A place in a list: the created_at and id of the row next to it."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class Page:
    """A page of a list, newest first."""

    rows: tuple[Prediction, ...]
    newer: Position | None  # start of the previous page; None on the first
    older: Position | None  # start of the next page; None on the last


@dataclass(frozen=True)
class Token:
    """A row of the table `tokens`, which holds only the token's hash."""

    id: int
    name: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Attempt:
    """One run of a prediction on a Cog server."""

    id: str  # the prediction's
    job_id: int
    server: str  # the name of the Cog server
    boot: str  # identifies this start of the server
    callback: str  # where the server sends its webhooks

    @property
    def cog_id(self) -> str:
        """The id that the Cog server gets: a new one for each attempt, because coglet runs a finished id again."""
        return f"{self.id}-{self.job_id}"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    status: Status
    output: Json = None
    files: tuple[File, ...] = ()
    logs: str | None = None  # None keeps the stored logs
    error: str | None = None
    metrics: JsonObject | None = None


def resolve(output: Json, files: tuple[File, ...], url_of: Callable[[File], str]) -> Json:
    """Return the output with each reference to one of `files` replaced by its URL.

    A string that only looks like a reference stays as it is: keys are random, so a model can't have guessed one.
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
