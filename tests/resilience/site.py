"""The site: PostgreSQL, two gateways and some model hosts, each on a host of its own, and what may happen to them."""

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import scalar_row

from bench.drill.network import PREFIX, Network, on
from bench.verdict import AUDIT
from gateway.record.database import open_database
from gateway.record.tokens import Tokens
from local import postgres
from local.account import Account
from local.services import Database
from local.supervisor import Command, Supervisor, python
from tests.gateway import fake_coglet
from tests.gateway.processes import CATALOG, FAKE, ROOT, answers

PORT = 5000
GATEWAYS = ("gateway-1", "gateway-2")
PATIENCE_S = 120
DRAIN_S = 60
POLL_S = 0.2
SETTINGS = {
    "GATEWAY_WEBHOOK_HTTP": "true",
    "GATEWAY_WEBHOOK_PRIVATE": "true",
    "GATEWAY_RETENTION_S": "0",  # the files are counted at the end
    "GATEWAY_CREATES_PER_S": "0",
    "GATEWAY_LOG_LEVEL": "warning",
}
READY: LiteralString = """
select count(*) from servers
where name = any(%s) and health in ('READY', 'BUSY') and seen_at > now() - interval '8 s'
"""
T = TypeVar("T")


@dataclass
class Host:
    """A host, and what keeps its processes running."""

    name: str
    address: str
    supervisor: Supervisor
    up: bool = True  # else its processes are left alone: nobody is there to start them again

    def command(self, name: str, command: list[str], environment: Mapping[str, str]) -> Command:
        """Return a service that runs here."""
        return Command(name, on(self.name, command), environment)


@dataclass
class Site:
    """All hosts, as the drill sees and handles them."""

    folder: Path
    network: Network
    database_url: str  # for the hosts
    own_url: str  # for the drill, by a socket: no fault is in its way
    stack: ExitStack
    hosts: dict[str, Host] = field(default_factory=dict)
    numbers: int = 1  # of the addresses given

    @property
    def gateways(self) -> list[str]:
        """Return the gateways' URLs."""
        return [f"http://{self.hosts[name].address}:{PORT}" for name in GATEWAYS]

    @property
    def models(self) -> list[Host]:
        """Return the model hosts that are up."""
        return [host for host in self.hosts.values() if host.name.startswith("model-") and host.up]

    @property
    def files(self) -> Path:
        """Return the folder of the output files, which all hosts share."""
        return self.folder / "files"

    def add(self, name: str) -> Host:
        """Add a host that runs nothing yet."""
        self.numbers += 1
        address = f"{PREFIX}.{self.numbers}"
        self.network.add(name, address)
        supervisor = self.stack.enter_context(Supervisor(self.folder / "logs" / name, _say_nothing))
        self.hosts[name] = Host(name, address, supervisor)
        return self.hosts[name]

    def start_gateway(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a host's gateway, anew if it had one."""
        host = self.hosts[name]
        given = {**self.environment, "GATEWAY_HOST": host.address, "GATEWAY_PORT": str(PORT), **(environment or {})}
        host.supervisor.start(host.command("gateway", python("-m", "gateway"), given))

    def start_cog(self, host: Host, environment: Mapping[str, str] | None = None) -> None:
        """Start the stand-in for a host's Cog server."""
        journal = self.folder / f"journal-{host.name}.jsonl"
        command = [sys.executable, fake_coglet.__file__, "--port", str(PORT), "--journal", str(journal)]
        host.supervisor.start(host.command("coglet", command, {"PYTHONPATH": str(ROOT), **(environment or {})}))

    def start_worker(self, host: Host, environment: Mapping[str, str] | None = None) -> None:
        """Start the worker beside a host's Cog server."""
        arguments = ["--queue", FAKE, "--cog-url", f"http://127.0.0.1:{PORT}", "--name", host.name]
        command = host.command(
            "worker", python("-m", "gateway.work", *arguments), {**self.environment, **(environment or {})}
        )
        host.supervisor.start(replace(command, grace_s=2))

    def add_model(self) -> Host:
        """Add a model host with its two processes; no name and no address is given twice."""
        number = 1 + sum(name.startswith("model-") for name in self.hosts)
        host = self.add(f"model-{number}")
        self.start_cog(host)
        self.start_worker(host)
        return host

    def lose(self, host: Host) -> None:
        """Lose a host for ever: its cable first, so that nobody hears of its end, then all that runs there."""
        self.network.cut(host.name)
        host.up = False
        self.network.kill(host.name)
        self.network.remove(host.name)

    def drain(self, host: Host, name: str) -> int:
        """Tell a host's process to end, and return its status when it has ended what it was at."""
        process = host.supervisor.process(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(DRAIN_S)

    def tend(self) -> None:
        """Start again what has exited on hosts that are up."""
        for host in self.hosts.values():
            if host.up:
                host.supervisor.tend()

    def until(self, there: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
        """Return what `there` returns once that is something."""
        give_up = time.monotonic() + patience_s
        while not (found := there()):
            if time.monotonic() > give_up:
                raise TimeoutError(f"still {found} after {patience_s:.0f} s")
            self.tend()
            time.sleep(POLL_S)
        return found

    def ready(self) -> None:
        """Wait until every gateway and every model host that is up does its work."""
        names = [host.name for host in self.models]
        self.until(lambda: all(answers(url) for url in self.gateways))
        self.until(lambda: self.ask(READY, names) == len(names))

    def ask(self, query: LiteralString, *given: object) -> Any:
        """Return the one value that a query has; None for no row."""
        with psycopg.connect(self.own_url, autocommit=True, row_factory=scalar_row) as connection:
            return connection.execute(query, given).fetchone()

    def runs_on(self, prediction_id: str) -> Host:
        """Return the host that runs a prediction, once one does."""
        query: LiteralString = "select server from predictions where id = %s and status = 'processing'"
        return self.hosts[self.until(lambda: self.ask(query, prediction_id))]

    def requests(self, *names: str) -> list[dict[str, Any]]:
        """Return what the Cog servers were asked, on the hosts of these names, or on all."""
        chosen = names or [name for name in self.hosts if name.startswith("model-")]
        journals = [self.folder / f"journal-{name}.jsonl" for name in chosen]
        return [json.loads(line) for path in journals if path.exists() for line in path.read_text().splitlines()]

    def begun(self, prediction_id: str, beside: str) -> float | None:
        """Return when a prediction began on another host than `beside`, by this machine's clock."""
        others = [host.name for host in self.models if host.name != beside]
        puts = [one for one in self.requests(*others) if (one["method"], one["status"]) == ("PUT", 202)]
        return next((float(one["t"]) for one in puts if f"/{prediction_id}-" in one["path"]), None)

    def token(self) -> str:
        """Make a token."""

        async def make() -> str:
            async with open_database(self.own_url) as opened:
                return (await Tokens(opened).create(f"drill-{secrets.token_hex(4)}"))[1]

        return asyncio.run(make())

    def migrate(self) -> None:
        """Bring the database's schema up to date, as a new version's first step does."""
        command = python("-m", "gateway.record", "migrate", "--database-url", self.own_url)
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of all gateways and workers."""
        return {
            "GATEWAY_DATABASE_URL": self.database_url,
            "GATEWAY_FILES_URL": str(self.files),
            "GATEWAY_CATALOG": str(CATALOG),
            "PYTHONPATH": str(ROOT),
            **SETTINGS,
        }


@contextmanager
def running(folder: Path, models: int) -> Iterator[Site]:
    """Run a site with so many model hosts in a folder of its own; all of it ends with the block."""
    with ExitStack() as stack:
        cluster = postgres.prepare(folder / "pg", listen_addresses="*", max_connections="200")
        with (cluster.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {PREFIX}.0/24 trust\n")
        url = f"postgresql://{postgres.USER}@{PREFIX}.2/postgres"
        site = Site(folder, Network(), url, cluster.url, stack)
        host = site.add("database")
        host.supervisor.start(Database(_inside(cluster, host)))
        site.migrate()
        with psycopg.connect(site.own_url) as connection:
            connection.execute(AUDIT)
        for name in GATEWAYS:
            site.add(name)
            site.start_gateway(name)
        for _ in range(models):
            site.add_model()
        site.ready()
        yield site


def _inside(cluster: postgres.Cluster, host: Host) -> postgres.Cluster:
    """Return the cluster whose server runs on a host. Root enters it, and becomes the server's user there."""
    account = cluster.account
    user = ["setpriv", f"--reuid={account.user}", f"--regid={account.group}", "--clear-groups"]
    return replace(cluster, account=Account(), prefix=tuple(on(host.name, user)))


def _say_nothing(_note: str) -> None:
    """Leave it to the logs."""
