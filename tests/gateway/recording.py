"""Shortcuts for tests of the record, which do what clients and workers do."""

import psycopg
import pytest
from procrastinate.jobs import Job

from gateway.prediction import Attempt, NewPrediction, Outcome, Prediction, Status
from gateway.record import Record

QUEUE = "test/fake"
all_attempts_lost = pytest.mark.parametrize("record_options", [{"stalled_s": 0, "delivery_s": 3600}], ids=["lost"])


def empty_database(connection: "psycopg.Connection[tuple[str, ...]]") -> None:
    """Delete every row of our tables, without triggers or foreign keys."""
    tables = connection.execute(
        "select quote_ident(tablename) from pg_tables where schemaname = 'public' and tablename <> 'migrations'"
    ).fetchall()
    deletes = "; ".join(f"delete from {table}" for (table,) in tables)  # noqa: S608
    connection.execute(f"set session_replication_role = replica; {deletes}; reset session_replication_role")


async def create_owner(record: Record, name: str = "test") -> int:
    token, _ = await record.tokens.create(name)
    return token.id


def new(owner_id: int, **fields: object) -> NewPrediction:
    """Return a prediction to create, with a webhook for all events."""
    defaults: dict[str, object] = {
        "model": "test/fake",
        "version": "fa" * 32,
        "queue": QUEUE,
        "base_url": "http://127.0.0.1",
        "input": {"text": "hello"},
        "webhook": "https://example.com/hook",
        "webhook_events": ("start", "output", "logs", "completed"),
    }
    return NewPrediction(owner=owner_id, **(defaults | fields))  # type: ignore[arg-type]


async def reload(record: Record, row: Prediction) -> Prediction:
    found = await record.predictions.get(row.id)
    assert found is not None
    return found


async def fetch(record: Record, row: Prediction) -> Attempt:
    """Fetch the prediction's job, as a worker does."""
    manager = record.procrastinate.job_manager
    job = await manager.fetch_job([row.queue], await manager.register_worker())
    assert job is not None
    assert job.id == row.job_id
    return Attempt(row.id, row.job_id, "server", "boot", f"http://127.0.0.1/{row.job_id}")


async def begin(record: Record, row: Prediction) -> Attempt:
    attempt = await fetch(record, row)
    assert await record.attempts.begin(attempt)
    return attempt


async def fetch_delivery(record: Record) -> Job | None:
    """Fetch the next webhook's job, as a gateway does."""
    manager = record.procrastinate.job_manager
    return await manager.fetch_job(["webhooks"], await manager.register_worker())


async def fail_and_fetch_delivery(record: Record, row: Prediction) -> Job:
    """Fail the prediction, and fetch its first webhook as a gateway does that then dies."""
    assert await record.attempts.end(await begin(record, row), Outcome(Status.FAILED, error="no"))
    job = await fetch_delivery(record)
    assert job is not None
    return job


def deliveries(url: str, prediction_id: str) -> list[str]:
    """Return the events of a prediction whose deliveries are queued, in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select args->>'event' from procrastinate_jobs
               where task_name = 'webhook' and args->>'id' = %s order by id""",
            (prediction_id,),
        ).fetchall()
    return [event for (event,) in rows]
