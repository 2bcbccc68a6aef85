"""How many predictions a second a site carries, and how that grows with its model hosts."""

import asyncio
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench import report
from bench.drill.site import Site, running
from tests.gateway.processes import FAKE

HOSTS = (1, 2, 4, 8)
RUN_S = 0.2  # of a prediction on its Cog server
WARM_S = 3.0
MEASURED_S = 15.0
CLIENTS_EACH = 2  # for each model host: one that is served, and one that waits in the queue


@dataclass(frozen=True)
class Rate:
    """What so many model hosts made."""

    hosts: int
    per_s: float
    cpu_ms: float  # that all processes of the site computed for each, the clients and the stand-ins included


def measure(folder: Path) -> list[Rate]:
    """Measure with 1, 2, 4 and 8 model hosts, through two gateways."""
    rates = []
    with running(folder, 1) as site:
        token = site.token()
        for hosts in HOSTS:
            while len(site.models) < hosts:
                site.add_model()
            site.ready()
            rates.append(asyncio.run(_rate(site, token, hosts)))
            print(f"{hosts} model hosts: {rates[-1].per_s:.1f} predictions a second", flush=True)
    return rates


async def _rate(site: Site, token: str, hosts: int) -> Rate:
    """Let clients wait for one prediction after the other, and count those that end within the measured time."""
    ends: list[float] = []
    stopping = False
    body = {"input": {"seconds": RUN_S}}
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)

    async def live(client: httpx.AsyncClient, url: str) -> None:
        while not stopping:
            answer = await client.post(f"{url}/v1/models/{FAKE}/predictions", json=body)
            assert answer.json()["status"] == "succeeded", answer.text
            ends.append(time.monotonic())

    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=65, trust_env=False) as client:
        urls = itertools.islice(itertools.cycle(site.gateways), CLIENTS_EACH * hosts)
        lives = [asyncio.create_task(live(client, url)) for url in urls]
        await asyncio.sleep(WARM_S)
        began, computed_s = time.monotonic(), _computed_s()
        await asyncio.sleep(MEASURED_S)
        ended, computed_s = time.monotonic(), _computed_s() - computed_s
        stopping = True
        await asyncio.gather(*lives)
    count = sum(began <= moment < ended for moment in ends)
    return Rate(hosts, count / (ended - began), 1000 * computed_s / count)


def _computed_s() -> float:
    """Return what all processes of the drill's world have computed so far: it has a process table of its own."""
    times = [process.cpu_times() for process in psutil.process_iter()]
    return float(sum(one.user + one.system for one in times))


def described(rates: list[Rate]) -> str:
    """Return the bench's section."""
    rows = [
        [str(rate.hosts), f"{rate.per_s:.1f}", f"{rate.per_s * RUN_S / rate.hosts:.0%}", f"{rate.cpu_ms:.0f} ms"]
        for rate in rates
    ]
    header = ["model hosts", "predictions a second", "of the time that the hosts run", "computed for each"]
    return f"""## Throughput

Predictions of {RUN_S} s without files, through two gateways, on the drill's network; {CLIENTS_EACH} clients for each
model host wait for one after the other. Clients and stand-ins run on the same cores; {report.machine()}.

{report.markdown_table(header, rows)}
"""


def values(rates: list[Rate]) -> dict[str, float]:
    """Return the figures for scripts."""
    return {f"per_s_{rate.hosts}": rate.per_s for rate in rates}
