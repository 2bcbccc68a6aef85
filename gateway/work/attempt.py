"""Run one attempt, from its start on the Cog server to its outcome in the record."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.prediction import Attempt, Prediction, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, until_stored
from gateway.record.notices import Watch
from gateway.tasks import end, first
from gateway.work.callbacks import AttemptWebhooks, Callbacks
from gateway.work.coglet import INVALID, Coglet, Liveness, RefusedError, Report, Start, State, Streaming
from gateway.work.inputs import InputError, Inputs, Prepared
from gateway.work.outcome import Interruption, OutcomeWriter, Result, storable
from gateway.work.streaming import OutputSoFar, follow_events, follow_webhooks
from gateway.work.timeouts import Timeouts

logger = logging.getLogger(__name__)


class AttemptRunner:
    """Run attempts on one Cog server."""

    def __init__(
        self, record: Record, coglet: Coglet, callbacks: Callbacks, inputs: Inputs, name: str, timeouts: Timeouts
    ) -> None:
        self._record = record
        self._coglet = coglet
        self._callbacks = callbacks
        self._inputs = inputs
        self._name = name
        self._timeouts = timeouts
        self._outcomes = OutcomeWriter(record, coglet, timeouts)
        self.streaming = Streaming.NO  # the worker asks the server when it is ready

    @property
    def stopping(self) -> bool:
        """Whether the worker is shutting down. A server that goes away now was stopped together with it."""
        return self._outcomes.draining.is_set()

    def stop(self) -> None:
        """Start nothing any more, and note in the record that the worker is shutting down."""
        self._outcomes.draining.set()

    async def run(self, prediction_id: str, job_id: int) -> bool:
        """Run a fetched job. Return False if the server could not take it, so that the worker stops fetching."""
        health = await self._ready()
        if health is None or self.stopping:
            await until_stored(lambda: self._record.attempts.release(prediction_id, job_id))
            return False
        attempt = Attempt(prediction_id, job_id, self._name, health, self._callbacks.new_url())
        with self._callbacks.receiving(attempt.callback) as webhooks:
            given = await self._prepare(attempt, webhooks)
            if self.stopping:  # since the files of the inputs were fetched
                await until_stored(lambda: self._record.attempts.release(prediction_id, job_id))
                return False
            row = await self._begin(attempt)
            if row is None:
                return True  # cancelled or taken over since it was fetched
            # A start may take longer than an attempt may go without a heartbeat.
            output = OutputSoFar(self._record, attempt)
            result = await first(self._start(attempt, given), self._outcomes.beat(attempt))
            result = result or await self._wait(attempt, row, webhooks, output, self._timeouts.lost_s)
            await self._outcomes.write(attempt, row, result, webhooks, output)
            return isinstance(result, Report) and not result.infrastructure

    async def adopt(self, row: Prediction, ready: asyncio.Event) -> None:
        """Continue the attempt that an earlier worker of this server has started.

        Args:
            row: The prediction.
            ready: Set when its webhooks can be received, at the earlier worker's port.
        """
        attempt = row.attempt
        with self._callbacks.receiving(attempt.callback) as webhooks:
            ready.set()
            # If it ended while no worker listened, coglet retries its webhook after about as long as that lasted.
            alone_s = max(0.0, (self._record.clock.now() - (row.started_at or row.created_at)).total_seconds())
            logger.info("adopted an attempt", extra={"prediction": row.id, "job": row.job_id})
            result: Result = Interruption.TAKEN_OVER
            output = OutputSoFar(self._record, attempt, row.files)
            if await until_stored(lambda: self._record.attempts.beat(attempt)):
                await until_stored(output.load)
                lost_s = self._timeouts.lost_s + min(alone_s, 60.0)
                result = await self._wait(attempt, row, webhooks, output, lost_s)
                if isinstance(result, Report) and _lost_files(row, result):
                    result = replace(result, infrastructure=True)
            await self._outcomes.write(attempt, row, result, webhooks, output)

    async def _ready(self) -> str | None:
        """Return the server's boot id when it is ready, or None if it isn't soon."""
        pause_s = 0.01
        until = _now() + self._timeouts.busy_s
        while _now() < until:
            health = await self._coglet.health()
            if health.state is State.READY:
                return health.boot
            if health.state is not State.BUSY:  # BUSY lasts for some milliseconds after an end
                return None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
        return None

    async def _prepare(self, attempt: Attempt, webhooks: AttemptWebhooks) -> Prepared | InputError:
        """Return the inputs for the server, or why they can't be had.

        Before the attempt begins: if the worker dies while it fetches files, the prediction hasn't lost an attempt.
        """
        with self._record.notices.watch(attempt.id) as watch:
            row = await until_stored(lambda: self._record.predictions.get(attempt.id))
            if row is None:
                return Prepared()
            try:
                prepared = self._inputs.prepare(row, attempt.callback, webhooks.files)
                return await (first(prepared, self._canceled(attempt, watch)) if row.input_files else prepared)
            except InputError as error:
                return error

    async def _canceled(self, attempt: Attempt, watch: Watch) -> Prepared:
        """Return nothing, when a cancel is requested."""
        while True:
            with suppress(*UNAVAILABLE):
                row = await self._record.predictions.get(attempt.id)
                if row and row.cancel_requested_at:
                    return Prepared()
            await watch.changed()

    async def _begin(self, attempt: Attempt) -> Prediction | None:
        begun = await until_stored(lambda: self._record.attempts.begin(attempt))
        if begun is None:
            # If the answer to a first try was lost, the second finds the attempt started: by us, if the URL is ours.
            row = await until_stored(lambda: self._record.predictions.get(attempt.id))
            if row and row.callback == attempt.callback and not row.status.ended:
                return row
        return begun

    async def _start(self, attempt: Attempt, given: Prepared | InputError) -> Result | None:
        """Start the prediction on the server. Return None if it runs, or may run."""
        if isinstance(given, InputError):
            return Report(Status.FAILED, logs="", metrics={}, error=str(given))
        pause_s = 0.01
        until = _now() + self._timeouts.busy_s
        while True:
            try:
                start = await self._coglet.start(
                    attempt.cog_id, given.values, attempt.callback, outputs=self.streaming is Streaming.WEBHOOKS
                )
            except RefusedError as refusal:
                return Report(Status.FAILED, logs="", metrics={}, error=given.redact(str(refusal)))
            if start in (Start.TAKEN, Start.UNKNOWN):
                return None
            if start is Start.BUSY and _now() > until:
                await self._coglet.shut_down()  # it said it was ready, but its slot never becomes free
            if start is Start.NOT_READY or _now() > until:
                return Interruption.NOT_STARTED
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    async def _wait(
        self, attempt: Attempt, row: Prediction, webhooks: AttemptWebhooks, output: OutputSoFar, lost_s: float
    ) -> Result:
        """Wait for whatever ends the attempt first."""
        following = asyncio.create_task(self._follow(attempt, webhooks, output), name="output")
        try:
            with self._record.notices.watch(attempt.id) as watch:
                result = await first(
                    self._receive(attempt, row.logs, webhooks),
                    self._outcomes.beat(attempt),
                    self._pass_cancel_on(attempt, watch),
                    self._check_server(attempt, lost_s),
                )
        finally:
            await end(following)
        # The terminal webhook may have arrived during the last health check.
        return (webhooks.terminal or result) if result in (Interruption.LOST, Interruption.STOPPED) else result

    async def _follow(self, attempt: Attempt, webhooks: AttemptWebhooks, output: OutputSoFar) -> None:
        """Store an iterator's output while it is produced."""
        if self.streaming is Streaming.EVENTS:
            await follow_events(self._coglet, attempt, output)
        elif self.streaming is Streaming.WEBHOOKS:
            await follow_webhooks(webhooks, output)

    async def _receive(self, attempt: Attempt, earlier_logs: str, webhooks: AttemptWebhooks) -> Result:
        """Store the logs as they arrive, until the terminal webhook."""
        stored = ""
        while True:
            report = await webhooks.reports.get()
            if report.status.ended:
                return report
            if len(report.logs) > len(stored):  # webhooks may arrive out of order
                stored = report.logs
                try:
                    if not await self._record.attempts.log(attempt, storable(earlier_logs + stored)):
                        return Interruption.TAKEN_OVER
                except UNAVAILABLE:
                    continue  # the next webhook has these lines too

    async def _pass_cancel_on(self, attempt: Attempt, watch: Watch) -> Result:
        """Pass a cancel on to the server, and shut the server down if it ignores it."""
        await self._canceled(attempt, watch)
        logger.info("cancelling", extra={"prediction": attempt.id})
        until = _now() + self._timeouts.cancel_s
        while not await self._coglet.cancel(attempt.cog_id) and _now() < until:
            await asyncio.sleep(0.2)  # the cancel arrived before the run
        await asyncio.sleep(max(0.0, until - _now()))  # the terminal webhook ends this
        logger.warning("the server ignores a cancel; shutting it down", extra={"prediction": attempt.id})
        await self._coglet.shut_down()
        return Report(Status.CANCELED, logs="", metrics={})

    async def _check_server(self, attempt: Attempt, lost_s: float) -> Result:
        """Check the server's health until it can no longer be running the attempt."""
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(self._timeouts.poll_s)
            health = await self._coglet.health()
            if health.reached and health.boot != attempt.boot:
                return self._lost()
            # Health alone says nothing of this attempt: a server with a free slot is READY.
            ended = health.reached and (await self._coglet.probe(attempt.cog_id)).liveness is Liveness.ENDED
            limits = {
                "idle": (ended, lost_s),
                "gone": (health.state is State.GONE, self._timeouts.gone_s),
                "silent": (health.state is State.SILENT, self._timeouts.silent_s),
            }
            for name, (is_so, limit_s) in limits.items():
                if not is_so:
                    since.pop(name, None)
                elif _now() - since.setdefault(name, _now()) >= limit_s:
                    logger.warning("the server has lost the attempt", extra={"prediction": attempt.id, "server": name})
                    return self._lost()

    def _lost(self) -> Result:
        return Interruption.STOPPED if self.stopping else Interruption.LOST


def _lost_files(row: Prediction, report: Report) -> bool:
    """Return whether an adopted run may have failed because the earlier worker died before the server had its files.

    The error names the URL, or says only that a connection broke while the server prepared the inputs. The gateway has
    validated these, so an input is hardly ever invalid. If one is, the next attempt fails with the same error.
    """
    error = report.error or ""
    return bool(row.input_files) and (error.startswith(INVALID) or f"{urlsplit(row.attempt.callback).path}/" in error)


def _now() -> float:
    return asyncio.get_running_loop().time()
