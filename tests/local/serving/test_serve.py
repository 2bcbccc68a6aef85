"""script/serve itself, run as a person runs it: it says when it is ready, why it is not, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lib.weights import SMALL
from local.serve import ROOT, Server, started
from tests.local.serving.client import LIMIT_S, Client, Receiver, eventually
from tests.local.serving.conftest import QUICK_DEFORUM

SERVE = str(ROOT / "script" / "serve")
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
        assert [process for process in family if is_alive(process)] == []
        return status


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """Run script/serve, its temporary files in `folder`/tmp."""
    (folder / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with (folder / "screen").open("wb") as screen:
        process = subprocess.Popen([SERVE, *arguments], stdout=screen, stderr=screen, env=environment)
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
    with terminal(tmp_path, "riffusion", "--upload-url", receiver.url) as running:
        eventually(lambda: READY in running.screen.read_text(), LIMIT_S)
        port = int(running.screen.read_text().split(READY)[1].split("\n")[0])
        (folder,) = (tmp_path / "tmp").iterdir()
        client = Client("riffusion", Server("127.0.0.1", port, folder, running.process), running.screen)

        second = serve("deforum", "--port", str(port))
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == f"script/serve: can't listen on 127.0.0.1:{port}: Address already in use\n"

        # Cog uploads an output that is a file or a list of files; the fields of an object stay in the answer.
        for url in client.predict(denoising=0)["output"].values():
            assert url.startswith("data:")
        assert receiver.deliveries.empty()

        client.start("interrupted", receiver, ["logs"], num_inference_steps=1000)
        receiver.until(lambda delivery: "%|" in delivery.body["logs"])
        assert running.ended_by(signal.SIGTERM) == 128 + signal.SIGTERM
        assert list((tmp_path / "tmp").iterdir()) == []
        assert "Traceback" not in running.screen.read_text()


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    with terminal(tmp_path, "riffusion") as running:
        eventually(lambda: "Loading predictor" in running.screen.read_text(), LIMIT_S)
        assert len(running.family()) == 3  # the script, the server and its worker
        assert running.ended_by(signal.SIGINT) == 128 + signal.SIGINT
        assert list((tmp_path / "tmp").iterdir()) == []
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
    with started("deforum", upload_url=f"{receiver.url}/files", face=QUICK_DEFORUM) as server:
        server.wait_until_ready()
        video = Client("deforum", server, Path(os.devnull)).predict()
    upload = receiver.deliveries.get_nowait()
    assert video["output"] == f"{receiver.url}/files/animation.mp4"
    assert (upload.method, upload.path) == ("PUT", "/files/animation.mp4")
    assert upload.headers["x-prediction-id"] == video["id"]
    assert upload.headers["content-type"] == "video/mp4"
    assert upload.content[4:8] == b"ftyp"
