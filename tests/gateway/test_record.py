import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, Connection, Database, conninfo
from gateway.record.predictions import NotStoredError
from gateway.record.tokens import TokenError
from tests.gateway.recording import (
    QUEUE,
    all_attempts_lost,
    begin,
    deliveries,
    fetch,
    new,
    reload,
)

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


@all_attempts_lost
async def test_a_worker_that_lost_its_attempt_writes_nothing(record: Record, owner: int, database_url: str) -> None:
    row = await record.predictions.create(new(owner))
    zombie = await begin(record, row)
    assert (await record.sweep.once()).requeued == 1
    requeued = await reload(record, row)
    assert requeued.job_id != row.job_id
    assert requeued.status is Status.PROCESSING  # clients never see a status go back
    assert not await record.attempts.beat(zombie)
    assert not await record.attempts.log(zombie, "late")
    assert await record.attempts.end(zombie, Outcome(Status.SUCCEEDED, output="late")) is None
    assert not await record.attempts.give_back(zombie)
    assert not await record.sweep.give_up(zombie.id, zombie.job_id)
    second = await begin(record, requeued)
    assert await record.attempts.begin(second) is None  # a job is one attempt
    assert await record.attempts.end(second, Outcome(Status.SUCCEEDED, output="mine"))
    assert await record.attempts.end(second, Outcome(Status.FAILED, error="again")) is None
    ended = await reload(record, row)
    assert (ended.output, ended.logs, ended.attempts) == ("mine", "", 2)
    assert deliveries(database_url, row.id) == ["start", "output", "completed"]


@all_attempts_lost
@pytest.mark.parametrize("canceled", [True, False])
async def test_output_stays_if_the_last_attempt_is_lost(record: Record, owner: int, canceled: bool) -> None:
    row = await record.predictions.create(new(owner))
    for number in (1, 2):
        attempt = await begin(record, await reload(record, row))
        file = await record.files.put(row.id, f"{number}.txt", "text/plain", b"content")
        assert await record.attempts.add_output(attempt, 0, [f"of attempt {number}", file.reference], [file])
        if canceled and number == 2:
            await record.predictions.cancel(row.id)
        await record.sweep.once()
    ended = await reload(record, row)
    assert ended.status is (Status.CANCELED if canceled else Status.FAILED)
    assert (ended.output, ended.files) == (["of attempt 2", file.reference], (file,))
    await record.retention.sweep_files()
    assert await record.files.size(file.key)


async def test_output_so_far_names_the_files_of_the_last_try_to_store_it(record: Record, owner: int) -> None:
    """A worker that gets no answer to its commit stores the files under new keys and tries again."""
    row = await record.predictions.create(new(owner))
    attempt = await begin(record, row)
    for _ in range(2):
        file = await record.files.put(row.id, "frame.png", "image/png", b"content")
        assert await record.attempts.add_output(attempt, 0, [file.reference], [file])
    running = await record.predictions.with_output(await reload(record, row))
    assert (running.output, running.files) == ([file.reference], (file,))


async def test_cancel_notifies_the_worker_of_a_running_prediction(record: Record, owner: int) -> None:
    running = await record.predictions.create(new(owner))
    await begin(record, running)
    with record.notices.watch(running.id) as watch:
        await record.predictions.cancel(running.id, owner)
        assert await watch.changed(120)


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


REJECT_END = """
    create function reject() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger reject before update on predictions for each row
    when (new.id = '{id}' and new.completed_at is not null) execute function reject()"""


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


async def test_retention_removes_data_and_files_but_keeps_rows(record: Record, owner: int, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    row = await record.predictions.create(new(owner))
    attempt = await begin(record, row)
    file = await record.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
    left = await record.files.put(row.id, "output.wav", "audio/wav", b"of a worker that died")
    partial = folder / row.id / "random" / "output.wav#1"  # by a worker that died while it wrote
    partial.parent.mkdir()
    partial.write_bytes(b"RI")
    foreign = await record.files.put("unknown", "output.wav", "audio/wav", b"of another database")
    assert await record.retention.sweep_files() == 0  # the prediction is running
    assert await record.attempts.end(attempt, Outcome(Status.SUCCEEDED, output=file.reference, files=(file,)))
    assert await record.retention.sweep_files() == 2
    assert not partial.parent.exists()
    assert await record.files.size(left.key) is None
    assert [b"".join([chunk async for chunk in record.files.read(file.key)])] == [b"RIFF"]
    assert await record.retention.remove(0) == 0  # its webhook is still owed
    await record.deliveries.settle(row.id, delivered=True)
    assert await record.retention.remove(3600) == 0
    assert await record.retention.remove(0) == 1
    old = await reload(record, row)
    assert (old.input, old.output, old.files, old.logs, old.data_removed) == ({}, None, (), "", True)
    assert old.status is Status.SUCCEEDED
    assert await record.files.by_prediction() == {"unknown": [foreign.key]}
    assert [path.name for path in folder.iterdir()] == ["unknown"]  # no empty folders


async def test_tokens_are_stored_as_hashes(record: Record, database_url: str) -> None:
    token, secret = await record.tokens.create("laptop")
    assert await record.tokens.find(secret) == token
    assert await record.tokens.find(secret + "x") is None
    assert await record.tokens.find("\udcff") is None
    with pytest.raises(TokenError, match="'laptop'"):
        await record.tokens.create("laptop")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select t::text from tokens t").fetchall()
    assert secret not in str(rows)
    assert await record.tokens.revoke("laptop")
    assert not await record.tokens.revoke("laptop")
    assert await record.tokens.find(secret) is None
    again, _ = await record.tokens.create("laptop")
    assert again.id != token.id  # so it doesn't see the predictions of the revoked one
    assert [one.revoked_at is None for one in await record.tokens.all()] == [False, True]


async def test_inputs_keep_any_text_and_their_order(record: Record, owner: int) -> None:
    inputs = {"z": "\0 \udc00 \u2028", "a": [1.0, 1, None, {"b": False}], "": 2**70}
    row = await reload(record, await record.predictions.create(new(owner, input=inputs)))
    assert row.input == inputs
    assert list(row.input) == ["z", "a", ""]
