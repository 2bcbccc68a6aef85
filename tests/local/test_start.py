"""How script/serve without a model starts, and what it says when it can't; no model is loaded here."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import postgres, system

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o711)
    try:
        with postgres.started(folder / "postgres", fsync="off") as cluster:
            yield cluster
    finally:
        if (folder / "postgres").exists():
            postgres.remove(folder / "postgres")
        shutil.rmtree(folder)


def test_it_uses_a_database_of_ones_own(cluster: postgres.Cluster, tmp_path: Path) -> None:
    options = system.Options(models=(), port=0, data=tmp_path, database_url=cluster.url)
    with system.running(options) as running:
        headers = {"Authorization": f"Bearer {running.token}"}
        answer = httpx.get(f"{running.url}/v1/models", headers=headers, trust_env=False)
        assert answer.status_code == httpx.codes.OK
    assert not (tmp_path / "postgres").exists()


def test_a_token_that_the_database_does_not_know_is_replaced(cluster: postgres.Cluster, tmp_path: Path) -> None:
    anothers = "r8_of_another_database"
    (tmp_path / "token").write_text(f"{anothers}\n")
    options = system.Options(models=(), port=0, data=tmp_path, database_url=cluster.url)
    with system.running(options) as running:
        assert running.token != anothers
        assert (tmp_path / "token").read_text() == f"{running.token}\n"
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = system.Options(models=(), port=port, data=tmp_path)
        refused = pytest.raises(system.NotRunningError, match=f"can't listen on 127.0.0.1:{port}")
        with refused, system.running(options):
            pass


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    url = f"postgresql://nobody@/none?host={tmp_path}"
    options = system.Options(models=(), port=0, data=tmp_path, database_url=url)
    refused = pytest.raises(system.NotRunningError, match=r"can't migrate: .* No such file")
    with refused, system.running(options):
        pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "riffusion,jazz"], "'jazz' is no model; there are riffusion, deforum"),
        (["--models", ""], "'' is no model; there are riffusion, deforum"),
        (["--port", "70000"], "70000 is not a port, which is a number from 1 to 65535"),
        (["--port", "x"], "x is not a port, which is a number from 1 to 65535"),
    ],
)
def test_what_the_command_line_can_not_say(arguments: list[str], sentence: str) -> None:
    ended = subprocess.run([ROOT / "script" / "serve", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert sentence in ended.stderr
