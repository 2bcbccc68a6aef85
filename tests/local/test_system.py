"""script/serve as a whole: both small models behind the gateway, with Replicate's clients as they are."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest

from tests.gateway.processes import (
    DEFORUM_VERSION,
    PATIENCE_S,
    RIFFUSION_VERSION,
    ROOT,
    Token,
    answers,
)

T = TypeVar("T")
RIFFUSION = "riffusion/riffusion"
DEFORUM = "deforum/deforum_stable_diffusion"
QUICK = {"num_inference_steps": 2}
LONG = {"num_inference_steps": 2000}


class Running:
    """A script/serve that runs, and the processes below it."""

    def __init__(self, data: Path, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.data = data
        assert process.stdout
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready on"):
                break
        assert self.lines, "it ended at once"
        self.url = self.lines[-1].removeprefix("ready on ")
        self.token = Token(self.url, (data / "token").read_text().strip(), self)

    def until(self, there: Callable[[], T | None]) -> T:
        """Return what `there` returns once that is something; script/serve itself starts again what ends."""
        give_up = time.monotonic() + PATIENCE_S
        while not (found := there()):
            assert time.monotonic() < give_up, f"still {found}; the logs are in {self.data / 'logs'}"
            time.sleep(0.05)
        return found

    def gateway(self) -> psutil.Process:
        """Return the gateway's process."""
        return next(child for child in self._children() if child.cmdline()[-2:] == ["-m", "gateway"])

    def postgres(self) -> psutil.Process:
        """Return PostgreSQL's first process."""
        return next(child for child in self._children() if "bin/postgres" in child.cmdline()[0])

    def cog_server(self, model: str) -> psutil.Process:
        """Return a model's Cog server."""
        servers = [child for child in self._children() if "cog.server.http" in child.cmdline()]
        return next(server for server in servers if Path(server.cwd()).name.startswith(f"serve-{model}"))

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[Running]:
    """Run script/serve; end it with a Ctrl-C, and see that nothing is left."""
    command = [ROOT / "script" / "serve", "--port", "0", "--data", data, *arguments]
    environment = {**os.environ, "WEIGHTS": "small"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    family = []
    try:
        running = Running(data, process)
        with running.token:
            yield running
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def system(data: Path) -> Iterator[Running]:
    with serving(data) as running:
        yield running


def test_it_says_where_it_is_and_keeps_its_token(system: Running) -> None:
    assert re.fullmatch(r"ready on http://127\.0\.0\.1:\d+", system.lines[-1])
    path = system.data / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() in "\n".join(system.lines)


def test_the_clients_hear_riffusion(system: Running) -> None:
    """The two nested files of T18, from the model itself."""
    ref = f"{RIFFUSION}:{RIFFUSION_VERSION}"
    inputs = {"prompt_a": "church bells", **QUICK}
    for client in (system.token.python1, system.token.python2, system.token.javascript):
        output = client("run", ref=ref, input=inputs)["output"]
        assert bytes.fromhex(output["audio"]["file"])[:4] == b"RIFF"
        assert output["audio"]["bytes"] > 100_000
        assert output["spectrogram"]["bytes"] > 10_000


def test_deforum_is_a_video_that_a_browser_plays(system: Running) -> None:
    inputs = {"max_frames": 100, "num_inference_steps": 1}
    created = system.token.create(DEFORUM, input=inputs)
    ended = system.token.ended(created["id"])
    assert ended["status"] == "succeeded", ended
    assert ended["version"] == DEFORUM_VERSION
    head = httpx.get(ended["output"], headers={"Range": "bytes=0-11"}, trust_env=False)
    assert head.status_code == httpx.codes.PARTIAL_CONTENT
    assert head.headers["Content-Type"] == "video/mp4"
    assert head.content[4:8] == b"ftyp"
    assert ended["logs"]


def test_what_the_model_refuses_fails_with_its_own_sentence(system: Running) -> None:
    ended = system.token.ended(system.token.create(DEFORUM, input={"zoom": "0: (nonsense)"})["id"])
    assert ended["status"] == "failed"
    assert ended["error"].startswith("zoom"), ended["error"]


def test_t12_a_running_clip_is_cancelled(system: Running) -> None:
    created = system.token.create(RIFFUSION, input=LONG)
    system.token.until(created["id"], "processing")
    system.token.http.post(f"/predictions/{created['id']}/cancel")
    assert system.token.ended(created["id"])["status"] == "canceled"


def test_t13_the_models_process_is_killed(system: Running) -> None:
    created = system.token.create(RIFFUSION, input=LONG)
    system.token.until(created["id"], "processing")
    system.cog_server("riffusion").children()[0].kill()
    ended = system.token.ended(created["id"])
    assert ended["status"] == "failed"
    assert system.token.ended(system.token.create(RIFFUSION, input=QUICK)["id"])["status"] == "succeeded"


def test_t14_the_cog_server_is_killed(system: Running) -> None:
    created = system.token.create(RIFFUSION, input={"num_inference_steps": 100})
    system.token.until(created["id"], "processing")
    system.cog_server("riffusion").kill()
    assert system.token.ended(created["id"])["status"] == "succeeded"


def test_t15_the_gateway_and_the_database_are_killed(system: Running) -> None:
    created = system.token.create(RIFFUSION, input={"num_inference_steps": 100})
    system.token.until(created["id"], "processing")
    for process in (system.gateway(), system.postgres()):
        process.kill()
        process.wait()
    system.until(lambda: answers(system.url))
    assert system.token.ended(created["id"])["status"] == "succeeded"


def test_a_second_start_on_the_same_data_is_refused(system: Running) -> None:
    command = [ROOT / "script" / "serve", "--port", "0", "--data", system.data]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert (
        ended.stderr == f"script/serve: {system.data} is in use by another script/serve: --data takes another folder\n"
    )
