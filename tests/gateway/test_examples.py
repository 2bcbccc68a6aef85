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


def run(name: str, folder: Path, command: list[str], environment: dict[str, str], inputs: str = INPUT) -> str:
    here = folder / name
    if not here.exists():
        shutil.copytree(ROOT / "examples" / name, here)
    command = [*command, "test/fake", inputs]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir() if path.stem in ("audio", "spectrogram")]


def test_curl(tmp_path: Path, environment: dict[str, str]) -> None:
    output = run("curl", tmp_path, ["./run.sh"], environment)
    assert output.startswith("0\nPrediction "), output
    assert len([line for line in output.splitlines() if line.startswith("Wrote ")]) == 2
    assert [path.stat().st_size for path in (tmp_path / "curl").iterdir()].count(1000) == 2
    failed = run("curl", tmp_path, ["./run.sh"], environment, '{"fail": "no such prompt"}')
    assert failed.startswith("1\n")
    assert "failed: " in failed


def test_python(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [str(CLIENTS / "python1" / "bin" / "python"), "main.py"]
    output = run("python", tmp_path, command, environment)
    assert output.startswith("0\n"), output
    assert sizes(tmp_path / "python") == [1000, 1000]
    assert "- input.files" in run("python", tmp_path, command, environment, '{"files": 3}')


def test_javascript(tmp_path: Path, environment: dict[str, str]) -> None:
    shutil.copytree(ROOT / "examples" / "javascript", tmp_path / "javascript")
    (tmp_path / "javascript" / "node_modules").symlink_to(CLIENTS / "javascript" / "node_modules")
    output = run("javascript", tmp_path, [str(node()), "main.mjs"], environment)
    assert output.startswith("0\n"), output
    assert sizes(tmp_path / "javascript") == [1000, 1000]


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
