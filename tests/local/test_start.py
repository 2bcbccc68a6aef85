"""How script/serve starts the whole system, and its messages when it can't; no model is loaded here."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.serve import postgres
from gateway.serve.processes import StartError
from local import ROOT, system


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.temporary_folder() as folder, postgres.started(folder / "postgres", fsync="off") as cluster:
        yield cluster


def test_it_uses_an_existing_database(cluster: postgres.Cluster, tmp_path: Path) -> None:
    options = system.Options(models=(), port=0, data=tmp_path, database_url=cluster.url)
    with system.running(options) as running:
        headers = {"Authorization": f"Bearer {running.token}"}
        answer = httpx.get(f"{running.url}/v1/models", headers=headers, trust_env=False)
        assert answer.status_code == httpx.codes.OK
    assert not (tmp_path / "postgres").exists()


def test_a_token_unknown_to_the_database_is_replaced(cluster: postgres.Cluster, tmp_path: Path) -> None:
    foreign = "r8_of_another_database"
    (tmp_path / "token").write_text(f"{foreign}\n")
    options = system.Options(models=(), port=0, data=tmp_path, database_url=cluster.url)
    with system.running(options) as running:
        assert running.token != foreign
        assert (tmp_path / "token").read_text() == f"{running.token}\n"
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = system.Options(models=(), port=port, data=tmp_path)
        refused = pytest.raises(StartError, match=f"can't listen on 127.0.0.1:{port}")
        with refused, system.running(options):
            pass


def test_a_missing_database_is_reported(tmp_path: Path) -> None:
    url = f"postgresql://nobody@/none?host={tmp_path}"
    options = system.Options(models=(), port=0, data=tmp_path, database_url=url)
    refused = pytest.raises(StartError, match=r"can't migrate: .* No such file")
    with refused, system.running(options):
        pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "riffusion,jazz"], "unknown model 'jazz'; available are riffusion, walk, deforum, music-video"),
        (["--port", "70000"], "70000 is not a port; use a number from 0 to 65535, 0 for a free port"),
    ],
)
def test_an_invalid_command_line_is_refused(arguments: list[str], sentence: str) -> None:
    ended = subprocess.run([ROOT / "script" / "serve", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert sentence in ended.stderr
