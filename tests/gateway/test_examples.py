"""The examples work as their READMEs say. Each is copied to an empty folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.gateway.processes import CLIENTS, NO_TLS, ROOT, TIMEOUT_S, Token, node

INPUT = json.dumps({"files": 2, "bytes": 1000})


@pytest.fixture
def environment(token: Token) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "REPLICATE_API_TOKEN": token.text, "REPLICATE_BASE_URL": token.url}


def run(here: Path, command: list[str], environment: dict[str, str], inputs: str = INPUT) -> str:
    command = [*command, "test/fake", inputs]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["curl", "python", "javascript"])
def test_files_are_written_and_errors_reported(tmp_path: Path, environment: dict[str, str], name: str) -> None:
    command = {
        "curl": ["./run.sh"],
        "python": [str(CLIENTS / "python1" / "bin" / "python"), "main.py"],
        "javascript": [str(node()), "main.mjs"],
    }[name]
    here = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, here)
    if name == "javascript":
        (here / "node_modules").symlink_to(CLIENTS / "javascript" / "node_modules")
    output = run(here, command, environment)
    assert output.startswith("0\n"), output
    assert [path.stat().st_size for path in here.iterdir()].count(1000) == 2
    failed = run(here, command, environment, '{"fail": "no such prompt"}')
    assert not failed.startswith("0\n")
    assert "no such prompt" in failed


def test_webhook(environment: dict[str, str], token: Token) -> None:
    command = [sys.executable, str(ROOT / "examples" / "webhook" / "receiver.py"), "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout
            url = receiver.stdout.readline().removeprefix("ready on ").strip()
            httpx.post(url, content=b"{}", trust_env=False, verify=NO_TLS)
            assert receiver.stdout.readline() == "Refused: Missing required headers\n"
            made = token.create(input={"text": "hello"}, webhook=url, webhook_events_filter=["completed"])
            assert receiver.stdout.readline() == f"{made['id']} is succeeded: hello\n"
        finally:
            receiver.terminate()
