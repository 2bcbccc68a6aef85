"""PostgreSQL from the wheel as a child process."""

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from gateway.serve import postgres
from gateway.serve.processes import StartError
from local import ROOT
from tests.waiting import eventually, is_alive


@pytest.fixture
def folder() -> Iterator[Path]:
    with postgres.temporary_folder() as folder:
        yield folder


def value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        answer = connection.execute(query.encode())
        row = answer.fetchone() if answer.description else None
        return row and row[0]


NOBODY = pwd.getpwnam("nobody").pw_uid
STRANGER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def succeeds(user: int, attempt: Callable[[], None], refusal: type[Exception]) -> bool:
    """Return whether another user's process can do something, which otherwise raises `refusal`."""
    child = os.fork()
    if not child:
        code = 2
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            attempt()
            code = 0
        except refusal:
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def reached(cluster: postgres.Cluster, user: int) -> bool:
    """Return whether another user's process can connect to the socket."""
    with socket.socket(socket.AF_UNIX) as connecting:
        path = str(cluster.sockets / postgres.SOCKET)
        return succeeds(user, lambda: connecting.connect(path), PermissionError)


def admitted(cluster: postgres.Cluster, user: int) -> bool:
    """Return whether PostgreSQL lets another user's process in."""
    return succeeds(user, lambda: psycopg.connect(cluster.url).close(), psycopg.OperationalError)


def killed_with_a_row(folder: Path) -> postgres.Cluster:
    """Return a cluster whose server was killed after it had stored a row."""
    cluster = postgres.prepare(folder)
    process = cluster.start()
    value(cluster.url, "create table kept as select 7 as number")
    process.kill()
    process.wait()
    return cluster


def test_committed_data_survives_a_kill_and_a_restart(folder: Path) -> None:
    cluster = killed_with_a_row(folder / "postgres")
    process = cluster.start()  # while some children of the killed one may still run
    try:
        assert value(cluster.url, "select number from kept") == 7
        assert value(cluster.url, "show listen_addresses") == ""
        assert psutil.Process(process.pid).uids().real != 0
    finally:
        postgres.stop(process)
    with postgres.started(folder / "postgres") as cluster:
        assert value(cluster.url, "select number from kept") == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's user can't enter")
def test_root_may_keep_the_data_in_a_folder_that_the_servers_user_can_not_enter(folder: Path) -> None:
    folder.chmod(0o700)
    with postgres.started(folder / "postgres") as cluster:
        assert (folder / "postgres").resolve() == cluster.home != folder / "postgres"
        assert value(cluster.url, "select 1") == 1
    postgres.remove(folder / "postgres")
    assert not cluster.home.exists()
    assert list(folder.iterdir()) == []


@as_root
def test_no_other_user_can_enter_roots_server(folder: Path) -> None:
    with postgres.started(folder / "postgres") as cluster:
        pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid).uids().real
        with pytest.raises(KeyError):
            pwd.getpwuid(server)
        for path in (folder, cluster.home):
            assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (0, server, 0o710), path
        for path in (cluster.data, cluster.sockets):
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (server, 0o700), path
        assert [reached(cluster, user) for user in (NOBODY, STRANGER)] == [False, False]
        assert value(cluster.url, "select current_user") == postgres.USER
        # It refuses even a user who reaches the socket, also the id that it runs as.
        for path in (folder, cluster.home, cluster.sockets):
            path.chmod(0o755)
        (cluster.sockets / postgres.SOCKET).chmod(0o777)
        users = (NOBODY, STRANGER, postgres.SERVER_ID)
        assert [reached(cluster, user) for user in users] == [True] * 3
        assert [admitted(cluster, user) for user in users] == [False] * 3
        assert admitted(cluster, 0)


@as_root
def test_a_cluster_of_an_earlier_version_is_closed(folder: Path) -> None:
    """It belonged to nobody and trusted everybody who could enter its folder. The last server was killed."""
    cluster = killed_with_a_row(folder / "postgres")
    (cluster.data / "pg_hba.conf").write_text("local all all trust\n")
    for name in postgres.ACCESS:
        (cluster.home / name).unlink()
    for path in (cluster.home, *cluster.home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for path in (folder, cluster.home):
        path.chmod(0o755)
    postgres.close(folder)
    with postgres.started(folder / "postgres") as cluster:
        assert cluster.home == folder / "postgres"
        assert value(cluster.url, "select number from kept") == 7
        owners = {path.stat().st_uid for top in (cluster.data, cluster.sockets) for path in (top, *top.rglob("*"))}
        assert owners == {postgres.SERVER_ID}
        assert not reached(cluster, NOBODY)


def test_a_path_too_long_for_a_socket_is_refused(folder: Path) -> None:
    with pytest.raises(StartError, match="bytes too long for PostgreSQL's socket; choose a shorter one"):
        postgres.prepare(folder / ("x" * 100))


def test_the_server_ends_with_its_parent_even_if_that_is_killed(folder: Path) -> None:
    script = """
import sys
from pathlib import Path
from gateway.serve import postgres
process = postgres.prepare(Path(sys.argv[1])).start()
print(process.pid, flush=True)
input()
"""
    command = [sys.executable, "-c", script, str(folder / "postgres")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **pipes) as parent:  # type: ignore[call-overload]
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not is_alive(server))
