"""The sweep: every second each gateway and worker looks for lost attempts, and for work that has lost its job."""

import asyncio
import itertools
import logging
from dataclasses import dataclass

from gateway.links import Links
from gateway.prediction import Outcome, Prediction, Status
from gateway.record.database import COLUMNS, IS_LIVE, NAMES, UNAVAILABLE, Connection, Database, prediction_row
from gateway.record.end import end
from gateway.record.jobs import (
    AHEAD,
    ATTEMPT_TASK,
    EXPIRE_TASK,
    GATEWAY_QUEUE,
    WEBHOOK_QUEUE,
    WEBHOOK_TASK,
    defer_attempt,
    defer_webhook,
)
from gateway.record.predictions import Predictions

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
TIDY_EVERY = 10  # sweeps
MAX_ATTEMPTS = 2
PRUNE_S = 600.0
OVERDUE_S = 5.0  # after a deadline its own job has had the time to cancel the prediction
INTERRUPTED = "Prediction interrupted; the worker was lost"
SWEEP_LOCK = 7_203_514_902  # an advisory lock; its holder sweeps

# A heartbeat is never older than PostgreSQL's start. Nobody could write one while it was down, so the first sweep
# after an outage would otherwise take every running attempt for lost.
_STALE = "greatest({beat}, pg_postmaster_start_time()) < now() - make_interval(secs => %(stalled_s)s)"
_STARTED = "(select max(at) from procrastinate_events e where e.job_id = j.id and e.type = 'started')"

_LOST = f"""
    select {", ".join(f"p.{name}" for name in NAMES)} from predictions p
    left join procrastinate_jobs j on j.id = p.job_id
    left join procrastinate_workers w on w.id = j.worker_id
    where p.{IS_LIVE} and (
        (p.beat_at is not null and {_STALE.format(beat="p.beat_at")})
        or (p.beat_at is null and coalesce(j.status not in ('todo', 'doing'), true))
        or (p.beat_at is null and j.status = 'doing' and (w.id is null or {_STALE.format(beat="w.last_heartbeat")}))
    )
    order by p.job_id limit 100 for update of p skip locked"""

_ORPHANS = f"""
    select j.id from procrastinate_jobs j
    left join procrastinate_workers w on w.id = j.worker_id
    left join predictions p on p.job_id = j.id and p.{IS_LIVE}
    where j.status = 'doing' and j.task_name = '{ATTEMPT_TASK}' and p.id is null
    and (w.id is null or {_STALE.format(beat="w.last_heartbeat")})
    limit 100"""

# A gateway that lives may have lost a job too: when the database drops its connection, it may not see that it has
# fetched the job, or fail to write that it has finished it.
_DEAD = f"""
    select j.id, j.queueing_lock is not null from procrastinate_jobs j
    left join procrastinate_workers w on w.id = j.worker_id
    where j.status = 'doing' and j.queue_name in ('{GATEWAY_QUEUE}', '{WEBHOOK_QUEUE}') and (
        w.id is null or {_STALE.format(beat="w.last_heartbeat")}
        or (j.task_name in ('{EXPIRE_TASK}', '{WEBHOOK_TASK}')
            and greatest({_STARTED}, pg_postmaster_start_time()) < now() - make_interval(secs => %(delivery_s)s))
    )
    limit 100 for update of j skip locked"""

_OWED = f"""
    select {", ".join(f"p.{name}" for name in NAMES)} from deliveries d join predictions p using (id)
    where d.done_at is null and not exists (
        select 1 from procrastinate_jobs j where j.lock = d.id and j.task_name = '{WEBHOOK_TASK}'
        and j.status in ('todo', 'doing') and j.args->>'event' = 'completed')
    limit 100"""

_OVERDUE = f"""
    select id from predictions where {IS_LIVE} and cancel_requested_at is null
    and deadline < now() - make_interval(secs => %s) order by deadline limit 100"""


@dataclass(frozen=True)
class Swept:
    """The numbers of lost attempts that a sweep has found."""

    requeued: int = 0
    ended: int = 0

    def __bool__(self) -> bool:
        return bool(self.requeued or self.ended)


class Sweep:
    """Find lost attempts, and queue them again or end their predictions. Find work whose job was lost, and queue it."""

    def __init__(self, database: Database, links: Links, stalled_s: float = 30.0, delivery_s: float = 30.0) -> None:
        """Take the database and two limits.

        Args:
            database: The database.
            links: Serializes the webhooks of predictions that end.
            stalled_s: An attempt without a heartbeat for this long is lost.
            delivery_s: The job of a delivery that started this long ago is lost.
        """
        self._database = database
        self._links = links
        self._predictions = Predictions(database, links)
        self._limits = {"stalled_s": stalled_s, "delivery_s": delivery_s}

    async def run_forever(self, interval_s: float = INTERVAL_S) -> None:
        """Sweep until cancelled. Every process calls this; at any time one of them sweeps."""
        for number in itertools.count():
            try:
                if swept := await self.once():
                    logger.info("swept", extra={"requeued": swept.requeued, "ended": swept.ended})
                if number % TIDY_EVERY == 0 and (count := await self.tidy()):
                    logger.info("tidied", extra={"jobs": count})
            except UNAVAILABLE as error:
                logger.warning("can't sweep", extra={"error": str(error).strip()})
            await asyncio.sleep(interval_s)

    async def once(self) -> Swept:
        """Requeue or end all lost attempts, unless another process is sweeping."""
        requeued = ended = 0
        async with self._database.transaction() as connection:
            if not await self._is_sweeping(connection):
                return Swept()
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(_LOST, self._limits)
                lost = await cursor.fetchall()
            for prediction in lost:
                try:
                    async with connection.transaction():  # a savepoint: one failure must not stop the others
                        await self._finish(connection, prediction.job_id)
                        again = await self._requeue_or_end(connection, prediction)
                except UNAVAILABLE:
                    raise
                except Exception:
                    logger.exception("can't requeue a lost attempt", extra={"prediction": prediction.id})
                    continue
                requeued += again
                ended += not again
        return Swept(requeued, ended)

    async def tidy(self) -> int:
        """Finish or requeue jobs that nobody runs any more, do what is owed without a job, and return their number."""
        count = 0
        async with self._database.transaction() as connection:
            if await self._is_sweeping(connection):
                count += await self._finish_orphans(connection)
                count += await self._requeue_dead(connection)
                count += await self._queue_owed(connection)
        # Removes the rows of killed workers. One that only seemed dead registers again at its next fetch.
        await self._database.procrastinate.job_manager.prune_stalled_workers(PRUNE_S)
        return count + await self._cancel_overdue()

    async def give_up(self, prediction_id: str, job_id: int) -> bool:
        """Treat a worker's own attempt as lost, now. Return False if it was no longer its own.

        The job stays `doing`; the worker deletes it afterwards.
        """
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"select {COLUMNS} from predictions where id = %s and job_id = %s and {IS_LIVE} for update",
                    (prediction_id, job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return False
            await self._requeue_or_end(connection, row)
        return True

    async def _is_sweeping(self, connection: Connection) -> bool:
        """Return whether no other process sweeps, until the end of the transaction."""
        found = await connection.execute("select pg_try_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        return (await found.fetchone()) == (True,)

    async def _requeue_or_end(self, connection: Connection, row: Prediction) -> bool:
        """Queue a lost attempt again, as a new job, or end its prediction. Return whether it was queued.

        The old job is never retried: procrastinate doesn't check which worker finishes a job, so a worker that only
        seemed dead would finish the new run.
        """
        if row.cancel_requested_at:
            await end(self._database, connection, row, Outcome(Status.CANCELED), self._links)
        elif row.attempts >= MAX_ATTEMPTS and not row.draining:
            await end(self._database, connection, row, Outcome(Status.FAILED, error=INTERRUPTED), self._links)
        else:
            job_id = await defer_attempt(self._database.procrastinate, connection, row.queue, row.id, AHEAD)
            await connection.execute(
                """update predictions set job_id = %s, beat_at = null, server = null, boot = null, callback = null,
                   attempts = attempts - draining::int, draining = false where id = %s""",
                (job_id, row.id),
            )
            logger.warning(
                "lost attempt requeued",
                extra={"prediction": row.id, "attempts": row.attempts, "counts": not row.draining},
            )
            return True
        logger.warning(
            "lost attempt not requeued; the prediction has ended",
            extra={"prediction": row.id, "attempts": row.attempts},
        )
        return False

    async def _finish_orphans(self, connection: Connection) -> int:
        """Finish the jobs of dead workers whose predictions have ended: retention deletes only finished jobs."""
        found = await connection.execute(_ORPHANS, self._limits)
        orphans = await found.fetchall()
        for (job_id,) in orphans:
            await self._finish(connection, job_id)
        return len(orphans)

    async def _finish(self, connection: Connection, job_id: int) -> None:
        await connection.execute(
            """update procrastinate_jobs set status = 'failed', abort_requested = false
               where id = %s and status in ('todo', 'doing')""",
            (job_id,),
        )

    async def _requeue_dead(self, connection: Connection) -> int:
        """Queue deliveries and expiries again whose job is lost. A second run of either does no harm."""
        found = await connection.execute(_DEAD, self._limits)
        dead = await found.fetchall()
        for job_id, replaceable in dead:
            if replaceable:  # the next `logs` or `output` has the same contents, and may be queued already
                await connection.execute("delete from procrastinate_jobs where id = %s", (job_id,))
            else:
                await connection.execute(
                    """update procrastinate_jobs set status = 'todo', attempts = attempts + 1, scheduled_at = now(),
                       abort_requested = false where id = %s""",
                    (job_id,),
                )
        return len(dead)

    async def _queue_owed(self, connection: Connection) -> int:
        """Queue the `completed` webhooks that are owed and have no job, whatever has ended it."""
        async with connection.cursor(row_factory=prediction_row) as cursor:
            await cursor.execute(_OWED)
            rows = await cursor.fetchall()
        for row in rows:
            await defer_webhook(self._database.procrastinate, connection, row, "completed")
            logger.warning("queued a webhook that had lost its job", extra={"prediction": row.id})
        return len(rows)

    async def _cancel_overdue(self) -> int:
        """Cancel the predictions whose deadline has passed, and whose job for that is lost."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(_OVERDUE, (OVERDUE_S,))
            overdue = await found.fetchall()
        for (prediction_id,) in overdue:
            await self._predictions.cancel(prediction_id)
        return len(overdue)
