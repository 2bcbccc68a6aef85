"""Kill every part of the gateway, again and again, and see that no prediction is lost, doubled or told too early.

Run: script/bench soak [--seconds N] [--write]. It runs PostgreSQL, a gateway and two workers with stand-ins for Cog
servers; every few seconds one of them, or all, is killed with SIGKILL while predictions come in.
"""

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psycopg

from bench import report
from bench.verdict import AUDIT, Evidence, Verdict, judge, unfinished
from local import postgres
from local.services import Database
from local.supervisor import Supervisor, python
from tests.gateway.processes import FAKE, ROOT, System, Token
from tests.gateway.receiver import Receiver, receiving

KILL_EVERY_S = (2.0, 6.0)
CREATES_PER_S = 4.0
SETTLE_S = 300  # after the last kill
PARTS = ("gateway", "worker", "worker-2", "coglet", "coglet-2", "the model's process", "postgres", "everything")
SETTINGS = {
    "GATEWAY_WEBHOOK_HTTP": "true",
    "GATEWAY_WEBHOOK_PRIVATE": "true",
    "GATEWAY_RETENTION_S": "0",  # the files are counted at the end
    "GATEWAY_LOG_LEVEL": "warning",
}


@dataclass
class Load:
    """Creates predictions with webhooks until it is stopped, and cancels some."""

    token: Token
    receiver: Receiver
    chance: random.Random
    answered: list[str] = field(default_factory=list)
    unanswered: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Create at a steady rate; what the gateway does not answer, being down, is counted apart."""
        while not self.stop.wait(self.chance.expovariate(CREATES_PER_S)):
            headers = {"Cancel-After": "5s"} if self.chance.random() < 0.03 else {}
            body = {
                "input": self._input(),
                "webhook": f"{self.receiver.url}/completed",
                "webhook_events_filter": "completed",
            }
            try:
                answer = self.token.http.post(f"/models/{FAKE}/predictions", json=body, headers=headers, timeout=30)
            except httpx.TransportError:
                self.unanswered += 1
                continue
            if answer.status_code == httpx.codes.CREATED:
                self.answered.append(answer.json()["id"])
                if self.chance.random() < 0.1:
                    self._cancel(self.chance.choice(self.answered[-20:]))
            else:
                self.unanswered += 1

    def _input(self) -> dict[str, object]:
        kind = self.chance.random()
        return {
            "seconds": min(round(self.chance.expovariate(4), 3), 3),
            "files": self.chance.choice((0, 1, 2)),
            "logs": ["one", "two"] if kind < 0.3 else [],
            "crash": kind > 0.99,
            **({"fail": "no such mood"} if 0.9 < kind < 0.95 else {}),
        }

    def _cancel(self, prediction_id: str) -> None:
        with suppress(httpx.TransportError):
            self.token.http.post(f"/predictions/{prediction_id}/cancel", timeout=30)


@dataclass
class Soak:
    """The running system, and what was done to it."""

    system: System
    receiver: Receiver
    chance: random.Random
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    early: list[str] = field(default_factory=list)  # webhooks before the row said so
    checked: int = 0

    def kill_for(self, seconds: float) -> None:
        """Kill one part after the other, and start again what has ended."""
        end = time.monotonic() + seconds
        next_kill = time.monotonic() + KILL_EVERY_S[0]
        while time.monotonic() < end:
            self.look_at_webhooks()
            self.system.supervisor.tend()
            if time.monotonic() > next_kill:
                part = self.chance.choice(PARTS)
                self._kill(part)
                self.kills[part] += 1
                next_kill = time.monotonic() + self.chance.uniform(*KILL_EVERY_S)
            time.sleep(0.05)

    def _kill(self, part: str) -> None:
        if part == "the model's process":
            port = self._port_of(self.chance.choice(("coglet", "coglet-2")))
            with suppress(httpx.HTTPError):
                httpx.post(f"http://127.0.0.1:{port}/faults", json={"dead_child": True}, timeout=5, trust_env=False)
            return
        for name in (*PARTS[:5], "postgres") if part == "everything" else (part,):
            self.system.kill(name)

    def _port_of(self, coglet: str) -> int:
        arguments = self.system.supervisor.process(coglet).args
        assert isinstance(arguments, list)
        return int(arguments[arguments.index("--port") + 1])

    def look_at_webhooks(self) -> None:
        """Compare each new webhook with its row at once; while the database is down, as soon as it is up."""
        for delivery in self.receiver.deliveries[self.checked :]:
            body = json.loads(delivery.body)
            try:
                with psycopg.connect(self.system.database_url, connect_timeout=2) as connection:
                    row = connection.execute("select status from predictions where id = %s", (body["id"],)).fetchone()
            except psycopg.OperationalError:
                return
            if row is None or row[0] != body["status"]:
                self.early.append(f"{body['id']} was told as {body['status']} while it was {row and row[0]}")
            self.checked += 1

    def settle(self) -> float:
        """Wait until everything has ended and was told, and return how long it took."""
        began = time.monotonic()
        while time.monotonic() < began + SETTLE_S:
            self.system.supervisor.tend()
            self.look_at_webhooks()
            with suppress(psycopg.OperationalError):
                if not unfinished(self.system.database_url):
                    break
            time.sleep(0.2)
        return time.monotonic() - began


def judged(soak: Soak, answered: list[str]) -> Verdict:
    """Return what became of the predictions, and which webhooks came too early."""
    evidence = Evidence(
        database_url=soak.system.database_url,
        answered=answered,
        deliveries=soak.receiver.deliveries,
        requests=soak.system.requests(),
        files=soak.system.folder / "files",
        tend=soak.system.supervisor.tend,
    )
    found = judge(evidence)
    return replace(found, problems=[*soak.early, *found.problems])


@contextmanager
def soaking(chance: random.Random) -> Iterator[Soak]:
    """Run the system in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)  # PostgreSQL's user passes through it
    notes: list[str] = []
    try:
        cluster = postgres.prepare(folder / "pg")
        with Supervisor(folder / "logs", notes.append) as supervisor, receiving() as receiver:
            supervisor.start(Database(cluster))
            environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url, "PYTHONPATH": str(ROOT)}
            subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True, capture_output=True)
            with psycopg.connect(cluster.url) as connection:
                connection.execute(AUDIT)
            system = System(folder, cluster.url, supervisor, SETTINGS)
            with system.closing:
                for number in (1, 2):
                    system.start_model(number)
                system.start_gateway()
                yield Soak(system, receiver, chance)
    finally:
        if (folder / "pg").exists():
            postgres.remove(folder / "pg")
        shutil.rmtree(folder)


def main() -> None:
    """Soak, judge, and print what came out; the status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and created (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    options = parser.parse_args()
    with soaking(random.Random(options.seed)) as soak:
        load = Load(soak.system.token(), soak.receiver, random.Random(options.seed + 1))
        thread = threading.Thread(target=load.run)
        thread.start()
        try:
            soak.kill_for(options.seconds)
        finally:
            load.stop.set()
            thread.join()
        settled_s = soak.settle()
        verdict = judged(soak, load.answered)
    text = described(options.seconds, soak, load, verdict, settled_s)
    print(text)
    if options.write:
        report.write_section("soak", text)
    for problem in verdict.problems:
        print(problem)
    answered, kills = len(load.answered), soak.kills.total()
    values = {"answered": answered, "kills": kills, "problems": len(verdict.problems), "settled_s": settled_s}
    print(report.key_values(values))
    raise SystemExit(bool(verdict.problems))


def described(seconds: float, soak: Soak, load: Load, verdict: Verdict, settled_s: float) -> str:
    """Return the bench's section."""
    ends = ", ".join(f"{count} {status}" for status, count in sorted(verdict.ends.items()))
    kills = ", ".join(f"{part} {count}" for part, count in sorted(soak.kills.items()))
    webhooks = len(soak.receiver.deliveries)
    return f"""## Soak

{seconds:.0f} s with a kill every {KILL_EVERY_S[0]:.0f} to {KILL_EVERY_S[1]:.0f} s: PostgreSQL, a gateway, two workers
beside stand-ins for Cog servers; {report.machine()}.

Killed {soak.kills.total()} times: {kills}.
Created {len(load.answered)}, {load.unanswered} more were not answered; {ends}, in {verdict.attempts} attempts.
{webhooks} webhooks came, {verdict.files} files are stored; all of it {settled_s:.0f} s after the last kill.

Lost, doubled, told too early, or a file too many or too few: {len(verdict.problems)}.
"""


if __name__ == "__main__":
    main()
