"""A host's clock may be off by an hour, so shared times come from the database."""

import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import procrastinate.utils
import psycopg
import pytest

from gateway.clock import Clock
from gateway.record import Record
from gateway.record.database import conninfo, time_of
from tests.gateway.processes import System, Token
from tests.gateway.receiver import receiving
from tests.gateway.recording import all_attempts_lost, fail_and_fetch_delivery, fetch_delivery, new

pytestmark = pytest.mark.anyio

HOUR_S = 3600
CC = shutil.which("cc")


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


@pytest.mark.skipif(CC is None, reason="this machine has no C compiler")
def test_a_gateway_whose_host_is_an_hour_ahead_signs_and_sends_as_the_others_do(
    system: System, token: Token, http: httpx.Client, tmp_path: Path
) -> None:
    """Of the URLs of files, and of the timestamps of webhooks and their retries."""
    library, source = tmp_path / "clock.so", Path(__file__).with_name("wrong_clock.c")
    subprocess.run([str(CC), "-shared", "-fPIC", f"-DAHEAD_S={HOUR_S}", "-o", library, source], check=True)
    began_s = time.time()
    with (
        receiving() as receiver,
        system.another_process({"LD_PRELOAD": str(library)}) as url,
        Token(url, token.text, system) as ahead,
    ):
        body = {"input": {"files": 1}, "webhook": f"{receiver.url}/late/x", "webhook_events_filter": "completed"}
        made = [ahead.create(body=body)["id"] for _ in range(8)]  # either gateway sends some
        for prediction_id in made:
            ended = ahead.ended(prediction_id)
            for output in (ended["output"], token.get(prediction_id)["output"]):
                path = output.partition("/outputs/")[2]
                assert [http.get(f"{gateway}/outputs/{path}").status_code for gateway in (url, system.url)] == [
                    200,
                    200,
                ]
        system.until(lambda: len(receiver.deliveries) == 2 * len(made))
    sent_s = [int(delivery.headers["webhook-timestamp"]) for delivery in receiver.deliveries]
    assert all(began_s - 1 <= one <= time.time() for one in sent_s)


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
