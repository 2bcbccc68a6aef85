"""Kill every part of a system again and again: no prediction is lost or doubled, and no webhook is early."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.gateway.processes import System, own_database
from tests.gateway.receiver import Receiver, receiving
from tests.resilience.clients import Clients
from tests.resilience.judge import AUDIT, judge, unfinished
from tests.waiting import eventually

KILLS_S = 120.0
PAUSE_S = (2.0, 6.0)  # between two kills
CLIENTS = 6
PARTS = ("gateway", "worker", "worker-2", "coglet", "coglet-2", "postgres")
MODEL_PROCESS, EVERYTHING = "the process of a model", "everything"
SETTINGS = {
    "GATEWAY_WEBHOOK_HTTP": "true",
    "GATEWAY_WEBHOOK_PRIVATE": "true",
    "GATEWAY_RETENTION_S": "0",  # keep the files, which are compared at the end
    "GATEWAY_LOG_LEVEL": "warning",
}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with own_database(tmp_path, SETTINGS) as system:
        with psycopg.connect(system.database_url) as connection:
            connection.execute(AUDIT)
        for number in (1, 2):
            system.start_model(number)
        system.start_gateway()
        yield system


def any_input(chance: random.Random) -> dict[str, object]:
    kind = chance.random()
    return {
        "seconds": min(round(chance.expovariate(4), 3), 3),
        "files": chance.choice((0, 1, 2)),
        "logs": ["one", "two"] if kind < 0.3 else [],
        "crash": kind > 0.99,
        **({"fail": "no such mood"} if 0.9 < kind < 0.95 else {}),
    }


@dataclass
class Webhooks:
    """Compare each webhook with its prediction as soon as it arrives."""

    receiver: Receiver
    database_url: str
    early: list[str] = field(default_factory=list)
    checked: int = 0

    def check(self) -> None:
        """Check the new ones; while the database is down, they wait until it is up again."""
        for delivery in self.receiver.deliveries[self.checked :]:
            body = json.loads(delivery.body)
            try:
                with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                    row = connection.execute("select status from predictions where id = %s", (body["id"],)).fetchone()
            except psycopg.OperationalError:
                return
            if row is None or row[0] != body["status"]:
                self.early.append(f"a webhook reported {body['id']} as {body['status']} while it was {row and row[0]}")
            self.checked += 1


def kill(system: System, part: str, chance: random.Random) -> None:
    if part == MODEL_PROCESS:
        arguments = system.supervisor.process(chance.choice(("coglet", "coglet-2"))).args
        assert isinstance(arguments, list)
        url = f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}/faults"
        with suppress(httpx.HTTPError):
            httpx.post(url, json={"dead_child": True}, timeout=5, trust_env=False)
    else:
        for name in PARTS if part == EVERYTHING else (part,):
            system.kill(name)


@pytest.mark.slow
def test_random_kills_lose_and_double_nothing(system: System) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with receiving() as receiver:
        webhooks = Webhooks(receiver, system.database_url)
        token = system.token()
        clients = Clients([system.url], token.text, f"{receiver.url}/completed", any_input)
        clients.start(CLIENTS)
        began = time.monotonic()
        next_kill = began + PAUSE_S[0]
        try:
            while time.monotonic() < began + KILLS_S:
                webhooks.check()
                system.supervisor.tend()
                if time.monotonic() > next_kill:
                    with suppress(httpx.TransportError):
                        token.cancel(chance.choice(clients.asked).id)
                    kill(system, chance.choice((*PARTS, MODEL_PROCESS, EVERYTHING)), chance)
                    next_kill = time.monotonic() + chance.uniform(*PAUSE_S)
                time.sleep(0.05)
        finally:
            clients.stopping.set()

        def settled() -> bool:
            system.supervisor.tend()
            webhooks.check()
            with suppress(psycopg.OperationalError):
                return all(asked.ended for asked in clients.asked) and unfinished(system.database_url) == 0
            return False

        eventually(settled)
        clients.stop()
        folder, tend = system.folder / "files", system.supervisor.tend
        created = [asked.id for asked in clients.asked]
        judged = judge(system.database_url, created, receiver.deliveries, system.requests(), folder, tend)
        assert [*webhooks.early, *judged] == []
    assert len(created) > 10
