"""Measure what one PostgreSQL carries: its processor time, connections and storage for a prediction and for a worker.

Run: script/bench scale [--predictions N] [--workers N] [--write]. It takes some three minutes. Processor time depends
little on what else the machine does. The Cog servers are real; their predictor has no model.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

import psutil
import psycopg
from psycopg.rows import scalar_row

from bench import report
from bench.gateway import CONNECTIONS, IDLE_MODEL, MODEL, PREDICTOR, create, open_client, pss_mb, running
from gateway.serve.processes import free_port
from local.system import CogServer, System, wait_until_ready

IDLE_S = 20.0  # for which idle processes are measured
TABLES: LiteralString = """
select sum(pg_total_relation_size(c.oid))::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname = 'public'
"""
LIVE: LiteralString = """
select count(*) from predictions where status in ('starting', 'processing') and model = 'riffusion/riffusion'
"""
GATEWAY, WORKERS, POSTGRES = "gateway", "workers", "PostgreSQL"
KINDS = (POSTGRES, GATEWAY, WORKERS)


@dataclass(frozen=True)
class Idle:
    """What a number of idle workers with one gateway takes."""

    connections: int
    ms_per_s: dict[str, float]  # processor time for each second, by kind of process


@dataclass
class Site:
    """A system, and how many workers it has."""

    system: System
    workers: int = 1

    def add_worker(self) -> None:
        """Start one more worker with a Cog server of its own."""
        self.workers += 1
        server = CogServer("riffusion", free_port(), PREDICTOR, f"riffusion-{self.workers}")
        self.system.supervisor.start(server)
        wait_until_ready(server, self.system.supervisor)
        self.system.supervisor.start(server.worker(self.system.environment))

    def idle(self) -> Idle:
        """Measure the system while it waits."""
        while self.query("select count(*) from servers where health = 'READY'") < self.workers:
            time.sleep(0.5)
        time.sleep(5)  # until all connections are open
        return Idle(len(self.connections()), self.spent_ms(lambda: time.sleep(IDLE_S), IDLE_S))

    def spent_ms(self, do: Callable[[], object], per: float, idle: Idle | None = None) -> dict[str, float]:
        """Return the processor time of each kind of process during `do`, without idling, divided by `per`."""
        before, began_s = self._computed_ms(), time.perf_counter()
        do()
        taken_s, after = time.perf_counter() - began_s, self._computed_ms()
        idle_ms_per_s = idle.ms_per_s if idle else dict.fromkeys(KINDS, 0.0)
        return {kind: (after[kind] - before[kind] - idle_ms_per_s[kind] * taken_s) / per for kind in KINDS}

    async def create(self, model: str, count: int) -> None:
        """Create predictions over some connections, and wait for those that a worker takes."""
        numbers = iter(range(count))

        async with open_client(self.system) as client:

            async def keep_creating() -> None:
                for _ in numbers:
                    await create(client, model)

            await asyncio.gather(*(keep_creating() for _ in range(CONNECTIONS)))
        while self.query(LIVE):
            await asyncio.sleep(0.5)

    def connections(self) -> list[int]:
        """Return the processes of PostgreSQL that serve the connections of the gateway and the workers."""
        with psycopg.connect(self._database_url, row_factory=scalar_row) as connection:
            found = connection.execute(
                "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
            )
            return found.fetchall()

    def query(self, query: LiteralString) -> int:
        """Return a number from the database."""
        with psycopg.connect(self._database_url, autocommit=True, row_factory=scalar_row) as connection:
            return int(connection.execute(query).fetchone() or 0)

    @property
    def _database_url(self) -> str:
        return self.system.environment["GATEWAY_DATABASE_URL"]

    def _computed_ms(self) -> dict[str, float]:
        """Return the processor time so far; PostgreSQL's exited processes count with its first."""
        postgres = psutil.Process(self.system.supervisor.process("postgres").pid)
        names = ["riffusion-worker", *(f"riffusion-{number}-worker" for number in range(2, self.workers + 1))]
        pids = {
            POSTGRES: [postgres.pid, *(child.pid for child in postgres.children())],
            GATEWAY: [self.system.supervisor.process("gateway").pid],
            WORKERS: [self.system.supervisor.process(name).pid for name in names],
        }
        return {kind: 1000 * sum(_cpu_s(pid) for pid in its_pids) for kind, its_pids in pids.items()}


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def measure(site: Site, predictions: int, workers: int) -> tuple[str, dict[str, float]]:
    """Measure everything; return the bench's section, and its figures for scripts."""
    asyncio.run(site.create(MODEL, 1))  # warm up
    idle = {1: site.idle()}
    while site.workers < workers:
        site.add_worker()
    idle[workers] = most = site.idle()
    pids = site.connections()
    connection_mb = sum(map(pss_mb, pids)) / len(pids)
    stored = site.query(TABLES)
    whole = site.spent_ms(lambda: asyncio.run(site.create(MODEL, predictions)), predictions, most)
    stored_kb = (site.query(TABLES) - stored) / predictions / 1000
    queued = site.spent_ms(lambda: asyncio.run(site.create(IDLE_MODEL, predictions)), predictions, most)

    def cells(ms: dict[str, float]) -> list[str]:
        return [f"{ms[kind]:.1f} ms" for kind in KINDS]

    rows = [["a create that stays queued", *cells(queued)], ["a prediction from create to end", *cells(whole)]]
    waiting = [[str(number), str(one.connections), *cells(one.ms_per_s)] for number, one in idle.items()]
    text = f"""## Scale

Processor time for one of {predictions} predictions without files, created over {CONNECTIONS} connections to one
gateway; {report.machine()}, which had other work: on average {os.getloadavg()[0]:.1f} processes wanted its cores.

{report.markdown_table(["", POSTGRES, "the gateway", f"{workers} workers together"], rows)}

Processor time for each second in which nothing happens. It is subtracted above, so a small figure there may come out
negative:

{report.markdown_table(["workers", "connections", POSTGRES, "the gateway", "the workers together"], waiting)}

An idle connection takes {connection_mb:.1f} MB (proportional set size). An ended prediction takes {stored_kb:.1f} kB
in the database, including indexes and the rows of the queue.
"""
    return text, {
        "create_postgres_ms": queued[POSTGRES],
        "whole_postgres_ms": whole[POSTGRES],
        "worker_ms_per_s": (most.ms_per_s[POSTGRES] - idle[1].ms_per_s[POSTGRES]) / (workers - 1),
        "worker_connections": (most.connections - idle[1].connections) / (workers - 1),
        "stored_kb": stored_kb,
    }


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--predictions", type=int, default=500)
    parser.add_argument("--workers", type=int, default=5, help="at most, and at least 2 (default: %(default)s)")
    options = parser.parse_args()
    with running() as system:
        text, values = measure(Site(system), options.predictions, options.workers)
    report.publish("scale", text, values, options.write)


if __name__ == "__main__":
    main()
