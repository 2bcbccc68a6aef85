"""The whole system on one machine: both small models behind the gateway, called by Replicate's own clients."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import av
import httpx
import psutil
import pytest

from gateway.serve import postgres
from gateway.serve.processes import StartError
from gateway.work.coglet import FOLDER
from local import system
from tests.gateway.processes import CLIENTS, RIFFUSION_VERSION, ROOT, Token
from tests.waiting import HANG_S, eventually

T = TypeVar("T")
RIFFUSION = "riffusion/riffusion"
DEFORUM = "deforum/deforum_stable_diffusion"
QUICK_DEFORUM = Path(__file__).with_name("serving") / "quick_deforum.py"
QUICK = {"num_inference_steps": 2}
LONG = {"num_inference_steps": 1000}


class Patient:
    """Waits."""

    until = staticmethod(eventually)


class Running:
    def __init__(self, data: Path, running: system.System) -> None:
        self.data = data
        self.url = running.url
        self.supervisor = running.supervisor
        self.token = Token(running.url, running.token, self)

    def until(self, there: Callable[[], T | None]) -> T:
        """Call `there` until its result is true, and return it; meanwhile restart what has exited."""

        def tended() -> T | None:
            self.supervisor.tend()
            return there()

        return eventually(tended, poll_s=0.05)

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.supervisor.process(name).pid)

    def started(self, **inputs: object) -> str:
        created = self.token.create(RIFFUSION, input=inputs)["id"]
        self.token.until(created, "processing")
        return str(created)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("data")
    yield data
    postgres.remove(data / "postgres")  # which may be a link, see gateway/serve/postgres.py


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def whole(data: Path, stack: ExitStack) -> Running:
    # For the example that receives webhooks on this machine.
    settings = {"GATEWAY_WEBHOOK_HTTP": "true", "GATEWAY_WEBHOOK_PRIVATE": "true"}
    options = system.Options(port=0, data=data, predictors={"deforum": QUICK_DEFORUM}, settings=settings)
    running = Running(data, stack.enter_context(system.running(options)))
    stack.enter_context(running.token)
    return running


def test_a_song_becomes_a_film_by_webhooks(whole: Running, tmp_path: Path) -> None:
    walk = {"bars": 2, "denoising": 0}
    film = {"width": 256, "height": 256, "max_frames": 4, "num_inference_steps": 2}
    command = [CLIENTS / "python1" / "bin" / "python", ROOT / "examples" / "song-to-film" / "main.py"]
    environment = {
        "PATH": os.environ["PATH"],
        "REPLICATE_API_TOKEN": whole.token.text,
        "REPLICATE_BASE_URL": whole.url,
        "PYTHONUNBUFFERED": "1",
    }
    arguments = [*map(str, command), json.dumps(walk), json.dumps(film)]
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as example:
        try:
            whole.until(lambda: example.poll() is not None)
        finally:
            example.kill()
        assert example.stdout
        assert example.returncode == 0, example.stdout.read()
    with av.open(tmp_path / "film.mp4") as made:
        assert (made.streams.video[0].frames, made.streams.audio[0].codec_context.name) == (4, "aac")


def test_all_clients_get_clips_of_riffusion(whole: Running) -> None:
    """T18's nested output of two files, from the model itself."""
    ref = f"{RIFFUSION}:{RIFFUSION_VERSION}"
    inputs = {"prompt_a": "church bells", **QUICK}
    for client in (whole.token.python1, whole.token.python2, whole.token.javascript):
        output = client("run", ref=ref, input=inputs)["output"]
        assert bytes.fromhex(output["audio"]["file"])[:4] == b"RIFF"
        assert output["audio"]["bytes"] > 100_000
        assert output["spectrogram"]["bytes"] > 10_000


def test_deforum_makes_a_video_that_a_browser_can_seek_in(whole: Running) -> None:
    ended = whole.token.ended(whole.token.create(DEFORUM, input={"max_frames": 100})["id"])
    assert ended["status"] == "succeeded", ended
    head = httpx.get(ended["output"], headers={"Range": "bytes=0-11"}, trust_env=False)
    assert head.status_code == httpx.codes.PARTIAL_CONTENT
    assert head.headers["Content-Type"] == "video/mp4"
    assert head.content[4:8] == b"ftyp"
    assert ended["logs"]


def test_t13_a_killed_model_process_fails_its_clip(whole: Running) -> None:
    clip = whole.started(**LONG)
    whole.process("riffusion").children()[0].kill()
    ended = whole.token.ended(clip)
    assert (ended["status"], ended["output"]) == ("failed", None)
    assert ended["error"]
    assert whole.token.ended(whole.token.create(RIFFUSION, input=QUICK)["id"])["status"] == "succeeded"


def test_t14_a_clip_survives_a_killed_cog_server(whole: Running) -> None:
    clip = whole.started(num_inference_steps=20)
    whole.process("riffusion").kill()
    assert whole.token.ended(clip)["status"] == "succeeded"


def test_each_cog_server_has_a_token_for_its_webhooks(whole: Running) -> None:
    sent, wanted = [], []
    for model in system.NAMES:
        sent.append(whole.process(model).environ()["WEBHOOK_AUTH_TOKEN"])
        wanted.append(whole.process(f"{model}-worker").environ()["GATEWAY_CALLBACK_TOKEN"])
    assert sent == wanted
    assert len(set(sent)) == len(system.NAMES)


def test_no_folder_of_a_prediction_is_left(whole: Running) -> None:
    """Not even of the earlier ones, whose server or database was killed."""
    whole.token.ended(whole.token.create(RIFFUSION, input=QUICK)["id"])
    ids = {prediction["id"] for prediction in whole.token.http.get("/predictions").json()["results"]}

    def left() -> list[str]:
        return [path.name for path in FOLDER.iterdir() if path.name.partition("-")[0] in ids]

    whole.until(lambda: not left())


def test_a_second_system_on_the_same_data_folder_is_refused(whole: Running, data: Path) -> None:
    refused = pytest.raises(StartError, match="is in use by another system")
    with refused, system.running(system.Options(port=0, data=data)):
        pass


def test_script_serve_continues_with_the_data_of_an_earlier_run(whole: Running, data: Path, stack: ExitStack) -> None:
    """This test comes last, since it stops the system that the others use."""
    listed = [prediction["id"] for prediction in whole.token.http.get("/predictions").json()["results"]]
    stack.close()
    command: list[str | Path] = [ROOT / "script" / "serve", "--port", "0", "--data", data, "--models", "riffusion"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout
            lines: list[str] = []
            while not lines or not lines[-1].startswith("ready on"):
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            url = re.fullmatch(r"ready on (http://127\.0\.0\.1:\d+)\n", lines[-1])
            assert url
            hint = f"the token is in {data}/token. To create another: script/token create NAME --data {data}\n"
            assert [lines[-3], lines[-2]] == [hint, f"open {url[1]}\n"]
            assert whole.token.text not in "".join(lines)
            assert (data / "token").read_text() == f"{whole.token.text}\n"
            assert (data / "token").stat().st_mode & 0o777 == 0o600
            with Token(url[1], whole.token.text, Patient()) as token:
                assert [one["id"] for one in token.http.get("/predictions").json()["results"]] == listed
                token.until(token.create(RIFFUSION, input=LONG)["id"], "processing")
            family = psutil.Process(process.pid).children(recursive=True)
            folders = [Path(one.cwd()) for one in family if "cog.server.http" in one.cmdline()]
            process.send_signal(signal.SIGINT)
            eventually(lambda: "draining" in (data / "logs" / "riffusion-worker.log").read_text())
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 128 + signal.SIGINT
    assert psutil.wait_procs(family, timeout=HANG_S)[1] == []
    assert len(folders) == 1
    assert not folders[0].exists()
