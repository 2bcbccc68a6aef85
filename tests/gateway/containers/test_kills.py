"""PostgreSQL's backends end while predictions run, stream, and send webhooks: nothing is lost, doubled or owed."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.containers.conftest import settings, start
from tests.gateway.processes import System, Token, events, own_database
from tests.gateway.receiver import receiving
from tests.resilience.judge import AUDIT, judge, unfinished
from tests.waiting import eventually

MODELS: dict[str, tuple[dict[str, object], object]] = {  # the input and output of each
    "tokens": ({"prompt": "w", "count": 20, "interval_s": 0.05}, [f"w{number} " for number in range(20)]),
    "lines": ({"count": 3, "interval_s": 0.2}, [f"frame {number}" for number in range(3)]),
    "slots": ({"seconds": 0.5, "text": "done"}, "done"),
}
CLIENTS = 6
SHORT_S, LONG_S = 8, 600
PAUSE_S = (0.2, 1.5)  # between two kills
SESSIONS = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


def answered(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send a request until the database answers; before that, nothing is stored."""
    return eventually(
        lambda: answer if (answer := send()).status_code != httpx.codes.SERVICE_UNAVAILABLE else None, 0.2
    )


@dataclass
class Client:
    """Creates predictions one after the other, reads their streams, and waits for their ends."""

    token: Token
    webhook: str
    chance: random.Random
    created: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> list[str]:
        """Return what was wrong."""
        problems = []
        with httpx.Client(base_url=self.token.url, headers=self.token.http.headers, trust_env=False) as http:
            while not stop.is_set():
                model = self.chance.choice(list(MODELS))
                given, expected = MODELS[model]
                body = {"input": given, "webhook": self.webhook, "webhook_events_filter": ["completed"]}
                path = f"/models/test/{model}/predictions"
                created = answered(lambda path=path, body=body: http.post(path, json=body)).json()  # type: ignore[misc]
                self.created.append(created["id"])
                if model == "tokens" and (came := streamed(created["urls"]["stream"])) != expected:
                    problems.append(f"{created['id']} streamed {came}")
                ended = self._ended(http, created["id"])
                output = ended["output"]
                if model == "lines" and output:
                    output = [answered(lambda url=url: http.get(url)).text for url in output]  # type: ignore[misc]
                if (ended["status"], output) != ("succeeded", expected):
                    problems.append(f"{ended['id']} {ended['status']}: {ended['error']} {output}")
        return problems

    def _ended(self, http: httpx.Client, prediction_id: str) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            found: dict[str, Any] = answered(lambda: http.get(f"/predictions/{prediction_id}")).json()
            return found if found["completed_at"] else None

        return eventually(check, 0.1)


def streamed(url: str) -> list[str]:
    """Return a stream's output; as a browser, reconnect if it breaks off."""
    outputs: list[str] = []
    name = last_id = ""
    while name != "done":
        with suppress(httpx.TransportError, AssertionError):  # or it is not there yet
            for event in events(url, last_id):
                name, last_id = event.name, event.id
                outputs += [event.data] if name == "output" else []
        time.sleep(0.1)
    return outputs


def end_backends(database_url: str, chance: random.Random) -> Counter[str]:
    """End some politely, and now and then one by kill -9, after which all of them restart; return how many."""
    ended: Counter[str] = Counter()
    with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
        pids = [pid for (pid,) in connection.execute(SESSIONS).fetchall()]
        if pids and chance.random() < 0.2:
            os.kill(chance.choice(pids), signal.SIGKILL)
            ended["killed"] += 1
        else:
            for pid in chance.sample(pids, min(len(pids), chance.randint(1, 4))):
                connection.execute("select pg_terminate_backend(%s)", (pid,))
                ended["terminated"] += 1
    return ended


@pytest.fixture
def wounded(tmp_path: Path) -> Iterator[System]:
    more = {"GATEWAY_WEBHOOK_TRY_S": "5", "GATEWAY_RETENTION_S": "0"}
    with own_database(tmp_path, settings(tmp_path) | more) as system:
        with psycopg.connect(system.database_url) as connection:
            connection.execute(AUDIT)
        start(system, MODELS)
        yield system


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_backends_end_and_nothing_is_lost_doubled_or_owed(wounded: System, seconds: float) -> None:
    stop, chance, ended = threading.Event(), random.Random(seconds), Counter[str]()
    url, tend = wounded.database_url, wounded.supervisor.tend
    with receiving() as receiver, ThreadPoolExecutor(CLIENTS) as pool:
        token = wounded.token()
        clients = [Client(token, f"{receiver.url}/slow/hook", random.Random(n)) for n in range(CLIENTS)]
        running = [pool.submit(client.run, stop) for client in clients]
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                with suppress(psycopg.OperationalError):  # it restarts
                    ended += end_backends(url, chance)
                time.sleep(chance.uniform(*PAUSE_S))
        finally:
            stop.set()
        problems = [problem for one in running for problem in one.result()]
        created = [prediction_id for client in clients for prediction_id in client.created]
        eventually(lambda: unfinished(url) == 0)
        problems += judge(url, created, receiver.deliveries, [], wounded.folder / "files", tend)
        with psycopg.connect(url) as connection:
            rows = connection.execute("select id from predictions where attempts <> 1").fetchall()
        sent = Counter(json.loads(delivery.body)["id"] for delivery in receiver.deliveries)
    print(f"{len(created)} predictions, {dict(ended)}, {len(receiver.deliveries)} deliveries")
    assert [*problems, *rows] == []
    assert sent == dict.fromkeys(created, 2)  # each until it was accepted, which the second try was
    assert min(ended.total(), len(created)) > seconds / 4
    assert wounded.supervisor.process("gateway").poll() is None
