"""Take jobs from the engine's queue.

procrastinate's own worker is not used here: it fetches whether the Cog server is ready or not, stops its heartbeat
while it drains, and forgets a notice that comes in while it fetches, which costs the next client in a row half a
second. The queue, the notices and the workers' table are procrastinate's all the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from procrastinate.jobs import Notification

from gateway.record import UNAVAILABLE, Record, prediction_id_of
from gateway.tasks import end

logger = logging.getLogger(__name__)

POLLING_S = 0.5  # a notice may be lost with its connection
BEAT_S = 10.0  # of the engine's worker: it matters for a job that is fetched and not begun yet


@dataclass(frozen=True)
class Fetched:
    """A job that is ours."""

    prediction_id: str
    job_id: int


class Fetcher:
    """Fetch the jobs of one queue."""

    def __init__(self, record: Record, queue: str) -> None:
        self._manager = record.engine.job_manager
        self._queue = queue
        self._notice = asyncio.Event()
        self._worker_id = 0

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[None]:
        """Be one of the engine's workers for the block."""
        self._worker_id = await self._manager.register_worker()
        beating = asyncio.create_task(self._beat(), name="engine's heartbeat")
        try:
            yield
        finally:
            await end(beating)
            with suppress(*UNAVAILABLE):  # a worker that stays behind is pruned
                await self._manager.unregister_worker(self._worker_id)

    async def fetch(self) -> Fetched | None:
        """Take the next job, if there is one."""
        self._notice.clear()  # before the query: a job that it doesn't see yet sets it again
        job = await self._manager.fetch_job([self._queue], self._worker_id)
        if job is None or job.id is None:
            return None
        return Fetched(prediction_id_of(job), job.id)

    async def noticed(self, stopping: asyncio.Event) -> None:
        """Wait until there may be a job, or until told to stop."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._notice, stopping)]
        await asyncio.wait(waiting, timeout=POLLING_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def listen_forever(self) -> None:
        """Hear of new jobs until cancelled, over lost connections."""
        while True:
            try:
                await self._manager.listen_for_jobs(on_notification=self._on_notification, queues=[self._queue])
            except UNAVAILABLE as error:
                logger.warning("lost the queue's notices; connecting again", extra={"error": str(error).strip()})
            self._notice.set()
            await asyncio.sleep(POLLING_S)

    async def _on_notification(self, *, channel: str, notification: Notification) -> None:  # noqa: ARG002
        self._notice.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(*UNAVAILABLE):
                await self._manager.update_heartbeat(self._worker_id)
