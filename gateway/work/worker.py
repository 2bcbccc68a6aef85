"""The worker beside a Cog server: takes its model's jobs, one at a time, while the server is ready."""

import asyncio
import logging
from contextlib import suppress

from procrastinate import JobContext
from procrastinate.exceptions import ProcrastinateException

from gateway.record import ATTEMPT_TASK, UNAVAILABLE, Outcome, Prediction, Record, Status
from gateway.work.attending import Attendant, Patience, storable
from gateway.work.callbacks import Callbacks, serving
from gateway.work.coglet import Coglet, Health, State
from gateway.work.listening import Listening

logger = logging.getLogger(__name__)

POLLING_S = 0.5  # a notice comes with an insert only, not with a job that is put back or scheduled
SEEN_EVERY_S = 5.0
SETUP_FAILED = "The model's setup failed"


class Worker:
    """Serve one queue with one Cog server."""

    def __init__(self, record: Record, coglet: Coglet, queue: str, name: str, patience: Patience) -> None:
        """Take the parts. name: of the server; a worker that is started again must say the same."""
        self._record = record
        self._coglet = coglet
        self._queue = queue
        self._name = name
        self._patience = patience
        self._stopping = asyncio.Event()
        self._taking: asyncio.Task[None] | None = None
        self._attending = False

    def stop(self) -> None:
        """Take no more jobs; run() returns when the running one has ended."""
        self._stopping.set()
        self._stop_taking()

    async def run(self, host: str, port: int, max_bytes: int) -> None:
        """Work until stopped. host, port: where the Cog server's webhooks come in, port 0 for a free one."""
        left = await self._left_behind()
        listening = Listening.beside(host, port, left.callback if left else None)
        callbacks = Callbacks(host, listening.socket, max_bytes)
        attendant = Attendant(self._record, self._coglet, callbacks, self._name, self._patience)
        self._register(attendant)
        seeing = asyncio.create_task(self._see_forever(), name="health")
        try:
            if left and listening.adopts:
                await self._adopt(attendant, callbacks, listening, left)
            else:
                async with serving(callbacks, listening.socket):
                    await self._work()
        finally:
            seeing.cancel()
            with suppress(asyncio.CancelledError):
                await seeing

    async def _adopt(self, attendant: Attendant, callbacks: Callbacks, listening: Listening, left: Prediction) -> None:
        """Go on with what an earlier worker began, then work."""
        ready = asyncio.Event()
        adopting = asyncio.create_task(attendant.adopt(left, ready), name="adopt")
        # Only now may webhooks come in: one for an attempt that is not known yet would be refused for good.
        await ready.wait()
        async with serving(callbacks, listening.socket):
            self._attending = True
            try:
                await adopting
                await self._record.attempts.finish_job(left.job_id)
            except UNAVAILABLE:
                logger.warning("the sweep will finish the job of the adopted attempt", extra={"job": left.job_id})
            finally:
                self._attending = False
            await self._work()

    async def _left_behind(self) -> Prediction | None:
        """Return what an earlier worker began on this server and did not end."""
        health = await self._coglet.health()
        return await self._record.attempts.adoptable(self._name, health.boot) if health.reached else None

    def _register(self, attendant: Attendant) -> None:
        @self._record.engine.task(name=ATTEMPT_TASK, queue=self._queue, pass_context=True)
        async def attempt(context: JobContext, id: str) -> None:  # noqa: A002 - the job's own word
            assert context.job.id is not None  # noqa: S101 - it was fetched
            self._attending = True
            try:
                if not await attendant.run(id, context.job.id):
                    self._stop_taking()
            finally:
                self._attending = False

    async def _work(self) -> None:
        """Take jobs whenever the server is ready."""
        while not self._stopping.is_set():
            health = await self._wait_until_ready()
            if health is None:
                continue
            try:
                await self._drop_what_is_lost(health)
                await self._take_jobs()
            except (*UNAVAILABLE, ProcrastinateException) as error:
                # A worker that was paused for long was pruned, and fails at its next fetch; one that loses the
                # database does too. The next one registers anew.
                logger.warning("taking jobs failed; trying again", extra={"error": str(error).strip()})
                await self._pause(self._patience.poll_s)

    async def _drop_what_is_lost(self, health: Health) -> None:
        """Give up what the server ran before it was started again; a sweep would find it later, by its silence."""
        for prediction_id, job_id in await self._record.attempts.left_by_earlier_boots(self._name, health.boot):
            if await self._record.lost.give_up(prediction_id, job_id):
                await self._record.attempts.finish_job(job_id)

    async def _take_jobs(self) -> None:
        """Run procrastinate's worker until told to stop, or until the server is not well."""
        taking = self._taking = asyncio.create_task(
            self._record.engine.run_worker_async(
                queues=[self._queue],
                name=self._name,
                concurrency=1,
                fetch_job_polling_interval=POLLING_S,
                delete_jobs="successful",
                install_signal_handlers=False,
            ),
            name="taking",
        )
        watching = asyncio.create_task(self._stop_when_unwell(), name="watching")
        try:
            await taking
        except asyncio.CancelledError:
            # Its way to stop: it has waited for the running job. When we are cancelled ourselves, that goes on.
            if (me := asyncio.current_task()) and me.cancelling():
                raise
        finally:
            self._taking = None
            watching.cancel()

    def _stop_taking(self) -> None:
        # Once only: a second cancel would not wait for the running job.
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.cancel()

    async def _stop_when_unwell(self) -> None:
        """Stop fetching while the server can't run anything; the attendant watches it during a run."""
        while True:
            await asyncio.sleep(self._patience.poll_s)
            if self._attending:
                continue
            health = await self._coglet.health()
            if health.state not in (State.READY, State.BUSY) and not self._attending:
                logger.warning("the server is not well", extra={"health": health.state})
                return self._stop_taking()

    async def _wait_until_ready(self) -> Health | None:
        """Wait for the server, shutting it down where nothing else helps. None: told to stop."""
        unhealthy = busy_s = 0.0
        while not self._stopping.is_set():
            health = await self._coglet.health()
            if health.state is State.READY:
                return health
            unhealthy = unhealthy + 1 if health.state is State.UNHEALTHY else 0
            busy_s = busy_s + self._patience.poll_s if health.state is State.BUSY else 0
            if unhealthy >= 2 or busy_s > self._patience.stuck_s:
                logger.warning("shutting the server down", extra={"health": health.state})
                await self._coglet.shut_down()
                unhealthy = busy_s = 0
            if health.state is State.SETUP_FAILED:
                await self._fail_queued(health)
            await self._pause(self._patience.poll_s)
        return None

    async def _fail_queued(self, health: Health) -> None:
        outcome = Outcome(Status.FAILED, error=SETUP_FAILED, logs=storable(health.setup_logs))
        try:
            await self._record.attempts.fail_queued(self._name, self._queue, self._patience.setup_failed_s, outcome)
        except UNAVAILABLE as error:
            logger.warning("can't fail what is queued", extra={"error": str(error).strip()})

    async def _see_forever(self) -> None:
        """Tell the record how the server is."""
        while True:
            health = await self._coglet.health()
            with suppress(*UNAVAILABLE):
                await self._record.attempts.seen(self._name, self._queue, health.state)
            await asyncio.sleep(SEEN_EVERY_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
