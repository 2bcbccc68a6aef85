"""The site: PostgreSQL, two gateways and some model hosts, each on a host of its own.

Hosts are network namespaces with an address each, on one switch whose cables can be cut.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import scalar_row

from gateway.record.database import open_database
from gateway.record.tokens import Tokens
from gateway.serve import postgres
from gateway.serve.supervisor import Command, Supervisor, python
from gateway.serve.system import Database
from local import ROOT
from tests.gateway import fake_coglet
from tests.gateway.processes import CATALOG, FAKE, answers
from tests.resilience.judge import AUDIT
from tests.waiting import HANG_S, eventually

PORT = 5000
GATEWAYS = ("gateway-1", "gateway-2")
SETTINGS = {
    "GATEWAY_WEBHOOK_HTTP": "true",
    "GATEWAY_WEBHOOK_PRIVATE": "true",
    "GATEWAY_RETENTION_S": "0",  # keep the files, which are compared at the end
    "GATEWAY_CREATES_PER_S": "0",
    "GATEWAY_LOG_LEVEL": "warning",
}
READY: LiteralString = """
select count(*) from servers
where name = any(%s) and health in ('READY', 'BUSY') and seen_at > now() - interval '8 s'
"""
T = TypeVar("T")


PREFIX = "10.77.0"
OURS = f"{PREFIX}.1"  # the address of the test itself: its clients and its receiver of webhooks
SWITCH = "switch"


class Network:
    """A switch with hosts, in this process's own network namespace; all of it disappears with that."""

    def __init__(self) -> None:
        # `ip netns` keeps its names in /run; in a file system of our own they disappear with it.
        _run("mount", "-t", "tmpfs", "none", "/run")
        _run("ip", "link", "set", "dev", "lo", "up")
        _run("ip", "link", "add", "name", SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{OURS}/24", "dev", SWITCH)
        _run("ip", "link", "set", "dev", SWITCH, "up")

    def add(self, name: str, address: str) -> None:
        """Add a host. Its end of the cable is called eth0; the end at the switch has the name of the host."""
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", "dev", name, "master", SWITCH, "up")
        _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", "dev", device, "up")

    def cut(self, name: str) -> None:
        _run("ip", "link", "set", "dev", name, "down")

    def repair(self, name: str) -> None:
        _run("ip", "link", "set", "dev", name, "up")

    def kill(self, name: str) -> None:
        for pid in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def remove(self, name: str) -> None:
        _run("ip", "netns", "delete", name)


def on(host: str, command: list[str]) -> list[str]:
    return ["ip", "netns", "exec", host, *command]


def small_disk(folder: Path, kib: int) -> None:
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0755", "none", str(folder))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Host:
    name: str
    address: str
    supervisor: Supervisor
    up: bool = True  # a host that is down doesn't restart its processes

    def command(self, name: str, command: list[str], environment: Mapping[str, str]) -> Command:
        return Command(name, on(self.name, command), environment)


@dataclass
class Site:
    folder: Path
    logs: Path
    network: Network
    database_url: str  # for the hosts
    own_url: str  # for the test: by a socket, so that no fault interrupts it
    stack: ExitStack
    hosts: dict[str, Host] = field(default_factory=dict)
    addresses: int = 1  # used so far

    @property
    def gateways(self) -> list[str]:
        return [f"http://{self.hosts[name].address}:{PORT}" for name in GATEWAYS]

    @property
    def models(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.name.startswith("model-") and host.up]

    @property
    def files(self) -> Path:
        """The folder of the output files, which all hosts share."""
        return self.folder / "files"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GATEWAY_DATABASE_URL": self.database_url,
            "GATEWAY_FILES_URL": str(self.files),
            "GATEWAY_CATALOG": str(CATALOG),
            "PYTHONPATH": str(ROOT),
            **SETTINGS,
        }

    def add(self, name: str) -> Host:
        self.addresses += 1
        address = f"{PREFIX}.{self.addresses}"
        self.network.add(name, address)
        supervisor = self.stack.enter_context(Supervisor(self.logs / name, lambda _: None))
        self.hosts[name] = Host(name, address, supervisor)
        return self.hosts[name]

    def start_gateway(self, name: str) -> None:
        host = self.hosts[name]
        given = {**self.environment, "GATEWAY_HOST": host.address, "GATEWAY_PORT": str(PORT)}
        host.supervisor.start(host.command("gateway", python("-m", "gateway"), given))

    def start_cog(self, host: Host) -> None:
        journal = self.folder / f"journal-{host.name}.jsonl"
        command = [sys.executable, fake_coglet.__file__, "--port", str(PORT), "--journal", str(journal)]
        host.supervisor.start(host.command("coglet", command, {"PYTHONPATH": str(ROOT)}))

    def start_worker(self, host: Host, environment: Mapping[str, str] | None = None) -> None:
        arguments = ["--queue", FAKE, "--cog-url", f"http://127.0.0.1:{PORT}", "--name", host.name]
        given = {**self.environment, **(environment or {})}
        host.supervisor.start(
            replace(host.command("worker", python("-m", "gateway.work", *arguments), given), grace_s=2)
        )

    def add_model(self) -> Host:
        """Add a model host with its two processes; names and addresses are never reused."""
        number = 1 + sum(name.startswith("model-") for name in self.hosts)
        host = self.add(f"model-{number}")
        self.start_cog(host)
        self.start_worker(host)
        return host

    def lose(self, host: Host) -> None:
        """Lose a host forever: first its cable, so that no one is notified of its end, then all its processes."""
        self.network.cut(host.name)
        host.up = False
        self.network.kill(host.name)
        self.network.remove(host.name)

    def drain(self, host: Host, name: str) -> int:
        """Ask a process of a host to exit, and return its status once it has finished its work."""
        process = host.supervisor.process(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(HANG_S)

    def tend(self) -> None:
        """Restart what has exited on the hosts that are up."""
        for host in self.hosts.values():
            if host.up:
                host.supervisor.tend()

    def until(self, there: Callable[[], T | None]) -> T:
        """Call `there` until its result is true, and return it; meanwhile restart what has exited."""

        def tended() -> T | None:
            self.tend()
            return there()

        return eventually(tended, poll_s=0.2)

    def ready(self) -> None:
        """Wait until every gateway answers, and every model host that is up accepts predictions."""
        names = [host.name for host in self.models]
        self.until(lambda: all(answers(url) for url in self.gateways))
        self.until(lambda: self.ask(READY, names) == len(names))

    def ask(self, query: LiteralString, *given: object) -> Any:
        """Return the single value of a query, or None if it has no row."""
        with psycopg.connect(self.own_url, autocommit=True, row_factory=scalar_row) as connection:
            return connection.execute(query, given).fetchone()

    def runs_on(self, prediction_id: str, not_on: str = "") -> Host:
        """Return the host that runs a prediction, once another host than `not_on` does."""
        query: LiteralString = """select server from predictions
                                  where id = %s and server <> %s and status in ('processing', 'succeeded')"""
        return self.hosts[self.until(lambda: self.ask(query, prediction_id, not_on))]

    def requests(self) -> list[dict[str, Any]]:
        journals = self.folder.glob("journal-*.jsonl")
        return [json.loads(line) for path in journals for line in path.read_text().splitlines()]

    def token(self) -> str:
        async def create() -> str:
            async with open_database(self.own_url) as opened:
                return (await Tokens(opened).create(f"site-{secrets.token_hex(4)}"))[1]

        return asyncio.run(create())

    def migrate(self) -> None:
        """Migrate the database, which is the first step of an update."""
        command = python("-m", "gateway.record", "migrate", "--database-url", self.own_url)
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


@contextmanager
def running(folder: Path, logs: Path, models: int) -> Iterator[Site]:
    """Run a site with this many model hosts within a block."""
    with ExitStack() as stack:
        cluster = postgres.prepare(folder / "pg", listen_addresses="*", max_connections="200")
        with (cluster.home / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {PREFIX}.0/24 trust\n")
        url = f"postgresql://{postgres.USER}@{PREFIX}.2/postgres"
        site = Site(folder, logs, Network(), url, cluster.url, stack)
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
    """Return the cluster whose server runs on a host; root enters the host, then becomes the server's user."""
    account = cluster.account
    user = ["setpriv", f"--reuid={account.user}", f"--regid={account.group}", "--clear-groups"]
    return replace(cluster, account=postgres.Account(), prefix=tuple(on(host.name, user)))
