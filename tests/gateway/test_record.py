from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status, resolve
from gateway.record import Record
from gateway.record.database import Connection, Database
from gateway.record.predictions import NotStoredError, QueueFullError
from tests.gateway.recording import QUEUE, deliveries, fetched, new, owner, with_record


def test_a_prediction_and_its_job_are_created_together_or_not_at_all(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), cancel_after_s=90))
        assert len(row.id) == 26
        assert row.id.isalnum()
        assert row.status is Status.STARTING
        assert row.deadline is not None
        assert row.deadline - row.created_at == timedelta(seconds=90)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await it.predictions.create(new(-1))
        jobs = list(await it.procrastinate.job_manager.list_jobs_async())
        assert [(job.queue, job.task_name) for job in jobs] == [(QUEUE, "attempt"), ("gateway", "expire")]
        assert jobs[1].scheduled_at == row.deadline

    with_record(database_url, tmp_path, test)


def test_the_end_deletes_the_deadlines_job(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), cancel_after_s=90, webhook=None))
        await it.predictions.cancel(row.id)
        jobs = await it.procrastinate.job_manager.list_jobs_async()
        assert [(job.task_name, job.status) for job in jobs] == [("attempt", "cancelled")]

    with_record(database_url, tmp_path, test)


def test_a_run_from_start_to_end(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        begun = await it.attempts.begin(attempt)
        assert begun is not None
        assert (begun.status, begun.attempts) == (Status.PROCESSING, 1)
        assert await it.attempts.log(attempt, "one\ntwo\n")
        assert await it.attempts.log(attempt, "one\n")  # arrives out of order
        file = await it.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
        ended = await it.attempts.end(
            attempt,
            Outcome(Status.SUCCEEDED, output={"audio": file.reference}, files=(file,), metrics={"predict_time": 1.5}),
        )
        assert ended is not None
        assert ended.logs == "one\ntwo\n"
        assert ended.files == (file,)
        assert ended.metrics["predict_time"] == 1.5
        assert ended.started_at is not None
        assert ended.completed_at is not None
        assert row.created_at <= ended.started_at <= ended.completed_at
        assert resolve(ended.output, ended.files, lambda f: f"https://x/{f.name}") == {"audio": "https://x/output.wav"}
        owed = await it.deliveries.get(row.id)
        assert owed is not None
        assert b'"succeeded"' in owed.body
        assert deliveries(database_url, row.id) == ["start", "logs", "output", "completed"]
        (ended_count,) = await it.statistics.ended()
        assert (ended_count.status, ended_count.count) == ("succeeded", 1)

    with_record(database_url, tmp_path, test)


def test_cancel_of_queued_running_and_ended_predictions(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        me = await owner(it)
        queued = await it.predictions.create(new(me))
        canceled = await it.predictions.cancel(queued.id, me)
        assert canceled is not None
        assert canceled.status is Status.CANCELED
        assert canceled.started_at is None
        assert await it.predictions.cancel(queued.id, me) == canceled
        assert deliveries(database_url, queued.id) == ["completed"]
        running = await it.predictions.create(new(me))
        attempt = await fetched(it, running)
        assert await it.attempts.begin(attempt)
        with it.notices.watch(running.id) as watch:
            asked = await it.predictions.cancel(running.id, me)
            assert asked is not None
            assert asked.status is Status.PROCESSING
            assert asked.cancel_requested_at is not None
            assert await watch.changed(30)
        assert await it.attempts.end(attempt, Outcome(Status.CANCELED))
        assert await it.predictions.cancel("none", me) is None
        assert await it.predictions.cancel(running.id, me + 1) is None

    with_record(database_url, tmp_path, test)


def test_pages_are_complete_while_predictions_are_created(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        me, other = await owner(it), await owner(it, "other")
        made = [(await it.predictions.create(new(me))).id for _ in range(25)]
        page = await it.predictions.page(me, limit=10)
        assert page.newer is None
        seen = [row.id for row in page.rows]
        while page.older:
            await it.predictions.create(new(me))
            await it.predictions.create(new(other))
            page = await it.predictions.page(me, older_than=page.older, limit=10)
            seen += [row.id for row in page.rows]
        assert seen == made[::-1]
        back = await it.predictions.page(me, newer_than=page.newer, limit=10)
        assert [row.id for row in back.rows] == seen[10:20]
        middle = page.rows[0].created_at
        newer = await it.predictions.page(me, created_after=middle)
        older = await it.predictions.page(me, created_before=middle)
        assert newer.rows[-1].created_at == middle
        assert all(row.created_at < middle for row in older.rows)
        assert len(newer.rows) + len(older.rows) == 25 + 2

    with_record(database_url, tmp_path, test)


def test_an_owner_has_a_limited_number_of_live_predictions(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        me = await owner(it)
        rows = [await it.predictions.create(new(me), live_limit=2) for _ in range(2)]
        with pytest.raises(QueueFullError, match="2 unfinished"):
            await it.predictions.create(new(me), live_limit=2)
        await it.predictions.cancel(rows[0].id)
        await it.predictions.create(new(me), live_limit=2)

    with_record(database_url, tmp_path, test)


def test_a_create_whose_commit_gets_no_answer_is_checked(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the COMMIT, and before it."""

    async def test(it: Record) -> None:
        me = await owner(it)
        unbroken = Database.transaction

        def breaking(committed: bool) -> Callable[[Database], AbstractAsyncContextManager[Connection]]:
            @asynccontextmanager
            async def transaction(database: Database) -> AsyncIterator[Connection]:
                async with unbroken(database) as connection:
                    yield connection
                    if not committed:
                        raise psycopg.OperationalError("the connection is lost")
                raise psycopg.OperationalError("the connection is lost")

            return transaction

        monkeypatch.setattr(Database, "transaction", breaking(committed=True))
        stored = await it.predictions.create(new(me))
        monkeypatch.setattr(Database, "transaction", breaking(committed=False))
        with pytest.raises(NotStoredError):
            await it.predictions.create(new(me))
        assert [row.id for row in (await it.predictions.page(me)).rows] == [stored.id]

    with_record(database_url, tmp_path, test)
