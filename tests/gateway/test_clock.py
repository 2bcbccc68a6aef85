"""A host's clock may be off by an hour, so shared times come from the database."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import procrastinate.utils
import psycopg
import pytest

from gateway.clock import Clock
from gateway.record import Record
from gateway.record.database import conninfo, time_of
from tests.gateway.recording import delivered, new, owner, with_record


class WrongClock(Clock):
    """A clock of a host that is an hour behind."""

    def __init__(self) -> None:
        super().__init__()
        self._started_at -= timedelta(hours=1)


def test_a_synced_clock_has_the_databases_time(database_url: str) -> None:
    async def test() -> None:
        clock = WrongClock()
        async with await psycopg.AsyncConnection.connect(conninfo(database_url), autocommit=True) as connection:

            async def off_s() -> float:
                found = await connection.execute("select clock_timestamp()")
                row = await found.fetchone()
                assert row is not None
                return float((clock.now() - row[0]).total_seconds())

            assert await off_s() == pytest.approx(-3600, abs=60)
            await clock.sync(lambda: time_of(connection))
            assert await off_s() == pytest.approx(0, abs=60)
            assert clock.now().utcoffset() == timedelta(0)

    asyncio.run(test())


def test_a_sweep_retries_at_once_whatever_the_hosts_clock(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """procrastinate itself would use the host's time, and wait."""
    monkeypatch.setattr(procrastinate.utils, "utcnow", lambda: datetime.now(UTC) + timedelta(hours=1))

    async def test(it: Record) -> None:
        delivering = await delivered(it, await it.predictions.create(new(await owner(it))))
        assert await it.sweep.tidy() == 2  # stalled_s is 0, so its gateway counts as dead
        manager = it.procrastinate.job_manager
        again = await manager.fetch_job(["webhooks"], await manager.register_worker())
        assert again is not None
        assert again.id == delivering.id

    with_record(database_url, tmp_path, test, stalled_s=0)
