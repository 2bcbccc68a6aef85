"""Wait for a prediction's end, or for anything new of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from gateway.record import UNAVAILABLE, Prediction, Record

READ_AGAIN_S = 2.0  # a row is read so often even without a notice of the database's


async def states(
    record: Record, prediction_id: str, stopping: asyncio.Event, limit_s: float
) -> AsyncIterator[Prediction]:
    """Yield a prediction now and after each change, up to its end, the limit, or the gateway's own end.

    Ends without a word for one that doesn't exist, or while the database doesn't answer.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limit_s
    stop = asyncio.create_task(stopping.wait())
    try:
        with record.changes.watch(prediction_id) as watch:  # from before the first read: nothing is missed
            while True:
                row = await record.predictions.get(prediction_id)
                if row is None:
                    return
                yield row
                left_s = until_s - loop.time()
                if row.status.ended or left_s <= 0 or stopping.is_set():
                    return
                changed = asyncio.create_task(watch.changed(min(left_s, READ_AGAIN_S)))
                try:
                    await asyncio.wait({changed, stop}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
    finally:
        stop.cancel()


async def ended(record: Record, row: Prediction, stopping: asyncio.Event, wait_s: float) -> Prediction:
    """Return a prediction as it is at its end, or when the wait runs out."""
    latest = row
    # Trap 13: it is stored, so nothing that happens now may become an error of the create.
    with suppress(*UNAVAILABLE):
        async for state in states(record, row.id, stopping, wait_s):
            latest = state
    return latest
