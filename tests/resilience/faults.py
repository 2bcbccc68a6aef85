"""The faults: each does one thing to the site while clients are at work, sees it mended, and says what it measured."""

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import LiteralString, TypeAlias

from bench.drill.checks import LATE, Drill, Found, badly_signed, told_twice, unreachable, until_it_works
from bench.drill.clients import Clients
from bench.drill.clock import wrong_by
from bench.drill.network import small_disk
from bench.drill.site import GATEWAYS, Host, Site
from local.supervisor import python

CUT_S = 60.0
BRIEF_S = 15.0  # half of what a prediction may go without a sign of life
DOWN_S = 5.0
HOUR_S = 3600
RUNS_AGAIN_WITHIN_S = 40.0
TOLD_AGAIN_WITHIN_S = 30.0  # the pauses between a webhook's first tries are seconds
NOT_STORED = "The output could not be stored"
ENDED_WELL = (0, -signal.SIGTERM)  # uvicorn ends itself by the signal that it was told with, when all is done
SESSIONS: LiteralString = "select count(*) from pg_stat_activity where client_addr = %s::inet"


Fault: TypeAlias = Callable[[Drill], Found]


def lost_host(drill: Drill) -> Found:
    """Lose a model host for ever, at its worst moment: it runs a prediction, holds its row and the sweep's lock."""
    site, found = drill.site, Found(runs_again=True)
    host = site.models[0]
    prediction_id = _hold(site, host)
    site.lose(host)
    lost_at = time.time()
    site.until(lambda: site.ask(SESSIONS, host.address) == 0)
    found.limit("until PostgreSQL let its connections go", time.time() - lost_at, RUNS_AGAIN_WITHIN_S)
    begun_at = site.until(lambda: site.begun(prediction_id, host.name))
    found.limit("until it ran again", begun_at - lost_at, RUNS_AGAIN_WITHIN_S)
    site.add_model()
    site.ready()
    return found


def cut_link(drill: Drill) -> Found:
    """Pull the cable of a model host that runs a prediction, and plug it in again a minute later."""
    site, found = drill.site, Found(runs_again=True)
    asked = drill.clients.ask(seconds=20, files=1)
    host = site.runs_on(asked.id)
    site.network.cut(host.name)
    cut_at = time.time()
    try:
        begun_at = site.until(lambda: site.begun(asked.id, host.name))
        found.limit("until it ran again", begun_at - cut_at, RUNS_AGAIN_WITHIN_S)
        site.until(lambda: time.time() > cut_at + CUT_S)
    finally:
        site.network.mend(host.name)
    found.seconds["until the host worked again"] = until_it_works(site, host)
    return found


def briefly_cut_link(drill: Drill) -> Found:
    """Pull the cable of a model host for so short a time that its prediction goes on."""
    site, found = drill.site, Found()
    asked = drill.clients.ask(seconds=BRIEF_S + 5, files=1)
    host = site.runs_on(asked.id)
    site.network.cut(host.name)
    time.sleep(BRIEF_S)
    site.network.mend(host.name)
    found.seconds["until the host worked again"] = until_it_works(site, host)
    return found


def restarted_database(drill: Drill) -> Found:
    """Stop PostgreSQL for some seconds, and start it again."""
    site, found = drill.site, Found()
    running = drill.clients.ask(seconds=DOWN_S + 3, files=1)
    site.runs_on(running.id)
    supervisor = site.hosts["database"].supervisor
    supervisor.process("postgres").send_signal(signal.SIGINT)
    supervisor.process("postgres").wait()
    time.sleep(DOWN_S)
    site.tend()
    again_at = time.monotonic()
    site.ready()
    found.seconds["until all worked again"] = time.monotonic() - again_at
    return found


def killed_gateway(drill: Drill) -> Found:
    """Kill the gateway at which clients wait; they go to the other one."""
    site, found = drill.site, Found()
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
    return found


def rolling_update(drill: Drill) -> Found:
    """Replace everything while clients are at work: migrate, then each model host, then each gateway."""
    site, found = drill.site, Found()
    began = time.monotonic()
    site.migrate()
    for host in site.models:
        found.problems += _restart(site, host)
        until_it_works(site, host)
    for name in GATEWAYS:
        found.problems += _drained(site, site.hosts[name], "gateway")
        site.start_gateway(name)
        site.ready()
    found.seconds["until all was replaced"] = time.monotonic() - began
    return found


def wrong_clock(drill: Drill) -> Found:
    """Set the clocks of two hosts wrong: a gateway is an hour ahead, a model host an hour behind."""
    site, found = drill.site, Found()
    gateway, model = site.hosts[GATEWAYS[1]], site.models[0]
    site.drain(gateway, "gateway")
    site.start_gateway(gateway.name, wrong_by(HOUR_S, site.folder))
    _restart(site, model, wrong_by(-HOUR_S, site.folder))
    until_it_works(site, model)
    site.ready()
    began = time.monotonic()
    late = Clients(drill.clients.gateways, drill.clients.token, f"{drill.receiver.url}{LATE}", 0)
    for number in range(12):
        drill.clients.asked.append(late.ask(gateway=number, seconds=0.5, files=1))
    late.stop()
    site.until(lambda: len(told_twice(drill, LATE)) == len(late.asked), TOLD_AGAIN_WITHIN_S * 4)
    found.limit("until webhooks that failed once were told", time.monotonic() - began, TOLD_AGAIN_WITHIN_S)
    found.problems += badly_signed(drill, began) + unreachable(drill, late.asked)
    site.drain(gateway, "gateway")
    site.start_gateway(gateway.name)
    _restart(site, model)
    site.ready()
    return found


def full_disk(drill: Drill) -> Found:
    """Fill the disk that a worker stores its files on; what it can't store fails with a sentence that says so."""
    site = drill.site
    host = site.models[-1]
    found = Found(may_fail_with=(NOT_STORED,))
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
    found.problems += [f"{path} was left on the full disk" for path in left]
    site.drain(host, "worker")
    site.start_worker(host)
    until_it_works(site, host)
    return found


FAULTS: dict[str, Fault] = {
    "lost-host": lost_host,
    "cut-link": cut_link,
    "briefly-cut-link": briefly_cut_link,
    "restarted-database": restarted_database,
    "killed-gateway": killed_gateway,
    "rolling-update": rolling_update,
    "wrong-clock": wrong_clock,
    "full-disk": full_disk,
}


def _hold(site: Site, host: Host) -> str:
    """Let a process of the host hold what it holds when it is lost in the middle of a sweep; return a prediction."""
    host.supervisor.start(host.command("holder", python("-m", "bench.drill.holding", host.name), {**site.environment}))
    told = site.until(lambda: host.supervisor.log("holder").read_text())
    return told.split()[1]


def _restart(site: Site, host: Host, environment: Mapping[str, str] | None = None) -> list[str]:
    """Replace a model host's processes, the worker first: it ends what its Cog server runs. Return what is wrong."""
    problems = _drained(site, host, "worker") + _drained(site, host, "coglet")
    site.start_cog(host, environment)
    site.start_worker(host, environment)
    return problems


def _drained(site: Site, host: Host, name: str) -> list[str]:
    """Tell a process to end, and return what is wrong with how it did."""
    status = site.drain(host, name)
    return [] if status in ENDED_WELL else [f"{name} of {host.name} ended with status {status}"]
