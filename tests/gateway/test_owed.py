"""What is owed is done, whatever has ended the job for it."""

from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Prediction, Status
from gateway.record import Record
from tests.gateway.recording import delivered, fetched, new, owner, with_record


def jobs(url: str, task: str) -> list[tuple[int, str, str]]:
    """Return the id, the event and the status of a task's jobs."""
    with psycopg.connect(url) as connection:
        query = "select id, args->>'event', status::text from procrastinate_jobs where task_name = %s order by id"
        return [(row[0], row[1], row[2]) for row in connection.execute(query, (task,)).fetchall()]


def set_status(url: str, job_id: int | None, status: str) -> None:
    """End a job behind the gateway's back."""
    with psycopg.connect(url) as connection:
        connection.execute("update procrastinate_jobs set status = %s where id = %s", (status, job_id))


async def found(it: Record, row: Prediction) -> Prediction:
    now = await it.predictions.get(row.id)
    assert now is not None
    return now


@pytest.mark.parametrize("end", ["failed", "aborted", "cancelled", "succeeded", "deleted"])
def test_a_webhook_that_is_owed_is_queued_again(database_url: str, tmp_path: Path, end: str) -> None:
    async def test(it: Record) -> None:
        me = await owner(it)
        events = {"webhook_events": ("completed",)}
        lost = await it.predictions.create(new(me, **events))
        job = await delivered(it, lost)
        settled = await it.predictions.create(new(me, **events))
        await delivered(it, settled)
        await it.deliveries.settle(settled.id, delivered=False)
        queued = await it.predictions.create(new(me, **events))
        attempt = await fetched(it, queued)
        assert await it.attempts.begin(attempt)
        assert await it.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
        before = jobs(database_url, "webhook")
        assert await it.sweep.tidy() == 0  # nothing is lost yet
        if end == "deleted":
            await it.attempts.finish_job(job.id or 0)
        else:
            set_status(database_url, job.id, end)
        assert await it.sweep.tidy() == 1
        assert await it.sweep.tidy() == 0
        new_job = jobs(database_url, "webhook")[-1]
        assert new_job[1:] == ("completed", "todo")
        assert len(jobs(database_url, "webhook")) == len(before) + (end != "deleted")
        owed = await it.deliveries.get(lost.id)
        assert owed is not None
        assert owed.failures == 0

    with_record(database_url, tmp_path, test)


def test_a_job_that_a_living_gateway_has_lost_runs_again(database_url: str, tmp_path: Path) -> None:
    """Its connection broke when it fetched the job or wrote that it had finished it. Its heartbeat goes on."""

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), webhook_events=("logs", "completed")))
        attempt = await fetched(it, row)
        assert await it.attempts.begin(attempt)
        assert await it.attempts.log(attempt, "one")
        manager = it.procrastinate.job_manager
        gateway = await manager.register_worker()
        first = await manager.fetch_job(["webhooks"], gateway)
        assert first is not None
        assert await it.attempts.log(attempt, "one, two")
        assert await it.attempts.end(attempt, Outcome(Status.FAILED, error="no"))
        assert await manager.fetch_job(["webhooks"], gateway) is None  # it blocks those that follow
        assert await it.sweep.tidy() == 1
        # One `logs` is enough, and the other one was queued already.
        assert [job[1:] for job in jobs(database_url, "webhook")] == [("logs", "todo"), ("completed", "todo")]
        second = await manager.fetch_job(["webhooks"], gateway)
        assert second is not None
        await it.attempts.finish_job(second.id or 0)
        third = await manager.fetch_job(["webhooks"], gateway)
        assert third is not None
        assert await it.sweep.tidy() == 1
        assert jobs(database_url, "webhook") == [(third.id, "completed", "todo")]

    with_record(database_url, tmp_path, test, delivery_s=0)


def test_a_job_that_runs_is_left_alone(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        await delivered(it, await it.predictions.create(new(await owner(it))))
        assert await it.sweep.tidy() == 0

    with_record(database_url, tmp_path, test)


@pytest.mark.parametrize("running", [False, True])
def test_a_deadline_is_kept_without_its_job(database_url: str, tmp_path: Path, running: bool) -> None:
    async def test(it: Record) -> None:
        me = await owner(it)
        overdue = await it.predictions.create(new(me, cancel_after_s=-10))
        later = await it.predictions.create(new(me, cancel_after_s=60))
        if running:
            assert await it.attempts.begin(await fetched(it, overdue))
        for job_id, _, _ in jobs(database_url, "expire"):
            set_status(database_url, job_id, "failed")
        assert await it.sweep.tidy() == 1
        assert await it.sweep.tidy() == 0
        now = await found(it, overdue)
        assert now.status is (Status.PROCESSING if running else Status.CANCELED)
        assert (now.cancel_requested_at is not None) is running
        assert (await found(it, later)).status is Status.STARTING

    with_record(database_url, tmp_path, test)


def test_an_orderly_stop_is_no_lost_attempt(database_url: str, tmp_path: Path) -> None:
    """Each time, the worker shuts down while the prediction runs, and then its Cog server does."""

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        for _ in range(3):
            attempt = await fetched(it, await found(it, row))
            assert await it.attempts.begin(attempt)
            assert await it.attempts.beat(attempt, draining=True)
            assert (await it.sweep.once()).requeued == 1
            assert (await found(it, row)).attempts == 0
        attempt = await fetched(it, await found(it, row))
        assert await it.attempts.begin(attempt)
        assert await it.attempts.beat(attempt, draining=True)
        assert await it.attempts.beat(attempt)  # by the next worker, which has adopted it
        assert (await it.sweep.once()).requeued == 1
        assert (await found(it, row)).attempts == 1

    with_record(database_url, tmp_path, test, stalled_s=0)
