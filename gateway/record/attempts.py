"""The workers' queries. Each write is fenced: it takes effect only while the row's job is still the worker's own."""

import json
from collections.abc import Sequence
from datetime import timedelta

from psycopg.types.json import Json as AsJson

from gateway.links import Links
from gateway.prediction import Attempt, File, Json, JsonObject, Outcome, Prediction, Status
from gateway.record.database import COLUMNS, HAS_ENDED, IS_LIVE, Database, file_entry, prediction_row
from gateway.record.end import end
from gateway.record.jobs import AHEAD, defer_attempt, defer_webhook, wants


class Attempts:
    """Start attempts, keep them alive and end them."""

    def __init__(self, database: Database, links: Links) -> None:
        self._database = database
        self._links = links

    async def begin(self, attempt: Attempt) -> Prediction | None:
        """Start an attempt: the prediction is `processing` now. Return None if this job may not run it."""
        async with self._database.transaction() as connection:
            found = await connection.execute("select status from predictions where id = %s for update", (attempt.id,))
            before = await found.fetchone()
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""update predictions set status = 'processing', attempts = attempts + 1, beat_at = now(),
                        files = '[]',
                        started_at = coalesce(started_at, greatest(clock_timestamp(), created_at)),
                        server = %s, boot = %s, callback = %s, draining = false
                        where id = %s and job_id = %s and {IS_LIVE}
                        and cancel_requested_at is null and beat_at is null returning {COLUMNS}""",
                    (attempt.server, attempt.boot, attempt.callback, attempt.id, attempt.job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return None
            await connection.execute("delete from chunks where id = %s", (row.id,))  # of an attempt that was lost
            if before == (str(Status.STARTING),) and wants(row, "start"):  # sent once, however many attempts follow
                body = self._links.body(row)
                await defer_webhook(self._database.procrastinate, connection, row, "start", body)
            await connection.execute("select pg_notify('prediction', %s)", (row.id,))
        return row

    async def beat(self, attempt: Attempt, *, draining: bool = False) -> bool:
        """Write a heartbeat. Return False if another worker has taken the attempt over.

        If the worker is `draining` and the attempt is lost, it doesn't count: an orderly stop is nobody's failure.

        procrastinate's own heartbeat stops while a worker drains, and dies with a worker whose server still
        predicts. Either would run the prediction twice, so the row has a heartbeat of its own.
        """
        async with self._database.transaction() as connection:
            done = await connection.execute(
                """update predictions set beat_at = now(), draining = %s
                   where id = %s and job_id = %s and status = 'processing'""",
                (draining, attempt.id, attempt.job_id),
            )
        return done.rowcount == 1

    async def log(self, attempt: Attempt, logs: str, metrics: JsonObject | None = None) -> bool:
        """Store the logs so far, which never shrink. Return False if the attempt has been taken over."""
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
            if wants(row, "logs"):
                await defer_webhook(self._database.procrastinate, connection, row, "logs")
            await connection.execute("select pg_notify('prediction', %s)", (row.id,))
        return True

    async def add_output(
        self, attempt: Attempt, first: int, values: Sequence[Json], files: Sequence[File] = ()
    ) -> bool:
        """Store items of an iterator's output as they are produced.

        Args:
            attempt: The attempt that produces them.
            first: The number of the first of these items; those before it are stored.
            values: The items, with references in place of files.
            files: All files of the attempt so far.

        Returns:
            False if the attempt has been taken over.
        """
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""select {COLUMNS} from predictions
                        where id = %s and job_id = %s and status = 'processing' for update""",
                    (attempt.id, attempt.job_id),
                )
                row = await cursor.fetchone()
            if row is None:
                return False
            # If the answer to a first try was lost, the second has stored the files once more: `files` names those.
            await connection.cursor().executemany(
                """insert into chunks (id, number, value) values (%s, %s, %s)
                   on conflict (id, number) do update set value = excluded.value""",
                [(row.id, first + number, AsJson(value, dumps=json.dumps)) for number, value in enumerate(values)],
            )
            if files:
                entries = AsJson([file_entry(file) for file in files])
                await connection.execute("update predictions set files = %s where id = %s", (entries, row.id))
            if wants(row, "output"):
                await defer_webhook(self._database.procrastinate, connection, row, "output")
            await connection.execute("select pg_notify('prediction', %s)", (row.id,))
        return True

    async def end(self, attempt: Attempt, outcome: Outcome) -> Prediction | None:
        """End the prediction. Return None if the attempt has been taken over or the prediction has ended."""
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
            return await end(self._database, connection, row, outcome, self._links)

    async def release(self, prediction_id: str, job_id: int) -> bool:
        """Queue a job that was fetched but not started, as a new job. Return False if it is no longer ours."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                f"""select queue from predictions where id = %s and job_id = %s and beat_at is null
                    and {IS_LIVE} for update""",
                (prediction_id, job_id),
            )
            row = await found.fetchone()
            if row is None:
                return False
            new_job = await defer_attempt(self._database.procrastinate, connection, row[0], prediction_id, AHEAD)
            await connection.execute("update predictions set job_id = %s where id = %s", (new_job, prediction_id))
        return True

    async def give_back(self, attempt: Attempt) -> bool:
        """Queue an attempt that the server never ran, without counting it. Return False if it is no longer ours."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """select queue from predictions
                   where id = %s and job_id = %s and status = 'processing' for update""",
                (attempt.id, attempt.job_id),
            )
            row = await found.fetchone()
            if row is None:
                return False
            new_job = await defer_attempt(self._database.procrastinate, connection, row[0], attempt.id, AHEAD)
            await connection.execute(
                """update predictions set job_id = %s, attempts = attempts - 1, beat_at = null, server = null,
                   boot = null, callback = null, draining = false where id = %s""",
                (new_job, attempt.id),
            )
        return True

    async def adoptable(self, server: str, boot: str) -> list[Prediction]:
        """Return the predictions that an earlier worker of this server has started and the server may still run."""
        async with self._database.predictions() as cursor:
            await cursor.execute(
                f"""select {COLUMNS} from predictions where server = %s and boot = %s and status = 'processing'
                    and beat_at is not null order by job_id""",
                (server, boot),
            )
            return await cursor.fetchall()

    async def left_by_earlier_boots(self, server: str, boot: str) -> list[tuple[str, int]]:
        """Return ids and jobs of the predictions that this server ran before it was restarted: they are lost."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select id, job_id from predictions
                   where status = 'processing' and beat_at is not null and server = %s and boot != %s""",
                (server, boot),
            )
            return [(row[0], row[1]) for row in await found.fetchall()]

    async def over(self, cog_ids: Sequence[str]) -> list[str]:
        """Return the attempts that have ended or were lost. Those of another database are unknown here."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                f"""select cog_id from unnest(%s::text[]) as attempts (cog_id)
                    join predictions p on p.id = split_part(cog_id, '-', 1)
                    where p.{HAS_ENDED} or p.job_id::text != split_part(cog_id, '-', 2)""",
                (list(cog_ids),),
            )
            return [cog_id for (cog_id,) in await found.fetchall()]

    async def report_health(self, server: str, queue: str, health: str) -> None:
        """Store a Cog server's health; workers report it every few seconds."""
        async with self._database.transaction() as connection:
            await connection.execute(
                """insert into servers (name, queue, health) values (%s, %s, %s)
                   on conflict (name) do update set
                   queue = excluded.queue, health = excluded.health, seen_at = now()""",
                (server, queue, health),
            )

    async def fail_queued(self, server: str, queue: str, older_than_s: float, outcome: Outcome) -> int:
        """Fail the predictions that have waited in a queue for longer than this, and return how many.

        A worker calls this while its server's setup fails, because nothing else would end these predictions. They
        are kept while another server of the queue is healthy.
        """
        async with self._database.transaction() as connection:
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""select {COLUMNS} from predictions p
                        where queue = %(queue)s and {IS_LIVE} and beat_at is null
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
                # False if a worker has just fetched it: then that worker runs it.
                jobs = self._database.procrastinate.job_manager
                if await jobs.cancel_job_by_id_async(row.job_id, connection=connection):
                    await end(self._database, connection, row, outcome, self._links)
                    count += 1
        return count

    async def finish_job(self, job_id: int) -> None:
        """Delete a job that was run. Whatever is left to do stands in the prediction's row."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "delete from procrastinate_jobs where id = %s and status in ('todo', 'doing')", (job_id,)
            )
