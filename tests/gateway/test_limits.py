"""How much memory the gateway takes for large files; run by script/test --limits on a quiet machine."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import s3
from tests.gateway.conftest import Databases
from tests.gateway.processes import FAKE, System, Token, running

pytestmark = pytest.mark.limits
FILE_BYTES = 100 << 20
ABOVE_IDLE_BYTES = 40_000_000
PIECE_BYTES = 3 << 18  # a multiple of three, so that its base64 has no padding


class Memory:
    """The memory of a process: how much it has, and the most that it has had since."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        (self._process / "clear_refs").write_text("5")  # resets the peak
        self.idle_bytes = self._read("VmRSS")

    def above_idle_bytes(self) -> int:
        return self._read("VmHWM") - self.idle_bytes

    def _read(self, name: str) -> int:
        status = (self._process / "status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) << 10


@pytest.fixture(scope="module", params=["folder", "bucket"])
def system(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "folder":
        with running(folder, databases.make()) as system:
            yield system
        return
    (folder / "buckets" / "bucket").mkdir(parents=True)
    with s3.serving(folder) as url:
        settings = {**s3.KEYS, "AWS_ENDPOINT": url, "GATEWAY_FILES_URL": "s3://bucket/files"}
        with running(folder, databases.make(), settings) as system:
            yield system


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(os.urandom(FILE_BYTES))
    return path


def upload(token: Token, path: Path) -> str:
    with path.open("rb") as file:
        answer = token.http.post("/files", files={"content": ("large.bin", file)})
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["urls"]["download"]
    return url


def download(token: Token, url: str) -> int:
    size = 0
    with token.http.stream("GET", url) as answer:
        for chunk in answer.iter_bytes():
            size += len(chunk)
    return size


def create(token: Token, path: Path) -> str:
    """Create a prediction with a data URL."""

    def body() -> Iterator[bytes]:
        yield b'{"input": {"image": "data:application/octet-stream;base64,'
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield base64.b64encode(piece)
        yield b'"}}'

    answer = token.http.post(f"/models/{FAKE}/predictions", content=body())
    assert answer.status_code == 201, answer.text
    prediction_id: str = answer.json()["id"]
    return prediction_id


def test_100_mib_up_and_down(system: System, large: Path, tmp_path: Path) -> None:
    token = system.token()
    first = tmp_path / "first.bin"
    first.write_bytes(bytes(12 << 20))
    download(token, upload(token, first))  # what is loaded at the first use is idle too
    token.ended(create(token, first))
    gateway = system.supervisor.process("gateway").pid
    worker = system.supervisor.process("worker").pid

    memory = Memory(gateway)
    url = upload(token, large)
    up = memory.above_idle_bytes()

    memory = Memory(gateway)
    assert download(token, url) == FILE_BYTES
    down = memory.above_idle_bytes()

    memory, of_worker = Memory(gateway), Memory(worker)
    prediction_id = create(token, large)
    created = memory.above_idle_bytes()
    ended = token.ended(prediction_id)
    assert ended["output"][0]["bytes"] == FILE_BYTES
    print(
        f"100 MiB, megabytes above idle: up {up / 1e6:.0f}, down {down / 1e6:.0f}, as a data URL {created / 1e6:.0f}, "
        f"to the model {of_worker.above_idle_bytes() / 1e6:.0f} (worker)"
    )
    assert max(up, down, created) <= ABOVE_IDLE_BYTES
    assert of_worker.above_idle_bytes() <= ABOVE_IDLE_BYTES
