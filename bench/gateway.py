"""Measure what the gateway adds: to a create, to a start, to a list, to a clip; and what it takes.

Run: script/bench gateway [--write]. It takes some minutes and uses the small model. The queue is measured with a
stand-in for the Cog server, the clips and the memory with script/serve.
"""

import argparse
import asyncio
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from bench import report
from local import postgres
from local.supervisor import python
from tests.gateway.processes import ROOT, System, Token, running

IDLE = "riffusion/riffusion"  # in the first system no worker takes its queue
UNLIMITED = {"GATEWAY_CREATES_PER_S": "0", "GATEWAY_QUEUED": "0", "GATEWAY_LOG_LEVEL": "warning"}
IDLE_S = 0.3  # after an end is known, the worker still has its own to store
CONNECTIONS = 8  # that create at once
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


@dataclass(frozen=True)
class Clips:
    """What was measured with script/serve; the model's own time, which the server tells, is taken off each."""

    direct_ms: Sequence[float]
    gateway_ms: Sequence[float]
    pss_mb: dict[str, float]  # by process, shared pages in parts
    ready_s: float

    @property
    def overhead_ms(self) -> float:
        """Return what the gateway adds to a clip."""
        return statistics.median(self.gateway_ms) - statistics.median(self.direct_ms)


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


def clients(token: Token) -> httpx.AsyncClient:
    """Return a client that opens as many connections as are wanted."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
    headers = {"Authorization": f"Bearer {token.text}"}
    return httpx.AsyncClient(base_url=token.url, headers=headers, limits=limits, timeout=120, trust_env=False)


def timed_ms(token: Token, method: str, path: str) -> float:
    """Return the milliseconds of a request with its whole answer."""
    began_s = time.perf_counter()
    token.http.request(method, path).raise_for_status()
    return 1000 * (time.perf_counter() - began_s)


def measure_clips(folder: Path, count: int) -> Clips:
    """Make default clips with script/serve, in turns through the gateway and on the Cog server itself."""
    command = [str(ROOT / "script" / "serve"), "--port", "0", "--data", str(folder)]
    began_s = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "WEIGHTS": "small"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = next(line for line in process.stdout if line.startswith("ready on")).split()[-1]
            ready_s = time.perf_counter() - began_s
            time.sleep(3)
            memory = memory_of(process.pid)
            headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
            with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
                direct, through = take_turns(client, cog_url(process.pid), count)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return Clips(direct, through, memory, ready_s)


def take_turns(client: httpx.Client, cog: str, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds that clips took beyond the model's own, on the Cog server and through the gateway."""
    direct, through = [], []
    for turn in range(count + 1):
        while True:
            began_s = time.perf_counter()
            answer = httpx.post(f"{cog}/predictions", json={"input": {}}, timeout=300, trust_env=False)
            if answer.status_code != httpx.codes.CONFLICT:  # for some milliseconds after an end
                break
        direct.append(beyond_ms(began_s, answer))
        time.sleep(1)
        began_s = time.perf_counter()
        answer = client.post(f"/models/{IDLE}/predictions", json={"input": {}}, headers={"Prefer": "wait=60"})
        through.append(beyond_ms(began_s, answer))
        if turn == 0:  # to warm up
            direct.clear()
            through.clear()
    return direct, through


def beyond_ms(began_s: float, answer: httpx.Response) -> float:
    """Return how many milliseconds an answer took beyond the time that the model took."""
    taken_s = time.perf_counter() - began_s
    prediction = answer.json()
    assert prediction["status"] == "succeeded", prediction
    return 1000 * float(taken_s - prediction["metrics"]["predict_time"])


def cog_url(launcher: int) -> str:
    """Return the address of riffusion's Cog server, which its worker was told."""
    for child in psutil.Process(launcher).children(recursive=True):
        command = child.cmdline()
        if "gateway.work" in command and IDLE in command:
            return str(command[command.index("--cog-url") + 1])
    raise RuntimeError("riffusion has no worker")


def memory_of(launcher: int) -> dict[str, float]:
    """Return the proportional set size of each of our processes in MB; the models' servers are left out."""
    family = [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    sizes: dict[str, float] = {}
    for process in family:
        if name := name_of(" ".join(process.cmdline())):
            sizes[name] = sizes.get(name, 0) + pss(process.pid)
    return sizes


def name_of(command: str) -> str | None:
    """Return what a process is called in the table."""
    names = {
        r"-m local\.preview": "the page's preview of motion",
        r"-m local\b": "launcher",
        r"-m gateway$": "gateway",
        rf"gateway\.work .*{IDLE}": "riffusion's worker",
        r"gateway\.work": "deforum's worker",
        r"postgres": "PostgreSQL, all of it",
    }
    return next((name for pattern, name in names.items() if re.search(pattern, command)), None)


def cpu_ms(system: System) -> float:
    """Return the milliseconds that the gateway has computed so far."""
    tasks = Path(f"/proc/{system.supervisor.process('gateway').pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def pss(pid: int) -> float:
    """Return a process's proportional set size in MB: what it has alone, and its part of what it shares."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s*(\d+) kB$", text, re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6


@contextmanager
def own_system() -> Iterator[tuple[Path, System]]:
    """Run a system with the stand-in on a database that keeps what it is told."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)  # PostgreSQL's user passes through it
    try:
        with (folder / "log").open("wb") as log, postgres.started(folder / "pg", log) as cluster:
            environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url, "PYTHONPATH": str(ROOT)}
            subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True, capture_output=True)
            with running(folder, cluster.url, UNLIMITED) as system:
                yield folder, system
    finally:
        if (folder / "pg").exists():
            postgres.remove(folder / "pg")
        shutil.rmtree(folder)


def percentile(values: Sequence[float], part: int) -> float:
    """Return the value that `part` percent of the values don't exceed."""
    return sorted(values)[math.ceil(part / 100 * len(values)) - 1]


def described(queue: Queue, clips: Clips, creates: int) -> str:
    """Return the bench's section."""

    def row(name: str, values: Sequence[float]) -> list[str]:
        return [name, f"{statistics.median(values):.1f} ms", f"{percentile(values, 95):.1f} ms"]

    load = os.getloadavg()[0]
    memory = [[name, f"{size:.0f} MB"] for name, size in clips.pss_mb.items()]
    total = [["together", f"{sum(clips.pss_mb.values()):.0f} MB"]]
    times = [
        row("create", queue.create_ms),
        row("create to start", queue.start_ms),
        row(f"list of 100, {STORED:,} stored", queue.list_ms),
        row(f"GET while {OPEN} wait and {OPEN} stream", queue.held_ms),
        row("a clip on the Cog server, the model's time taken off", clips.direct_ms),
        row("a clip through the gateway, the model's time taken off", clips.gateway_ms),
    ]
    return f"""## Gateway

{creates} creates one after the other, and {len(clips.direct_ms)} clips of the small model in turns;
{report.machine()}, which had other work: {load:.1f} processes wanted its cores on average.

{report.markdown_table(["", "median", "95 %"], times)}

The gateway computes {queue.create_cpu_ms:.1f} ms for a create and {queue.list_cpu_ms:.1f} ms for a list.
{queue.creates_per_s:.0f} creates a second over {CONNECTIONS} connections, the client on the same machine.
{OPEN} waiters and {OPEN} streams: the gateway takes {queue.held_pss_mb:.0f} MB; all cancelled at once, the
last is answered after {queue.released_s:.1f} s.
script/serve is ready after {clips.ready_s:.1f} s. What it takes while idle, without the models' servers (proportional
set size: shared pages count in parts):

{report.markdown_table(["process", "memory"], memory + total)}
"""


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creates", type=int, default=100, help="one after the other (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of creates at once (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=10, help="each way (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    options = parser.parse_args()
    with own_system() as (folder, system):
        queue = measure_queue(system, options.creates, options.seconds)
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)
    try:
        clips = measure_clips(folder, options.clips)
        postgres.remove(folder / "postgres")
    finally:
        shutil.rmtree(folder)
    text = described(queue, clips, options.creates)
    print(text)
    if options.write:
        report.write_section("gateway", text)
    values = {
        "create_ms": statistics.median(queue.create_ms),
        "start_ms": statistics.median(queue.start_ms),
        "creates_per_s": queue.creates_per_s,
        "list_ms": statistics.median(queue.list_ms),
        "rss_mb": sum(clips.pss_mb.values()),
        "overhead_ms": clips.overhead_ms,
    }
    print(report.key_values(values))


if __name__ == "__main__":
    main()
