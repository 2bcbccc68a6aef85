"""Processes and PostgreSQL's backends end while clients follow streams, send and fetch files, and get webhooks.

Nothing is lost, doubled or owed. The slow runs take a minute each, or the seconds in the environment variable KILLS_S.
"""

import base64
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
from typing import Any, LiteralString

import httpx
import psycopg
import pytest

from gateway.record.sweep import INTERRUPTED
from gateway.work.coglet import FOLDER
from tests.gateway.containers.conftest import settings, start
from tests.gateway.processes import System, Token, events, own_database
from tests.gateway.receiver import receiving
from tests.resilience.judge import AUDIT, judge, unfinished
from tests.waiting import eventually

TOKENS = [f"w{number} " for number in range(40)]
MODELS: dict[str, tuple[dict[str, object], object]] = {  # the input and output of each
    "tokens": ({"prompt": "w", "count": len(TOKENS), "interval_s": 0.05}, TOKENS),
    "lines": ({"count": 3, "interval_s": 0.2}, [b"frame 0", b"frame 1", b"frame 2"]),
    "slots": ({"seconds": 0.5, "text": "done"}, "done"),
    "images": ({}, None),  # the client's own files
}
INVERT = bytes(range(255, -1, -1))
CLIENTS = 8
SHORT_S, LONG_S = 8.0, float(os.environ.get("KILLS_S", "60"))
REFUSED, LOST = "refused", "its answer was lost"  # instead of a prediction's id
BACKENDS, ALL = "backends", "everything"
OF_MODELS = tuple(f"{part}-{model}" for part in ("worker", "cog") for model in MODELS)
PROCESSES = ("gateway", "postgres", *OF_MODELS)
ANYTHING = (*[BACKENDS] * 6, *["gateway"] * 3, *["postgres"] * 2, *OF_MODELS, ALL)
SESSIONS: LiteralString = """select pid from pg_stat_activity
                             where backend_type = 'client backend' and pid <> pg_backend_pid()"""
JOBS: LiteralString = """select 1 from procrastinate_jobs
                         where status in ('todo', 'doing') and task_name in ('attempt', 'webhook') limit 1"""
GIVE_UP: LiteralString = "update files set created_at = created_at - interval '1 day' where state = 'arriving'"
EXPIRE: LiteralString = """update predictions set completed_at = completed_at - interval '1 day';
                           update files set expires_at = now() where prediction is null"""


@dataclass
class Client:
    """Creates predictions one after the other, reads their streams, and waits for their ends."""

    token: Token
    webhook: str  # each create adds a mark to this URL
    chance: random.Random
    asked: dict[str, str] = field(default_factory=dict)  # id, REFUSED or LOST, by marks
    uploads: dict[str, bytes] = field(default_factory=dict)  # contents by URLs
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        headers = self.token.http.headers
        with httpx.Client(base_url=self.token.url, headers=headers, timeout=30, trust_env=False) as http:
            while not stop.is_set():
                self._predict(http, self.chance.choice(list(MODELS)))

    def _predict(self, http: httpx.Client, model: str) -> None:
        given, expected = MODELS[model] if model != "images" else self._files(http)
        created = self._create(http, model, given)
        came = self._streamed(created["urls"]["stream"]) if model == "tokens" else []
        ended = self._ended(http, created["id"])
        self.counts[f"{model} {ended['status']}"] += 1
        output = ended["output"]
        if output and isinstance(expected, list) and isinstance(expected[0], bytes):
            output = [self._answered(lambda url=url: http.get(url)).content for url in output]  # type: ignore[misc]
            self.counts["files fetched"] += len(output)
        interrupted = ended["error"] == INTERRUPTED  # by two kills
        if interrupted and output and isinstance(expected, list):
            expected = expected[: len(output)]
        if (output and output != expected) if interrupted else (ended["status"], output) != ("succeeded", expected):
            self.problems.append(f"{ended['id']} {ended['status']}: {ended['error']} {str(output)[:200]}")
        if came != (TOKENS[: len(came)] if interrupted or model != "tokens" else TOKENS):
            self.problems.append(f"{ended['id']} streamed {came}")

    def _files(self, http: httpx.Client) -> tuple[dict[str, object], object]:
        """Upload a file, and return the inputs with that and another one as a data URL, and the expected outputs."""
        contents = [self.chance.randbytes(self.chance.randrange(1, most)) for most in (2_000_000, 300_000)]
        name = self.chance.choice(("a.bin", "a.heic"))  # the worker sends the one, and serves the other
        answer = self._answered(lambda: http.post("/files", files={"content": (name, contents[0])}))
        urls = answer.json()["urls"]
        self.uploads[urls["download"]] = contents[0]
        data_url = f"data:application/octet-stream;base64,{base64.b64encode(contents[1]).decode()}"
        return {"image": urls["get"], "others": [data_url]}, [content.translate(INVERT) for content in contents]

    def _create(self, http: httpx.Client, model: str, given: dict[str, object]) -> dict[str, Any]:
        """Create a prediction; if the answer is lost, create another one."""

        def create() -> dict[str, Any] | None:
            mark = f"{self.chance.getrandbits(64):x}"
            body = {"input": given, "webhook": f"{self.webhook}/{mark}", "webhook_events_filter": ["completed"]}
            try:
                answer = http.post(f"/models/test/{model}/predictions", json=body)
            except httpx.TransportError as error:
                self.asked[mark] = REFUSED if isinstance(error, httpx.ConnectError) else LOST
                self.counts["connections lost"] += 1
                return None
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                self.asked[mark] = REFUSED
                return None
            prediction: dict[str, Any] = answer.raise_for_status().json()
            self.asked[mark] = prediction["id"]
            return prediction

        return eventually(create, 0.2)

    def _streamed(self, url: str) -> list[str]:
        """Return a stream's output; as a browser, reconnect if it breaks off."""
        outputs: list[str] = []
        name = last_id = ""

        def follow() -> bool:
            nonlocal name, last_id
            before = last_id
            with suppress(httpx.TransportError, AssertionError):  # or it is not there yet
                for event in events(url, last_id):
                    name, last_id = event.name, event.id
                    outputs.extend([event.data] if name == "output" else [])
            self.counts["streams cut"] += name != "done" and last_id != before
            return name == "done"

        eventually(follow, 0.1)
        return outputs

    def _ended(self, http: httpx.Client, prediction_id: str) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            found: dict[str, Any] = self._answered(lambda: http.get(f"/predictions/{prediction_id}")).json()
            return found if found["completed_at"] else None

        return eventually(check, 0.1)

    def _answered(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request until the gateway and the database answer."""

        def once() -> httpx.Response | None:
            with suppress(httpx.TransportError):
                answer = send()
                return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer.raise_for_status()
            self.counts["connections lost"] += 1
            return None

        return eventually(once, 0.2)


def query(system: System, text: LiteralString) -> list[Any]:
    with psycopg.connect(system.database_url, autocommit=True, connect_timeout=5) as connection:
        found = connection.execute(text)
        return found.fetchall() if found.description else []


def end_backends(system: System, chance: random.Random) -> Counter[str]:
    """End some politely, and now and then one by kill -9, after which all of them restart; return how many."""
    with psycopg.connect(system.database_url, autocommit=True, connect_timeout=5) as connection:
        pids = [pid for (pid,) in connection.execute(SESSIONS).fetchall()]
        if pids and chance.random() < 0.2:
            os.kill(chance.choice(pids), signal.SIGKILL)
            return Counter({"backend": 1})
        ended = chance.sample(pids, min(len(pids), chance.randint(1, 4)))
        for pid in ended:
            connection.execute("select pg_terminate_backend(%s)", (pid,))
        return Counter({"backend, politely": len(ended)})


def kill(system: System, part: str, chance: random.Random) -> Counter[str]:
    if part == BACKENDS:
        return end_backends(system, chance)
    for name in PROCESSES if part == ALL else (part,):
        system.kill(name)
    return Counter({part: 1})


def wrongly_stored(system: System, clients: list[Client]) -> list[str]:
    """Return what is stored otherwise than the answers said: predictions, and the files that clients have uploaded."""
    asked = {mark: result for client in clients for mark, result in client.asked.items()}
    found = Counter(webhook.rsplit("/", 1)[1] for (webhook,) in query(system, "select webhook from predictions"))
    allowed = {REFUSED: (0,), LOST: (0, 1)}
    problems = [f"{i}: {found[mark]} times" for mark, i in asked.items() if found[mark] not in allowed.get(i, (1,))]
    for client in clients:
        gone = [url for url, content in client.uploads.items() if client.token.http.get(url).content != content]
        problems += [f"the upload {url} is lost" for url in gone]
    return problems


@pytest.fixture
def wounded(tmp_path: Path) -> Iterator[System]:
    with own_database(tmp_path, settings(tmp_path) | {"GATEWAY_WEBHOOK_TRY_S": "5"}) as system:
        query(system, AUDIT)
        start(system, MODELS)
        yield system


@pytest.mark.parametrize(
    ("parts", "seconds", "pause_s"),
    [
        ((BACKENDS,), SHORT_S, 1.5),
        pytest.param((BACKENDS,), LONG_S, 1.5, marks=pytest.mark.slow),
        pytest.param(ANYTHING, LONG_S, 5.0, marks=pytest.mark.slow),
    ],
    ids=["backends-briefly", "backends", "anything"],
)
def test_nothing_is_lost_doubled_or_owed(
    wounded: System, parts: tuple[str, ...], seconds: float, pause_s: float
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    stop, chance, kills = threading.Event(), random.Random(seed), Counter[str]()
    tend, folder = wounded.supervisor.tend, wounded.folder / "files"
    began_with = [wounded.supervisor.process(name) for name in PROCESSES]

    def settled() -> bool:
        tend()
        with suppress(psycopg.OperationalError):
            done = all(one.done() for one in running) and not unfinished(wounded.database_url)
            return done and not query(wounded, JOBS)
        return False

    with receiving() as receiver, ThreadPoolExecutor(CLIENTS) as pool:
        token, hook = wounded.token(), f"{receiver.url}/slow"
        clients = [Client(token, hook, random.Random(seed + number)) for number in range(CLIENTS)]
        running = [pool.submit(client.run, stop) for client in clients]
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                with suppress(psycopg.OperationalError):  # it restarts
                    kills += kill(wounded, chance.choice(parts), chance)
                next_at = time.monotonic() + chance.uniform(0.2, pause_s)
                while time.monotonic() < next_at:
                    tend()
                    time.sleep(0.05)
        finally:
            stop.set()
        eventually(settled, 0.1)
        for one in running:
            one.result()
        problems = [problem for client in clients for problem in client.problems]
        problems += wrongly_stored(wounded, clients)
        created = [i for client in clients for i in client.asked.values() if i not in (REFUSED, LOST)]
        query(wounded, GIVE_UP)  # those whose upload was cut off, which the sweep would do after an hour
        problems += judge(wounded.database_url, created, receiver.deliveries, [], folder, tend)
        rows = query(wounded, "select id, status, attempts, error from predictions")
    counts = sum((client.counts for client in clients), Counter[str]())
    sent = Counter(json.loads(delivery.body)["id"] for delivery in receiver.deliveries)
    print(f"seed {seed}: {len(rows)} predictions, {sum(len(client.uploads) for client in clients)} uploads,")
    print(f"{sent.total()} deliveries, {dict(Counter(n for _, _, n, _ in rows))} attempts, {dict(counts)},")
    unknown = Counter(result for client in clients for result in client.asked.values() if result in (REFUSED, LOST))
    print(f"creates {dict(unknown)}, killed {dict(kills)}")
    assert problems == []
    assert query(wounded, "select sum(count)::int from ends") == [(len(rows),)]
    assert query(wounded, "select id from deliveries where not delivered") == []
    if parts == (BACKENDS,):
        assert min(kills.total(), len(created)) > seconds / 4
        assert [row for row in rows if row[1:3] != ("succeeded", 1)] == []
        assert sent == dict.fromkeys(created, 2)  # each until it was accepted, which the second try was
        assert counts["connections lost"] == 0
        assert all(process.poll() is None for process in began_with)
    else:
        assert all(counts[f"{model} succeeded"] for model in MODELS)  # more on a machine that restarts all of it fast
        assert [row for row in rows if row[1] != "succeeded" and row[2:] != (2, INTERRUPTED)] == []
        check_nothing_stays(wounded, {row[0] for row in rows})


def check_nothing_stays(system: System, ids: set[str]) -> None:
    """Check that retention, which comes each minute, leaves no file on the disk."""
    query(system, EXPIRE)
    system.until(lambda: not query(system, "select 1 from files"))
    assert [path for path in (system.folder / "files").rglob("*") if path.is_file()] == []
    assert [path for path in FOLDER.iterdir() if path.name.partition("-")[0] in ids] == []
