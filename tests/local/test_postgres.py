"""PostgreSQL from the wheel, as a child."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from local import postgres

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, which every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o711)
    yield folder
    if (folder / "postgres").exists():
        postgres.remove(folder / "postgres")
    shutil.rmtree(folder)


def value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        answer = connection.execute(query.encode())
        row = answer.fetchone() if answer.description else None
        return row and row[0]


def test_what_was_committed_outlives_a_kill_and_a_second_start(folder: Path) -> None:
    cluster = postgres.prepare(folder / "postgres")
    process = cluster.start()
    value(cluster.url, "create table kept as select 7 as number")
    process.kill()
    process.wait()
    process = cluster.start()  # some of the killed one's children may still be there
    try:
        assert value(cluster.url, "select number from kept") == 7
        assert value(cluster.url, "show listen_addresses") == ""
        assert psutil.Process(process.pid).uids().real != 0
    finally:
        postgres.stop(process)
    with postgres.started(folder / "postgres") as cluster:
        assert value(cluster.url, "select number from kept") == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's user can't enter")
def test_root_may_keep_it_where_the_servers_user_can_not_go(folder: Path) -> None:
    folder.chmod(0o700)
    with postgres.started(folder / "postgres") as cluster:
        assert (folder / "postgres").resolve() == cluster.home != folder / "postgres"
        assert value(cluster.url, "select 1") == 1
    postgres.remove(folder / "postgres")
    assert not cluster.home.exists()
    assert list(folder.iterdir()) == []


def test_a_path_too_long_for_a_socket_is_refused(folder: Path) -> None:
    with pytest.raises(postgres.PostgresError, match="bytes too long for PostgreSQL's socket: choose a shorter one"):
        postgres.prepare(folder / ("x" * 100))


def test_it_ends_with_its_parent_even_when_that_is_killed(folder: Path) -> None:
    script = """
import sys
from pathlib import Path
from local import postgres
process = postgres.prepare(Path(sys.argv[1])).start()
print(process.pid, flush=True)
input()
"""
    command = [sys.executable, "-c", script, str(folder / "postgres")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **pipes) as parent:  # type: ignore[call-overload]
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + LIMIT_S
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up
        time.sleep(0.05)
