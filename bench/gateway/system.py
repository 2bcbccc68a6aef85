"""Run a gateway with a stand-in for the Cog server, speak with it, and see what it takes."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from local import postgres
from local.supervisor import python
from tests.gateway.processes import ROOT, System, Token, running

IDLE = "riffusion/riffusion"  # no worker of the stand-in's system takes its queue
UNLIMITED = {"GATEWAY_CREATES_PER_S": "0", "GATEWAY_QUEUED": "0", "GATEWAY_LOG_LEVEL": "warning"}
CONNECTIONS = 8  # that are kept open


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for a database in `postgres` and more, and delete both in the end."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)  # PostgreSQL's user passes through it
    try:
        yield folder
    finally:
        if (folder / "postgres").exists():
            postgres.remove(folder / "postgres")
        shutil.rmtree(folder)


@contextmanager
def own_system() -> Iterator[System]:
    """Run a system with the stand-in on a database that keeps what it is told."""
    with (
        own_folder() as folder,
        (folder / "log").open("wb") as log,
        postgres.started(folder / "postgres", log) as cluster,
    ):
        environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url, "PYTHONPATH": str(ROOT)}
        subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True, capture_output=True)
        with running(folder, cluster.url, UNLIMITED) as system:
            yield system


def clients(token: Token) -> httpx.AsyncClient:
    """Return a client that opens as many connections as are wanted."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
    headers = {"Authorization": f"Bearer {token.text}"}
    return httpx.AsyncClient(base_url=token.url, headers=headers, limits=limits, timeout=120, trust_env=False)


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
