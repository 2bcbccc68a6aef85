"""The small profile of deploy/compose.yaml, as a whole, under a Docker engine: tests/deploy/run_compose."""

import base64
import io
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import av
import httpx
import numpy as np
import pytest

from gateway.serve.processes import free_port
from local.system import NAMES
from tests.gateway.containers.test_files import CONTENT, INVERTED
from tests.gateway.file_server import PNG
from tests.gateway.file_server import Handler as FileHandler
from tests.gateway.file_server import Server as FileServer
from tests.gateway.processes import ENDED, NO_TLS, ROOT, Token
from tests.gateway.receiver import receiving, serving

pytestmark = pytest.mark.slow

TIMEOUT_S = 3600  # only for what hangs: a film takes minutes, on a busy machine many
SUBNET = "10.213.78.0/24"
HOST = "10.213.78.1"  # this machine, as containers with a way out see it
MODELS = tuple(NAMES)
CLIP = {"prompt_a": "church bells", "num_inference_steps": 40, "denoising": 0.9}
LONG_CLIP = {"prompt_a": "jazz trio", "num_inference_steps": 300, "denoising": 0.9}
FILM = {"animation_prompts": "0: a lighthouse at dusk", "max_frames": 100}  # the shortest that the schema allows
OWN_MODEL = ROOT / "tests" / "gateway" / "containers"
DOCKER = shutil.which("docker") or "docker"
T = TypeVar("T")

# As docs/deploy/system.md describes a model of one's own.
OVERRIDE = """
services:
  images:
    extends: {file: compose.yaml, service: riffusion-small}
    image: images:compose-test
    profiles: !reset []
    networks: !override {images: {aliases: [cog]}}
  images-worker:
    extends: {file: compose.yaml, service: riffusion-worker}
    command: [python, -m, gateway.work, --queue, test/images, --cog-url, "http://cog:5000"]
    networks: !override {database: {}, outside: {}, images: {aliases: [worker]}}
    depends_on: !override {postgres: {condition: service_started}, images: {condition: service_started}}
networks:
  images: {internal: true, driver_opts: {com.docker.network.bridge.inhibit_ipv4: "true"}}
"""
IMAGES = """
FROM riffusion:compose-test
ENV COG_PREDICT_TYPE_STUB=images.py:Predictor
COPY images.py /src/
COPY schemas/images.openapi.json /src/.cog/openapi_schema.json
"""
# Runs in a worker, and prints what its Cog server says.
HEALTH = "import urllib.request as r; print(r.urlopen('http://cog:5000/health-check').read().decode())"
# Says which of the addresses in its arguments accept a connection.
CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(address)
    except OSError:
        pass
"""


def docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run([DOCKER, *arguments], input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def answers(*arguments: str) -> bool:
    return subprocess.run([DOCKER, *arguments], capture_output=True).returncode == 0


def missing() -> str | None:
    """Return what is missing here to run these tests, as a sentence."""
    if not shutil.which(DOCKER) or not answers("version"):
        return "no Docker engine answers"
    if not answers("compose", "version"):
        return "docker has no plugin compose"
    if os.geteuid() != 0:
        return "only root can kill the processes in containers"
    images = [image for image in (*MODELS, "gateway") if not answers("image", "inspect", image)]
    return f"no images {', '.join(images)}: docs/deploy/system.md says how to build them" if images else None


@dataclass(frozen=True)
class Stack:
    """The running system. Its files are a copy, so that neither a deploy/.env nor a running system is touched."""

    folder: Path
    url: str

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [DOCKER, "compose", "--progress", "plain", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def until(self, check: Callable[[], T | None]) -> T:
        give_up = time.monotonic() + TIMEOUT_S
        while not (result := check()):
            assert time.monotonic() < give_up, f"still {result}"
            time.sleep(0.2)
        return result

    def healthy(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health/ready", timeout=5, verify=NO_TLS, trust_env=False).is_success
        return False

    def up(self) -> None:
        self.compose("up", "-d")
        self.until(self.healthy)

    def container(self, service: str) -> str:
        return self.compose("ps", "-aq", service)

    def inspect(self, service: str, what: str) -> str:
        return docker("inspect", "-f", "{{" + what + "}}", self.container(service))

    def started_at(self, service: str) -> float:
        """Return when the container was started, in seconds since 1970."""
        started = self.inspect(service, ".State.StartedAt")
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", started)).timestamp()

    def kill(self, service: str) -> None:
        """Kill the container's first process, as the kernel does. (Docker doesn't restart what `docker kill` kills.)"""
        pid = self.inspect(service, ".State.Pid")
        os.kill(int(pid), signal.SIGKILL)
        self.until(lambda: self.inspect(service, ".State.Pid") not in (pid, "0"))

    def reached(self, service: str, *addresses: str) -> list[str]:
        """Return the addresses that accept a connection from a service's container."""
        return self.compose("exec", "-T", service, "python", "-c", CONNECT, *addresses).split()

    def token(self) -> Token:
        name = secrets.token_hex(4)
        secret = self.compose("exec", "-T", "gateway", "python", "-m", "gateway.tokens", "create", name)
        return Token(self.url, secret.split()[-1], self)

    def started(self, token: Token, model: str, **inputs: object) -> str:
        """Create a prediction and return when it runs."""
        prediction_id: str = token.create(model, input=inputs)["id"]
        token.until(prediction_id, "processing")
        return prediction_id

    def ended(self, token: Token, prediction_id: str) -> dict[str, Any]:
        """Wait until a prediction has ended, while the gateway or the database may be down, and return it."""

        def check() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                answer = token.http.get(f"/predictions/{prediction_id}")
                if answer.is_success and answer.json()["status"] in ENDED:
                    prediction: dict[str, Any] = answer.json()
                    return prediction
            return None

        return self.until(check)

    def attempts(self, prediction_id: str) -> int:
        query = f"select attempts from predictions where id = '{prediction_id}'"  # noqa: S608
        return int(self.compose("exec", "-T", "postgres", "psql", "-U", "gateway", "-Atc", query))


def data_url(answer: httpx.Response) -> str:
    return f"data:{answer.headers['content-type']};base64,{base64.b64encode(answer.content).decode()}"


def build_gateway(number: int) -> None:
    """Build an image that differs from the others only in its number."""
    docker("build", "-t", "gateway:compose-test", "-", stdin=f"FROM gateway\nLABEL number={number}\n")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if sentence := missing():
        pytest.skip(sentence)
    folder = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(ROOT / "deploy", folder, ignore=shutil.ignore_patterns(".env", "compose.override.yaml"))
    file = folder / "compose.yaml"
    text = re.sub(rf"image: ({'|'.join(MODELS)})\b", r"image: \1:compose-test", file.read_text())
    file.write_text(text.replace("600s", "3600s"))  # a film may take longer on a busy machine
    (folder / "compose.override.yaml").write_text(OVERRIDE)
    port = free_port()
    settings = {
        "COMPOSE_PROJECT_NAME": "compose-test",
        "COMPOSE_PROFILES": "small",
        "DATABASE_PASSWORD": secrets.token_hex(24),
        "COG_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        "COG_GATEWAY_IMAGE": "gateway:compose-test",
        "COG_GATEWAY_SUBNET": SUBNET,
        "GATEWAY_TRUSTED_PROXIES": HOST,
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
        "GATEWAY_INPUT_PRIVATE": "true",
    }
    write_settings(folder, settings)
    build_gateway(1)
    for model in MODELS:
        docker("tag", model, f"{model}:compose-test")
    docker("build", "-t", "images:compose-test", "-f", "-", str(OWN_MODEL), stdin=IMAGES)
    stack = Stack(folder, f"http://127.0.0.1:{port}")
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "20")
        docker("image", "rm", *(f"{name}:compose-test" for name in (*MODELS, "gateway", "images")))


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@pytest.fixture(scope="module")
def token(stack: Stack) -> Iterator[Token]:
    with stack.token() as token:
        yield token


def test_a_clip_by_the_official_client(token: Token) -> None:
    made = token.python1("run", ref="riffusion/riffusion", input={"prompt_a": "church bells"})
    assert made["output"]["audio"]["bytes"] > 100_000


def test_webhooks_and_urls_behind_a_proxy_of_the_host(token: Token) -> None:
    with receiving(HOST) as receiver:
        hook = f"{receiver.url}/hook"
        created = token.create("riffusion/riffusion", input=CLIP, webhook=hook, headers={"X-Forwarded-Proto": "https"})
        assert created["urls"]["get"].startswith("https://")
        token.ended(created["id"])
        token.system.until(lambda: receiver.statuses(hook.removeprefix(receiver.url))[-1:] == ["succeeded"])


def test_files_as_inputs_reach_a_model_of_ones_own_which_has_no_way_out(
    stack: Stack, token: Token, tmp_path: Path
) -> None:
    stack.until(lambda: "READY" in stack.compose("exec", "-T", "images-worker", "python", "-c", HEALTH))
    add = ["python", "-m", "gateway.models", "add", "test/images", "--url", "http://cog:5000"]
    stack.compose("exec", "-T", "images-worker", *add)
    stack.until(lambda: token.http.get("/models/test/images").is_success)

    (tmp_path / "a.png").write_bytes(CONTENT)
    ran = token.python1("run_with_files", ref="test/images", path=str(tmp_path / "a.png"), more="others")
    assert [file["bytes"] for file in ran.get("output", [])] == [len(INVERTED)] * 3, ran

    class Handler(FileHandler):
        state = FileServer()

    with serving(Handler, HOST) as port:
        address = f"{HOST}:{port}"
        assert stack.reached("images-worker", address) == [address]
        assert stack.reached("images", address) == []
        prediction = token.ended(token.create("test/images", input={"image": f"http://{address}/a.png"})["id"])
    assert prediction["status"] == "succeeded", prediction
    content = httpx.get(prediction["output"][0], timeout=60, verify=NO_TLS, trust_env=False).content
    assert content == bytes(255 - byte for byte in PNG)


def test_a_film_moves_to_a_clip(token: Token) -> None:
    clip = token.ended(token.create("riffusion/riffusion", input={"prompt_a": "drums and bass"})["id"])
    audio = token.http.get(clip["output"]["audio"])
    values = {"audio": data_url(audio), "max_frames": 20, "num_inference_steps": 2, "width": 256, "height": 256}
    film = token.ended(token.create("deforum/music-video", input=values)["id"])
    assert film["status"] == "succeeded", film
    with av.open(io.BytesIO(token.http.get(film["output"]).content), "r") as file:
        assert file.streams.video[0].frames == 20
        (sound,) = file.streams.audio
        assert any(np.abs(frame.to_ndarray()).max() > 0.01 for frame in file.decode(sound))


def test_deforum_has_a_preview(token: Token) -> None:
    values = {"max_frames": 10, "zoom": "0: (1 + t / 10)"}
    answer = token.http.post("/models/deforum/deforum_stable_diffusion/preview", json={"input": values})
    assert answer.json()["curves"]["zoom"][:2] == [1, 1.1]


def test_no_model_reaches_the_host_the_database_or_another_model(stack: Stack) -> None:
    class Handler(FileHandler):
        state = FileServer()

    bridge = docker("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    models = [service for service in stack.compose("ps", "--services").split() if re.search("-small|-preview", service)]
    assert {f"{model}-small" for model in MODELS} < {*models}
    with serving(Handler, "0.0.0.0") as port:  # noqa: S104
        hosts = [f"{host}:{port}" for host in (HOST, bridge)]
        assert stack.reached("gateway", *hosts) == hosts
        for service in models:
            (network,) = json.loads(stack.inspect(service, "json .NetworkSettings.Networks")).values()
            first = network["IPAddress"].rpartition(".")[0] + ".1"  # the bridge's own, if it had one
            others = ["postgres:5432", *(f"{other}:5000" for other in models if other != service)]
            assert stack.reached(service, *hosts, f"{first}:{port}", *others) == []


def test_one_init_is_enough(stack: Stack) -> None:
    for service in stack.compose("ps", "--services").split():
        assert "Tini" not in stack.compose("logs", service)


@pytest.mark.parametrize("part", ["gateway", "riffusion-worker", "riffusion-small", "postgres"])
def test_a_prediction_survives_a_kill_of(stack: Stack, token: Token, part: str) -> None:
    prediction_id = stack.started(token, "riffusion/riffusion", **CLIP)
    stack.kill(part)
    assert stack.ended(token, prediction_id)["status"] == "succeeded"
    assert stack.attempts(prediction_id) == (2 if part == "riffusion-small" else 1)


class Watch:
    """Asks the gateway ten times a second, and keeps when it didn't answer for longest."""

    def __init__(self, url: str) -> None:
        self.longest_s = 0.0
        self.began_at = 0.0  # seconds since 1970
        self._url = f"{url}/health/live"
        self._stop = threading.Event()

    def run(self) -> None:
        answered_at = time.monotonic()
        while not self._stop.wait(0.1):
            with suppress(httpx.HTTPError):
                httpx.get(self._url, timeout=1, verify=NO_TLS, trust_env=False).raise_for_status()
                now = time.monotonic()
                if now - answered_at > self.longest_s:
                    self.longest_s = now - answered_at
                    self.began_at = time.time() - self.longest_s
                answered_at = now

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def test_an_upgrade_of_everything_under_a_running_film(stack: Stack, token: Token) -> None:
    film = stack.started(token, "deforum/deforum_stable_diffusion", **FILM)
    before = {service: stack.container(service) for service in ("gateway", "deforum-small", "deforum-worker")}
    build_gateway(2)
    docker("build", "-t", "deforum:compose-test", "-", stdin="FROM deforum\nLABEL number=2\n")
    began_at = time.monotonic()
    with Watch(stack.url).watching() as watch, (stack.folder / "upgrade.log").open("w") as log:
        upgrade = subprocess.Popen([stack.folder / "upgrade"], stdout=log, stderr=log)
        stack.until(lambda: before["gateway"] not in stack.container("gateway") and stack.healthy())
        took_s = time.monotonic() - began_at
        # The film runs on the old Cog server, while another model has been upgraded and works.
        assert token.get(film)["status"] == "processing"
        assert stack.container("deforum-small") == before["deforum-small"]
        clip = token.create("riffusion/riffusion", input=CLIP)["id"]
        assert stack.ended(token, clip)["status"] == "succeeded"
        assert token.get(film)["status"] == "processing"
        assert upgrade.wait(TIMEOUT_S) == 0, (stack.folder / "upgrade.log").read_text()
    assert stack.ended(token, film)["status"] == "succeeded"
    assert [stack.attempts(film), stack.attempts(clip)] == [1, 1]
    assert all(stack.container(service) != earlier for service, earlier in before.items())
    # What takes long is done before the old gateway goes, so its absence hardly depends on how busy the machine is.
    assert stack.started_at("gateway") < watch.began_at
    print(f"the new gateway answered {took_s:.1f} s after the start; unreachable for {watch.longest_s:.1f} s")
    stack.compose("up", "-d")  # finds nothing more to replace
    now = {service: stack.container(service) for service in before}
    subprocess.run([stack.folder / "upgrade"], check=True, capture_output=True, timeout=TIMEOUT_S)
    assert {service: stack.container(service) for service in before} == now


def test_a_stop_of_all_containers_at_once_takes_seconds_and_loses_nothing(stack: Stack, token: Token) -> None:
    """As Docker stops them when it is stopped itself: at the same time, and not one after the other."""
    clip = stack.started(token, "riffusion/riffusion", **LONG_CLIP)
    began_at = time.monotonic()
    docker("stop", *stack.compose("ps", "-q").split())
    print(f"all containers stopped within {time.monotonic() - began_at:.1f} s")
    assert time.monotonic() - began_at < 300  # the grace period of a worker is 600 s
    stack.up()
    assert stack.ended(token, clip)["status"] == "succeeded"


def test_down_and_up_keep_predictions_files_and_tokens(stack: Stack, token: Token) -> None:
    clip = stack.started(token, "riffusion/riffusion", **CLIP)
    queued = token.create("riffusion/riffusion", input=CLIP)["id"]
    stack.compose("down")
    stack.up()
    for prediction_id in (clip, queued):
        prediction = stack.ended(token, prediction_id)
        assert prediction["status"] == "succeeded"
        assert stack.attempts(prediction_id) == 1
        assert token.http.get(prediction["output"]["audio"]).is_success
    listed = [prediction["id"] for prediction in token.http.get("/predictions").json()["results"]]
    assert {clip, queued} <= set(listed)
