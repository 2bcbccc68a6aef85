"""Webhooks and deadlines are kept, whatever has happened to their jobs."""

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from tests.gateway.recording import begin, fail_and_fetch_delivery, new, reload

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
