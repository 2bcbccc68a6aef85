"""The sweep's queries: attempts whose worker is gone, and jobs that nobody runs any more."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from procrastinate.exceptions import ConnectorException

from gateway.record import ending
from gateway.record.columns import COLUMNS, prediction_row
from gateway.record.database import UNAVAILABLE, Connection, Database
from gateway.record.engine import AHEAD, ATTEMPT_TASK, GATEWAY_QUEUE, WEBHOOK_QUEUE, defer_attempt
from gateway.record.rows import Body, Outcome, Prediction
from gateway.record.statuses import Status

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 2
PRUNE_S = 600.0
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # at once, whatever this host's clock says
INTERRUPTED = "Prediction interrupted; the worker was lost"
SWEEP_LOCK = 7_203_514_902  # held by the one that sweeps

# A heartbeat counts from the start of PostgreSQL: while it was down nobody could beat, and the first sweep
# after it would take every running attempt for lost.
_STALE = "greatest({beat}, pg_postmaster_start_time()) < now() - make_interval(secs => %(stalled_s)s)"

_LOST = f"""
    select {", ".join(f"p.{name.strip()}" for name in COLUMNS.split(","))} from predictions p
    left join procrastinate_jobs j on j.id = p.job_id
    left join procrastinate_workers w on w.id = j.worker_id
    where p.status in ('starting', 'processing') and (
        (p.beat_at is not null and {_STALE.format(beat="p.beat_at")})
        or (p.beat_at is null and coalesce(j.status not in ('todo', 'doing'), true))
        or (p.beat_at is null and j.status = 'doing' and (w.id is null or {_STALE.format(beat="w.last_heartbeat")}))
    )
    order by p.job_id limit 100 for update of p skip locked"""

_ORPHANS = f"""
    select j.id from procrastinate_jobs j
    left join procrastinate_workers w on w.id = j.worker_id
    left join predictions p on p.job_id = j.id and p.status in ('starting', 'processing')
    where j.status = 'doing' and j.task_name = '{ATTEMPT_TASK}' and p.id is null
    and (w.id is null or {_STALE.format(beat="w.last_heartbeat")})
    limit 100"""


@dataclass(frozen=True)
class Swept:
    """What a sweep has mended."""

    requeued: int = 0
    ended: int = 0

    def __bool__(self) -> bool:
        return bool(self.requeued or self.ended)


class Lost:
    """Find what was lost, and queue it again or end it."""

    def __init__(self, database: Database, body: Body, stalled_s: float = 30.0) -> None:
        self._database = database
        self._body = body
        self._stalled_s = stalled_s

    async def sweep(self) -> Swept:
        """Mend everything that was lost; do nothing while another process is at it."""
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
                    async with connection.transaction():  # a savepoint: one that can't be mended holds up no other
                        await self._finish(connection, prediction.job_id)
                        again = await self._mend(connection, prediction)
                except UNAVAILABLE:
                    raise
                except Exception:
                    logger.exception("can't mend", extra={"prediction": prediction.id})
                    continue
                requeued += again
                ended += not again
        return Swept(requeued, ended)

    async def tidy(self) -> int:
        """Finish or retry the jobs of dead processes that no live prediction needs, and return how many."""
        async with self._database.transaction() as connection:
            finished = await self._finish_orphans(connection)
        # The rows of killed workers; one that only seemed dead registers anew at its next fetch.
        await self._database.engine.job_manager.prune_stalled_workers(PRUNE_S)
        return finished + await self._retry()

    async def give_up(self, prediction_id: str, job_id: int) -> bool:
        """Treat a worker's own attempt as lost, now. False: it was not its own any more.

        The job stays `doing`: procrastinate finishes it when the worker's task returns.
        """
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""select {COLUMNS} from predictions where id = %s and job_id = %s
                        and status in ('starting', 'processing') for update""",
                    (prediction_id, job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return False
            await self._mend(connection, row)
        return True

    async def _mend(self, connection: Connection, row: Prediction) -> bool:
        """Queue a lost attempt again, as a new job, or end its prediction. True: it is queued.

        Never by retrying the old job: procrastinate's finish isn't fenced by worker, so that a worker which only
        seemed dead would finish the new run.
        """
        if row.cancel_requested_at:
            await ending.end(self._database, connection, row, Outcome(Status.CANCELED), self._body)
        elif row.attempts >= MAX_ATTEMPTS:
            await ending.end(self._database, connection, row, Outcome(Status.FAILED, error=INTERRUPTED), self._body)
        else:
            job_id = await defer_attempt(self._database.engine, connection, row.queue, row.id, AHEAD)
            await connection.execute(
                """update predictions set job_id = %s, beat_at = null, server = null, boot = null, callback = null
                   where id = %s""",
                (job_id, row.id),
            )
            logger.warning("lost attempt queued again", extra={"prediction": row.id, "attempts": row.attempts})
            return True
        logger.warning("lost attempt ended", extra={"prediction": row.id, "attempts": row.attempts})
        return False

    async def _finish_orphans(self, connection: Connection) -> int:
        """Finish the jobs of dead workers whose predictions have ended: retention only deletes finished ones."""
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
        """Retry the deliveries and expiries of dead gateways; a second run of either does no harm."""
        manager = self._database.engine.job_manager
        count = 0
        for queue in (GATEWAY_QUEUE, WEBHOOK_QUEUE):
            for job in await manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=self._stalled_s):
                with suppress(ConnectorException):  # another sweep was quicker
                    await manager.retry_job(job, retry_at=LONG_AGO)
                    count += 1
        return count
