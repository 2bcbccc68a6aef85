"""The record as tests use it, on a database of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
from procrastinate.jobs import Job

from gateway.prediction import Attempt, NewPrediction, Outcome, Prediction, Status
from gateway.record import Record, open_record

QUEUE = "test/fake"


async def owner(it: Record, name: str = "test") -> int:
    """Create a token and return its id."""
    token, _ = await it.tokens.create(name)
    return token.id


def new(owner_id: int, **given: object) -> NewPrediction:
    """Return a prediction to create, with a webhook for all events."""
    fields: dict[str, object] = {
        "model": "test/fake",
        "version": "fa" * 32,
        "queue": QUEUE,
        "base_url": "http://127.0.0.1",
        "input": {"text": "hello"},
        "webhook": "https://example.com/hook",
        "webhook_events": ("start", "output", "logs", "completed"),
    }
    return NewPrediction(owner=owner_id, **(fields | given))  # type: ignore[arg-type]


def deliveries(url: str, prediction_id: str) -> list[str]:
    """Return the events of a prediction whose deliveries were queued, in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select args->>'event' from procrastinate_jobs
               where task_name = 'webhook' and args->>'id' = %s order by id""",
            (prediction_id,),
        ).fetchall()
    return [event for (event,) in rows]


def with_record(
    url: str,
    folder: Path,
    test: Callable[[Record], Awaitable[None]],
    stalled_s: float = 3600,
    delivery_s: float = 3600,
) -> None:
    """Run a test with the record open. At `stalled_s` 0 every attempt counts as lost, at `delivery_s` 0 every job."""

    async def run() -> None:
        opened = open_record(url, folder.as_uri(), stalled_s=stalled_s, delivery_s=delivery_s)
        async with asyncio.timeout(60), opened as it:
            await test(it)

    asyncio.run(run())


async def fetched(it: Record, row: Prediction) -> Attempt:
    """Fetch the row's job, as a worker does."""
    worker = await it.procrastinate.job_manager.register_worker()
    job = await it.procrastinate.job_manager.fetch_job([row.queue], worker)
    assert job is not None
    assert job.id == row.job_id
    return Attempt(row.id, row.job_id, "server", "boot", f"http://127.0.0.1/{row.job_id}")


async def delivered(it: Record, row: Prediction) -> Job:
    """Start and fail the row, and fetch the delivery of that, as a gateway does that then dies."""
    attempt = await fetched(it, row)
    assert await it.attempts.begin(attempt)
    assert await it.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
    manager = it.procrastinate.job_manager
    job = await manager.fetch_job(["webhooks"], await manager.register_worker())
    assert job is not None
    return job
