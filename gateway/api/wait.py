"""Wait for a prediction's end, or for anything new of it."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator

from gateway.record import UNAVAILABLE, Prediction, Record
from gateway.tasks import first

logger = logging.getLogger(__name__)

# A row is read so often even without a notice: rarely, since hundreds may wait, and not all at the same moment.
READ_AGAIN_S = (4.0, 8.0)
AWAY_S = 1.0  # the pause between reads while the database is away


async def states(
    record: Record, prediction_id: str, stopping: asyncio.Event, limit_s: float
) -> AsyncIterator[Prediction]:
    """Yield a prediction now and after each change, up to its end, the limit, or the gateway's own end.

    Ends without a word for one that doesn't exist. Goes on over a database that is away for a while.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limit_s
    with record.changes.watch(prediction_id) as watch:  # from before the first read: nothing is missed
        while True:
            row, pause_s = await _read(record, prediction_id)
            if row:
                yield row
            left_s = until_s - loop.time()
            if not pause_s or left_s <= 0 or stopping.is_set():
                return
            await first(watch.changed(min(left_s, pause_s)), stopping.wait())


async def _read(record: Record, prediction_id: str) -> tuple[Prediction | None, float]:
    """Return a prediction, and when to read it again without a notice: 0 if it will not change any more."""
    try:
        row = await record.predictions.get(prediction_id)
    except UNAVAILABLE as error:
        logger.warning("can't read", extra={"prediction": prediction_id, "error": str(error).strip()})
        return None, AWAY_S
    if row is None or row.status.ended:
        return row, 0
    return row, random.uniform(*READ_AGAIN_S)  # noqa: S311 (no secret)


async def ended(record: Record, row: Prediction, stopping: asyncio.Event, wait_s: float) -> Prediction:
    """Return a prediction as it is at its end, or when the wait runs out.

    Trap 13: it is stored, so nothing that happens now may become an error of the create; states() raises nothing
    while the database is away.
    """
    latest = row
    async for state in states(record, row.id, stopping, wait_s):
        latest = state
    return latest
