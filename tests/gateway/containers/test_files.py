"""Input files and secret inputs, on real Cog servers."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.containers.conftest import version
from tests.gateway.processes import System, Token

IMAGES = f"test/images:{version('images')}"
CONTENT = bytes(range(256)) * 4000  # more than fits the body of other requests
INVERTED = CONTENT[::-1][:256] * 4000
LARGE = CONTENT[:1024] * (17 << 10)  # more than a worker puts into a request
SECRET = "sesame-0123456789"  # noqa: S105


def fetched(urls: list[str]) -> list[bytes]:
    return [httpx.get(url, trust_env=False, timeout=60).content for url in urls]


def output(token: Token, model: str, **inputs: Any) -> Any:
    prediction = token.ended(token.create(model, input=inputs)["id"])
    assert prediction["status"] == "succeeded", prediction
    return prediction["output"]


def upload(token: Token, content: bytes) -> str:
    url: str = token.http.post("/files", files={"content": ("ä b.heic", content)}).json()["urls"]["get"]
    return url


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("client", ["python1", "python2"])
def test_file_handles_of_the_python_clients(containers_token: Token, picture: Path, client: str) -> None:
    inverted = {"file": INVERTED[:16].hex(), "bytes": len(INVERTED), "url": "data:a"}
    drive = getattr(containers_token, client)
    for options in ({}, {"file_encoding_strategy": "base64"}):
        ran = drive("run_with_files", ref=IMAGES, path=str(picture), more="others", **options)
        assert ran == {"output": [inverted] * 3}


def test_buffers_and_blobs_of_the_javascript_client(containers_token: Token, picture: Path) -> None:
    inverted = {"file": INVERTED[:16].hex(), "bytes": len(INVERTED), "url": "data:a"}
    ran = containers_token.javascript("runWithFiles", ref=IMAGES, path=str(picture), more="others")
    assert ran == {"output": [inverted] * 3}


def test_large_files_data_urls_and_outputs(containers_token: Token) -> None:
    small = f"data:application/octet-stream;base64,{base64.b64encode(CONTENT).decode()}"
    urls = output(containers_token, "test/images", image=upload(containers_token, LARGE), others=[small])
    once = fetched(urls)
    assert [len(content) for content in once] == [len(LARGE), len(CONTENT)]
    assert once[1] == INVERTED
    assert fetched(output(containers_token, "test/images", image=urls[1], others=urls[:1])) == [CONTENT, LARGE]


def test_a_models_own_network_is_out_of_reach(containers: System, containers_token: Token) -> None:
    """The Cog server would fetch these itself."""
    for url in (f"{containers.url}/health", "http://127.0.0.1:5851/health-check", "http://[::127.0.0.1]/"):
        answer = containers_token.http.post("/models/test/images/predictions", json={"input": {"image": url}})
        assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "input.image")
    for url in (containers.url.replace("127.0.0.1", "127.1"), "http://localhost.localdomain:5000/"):
        failed = containers_token.ended(containers_token.create("test/images", input={"image": url})["id"])
        assert failed["error"].startswith("The file of input.image could not be fetched from ")


def test_a_secret_reaches_the_model_only(containers: System, containers_token: Token) -> None:
    ref = f"test/nested:{version('nested')}"
    ran = containers_token.python1("run", ref=ref, input={"key": SECRET, "words": ["A"]})["output"]
    assert (ran["length"], ran["words"]) == (len(SECRET), ["a"])
    failed = containers_token.ended(containers_token.create("test/nested", input={"key": SECRET, "fail": True})["id"])
    assert failed["error"] == "no"
    shown = containers_token.http.get("/predictions").text
    assert shown.count('"key":"**********"') == 2
    assert SECRET not in shown
    logs = [path.read_text() for path in (containers.folder / "logs").glob("*") if path.is_file()]
    assert logs
    assert not any(SECRET in text for text in logs)
