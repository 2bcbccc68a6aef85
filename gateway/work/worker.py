"""The worker beside a Cog server: takes its model's jobs, one at a time, while the server is ready."""

import asyncio
import logging
from contextlib import suppress

from gateway.record import UNAVAILABLE, Outcome, Prediction, Record, Status
from gateway.tasks import end
from gateway.work.attending import Attendant
from gateway.work.callbacks import Callbacks, serving
from gateway.work.coglet import Coglet, Health, State
from gateway.work.concluding import storable, until_stored
from gateway.work.fetching import Fetched, Fetcher
from gateway.work.listening import Listening
from gateway.work.patience import Patience

logger = logging.getLogger(__name__)

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
        self._fetcher = Fetcher(record, queue)

    def stop(self) -> None:
        """Take no more jobs; run() returns when the running one has ended."""
        self._stopping.set()

    async def run(self, host: str, port: int, max_bytes: int) -> None:
        """Work until stopped. host, port: where the Cog server's webhooks come in, port 0 for a free one."""
        left = await self._left_behind()
        listening = Listening.beside(host, port, left.callback if left else None)
        callbacks = Callbacks(host, listening.socket, max_bytes)
        attendant = Attendant(self._record, self._coglet, callbacks, self._name, self._patience)
        seeing = asyncio.create_task(self._see_forever(), name="health")
        try:
            if left and listening.adopts:
                await self._adopt(attendant, callbacks, listening, left)
            else:
                async with serving(callbacks, listening.socket):
                    await self._work(attendant)
        finally:
            await end(seeing)

    async def _adopt(self, attendant: Attendant, callbacks: Callbacks, listening: Listening, left: Prediction) -> None:
        """Go on with what an earlier worker began, then work."""
        ready = asyncio.Event()
        adopting = asyncio.create_task(attendant.adopt(left, ready), name="adopt")
        # Only now may webhooks come in: one for an attempt that is not known yet would be refused for good.
        await ready.wait()
        async with serving(callbacks, listening.socket):
            await adopting
            await until_stored(lambda: self._record.attempts.finish_job(left.job_id))
            await self._work(attendant)

    async def _left_behind(self) -> Prediction | None:
        """Return what an earlier worker began on this server and did not end."""
        health = await self._coglet.health()
        return await self._record.attempts.adoptable(self._name, health.boot) if health.reached else None

    async def _work(self, attendant: Attendant) -> None:
        """Take jobs whenever the server is ready."""
        listening = asyncio.create_task(self._fetcher.listen_forever(), name="jobs")
        try:
            while not self._stopping.is_set():
                health = await self._wait_until_ready()
                if health is None:
                    return
                try:
                    await self._drop_what_is_lost(health)
                    async with self._fetcher.registered():
                        await self._take_jobs(attendant)
                except UNAVAILABLE as error:
                    # Also where the engine has pruned a worker that was paused for long; it registers anew.
                    logger.warning("taking jobs failed; trying again", extra={"error": str(error).strip()})
                    await self._pause(self._patience.poll_s)
        finally:
            await end(listening)

    async def _drop_what_is_lost(self, health: Health) -> None:
        """Give up what the server ran before it was started again; a sweep would find it later, by its silence."""
        for prediction_id, job_id in await self._record.attempts.left_by_earlier_boots(self._name, health.boot):
            if await self._record.lost.give_up(prediction_id, job_id):
                await self._record.attempts.finish_job(job_id)

    async def _take_jobs(self, attendant: Attendant) -> None:
        """Take one job after the other, until told to stop or until the server is not well."""
        looked_at = _now()
        while not self._stopping.is_set():
            fetched = await self._fetcher.fetch()
            if fetched is not None:
                if not await self._run(attendant, fetched):
                    return
                looked_at = _now()
                continue
            await self._fetcher.noticed(self._stopping)
            if _now() > looked_at + self._patience.poll_s:
                looked_at = _now()
                if (health := await self._coglet.health()).state not in (State.READY, State.BUSY):
                    logger.warning("the server is not well", extra={"health": health.state})
                    return

    async def _run(self, attendant: Attendant, fetched: Fetched) -> bool:
        """Run a job to its end. False: the server is not well."""
        try:
            well = await attendant.run(fetched.prediction_id, fetched.job_id)
        except Exception:
            # A fault of ours. Its heartbeat has stopped, so that the sweep finds the prediction; the worker goes on.
            logger.exception("an attempt failed", extra={"prediction": fetched.prediction_id})
            well = False
        await self._record.attempts.finish_job(fetched.job_id)
        return well

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


def _now() -> float:
    return asyncio.get_running_loop().time()
