"""Measure what one PostgreSQL carries: what it computes, holds open and stores for a prediction and for a worker.

Run: script/bench scale [--predictions N] [--workers N] [--write]. It takes some three minutes. It counts processor
time, which other programs on the machine change little, and uses stand-ins for the Cog servers.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

import httpx
import psutil
import psycopg
from psycopg.rows import scalar_row

from bench import report
from bench.gateway.system import CONNECTIONS, IDLE, clients, own_system, pss
from tests.gateway.processes import FAKE, System, Token

IDLE_S = 20.0  # over which processes that wait are watched
TABLES: LiteralString = """
select sum(pg_total_relation_size(c.oid))::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname = 'public'
"""
LIVE: LiteralString = """
select count(*) from predictions where status in ('starting', 'processing') and model = 'test/fake'
"""
GATEWAY, WORKER, POSTGRES = "gateway", "worker", "PostgreSQL"


@dataclass(frozen=True)
class Scale:
    """What was measured; processor time in milliseconds."""

    create_ms: dict[str, float]  # for a create whose prediction stays queued, by kind of process
    whole_ms: dict[str, float]  # for a prediction from create to end, by kind; what waiting takes is taken off both
    idle_ms_per_s: dict[int, dict[str, float]]  # by the number of workers that wait beside one gateway, by kind
    connections: dict[int, int]  # by the number of workers
    connection_mb: float  # one that idles, its part of what is shared included
    stored_bytes: float  # for a prediction that has ended, indexes and the engine's rows included

    @property
    def worker_ms_per_s(self) -> float:
        """Return what PostgreSQL computes for each further worker that waits."""
        fewest, most = min(self.idle_ms_per_s), max(self.idle_ms_per_s)
        return (self.idle_ms_per_s[most][POSTGRES] - self.idle_ms_per_s[fewest][POSTGRES]) / (most - fewest)

    @property
    def worker_connections(self) -> float:
        """Return how many connections each further worker takes."""
        fewest, most = min(self.connections), max(self.connections)
        return (self.connections[most] - self.connections[fewest]) / (most - fewest)


def measure(system: System, predictions: int, workers: int) -> Scale:
    """Measure one after the other; the figures of waiting come first, while nothing is stored."""
    token = system.token()
    token.ended(token.create()["id"])
    idle: dict[int, dict[str, float]] = {}
    connections: dict[int, int] = {}
    for number in (1, workers):
        for further in range(2, number + 1):
            system.start_model(further)
        while _servers(system) < number:
            time.sleep(0.5)
        time.sleep(5)  # until their connections are open
        connections[number] = len(_connections(system))
        idle[number] = spent_ms(system, lambda: time.sleep(IDLE_S), IDLE_S)
    connection_mb = _connection_mb(system)
    before = _query(system, TABLES)
    waiting = idle[workers]
    whole = spent_ms(system, lambda: asyncio.run(create(token, system, FAKE, predictions)), predictions, waiting)
    stored = (_query(system, TABLES) - before) / predictions
    only = spent_ms(system, lambda: asyncio.run(create(token, system, IDLE, predictions)), predictions, waiting)
    return Scale(only, whole, idle, connections, connection_mb, stored)


def spent_ms(
    system: System, do: Callable[[], object], per: float, idle_ms_per_s: dict[str, float] | None = None
) -> dict[str, float]:
    """Return what each kind of process computes while something is done, beyond its idling, for each of `per`."""
    before, began_s = _computed_ms(system), time.perf_counter()
    do()
    taken_s, after = time.perf_counter() - began_s, _computed_ms(system)
    idle = idle_ms_per_s or dict.fromkeys(after, 0.0)
    return {kind: (after[kind] - before[kind] - idle[kind] * taken_s) / per for kind in after}


async def create(token: Token, system: System, model: str, count: int) -> None:
    """Create so many over some connections; where a worker takes them, wait until all have ended."""
    numbers = iter(range(count))

    async def some(client: httpx.AsyncClient) -> None:
        for _ in numbers:
            answer = await client.post(f"/models/{model}/predictions", json={"input": {}})
            assert answer.status_code == httpx.codes.CREATED, answer.text

    async with clients(token) as client:
        await asyncio.gather(*(some(client) for _ in range(CONNECTIONS)))
    while _query(system, LIVE):
        await asyncio.sleep(0.5)


def _computed_ms(system: System) -> dict[str, float]:
    """Return what the processes have computed so far, by kind."""
    processes = {GATEWAY: [system.supervisor.process("gateway").pid], POSTGRES: _postgres(system)}
    names = ["worker", *(f"worker-{number}" for number in range(2, _servers(system) + 1))]
    processes[WORKER] = [system.supervisor.process(name).pid for name in names]
    return {kind: 1000 * sum(_cpu_s(pid) for pid in pids) for kind, pids in processes.items()}


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _postgres(system: System) -> list[int]:
    """Return PostgreSQL's processes; those that have ended count with the first."""
    first = psutil.Process(_connections(system)[0]).parent()
    assert first is not None
    return [first.pid, *(child.pid for child in first.children())]


def _connections(system: System) -> list[int]:
    """Return the processes that serve the connections of gateways and workers."""
    with psycopg.connect(system.database_url, row_factory=scalar_row) as connection:
        found = connection.execute(
            "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        return found.fetchall()


def _connection_mb(system: System) -> float:
    """Return the memory that a connection takes."""
    pids = _connections(system)
    return sum(pss(pid) for pid in pids) / len(pids)


def _servers(system: System) -> int:
    return _query(system, "select count(*) from servers where health = 'READY'")


def _query(system: System, query: LiteralString) -> int:
    with psycopg.connect(system.database_url, autocommit=True, row_factory=scalar_row) as connection:
        return int(connection.execute(query).fetchone() or 0)


def described(scale: Scale, predictions: int) -> str:
    """Return the bench's section."""
    kinds = (POSTGRES, GATEWAY, WORKER)
    rows = [
        ["a create that stays queued", *(f"{scale.create_ms[kind]:.1f} ms" for kind in kinds)],
        ["a prediction from create to end", *(f"{scale.whole_ms[kind]:.1f} ms" for kind in kinds)],
    ]
    waiting = [
        [str(workers), str(scale.connections[workers]), *(f"{idle[kind]:.1f} ms" for kind in kinds)]
        for workers, idle in scale.idle_ms_per_s.items()
    ]
    return f"""## Scale

Processor time for one of {predictions} predictions without files, over {CONNECTIONS} connections to one gateway;
{report.machine()}, which had other work: {os.getloadavg()[0]:.1f} processes wanted its cores on average.

{report.markdown_table(["", POSTGRES, "the gateway", f"{max(scale.connections)} workers together"], rows)}

A second in which nothing is to do, which is taken off above (so what is next to nothing may come out below it):

{report.markdown_table(["workers", "connections", POSTGRES, "the gateway", "the workers together"], waiting)}

An idle connection takes {scale.connection_mb:.1f} MB (proportional set size). An ended prediction takes
{scale.stored_bytes / 1000:.1f} kB in the database, indexes and the queue's rows included.
"""


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(prog="script/bench scale", description=__doc__.split("\n")[0])
    parser.add_argument("--predictions", type=int, default=500)
    parser.add_argument("--workers", type=int, default=5, help="how many at most")
    parser.add_argument("--write", action="store_true", help="put the results into bench/RESULTS.md")
    options = parser.parse_args()
    with own_system() as system:
        scale = measure(system, options.predictions, options.workers)
    text = described(scale, options.predictions)
    print(text)
    if options.write:
        report.write_section("scale", text)
    values = {"create_postgres_ms": scale.create_ms[POSTGRES], "whole_postgres_ms": scale.whole_ms[POSTGRES]}
    values |= {"worker_ms_per_s": scale.worker_ms_per_s, "worker_connections": scale.worker_connections}
    print(report.key_values({**values, "stored_kb": scale.stored_bytes / 1000}))


if __name__ == "__main__":
    main()
