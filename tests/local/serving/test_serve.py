"""script/serve for one model, run from a shell: it reports that it is ready, or why not, and leaves nothing behind."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gateway.serve.processes import StartError
from lib.weights import SMALL
from local import ROOT
from local.processes import guarded
from local.serve import COGLET_FOLDER, Server, noteworthy, remove_leftovers, share, started, wait_until_ready
from tests.gateway.receiver import Receiver
from tests.local.serving.client import Client, webhooks
from tests.waiting import HANG_S, eventually, is_alive

SERVE = str(ROOT / "script" / "serve")
PLAIN_PREDICTOR = Path(__file__).with_name("plain_predictor.py")
READY = "riffusion is ready on http://127.0.0.1:"


@dataclass(frozen=True)
class Terminal:
    """A running script/serve, and the file with its output."""

    process: subprocess.Popen[bytes]
    screen: Path

    def family(self) -> list[psutil.Process]:
        script = psutil.Process(self.process.pid)
        return [script, *script.children(recursive=True)]

    def ended_by(self, number: int) -> int:
        """Send a signal, and return the exit status once all processes are gone."""
        family = self.family()
        self.process.send_signal(number)
        status = self.process.wait(HANG_S)
        eventually(lambda: not any(map(is_alive, family)))
        return status


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """Run script/serve with its temporary files in `folder`/tmp; it dies with this process, however that ends."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with (folder / "screen").open("wb") as screen:
        process = subprocess.Popen(
            [SERVE, *arguments], stdout=screen, stderr=screen, env=environment, start_new_session=True
        )
        with guarded(process.pid, temporary):
            try:
                yield Terminal(process, folder / "screen")
            finally:
                process.terminate()
                process.wait(HANG_S)


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script/serve that exits by itself."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [SERVE, *arguments], env=variables, capture_output=True, text=True, timeout=HANG_S, check=False
    )


def test_from_ready_to_sigterm_in_the_middle_of_a_prediction(tmp_path: Path, receiver: Receiver) -> None:
    with terminal(tmp_path, "riffusion") as running:
        eventually(lambda: READY in running.screen.read_text())
        port = int(running.screen.read_text().split(READY)[1].split("\n")[0])
        (folder,) = (tmp_path / "tmp").iterdir()
        client = Client("riffusion", Server(f"http://127.0.0.1:{port}", folder, running.process), running.screen)

        second = serve("deforum", "--port", str(port))
        assert (second.returncode, second.stdout) == (1, "")
        assert (
            second.stderr.splitlines(keepends=True)[-1]
            == f"script/serve: can't listen on 127.0.0.1:{port}: Address already in use. Choose another --port.\n"
        )

        client.start("interrupted", receiver, ["logs"], num_inference_steps=1000)
        webhooks(receiver, lambda body: "%|" in body["logs"])
        assert running.ended_by(signal.SIGTERM) == 128 + signal.SIGTERM
        assert list((tmp_path / "tmp").iterdir()) == []
        *_, weights, ready = running.screen.read_text().splitlines()
        assert "script/weights riffusion" in weights
        assert ready == f"{READY}{port}"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_during_the_start_ends_everything(tmp_path: Path, number: int, status: int) -> None:
    with terminal(tmp_path, "riffusion", "--log") as running:
        eventually(lambda: "Loading predictor" in running.screen.read_text())
        assert len(running.family()) == 4  # the script, its guard, the server and the server's worker
        assert running.ended_by(number) == status
        eventually(lambda: not list((tmp_path / "tmp").iterdir()))
        assert "Traceback" not in running.screen.read_text()


def test_a_failing_setup_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "weights" / "deforum"
    shutil.copytree(SMALL / "riffusion", broken)
    with next((broken / "unet").glob("*.safetensors")).open("r+b") as file:
        file.truncate(1000)
    ended = serve("deforum", WEIGHTS="full", WEIGHTS_DIR=str(broken.parent), TMPDIR=str(tmp_path))
    assert ended.returncode == 1
    assert "ready" not in ended.stdout
    last = ended.stderr.split("script/serve: the model's setup failed:\n")[-1]
    assert f"UserError: Can't load the weights in {broken} (" in last
    assert "script/weights" in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whisper"], "invalid choice: 'whisper'"),
        (["deforum", "--port", "70000"], "70000 is not a port; use a number from 0 to 65535"),
        (["deforum", "--port", "http"], "http is not a port; use a number from 0 to 65535"),
    ],
)
def test_an_invalid_command_line_is_refused(arguments: list[str], message: str) -> None:
    ended = serve(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_video_is_uploaded(receiver: Receiver) -> None:
    with started("deforum", upload_url=f"{receiver.url}/files", predictor=PLAIN_PREDICTOR) as server:
        wait_until_ready(server.url, server.process)
        video = Client("deforum", server, Path(os.devnull)).predict(fps=24)
    (upload,) = receiver.deliveries
    assert video["output"] == f"{receiver.url}/files/animation.mp4"
    assert (upload.method, upload.path) == ("PUT", "/files/animation.mp4")
    assert upload.headers["x-prediction-id"] == video["id"]
    assert upload.headers["content-type"] == "video/mp4"
    assert upload.body.encode() == bytes([24])


@pytest.mark.parametrize(
    ("level", "target", "fields", "shown"),
    [
        ("INFO", "coglet", {"message": "Server ready", "num_slots": 1}, None),
        ("INFO", "coglet::setup", {"message": "Using the small model.", "source": "Stdout"}, "Using the small model."),
        ("INFO", "coglet::prediction", {"message": "40%|###   |", "source": "Stdout"}, None),
        ("INFO", "coglet::prediction", {"message": "Traceback (most", "source": "Stderr"}, "Traceback (most"),
        ("INFO", "coglet::prediction", {"message": "Failed", "error": "seed is -1"}, "Failed: seed is -1"),
        ("ERROR", "coglet", {"message": "worker crashed"}, "worker crashed"),
    ],
)
def test_only_the_noteworthy_part_of_the_log_is_shown(
    level: str, target: str, fields: dict[str, object], shown: str | None
) -> None:
    entry = {"timestamp": "2026-01-01T00:00:00Z", "level": level, "fields": fields, "target": target}
    assert noteworthy(json.dumps(entry)) == shown


def test_lines_that_are_not_from_a_logger_are_shown() -> None:
    assert noteworthy("Fatal Python error: Aborted") == "Fatal Python error: Aborted"
    assert noteworthy("7") == "7"
    assert noteworthy("worker::coglet::bridge::codec::large_frame [info] Large frame being encoded") is None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Create a folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@contextmanager
def user(number: int) -> Iterator[None]:
    """Become another user within a block."""
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


def test_old_folders_of_ours_are_deleted(open_folder: Path) -> None:
    two_days_ago = time.time() - 2 * 86400
    for name in ("old", "new", "foreign"):
        (open_folder / name / "outputs").mkdir(parents=True)
        if name != "new":
            os.utime(open_folder / name, (two_days_ago, two_days_ago))
    if os.geteuid() == 0:
        os.chown(open_folder / "foreign", 12345, 12345)
    else:  # only root can make another user's
        shutil.rmtree(open_folder / "foreign")
    remove_leftovers(open_folder)
    assert {path.name for path in open_folder.iterdir()} - {"foreign"} == {"new"}
    assert (open_folder / "foreign").exists() is (os.geteuid() == 0)


def test_what_cogs_server_leaves_is_closed_and_deleted_later() -> None:
    with started("deforum", predictor=PLAIN_PREDICTOR) as server:
        wait_until_ready(server.url, server.process)
        prediction = Client("deforum", server, Path(os.devnull)).predict(fps=24)
    folder = COGLET_FOLDER / "predictions" / prediction["id"]
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700] * 3
    two_days_ago = time.time() - 2 * 86400
    os.utime(folder, (two_days_ago, two_days_ago))
    with started("deforum", predictor=PLAIN_PREDICTOR):
        assert not folder.exists()


def test_a_folder_that_is_not_writable_is_named(open_folder: Path) -> None:
    closed = Path("/usr")  # to everyone but root, who becomes nobody here
    if os.geteuid() == 0:
        closed = open_folder / "coglet"
        closed.mkdir()
    with user(65534) if os.geteuid() == 0 else nullcontext(), pytest.raises(StartError) as error:
        share(closed)
    assert str(error.value) == (
        f"Cog's server can't write to {closed} (it belongs to root). "
        f"Its owner can open it with `chmod 1777 {closed}`, or delete it while no server runs."
    )
