"""The worker of a Cog server: runs its queue's jobs, one in each slot, while the server is ready."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from gateway.prediction import Outcome, Prediction, Status
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, until_stored
from gateway.tasks import end, first
from gateway.work.attempt import AttemptRunner
from gateway.work.callbacks import Callbacks, CallbackSocket, serving
from gateway.work.coglet import Coglet, Health, State
from gateway.work.inputs import Inputs
from gateway.work.outcome import storable
from gateway.work.queue import Job, JobQueue
from gateway.work.timeouts import Timeouts

logger = logging.getLogger(__name__)

HEALTH_EVERY_S = 5.0
SETUP_FAILED = "The model's setup failed"
UNHEALTHY_CHECKS = 2  # in a row, before a broken server is shut down


class Worker:
    """Serve one queue with one Cog server."""

    def __init__(
        self,
        record: Record,
        coglet: Coglet,
        inputs: Inputs,
        queue: str,
        name: str,
        timeouts: Timeouts,
        slots: int = 1,
    ) -> None:
        """Take the parts.

        Args:
            record: The record.
            coglet: The client of the Cog server.
            inputs: Prepares the predictions' inputs.
            queue: The queue of the version that the server runs.
            name: The server's name; a restarted worker must have the same.
            timeouts: How long to wait for what.
            slots: How many predictions the server runs at once: the `max` of its `@concurrent`.
        """
        self._record = record
        self._coglet = coglet
        self._inputs = inputs
        self._queue = queue
        self._name = name
        self._timeouts = timeouts
        self._slots = slots
        self._stopping = asyncio.Event()
        self._jobs = JobQueue(record, queue, timeouts.beat_s)
        self._running: set[asyncio.Task[bool]] = set()
        self._runner: AttemptRunner | None = None

    def stop(self) -> None:
        """Fetch no more jobs. run() returns when the running ones have ended, or can no longer end."""
        self._stopping.set()
        if self._runner:
            self._runner.stop()

    async def run(self, host: str, port: int, max_bytes: int, token: str | None = None) -> None:
        """Work until stopped.

        Args:
            host: The address to receive the Cog server's webhooks at.
            port: The port for them; 0 takes a free one.
            max_bytes: The largest webhook.
            token: What the webhooks' Authorization header must have; None accepts any.
        """
        left = await self._still_running()
        bound = CallbackSocket.bind(host, port, left[0].callback if left else None)
        callbacks = Callbacks(host, bound.socket, max_bytes, token)
        runner = self._runner = AttemptRunner(
            self._record, self._coglet, callbacks, self._inputs, self._name, self._timeouts
        )
        reporting = asyncio.create_task(self._report_health_forever(), name="health")
        adopted = left if bound.adopts else []
        try:
            await first(self._run_until_stopped(runner, adopted, callbacks, bound), self._wait_until_nothing_is_left())
        finally:
            await end(reporting, *self._running)

    async def _run_until_stopped(
        self, runner: AttemptRunner, adopted: list[Prediction], callbacks: Callbacks, bound: CallbackSocket
    ) -> None:
        """Run jobs until stopped, and then those that are running to their ends."""
        await self._adopt(runner, adopted)
        # Serve the port only now: a webhook for an attempt that isn't known yet would get a final refusal.
        async with serving(callbacks, bound.socket):
            await self._work(runner)
            if self._running:
                await asyncio.wait(self._running)

    async def _wait_until_nothing_is_left(self) -> None:
        """Return when the worker is stopping, and both the Cog server and the database have gone.

        When a whole host shuts down they exit at once, while the worker would wait for them until it is killed. The
        next worker finds the attempts.
        """
        await self._stopping.wait()
        gone_at: float | None = None
        while gone_at is None or _now() < gone_at + self._timeouts.abandon_s:
            await asyncio.sleep(self._timeouts.poll_s)
            health, ready = await asyncio.gather(self._coglet.health(), self._record.ready())
            gone_at = None if health.reached or ready else gone_at or _now()
        logger.warning("the database and the Cog server have gone; leaving the running attempts to the next worker")

    async def _adopt(self, runner: AttemptRunner, left: list[Prediction]) -> None:
        """Continue an earlier worker's attempts. Returns when their webhooks can be received."""
        if left:
            runner.streaming = await self._coglet.streaming()
        for row in left:
            ready = asyncio.Event()

            async def adopt(row: Prediction = row, ready: asyncio.Event = ready) -> bool:
                try:
                    await runner.adopt(row, ready)
                finally:
                    ready.set()
                await until_stored(lambda: self._record.attempts.finish_job(row.job_id))
                return True

            self._spawn(adopt(), row.id)
            await ready.wait()

    async def _still_running(self) -> list[Prediction]:
        """Return the predictions that an earlier worker has started and this server still runs."""
        health = await self._coglet.health()
        return await self._record.attempts.adoptable(self._name, health.boot) if health.reached else []

    async def _work(self, runner: AttemptRunner) -> None:
        """Run jobs whenever the server is ready."""
        listening = asyncio.create_task(self._jobs.listen_forever(), name="jobs")
        try:
            while not self._stopping.is_set():
                health = await self._wait_until_ready()
                if health is None:
                    return
                runner.streaming = await self._coglet.streaming()
                try:
                    await self._give_up_lost(health)
                    async with self._jobs.registered():
                        await self._run_jobs(runner)
                except UNAVAILABLE as error:
                    # Also if the sweep has deleted this worker's row while the process was paused; it registers again.
                    logger.warning("can't fetch jobs; retrying", extra={"error": str(error).strip()})
                    await self._pause(self._timeouts.poll_s)
        finally:
            await end(listening)

    async def _give_up_lost(self, health: Health) -> None:
        """Give up what the server ran before its restart. The sweep would find it too, but later."""
        for prediction_id, job_id in await self._record.attempts.left_by_earlier_boots(self._name, health.boot):
            if await self._record.sweep.give_up(prediction_id, job_id):
                await self._record.attempts.finish_job(job_id)
        # Those of attempts whose worker was killed before it could delete them.
        for cog_id in await self._record.attempts.over(await self._coglet.folders()):
            await self._coglet.clean_up(cog_id)

    async def _run_jobs(self, runner: AttemptRunner) -> None:
        """Run jobs in the free slots until stopped, or until the server is unhealthy."""
        checked_at = _now()
        while not self._stopping.is_set():
            job = await self._jobs.fetch() if len(self._running) < self._slots else None
            if job is not None:
                self._spawn(self._run(runner, job), job.prediction_id)
                continue
            done = await self._jobs.wait(self._stopping, self._running)
            if not all(task.result() for task in done):
                return
            if _now() > checked_at + self._timeouts.poll_s:
                checked_at = _now()
                if (health := await self._coglet.health()).state not in (State.READY, State.BUSY):
                    logger.warning("the server is unhealthy", extra={"health": health.state})
                    return

    def _spawn(self, run: Coroutine[Any, Any, bool], name: str) -> None:
        task = asyncio.create_task(run, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, runner: AttemptRunner, job: Job) -> bool:
        """Run a job to its end. Return False if the server is unhealthy."""
        try:
            healthy = await runner.run(job.prediction_id, job.job_id)
        except Exception:
            # A bug of ours. Without its heartbeat the sweep will find the prediction, and the worker continues.
            logger.exception("an attempt failed", extra={"prediction": job.prediction_id})
            healthy = False
        await until_stored(lambda: self._record.attempts.finish_job(job.job_id))
        return healthy

    async def _wait_until_ready(self) -> Health | None:
        """Wait until the server is ready; shut it down if nothing else helps. Return None if stopped."""
        broken = busy_s = 0.0
        complained = False
        while not self._stopping.is_set():
            health = await self._coglet.health()
            if health.state is State.READY or (health.state is State.BUSY and self._running):
                return health
            broken = broken + 1 if health.broken else 0
            busy_s = busy_s + self._timeouts.poll_s if health.state is State.BUSY else 0
            if health.state is State.UNHEALTHY and not health.broken and not complained:
                complained = True
                logger.warning("the model's own healthcheck fails; waiting for it to recover")
            if broken >= UNHEALTHY_CHECKS or busy_s > self._timeouts.stuck_s:
                logger.warning("shutting the server down", extra={"health": health.state})
                await self._coglet.shut_down()
                broken = busy_s = 0
            if health.state is State.SETUP_FAILED:
                await self._fail_queued(health)
            await self._pause(self._timeouts.poll_s)
        return None

    async def _fail_queued(self, health: Health) -> None:
        outcome = Outcome(Status.FAILED, error=SETUP_FAILED, logs=storable(health.setup_logs))
        try:
            await self._record.attempts.fail_queued(self._name, self._queue, self._timeouts.setup_failed_s, outcome)
        except UNAVAILABLE as error:
            logger.warning("can't fail the queued predictions", extra={"error": str(error).strip()})

    async def _report_health_forever(self) -> None:
        """Write the server's health into the record."""
        while True:
            health = await self._coglet.health()
            with suppress(*UNAVAILABLE):
                await self._record.attempts.report_health(self._name, self._queue, health.state)
            await asyncio.sleep(HEALTH_EVERY_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
