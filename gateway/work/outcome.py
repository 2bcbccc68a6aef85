"""Keep an attempt alive, and write its end into the record."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import TypeAlias, TypeVar

from obstore.exceptions import BaseError as StoreError

from gateway.record import UNAVAILABLE, Attempt, Outcome, Prediction, Record, Status
from gateway.tasks import end
from gateway.work.callbacks import Inbox
from gateway.work.coglet import Coglet, Report
from gateway.work.outputs import store
from gateway.work.patience import Patience

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Loss(StrEnum):
    """Name why an attempt has no outcome."""

    LOST = "lost"  # the server lost it: it counts as an attempt
    NOT_BEGUN = "not begun"  # the server never ran it: it doesn't
    TAKEN_OVER = "taken over"  # it is another worker's now


Verdict: TypeAlias = Report | Loss


class Conclusion:
    """The end of attempts, whatever it is."""

    def __init__(self, record: Record, coglet: Coglet, patience: Patience) -> None:
        self._record = record
        self._coglet = coglet
        self._patience = patience

    async def beat(self, attempt: Attempt) -> Verdict:
        """Keep the attempt alive, also while the worker drains, until it is taken over."""
        while True:
            await asyncio.sleep(self._patience.beat_s)
            try:
                if not await self._record.attempts.beat(attempt):
                    return Loss.TAKEN_OVER
            except UNAVAILABLE as error:
                logger.warning("no heartbeat", extra={"prediction": attempt.id, "error": str(error).strip()})

    async def conclude(self, attempt: Attempt, row: Prediction, verdict: Verdict, inbox: Inbox) -> None:
        """Write the end, or give the attempt back."""
        if isinstance(verdict, Report) and not verdict.infrastructure:
            inbox.settle(await self._end(attempt, row.logs, verdict))
        elif verdict is Loss.TAKEN_OVER:
            logger.warning("taken over by another worker", extra={"prediction": attempt.id})
            await self._coglet.cancel(attempt.cog_id)
            inbox.settle(False)
        elif verdict is Loss.NOT_BEGUN:
            await until_stored(lambda: self._record.attempts.give_back(attempt))
        else:
            await until_stored(lambda: self._record.lost.give_up(attempt.id, attempt.job_id))
            inbox.settle(True)

    async def _end(self, attempt: Attempt, earlier_logs: str, report: Report) -> bool:
        outcome = await self._outcome(attempt, earlier_logs, report)
        keys = [file.key for file in outcome.files]
        while True:
            try:
                ended = await self._record.attempts.end(attempt, outcome)
            except UNAVAILABLE as error:
                logger.warning("the end waits", extra={"prediction": attempt.id, "error": str(error).strip()})
                await asyncio.sleep(self._patience.poll_s)
                continue
            if ended is not None:
                return True
            # Ended by somebody else, or by us when the answer to the commit was lost: then the files are in the row.
            row = await until_stored(lambda: self._record.predictions.get(attempt.id))
            if row and row.status.ended and row.job_id == attempt.job_id and row.files == outcome.files:
                return True
            await self._record.files.delete(keys)
            return False

    async def _outcome(self, attempt: Attempt, earlier_logs: str, report: Report) -> Outcome:
        outcome = Outcome(
            report.status,
            logs=storable(earlier_logs + report.logs),
            error=None if report.error is None else storable(report.error),
            metrics=report.metrics,
        )
        if report.status is not Status.SUCCEEDED:
            return outcome
        beating = asyncio.create_task(self.beat(attempt))  # large outputs on a slow store take their time
        try:
            for tries in range(1, self._patience.store_tries + 1):
                try:
                    stored = await store(report.output, self._record.files, attempt.id)
                    return replace(outcome, output=stored.output, files=stored.files)
                except (StoreError, OSError) as error:
                    logger.warning("can't store the output", extra={"prediction": attempt.id, "error": str(error)})
                    if tries < self._patience.store_tries:
                        await asyncio.sleep(tries)
                    else:
                        told = f"The output could not be stored: {type(error).__name__}"
                        return replace(outcome, status=Status.FAILED, error=told)
        finally:
            await end(beating)
        raise AssertionError("the loop returns")


def storable(text: str) -> str:
    """Return text that PostgreSQL keeps: NUL and lone surrogates, which it refuses, become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def until_stored(call: Callable[[], Awaitable[T]], pause_s: float = 0.5) -> T:
    """Call until the database answers. A commit may be done though its answer is lost: the call must bear twice."""
    while True:
        try:
            return await call()
        except UNAVAILABLE as error:
            logger.warning("waiting for the database", extra={"error": str(error).strip()})
            await asyncio.sleep(pause_s)
