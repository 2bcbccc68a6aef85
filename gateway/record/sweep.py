"""The sweep: every second each gateway and worker looks for lost attempts and queues them again or ends them."""

import asyncio
import itertools
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from procrastinate.exceptions import ConnectorException

from gateway.links import Links
from gateway.prediction import Outcome, Prediction, Status
from gateway.record.database import COLUMNS, IS_LIVE, NAMES, UNAVAILABLE, Connection, Database, prediction_row
from gateway.record.end import end
from gateway.record.jobs import AHEAD, ATTEMPT_TASK, GATEWAY_QUEUE, WEBHOOK_QUEUE, defer_attempt

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
TIDY_EVERY = 10  # sweeps
MAX_ATTEMPTS = 2
PRUNE_S = 600.0
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # due at once, whatever this host's clock says
INTERRUPTED = "Prediction interrupted; the worker was lost"
SWEEP_LOCK = 7_203_514_902  # an advisory lock; its holder sweeps

# A heartbeat is never older than PostgreSQL's start. Nobody could write one while it was down, so the first sweep
# after an outage would otherwise take every running attempt for lost.
_STALE = "greatest({beat}, pg_postmaster_start_time()) < now() - make_interval(secs => %(stalled_s)s)"

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


@dataclass(frozen=True)
class Swept:
    """The numbers of lost attempts that a sweep has found."""

    requeued: int = 0
    ended: int = 0

    def __bool__(self) -> bool:
        return bool(self.requeued or self.ended)


class Sweep:
    """Find lost attempts, and queue them again or end their predictions."""

    def __init__(self, database: Database, links: Links, stalled_s: float = 30.0) -> None:
        """Take the database. An attempt without a heartbeat for `stalled_s` is lost."""
        self._database = database
        self._links = links
        self._stalled_s = stalled_s

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
            found = await connection.execute("select pg_try_advisory_xact_lock(%s)", (SWEEP_LOCK,))
            row = await found.fetchone()
            if row is None or not row[0]:
                return Swept()
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(_LOST, {"stalled_s": self._stalled_s})
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
        """Finish or retry the jobs of dead processes that no live prediction needs, and return their number."""
        async with self._database.transaction() as connection:
            finished = await self._finish_orphans(connection)
        # Removes the rows of killed workers. One that only seemed dead registers again at its next fetch.
        await self._database.procrastinate.job_manager.prune_stalled_workers(PRUNE_S)
        return finished + await self._retry()

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

    async def _requeue_or_end(self, connection: Connection, row: Prediction) -> bool:
        """Queue a lost attempt again, as a new job, or end its prediction. Return whether it was queued.

        The old job is never retried: procrastinate doesn't check which worker finishes a job, so a worker that only
        seemed dead would finish the new run.
        """
        if row.cancel_requested_at:
            await end(self._database, connection, row, Outcome(Status.CANCELED), self._links)
        elif row.attempts >= MAX_ATTEMPTS:
            await end(self._database, connection, row, Outcome(Status.FAILED, error=INTERRUPTED), self._links)
        else:
            job_id = await defer_attempt(self._database.procrastinate, connection, row.queue, row.id, AHEAD)
            await connection.execute(
                """update predictions set job_id = %s, beat_at = null, server = null, boot = null, callback = null
                   where id = %s""",
                (job_id, row.id),
            )
            logger.warning("lost attempt requeued", extra={"prediction": row.id, "attempts": row.attempts})
            return True
        logger.warning(
            "lost attempt not requeued; the prediction has ended",
            extra={"prediction": row.id, "attempts": row.attempts},
        )
        return False

    async def _finish_orphans(self, connection: Connection) -> int:
        """Finish the jobs of dead workers whose predictions have ended: retention deletes only finished jobs."""
        found = await connection.execute(_ORPHANS, {"stalled_s": self._stalled_s})
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

    async def _retry(self) -> int:
        """Retry the deliveries and expiries of dead gateways. A second run of either does no harm."""
        manager = self._database.procrastinate.job_manager
        count = 0
        for queue in (GATEWAY_QUEUE, WEBHOOK_QUEUE):
            for job in await manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=self._stalled_s):
                with suppress(ConnectorException):  # another sweep was quicker
                    await manager.retry_job(job, retry_at=LONG_AGO)
                    count += 1
        return count
