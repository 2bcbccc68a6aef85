"""The official Replicate clients, unmodified, against the gateway."""

import hashlib
import time
from pathlib import Path

import httpx
import pytest

from tests.gateway.file_server import PNG
from tests.gateway.processes import FAKE, FAKE_VERSION, Token

REF = f"{FAKE}:{FAKE_VERSION}"
WAV = (b"w" * 16).hex()  # what the fake model writes into its files
JPEG = (b"j" * 16).hex()


def test_t01_a_run_that_outlasts_its_wait_returns_its_output(token: Token) -> None:
    inputs = {"seconds": 1.5, "text": "late"}
    assert token.python1("run", ref=REF, input=inputs, wait=1) == {"output": "late"}
    ran = token.javascript("run", ref=REF, input=inputs, wait={"mode": "block", "timeout": 1})
    assert ran["output"] == "late"
    assert (ran["statuses"][0], ran["statuses"][-1]) == ("starting", "succeeded")


def test_t02_a_wait_that_runs_out_answers_202_and_starting(token: Token) -> None:
    for _ in range(5):  # the upper bound holds for the gateway, not for a machine that stalls
        began = time.monotonic()
        answer = token.http.post(
            f"/models/{FAKE}/predictions", json={"input": {"seconds": 30}}, headers={"Prefer": "wait=2"}
        )
        lasted_s = time.monotonic() - began
        token.http.post(f"/predictions/{answer.json()['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (httpx.codes.ACCEPTED, "starting")
        assert lasted_s >= 1.5
        if lasted_s <= 2.3:
            return
    pytest.fail(f"five waits of 2 s all took more than 2.3 s, the last {lasted_s:.2f} s")


@pytest.mark.parametrize("prefer", ["wait", "wait=60", "wait=999", "respond-async, wait=5", "wait = 7", "WAIT=5"])
def test_a_wait_ends_with_the_prediction(token: Token, prefer: str) -> None:
    answer = token.http.post(f"/models/{FAKE}/predictions", json={"input": {"text": "x"}}, headers={"Prefer": prefer})
    assert answer.json()["status"] in ("starting", "succeeded")  # respond-async may answer at once
    assert token.ended(answer.json()["id"])["output"] == "x"


def test_t03_python_1_parses_every_status_and_object(token: Token) -> None:
    half = " 50%|#####     | 1/2 [00:00<00:00,  2.00it/s]"
    ids = {
        "succeeded": token.ended(token.create(input={"files": 2})["id"])["id"],
        "failed": token.ended(token.create(input={"fail": "no such mood"})["id"])["id"],
        "processing": token.create(input={"seconds": 60, "logs": [half, *["."] * 400]})["id"],
        "starting": token.create(input={})["id"],  # it waits behind the one before
        "canceled": token.create(input={})["id"],
    }
    token.http.post(f"/predictions/{ids['canceled']}/cancel")
    try:
        token.system.until(lambda: half in token.until(ids["processing"], "processing")["logs"])
        parsed = token.python1("parse", ids=list(ids.values()), model=FAKE)
    finally:
        cancelled = token.python1("cancel", prediction_id=ids["processing"])

    assert parsed["statuses"] == {prediction_id: status for status, prediction_id in ids.items()}
    assert parsed["errors"][ids["failed"]] == "no such mood"
    assert parsed["progress"] == [0.5]
    assert set(parsed["listed"]) >= set(ids.values())
    assert (parsed["model"], parsed["latest"], parsed["version"]) == (FAKE, FAKE_VERSION, FAKE_VERSION)
    assert FAKE in parsed["models"]
    assert parsed["deployed"] == FAKE
    assert cancelled in ("processing", "canceled")
    assert token.ended(ids["processing"])["status"] == "canceled"


def test_t18_files_become_urls(token: Token) -> None:
    for files, names in ((1, ["wav"]), (2, ["wav", "jpg"])):
        output = token.ended(token.create(input={"files": files})["id"])["output"]
        urls = [output] if files == 1 else [output["audio"], output["spectrogram"]]
        for url, suffix in zip(urls, names, strict=True):
            answer = httpx.get(url, trust_env=False)
            assert answer.status_code == httpx.codes.OK
            assert answer.headers["Content-Type"] == {"wav": "audio/wav", "jpg": "image/jpeg"}[suffix]
            assert answer.content[:1].decode() == {"wav": "w", "jpg": "j"}[suffix]
            assert url.endswith(f".{suffix}")


def test_t18_files_reach_every_client(token: Token) -> None:
    """Over plain http the clients take a file only as a data URL."""
    expected = {"audio": {"file": WAV, "bytes": 100, "url": "data:a"}}
    expected["spectrogram"] = {"file": JPEG, "bytes": 100, "url": "data:i"}
    assert token.python1("run", ref=REF, input={"files": 2})["output"] == expected
    assert token.python2("run", ref=REF, input={"files": 2})["output"] == expected
    assert token.javascript("run", ref=REF, input={"files": 2})["output"] == expected


def test_streams_reach_python_1_and_javascript(token: Token) -> None:
    for events in (
        token.python1("stream", ref=REF, inputs={"files": 1, "seconds": 0.5}),
        token.javascript("stream", ref=REF, inputs={"files": 1, "seconds": 0.5}),
    ):
        assert [event[0] for event in events] == ["output", "done"]
        assert all(has_id for _, _, has_id in events)


def test_an_abort_in_javascript_cancels(token: Token) -> None:
    assert token.javascript("abort", ref=REF, inputs={"seconds": 60})[-1] in ("processing", "canceled")
    (prediction,) = token.http.get("/predictions").json()["results"]
    assert token.ended(prediction["id"])["status"] == "canceled"


def test_t20_python_2_runs_lists_cancels_and_calls(token: Token) -> None:
    assert token.python2("run", ref=REF, input={"text": "two"}) == {"output": "two"}
    assert token.python2("run", ref=FAKE, input={"seconds": 2, "text": "late"}, wait=1) == {"output": "late"}
    assert token.python2("cancel", ref=FAKE_VERSION, inputs={"seconds": 60}) == "canceled"
    called = token.python2("call", ref=REF, inputs={"text": "called"})
    assert called["output"] == "called"
    assert "seconds" in called["inputs"]
    listed = [prediction["id"] for prediction in token.http.get("/predictions").json()["results"]]
    assert token.python2("all_ids") == listed
    assert len(listed) == 4


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a file that is too large to stay a data URL."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path


def test_file_handles_reach_the_model_from_every_client(token: Token, picture: Path) -> None:
    file = {"bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest(), "name": "file.png", "data_url": True}
    expected = {"output": [file] * 3}
    assert token.python1("run_with_files", ref=REF, path=str(picture)) == expected
    assert token.python2("run_with_files", ref=REF, path=str(picture)) == expected
    assert token.javascript("runWithFiles", ref=REF, path=str(picture)) == expected
    urls = [prediction["input"]["image"] for prediction in token.http.get("/predictions").json()["results"]]
    assert all(url.startswith(f"{token.url}/v1/files/") for url in urls), urls
    assert len(token.http.get("/files").json()["results"]) == 9


def test_file_handles_as_data_urls_reach_the_model(token: Token, picture: Path) -> None:
    names = {"python1": ["file.png", "file.png", "file.bin"], "python2": ["file.png"] * 3}  # a buffer has no type
    for client in (token.python1, token.python2):
        ran = client("run_with_files", ref=REF, path=str(picture), file_encoding_strategy="base64")
        assert [file["bytes"] for file in ran["output"]] == [len(PNG)] * 3
        assert [file["name"] for file in ran["output"]] == names[client.__name__]
    assert token.http.get("/files").json()["results"] == []


def test_every_client_creates_gets_lists_and_deletes_files(token: Token, picture: Path) -> None:
    assert token.python1("files", path=str(picture)) == {
        "file": ["a.png", "image/png", len(PNG), {"a": 1}],
        "same": True,
        "listed": True,
        "deleted": True,
        "left": [],
    }
    assert token.python2("files", path=str(picture)) == {
        "file": ["b.png", "image/x", len(PNG), {"a": "1"}],
        "content": len(PNG),
        "listed": True,
        "left": [],
    }
    assert token.javascript("files", path=str(picture)) == {
        "file": ["application/octet-stream", len(PNG), {"a": 1}],
        "listed": True,
        "deleted": True,
        "left": 0,
    }
