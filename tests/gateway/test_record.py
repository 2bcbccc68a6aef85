from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest

from gateway.prediction import Outcome, Status, resolve
from gateway.record import Record
from gateway.record.database import Connection, Database
from gateway.record.predictions import NotStoredError
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
