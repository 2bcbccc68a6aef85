"""How a row of the table becomes a Prediction."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import TypedDict, Unpack, cast

from psycopg import AsyncCursor
from psycopg.rows import RowMaker, kwargs_row

from gateway.record.rows import File, Json, JsonObject, Prediction
from gateway.record.statuses import Status

# Named one by one: beside a newer version of this program the table may have columns that this one doesn't know.
COLUMNS = ", ".join(field.name for field in fields(Prediction))


class _Columns(TypedDict):
    """The columns as psycopg hands them over."""

    id: str
    owner: int
    model: str
    version: str
    queue: str
    base_url: str
    input: JsonObject
    status: str
    output: Json
    files: list[JsonObject]
    logs: str
    error: str | None
    metrics: JsonObject
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    deadline: datetime | None
    cancel_requested_at: datetime | None
    data_removed: bool
    webhook: str | None
    webhook_events: list[str]
    job_id: int
    attempts: int
    server: str | None
    boot: str | None
    callback: str | None


def _prediction(**columns: Unpack[_Columns]) -> Prediction:
    return Prediction(
        **{  # type: ignore[arg-type] # the four below are replaced by what Prediction declares
            **columns,
            "status": Status(columns["status"]),
            "files": tuple(file_from(entry) for entry in columns["files"]),
            "webhook_events": tuple(columns["webhook_events"]),
        }
    )


def prediction_row(cursor: AsyncCursor[Prediction]) -> RowMaker[Prediction]:
    """Make predictions of the rows of a query for COLUMNS."""
    return kwargs_row(_prediction)(cursor)


def file_from(entry: JsonObject) -> File:
    """Read a file's entry of the column `files`."""
    return File(**cast(dict[str, str], entry))  # type: ignore[arg-type] # size is an int; written by file_entry


def file_entry(file: File) -> JsonObject:
    """Make a file's entry of the column `files`."""
    return asdict(file)
