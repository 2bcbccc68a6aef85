"""The database's clock, which all processes share: a host's own may be off by hours."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Now: TypeAlias = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def own_time() -> datetime:
    """Return this host's time, in UTC."""
    return datetime.now(UTC)


class Clock:
    """The database's time, carried forward by this host's monotonic clock, which nobody sets."""

    def __init__(self) -> None:
        self._started_at = own_time() - timedelta(seconds=time.monotonic())  # until the first sync

    def now(self) -> datetime:
        """Return the time in UTC. Its error is at most half the round trip of the last sync."""
        return self._started_at + timedelta(seconds=time.monotonic())

    async def sync(self, ask: Callable[[], Awaitable[float]]) -> None:
        """Set the clock. `ask` queries the database's time, in seconds since 1970."""
        asked_s = time.monotonic()
        told = _EPOCH + timedelta(seconds=await ask())
        self._started_at = told - timedelta(seconds=(asked_s + time.monotonic()) / 2)
