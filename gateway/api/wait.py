"""Wait for a prediction's changes or its end."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator

from gateway.prediction import Prediction
from gateway.record import Record
from gateway.record.database import UNAVAILABLE
from gateway.tasks import first

logger = logging.getLogger(__name__)

# How often a row is read even without a notice: rarely, because hundreds may wait, and at random, so that they don't
# all read at the same moment.
READ_INTERVAL_S = (4.0, 8.0)
RETRY_S = 1.0  # between reads while the database can't be reached


async def states(
    record: Record, prediction_id: str, stopping: asyncio.Event, limit_s: float
) -> AsyncIterator[Prediction]:
    """Yield a prediction now and after each change, until it ends, `limit_s` is over, or the gateway shuts down.

    Yields nothing for a prediction that doesn't exist. Retries while the database can't be reached.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limit_s
    with record.notices.watch(prediction_id) as watch:  # before the first read, so that nothing is missed
        while True:
            row, pause_s = await _read(record, prediction_id)
            if row:
                yield row
            left_s = until_s - loop.time()
            if not pause_s or left_s <= 0 or stopping.is_set():
                return
            await first(watch.changed(min(left_s, pause_s)), stopping.wait())


async def _read(record: Record, prediction_id: str) -> tuple[Prediction | None, float]:
    """Return a prediction, and in how many seconds to read it again: 0 if it won't change any more."""
    try:
        row = await record.predictions.get(prediction_id)
    except UNAVAILABLE as error:
        logger.warning(
            "can't read a prediction; retrying", extra={"prediction": prediction_id, "error": str(error).strip()}
        )
        return None, RETRY_S
    if row is None or row.status.ended:
        return row, 0
    return row, random.uniform(*READ_INTERVAL_S)  # noqa: S311 (no secret)


async def wait_for_end(record: Record, row: Prediction, stopping: asyncio.Event, wait_s: float) -> Prediction:
    """Return a prediction when it has ended, or as it is after `wait_s`.

    The prediction is stored, so no error may reach the client any more; it would create a second one
    (docs/clients.md#retries-of-a-create). states() raises nothing while the database can't be reached.
    """
    latest = row
    async for state in states(record, row.id, stopping, wait_s):
        latest = state
    return latest
