"""A host's clock may be off by an hour, so shared times come from the database."""

from datetime import UTC, datetime, timedelta

import procrastinate.utils
import psycopg
import pytest

from gateway.clock import Clock
from gateway.record import Record
from gateway.record.database import conninfo, time_of
from tests.gateway.recording import all_attempts_lost, fail_and_fetch_delivery, fetch_delivery, new

pytestmark = pytest.mark.anyio


class WrongClock(Clock):
    """The clock of a host that is an hour behind."""

    def __init__(self) -> None:
        super().__init__()
        self._started_at -= timedelta(hours=1)


async def test_a_synced_clock_has_the_databases_time(database_url: str) -> None:
    clock = WrongClock()
    async with await psycopg.AsyncConnection.connect(conninfo(database_url), autocommit=True) as connection:

        async def off_s() -> float:
            found = await connection.execute("select clock_timestamp()")
            row = await found.fetchone()
            assert row is not None
            return float((clock.now() - row[0]).total_seconds())

        assert await off_s() == pytest.approx(-3600, abs=300)
        await clock.sync(lambda: time_of(connection))
        assert await off_s() == pytest.approx(0, abs=300)
        assert clock.now().utcoffset() == timedelta(0)


@all_attempts_lost
async def test_a_sweep_retries_at_once_although_the_hosts_clock_is_ahead(
    record: Record, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """procrastinate itself would use the host's time, and wait an hour."""
    monkeypatch.setattr(procrastinate.utils, "utcnow", lambda: datetime.now(UTC) + timedelta(hours=1))
    delivery = await fail_and_fetch_delivery(record, await record.predictions.create(new(owner)))
    assert await record.sweep.tidy() == 2  # the delivery's gateway counts as dead
    again = await fetch_delivery(record)
    assert again is not None
    assert again.id == delivery.id
