"""Run the whole on one machine: PostgreSQL, the gateway, and for each model its Cog server and a worker."""

import fcntl
import http.client
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local import postgres, serve
from local.services import CogServer, Database
from local.supervisor import Command, StartError, Supervisor, python

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"riffusion": "riffusion/riffusion", "deforum": "deforum/deforum_stable_diffusion"}  # in the catalog
PREVIEWED = "deforum"  # whose motion local.preview shows on the page
POLL_S = 0.1
LOG_TAIL_CHARS = 2000


class NotRunningError(Exception):
    """Say why the system does not run."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    models: tuple[str, ...] = tuple(NAMES)
    host: str = "127.0.0.1"
    port: int = 5000
    data: Path = ROOT / "out" / "gateway"
    database_url: str | None = None  # a server of one's own; None runs one below `data`
    predictors: Mapping[str, Path] = field(default_factory=dict)  # predictors other than the models' own, for tests


@dataclass(frozen=True)
class System:
    """The running system."""

    url: str
    token: str
    supervisor: Supervisor

    @property
    def page(self) -> str:
        """Return the link to the page, which takes the token along; a browser sends no fragment anywhere."""
        scheme, _, place = self.url.partition("://")
        host, _, port = place.rpartition(":")
        return f"{scheme}://{_reached_by(host)}:{port}/#token={self.token}"


@contextmanager
def running(options: Options, say: Callable[[str], None] = print) -> Iterator[System]:
    """Run the system; on the way out everything ends: workers, gateway, database, Cog servers.

    It is ready when it yields. Call the supervisor's `tend` every so often, from the main thread.

    Raises:
        NotRunningError: something can't start, or its port or data folder is taken.
    """
    data = options.data.resolve()
    with _claimed(data), Supervisor(data / "logs", say) as supervisor:
        port = free_port(options.host, options.port)
        servers = [CogServer(name, free_port("127.0.0.1", 0), options.predictors.get(name)) for name in options.models]
        try:
            for server in servers:
                supervisor.start(server)  # they take the longest, and need nothing else
            environment = {
                "GATEWAY_DATABASE_URL": options.database_url or _database(data, supervisor),
                "GATEWAY_FILES_URL": str(data / "files"),
                "GATEWAY_MODELS": ",".join(NAMES[model] for model in options.models),
                "GATEWAY_HOST": options.host,
                "GATEWAY_PORT": str(port),
                "PYTHONPATH": str(ROOT),
            }
            if PREVIEWED in options.models:
                preview_port = free_port("127.0.0.1", 0)
                environment["GATEWAY_PREVIEWS"] = json.dumps({NAMES[PREVIEWED]: f"http://127.0.0.1:{preview_port}"})
                supervisor.start(
                    Command("preview", python("-m", "local.preview", "--port", str(preview_port)), environment)
                )
            _write(data / "environment", "".join(f"{name}={value}\n" for name, value in environment.items()))
            _run(python("-m", "gateway.record", "migrate"), environment)
            supervisor.start(Command("gateway", python("-m", "gateway"), environment))
            for server in servers:
                supervisor.start(_worker(server, environment))
            token = _token(data / "token", environment)
        except (StartError, postgres.PostgresError) as error:
            raise NotRunningError(str(error)) from error
        for server in servers:
            _wait_until_ready(supervisor, server)
        _wait_until_answered(supervisor, options.host, port)
        yield System(f"http://{options.host}:{port}", token, supervisor)


def _database(data: Path, supervisor: Supervisor) -> str:
    """Start PostgreSQL below `data` and return the address of its database."""
    cluster = postgres.prepare(data / "postgres")
    supervisor.start(Database(cluster))
    return cluster.url


def _worker(server: CogServer, environment: Mapping[str, str]) -> Command:
    """Return the worker beside a Cog server; its name stays, though the port changes: it takes up what it left."""
    arguments = ["--queue", NAMES[server.model], "--cog-url", server.url, "--name", server.name]
    return Command(f"{server.model}-worker", python("-m", "gateway.work", *arguments), environment)


def _token(path: Path, environment: Mapping[str, str]) -> str:
    """Return the token in `path`; make one if there is none that the database knows."""
    if path.exists():
        token = path.read_text(encoding="ascii").strip()
        if _run(python("-m", "gateway.tokens", "check"), environment, given=token, check=False).returncode == 0:
            return token
    name = f"local-{secrets.token_hex(3)}"  # its own, if an earlier one was lost
    made = _run(python("-m", "gateway.tokens", "create", name), environment).stdout.strip()
    _write(path, made + "\n")
    return made


def _write(path: Path, text: str) -> None:
    """Write a file that nobody else may read: whole, or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def _run(
    command: list[str], environment: Mapping[str, str], *, given: str = "", check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run one of the gateway's commands to its end, with what it is `given` as its input.

    Raises:
        NotRunningError: it failed, and `check` is on.
    """
    variables = {**os.environ, **environment}
    ended = subprocess.run(command, env=variables, input=given, capture_output=True, text=True, check=False)
    if check and ended.returncode:
        raise NotRunningError(ended.stderr.strip() or f"{' '.join(command)} failed without a word")
    return ended


def _wait_until_ready(supervisor: Supervisor, server: CogServer) -> None:
    """Return when a Cog server takes predictions, however long its weights take to come.

    Raises:
        NotRunningError: its setup failed, or it ended.
    """
    folder = Path()  # nobody looks into it
    try:
        serve.Server("127.0.0.1", server.port, folder, supervisor.process(server.name)).wait_until_ready()
    except serve.NotServingError as error:
        raise NotRunningError(f"{server.name} does not start: {error}\nSee {supervisor.log(server.name)}") from error


def _wait_until_answered(supervisor: Supervisor, host: str, port: int) -> None:
    """Return when the gateway answers that it is ready.

    Raises:
        NotRunningError: it ended.
    """
    process = supervisor.process("gateway")
    while process.poll() is None:
        connection = http.client.HTTPConnection(_reached_by(host), port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_S)
    log = supervisor.log("gateway")
    raise NotRunningError(f"the gateway ended with status {process.returncode}:\n{_tail(log)}\nSee {log}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()


def _reached_by(host: str) -> str:
    """Return an address that reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared with


def free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0.

    Raises:
        NotRunningError: nobody can listen there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given up is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotRunningError(f"can't listen on {host}:{port}: {error.strerror}. --port takes another") from error
        return int(probe.getsockname()[1])


@contextmanager
def _claimed(data: Path) -> Iterator[None]:
    """Hold the data folder for this process alone.

    Raises:
        NotRunningError: another process holds it.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotRunningError(f"{data} is in use by another script/serve: --data takes another folder") from error
        yield
