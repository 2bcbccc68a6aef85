"""PostgreSQL, the gateway and the workers of added models, on one machine, as children of one process."""

import fcntl
import os
import secrets
import shlex
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gateway.catalog_files import AddedModels
from gateway.serve import postgres
from gateway.serve.processes import StartError, free_port
from gateway.serve.supervisor import Command, Supervisor, python
from gateway.serve.workers import ModelWorkers
from gateway.settings import DATA

POLL_S = 0.1
ANSWER_S = 10.0
LOG_TAIL_CHARS = 2000


@dataclass(frozen=True)
class Options:
    """The command line."""

    host: str = "127.0.0.1"
    port: int = 5000
    data: Path = DATA
    database_url: str | None = None  # None: run a PostgreSQL server below `data`
    settings: Mapping[str, str] = field(default_factory=dict)  # more of the gateway's


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


@dataclass(frozen=True)
class System:
    """The running system."""

    url: str
    token: str
    token_is_new: bool  # created by this start
    supervisor: Supervisor
    workers: ModelWorkers
    environment: Mapping[str, str]  # the settings of the gateway and the workers

    @property
    def page(self) -> str:
        """The link to the page. It carries the token in its fragment, which browsers never send to a server."""
        return f"{self.url}/#token={self.token}"

    def introduce(self, data: Path, token_command: str, say: Callable[[str], None]) -> None:
        """Print how to reach the system. Only the start that creates the token prints it: output ends up in logs."""
        stored = data / "token"
        if self.token_is_new:
            say(f"token {self.token} (stored in {stored})")
            say(f"open {self.page}")
        else:
            create = f"{token_command} create NAME --data {shlex.quote(str(data))}"
            say(f"the token is in {stored}. To create another: {create}")
            say(f"open {self.url}")
        say(f"ready on {self.url}")

    def tend(self) -> None:
        """Restart what has exited, and start and stop the workers of models that were added or removed.

        Call this regularly, from the main thread.
        """
        self.supervisor.tend()
        self.workers.refresh()


@contextmanager
def supervised(data: Path, say: Callable[[str], None]) -> Iterator[Supervisor]:
    """Hold a data folder for this process alone, and run a supervisor whose logs are in it, for the block.

    No other user can enter the folder, or read a file that is made within the block.

    Raises:
        StartError: another process holds the folder, it is shared with other users, or this isn't Linux.
    """
    if sys.platform != "linux":
        # Elsewhere a killed parent would leave its children behind, and nothing was ever tried.
        raise StartError("this needs Linux. Elsewhere run the gateway's container, see docs/deploy/system.md")
    _close(data)
    umask = os.umask(0o077)
    try:
        with (data / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StartError(f"{data} is in use by another system; choose another folder with --data") from error
            with Supervisor(data / "logs", say) as supervisor:
                yield supervisor
    finally:
        os.umask(umask)


def start(options: Options, supervisor: Supervisor, say: Callable[[str], None]) -> System:
    """Start the database, migrate it, start the gateway and the workers of added models, and wait for the gateway.

    Raises:
        StartError: something can't start, or the port is in use.
    """
    data = options.data.resolve()
    port = free_port(options.host, options.port)
    models = AddedModels(data / "models")
    environment = {
        "GATEWAY_DATABASE_URL": options.database_url or _database(data, supervisor),
        "GATEWAY_FILES_URL": str(data / "files"),
        "GATEWAY_MODELS_FOLDER": str(models.folder),
        "GATEWAY_HOST": options.host,
        "GATEWAY_PORT": str(port),
        **options.settings,
    }
    _write(data / "environment", "".join(f"{name}={value}\n" for name, value in environment.items()))
    _run(python("-m", "gateway.record", "migrate"), environment)
    supervisor.start(Command("gateway", python("-m", "gateway"), environment))
    workers = ModelWorkers(supervisor, models, environment, say)
    workers.refresh()
    token, token_is_new = _token(data / "token", environment)
    url = f"http://{_reachable(options.host)}:{port}"
    _wait_until_answered(url, supervisor)
    return System(url, token, token_is_new, supervisor, workers, environment)


def _close(data: Path) -> None:
    """Create the data folder, or change it, so that no other user can enter it."""
    try:
        if data.is_dir() and data.stat().st_mode & stat.S_ISVTX:  # such as /tmp
            raise StartError(f"{data} is a folder that all users share; choose another one with --data")
        postgres.close(data)
    except OSError as error:
        raise StartError(f"can't keep {data} from other users: {error}; choose another folder with --data") from error


def _database(data: Path, supervisor: Supervisor) -> str:
    """Start PostgreSQL below `data` and return the URL of its database."""
    cluster = postgres.prepare(data / "postgres")
    supervisor.start(Database(cluster))
    return cluster.url


def _token(path: Path, environment: Mapping[str, str]) -> tuple[str, bool]:
    """Return the token in `path`, or a new one if the file or the database doesn't have it, and whether it is new."""
    if path.exists():
        token = path.read_text(encoding="ascii").strip()
        if _run(python("-m", "gateway.tokens", "check"), environment, given=token, check=False).returncode == 0:
            return token, False
    name = f"local-{secrets.token_hex(3)}"  # an earlier token, if it was lost, keeps its own name
    made = _run(python("-m", "gateway.tokens", "create", name), environment).stdout.strip()
    _write(path, made + "\n")
    return made, True


def _write(path: Path, text: str) -> None:
    """Write a file that no other user may read, whole or not at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


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
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None:
        try:
            with direct.open(f"{url}/health", timeout=ANSWER_S):
                return
        except (OSError, urllib.error.URLError):  # an error's status too
            time.sleep(POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()
    raise StartError(f"the gateway exited with status {process.returncode}:\n{tail}\nLog: {log}")


def _reachable(host: str) -> str:
    """Return an address at which this machine reaches what listens on `host`, in the form of a URL."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared with
    return f"[{address}]" if ":" in address else address
