"""What the gateway's processes have in common: settings, health checks, log lines and tasks."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway import probe
from gateway.logs import Lines
from gateway.serve.processes import free_port
from gateway.settings import Settings, SettingsError, settings, unknown
from gateway.tasks import end, first
from tests.gateway.processes import ROOT, System

pytestmark = pytest.mark.anyio

DOCUMENT = ROOT / "docs" / "settings.md"
HEAD = "| variable | default | meaning |\n| --- | --- | --- |\n"


def default_of(value: object) -> str:
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT) if value.is_absolute() else value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(str(item) for item in value)}`" if value else ""
    return f"`{value}`" if value not in (None, "") else ""


def table() -> str:
    rows = [
        f"| `GATEWAY_{name.upper()}` | {default_of(about.default)} | {about.description} |\n"
        for name, about in Settings.model_fields.items()
    ]
    return HEAD + "".join(rows)


def test_the_table_of_settings_is_up_to_date() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), f"docs/settings.md needs this table:\n{table()}"


def test_an_invalid_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GATEWAY_PORT", "tcp://10.0.0.1:5000"), ("GATEWAY_WAIT_S", "60"), ("GATEWAY_QUEUED", "-1")):
        with monkeypatch.context() as patch, pytest.raises(SettingsError, match=f"^{name} is '{value}': "):
            patch.setenv(name, value)
            settings.__wrapped__()
    assert unknown({"GATEWAY_PORT": "1", "GATEWAY_PROT": "1", "PATH": "/"}) == ["GATEWAY_PROT"]


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the health check as a container does, and return its exit status and message."""
    command = [sys.executable, "-m", "gateway.probe", *arguments]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_gateway_is_healthy_if_it_answers(system: System) -> None:
    assert run(GATEWAY_PORT=str(system.port)) == run("live", GATEWAY_PORT=str(system.port)) == (0, "")
    problem = probe.gateway({"GATEWAY_PORT": str(free_port())})
    assert problem is not None
    assert problem.startswith("the gateway doesn't answer: ")


@pytest.mark.parametrize(
    ("age_s", "problem"),
    [
        (0, None),
        (95, "the worker has not touched its alive file for 9"),
        (None, "the worker has no alive file: "),
    ],
)
def test_a_worker_is_healthy_if_it_has_touched_its_file(tmp_path: Path, age_s: float | None, problem: str) -> None:
    alive = tmp_path / "alive"
    if age_s is not None:
        alive.touch()
        os.utime(alive, (time.time() - age_s,) * 2)
    found = probe.worker({"GATEWAY_ALIVE_FILE": str(alive)})
    assert found is None if problem is None else found is not None and found.startswith(problem)


def test_a_probe_that_fails_exits_with_1_and_a_message() -> None:
    assert run("worker") == (1, "GATEWAY_ALIVE_FILE is not set\n")


def line(style: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "gateway", "levelname": "INFO", "created": 0.0, "msg": "webhook delivered"})
    vars(record).update(extra)
    return Lines("json" if style == "json" else "text").format(record)


def test_a_line_has_the_message_and_the_fields_none_of_which_replaces_it() -> None:
    assert json.loads(line("json", prediction="x", event="completed", level=3)) == {
        "at": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "gateway",
        "event": "webhook delivered",
        "prediction": "x",
        "event_": "completed",
        "level_": 3,
    }
    assert line("text", prediction="x") == "1970-01-01T00:00:00.000Z info    webhook delivered prediction=x"


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        fields = json.loads(line("json", exc_info=sys.exc_info(), traceback="mine"))
    assert fields["traceback"].endswith("ValueError: no")
    assert fields["traceback_"] == "mine"


TIMEOUT_S = 120.0


async def ignore_cancellations(count: int, ended: asyncio.Event) -> str:
    """Wait forever and lose `count` cancellations, as code that waits in Python 3.11's `wait_for` may."""
    try:
        for _ in range(count):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()
    finally:
        ended.set()
    return "never"


async def succeed() -> str:
    return "first"


async def fail() -> str:
    raise ValueError("failed")


@pytest.mark.parametrize("cancellations", [0, 1, 2])
async def test_first_returns_the_first_result_and_ends_the_other_tasks(cancellations: int) -> None:
    ended = asyncio.Event()
    result = await asyncio.wait_for(first(succeed(), ignore_cancellations(cancellations, ended)), TIMEOUT_S)
    assert result == "first"
    assert ended.is_set()


async def test_first_raises_what_the_first_task_raises() -> None:
    with pytest.raises(ValueError, match="failed"):
        await first(fail(), asyncio.sleep(TIMEOUT_S))


async def test_end_waits_for_all_tasks_whatever_their_results() -> None:
    ended = asyncio.Event()
    tasks = [asyncio.create_task(call) for call in (ignore_cancellations(1, ended), fail(), succeed())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end(*tasks), TIMEOUT_S)
    assert ended.is_set()
    assert all(task.done() for task in tasks)
