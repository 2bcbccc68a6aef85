"""Notices of changed predictions: one LISTEN connection per process, any number of waiters."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg

from gateway.clock import Clock
from gateway.record.database import conninfo, time_of

logger = logging.getLogger(__name__)

QUIET_S = 10.0  # without a notice for this long, the connection is checked
RECONNECT_S = 0.2


class Watch:
    """A waiter for the changes of one prediction, registered before the first read so that none is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiter."""
        self._event.set()

    async def changed(self, timeout_s: float = 5.0) -> bool:
        """Wait for the next change. Return False after the timeout; read the row in either case."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class Notices:
    """The database's notices about all predictions."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)

    @contextmanager
    def watch(self, prediction_id: str) -> Iterator[Watch]:
        """Watch a prediction for the block. Read the row inside the block, then wait, then read again."""
        watch = Watch()
        self._watches[prediction_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[prediction_id].discard(watch)
            if not self._watches[prediction_id]:
                del self._watches[prediction_id]

    async def run(self) -> None:
        """Listen until cancelled, and reconnect after a lost connection."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                logger.warning("lost the connection for notices; reconnecting", extra={"error": str(error).strip()})
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo(self._url), autocommit=True) as connection:
            await connection.execute("listen prediction")
            self._wake_all()  # something may have changed without a connection
            while True:
                async for notice in connection.notifies(timeout=QUIET_S):
                    for watch in self._watches.get(notice.payload, ()):
                        watch.notify()
                await self._clock.sync(lambda: time_of(connection))  # raises if the connection is dead

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.notify()


@asynccontextmanager
async def listening(url: str, clock: Clock) -> AsyncIterator[Notices]:
    """Listen for the block, and keep the clock in sync."""
    notices = Notices(url, clock)
    task = asyncio.create_task(notices.run(), name="notices")
    try:
        yield notices
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
