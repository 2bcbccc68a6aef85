"""The sweep: each second, in every gateway and worker, whatever was lost is queued again or ended."""

import asyncio
import itertools
import logging

from gateway.record import UNAVAILABLE, Record

logger = logging.getLogger(__name__)

EVERY_S = 1.0
TIDY_EVERY = 10  # sweeps


async def run_forever(record: Record, every_s: float = EVERY_S) -> None:
    """Sweep until cancelled; of all that run, one at a time does."""
    for number in itertools.count():
        try:
            if swept := await record.lost.sweep():
                logger.info("swept", extra={"requeued": swept.requeued, "ended": swept.ended})
            if number % TIDY_EVERY == 0 and (count := await record.lost.tidy()):
                logger.info("tidied", extra={"jobs": count})
        except UNAVAILABLE as error:
            logger.warning("no sweep", extra={"error": str(error).strip()})
        await asyncio.sleep(every_s)
