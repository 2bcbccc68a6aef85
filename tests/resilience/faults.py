"""The faults. Each breaks something at the site while clients are at work, repairs it, and returns what it found."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import httpx

from gateway.serve.supervisor import python
from tests.gateway.receiver import Receiver
from tests.resilience.clients import Asked, Clients
from tests.resilience.network import small_disk
from tests.resilience.site import GATEWAYS, Host, Site

CUT_S = 60.0
BRIEF_S = 15.0  # half the time after which a silent attempt counts as lost
DOWN_S = 5.0
HOUR_S = 3600
WEBHOOK_TOLERANCE_S = 300  # verifiers of webhooks reject timestamps that are further off
LATE = "/late/completed"  # the receiver refuses the first delivery of each webhook to this path
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


def wrong_clock(drill: Drill) -> None:
    """Set the clocks of two hosts wrong: a gateway's an hour ahead, a model host's an hour behind."""
    site = drill.site
    gateway, model = site.hosts[GATEWAYS[1]], site.models[0]
    site.drain(gateway, "gateway")
    site.start_gateway(gateway.name, _clock_wrong_by(HOUR_S, site.folder))
    _restart(drill, model, _clock_wrong_by(-HOUR_S, site.folder))
    until_it_works(site, model)
    site.ready()
    began = time.monotonic()
    late = Clients(drill.clients.gateways, drill.clients.token, f"{drill.receiver.url}{LATE}")
    for number in range(12):
        drill.clients.asked.append(late.ask(gateway=number, seconds=0.5, files=1))
    late.stop()
    site.until(lambda: len(_delivered_twice(drill, LATE)) == len(late.asked))
    drill.seconds["until webhooks that failed once arrived"] = time.monotonic() - began
    drill.problems += [*_wrongly_timed(drill, began), *_unreachable(drill, late.asked)]
    site.drain(gateway, "gateway")
    site.start_gateway(gateway.name)
    _restart(drill, model)
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
    "wrong-clock": wrong_clock,
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


def _restart(drill: Drill, host: Host, environment: Mapping[str, str] | None = None) -> None:
    """Replace the processes of a model host; the worker first, because it waits for what its Cog server runs."""
    _drain(drill, host, "worker")
    _drain(drill, host, "coglet")
    drill.site.start_cog(host, environment)
    drill.site.start_worker(host, environment)


def _drain(drill: Drill, host: Host, name: str) -> None:
    status = drill.site.drain(host, name)
    if status not in CLEAN_EXITS:
        drill.problems.append(f"{name} of {host.name} exited with status {status}")


def _clock_wrong_by(ahead_s: int, folder: Path) -> dict[str, str]:
    """Return an environment in which a process sees a wrong time of day, for which Linux has no namespace."""
    library = folder / f"clock{ahead_s:+d}.so"
    source = Path(__file__).with_name("wrong_clock.c")
    command = ["cc", "-shared", "-fPIC", f"-DAHEAD_S={ahead_s}", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}


def _delivered_twice(drill: Drill, path: str) -> set[str]:
    """Return the predictions with two webhooks at a path."""
    ids = [json.loads(delivery.body)["id"] for delivery in drill.receiver.at(path)]
    return {one for one in ids if ids.count(one) > 1}


def _wrongly_timed(drill: Drill, since: float) -> list[str]:
    """Return the webhooks that a verifier would reject as too old or from the future."""
    now = time.time() - time.monotonic()
    problems = []
    for delivery in drill.receiver.deliveries:
        off_s = int(delivery.headers["webhook-timestamp"]) - (now + delivery.at)
        if delivery.at > since and abs(off_s) > WEBHOOK_TOLERANCE_S:
            problems.append(f"the timestamp of a webhook was wrong by {off_s:.0f} s")
    return problems


def _unreachable(drill: Drill, asked: list[Asked]) -> list[str]:
    """Return the files that a gateway doesn't serve, by their URLs in responses and webhooks."""
    reported = [json.loads(delivery.body) for delivery in drill.receiver.at(LATE)]
    outputs = {str(one["output"]) for one in [*reported, *(one.prediction for one in asked)]}
    problems = []
    for url in sorted(outputs):
        path = httpx.URL(url).raw_path.decode()
        for gateway in drill.site.gateways:
            status = httpx.get(gateway + path, trust_env=False).status_code
            problems += [f"{gateway} answers {status} to the URL of a file"] if status != httpx.codes.OK else []
    return problems
