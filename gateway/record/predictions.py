"""What clients do with predictions: create, get, list, cancel."""

import asyncio
import json
import logging
import secrets
from base64 import b32encode
from collections.abc import Sequence
from datetime import datetime, timedelta

from psycopg.types.json import Json as AsJson

from gateway.record import ending
from gateway.record.columns import COLUMNS, prediction_row
from gateway.record.database import UNAVAILABLE, Connection, Database
from gateway.record.engine import defer_attempt, defer_expiry
from gateway.record.rows import Body, NewPrediction, Outcome, Page, Position, Prediction
from gateway.record.statuses import Status

logger = logging.getLogger(__name__)

READ_AGAIN_S = 10.0  # how long a create whose commit got no answer tries to learn what became of it


class NotStoredError(RuntimeError):
    """Report a create of which nothing was stored, as far as can be known: the client may send it again."""


class QueueFullError(RuntimeError):
    """Report an owner who has as many live predictions as are allowed; nothing was stored."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"you have {limit} predictions that have not ended, but at most {limit} are allowed")


class Predictions:
    """The predictions as their owners see them."""

    def __init__(self, database: Database, body: Body) -> None:
        self._database = database
        self._body = body

    async def create(self, new: NewPrediction, live_limit: int | None = None) -> Prediction:
        """Store a prediction and queue its first attempt, in one transaction.

        live_limit: how many live ones the owner may have, about: two creates at once may both take the last place.
        Raises QueueFullError, NotStoredError.
        """
        # coglet makes a folder of this name: never let clients choose it.
        prediction_id = b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
        try:
            async with self._database.transaction() as connection:
                if live_limit is not None and await _live(connection, new.owner, live_limit) >= live_limit:
                    raise QueueFullError(live_limit)
                return await self._insert(connection, prediction_id, new)
        except UNAVAILABLE as error:
            # The COMMIT may have been done and only its answer lost. Answering 503 then would make the client
            # create a second one, so look.
            stored = await self._read_again(prediction_id)
            if stored is None:
                raise NotStoredError("the database can't be reached; nothing was stored") from error
            return stored

    async def get(self, prediction_id: str, owner: int | None = None) -> Prediction | None:
        """Return a prediction, or None where it doesn't exist or isn't the owner's (None: anybody's)."""
        async with self._database.pool.connection() as connection, connection.cursor(row_factory=prediction_row) as c:
            await c.execute(
                f"select {COLUMNS} from predictions where id = %s and (%s::bigint is null or owner = %s)",
                (prediction_id, owner, owner),
            )
            return await c.fetchone()

    async def place(self, row: Prediction) -> int | None:
        """Return which place a prediction has among those that wait in its queue, from 1; None once it has begun."""
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
        """List an owner's predictions, newest first: those beside a position, or the newest.

        created_after is inclusive, created_before exclusive. Give older_than or newer_than, not both.
        """
        upwards = newer_than is not None
        beside = newer_than or older_than
        order = "asc" if upwards else "desc"
        query = f"""
            select {COLUMNS} from predictions where owner = %(owner)s
            {f"and (created_at, id) {'>' if upwards else '<'} (%(at)s, %(id)s)" if beside else ""}
            {"and created_at >= %(after)s" if created_after else ""}
            {"and created_at < %(before)s" if created_before else ""}
            order by created_at {order}, id {order} limit %(limit)s"""
        arguments = {
            "owner": owner,
            "at": beside.created_at if beside else None,
            "id": beside.id if beside else None,
            "after": created_after,
            "before": created_before,
            "limit": limit + 1,
        }
        async with self._database.pool.connection() as connection, connection.cursor(row_factory=prediction_row) as c:
            await c.execute(query, arguments)
            rows = await c.fetchall()
        return _page(rows, limit, upwards, beside is not None)

    async def cancel(self, prediction_id: str, owner: int | None = None) -> Prediction | None:
        """Cancel: a queued prediction ends now, of a running one it is asked, an ended one stays as it is.

        Returns the prediction as it is then, or None where it doesn't exist or isn't the owner's.
        """
        async with self._database.transaction() as connection:
            row = await _locked(connection, prediction_id, owner)
            if row is None or row.status.ended:
                return row
            # Not with abort=True: the worker hears of the request by the notice below, in its own time. An abort
            # arrives as a CancelledError at any await, a database write among them.
            queued = await self._database.engine.job_manager.cancel_job_by_id_async(row.job_id, connection=connection)
            if queued:
                return await ending.end(self._database, connection, row, Outcome(Status.CANCELED), self._body)
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
        engine = self._database.engine
        job_id = await defer_attempt(engine, connection, new.queue, prediction_id)
        async with connection.cursor(row_factory=prediction_row) as cursor:
            await cursor.execute(
                f"""insert into predictions
                    (id, owner, model, version, queue, base_url, input, webhook, webhook_events, job_id, deadline)
                    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s) returning {COLUMNS}""",
                (
                    prediction_id,
                    new.owner,
                    new.model,
                    new.version,
                    new.queue,
                    new.base_url,
                    AsJson(new.input, dumps=json.dumps),
                    new.webhook,
                    list(new.webhook_events),
                    job_id,
                    None if new.cancel_after_s is None else timedelta(seconds=new.cancel_after_s),
                ),
            )
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - an insert returns its row or raises
        if row.deadline:
            await defer_expiry(engine, connection, prediction_id, row.deadline)
        return row

    async def _read_again(self, prediction_id: str) -> Prediction | None:
        """Read until the database answers, for some seconds."""
        until = asyncio.get_running_loop().time() + READ_AGAIN_S
        while asyncio.get_running_loop().time() < until:
            try:
                return await self.get(prediction_id)
            except UNAVAILABLE:
                logger.warning("no answer to a commit, and none to the read", extra={"prediction": prediction_id})
                await asyncio.sleep(0.2)
        return None


async def _live(connection: Connection, owner: int, limit: int) -> int:
    """Count an owner's live predictions, as far as the limit."""
    found = await connection.execute(
        """select count(*) from (select 1 from predictions
           where owner = %s and status in ('starting', 'processing') limit %s) as live""",
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


def _page(rows: Sequence[Prediction], limit: int, upwards: bool, began_beside: bool) -> Page:
    more = len(rows) > limit
    shown = list(rows[:limit])
    if upwards:
        shown.reverse()
    if not shown:
        return Page((), None, None)
    first, last = (Position(row.created_at, row.id) for row in (shown[0], shown[-1]))
    return Page(
        tuple(shown),
        newer=first if (more if upwards else began_beside) else None,
        older=last if (True if upwards else more) else None,
    )
