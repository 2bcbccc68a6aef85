"""The only way to a terminal status."""

import json
from dataclasses import replace
from datetime import datetime

from psycopg.types.json import Json as AsJson

from gateway.record.columns import COLUMNS, file_entry, prediction_row
from gateway.record.database import Connection, Database
from gateway.record.engine import defer_webhook, forget_expiry
from gateway.record.rows import Body, JsonObject, Outcome, Prediction
from gateway.record.statuses import Status, may_follow


async def end(database: Database, connection: Connection, row: Prediction, outcome: Outcome, body: Body) -> Prediction:
    """End a prediction, in the connection's transaction: its status, its webhook's frozen body, their delivery.

    row: as it was read `for update` in this transaction; the caller has checked that it may write. Raises
    ValueError for a status that can't follow the row's.
    """
    if not (outcome.status.ended and may_follow(row.status, outcome.status)):
        raise ValueError(f"a prediction that is {row.status} can't end as {outcome.status}")
    ended = _ended(row, outcome, await _moment(connection, row))
    async with connection.cursor(row_factory=prediction_row) as cursor:
        await cursor.execute(
            f"""update predictions set status = %s, output = %s, files = %s, logs = %s, error = %s, metrics = %s,
                completed_at = %s, beat_at = null where id = %s returning {COLUMNS}""",
            (
                ended.status,
                None if ended.output is None else AsJson(ended.output, dumps=json.dumps),
                AsJson([file_entry(file) for file in ended.files]),
                ended.logs,
                ended.error,
                AsJson(ended.metrics, dumps=json.dumps),
                ended.completed_at,
                row.id,
            ),
        )
        stored = await cursor.fetchone()
    assert stored is not None  # noqa: S101 - the caller holds the row's lock
    if stored.deadline:
        await forget_expiry(connection, stored.id)
    await _tell(database, connection, stored, body)
    await _count(connection, stored)
    return stored


async def _tell(database: Database, connection: Connection, row: Prediction, body: Body) -> None:
    """Freeze the webhook's body, queue the deliveries, and wake whoever waits."""
    if row.webhook is not None and row.output is not None and "output" in row.webhook_events:
        running = replace(row, status=Status.PROCESSING, completed_at=None)  # `completed` brings the end
        await defer_webhook(database.engine, connection, row, "output", body(running))
    if row.webhook is not None and "completed" in row.webhook_events:
        await connection.execute("insert into deliveries (id, body) values (%s, %s)", (row.id, body(row)))
        await defer_webhook(database.engine, connection, row, "completed")
    await connection.execute("select pg_notify('prediction', %s)", (row.id,))


def _ended(row: Prediction, outcome: Outcome, moment: datetime) -> Prediction:
    metrics: JsonObject = dict(outcome.metrics if outcome.metrics is not None else row.metrics)
    metrics["total_time"] = round((moment - row.created_at).total_seconds(), 6)
    if row.started_at and "predict_time" not in metrics:
        metrics["predict_time"] = round((moment - row.started_at).total_seconds(), 6)
    return replace(
        row,
        status=outcome.status,
        output=outcome.output,
        files=outcome.files,
        # Never less than clients have seen: an end without its run's logs (a server that was shut down) has none.
        logs=max(row.logs, outcome.logs or "", key=len),
        error=outcome.error,
        metrics=metrics,
        completed_at=moment,
    )


async def _moment(connection: Connection, row: Prediction) -> datetime:
    """Return the database's time, but never one before the row's start: its clock may have been set back."""
    found = await connection.execute(
        "select greatest(clock_timestamp(), %s::timestamptz, %s::timestamptz)", (row.created_at, row.started_at)
    )
    fetched = await found.fetchone()
    assert fetched is not None  # noqa: S101 - a select without from has one row
    moment: datetime = fetched[0]
    return moment


async def _count(connection: Connection, row: Prediction) -> None:
    assert row.completed_at is not None  # noqa: S101 - it has just been set
    started_at = row.started_at or row.completed_at
    await connection.execute(
        """insert into ends as e (model, version, status, count, queue_s, run_s) values (%s, %s, %s, 1, %s, %s)
           on conflict (model, version, status) do update set
           count = e.count + 1, queue_s = e.queue_s + excluded.queue_s, run_s = e.run_s + excluded.run_s""",
        (
            row.model,
            row.version,
            row.status,
            (started_at - row.created_at).total_seconds(),
            (row.completed_at - started_at).total_seconds(),
        ),
    )
