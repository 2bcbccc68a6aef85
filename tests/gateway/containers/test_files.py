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


@pytest.mark.parametrize(
    ("client", "do", "options"),
    [
        ("python1", "run_with_files", {}),
        ("python1", "run_with_files", {"file_encoding_strategy": "base64"}),
        ("python2", "run_with_files", {}),
        ("python2", "run_with_files", {"file_encoding_strategy": "base64"}),
        ("javascript", "runWithFiles", {}),
    ],
)
def test_file_handles_of_the_clients(
    containers_token: Token, tmp_path: Path, client: str, do: str, options: dict[str, str]
) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    drive = getattr(containers_token, client)
    ran = drive(do, ref=IMAGES, path=str(tmp_path / "a.png"), more="others", **options)
    assert ran == {"output": [{"file": INVERTED[:16].hex(), "bytes": len(INVERTED), "url": "data:a"}] * 3}
    uploaded = containers_token.http.get("/files").json()["results"]
    assert len(uploaded) == (0 if options else 3)
    (prediction,) = containers_token.http.get("/predictions").json()["results"]
    assert options or prediction["input"]["image"].startswith(f"{containers_token.url}/v1/files/")


def test_large_files_data_urls_and_outputs(containers_token: Token) -> None:
    small = f"data:application/octet-stream;base64,{base64.b64encode(CONTENT).decode()}"
    urls = output(containers_token, "test/images", image=upload(containers_token, LARGE), others=[small])
    once = fetched(urls)
    assert [len(content) for content in once] == [len(LARGE), len(CONTENT)]
    assert once[1] == INVERTED
    assert fetched(output(containers_token, "test/images", image=urls[1], others=urls[:1])) == [CONTENT, LARGE]


def test_a_secret_reaches_the_model_only(containers: System, containers_token: Token) -> None:
    ran = output(containers_token, "test/nested", key=SECRET, words=["A"])
    assert (ran["length"], ran["words"]) == (len(SECRET), ["a"])
    failed = containers_token.ended(containers_token.create("test/nested", input={"key": SECRET, "fail": True})["id"])
    assert failed["error"] == "no"
    shown = containers_token.http.get("/predictions").text
    assert shown.count('"key":"**********"') == 2
    assert SECRET not in shown
    logs = [path.read_text() for path in (containers.folder / "logs").glob("*") if path.is_file()]
    assert logs
    assert not any(SECRET in text for text in logs)
