"""The end of a prediction: the only write of a terminal status, with the webhook that it owes."""

import json
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg.types.json import Json as AsJson

from gateway.links import Links
from gateway.prediction import JsonObject, Outcome, Prediction, Status, may_follow
from gateway.record.database import COLUMNS, Connection, Database, file_entry, prediction_row
from gateway.record.jobs import defer_webhook, delete_expiry, wants


async def end(
    database: Database, connection: Connection, row: Prediction, outcome: Outcome, links: Links
) -> Prediction:
    """End a prediction in the connection's transaction, freeze its webhook's body and queue the delivery.

    Args:
        database: Whose queues the deliveries go to.
        connection: A connection with an open transaction.
        row: The prediction, read `for update` in this transaction. The caller has checked that it may write.
        outcome: How it ends.
        links: Serializes the webhook's body.

    Raises:
        ValueError: The outcome's status can't follow the row's.
    """
    if not (outcome.status.ended and may_follow(row.status, outcome.status)):
        raise ValueError(f"a prediction that is {row.status} can't end as {outcome.status}")
    if outcome.output is None and outcome.status is not Status.SUCCEEDED:
        outcome = await _with_output_so_far(connection, row, outcome)
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
    await connection.execute("delete from chunks where id = %s", (stored.id,))  # the output has them all
    await connection.execute("delete from secret_inputs where id = %s", (stored.id,))
    if stored.deadline:
        await delete_expiry(connection, stored.id)
    await _notify(database, connection, stored, links)
    await _count(connection, stored)
    return stored


async def _with_output_so_far(connection: Connection, row: Prediction, outcome: Outcome) -> Outcome:
    """Keep what an iterator has produced, if whoever ends its prediction doesn't know it: the sweep, or a cancel."""
    found = await connection.execute("select value from chunks where id = %s order by number", (row.id,))
    values = [value for (value,) in await found.fetchall()]
    return replace(outcome, output=values, files=row.files) if values else outcome


async def _notify(database: Database, connection: Connection, row: Prediction, links: Links) -> None:
    """Freeze the webhooks' bodies, queue their deliveries, and wake the requests that wait."""
    if wants(row, "output") and row.output is not None:
        running = replace(row, status=Status.PROCESSING, completed_at=None)  # the end comes with `completed`
        await defer_webhook(database.procrastinate, connection, row, "output", links.body(running))
    if wants(row, "completed"):
        await connection.execute("insert into deliveries (id, body) values (%s, %s)", (row.id, links.body(row)))
        await defer_webhook(database.procrastinate, connection, row, "completed")
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
        # Never less than clients have seen: a server that was shut down sends no logs with the end.
        logs=max(row.logs, outcome.logs or "", key=len),
        error=outcome.error,
        metrics=metrics,
        completed_at=moment,
    )


async def _moment(connection: Connection, row: Prediction) -> datetime:
    """Return the database's time, but not before the row's start: the clock may have been set back."""
    found = await connection.execute(
        "select greatest(clock_timestamp(), %s::timestamptz, %s::timestamptz)", (row.created_at, row.started_at)
    )
    fetched = await found.fetchone()
    assert fetched is not None  # noqa: S101 - a select without `from` has one row
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


@dataclass(frozen=True)
class Delivery:
    """A webhook to deliver."""

    id: str  # the prediction's
    owner: int
    url: str
    body: bytes  # the same at each try
    failures: int = 0  # the tries so far


class Deliveries:
    """Read and settle the `completed` webhooks that are owed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, prediction_id: str) -> Delivery | None:
        """Return the delivery that is owed for a prediction, or None."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select p.id, p.owner, p.webhook, d.body, d.tries from deliveries d join predictions p using (id)
                   where d.id = %s and d.done_at is null""",
                (prediction_id,),
            )
            row = await found.fetchone()
        return Delivery(row[0], row[1], row[2], bytes(row[3]), row[4]) if row else None

    async def count_failures(self, prediction_id: str, count: int) -> None:
        """Store how many tries have failed."""
        async with self._database.transaction() as connection:
            await connection.execute("update deliveries set tries = %s where id = %s", (count, prediction_id))

    async def settle(self, prediction_id: str, *, delivered: bool) -> None:
        """Mark a delivery as done, because it was delivered or the last try failed."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "update deliveries set done_at = now(), delivered = %s where id = %s and done_at is null",
                (delivered, prediction_id),
            )
