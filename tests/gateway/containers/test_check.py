"""script/model check, on real Cog servers."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.serve.supervisor import python
from tests.gateway.containers.conftest import cog_url
from tests.gateway.processes import ROOT, System

FAKE_COGLET = Path(__file__).parents[1] / "fake_coglet.py"


def table(containers: System, name: str, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit status of a check of one of the servers, and its rows."""
    return check(cog_url(containers, name), *words)


def check(url: str, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit status of a check, and its rows: marks and results by what they are about."""
    command = python("-m", "gateway.models", "check", "--url", url, *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    lines = [(line[:6].strip(), *line[8:].split("  ", 1)) for line in ended.stdout.splitlines()]
    assert lines, ended.stderr
    return ended.returncode, {what: (mark, result.strip()) for mark, what, result in lines}


@pytest.fixture
def ready(containers: System) -> None:
    token = containers.token()
    for name in ("tokens", "lines", "slots", "nested"):
        token.ended(token.create(f"test/{name}", input=INPUTS.get(name, {}))["id"])


INPUTS = {"tokens": {"prompt": "a"}, "slots": {"seconds": 0}, "nested": {"key": "k"}}
LIVENESS = ("ok", "running while it ran, ended after its end, ended if never started")


@pytest.mark.usefixtures("ready")
def test_slots_are_counted(containers: System) -> None:
    status, rows = table(containers, "slots")
    assert status == 0, rows
    assert rows["slots"] == ("ok", "4: add it with --slots 4")
    assert rows["liveness probe"] == LIVENESS
    assert rows["cancel"][1].startswith("canceled after")
    assert rows["input seconds"] == ("", "number")


@pytest.mark.usefixtures("ready")
def test_streams_are_seen(containers: System) -> None:
    status, rows = table(containers, "tokens", "-i", "interval_s=0.2")
    assert status == 0
    assert rows["input prompt"] == ("", "text, required")
    assert rows["output"] == ("", "text, produced piece by piece")
    assert rows["output while it runs"] == ("", "5 items before the end, by events")
    status, rows = table(containers, "lines")
    assert status == 0
    assert rows["output as described"] == ("ok", "yes, with 3 files")
    assert rows["output while it runs"][1].endswith("by webhooks")
    assert int(rows["logs while it runs"][1].split()[0]) > 0
    assert rows["slots"] == ("ok", "1")


@pytest.mark.usefixtures("ready")
def test_files_and_secrets_go_in_and_files_come_out(containers: System) -> None:
    status, rows = table(containers, "images", "-i", "others=[]")
    assert status == 0
    assert rows["input image"] == ("", "file, required")
    assert rows["output as described"] == ("ok", "yes, with 1 file")
    assert "not seen" in rows["slots"][1] or rows["slots"] == ("ok", "1")  # often it is too short to tell
    status, rows = table(containers, "nested", "-i", "mode=upper")
    assert status == 0
    assert rows["input key"] == ("", "secret, required")
    assert rows["input mode"] == ("", "one of 2 values")


@pytest.mark.usefixtures("ready")
def test_what_fails_is_marked_and_ends_with_1(containers: System) -> None:
    status, rows = table(containers, "nested", "-i", "fail=true")
    assert status == 1
    assert rows["prediction"][0] == "FAILED"
    assert rows["prediction"][1].endswith(": no")
    status, rows = table(containers, "nested", "-i", "mode=x")
    assert (status, rows["prediction"][0]) == (1, "FAILED")
    status, rows = table(containers, "slots", "--callback-host", "127.0.0.2", "--timeout-s", "1", "-i", "seconds=60")
    assert (status, rows["prediction"][0]) == (1, "FAILED")
    assert "set --callback-host" in rows["prediction"][1]


def test_a_server_that_frees_its_slot_late_passes(tmp_path: Path) -> None:
    """coglet sends the terminal webhook first. On a busy machine the next start can arrive in between."""
    command = [sys.executable, str(FAKE_COGLET), "--port", "0", "--journal", str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = server.stdout.readline().split()[-1]
            httpx.post(f"{url}/faults", json={"busy_s": 1}, trust_env=False).raise_for_status()
            status, rows = check(url, "-i", "seconds=1")
        finally:
            server.kill()
    assert status == 0, rows
    assert rows["slots"] == ("ok", "1")
