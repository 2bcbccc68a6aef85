"""PostgreSQL's backends end while predictions run, stream, and send webhooks: nothing is lost, doubled or owed."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.serve import postgres
from gateway.serve.processes import free_port
from gateway.serve.supervisor import Supervisor, python
from tests.gateway.containers.conftest import CALLBACK_TOKEN, catalog, cog_server, worker
from tests.gateway.processes import ROOT, TIMEOUT_S, System, Token
from tests.gateway.receiver import Receiver, receiving

MODELS = ("tokens", "lines", "slots")
CLIENTS = 6
SHORT_S, LONG_S = 8, 600
PAUSE_S = (0.2, 1.5)  # between two kills
RECOVERY_S = 120  # for the last webhooks
SESSIONS = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


@dataclass
class Client:
    """Creates predictions one after the other, reads their streams, and waits for their ends."""

    token: Token
    webhook: str
    chance: random.Random
    created: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        with httpx.Client(headers=self.token.http.headers, timeout=TIMEOUT_S, trust_env=False) as http:
            while not stop.is_set():
                model = self.chance.choice(MODELS)
                answer = self._post(http, model)
                if answer.status_code == 503:  # nothing was stored
                    time.sleep(0.2)
                    continue
                prediction = answer.json()
                self.created.append(prediction["id"])
                expected = OUTPUTS[model]
                if model == "tokens" and (came := self._stream(http, prediction["urls"]["stream"])) != expected:
                    self.problems.append(f"{prediction['id']} streamed {came}")
                ended = self._ended(http, prediction["id"])
                output = ended["output"]
                if model == "lines" and output:
                    output = [_get(http, url).text for url in output]
                if (ended["status"], output) != ("succeeded", expected):
                    self.problems.append(f"{ended['id']} {ended['status']}: {ended['error']} {output}")

    def _post(self, http: httpx.Client, model: str) -> httpx.Response:
        return http.post(
            f"{self.token.url}/models/test/{model}/predictions",
            json={"input": INPUTS[model], "webhook": self.webhook, "webhook_events_filter": ["completed"]},
        )

    def _ended(self, http: httpx.Client, prediction_id: str) -> dict[str, Any]:
        give_up = time.monotonic() + TIMEOUT_S
        while time.monotonic() < give_up:
            prediction: dict[str, Any] = _get(http, f"{self.token.url}/predictions/{prediction_id}").json()
            if prediction["completed_at"]:
                return prediction
            time.sleep(0.1)
        return prediction

    def _stream(self, http: httpx.Client, url: str) -> list[str]:
        """Return a stream's output; as a browser, reconnect if it breaks off."""
        outputs: list[str] = []
        last = ""
        give_up = time.monotonic() + TIMEOUT_S
        while time.monotonic() < give_up:
            with suppress(httpx.TransportError), http.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
                event: dict[str, str] = {}
                for line in answer.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        event[name] = value
                    elif "event" in event:
                        last = event["id"]
                        if event["event"] == "output":
                            outputs.append(event["data"])
                        elif event["event"] == "done":
                            return outputs
                        event = {}
            time.sleep(0.1)
        return outputs


INPUTS: dict[str, dict[str, object]] = {
    "tokens": {"prompt": "w", "count": 20, "interval_s": 0.05},
    "lines": {"count": 3, "interval_s": 0.2},
    "slots": {"seconds": 0.5, "text": "done"},
}
OUTPUTS: dict[str, object] = {
    "tokens": [f"w{number} " for number in range(20)],
    "lines": [f"frame {number}" for number in range(3)],
    "slots": "done",
}


def _get(http: httpx.Client, url: str) -> httpx.Response:
    """Get something that exists, once the database answers."""
    give_up = time.monotonic() + TIMEOUT_S
    while (answer := http.get(url)).status_code == 503 and time.monotonic() < give_up:
        time.sleep(0.1)
    return answer


@dataclass
class Killer:
    """Ends PostgreSQL's backends: some politely, and now and then one by kill -9, after which all of them restart."""

    database_url: str
    chance: random.Random
    ended: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(psycopg.OperationalError):  # it restarts
                self._kill()
            time.sleep(self.chance.uniform(*PAUSE_S))

    def _kill(self) -> None:
        with psycopg.connect(self.database_url, autocommit=True, connect_timeout=5) as connection:
            pids = [pid for (pid,) in connection.execute(SESSIONS).fetchall()]
            if not pids:
                return
            if self.chance.random() < 0.2:
                os.kill(self.chance.choice(pids), signal.SIGKILL)
                self.ended["killed"] += 1
                return
            for pid in self.chance.sample(pids, min(len(pids), self.chance.randint(1, 4))):
                connection.execute("select pg_terminate_backend(%s)", (pid,))
                self.ended["terminated"] += 1


@pytest.fixture
def wounded(tmp_path: Path) -> Iterator[System]:
    """Run a system with real Cog servers on a PostgreSQL of its own."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)
    settings = {
        "GATEWAY_CATALOG": str(catalog(tmp_path)),
        "GATEWAY_CALLBACK_TOKEN": CALLBACK_TOKEN,
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
        "GATEWAY_WEBHOOK_TRY_S": "5",
        "GATEWAY_RETENTION_S": "0",
    }
    try:
        with (
            (folder / "log").open("wb") as log,
            postgres.started(folder / "pg", log, fsync="off") as cluster,
            Supervisor(tmp_path / "logs", lambda _: None) as supervisor,
        ):
            environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url, "PYTHONPATH": str(ROOT)}
            subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True)
            system = System(tmp_path, cluster.url, supervisor, settings)
            with system.closing:
                for name in MODELS:
                    port = free_port("127.0.0.1", 0)
                    supervisor.start(cog_server(name, port, tmp_path / name))
                    supervisor.start(worker(system, name, port))
                system.start_gateway()
                yield system
    finally:
        postgres.remove(folder / "pg")
        shutil.rmtree(folder)


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_backends_end_and_nothing_is_lost_doubled_or_owed(wounded: System, seconds: float) -> None:
    stop = threading.Event()
    with receiving() as receiver:
        token = wounded.token()
        clients = [Client(token, f"{receiver.url}/slow/hook", random.Random(n)) for n in range(CLIENTS)]
        threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
        for thread in threads:
            thread.start()
        killer = Killer(wounded.database_url, random.Random(seconds))
        killer.run(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        created = [prediction_id for client in clients for prediction_id in client.created]
        owed = _owed_after(wounded, RECOVERY_S)
        problems = [problem for client in clients for problem in client.problems]
        problems += _rows(wounded, created) + _webhooks(receiver, created)
        problems += [f"{prediction_id} is owed a webhook" for prediction_id in owed]
    print(f"{len(created)} predictions, {dict(killer.ended)}, {len(receiver.deliveries)} deliveries")
    assert not problems
    assert min(killer.ended["killed"] + killer.ended["terminated"], len(created)) > seconds / 4
    assert all(not process.poll() for process in [wounded.supervisor.process("gateway")])


def _owed_after(system: System, limit_s: float) -> list[str]:
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        with psycopg.connect(system.database_url) as connection:
            rows = connection.execute("select id from deliveries where done_at is null").fetchall()
        if not rows:
            return []
        time.sleep(0.5)
    return [row[0] for row in rows]


def _rows(system: System, created: list[str]) -> list[str]:
    """Return what is wrong in the record: each that was created ended once, at its first attempt."""
    with psycopg.connect(system.database_url) as connection:
        rows = connection.execute("select id, status, attempts, files from predictions").fetchall()
        ends = connection.execute("select sum(count)::int from ends").fetchone()
        given_up = connection.execute("select id from deliveries where not delivered").fetchall()
    problems = [f"{row[0]} is {row[1]} after {row[2]} attempts" for row in rows if row[1:3] != ("succeeded", 1)]
    problems += [f"{prediction_id} was not created" for prediction_id in {row[0] for row in rows} ^ {*created}]
    problems += [f"{len(created)} predictions have {ends} ends"] if ends != (len(created),) else []
    problems += [f"{row[0]}'s webhook was given up" for row in given_up]
    wanted = {file["key"] for row in rows for file in row[3]}
    folder = system.folder / "files"
    stored = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return problems + [f"{key} is missing" for key in wanted - stored]


def _webhooks(receiver: Receiver, created: list[str]) -> list[str]:
    """Return what is wrong with the webhooks: each was sent until it was accepted, which the second try was."""
    bodies: dict[str, list[str]] = {prediction_id: [] for prediction_id in created}
    for delivery in receiver.deliveries:
        bodies.setdefault(json.loads(delivery.body)["id"], []).append(delivery.body)
    problems = [f"{key} got {len(sent)} webhooks" for key, sent in bodies.items() if len(sent) != 2]
    return problems + [f"{key} got different webhooks" for key, sent in bodies.items() if len(set(sent)) > 1]
