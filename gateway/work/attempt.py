"""Attend to one attempt: from its start on the Cog server to its end in the record."""

import asyncio
import logging

from gateway.record import UNAVAILABLE, Attempt, JsonObject, Prediction, Record, Status
from gateway.record.changes import Watch
from gateway.tasks import first
from gateway.work.callbacks import Callbacks, Inbox
from gateway.work.coglet import Coglet, RefusedError, Report, Start, State
from gateway.work.concluding import Conclusion, Loss, Verdict, storable, until_stored
from gateway.work.patience import Patience

logger = logging.getLogger(__name__)


class Attendant:
    """Attend to attempts on one Cog server, one at a time."""

    def __init__(self, record: Record, coglet: Coglet, callbacks: Callbacks, name: str, patience: Patience) -> None:
        self._record = record
        self._coglet = coglet
        self._callbacks = callbacks
        self._name = name
        self._patience = patience
        self._conclusion = Conclusion(record, coglet, patience)

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
            # A start may take as long as an attempt lives without a heartbeat.
            verdict = await first(self._start(attempt, row.input), self._conclusion.beat(attempt))
            verdict = verdict or await self._attend(attempt, row, inbox, self._patience.lost_s)
            await self._conclusion.conclude(attempt, row, verdict, inbox)
            return isinstance(verdict, Report) and not verdict.infrastructure

    async def adopt(self, row: Prediction, ready: asyncio.Event) -> None:
        """Go on with the attempt that an earlier worker began on this server.

        ready: set when its webhooks have a place to go; the port must be the earlier worker's.
        """
        attempt = attempt_of(row)
        with self._callbacks.inbox(attempt.callback) as inbox:
            ready.set()
            # If it ended while nobody listened, coglet tries again after as long as that took, about.
            alone_s = max(0.0, (self._record.clock.now() - (row.started_at or row.created_at)).total_seconds())
            logger.info("adopted", extra={"prediction": row.id, "job": row.job_id})
            verdict: Verdict = Loss.TAKEN_OVER
            if await until_stored(lambda: self._record.attempts.beat(attempt)):
                verdict = await self._attend(attempt, row, inbox, self._patience.lost_s + min(alone_s, 60.0))
            await self._conclusion.conclude(attempt, row, verdict, inbox)

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
            verdict = await first(
                self._hear(attempt, row.logs, inbox),
                self._conclusion.beat(attempt),
                self._heed_cancel(attempt, watch),
                self._look(attempt, lost_s),
            )
        # The end may have come in while the last look was under way.
        return (inbox.terminal or verdict) if verdict is Loss.LOST else verdict

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


def attempt_of(row: Prediction) -> Attempt:
    """Return the attempt that a row says is running."""
    return Attempt(row.id, row.job_id, row.server or "", row.boot or "", row.callback or "")


def _now() -> float:
    return asyncio.get_running_loop().time()
