"""script/serve itself, run as a person runs it: it says when it is ready, why it is not, and leaves nothing behind."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lib.weights import SMALL
from local.inputs import ROOT
from local.scratch import guarded
from local.serve import NotServingError, Server, noteworthy, share, started
from tests.local.processes import LIMIT_S, eventually, is_alive
from tests.local.serving.client import Client, Receiver

SERVE = str(ROOT / "script" / "serve")
PLAIN_PREDICTOR = Path(__file__).with_name("plain_predictor.py")
READY = "riffusion is ready on http://127.0.0.1:"


@dataclass(frozen=True)
class Terminal:
    """A running script/serve, and the file with what it and its server write."""

    process: subprocess.Popen[bytes]
    screen: Path

    def family(self) -> list[psutil.Process]:
        script = psutil.Process(self.process.pid)
        return [script, *script.children(recursive=True)]

    def ended_by(self, number: int) -> int:
        """Send a signal and return the exit status, when all its processes are gone."""
        family = self.family()
        self.process.send_signal(number)
        status = self.process.wait(LIMIT_S)
        eventually(lambda: not any(map(is_alive, family)))
        return status


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """Run script/serve, its temporary files in `folder`/tmp; it ends with this process, however that ends."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with (folder / "screen").open("wb") as screen, guarded(temporary) as guard:
        process = subprocess.Popen(
            [SERVE, *arguments],
            stdout=screen,
            stderr=screen,
            env=environment,
            start_new_session=True,
        )
        guard.watch(process.pid)
        try:
            yield Terminal(process, folder / "screen")
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script/serve that ends by itself."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [SERVE, *arguments], env=variables, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_from_ready_to_sigterm_in_the_middle_of_a_prediction(tmp_path: Path, receiver: Receiver) -> None:
    with terminal(tmp_path, "riffusion") as running:
        eventually(lambda: READY in running.screen.read_text())
        port = int(running.screen.read_text().split(READY)[1].split("\n")[0])
        (folder,) = (tmp_path / "tmp").iterdir()
        client = Client("riffusion", Server("127.0.0.1", port, folder, running.process), running.screen)

        second = serve("deforum", "--port", str(port))
        assert (second.returncode, second.stdout) == (1, "")
        assert (
            second.stderr.splitlines(keepends=True)[-1]
            == f"script/serve: can't listen on 127.0.0.1:{port}: Address already in use\n"
        )

        client.start("interrupted", receiver, ["logs"], num_inference_steps=1000)
        receiver.until(lambda delivery: "%|" in delivery.body["logs"])
        assert running.ended_by(signal.SIGTERM) == 128 + signal.SIGTERM
        assert list((tmp_path / "tmp").iterdir()) == []
        *setup, weights, ready = running.screen.read_text().splitlines()
        assert all(line.startswith("Making the environment") for line in setup)  # and nothing else
        assert weights.startswith("Weights: the small model's")
        assert ready == f"{READY}{port}"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_while_it_starts(tmp_path: Path, number: int, status: int) -> None:
    with terminal(tmp_path, "riffusion", "--log") as running:
        eventually(lambda: "Loading predictor" in running.screen.read_text())
        assert len(running.family()) == 4  # the script, its guard, the server and its worker
        assert running.ended_by(number) == status
        eventually(lambda: not list((tmp_path / "tmp").iterdir()))
        assert "Traceback" not in running.screen.read_text()


def test_a_setup_that_fails_says_why(tmp_path: Path) -> None:
    """Weights that can't be downloaded, and broken ones; both servers at once, since each takes seconds to import."""
    broken = tmp_path / "weights" / "deforum"
    shutil.copytree(SMALL / "riffusion", broken)
    with next((broken / "unet").glob("*.safetensors")).open("r+b") as file:
        file.truncate(1000)
    cases = [
        ("riffusion", {"WEIGHTS": "full", "HF_HUB_OFFLINE": "1"}, "The riffusion weights can't be downloaded ("),
        ("deforum", {"WEIGHTS": "full"}, f"The weights in {broken} can't be loaded ("),
    ]
    folders = {"WEIGHTS_DIR": str(broken.parent), "TMPDIR": str(tmp_path)}
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda case: serve(case[0], **case[1], **folders), cases))
    for (_, _, reason), process in zip(cases, ended, strict=True):
        assert process.returncode == 1
        assert "ready" not in process.stdout
        last = process.stderr.split("script/serve: the setup failed:\n")[-1]
        assert f"UserError: {reason}" in last
        assert "script/weights" in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whisper"], "invalid choice: 'whisper'"),
        (["deforum", "--port", "70000"], "70000 is not a port, which is a number from 1 to 65535"),
        (["deforum", "--port", "http"], "http is not a port, which is a number from 1 to 65535"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], message: str) -> None:
    ended = serve(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_video_is_uploaded(receiver: Receiver) -> None:
    with started("deforum", upload_url=f"{receiver.url}/files", predictor=PLAIN_PREDICTOR) as server:
        server.wait_until_ready()
        video = Client("deforum", server, Path(os.devnull)).predict(fps=24)
    upload = receiver.deliveries.get_nowait()
    assert video["output"] == f"{receiver.url}/files/animation.mp4"
    assert (upload.method, upload.path) == ("PUT", "/files/animation.mp4")
    assert upload.headers["x-prediction-id"] == video["id"]
    assert upload.headers["content-type"] == "video/mp4"
    assert upload.content == bytes([24])


@pytest.mark.parametrize(
    ("level", "target", "fields", "shown"),
    [
        ("INFO", "coglet", {"message": "Server ready", "num_slots": 1}, None),
        ("INFO", "coglet::setup", {"message": "Weights: the small model's", "source": "Stdout"}, "Weights: the small "),
        ("INFO", "coglet::prediction", {"message": "40%|###   |", "source": "Stdout"}, None),
        ("INFO", "coglet::prediction", {"message": "Traceback (most", "source": "Stderr"}, "Traceback (most"),
        ("INFO", "coglet::prediction", {"message": "Failed", "error": "seed is -1"}, "Failed: seed is -1"),
        ("ERROR", "coglet", {"message": "worker crashed"}, "worker crashed"),
    ],
)
def test_people_see_of_the_log_what_matters(
    level: str, target: str, fields: dict[str, object], shown: str | None
) -> None:
    said = noteworthy(
        json.dumps({"timestamp": "2026-01-01T00:00:00Z", "level": level, "fields": fields, "target": target})
    )
    assert (said is None) if shown is None else (said or "").startswith(shown)


def test_lines_that_no_logger_wrote_are_shown_too() -> None:
    assert noteworthy("Fatal Python error: Aborted") == "Fatal Python error: Aborted"
    assert noteworthy("7") == "7"
    assert noteworthy("worker::coglet::bridge::codec::large_frame [info] Large frame being encoded") is None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder to which every user may go: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@contextmanager
def user(number: int) -> Iterator[None]:
    """Be another user for a while, if this one may."""
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_two_users_can_serve(open_folder: Path) -> None:
    cogs = open_folder / "coglet"
    for number in (12345, 54321):
        with user(number):
            share(cogs)
            (cogs / "predictions" / str(number)).mkdir()


def test_a_folder_that_a_server_made_is_opened_to_others(open_folder: Path) -> None:
    (open_folder / "predictions").mkdir(mode=0o755)
    share(open_folder)
    assert stat.filemode((open_folder / "predictions").stat().st_mode) == "drwxrwxrwt"


def test_a_closed_folder_is_named(open_folder: Path) -> None:
    closed = Path("/usr")  # to all but root, who is nobody here
    if os.geteuid() == 0:
        closed = open_folder / "coglet"
        closed.mkdir()
    with user(65534) if os.geteuid() == 0 else nullcontext(), pytest.raises(NotServingError) as error:
        share(closed)
    assert str(error.value) == (
        f"Cog's server writes to {closed}, which is closed to us (it belongs to root). "
        f"Its owner can open it with chmod 1777 {closed}, or delete it when nobody serves."
    )
