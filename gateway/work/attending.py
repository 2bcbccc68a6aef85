"""Attend to one attempt: from its start on the Cog server to its end in the record."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from obstore.exceptions import BaseError as StoreError

from gateway.record import UNAVAILABLE, Attempt, JsonObject, Outcome, Prediction, Record, Status
from gateway.record.changes import Watch
from gateway.work.callbacks import Callbacks, Inbox
from gateway.work.coglet import Coglet, RefusedError, Report, Start, State
from gateway.work.outputs import store

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a worker waits for what."""

    beat_s: float = 3.0  # between heartbeats
    poll_s: float = 1.0  # between looks at a server's health
    lost_s: float = 10.0  # idle for so long without a terminal webhook: the attempt is lost
    gone_s: float = 3.0  # nothing listens for so long: the server is gone
    silent_s: float = 60.0  # no answer for so long: it hangs
    cancel_s: float = 30.0  # a cancel unheeded for so long: the server is shut down
    busy_s: float = 15.0  # a server stays busy for so long after an end at most
    stuck_s: float = 600.0  # busy for so long with nothing of ours: its slot is taken for ever
    setup_failed_s: float = 60.0  # what waits for a server that can't start fails after so long
    store_tries: int = 4  # of an output's files, a second more between them each time


class Loss(StrEnum):
    """Name why an attempt has no outcome."""

    LOST = "lost"  # the server lost it: it counts as an attempt
    NOT_BEGUN = "not begun"  # the server never ran it: it doesn't
    TAKEN_OVER = "taken over"  # it is another worker's now


Verdict: TypeAlias = Report | Loss


class Attendant:
    """Attend to attempts on one Cog server, one at a time."""

    def __init__(self, record: Record, coglet: Coglet, callbacks: Callbacks, name: str, patience: Patience) -> None:
        self._record = record
        self._coglet = coglet
        self._callbacks = callbacks
        self._name = name
        self._patience = patience

    async def run(self, prediction_id: str, job_id: int) -> bool:
        """Run a job that was fetched. False: the server could not take it, so stop fetching for a while."""
        health = await self._ready()
        if health is None:
            await until_stored(lambda: self._record.attempts.release(prediction_id, job_id))
            return False
        attempt = Attempt(prediction_id, job_id, self._name, health, self._callbacks.new_url())
        with self._callbacks.inbox(attempt.callback) as inbox:
            row = await self._begin(attempt)
            if row is None:
                return True  # cancelled or taken over since it was fetched; the sweep mends what is left
            verdict = await self._start(attempt, row.input)
            verdict = verdict or await self._attend(attempt, row, inbox, self._patience.lost_s)
            await self._conclude(attempt, row, verdict, inbox)
            return isinstance(verdict, Report) and not verdict.infrastructure

    async def adopt(self, row: Prediction, ready: asyncio.Event) -> None:
        """Go on with the attempt that an earlier worker began on this server.

        ready: set when its webhooks have a place to go; the port must be the earlier worker's.
        """
        attempt = attempt_of(row)
        with self._callbacks.inbox(attempt.callback) as inbox:
            ready.set()
            # If it ended while nobody listened, coglet tries again after as long as that took, about.
            alone_s = max(0.0, (datetime.now(UTC) - (row.started_at or row.created_at)).total_seconds())
            logger.info("adopted", extra={"prediction": row.id, "job": row.job_id})
            verdict: Verdict = Loss.TAKEN_OVER
            if await until_stored(lambda: self._record.attempts.beat(attempt)):
                verdict = await self._attend(attempt, row, inbox, self._patience.lost_s + min(alone_s, 60.0))
            await self._conclude(attempt, row, verdict, inbox)

    async def _ready(self) -> str | None:
        """Return the boot id of the server when it is ready, or None if it isn't soon."""
        pause_s = 0.01
        until = _now() + self._patience.busy_s
        while _now() < until:
            health = await self._coglet.health()
            if health.state is State.READY:
                return health.boot
            if health.state is not State.BUSY:  # for some milliseconds after an end
                return None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
        return None

    async def _begin(self, attempt: Attempt) -> Prediction | None:
        begun = await until_stored(lambda: self._record.attempts.begin(attempt))
        if begun is None:
            # An answer that was lost on the way makes the second try find it begun: by us, if the URL is ours.
            row = await until_stored(lambda: self._record.predictions.get(attempt.id))
            if row and row.callback == attempt.callback and not row.status.ended:
                return row
        return begun

    async def _start(self, attempt: Attempt, given: JsonObject) -> Verdict | None:
        """Start the run. None: it runs, or it may."""
        pause_s = 0.01
        until = _now() + self._patience.busy_s
        while True:
            try:
                start = await self._coglet.start(attempt.cog_id, given, attempt.callback)
            except RefusedError as refusal:
                return Report(Status.FAILED, logs="", metrics={}, error=str(refusal))
            if start in (Start.TAKEN, Start.UNKNOWN):
                return None
            if start is Start.BUSY and _now() > until:
                await self._coglet.shut_down()  # ready by its own word, but its slot is taken for ever
            if start is Start.NOT_READY or _now() > until:
                return Loss.NOT_BEGUN
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    async def _attend(self, attempt: Attempt, row: Prediction, inbox: Inbox, lost_s: float) -> Verdict:
        """Wait for whatever ends the attempt first."""
        with self._record.changes.watch(attempt.id) as watch:
            return await _first(
                self._hear(attempt, row.logs, inbox),
                self._beat(attempt),
                self._heed_cancel(attempt, watch),
                self._look(attempt, lost_s),
            )

    async def _hear(self, attempt: Attempt, earlier_logs: str, inbox: Inbox) -> Verdict:
        """Store the logs as they come, until the terminal webhook."""
        stored = ""
        while True:
            report = await inbox.reports.get()
            if report.status.ended:
                return report
            if len(report.logs) > len(stored):  # they may be reordered
                stored = report.logs
                try:
                    if not await self._record.attempts.log(attempt, storable(earlier_logs + stored)):
                        return Loss.TAKEN_OVER
                except UNAVAILABLE:
                    continue  # the next one has these lines too

    async def _beat(self, attempt: Attempt) -> Verdict:
        """Keep the attempt alive, also while the worker drains."""
        while True:
            await asyncio.sleep(self._patience.beat_s)
            try:
                if not await self._record.attempts.beat(attempt):
                    return Loss.TAKEN_OVER
            except UNAVAILABLE as error:
                logger.warning("no heartbeat", extra={"prediction": attempt.id, "error": str(error).strip()})

    async def _heed_cancel(self, attempt: Attempt, watch: Watch) -> Verdict:
        """Pass a cancel on, and shut the server down if it doesn't heed it."""
        while True:
            try:
                row = await self._record.predictions.get(attempt.id)
                if row and row.cancel_requested_at:
                    break
            except UNAVAILABLE:
                pass
            await watch.changed()
        logger.info("cancelling", extra={"prediction": attempt.id})
        until = _now() + self._patience.cancel_s
        while not await self._coglet.cancel(attempt.cog_id) and _now() < until:
            await asyncio.sleep(0.2)  # it came before the run
        await asyncio.sleep(max(0.0, until - _now()))  # the terminal webhook ends this
        logger.warning("a cancel was not heeded; shutting the server down", extra={"prediction": attempt.id})
        await self._coglet.shut_down()
        return Report(Status.CANCELED, logs="", metrics={})

    async def _look(self, attempt: Attempt, lost_s: float) -> Verdict:
        """Watch the server, until it can't be running the attempt any more."""
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(self._patience.poll_s)
            health = await self._coglet.health()
            if health.reached and health.boot != attempt.boot:
                return Loss.LOST
            limits = {
                "idle": (health.reached and health.state is not State.BUSY, lost_s),
                "gone": (health.state is State.GONE, self._patience.gone_s),
                "silent": (health.state is State.SILENT, self._patience.silent_s),
            }
            for name, (is_so, limit_s) in limits.items():
                if not is_so:
                    since.pop(name, None)
                elif _now() - since.setdefault(name, _now()) >= limit_s:
                    logger.warning("the run is lost", extra={"prediction": attempt.id, "server": name})
                    return Loss.LOST

    async def _conclude(self, attempt: Attempt, row: Prediction, verdict: Verdict, inbox: Inbox) -> None:
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
        beating = asyncio.create_task(self._beat(attempt))  # large outputs on a slow store take their time
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
            beating.cancel()
        raise AssertionError("the loop returns")


def attempt_of(row: Prediction) -> Attempt:
    """Return the attempt that a row says is running."""
    return Attempt(row.id, row.job_id, row.server or "", row.boot or "", row.callback or "")


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


async def _first(*calls: Coroutine[Any, Any, T]) -> T:
    """Return what the first to finish returns, and cancel the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
