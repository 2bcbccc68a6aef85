"""Webhooks and deadlines are kept, whatever has happened to their jobs, and although a host's clock is an hour off."""

import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import procrastinate.utils
import psycopg
import pytest

from gateway.clock import Clock
from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.database import conninfo, time_of
from tests.gateway.processes import FAKE, System, Token
from tests.gateway.receiver import receiving
from tests.gateway.recording import all_attempts_lost, begin, fail_and_fetch_delivery, fetch_delivery, new, reload

pytestmark = pytest.mark.anyio


def jobs(url: str, task: str) -> list[tuple[int, str, str]]:
    with psycopg.connect(url) as connection:
        query = "select id, args->>'event', status::text from procrastinate_jobs where task_name = %s order by id"
        return [(row[0], row[1], row[2]) for row in connection.execute(query, (task,)).fetchall()]


def set_status(url: str, job_id: int | None, status: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update procrastinate_jobs set status = %s where id = %s", (status, job_id))


@pytest.mark.parametrize("end", ["failed", "aborted", "cancelled", "succeeded", "deleted"])
async def test_an_owed_webhook_without_a_job_is_queued(record: Record, owner: int, database_url: str, end: str) -> None:
    events = {"webhook_events": ("completed",)}
    lost = await record.predictions.create(new(owner, **events))
    job = await fail_and_fetch_delivery(record, lost)
    settled = await record.predictions.create(new(owner, **events))
    await fail_and_fetch_delivery(record, settled)
    await record.deliveries.settle(settled.id, delivered=False)
    queued = await record.predictions.create(new(owner, **events))
    attempt = await begin(record, queued)
    assert await record.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
    before = jobs(database_url, "webhook")
    assert await record.sweep.tidy() == 0  # nothing is lost yet
    if end == "deleted":
        await record.attempts.finish_job(job.id or 0)
    else:
        set_status(database_url, job.id, end)
    assert await record.sweep.tidy() == 1
    assert await record.sweep.tidy() == 0
    new_job = jobs(database_url, "webhook")[-1]
    assert new_job[1:] == ("completed", "todo")
    assert len(jobs(database_url, "webhook")) == len(before) + (end != "deleted")
    owed = await record.deliveries.get(lost.id)
    assert owed is not None
    assert owed.failures == 0


@pytest.mark.parametrize("record_options", [{"stalled_s": 3600, "delivery_s": 0}])
async def test_a_job_that_a_running_gateway_has_lost_runs_again(record: Record, owner: int, database_url: str) -> None:
    """Its connection broke while it fetched or finished the job, but its heartbeats continue."""
    row = await record.predictions.create(new(owner, webhook_events=("logs", "completed")))
    attempt = await begin(record, row)
    assert await record.attempts.log(attempt, "one")
    manager = record.procrastinate.job_manager
    gateway = await manager.register_worker()
    first = await manager.fetch_job(["webhooks"], gateway)
    assert first is not None
    assert await record.attempts.log(attempt, "one, two")
    assert await record.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
    assert await manager.fetch_job(["webhooks"], gateway) is None  # it blocks those that follow
    assert await record.sweep.tidy() == 1
    # One `logs` is enough, and the other one was queued already.
    assert [job[1:] for job in jobs(database_url, "webhook")] == [("logs", "todo"), ("completed", "todo")]
    second = await manager.fetch_job(["webhooks"], gateway)
    assert second is not None
    await record.attempts.finish_job(second.id or 0)
    third = await manager.fetch_job(["webhooks"], gateway)
    assert third is not None
    assert await record.sweep.tidy() == 1
    assert jobs(database_url, "webhook") == [(third.id, "completed", "todo")]


@pytest.mark.parametrize("running", [False, True])
async def test_a_deadline_is_kept_without_its_job(record: Record, owner: int, database_url: str, running: bool) -> None:
    overdue = await record.predictions.create(new(owner, cancel_after_s=-10))
    later = await record.predictions.create(new(owner, cancel_after_s=60))
    if running:
        await begin(record, overdue)
    for job_id, _, _ in jobs(database_url, "expire"):
        set_status(database_url, job_id, "failed")
    assert await record.sweep.tidy() == 1
    assert await record.sweep.tidy() == 0
    now = await reload(record, overdue)
    assert now.status is (Status.PROCESSING if running else Status.CANCELED)
    assert (now.cancel_requested_at is not None) is running
    assert (await reload(record, later)).status is Status.STARTING


HOUR_S = 3600
CC = shutil.which("cc")


@all_attempts_lost
async def test_an_orderly_stop_does_not_count_as_a_lost_attempt(record: Record, owner: int) -> None:
    """Each time, the worker shuts down while the prediction runs, and then its Cog server does."""
    row = await record.predictions.create(new(owner))
    for _ in range(3):
        attempt = await begin(record, await reload(record, row))
        assert await record.attempts.beat(attempt, draining=True)
        assert (await record.sweep.once()).requeued == 1
        assert (await reload(record, row)).attempts == 0
    attempt = await begin(record, await reload(record, row))
    assert await record.attempts.beat(attempt, draining=True)
    assert await record.attempts.beat(attempt)  # by the next worker, which has adopted it
    assert (await record.sweep.once()).requeued == 1
    assert (await reload(record, row)).attempts == 1


class WrongClock(Clock):
    """The clock of a host that is an hour behind."""

    def __init__(self) -> None:
        super().__init__()
        self._started_at -= timedelta(hours=1)


async def test_a_synced_clock_has_the_databases_time(database_url: str) -> None:
    clock = WrongClock()
    async with await psycopg.AsyncConnection.connect(conninfo(database_url), autocommit=True) as connection:

        async def off_s() -> float:
            found = await connection.execute("select clock_timestamp()")
            row = await found.fetchone()
            assert row is not None
            return float((clock.now() - row[0]).total_seconds())

        assert await off_s() == pytest.approx(-3600, abs=300)
        await clock.sync(lambda: time_of(connection))
        assert await off_s() == pytest.approx(0, abs=300)
        assert clock.now().utcoffset() == timedelta(0)


@pytest.mark.skipif(CC is None, reason="this machine has no C compiler")
def test_a_gateway_and_a_worker_whose_host_is_an_hour_ahead_work_as_the_others_do(
    system: System, token: Token, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway signs the URLs of files, dates webhooks, and tries them again."""
    library, source = tmp_path / "clock.so", Path(__file__).with_name("wrong_clock.c")
    subprocess.run([str(CC), "-shared", "-fPIC", f"-DAHEAD_S={HOUR_S}", "-o", library, source], check=True)
    monkeypatch.setitem(system.settings, "LD_PRELOAD", str(library))  # of the processes that start from now on
    began_s = time.time()
    with (
        receiving() as receiver,
        system.another_process({}) as url,
        system.another_model(FAKE, tmp_path / "journal.jsonl"),
        Token(url, token.text, system) as ahead,
    ):
        body = {
            "input": {"files": 1, "seconds": 0.5},
            "webhook": f"{receiver.url}/late/x",
            "webhook_events_filter": "completed",
        }
        made = [ahead.create(body=body)["id"] for _ in range(8)]  # either worker runs some
        for prediction_id in made:
            ended = ahead.ended(prediction_id)
            for output in (ended["output"], token.get(prediction_id)["output"]):
                path = output.partition("/outputs/")[2]
                for gateway in (url, system.url):
                    assert http.get(f"{gateway}/outputs/{path}").status_code == 200
        system.until(lambda: len(receiver.deliveries) >= 2 * len(made))
    sent_s = [int(delivery.headers["webhook-timestamp"]) for delivery in receiver.deliveries]
    assert all(began_s - 1 <= one <= time.time() for one in sent_s)


@all_attempts_lost
async def test_a_sweep_retries_at_once_although_the_hosts_clock_is_ahead(
    record: Record, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """procrastinate itself would use the host's time, and wait an hour."""
    monkeypatch.setattr(procrastinate.utils, "utcnow", lambda: datetime.now(UTC) + timedelta(hours=1))
    delivery = await fail_and_fetch_delivery(record, await record.predictions.create(new(owner)))
    assert await record.sweep.tidy() == 2  # the delivery's gateway counts as dead
    again = await fetch_delivery(record)
    assert again is not None
    assert again.id == delivery.id
