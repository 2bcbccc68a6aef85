"""What workers write. Each write is fenced: it counts only while the row's job is still the worker's own."""

import json
import logging
from datetime import timedelta

from psycopg.types.json import Json as AsJson

from gateway.record import ending
from gateway.record.columns import COLUMNS, prediction_row
from gateway.record.database import Database
from gateway.record.engine import AHEAD, defer_attempt, defer_webhook
from gateway.record.rows import Attempt, Body, JsonObject, Outcome, Prediction
from gateway.record.statuses import Status

logger = logging.getLogger(__name__)


class Attempts:
    """The predictions as the workers see them."""

    def __init__(self, database: Database, body: Body) -> None:
        self._database = database
        self._body = body

    async def begin(self, attempt: Attempt) -> Prediction | None:
        """Take a prediction from the queue: `processing`, one attempt more. None: it isn't this job's to run."""
        async with self._database.transaction() as connection:
            found = await connection.execute("select status from predictions where id = %s for update", (attempt.id,))
            before = await found.fetchone()
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""update predictions set status = 'processing', attempts = attempts + 1, beat_at = now(),
                        started_at = coalesce(started_at, greatest(clock_timestamp(), created_at)),
                        server = %s, boot = %s, callback = %s
                        where id = %s and job_id = %s and status in ('starting', 'processing')
                        and cancel_requested_at is null and beat_at is null returning {COLUMNS}""",
                    (attempt.server, attempt.boot, attempt.callback, attempt.id, attempt.job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return None
            if before == (str(Status.STARTING),):  # `start` is told once, whatever happens to the attempt
                await defer_webhook(self._database.engine, connection, row, "start", self._wanted(row, "start"))
            await connection.execute("select pg_notify('prediction', %s)", (row.id,))
        return row

    async def beat(self, attempt: Attempt) -> bool:
        """Say that the attempt is alive. False: it has been taken over, and its run is to be dropped.

        procrastinate's own heartbeat stops while a worker drains, and dies with the worker whose server still
        predicts: both would double the work. So the row has one of its own.
        """
        async with self._database.transaction() as connection:
            done = await connection.execute(
                """update predictions set beat_at = now()
                   where id = %s and job_id = %s and status = 'processing'""",
                (attempt.id, attempt.job_id),
            )
        return done.rowcount == 1

    async def log(self, attempt: Attempt, logs: str, metrics: JsonObject | None = None) -> bool:
        """Store the logs so far, which never shrink. False: the attempt has been taken over."""
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""update predictions set beat_at = now(), metrics = coalesce(%s, metrics),
                        logs = case when length(%s) > length(logs) then %s else logs end
                        where id = %s and job_id = %s and status = 'processing' returning {COLUMNS}""",
                    (
                        None if metrics is None else AsJson(metrics, dumps=json.dumps),
                        logs,
                        logs,
                        attempt.id,
                        attempt.job_id,
                    ),
                )
                row = await cursor.fetchone()
            if row is None:
                return False
            await defer_webhook(self._database.engine, connection, row, "logs")
            await connection.execute("select pg_notify('prediction', %s)", (row.id,))
        return True

    async def end(self, attempt: Attempt, outcome: Outcome) -> Prediction | None:
        """End the prediction with the attempt's outcome. None: it has been taken over or has ended."""
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""select {COLUMNS} from predictions
                        where id = %s and job_id = %s and status = 'processing' for update""",
                    (attempt.id, attempt.job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return None
            return await ending.end(self._database, connection, row, outcome, self._body)

    async def release(self, prediction_id: str, job_id: int) -> bool:
        """Put a job that was fetched but never begun back into the queue, as a new one. False: not ours any more."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """select queue from predictions where id = %s and job_id = %s and beat_at is null
                   and status in ('starting', 'processing') for update""",
                (prediction_id, job_id),
            )
            row = await found.fetchone()
            if row is None:
                return False
            new_job = await defer_attempt(self._database.engine, connection, row[0], prediction_id, AHEAD)
            await connection.execute("update predictions set job_id = %s where id = %s", (new_job, prediction_id))
        return True

    async def give_back(self, attempt: Attempt) -> bool:
        """Put an attempt that the server never ran back into the queue, uncounted. False: not ours any more."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """select queue from predictions
                   where id = %s and job_id = %s and status = 'processing' for update""",
                (attempt.id, attempt.job_id),
            )
            row = await found.fetchone()
            if row is None:
                return False
            new_job = await defer_attempt(self._database.engine, connection, row[0], attempt.id, AHEAD)
            await connection.execute(
                """update predictions set job_id = %s, attempts = attempts - 1, beat_at = null, server = null,
                   boot = null, callback = null where id = %s""",
                (new_job, attempt.id),
            )
        return True

    async def adoptable(self, server: str, boot: str) -> Prediction | None:
        """Return the prediction that this server is still at, begun by an earlier worker beside it."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=prediction_row) as cursor,
        ):
            await cursor.execute(
                f"""select {COLUMNS} from predictions where server = %s and boot = %s and status = 'processing'
                    and beat_at is not null order by job_id desc limit 1""",
                (server, boot),
            )
            return await cursor.fetchone()

    async def left_by_earlier_boots(self, server: str, boot: str) -> list[tuple[str, int]]:
        """Return id and job of what this server ran when it was another process: it is lost."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select id, job_id from predictions
                   where status = 'processing' and beat_at is not null and server = %s and boot != %s""",
                (server, boot),
            )
            return [(row[0], row[1]) for row in await found.fetchall()]

    async def seen(self, server: str, queue: str, health: str) -> None:
        """Note how a Cog server is; workers say so every few seconds."""
        async with self._database.transaction() as connection:
            await connection.execute(
                """insert into servers (name, queue, health) values (%s, %s, %s)
                   on conflict (name) do update set
                   queue = excluded.queue, health = excluded.health, seen_at = now()""",
                (server, queue, health),
            )

    async def fail_queued(self, server: str, queue: str, older_than_s: float, outcome: Outcome) -> int:
        """Fail what has waited in a queue for longer than this, unless another server of it is well; return how many.

        For a server whose setup fails: nothing else would ever end its predictions.
        """
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""select {COLUMNS} from predictions p
                        where queue = %(queue)s and status in ('starting', 'processing') and beat_at is null
                        and created_at < now() - %(age)s and not exists (select 1 from servers s
                            where s.queue = %(queue)s and s.name != %(server)s
                            and s.health in ('READY', 'BUSY', 'STARTING')
                            and s.seen_at > now() - interval '30 s')
                        order by job_id limit 100 for update skip locked""",
                    {"server": server, "queue": queue, "age": timedelta(seconds=older_than_s)},
                )
                rows = await cursor.fetchall()
            count = 0
            for row in rows:
                # False where a worker has fetched it in this moment: then it is that worker's
                if await self._database.engine.job_manager.cancel_job_by_id_async(row.job_id, connection=connection):
                    await ending.end(self._database, connection, row, outcome, self._body)
                    count += 1
        return count

    async def finish_job(self, job_id: int) -> None:
        """Take a job that was run out of the engine's table. What is left to do is in the prediction's row."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "delete from procrastinate_jobs where id = %s and status in ('todo', 'doing')", (job_id,)
            )

    def _wanted(self, row: Prediction, event: str) -> bytes | None:
        return self._body(row) if row.webhook is not None and event in row.webhook_events else None
