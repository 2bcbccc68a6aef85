"""Hold the locks that a sweep holds for some milliseconds, and the row of a prediction, until the host is lost.

Run on a host as `python -m tests.resilience.holding SERVER`, with the settings of a worker. It prints the id of the
prediction once it holds both; the worker of that server then can't end the prediction.
"""

import asyncio
import sys

import psycopg

from gateway.record.database import conninfo
from gateway.record.sweep import SWEEP_LOCK
from gateway.settings import settings

RUNNING = "select id from predictions where server = %s and status = 'processing' limit 1 for update skip locked"


async def hold(server: str) -> None:
    """Take both locks as the gateway does, and release them only with the connection."""
    async with await psycopg.AsyncConnection.connect(conninfo(settings().database_url)) as connection:
        await connection.execute("select pg_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        while (row := await (await connection.execute(RUNNING, (server,))).fetchone()) is None:
            await asyncio.sleep(0.02)
        sys.stdout.write(f"holding {row[0]}\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1]))
