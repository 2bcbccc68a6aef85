"""`cog-gateway serve` on a machine with other users: what it stores is closed to them, and how it stops."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
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

    def end(self, number: int) -> None:
        """Send a signal twice, and return when all processes are gone."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert len(family) >= 3
        self.process.send_signal(number)
        eventually(lambda: not all(child.is_running() for child in family))  # it stops one after the other
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
            process.kill()  # if the test has failed; its children end with it


@pytest.fixture(scope="module")
def running_id(data: Path, container: str) -> str:
    """Serve for the first time, stop in the middle of a prediction, and return that."""
    with serving(data, container) as first:
        (link,) = [line.removeprefix("open ") for line in first.lines if line.startswith("open ")]
        text = link.partition("#token=")[2]
        assert f"token {text} (stored in {data / 'token'})" in first.lines
        with Token(first.url, text, Patient()) as token:
            assert httpx.get(link, headers={"Accept": "text/html"}, verify=NO_TLS, trust_env=False).is_success
            eventually(lambda: token.http.get(f"/models/{MODEL}").is_success)
            assert token.http.post("/files", files={"content": b"cat"}).is_success
            assert token.ended(token.create(MODEL, input={"files": 2})["id"])["status"] == "succeeded"
            running = str(token.create(MODEL, input={"seconds": 3, "files": 1})["id"])
            token.until(running, "processing")
            first.end(signal.SIGTERM)
            return running


def test_no_other_user_can_enter_the_data_folder_or_read_a_file_in_it(data: Path, running_id: str) -> None:
    found = data.stat()
    as_root = os.geteuid() == 0  # then PostgreSQL's user passes through; see test_postgres.py
    assert (found.st_mode & 0o777, found.st_gid == postgres.SERVER_ID) == (0o710 if as_root else 0o700, as_root)
    inside = [path for path in data.rglob("*") if not path.is_relative_to(data / "postgres")]
    assert {path.parts[len(data.parts)] for path in inside} >= {"files", "logs", "models", "token", "environment"}
    assert len([path for path in (data / "files").rglob("*") if path.is_file()]) >= 3
    assert [path for path in inside if path.stat().st_mode & 0o077] == []


def test_a_later_start_prints_no_token_and_continues_after_two_signals(
    data: Path, container: str, running_id: str
) -> None:
    text = (data / "token").read_text().strip()
    with serving(data, container) as second:
        assert text not in "\n".join(second.lines)
        assert f"open {second.url}" in second.lines
        (hint,) = [line for line in second.lines if "To create another" in line]
        words = re.fullmatch(
            rf"the token is in {data}/token\. To create another: cog-gateway (token create) NAME (.*)", hint
        )
        assert words
        command = [sys.executable, "-m", "gateway.command", *words[1].split(), "ann", *words[2].split()]
        made = subprocess.check_output(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        with Token(second.url, text, Patient()) as token, Token(second.url, made.strip(), Patient()) as other:
            ended = token.ended(running_id)
            assert (ended["status"], token.http.get(ended["output"]).is_success) == ("succeeded", True)
            assert other.http.get("/account").is_success
            second.end(signal.SIGINT)


def test_a_folder_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StartError, match="is a folder that all users share"), supervised(tmp_path, print):
        pass
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777
