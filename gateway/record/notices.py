"""Hear of changes: one LISTEN connection a process, any number of waiters."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg

from gateway.record.clock import Clock
from gateway.record.database import conninfo

logger = logging.getLogger(__name__)

QUIET_S = 10.0  # after so long without a notice the connection is tried
RECONNECT_S = 0.2


class Watch:
    """A wish to hear of one prediction. It is registered before the first read, so that no change falls between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Say that the prediction has changed."""
        self._event.set()

    async def changed(self, timeout_s: float = 5.0) -> bool:
        """Wait for the next change. False: none was heard of in time; read the row all the same."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class Changes:
    """The changes of all predictions, as the database notifies them."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)

    @contextmanager
    def watch(self, prediction_id: str) -> Iterator[Watch]:
        """Register a watch on a prediction for the block. Read the row inside, then wait, then read again."""
        watch = Watch()
        self._watches[prediction_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[prediction_id].discard(watch)
            if not self._watches[prediction_id]:
                del self._watches[prediction_id]

    async def run(self) -> None:
        """Listen until cancelled, over lost connections."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                logger.warning("lost the notices; connecting again", extra={"error": str(error).strip()})
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo(self._url), autocommit=True) as connection:
            await connection.execute("listen prediction")
            self._wake_all()  # whatever changed while there was no connection
            while True:
                async for notice in connection.notifies(timeout=QUIET_S):
                    for watch in self._watches.get(notice.payload, ()):
                        watch.notify()
                await self._clock.hear(connection)  # raises if the other side is gone

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.notify()


@asynccontextmanager
async def listening(url: str, clock: Clock) -> AsyncIterator[Changes]:
    """Listen to changes for the block, and keep a clock right."""
    changes = Changes(url, clock)
    task = asyncio.create_task(changes.run(), name="changes")
    try:
        yield changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
