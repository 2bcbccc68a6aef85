import asyncio
from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, conninfo
from tests.gateway.recording import QUEUE, delivered, deliveries, fetched, new, owner, with_record

REJECT_END = """
    create function reject() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger reject before update on predictions for each row
    when (new.id = '{id}' and new.completed_at is not null) execute function reject()"""


def test_a_worker_whose_attempt_was_taken_over_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        zombie = await fetched(it, row)
        assert await it.attempts.begin(zombie)
        assert (await it.sweep.once()).requeued == 1  # stalled_s is 0: every attempt is lost
        again = await it.predictions.get(row.id)
        assert again is not None
        assert again.job_id != row.job_id
        assert again.status is Status.PROCESSING  # no client sees a step back
        assert not await it.attempts.beat(zombie)
        assert not await it.attempts.log(zombie, "from beyond")
        assert await it.attempts.end(zombie, Outcome(Status.SUCCEEDED, output="from beyond")) is None
        assert not await it.attempts.give_back(zombie)
        assert not await it.sweep.give_up(zombie.id, zombie.job_id)
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


def test_tidy_finishes_or_retries_the_jobs_of_dead_processes(database_url: str, tmp_path: Path) -> None:
    """A delivery runs again; the job of an attempt whose prediction has ended is finished."""

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        delivering = await delivered(it, row)
        assert await it.sweep.tidy() == 2
        assert await it.sweep.tidy() == 0
        jobs = {job.id: job.status for job in await it.procrastinate.job_manager.list_jobs_async()}
        assert (jobs[row.job_id], jobs[delivering.id]) == ("failed", "todo")

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_a_prediction_that_is_lost_twice_fails(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        for _ in range(2):
            live = await it.predictions.get(row.id)
            assert live is not None
            assert await it.attempts.begin(await fetched(it, live))
            assert await it.sweep.once()
        done = await it.predictions.get(row.id)
        assert done is not None
        assert (done.status, done.error) == (Status.FAILED, "Prediction interrupted; the worker was lost")

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_an_attempt_with_a_heartbeat_is_not_lost(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        assert await it.attempts.begin(await fetched(it, row))
        assert not await it.sweep.once()

    with_record(database_url, tmp_path, test)


def test_the_sweep_ends_a_prediction_that_is_canceled_before_its_attempt_begins(
    database_url: str, tmp_path: Path
) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        assert await it.predictions.cancel(row.id)
        assert await it.attempts.begin(attempt) is None
        await it.attempts.finish_job(row.job_id)
        assert (await it.sweep.once()).ended == 1
        done = await it.predictions.get(row.id)
        assert done is not None
        assert done.status is Status.CANCELED

    with_record(database_url, tmp_path, test)


def test_an_attempt_that_is_given_back_does_not_count(database_url: str, tmp_path: Path) -> None:
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


def test_predictions_queued_for_a_model_that_cannot_start_fail(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        outcome = Outcome(Status.FAILED, error="The model's setup failed", logs="no weights")
        row = await it.predictions.create(new(await owner(it)))
        assert await it.attempts.fail_queued("a", QUEUE, 3600, outcome) == 0
        await it.attempts.report_health("b", QUEUE, "READY")
        assert await it.attempts.fail_queued("a", QUEUE, 0, outcome) == 0  # another server may take it
        await it.attempts.report_health("b", QUEUE, "SETUP_FAILED")
        assert await it.attempts.fail_queued("a", QUEUE, 0, outcome) == 1
        done = await it.predictions.get(row.id)
        assert done is not None
        assert (done.status, done.logs) == (Status.FAILED, "no weights")

    with_record(database_url, tmp_path, test)


def test_a_prediction_that_cannot_be_ended_does_not_stop_the_sweep(database_url: str, tmp_path: Path) -> None:
    """The database rejects every end of the first one."""

    async def test(it: Record) -> None:
        me = await owner(it)
        rows = [await it.predictions.create(new(me)) for _ in range(2)]
        with psycopg.connect(database_url) as connection:
            connection.execute(REJECT_END.format(id=rows[0].id))
        for row in rows:
            await it.attempts.begin(await fetched(it, row))
            await it.predictions.cancel(row.id)
        assert (await it.sweep.once()).ended == 1
        statuses = [found.status for row in rows if (found := await it.predictions.get(row.id))]
        assert statuses == [Status.PROCESSING, Status.CANCELED]

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_a_session_that_idles_in_a_transaction_is_closed(database_url: str) -> None:
    """A host that vanished would otherwise hold its locks, and stop every sweep."""

    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(conninfo(database_url)) as connection:
            found = await connection.execute("show idle_in_transaction_session_timeout")
            assert await found.fetchone() == ("20s",)
            await connection.execute("set idle_in_transaction_session_timeout = 50")
            await asyncio.sleep(1)
            with pytest.raises(UNAVAILABLE):  # treated like an unreachable database
                await connection.execute("select 1")

    asyncio.run(test())
