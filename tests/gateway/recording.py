"""The record as tests use it: opened on a database of the test's own, with the webhook's body kept simple."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from procrastinate.jobs import Job

from gateway import record
from gateway.record import Attempt, NewPrediction, Outcome, Prediction, Record, Status

QUEUE = "test/fake"


def body(row: Prediction) -> bytes:
    """Serialise what tests look at; one model's predictions can't be."""
    if row.model == "test/unspeakable" and row.status.ended:
        raise ValueError("no words")
    return json.dumps({"id": row.id, "status": row.status, "output": row.output, "logs": row.logs}).encode()


@asynccontextmanager
async def opened(url: str, files: Path, stalled_s: float = 3600) -> AsyncIterator[Record]:
    """Open the record. Attempts are never lost by waiting, unless stalled_s says so; at 0 each one is."""
    async with record.opened(url, files.as_uri(), lambda *_: body, stalled_s=stalled_s) as it:
        yield it


async def owner(it: Record, name: str = "test") -> int:
    """Make a token and return its id."""
    token, _ = await it.tokens.create(name)
    return token.id


def new(owner_id: int, **given: object) -> NewPrediction:
    """Return a prediction to create, with a webhook that wants all events."""
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
    """Return the events whose delivery was queued for a prediction, in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select args->>'event' from procrastinate_jobs
               where task_name = 'webhook' and args->>'id' = %s order by id""",
            (prediction_id,),
        ).fetchall()
    return [event for (event,) in rows]


def with_record(url: str, folder: Path, test: Callable[[Record], Awaitable[None]], stalled_s: float = 3600) -> None:
    """Run a test with the record open."""

    async def run() -> None:
        async with asyncio.timeout(60), opened(url, folder, stalled_s) as it:
            await test(it)

    asyncio.run(run())


async def fetched(it: Record, row: Prediction) -> Attempt:
    """Fetch the row's job as a worker does."""
    worker = await it.engine.job_manager.register_worker()
    job = await it.engine.job_manager.fetch_job([row.queue], worker)
    assert job is not None
    assert job.id == row.job_id
    return Attempt(row.id, row.job_id, "server", "boot", f"http://127.0.0.1/{row.job_id}")


async def delivered(it: Record, row: Prediction) -> Job:
    """Begin and fail the row, and fetch the delivery of that as a gateway does, which then says nothing more."""
    attempt = await fetched(it, row)
    assert await it.attempts.begin(attempt)
    assert await it.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
    manager = it.engine.job_manager
    job = await manager.fetch_job(["webhooks"], await manager.register_worker())
    assert job is not None
    return job
