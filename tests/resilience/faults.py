"""The faults. Each breaks something at the site while clients are at work, repairs it, and returns what it found."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import LiteralString

from gateway.serve.supervisor import python
from tests.gateway.receiver import Receiver
from tests.resilience.clients import Clients
from tests.resilience.site import GATEWAYS, Host, Site, small_disk

CUT_S = 60.0
BRIEF_S = 15.0  # half the time after which a silent attempt counts as lost
DOWN_S = 5.0
NOT_STORED = "The output could not be stored"
CLEAN_EXITS = (0, -signal.SIGTERM)  # uvicorn ends itself with the signal that it got, after a clean shutdown
SESSIONS: LiteralString = "select count(*) from pg_stat_activity where client_addr = %s::inet"


@dataclass
class Drill:
    site: Site
    clients: Clients
    receiver: Receiver
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # how long the recovery took
    second_attempts: bool = False  # whether the fault may cost an attempt
    may_fail_with: tuple[str, ...] = ()  # the beginnings of the errors that the fault may cause


def lost_host(drill: Drill) -> None:
    """Lose a model host forever at its worst moment: it runs a prediction and holds its row and the sweep's lock."""
    site, drill.second_attempts = drill.site, True
    host = site.models[0]
    prediction_id = _hold(site, host)
    site.lose(host)
    lost_at = time.monotonic()
    site.until(lambda: site.ask(SESSIONS, host.address) == 0)
    drill.seconds["until PostgreSQL closed its connections"] = time.monotonic() - lost_at
    site.runs_on(prediction_id, not_on=host.name)
    drill.seconds["until its prediction ran again"] = time.monotonic() - lost_at
    site.add_model()
    site.ready()


def cut_link(drill: Drill) -> None:
    """Cut the link of a model host that runs a prediction, for a minute."""
    site, drill.second_attempts = drill.site, True
    asked = drill.clients.ask(seconds=20, files=1)
    host = site.runs_on(asked.id)
    site.network.cut(host.name)
    cut_at = time.monotonic()
    try:
        site.runs_on(asked.id, not_on=host.name)
        drill.seconds["until its prediction ran again"] = time.monotonic() - cut_at
        site.until(lambda: time.monotonic() > cut_at + CUT_S)
    finally:
        site.network.repair(host.name)
    until_it_works(site, host)


def briefly_cut_link(drill: Drill) -> None:
    """Cut the link of a model host so briefly that its prediction goes on."""
    site = drill.site
    asked = drill.clients.ask(seconds=BRIEF_S + 5, files=1)
    host = site.runs_on(asked.id)
    site.network.cut(host.name)
    time.sleep(BRIEF_S)
    site.network.repair(host.name)
    until_it_works(site, host)


def restarted_database(drill: Drill) -> None:
    """Stop PostgreSQL for some seconds, and start it again."""
    site = drill.site
    site.runs_on(drill.clients.ask(seconds=DOWN_S + 3, files=1).id)
    process = site.hosts["database"].supervisor.process("postgres")
    process.send_signal(signal.SIGINT)
    process.wait()
    time.sleep(DOWN_S)
    site.tend()
    site.ready()


def killed_gateway(drill: Drill) -> None:
    """Kill the gateway at which clients wait; they switch to the other one."""
    site = drill.site
    for wait in (True, False):
        drill.clients.ask(wait=wait, gateway=0, seconds=4, files=1)
    time.sleep(1)
    host = site.hosts[GATEWAYS[0]]
    host.up = False
    site.network.kill(host.name)
    time.sleep(DOWN_S)
    host.up = True
    site.start_gateway(host.name)
    site.ready()


def rolling_update(drill: Drill) -> None:
    """Replace everything while clients are at work: migrate, then restart each model host, then each gateway."""
    site = drill.site
    site.migrate()
    for host in site.models:
        _restart(drill, host)
        until_it_works(site, host)
    for name in GATEWAYS:
        _drain(drill, site.hosts[name], "gateway")
        site.start_gateway(name)
        site.ready()


def full_disk(drill: Drill) -> None:
    """Fill the disk on which a worker stores its files; the predictions that don't fit fail with a clear error."""
    site, drill.may_fail_with = drill.site, (NOT_STORED,)
    host = site.models[-1]
    disk = site.folder / f"disk-{host.name}"
    small_disk(disk, 256)
    (disk / "files").mkdir()
    with suppress(OSError):
        (disk / "filler").write_bytes(bytes(1 << 20))
    site.drain(host, "worker")
    site.start_worker(host, {"GATEWAY_FILES_URL": str(disk / "files"), "GATEWAY_ALIVE_FILE": str(disk / "alive")})
    failed: LiteralString = "select count(*) from predictions where server = %s and error like %s"
    site.until(lambda: site.ask(failed, host.name, f"{NOT_STORED}%") >= 2)
    left = [str(path.relative_to(disk)) for path in (disk / "files").rglob("*") if path.is_file()]
    drill.problems += [f"{path} was left on the full disk" for path in left]
    site.drain(host, "worker")
    site.start_worker(host)
    until_it_works(site, host)


FAULTS: dict[str, Callable[[Drill], None]] = {
    "lost-host": lost_host,
    "cut-link": cut_link,
    "briefly-cut-link": briefly_cut_link,
    "restarted-database": restarted_database,
    "killed-gateway": killed_gateway,
    "rolling-update": rolling_update,
    "full-disk": full_disk,
}


def until_it_works(site: Site, host: Host) -> None:
    now = site.ask("select clock_timestamp()")
    ended: LiteralString = """select count(*) from predictions
                              where server = %s and started_at > %s and status = 'succeeded'"""
    site.until(lambda: site.ask(ended, host.name, now))


def _hold(site: Site, host: Host) -> str:
    """Have a process of the host hold what it would hold in the middle of a sweep; return the prediction's id."""
    holder = python("-m", "tests.resilience.holding", host.name)
    host.supervisor.start(host.command("holder", holder, site.environment))
    return site.until(lambda: host.supervisor.log("holder").read_text()).split()[1]


def _restart(drill: Drill, host: Host) -> None:
    """Replace the processes of a model host; the worker first, because it waits for what its Cog server runs."""
    _drain(drill, host, "worker")
    _drain(drill, host, "coglet")
    drill.site.start_cog(host)
    drill.site.start_worker(host)


def _drain(drill: Drill, host: Host, name: str) -> None:
    status = drill.site.drain(host, name)
    if status not in CLEAN_EXITS:
        drill.problems.append(f"{name} of {host.name} exited with status {status}")
