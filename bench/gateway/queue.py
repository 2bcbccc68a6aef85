"""Measure the queue alone: a create, a start and a list, and what is held open."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import psycopg

from bench.gateway.system import CONNECTIONS, IDLE, clients, cpu_ms, pss
from tests.gateway.processes import System, Token

IDLE_S = 0.3  # after an end is known, the worker still has its own to store
OPEN = 200  # waiters, and as many streams
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


@dataclass(frozen=True)
class Queue:
    """What was measured with the stand-in; times in milliseconds."""

    create_ms: Sequence[float]  # from sending the request to having its answer
    start_ms: Sequence[float]  # from sending the request to the Cog server's getting it
    create_cpu_ms: float  # of the gateway's process, whatever else the machine does
    creates_per_s: float
    list_ms: Sequence[float]
    list_cpu_ms: float
    held_ms: Sequence[float]  # a GET while all waiters and streams are open
    held_pss_mb: float  # of the gateway meanwhile
    released_s: float  # from cancelling all to the last answer


def measure_queue(system: System, creates: int, seconds: float) -> Queue:
    """Measure the queue with nothing else going on."""
    token = system.token()
    timed_ms(token, "GET", "/predictions")  # to warm up
    create_ms, start_ms, create_cpu_ms = creates_and_starts(token, system, creates)
    per_s = asyncio.run(creates_per_s(token, seconds))
    held_ms, held_pss_mb, released_s = asyncio.run(hold(system.token(), system))
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(STORE, (STORED,))
        connection.execute("vacuum analyze predictions")
    before_ms = cpu_ms(system)
    list_ms = [timed_ms(token, "GET", "/predictions") for _ in range(creates)]
    list_cpu_ms = (cpu_ms(system) - before_ms) / creates
    assert len(token.http.get("/predictions").json()["results"]) == 100
    return Queue(create_ms, start_ms, create_cpu_ms, per_s, list_ms, list_cpu_ms, held_ms, held_pss_mb, released_s)


def creates_and_starts(token: Token, system: System, count: int) -> tuple[list[float], list[float], float]:
    """Create one prediction after the other, each when the worker is idle again; the last is a create's CPU time."""
    create_ms, start_ms, create_cpu_ms = [], [], []
    for _ in range(count):
        before_ms, sent, sent_s = cpu_ms(system), time.time(), time.perf_counter()
        prediction = token.create(input={"seconds": 0})
        create_ms.append(1000 * (time.perf_counter() - sent_s))
        create_cpu_ms.append(cpu_ms(system) - before_ms)
        token.ended(prediction["id"])
        time.sleep(IDLE_S)
        taken = next(one["t"] for one in reversed(system.requests()) if prediction["id"] in one["path"])
        start_ms.append(1000 * (taken - sent))
    return create_ms, start_ms, statistics.median(create_cpu_ms)


async def creates_per_s(token: Token, seconds: float) -> float:
    """Create over some connections for so long, and return how many a second."""
    end = time.perf_counter() + seconds

    async def create(client: httpx.AsyncClient) -> int:
        count = 0
        while time.perf_counter() < end:
            answer = await client.post(f"/models/{IDLE}/predictions", json={"input": {}})
            assert answer.status_code == httpx.codes.CREATED, answer.text
            count += 1
        return count

    async with clients(token) as client:
        return sum(await asyncio.gather(*(create(client) for _ in range(CONNECTIONS)))) / seconds


async def hold(token: Token, system: System) -> tuple[list[float], float, float]:
    """Hold waiters and streams open; return the times of a GET meanwhile, the memory, and the time to release all."""

    async def wait(client: httpx.AsyncClient) -> str:
        answer = await client.post(f"/models/{IDLE}/predictions", json={"input": {}}, headers={"Prefer": "wait=60"})
        return str(answer.json()["status"])

    async def stream(client: httpx.AsyncClient, url: str) -> str:
        return (await client.get(url)).text

    async with clients(token) as client:
        waiters = [asyncio.create_task(wait(client)) for _ in range(OPEN)]
        while len(predictions := await everything(client)) < OPEN:
            await asyncio.sleep(0.1)
        streams = [asyncio.create_task(stream(client, one["urls"]["stream"])) for one in predictions]
        await asyncio.sleep(2)  # until all are open
        held_ms = [
            await asyncio.to_thread(timed_ms, token, "GET", f"/predictions/{one['id']}") for one in predictions[:50]
        ]
        pss_mb = pss(system.supervisor.process("gateway").pid)
        assert not any(task.done() for task in waiters + streams)
        began_s = time.perf_counter()
        await asyncio.gather(*(client.post(f"/predictions/{one['id']}/cancel") for one in predictions))
        assert set(await asyncio.gather(*waiters)) <= {"canceled", "starting"}  # that wait ran out
        assert all("event: done" in text for text in await asyncio.gather(*streams))
        return held_ms, pss_mb, time.perf_counter() - began_s


async def everything(client: httpx.AsyncClient) -> list[dict[str, dict[str, str]]]:
    """Return all predictions, page by page."""
    found, url = [], "/predictions"
    while url:
        page = (await client.get(url)).json()
        found += page["results"]
        url = page["next"]
    return found


def timed_ms(token: Token, method: str, path: str) -> float:
    """Return the milliseconds of a request with its whole answer."""
    began_s = time.perf_counter()
    token.http.request(method, path).raise_for_status()
    return 1000 * (time.perf_counter() - began_s)
