"""Attempts whose worker or Cog server is lost."""

import asyncio

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, conninfo
from tests.gateway.recording import (
    QUEUE,
    all_attempts_lost,
    begin,
    fail_and_fetch_delivery,
    fetch,
    new,
    reload,
)

pytestmark = pytest.mark.anyio

REJECT_END = """
    create function reject() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger reject before update on predictions for each row
    when (new.id = '{id}' and new.completed_at is not null) execute function reject()"""


@all_attempts_lost
async def test_tidy_retries_deliveries_of_dead_gateways_and_finishes_jobs_of_ended_predictions(
    record: Record, owner: int
) -> None:
    row = await record.predictions.create(new(owner))
    delivery = await fail_and_fetch_delivery(record, row)
    assert await record.sweep.tidy() == 2
    assert await record.sweep.tidy() == 0
    jobs = {job.id: job.status for job in await record.procrastinate.job_manager.list_jobs_async()}
    assert (jobs[row.job_id], jobs[delivery.id]) == ("failed", "todo")


async def test_the_sweep_ends_a_prediction_that_is_canceled_before_its_attempt_begins(
    record: Record, owner: int
) -> None:
    row = await record.predictions.create(new(owner))
    attempt = await fetch(record, row)
    assert await record.predictions.cancel(row.id)
    assert await record.attempts.begin(attempt) is None
    await record.attempts.finish_job(row.job_id)
    assert (await record.sweep.once()).ended == 1
    assert (await reload(record, row)).status is Status.CANCELED


async def test_queued_predictions_fail_if_the_setup_of_every_server_has_failed(record: Record, owner: int) -> None:
    outcome = Outcome(Status.FAILED, error="The model's setup failed", logs="no weights")
    row = await record.predictions.create(new(owner))
    assert await record.attempts.fail_queued("a", QUEUE, 3600, outcome) == 0
    await record.attempts.report_health("b", QUEUE, "READY")
    assert await record.attempts.fail_queued("a", QUEUE, 0, outcome) == 0  # another server may run it
    await record.attempts.report_health("b", QUEUE, "SETUP_FAILED")
    assert await record.attempts.fail_queued("a", QUEUE, 0, outcome) == 1
    ended = await reload(record, row)
    assert (ended.status, ended.logs) == (Status.FAILED, "no weights")


@all_attempts_lost
async def test_the_sweep_skips_a_prediction_that_it_can_not_end(record: Record, owner: int, database_url: str) -> None:
    rows = [await record.predictions.create(new(owner)) for _ in range(2)]
    for row in rows:
        await begin(record, row)
        await record.predictions.cancel(row.id)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(REJECT_END.format(id=rows[0].id))
        try:
            assert (await record.sweep.once()).ended == 1
        finally:
            connection.execute("drop function reject cascade")
    assert [(await reload(record, row)).status for row in rows] == [Status.PROCESSING, Status.CANCELED]


async def test_a_session_that_idles_in_a_transaction_is_closed(database_url: str) -> None:
    """A host that vanished would otherwise hold its locks and block every sweep."""
    async with await psycopg.AsyncConnection.connect(conninfo(database_url)) as connection:
        found = await connection.execute("show idle_in_transaction_session_timeout")
        assert await found.fetchone() == ("20s",)
        await connection.execute("set idle_in_transaction_session_timeout = 50")
        await asyncio.sleep(1)
        with pytest.raises(UNAVAILABLE):  # handled like an unreachable database
            await connection.execute("select 1")
