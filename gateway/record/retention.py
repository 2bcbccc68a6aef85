"""Retention: inputs, outputs, logs and files are removed after a while. The rows stay."""

import logging
from datetime import timedelta

from gateway.record.database import HAS_ENDED, Database, file_from
from gateway.record.files import Files

logger = logging.getLogger(__name__)

FINISHED_JOBS_H = 1  # procrastinate's finished jobs are kept this long
_BATCH = 500


class Retention:
    """Remove old data, and files that belong to no prediction."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    async def remove(self, older_than_s: float) -> int:
        """Remove the data of predictions that ended this long ago, and return how many. Safe to run concurrently."""
        count = 0
        while done := await self._remove_some(older_than_s):
            count += done
        return count

    async def sweep_files(self) -> int:
        """Delete the stored files that an ended prediction doesn't name, and return how many.

        A worker leaves them behind if it dies, or loses its attempt, between storing files and writing the end. The
        files of a live prediction stay, because its end may be about to name them. Files of an unknown prediction
        stay too: they belong to another database.
        """
        stored = await self._files.by_prediction()
        if not stored:
            return 0
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                f"select id, files from predictions where id = any(%s) and {HAS_ENDED}", (list(stored),)
            )
            ended = {row[0]: {file_from(entry).key for entry in row[1]} for row in await found.fetchall()}
        left = [key for id_, known in ended.items() for key in stored[id_] if key not in known]
        await self._files.delete(left)
        if left:
            logger.info("deleted files that belong to no prediction", extra={"count": len(left)})
        return len(left)

    async def delete_old_rows(self) -> None:
        """Delete finished jobs and servers that have not been seen for long."""
        async with self._database.transaction() as connection:
            await connection.execute("delete from servers where seen_at < now() - interval '1 day'")
        await self._database.procrastinate.job_manager.delete_old_jobs(
            FINISHED_JOBS_H, include_failed=True, include_cancelled=True, include_aborted=True
        )

    async def _remove_some(self, older_than_s: float) -> int:
        async with self._database.transaction() as connection:
            found = await connection.execute(
                """with old as (
                       select id, files from predictions
                       where not data_removed and completed_at < now() - %s
                       -- an owed webhook keeps its prediction: its body names the files
                       and not exists (select 1 from deliveries d where d.id = predictions.id and d.done_at is null)
                       order by completed_at limit %s for update skip locked),
                   bodies as (delete from deliveries d using old where d.id = old.id),
                   -- the sweep of the uploads deletes their files
                   inputs as (update files f set state = 'deleted' from old where f.prediction = old.id)
                   update predictions p set data_removed = true, input = '{}', input_files = '[]', output = null,
                   files = '[]', logs = '' from old where p.id = old.id returning old.files""",
                (timedelta(seconds=older_than_s), _BATCH),
            )
            rows = await found.fetchall()
        # After the commit: a crash in between leaves files that sweep_files finds, not a row whose files are gone.
        await self._files.delete([file_from(entry).key for (files,) in rows for entry in files])
        return len(rows)
