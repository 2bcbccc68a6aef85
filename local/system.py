"""Run the whole system on one machine: PostgreSQL, the gateway, and a Cog server with a worker for each model."""

import fcntl
import http
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lib.outputs import whole
from local import ROOT, postgres, serve
from local.processes import StartError, free_port
from local.supervisor import Command, Supervisor, python

NAMES = {"riffusion": "riffusion/riffusion", "deforum": "deforum/deforum_stable_diffusion"}  # in the catalog
PREVIEWED = "deforum"  # its camera motion is drawn by the page, with values from local.preview
POLL_S = 0.1
LOG_TAIL_CHARS = 2000


@dataclass(frozen=True)
class Options:
    """The command line."""

    models: tuple[str, ...] = tuple(NAMES)
    host: str = "127.0.0.1"
    port: int = 5000
    data: Path = ROOT / "out" / "gateway"
    database_url: str | None = None  # None: run a PostgreSQL server below `data`
    predictors: Mapping[str, Path] = field(default_factory=dict)  # replace the models' own, for tests and benches
    settings: Mapping[str, str] = field(default_factory=dict)  # more of the gateway's, for tests and benches


@dataclass
class Database:
    """The service that is PostgreSQL."""

    cluster: postgres.Cluster
    name: str = "postgres"

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it and wait until it accepts connections."""
        return self.cluster.start(log)

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Stop it in its own way."""
        postgres.stop(process)


@dataclass
class CogServer:
    """The service that is a model's Cog server. It stays on its port when it is restarted."""

    model: str
    port: int
    predictor: Path | None = None
    name: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)  # closing it stops the server

    def __post_init__(self) -> None:
        self.name = self.name or self.model

    @property
    def url(self) -> str:
        """Where it listens: on this machine alone, since it checks no token."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it with a folder of its own."""
        server = serve.started(self.model, port=self.port, predictor=self.predictor, log=log)
        return self._stack.enter_context(server).process

    def stop(self, _process: "subprocess.Popen[bytes]") -> None:
        """Stop it with its worker, and delete its folder."""
        self._stack.close()

    def worker(self, environment: Mapping[str, str]) -> Command:
        """Return the worker that runs predictions on it; by its constant name it finds what it ran before a restart."""
        arguments = ["--queue", NAMES[self.model], "--cog-url", self.url, "--name", self.name]
        return Command(f"{self.name}-worker", python("-m", "gateway.work", *arguments), environment)


@dataclass(frozen=True)
class System:
    """The running system."""

    url: str
    token: str
    supervisor: Supervisor
    servers: Sequence[CogServer]
    environment: Mapping[str, str]  # the settings of the gateway and the workers

    @property
    def page(self) -> str:
        """The link to the page. It carries the token in its fragment, which browsers never send to a server."""
        return f"{self.url}/#token={self.token}"


@contextmanager
def running(options: Options, say: Callable[[str], None] = print) -> Iterator[System]:
    """Run the system within a block, which begins when the system is ready.

    Call the supervisor's `tend` regularly, from the main thread.

    Raises:
        StartError: something can't start, or the port or the data folder is in use.
    """
    data = options.data.resolve()
    with _locked(data), Supervisor(data / "logs", say) as supervisor:
        port = free_port(options.host, options.port)
        servers = [CogServer(name, free_port(), options.predictors.get(name)) for name in options.models]
        for server in servers:
            supervisor.start(server)  # first, since they take longest and need nothing else
        environment = {
            "GATEWAY_DATABASE_URL": options.database_url or _database(data, supervisor),
            "GATEWAY_FILES_URL": str(data / "files"),
            "GATEWAY_MODELS": ",".join(NAMES[model] for model in options.models),
            "GATEWAY_HOST": options.host,
            "GATEWAY_PORT": str(port),
            "PYTHONPATH": str(ROOT),
            **options.settings,
        }
        if PREVIEWED in options.models:
            preview_port = str(free_port())
            environment["GATEWAY_PREVIEWS"] = json.dumps({NAMES[PREVIEWED]: f"http://127.0.0.1:{preview_port}"})
            supervisor.start(Command("preview", python("-m", "local.preview", "--port", preview_port), environment))
        _write(data / "environment", "".join(f"{name}={value}\n" for name, value in environment.items()))
        _run(python("-m", "gateway.record", "migrate"), environment)
        supervisor.start(Command("gateway", python("-m", "gateway"), environment))
        for server in servers:
            supervisor.start(server.worker(environment))
        token = _token(data / "token", environment)
        for server in servers:
            wait_until_ready(server, supervisor)
        url = f"http://{_reachable(options.host)}:{port}"
        _wait_until_answered(url, supervisor)
        yield System(url, token, supervisor, servers, environment)


def wait_until_ready(server: CogServer, supervisor: Supervisor) -> None:
    """Return when a Cog server accepts predictions, however long loading its weights takes.

    Raises:
        StartError: its setup failed, or it exited.
    """
    try:
        serve.wait_until_ready(server.url, supervisor.process(server.name))
    except StartError as error:
        raise StartError(f"{server.name} can't start: {error}\nLog: {supervisor.log(server.name)}") from error


def _database(data: Path, supervisor: Supervisor) -> str:
    """Start PostgreSQL below `data` and return the URL of its database."""
    cluster = postgres.prepare(data / "postgres")
    supervisor.start(Database(cluster))
    return cluster.url


def _token(path: Path, environment: Mapping[str, str]) -> str:
    """Return the token in `path`, or a new one if the file or the database doesn't have it."""
    if path.exists():
        token = path.read_text(encoding="ascii").strip()
        if _run(python("-m", "gateway.tokens", "check"), environment, given=token, check=False).returncode == 0:
            return token
    name = f"local-{secrets.token_hex(3)}"  # an earlier token, if it was lost, keeps its own name
    made = _run(python("-m", "gateway.tokens", "create", name), environment).stdout.strip()
    _write(path, made + "\n")
    return made


def _write(path: Path, text: str) -> None:
    """Write a file that no other user may read."""
    with whole(path) as unfinished:
        unfinished.touch(0o600)
        unfinished.write_text(text, encoding="utf-8")


def _run(
    command: list[str], environment: Mapping[str, str], *, given: str = "", check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run one of the gateway's commands, with `given` on its standard input, and return when it has exited.

    Raises:
        StartError: it failed, and `check` is on.
    """
    variables = {**os.environ, **environment}
    ended = subprocess.run(command, env=variables, input=given, capture_output=True, text=True, check=False)
    if check and ended.returncode:
        raise StartError(ended.stderr.strip() or f"{' '.join(command)} failed and printed nothing")
    return ended


def _wait_until_answered(url: str, supervisor: Supervisor) -> None:
    """Return when the gateway reports that it is ready.

    Raises:
        StartError: it exited.
    """
    process, log = supervisor.process("gateway"), supervisor.log("gateway")
    while process.poll() is None:
        answer = serve.get(f"{url}/health")
        if answer and answer[0] == http.HTTPStatus.OK:
            return
        time.sleep(POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()
    raise StartError(f"the gateway exited with status {process.returncode}:\n{tail}\nLog: {log}")


def _reachable(host: str) -> str:
    """Return an address at which this machine reaches what listens on `host`, in the form of a URL."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared with
    return f"[{address}]" if ":" in address else address


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the data folder for this process alone.

    Raises:
        StartError: another process holds it.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(f"{data} is in use by another script/serve; choose another folder with --data") from error
        yield
