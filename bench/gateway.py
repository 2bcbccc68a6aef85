"""Measure what the gateway adds to a prediction, how many it takes a second, and how much memory it needs.

Run: script/bench gateway [--write]. It takes some two minutes. The Cog server is real; its predictor has no model.
"""

import asyncio
import datetime
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import psycopg

from bench import report
from gateway.serve import postgres
from local import system
from local.system import NAMES, System

MODEL, IDLE_MODEL = NAMES["riffusion"], NAMES["deforum"]  # no worker takes predictions of the second
PREDICTOR = Path(__file__).with_name("instant_predictor.py")
SETTINGS = {
    "GATEWAY_CREATES_PER_S": "0",
    "GATEWAY_QUEUED": "0",
    "GATEWAY_LOG_LEVEL": "warning",
    "GATEWAY_MODELS": f"{MODEL},{IDLE_MODEL}",
}
CONNECTIONS = 8  # kept open
IDLE_S = 0.5  # for a prediction to end, and its worker to wait for the next
STORED = 100_000
STORE = """
insert into predictions (id, owner, model, version, queue, base_url, input, status, output, created_at, started_at,
                         completed_at, job_id)
select 'stored' || lpad(i::text, 20, '0'), (select id from tokens limit 1), 'riffusion/riffusion', repeat('8', 64),
       'riffusion/riffusion', 'http://127.0.0.1:5000', '{"prompt_a": "church bells", "num_inference_steps": 50}',
       'succeeded', '"done"', now() - interval '1 second' * i, now() - interval '1 second' * i,
       now() - interval '1 second' * i, -i
from generate_series(1, %s) i
"""


@contextmanager
def running() -> Iterator[System]:
    """Run the system with one model, whose predictor returns at once."""
    with postgres.temporary_folder() as folder:
        predictors = {"riffusion": PREDICTOR}
        options = system.Options(models=("riffusion",), port=0, data=folder, predictors=predictors, settings=SETTINGS)
        with system.running(options) as started:
            yield started


def open_client(started: System) -> httpx.AsyncClient:
    """Return a client with the system's token that opens any number of connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
    headers = {"Authorization": f"Bearer {started.token}"}
    return httpx.AsyncClient(base_url=started.url, headers=headers, limits=limits, timeout=120, trust_env=False)


async def create(client: httpx.AsyncClient, model: str, wait_s: int = 0) -> Any:
    """Create a prediction and return it, with `wait_s` once it has ended."""
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
    answer = await client.post(f"/models/{model}/predictions", json={"input": {}}, headers=headers)
    assert answer.is_success, answer.text
    return answer.json()


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process: its own memory, and its share of what it shares."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def cpu_ms(started: System) -> float:
    """Return the processor time that the gateway has taken so far."""
    tasks = Path(f"/proc/{started.supervisor.process('gateway').pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


async def creates_and_starts(
    client: httpx.AsyncClient, started: System, count: int
) -> tuple[list[float], list[float], float]:
    """Create predictions for an idle worker; return the times to the response and to the start, and the CPU time."""
    create_ms, start_ms, create_cpu_ms = [], [], []
    for _ in range(count):
        before_ms, sent_at, began_s = cpu_ms(started), time.time(), time.perf_counter()
        prediction = await create(client, MODEL)
        create_ms.append(1000 * (time.perf_counter() - began_s))
        create_cpu_ms.append(cpu_ms(started) - before_ms)
        await asyncio.sleep(IDLE_S)
        ended = (await client.get(f"/predictions/{prediction['id']}")).json()
        start_ms.append(1000 * (datetime.datetime.fromisoformat(ended["started_at"]).timestamp() - sent_at))
    return create_ms, start_ms, statistics.median(create_cpu_ms)


async def times_ms(count: int, call: Callable[[], Awaitable[Any]], pause_s: float = 0) -> list[float]:
    """Return how long each of `count` calls took."""
    times = []
    for _ in range(count):
        began_s = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - began_s))
        await asyncio.sleep(pause_s)
    return times


async def creates_per_s(client: httpx.AsyncClient, seconds: float) -> float:
    """Create predictions over several connections, and return how many a second."""
    end_s = time.perf_counter() + seconds

    async def keep_creating() -> int:
        count = 0
        while time.perf_counter() < end_s:
            await create(client, IDLE_MODEL)
            count += 1
        return count

    return sum(await asyncio.gather(*(keep_creating() for _ in range(CONNECTIONS)))) / seconds


def memory_mb(started: System) -> dict[str, float]:
    """Return the memory of each process of the system but the Cog server's."""
    pids = {"gateway": "gateway", "worker": "riffusion-worker", "PostgreSQL, all its processes": "postgres"}
    family = {name: psutil.Process(started.supervisor.process(service).pid) for name, service in pids.items()}
    return {
        name: sum(pss_mb(process.pid) for process in (first, *first.children(recursive=True)))
        for name, first in family.items()
    }


async def measure(started: System, count: int, seconds: float) -> tuple[str, dict[str, float]]:
    """Measure everything; return the bench's section, and its figures for scripts."""
    async with open_client(started) as client, httpx.AsyncClient(timeout=120, trust_env=False) as direct:

        async def predict_directly() -> None:
            answer = await direct.post(f"{started.servers[0].url}/predictions", json={"input": {}})
            assert answer.json()["status"] == "succeeded"

        async def predict() -> None:
            assert (await create(client, MODEL, wait_s=60))["status"] == "succeeded"

        async def list_predictions() -> None:
            assert len((await client.get("/predictions")).json()["results"]) == 100

        idle_mb = memory_mb(started)
        await predict()  # warm up
        create_ms, start_ms, create_cpu_ms = await creates_and_starts(client, started, count)
        direct_ms = await times_ms(count, predict_directly, IDLE_S)
        through_ms = await times_ms(count, predict, IDLE_S)
        per_s = await creates_per_s(client, seconds)
        with psycopg.connect(started.environment["GATEWAY_DATABASE_URL"], autocommit=True) as connection:
            connection.execute(STORE, (STORED,))
            connection.execute("vacuum analyze predictions")
        before_ms = cpu_ms(started)
        list_ms = await times_ms(count, list_predictions)
        list_cpu_ms = (cpu_ms(started) - before_ms) / count
    times = {
        "create": create_ms,
        "create to start": start_ms,
        "a prediction without a model, on the Cog server": direct_ms,
        "the same through the gateway": through_ms,
        f"list of 100, {STORED:,} stored": list_ms,
    }
    rows = [[name, *(f"{ms:.1f} ms" for ms in np.percentile(its_ms, (50, 95)))] for name, its_ms in times.items()]
    sizes = [[name, f"{size:.0f} MB"] for name, size in (idle_mb | {"together": sum(idle_mb.values())}).items()]
    text = f"""## Gateway

{count} of each, one after the other, on the same machine; {report.machine()}, which had other work: on average
{os.getloadavg()[0]:.1f} processes wanted its cores.

{report.markdown_table(["", "median", "95th percentile"], rows)}

The gateway takes {create_cpu_ms:.1f} ms of processor time for a create and {list_cpu_ms:.1f} ms for a list. It takes
{per_s:.0f} creates a second over {CONNECTIONS} connections.

Memory while idle (proportional set size: shared pages count in parts):

{report.markdown_table(["process", "memory"], sizes)}
"""
    return text, {
        "create_ms": statistics.median(create_ms),
        "start_ms": statistics.median(start_ms),
        "overhead_ms": statistics.median(through_ms) - statistics.median(direct_ms),
        "creates_per_s": per_s,
        "list_ms": statistics.median(list_ms),
    }


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="of each measurement (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of parallel creates (default: %(default)s)")
    options = parser.parse_args()
    with running() as started:
        text, values = asyncio.run(measure(started, options.count, options.seconds))
    report.publish("gateway", text, values, options.write)


if __name__ == "__main__":
    main()
