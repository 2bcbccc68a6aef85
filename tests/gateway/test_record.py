from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest

from gateway.prediction import Outcome, Status, resolve
from gateway.record import Record
from gateway.record.database import Connection, Database
from gateway.record.predictions import NotStoredError, QueueFullError
from tests.gateway.recording import QUEUE, begin, deliveries, new

pytestmark = pytest.mark.anyio


async def test_a_prediction_and_its_jobs_are_created_in_one_transaction(record: Record, owner: int) -> None:
    row = await record.predictions.create(new(owner, cancel_after_s=90))
    assert len(row.id) == 26
    assert row.id.isalnum()
    assert row.status is Status.STARTING
    assert row.deadline is not None
    assert row.deadline - row.created_at == timedelta(seconds=90)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await record.predictions.create(new(-1))
    jobs = list(await record.procrastinate.job_manager.list_jobs_async())
    assert [(job.queue, job.task_name) for job in jobs] == [(QUEUE, "attempt"), ("gateway", "expire")]
    assert jobs[1].scheduled_at == row.deadline


async def test_ending_a_prediction_deletes_the_job_of_its_deadline(record: Record, owner: int) -> None:
    row = await record.predictions.create(new(owner, cancel_after_s=90, webhook=None))
    await record.predictions.cancel(row.id)
    jobs = await record.procrastinate.job_manager.list_jobs_async()
    assert [(job.task_name, job.status) for job in jobs] == [("attempt", "cancelled")]


async def test_a_prediction_from_its_start_to_its_end(record: Record, owner: int, database_url: str) -> None:
    row = await record.predictions.create(new(owner))
    attempt = await begin(record, row)
    assert await record.attempts.log(attempt, "one\ntwo\n")
    assert await record.attempts.log(attempt, "one\n")  # arrives out of order
    file = await record.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
    outcome = Outcome(Status.SUCCEEDED, output={"audio": file.reference}, files=(file,), metrics={"predict_time": 1.5})
    ended = await record.attempts.end(attempt, outcome)
    assert ended is not None
    assert (ended.logs, ended.files, ended.attempts) == ("one\ntwo\n", (file,), 1)
    assert ended.metrics["predict_time"] == 1.5
    assert ended.started_at is not None
    assert ended.completed_at is not None
    assert row.created_at <= ended.started_at <= ended.completed_at
    assert resolve(ended.output, ended.files, lambda f: f"https://x/{f.name}") == {"audio": "https://x/output.wav"}
    owed = await record.deliveries.get(row.id)
    assert owed is not None
    assert b'"succeeded"' in owed.body
    assert deliveries(database_url, row.id) == ["start", "logs", "output", "completed"]
    (count,) = await record.statistics.ended()
    assert (count.status, count.count) == ("succeeded", 1)


async def test_cancel_ends_a_queued_prediction_and_notifies_the_worker_of_a_running_one(
    record: Record, owner: int, database_url: str
) -> None:
    queued = await record.predictions.create(new(owner))
    canceled = await record.predictions.cancel(queued.id, owner)
    assert canceled is not None
    assert (canceled.status, canceled.started_at) == (Status.CANCELED, None)
    assert await record.predictions.cancel(queued.id, owner) == canceled
    assert deliveries(database_url, queued.id) == ["completed"]
    running = await record.predictions.create(new(owner))
    attempt = await begin(record, running)
    with record.notices.watch(running.id) as watch:
        row = await record.predictions.cancel(running.id, owner)
        assert row is not None
        assert row.status is Status.PROCESSING
        assert row.cancel_requested_at is not None
        assert await watch.changed(120)
    assert await record.attempts.end(attempt, Outcome(Status.CANCELED))
    assert await record.predictions.cancel("none", owner) is None
    assert await record.predictions.cancel(running.id, owner + 1) is None


async def test_the_number_of_unfinished_predictions_is_limited(record: Record, owner: int) -> None:
    rows = [await record.predictions.create(new(owner), live_limit=2) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 unfinished"):
        await record.predictions.create(new(owner), live_limit=2)
    await record.predictions.cancel(rows[0].id)
    await record.predictions.create(new(owner), live_limit=2)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_create_that_loses_its_connection_during_the_commit_finds_out_whether_it_is_stored(
    record: Record, owner: int, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    unbroken = Database.transaction

    @asynccontextmanager
    async def breaking(database: Database) -> AsyncIterator[Connection]:
        async with unbroken(database) as connection:
            yield connection
            if not committed:
                raise psycopg.OperationalError("the connection is lost")
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(Database, "transaction", breaking)
    stored = []
    if committed:
        stored.append((await record.predictions.create(new(owner))).id)
    else:
        with pytest.raises(NotStoredError):
            await record.predictions.create(new(owner))
    assert [row.id for row in (await record.predictions.page(owner)).rows] == stored
