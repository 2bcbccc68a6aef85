"""Take jobs from a procrastinate queue.

procrastinate's own worker doesn't fit: it fetches whether or not the Cog server is ready, stops its heartbeat while it
drains, and loses a notice that arrives while it fetches, which delays the next prediction by half a second. The queue,
the notices and the table of workers are still procrastinate's.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from procrastinate.jobs import Notification

from gateway.record import Record
from gateway.record.database import UNAVAILABLE
from gateway.record.jobs import prediction_id_of
from gateway.tasks import end

logger = logging.getLogger(__name__)

POLL_S = 0.5  # a notice may be lost with its connection


@dataclass(frozen=True)
class Job:
    """A job that this worker has fetched."""

    prediction_id: str
    job_id: int


class JobQueue:
    """Fetch the jobs of one queue."""

    def __init__(self, record: Record, queue: str, beat_s: float) -> None:
        """Take the pause between two heartbeats. They protect a job that is fetched but not begun."""
        self._manager = record.procrastinate.job_manager
        self._beat_s = beat_s
        self._queue = queue
        self._notice = asyncio.Event()
        self._worker_id = 0

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[None]:
        """Be registered as a worker of procrastinate's for the block."""
        self._worker_id = await self._manager.register_worker()
        beating = asyncio.create_task(self._beat(), name="procrastinate heartbeat")
        try:
            yield
        finally:
            await end(beating)
            with suppress(*UNAVAILABLE):  # the sweep deletes a worker that stays behind
                await self._manager.unregister_worker(self._worker_id)

    async def fetch(self) -> Job | None:
        """Fetch the next job, if there is one."""
        self._notice.clear()  # before the query, because a job that it misses sets it again
        job = await self._manager.fetch_job([self._queue], self._worker_id)
        if job is None or job.id is None:
            return None
        return Job(prediction_id_of(job), job.id)

    async def wait(
        self, stopping: asyncio.Event, running: Collection["asyncio.Task[bool]"] = ()
    ) -> "list[asyncio.Task[bool]]":
        """Wait until there may be a job, the worker stops, or a running task ends. Return the tasks that have ended."""
        before = list(running)
        waiting = [asyncio.create_task(event.wait()) for event in (self._notice, stopping)]
        await asyncio.wait([*waiting, *before], timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return [task for task in before if task.done()]

    async def listen_forever(self) -> None:
        """Listen for new jobs until cancelled, and reconnect after a lost connection."""
        while True:
            try:
                await self._manager.listen_for_jobs(on_notification=self._on_notification, queues=[self._queue])
            except UNAVAILABLE as error:
                logger.warning("lost the connection for new jobs; reconnecting", extra={"error": str(error).strip()})
            self._notice.set()
            await asyncio.sleep(POLL_S)

    async def _on_notification(self, *, channel: str, notification: Notification) -> None:  # noqa: ARG002
        self._notice.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            with suppress(*UNAVAILABLE):
                await self._manager.update_heartbeat(self._worker_id)
