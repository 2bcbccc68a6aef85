"""What is forgotten after a while: inputs, outputs, logs, files. The rows stay."""

import logging
from datetime import timedelta

from gateway.record.columns import file_from
from gateway.record.database import Database
from gateway.record.files import Files

logger = logging.getLogger(__name__)

ENGINE_HOURS = 1  # procrastinate's finished jobs are kept so long
_AT_ONCE = 500


class Retention:
    """Remove old data, and files that no prediction has."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    async def remove(self, older_than_s: float) -> int:
        """Remove the data of predictions that ended so long ago, and return how many. Any number may call at once."""
        count = 0
        while done := await self._remove_some(older_than_s):
            count += done
        return count

    async def sweep_files(self) -> int:
        """Delete the stored files that an ended prediction doesn't have, and return how many.

        They are left by a worker that died, or was taken over, between storing its files and writing the end. While
        a prediction is live its files may be about to be named, so they stay. A file of an unknown prediction stays
        too: it is another database's.
        """
        stored = await self._files.by_prediction()
        if not stored:
            return 0
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select id, files from predictions
                   where id = any(%s) and status in ('succeeded', 'failed', 'canceled')""",
                (list(stored),),
            )
            ended = {row[0]: {file_from(entry).key for entry in row[1]} for row in await found.fetchall()}
        left = [key for id_, known in ended.items() for key in stored[id_] if key not in known]
        await self._files.delete(left)
        if left:
            logger.info("deleted files that no prediction has", extra={"count": len(left)})
        return len(left)

    async def delete_old_rows(self) -> None:
        """Delete procrastinate's rows of jobs that finished long ago, and servers that are gone."""
        async with self._database.transaction() as connection:
            await connection.execute("delete from servers where seen_at < now() - interval '1 day'")
        await self._database.engine.job_manager.delete_old_jobs(
            ENGINE_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
        )

    async def _remove_some(self, older_than_s: float) -> int:
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """with old as (
                       select id, files from predictions
                       where not data_removed and completed_at < now() - %s
                       -- what is still owed to a webhook is kept: its body names the files
                       and not exists (select 1 from deliveries d where d.id = predictions.id and d.done_at is null)
                       order by completed_at limit %s for update skip locked),
                   bodies as (delete from deliveries d using old where d.id = old.id)
                   update predictions p set data_removed = true, input = '{}', output = null, files = '[]', logs = ''
                   from old where p.id = old.id returning old.files""",
                (timedelta(seconds=older_than_s), _AT_ONCE),
            )
            rows = await found.fetchall()
        # After the commit: a crash in between leaves files that sweep_files finds, never a row whose files are gone.
        await self._files.delete([file_from(entry).key for (files,) in rows for entry in files])
        return len(rows)
