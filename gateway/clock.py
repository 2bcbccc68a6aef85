"""The clock that all processes share is the database's: a host's own may be off by hours."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from gateway.record.database import Connection

Now: TypeAlias = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def own_time() -> datetime:
    """Return this host's time, in UTC."""
    return datetime.now(UTC)


class Clock:
    """The database's time, kept from when it was heard last by the host's count of seconds, which nobody sets."""

    def __init__(self) -> None:
        self._started_at = own_time() - timedelta(seconds=time.monotonic())  # until it is heard

    def now(self) -> datetime:
        """Return the time, in UTC, as exact as an answer of the database is quick."""
        return self._started_at + timedelta(seconds=time.monotonic())

    async def hear(self, connection: Connection) -> None:
        """Ask the database for its time."""
        asked_s = time.monotonic()
        found = await connection.execute("select extract(epoch from clock_timestamp())::float8")
        row = await found.fetchone()
        assert row is not None  # noqa: S101 - a select without from has one row
        told = _EPOCH + timedelta(seconds=row[0])
        self._started_at = told - timedelta(seconds=(asked_s + time.monotonic()) / 2)
