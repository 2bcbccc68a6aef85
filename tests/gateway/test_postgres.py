"""PostgreSQL from the wheel as a child process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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


def test_committed_data_survives_a_kill_and_a_restart(folder: Path) -> None:
    cluster = postgres.prepare(folder / "postgres")
    process = cluster.start()
    value(cluster.url, "create table kept as select 7 as number")
    process.kill()
    process.wait()
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
