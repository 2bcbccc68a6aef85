import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from gateway import record
from gateway.record import Attempt, NotStoredError, Outcome, Prediction, QueueFullError, Record, Status, TokenError
from gateway.record.database import Connection, Database
from tests.gateway.recording import QUEUE, deliveries, new, opened, owner


def with_record(url: str, folder: Path, test: Callable[[Record], Awaitable[None]], stalled_s: float = 3600) -> None:
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


def test_a_prediction_and_its_job_are_made_together_or_not_at_all(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), cancel_after_s=90))
        assert len(row.id) == 26
        assert row.id.isalnum()
        assert row.status is Status.STARTING
        assert row.deadline is not None
        assert row.deadline - row.created_at == timedelta(seconds=90)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await it.predictions.create(new(-1))
        jobs = list(await it.engine.job_manager.list_jobs_async())
        assert [(job.queue, job.task_name) for job in jobs] == [(QUEUE, "attempt"), ("gateway", "expire")]
        assert jobs[1].scheduled_at == row.deadline

    with_record(database_url, tmp_path, test)


def test_a_deadline_is_forgotten_with_the_end(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), cancel_after_s=90, webhook=None))
        await it.predictions.cancel(row.id)
        jobs = await it.engine.job_manager.list_jobs_async()
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
        assert await it.attempts.log(attempt, "one\n")  # came late
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
        assert record.resolve(ended.output, ended.files, lambda f: f"https://x/{f.name}") == {
            "audio": "https://x/output.wav"
        }
        owed = await it.deliveries.get(row.id)
        assert owed is not None
        assert b'"succeeded"' in owed.body
        assert deliveries(database_url, row.id) == ["start", "logs", "output", "completed"]
        (ends,) = await it.numbers.ends()
        assert (ends.status, ends.count) == ("succeeded", 1)

    with_record(database_url, tmp_path, test)


def test_a_worker_that_was_taken_over_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        zombie = await fetched(it, row)
        assert await it.attempts.begin(zombie)
        assert (await it.lost.sweep()).requeued == 1  # stalled_s is 0: every attempt is lost
        again = await it.predictions.get(row.id)
        assert again is not None
        assert again.job_id != row.job_id
        assert again.status is Status.PROCESSING  # no client sees a step back
        assert not await it.attempts.beat(zombie)
        assert not await it.attempts.log(zombie, "from beyond")
        assert await it.attempts.end(zombie, Outcome(Status.SUCCEEDED, output="from beyond")) is None
        assert not await it.attempts.give_back(zombie)
        assert not await it.lost.give_up(zombie.id, zombie.job_id)
        second = await fetched(it, again)
        assert await it.attempts.begin(second)
        assert await it.attempts.begin(second) is None  # one job is one attempt
        assert await it.attempts.end(second, Outcome(Status.SUCCEEDED, output="mine"))
        assert await it.attempts.end(second, Outcome(Status.FAILED, error="again")) is None
        done = await it.predictions.get(row.id)
        assert done is not None
        assert (done.output, done.logs, done.attempts) == ("mine", "", 2)
        assert deliveries(database_url, row.id) == ["start", "output", "completed"]

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_jobs_of_dead_processes_are_tidied_up(database_url: str, tmp_path: Path) -> None:
    """A delivery runs again; the job of an attempt whose prediction has ended is finished."""

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        assert await it.attempts.begin(attempt)
        assert await it.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
        manager = it.engine.job_manager
        delivering = await manager.fetch_job(["webhooks"], await manager.register_worker())
        assert delivering is not None
        assert await it.lost.tidy() == 2
        assert await it.lost.tidy() == 0
        jobs = {job.id: job.status for job in await manager.list_jobs_async()}
        assert (jobs[row.job_id], jobs[delivering.id]) == ("failed", "todo")

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_what_is_lost_twice_fails(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        for _ in range(2):
            live = await it.predictions.get(row.id)
            assert live is not None
            assert await it.attempts.begin(await fetched(it, live))
            assert await it.lost.sweep()
        done = await it.predictions.get(row.id)
        assert done is not None
        assert (done.status, done.error) == (Status.FAILED, "Prediction interrupted; the worker was lost")

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_a_heartbeat_keeps_an_attempt(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        assert await it.attempts.begin(await fetched(it, row))
        assert not await it.lost.sweep()

    with_record(database_url, tmp_path, test)


def test_cancel_queued_running_ended(database_url: str, tmp_path: Path) -> None:
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
        with it.changes.watch(running.id) as watch:
            asked = await it.predictions.cancel(running.id, me)
            assert asked is not None
            assert asked.status is Status.PROCESSING
            assert asked.cancel_requested_at is not None
            assert await watch.changed(30)
        assert await it.attempts.end(attempt, Outcome(Status.CANCELED))
        assert await it.predictions.cancel("none", me) is None
        assert await it.predictions.cancel(running.id, me + 1) is None

    with_record(database_url, tmp_path, test)


def test_a_cancel_between_fetch_and_begin_ends_by_the_sweep(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        assert await it.predictions.cancel(row.id)
        assert await it.attempts.begin(attempt) is None
        await it.attempts.finish_job(row.job_id)
        assert (await it.lost.sweep()).ended == 1
        done = await it.predictions.get(row.id)
        assert done is not None
        assert done.status is Status.CANCELED

    with_record(database_url, tmp_path, test)


def test_an_attempt_given_back_does_not_count(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        for _ in range(3):
            live = await it.predictions.get(row.id)
            assert live is not None
            attempt = await fetched(it, live)
            assert await it.attempts.begin(attempt)
            assert await it.attempts.give_back(attempt)
        assert deliveries(database_url, row.id) == ["start"]
        live = await it.predictions.get(row.id)
        assert live is not None
        assert await it.attempts.release(row.id, live.job_id)
        assert not await it.attempts.release(row.id, live.job_id)
        canceled = await it.predictions.cancel(row.id)
        assert canceled is not None
        assert (canceled.status, canceled.attempts) == (Status.CANCELED, 0)

    with_record(database_url, tmp_path, test)


def test_what_waits_for_a_model_that_cannot_start_fails(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        outcome = Outcome(Status.FAILED, error="The model's setup failed", logs="no weights")
        row = await it.predictions.create(new(await owner(it)))
        assert await it.attempts.fail_queued("a", QUEUE, 3600, outcome) == 0
        await it.attempts.seen("b", QUEUE, "READY")
        assert await it.attempts.fail_queued("a", QUEUE, 0, outcome) == 0  # another server may take it
        await it.attempts.seen("b", QUEUE, "SETUP_FAILED")
        assert await it.attempts.fail_queued("a", QUEUE, 0, outcome) == 1
        done = await it.predictions.get(row.id)
        assert done is not None
        assert (done.status, done.logs) == (Status.FAILED, "no weights")

    with_record(database_url, tmp_path, test)


def test_pages_are_whole_while_others_are_created(database_url: str, tmp_path: Path) -> None:
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


def test_an_owner_has_so_many_live_ones_at_most(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        me = await owner(it)
        rows = [await it.predictions.create(new(me), live_limit=2) for _ in range(2)]
        with pytest.raises(QueueFullError, match="at most 2"):
            await it.predictions.create(new(me), live_limit=2)
        await it.predictions.cancel(rows[0].id)
        await it.predictions.create(new(me), live_limit=2)

    with_record(database_url, tmp_path, test)


def test_retention_removes_data_and_files_but_no_rows(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        assert await it.attempts.begin(attempt)
        file = await it.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
        left = await it.files.put(row.id, "output.wav", "audio/wav", b"of a worker that died")
        half = tmp_path / row.id / "random" / "output.wav#1"  # by one that died while it wrote
        half.parent.mkdir()
        half.write_bytes(b"RI")
        foreign = await it.files.put("unknown", "output.wav", "audio/wav", b"of another database")
        assert await it.retention.sweep_files() == 0  # it is live
        assert await it.attempts.end(attempt, Outcome(Status.SUCCEEDED, output=file.reference, files=(file,)))
        assert await it.retention.sweep_files() == 2
        assert not half.parent.exists()
        assert await it.files.size(left.key) is None
        assert [b"".join([chunk async for chunk in it.files.read(file.key)])] == [b"RIFF"]
        assert await it.retention.remove(0) == 0  # its webhook is still owed
        await it.deliveries.done(row.id, delivered=True)
        assert await it.retention.remove(3600) == 0
        assert await it.retention.remove(0) == 1
        old = await it.predictions.get(row.id)
        assert old is not None
        assert (old.input, old.output, old.files, old.logs, old.data_removed) == ({}, None, (), "", True)
        assert old.status is Status.SUCCEEDED
        assert await it.files.by_prediction() == {"unknown": [foreign.key]}
        assert [path.name for path in tmp_path.iterdir()] == ["unknown"]  # no empty folders

    with_record(database_url, tmp_path, test)


def test_files_are_read_in_ranges(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        file = await it.files.put("id", "a.bin", "application/octet-stream", bytes(range(100)))
        assert await it.files.size(file.key) == 100
        part = b"".join([chunk async for chunk in it.files.read(file.key, 10, 20)])
        assert part == bytes(range(10, 20))
        with pytest.raises(FileNotFoundError):
            _ = [chunk async for chunk in it.files.read("id/none/a.bin")]
        other = await it.files.put("id", "a.bin", "application/octet-stream", b"")
        assert other.key != file.key
        assert await it.files.presigned(file.key, 60) is None  # a folder can't

    with_record(database_url, tmp_path, test)


def test_tokens_are_kept_as_hashes(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        token, secret = await it.tokens.create("laptop")
        assert await it.tokens.find(secret) == token
        assert await it.tokens.find(secret + "x") is None
        assert await it.tokens.find("\udcff") is None
        with pytest.raises(TokenError, match="'laptop'"):
            await it.tokens.create("laptop")
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("select t::text from tokens t").fetchall()
        assert secret not in str(rows)
        assert await it.tokens.revoke("laptop")
        assert not await it.tokens.revoke("laptop")
        assert await it.tokens.find(secret) is None
        again, _ = await it.tokens.create("laptop")
        assert again.id != token.id  # it doesn't see the old one's predictions
        assert [one.revoked_at is None for one in await it.tokens.all()] == [False, True]

    with_record(database_url, tmp_path, test)


def test_any_text_of_an_input_is_kept(database_url: str, tmp_path: Path) -> None:
    given = {"z": "\0 \udc00 \u2028", "a": [1.0, 1, None, {"b": False}], "": 2**70}

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), input=given))
        read = await it.predictions.get(row.id)
        assert read is not None
        assert read.input == given
        assert list(read.input) == ["z", "a", ""]

    with_record(database_url, tmp_path, test)


def test_a_create_whose_commit_has_no_answer_is_looked_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at the COMMIT: after it was done, and before."""

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


def test_migrations_are_taken_once(database_url: str, tmp_path: Path) -> None:
    assert asyncio.run(record.migrate(database_url)) == []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("delete from migrations")
    with pytest.raises(record.DatabaseError, match=r"0001_predictions\.sql"):
        with_record(database_url, tmp_path, _nothing)


async def _nothing(it: Record) -> None:
    pass


def test_one_that_cannot_be_mended_holds_up_no_other(database_url: str, tmp_path: Path) -> None:
    """Its webhook's body can't be made."""

    async def test(it: Record) -> None:
        me = await owner(it)
        rows = [await it.predictions.create(new(me, model=model)) for model in ("test/unspeakable", "test/fake")]
        for row in rows:
            await it.attempts.begin(await fetched(it, row))
            await it.predictions.cancel(row.id)
        assert (await it.lost.sweep()).ended == 1
        statuses = [found.status for row in rows if (found := await it.predictions.get(row.id))]
        assert statuses == [Status.PROCESSING, Status.CANCELED]

    with_record(database_url, tmp_path, test, stalled_s=0)
