"""`cog-gateway serve` on a machine with other users: what it stores is closed to them, and how it stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from gateway.serve import postgres
from gateway.serve.processes import StartError
from gateway.serve.system import supervised
from tests.gateway.processes import NO_TLS, ROOT, Token
from tests.waiting import HANG_S, eventually

FAKE = Path(__file__).with_name("fake_coglet.py")
MODEL = "ann/fake"


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a stand-in for a container's Cog server, and give its address."""
    command = [sys.executable, str(FAKE), "--port", "0", "--journal", str(tmp_path_factory.mktemp("fake") / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
        process.kill()


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """Return the data folder, which exists already and is open to everybody."""
    with postgres.temporary_folder() as folder:
        data = folder / "data"
        data.mkdir()
        data.chmod(0o777)
        try:
            yield data
        finally:
            postgres.remove(data / "postgres")


class Patient:
    """Waits."""

    until = staticmethod(eventually)


@dataclass(frozen=True)
class Serving:
    process: subprocess.Popen[str]
    lines: list[str]  # printed up to the one that says it is ready

    @property
    def url(self) -> str:
        return self.lines[-1].removeprefix("ready on ")

    def end(self, number: int, log: Path) -> None:
        """Send a signal, send it again while the worker of this log finishes its prediction, and return at the end."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert len(family) >= 3
        self.process.send_signal(number)
        eventually(lambda: "draining" in log.read_text())
        self.process.send_signal(number)
        assert self.process.wait(HANG_S) == 128 + number
        assert psutil.wait_procs(family, timeout=HANG_S)[1] == []


@contextmanager
def serving(data: Path, container: str) -> Iterator[Serving]:
    """Run the command with a usual umask."""
    command = [sys.executable, "-m", "gateway.command", "serve"]
    command += ["--port", "0", "--data", str(data), "--model", f"{MODEL}={container}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, umask=0o022) as process:
        try:
            assert process.stdout
            lines: list[str] = []
            while not lines or not lines[-1].startswith("ready on "):
                lines.append(process.stdout.readline().rstrip("\n"))
                assert lines[-1], lines
            yield Serving(process, lines)
        finally:
            process.terminate()  # if the test has failed


@pytest.fixture(scope="module")
def ids(data: Path, container: str) -> dict[str, str]:
    """Serve for the first time, stop in the middle of a prediction, and return the predictions by their status."""
    with serving(data, container) as first:
        (link,) = [line.removeprefix("open ") for line in first.lines if line.startswith("open ")]
        text = link.partition("#token=")[2]
        assert f"token {text} (stored in {data / 'token'})" in first.lines
        with Token(first.url, text, Patient()) as token:
            assert httpx.get(link, headers={"Accept": "text/html"}, verify=NO_TLS, trust_env=False).is_success
            eventually(lambda: token.http.get(f"/models/{MODEL}").is_success)
            assert token.http.post("/files", files={"content": b"cat"}).is_success
            ended = token.create(MODEL, input={"files": 1})["id"]
            token.until(ended, "succeeded")
            running = token.create(MODEL, input={"seconds": 600})["id"]
            token.until(running, "processing")
            first.end(signal.SIGTERM, data / "logs" / "worker-ann-fake.log")
            return {ended: "succeeded", running: "processing"}


@pytest.mark.usefixtures("ids")
def test_no_other_user_can_enter_the_data_folder_or_read_a_file_in_it(data: Path) -> None:
    found = data.stat()
    as_root = os.geteuid() == 0  # then PostgreSQL's user passes through; see test_postgres.py
    assert (found.st_mode & 0o777, found.st_gid == postgres.SERVER_ID) == (0o710 if as_root else 0o700, as_root)
    inside = [path for path in data.rglob("*") if not path.is_relative_to(data / "postgres")]
    assert {path.parts[len(data.parts)] for path in inside} >= {"files", "logs", "models", "token", "environment"}
    assert [path for path in inside if path.stat().st_mode & 0o077] == []


def test_the_data_is_whole_after_two_signals(data: Path, ids: dict[str, str]) -> None:
    with postgres.started(data / "postgres") as cluster, psycopg.connect(cluster.url) as connection:
        assert dict(connection.execute("select id, status from predictions").fetchall()) == ids
        stored = connection.execute(
            "select files -> 0 ->> 'key' from predictions where status = 'succeeded' union all select key from files"
        ).fetchall()
    files = [path for path in (data / "files").rglob("*") if path.is_file()]
    assert {data / "files" / key for (key,) in stored} == set(files)
    assert len(files) == 2


def test_a_folder_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StartError, match="is a folder that all users share"), supervised(tmp_path, print):
        pass
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


# As far as other systems can be tested on Linux.


def test_it_needs_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    refused = pytest.raises(StartError, match=r"this needs Linux\. Elsewhere run the gateway's container")
    with refused, supervised(tmp_path / "data", print):
        pass
    assert not (tmp_path / "data").exists()


def test_windows_is_refused_before_anything_is_imported() -> None:
    program = "import importlib.metadata, pathlib, sys, tomllib; sys.platform = 'win32'; import gateway.command"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    sentence = "The gateway doesn't run on Windows. Use its container, see docs/deploy/system.md, or WSL.\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)
