"""The clients' queries: create, get, list and cancel predictions."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from psycopg.types.json import Json as AsJson

from gateway.links import Links
from gateway.prediction import Json, NewPrediction, Outcome, Page, Position, Prediction, Status
from gateway.record.database import (
    COLUMNS,
    IS_LIVE,
    UNAVAILABLE,
    Connection,
    Database,
    input_file_entry,
    prediction_row,
    random_id,
)
from gateway.record.end import end
from gateway.record.jobs import defer_attempt, defer_expiry
from gateway.record.uploads import bind_uploads

logger = logging.getLogger(__name__)

COMMIT_CHECK_S = 10.0  # how long a create whose commit got no answer tries to find out whether it was stored


class NotStoredError(RuntimeError):
    """A create failed and, as far as can be known, stored nothing, so the client may retry it."""


class QueueFullError(RuntimeError):
    """The owner has as many live predictions as allowed; nothing was stored."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"you have {limit} unfinished predictions, which is the limit")


class Predictions:
    """Create, read and cancel predictions for their owners."""

    def __init__(self, database: Database, links: Links) -> None:
        self._database = database
        self._links = links

    async def create(self, new: NewPrediction, live_limit: int | None = None) -> Prediction:
        """Store a prediction and queue its first attempt, in one transaction.

        Args:
            new: The verified request.
            live_limit: About how many live predictions the owner may have: of two concurrent creates, both may
                take the last place.

        Raises:
            QueueFullError: The owner has reached the limit.
            NotStoredError: The database can't be reached.
        """
        # Clients must never choose the id: coglet makes a folder with this name.
        prediction_id = random_id()
        try:
            async with self._database.transaction() as connection:
                if live_limit is not None and await _live(connection, new.owner, live_limit) >= live_limit:
                    raise QueueFullError(live_limit)
                return await self._insert(connection, prediction_id, new)
        except UNAVAILABLE as error:
            # The COMMIT may have succeeded and only its answer been lost. A 503 would then make the client create
            # a second prediction, so check first.
            stored = await self._check_commit(prediction_id)
            if stored is None:
                raise NotStoredError("the database can't be reached; nothing was stored") from error
            return stored

    async def get(self, prediction_id: str, owner: int | None = None) -> Prediction | None:
        """Return a prediction, or None if it doesn't exist or belongs to another owner. Owner None: any owner's."""
        async with self._database.predictions() as cursor:
            await cursor.execute(
                f"select {COLUMNS} from predictions where id = %s and (%s::bigint is null or owner = %s)",
                (prediction_id, owner, owner),
            )
            return await cursor.fetchone()

    async def chunks(self, prediction_id: str, start: int = 0) -> list[Json]:
        """Return the items of a running iterator's output, from number `start` on."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                "select value from chunks where id = %s and number >= %s order by number", (prediction_id, start)
            )
            return [value for (value,) in await found.fetchall()]

    async def with_output(self, row: Prediction) -> Prediction:
        """Return a prediction with the output so far, if it runs and produces an iterator."""
        if row.status is not Status.PROCESSING:
            return row
        return replace(row, output=await self.chunks(row.id) or None)

    async def queue_position(self, row: Prediction) -> int | None:
        """Return a prediction's position in its queue, from 1, or None once it has started."""
        if row.status is not Status.STARTING:
            return None
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select count(*) from predictions
                   where queue = %s and status = 'starting' and (created_at, id) <= (%s, %s)""",
                (row.queue, row.created_at, row.id),
            )
            first = await found.fetchone()
        return max(int(first[0]), 1) if first else None

    async def page(
        self,
        owner: int,
        *,
        older_than: Position | None = None,
        newer_than: Position | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 100,
    ) -> Page:
        """List an owner's predictions, newest first.

        Args:
            owner: The token's id.
            older_than: Start after this position. Excludes newer_than.
            newer_than: End before this position.
            created_after: The earliest creation time, inclusive.
            created_before: The latest creation time, exclusive.
            limit: The most predictions on a page.
        """
        upwards = newer_than is not None
        start = newer_than or older_than
        order = "asc" if upwards else "desc"
        query = f"""
            select {COLUMNS} from predictions where owner = %(owner)s
            {f"and (created_at, id) {'>' if upwards else '<'} (%(at)s, %(id)s)" if start else ""}
            {"and created_at >= %(after)s" if created_after else ""}
            {"and created_at < %(before)s" if created_before else ""}
            order by created_at {order}, id {order} limit %(limit)s"""
        arguments = {
            "owner": owner,
            "at": start.created_at if start else None,
            "id": start.id if start else None,
            "after": created_after,
            "before": created_before,
            "limit": limit + 1,
        }
        async with self._database.predictions() as cursor:
            await cursor.execute(query, arguments)
            rows = await cursor.fetchall()
        return _page(rows, limit, upwards, start is not None)

    async def cancel(self, prediction_id: str, owner: int | None = None) -> Prediction | None:
        """Cancel a prediction: a queued one ends now, a running one is asked to stop, an ended one stays as it is.

        Returns:
            The prediction after that, or None if it doesn't exist or belongs to another owner.
        """
        async with self._database.transaction() as connection:
            row = await _locked(connection, prediction_id, owner)
            if row is None or row.status.ended:
                return row
            # Not with abort=True, which raises CancelledError in the worker at any await, a database write
            # included. The notice below tells the worker, which then stops in its own time.
            jobs = self._database.procrastinate.job_manager
            if await jobs.cancel_job_by_id_async(row.job_id, connection=connection):
                return await end(self._database, connection, row, Outcome(Status.CANCELED), self._links)
            async with connection.cursor(row_factory=prediction_row) as cursor:
                await cursor.execute(
                    f"""update predictions set cancel_requested_at = coalesce(cancel_requested_at, now())
                        where id = %s returning {COLUMNS}""",
                    (prediction_id,),
                )
                changed = await cursor.fetchone()
            await connection.execute("select pg_notify('prediction', %s)", (prediction_id,))
            return changed

    async def _insert(self, connection: Connection, prediction_id: str, new: NewPrediction) -> Prediction:
        app = self._database.procrastinate
        job_id = await defer_attempt(app, connection, new.queue, prediction_id)
        async with connection.cursor(row_factory=prediction_row) as cursor:
            await cursor.execute(
                f"""insert into predictions
                    (id, owner, model, version, deployment, queue, base_url, input, input_files, logs,
                    webhook, webhook_events, job_id, deadline)
                    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s) returning {COLUMNS}""",
                (
                    prediction_id,
                    new.owner,
                    new.model,
                    new.version,
                    new.deployment,
                    new.queue,
                    new.base_url,
                    AsJson(new.input, dumps=json.dumps),
                    AsJson([input_file_entry(named) for named in new.input_files]),
                    new.logs,
                    new.webhook,
                    list(new.webhook_events),
                    job_id,
                    None if new.cancel_after_s is None else timedelta(seconds=new.cancel_after_s),
                ),
            )
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - an insert returns its row or raises
        if new.uploads:
            await bind_uploads(connection, new.uploads, prediction_id)
        if new.secret_inputs:
            await connection.execute(
                "insert into secret_inputs (id, value) values (%s, %s)", (prediction_id, new.secret_inputs)
            )
        if row.deadline:
            await defer_expiry(app, connection, prediction_id, row.deadline)
        return row

    async def _check_commit(self, prediction_id: str) -> Prediction | None:
        """Read until the database answers, for COMMIT_CHECK_S at most."""
        until = asyncio.get_running_loop().time() + COMMIT_CHECK_S
        while asyncio.get_running_loop().time() < until:
            try:
                return await self.get(prediction_id)
            except UNAVAILABLE:
                logger.warning(
                    "no answer to a commit, nor to the read that checks it", extra={"prediction": prediction_id}
                )
                await asyncio.sleep(0.2)
        return None


async def _live(connection: Connection, owner: int, limit: int) -> int:
    """Count an owner's live predictions, up to the limit."""
    found = await connection.execute(
        f"select count(*) from (select 1 from predictions where owner = %s and {IS_LIVE} limit %s) as live",
        (owner, limit),
    )
    row = await found.fetchone()
    return int(row[0]) if row else 0


async def _locked(connection: Connection, prediction_id: str, owner: int | None) -> Prediction | None:
    async with connection.cursor(row_factory=prediction_row) as cursor:
        await cursor.execute(
            f"""select {COLUMNS} from predictions where id = %s and (%s::bigint is null or owner = %s)
                for update""",
            (prediction_id, owner, owner),
        )
        return await cursor.fetchone()


def _page(rows: Sequence[Prediction], limit: int, upwards: bool, has_start: bool) -> Page:
    more = len(rows) > limit
    shown = list(rows[:limit])
    if upwards:
        shown.reverse()
    if not shown:
        return Page((), None, None)
    first, last = (Position(row.created_at, row.id) for row in (shown[0], shown[-1]))
    return Page(
        tuple(shown),
        newer=first if (more if upwards else has_start) else None,
        older=last if (True if upwards else more) else None,
    )
