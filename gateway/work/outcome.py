"""Keep an attempt alive, and write its outcome into the record."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import TypeAlias

from obstore.exceptions import BaseError as StoreError

from gateway.prediction import Attempt, Outcome, Prediction, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, until_stored
from gateway.tasks import end
from gateway.work.callbacks import AttemptWebhooks
from gateway.work.coglet import Coglet, Report
from gateway.work.streaming import OutputSoFar
from gateway.work.timeouts import Timeouts

logger = logging.getLogger(__name__)


class Interruption(StrEnum):
    """Why an attempt has no report."""

    LOST = "lost"  # the server lost it; it counts as an attempt
    NOT_STARTED = "not started"  # the server never ran it; it doesn't count
    STOPPED = "stopped"  # worker and server were stopped together; it doesn't count
    TAKEN_OVER = "taken over"  # another worker has it now


Result: TypeAlias = Report | Interruption


class OutcomeWriter:
    """Write heartbeats and outcomes of attempts."""

    def __init__(self, record: Record, coglet: Coglet, timeouts: Timeouts) -> None:
        self._record = record
        self._coglet = coglet
        self._timeouts = timeouts
        self.draining = asyncio.Event()  # set when the worker begins to shut down

    async def beat(self, attempt: Attempt) -> Result:
        """Write heartbeats, also while the worker drains, until another worker takes the attempt over."""
        while True:
            await self._pause()
            try:
                if not await self._record.attempts.beat(attempt, draining=self.draining.is_set()):
                    return Interruption.TAKEN_OVER
            except UNAVAILABLE as error:
                logger.warning(
                    "can't write a heartbeat; retrying", extra={"prediction": attempt.id, "error": str(error).strip()}
                )

    async def _pause(self) -> None:
        """Wait for the next heartbeat, which is due at once when the worker begins to shut down."""
        if self.draining.is_set():
            await asyncio.sleep(self._timeouts.beat_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.beat_s):
                await self.draining.wait()

    async def write(
        self, attempt: Attempt, row: Prediction, result: Result, webhooks: AttemptWebhooks, output: OutputSoFar
    ) -> None:
        """End the prediction, or queue it again."""
        if isinstance(result, Report) and not result.infrastructure:
            webhooks.settle(await self._end(attempt, row.logs, result, output))
        elif result is Interruption.TAKEN_OVER:
            logger.warning("another worker has taken the attempt over", extra={"prediction": attempt.id})
            await self._coglet.cancel(attempt.cog_id)
            webhooks.settle(False)
        elif result in (Interruption.NOT_STARTED, Interruption.STOPPED):
            await until_stored(lambda: self._record.attempts.give_back(attempt))
        else:
            await until_stored(lambda: self._record.sweep.give_up(attempt.id, attempt.job_id))
            webhooks.settle(True)
        if result is not Interruption.TAKEN_OVER:  # then it may still run
            await self._coglet.clean_up(attempt.cog_id)

    async def _end(self, attempt: Attempt, earlier_logs: str, report: Report, output: OutputSoFar) -> bool:
        outcome = await self._outcome(attempt, earlier_logs, report, output)
        keys = [file.key for file in outcome.files]
        while True:
            try:
                ended = await self._record.attempts.end(attempt, outcome)
            except UNAVAILABLE as error:
                logger.warning(
                    "can't write the outcome; retrying", extra={"prediction": attempt.id, "error": str(error).strip()}
                )
                await asyncio.sleep(self._timeouts.poll_s)
                continue
            if ended is not None:
                return True
            # Another process ended it, or our commit succeeded and its answer was lost: then the row names the files.
            row = await until_stored(lambda: self._record.predictions.get(attempt.id))
            if row and row.status.ended and row.job_id == attempt.job_id and row.files == outcome.files:
                return True
            await self._record.files.delete(keys)
            return False

    async def _outcome(self, attempt: Attempt, earlier_logs: str, report: Report, output: OutputSoFar) -> Outcome:
        outcome = Outcome(
            report.status,
            logs=storable(earlier_logs + report.logs),
            error=None if report.error is None else storable(report.error),
            metrics=report.metrics,
        )
        if report.status is not Status.SUCCEEDED and not output.values and not isinstance(report.output, list):
            return outcome
        beating = asyncio.create_task(self.beat(attempt))  # large outputs on a slow store take a while
        try:
            for tries in range(1, self._timeouts.store_tries + 1):
                try:
                    stored = await output.complete(report.output)
                    return replace(outcome, output=stored.output, files=stored.files)
                except (StoreError, OSError) as error:
                    logger.warning(
                        "can't store the output; retrying", extra={"prediction": attempt.id, "error": str(error)}
                    )
                    if tries < self._timeouts.store_tries:
                        await asyncio.sleep(tries)
                    else:
                        message = f"The output could not be stored: {type(error).__name__}"
                        return replace(outcome, status=Status.FAILED, error=message)
        finally:
            await end(beating)
        raise AssertionError("the loop returns")


def storable(text: str) -> str:
    """Return text that PostgreSQL can store: NUL and lone surrogates become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
