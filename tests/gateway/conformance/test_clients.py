"""The official Replicate clients, unmodified, against the gateway."""

import time
from pathlib import Path

import httpx
import pytest

from tests.gateway.file_server import PNG
from tests.gateway.processes import FAKE, FAKE_VERSION, Token

REF = f"{FAKE}:{FAKE_VERSION}"
WAV = (b"w" * 16).hex()  # the first bytes of the fake model's files
JPEG = (b"j" * 16).hex()


def test_t01_run_returns_the_output_of_a_prediction_that_outlasts_the_wait(token: Token) -> None:
    inputs = {"seconds": 1.5, "text": "late"}
    assert token.python1("run", ref=REF, input=inputs, wait=1) == {"output": "late"}
    ran = token.javascript("run", ref=REF, input=inputs, wait={"mode": "block", "timeout": 1})
    assert ran["output"] == "late"
    assert (ran["statuses"][0], ran["statuses"][-1]) == ("starting", "succeeded")


def time_out(token: Token, wait_s: int) -> float:
    """Create a prediction that outlasts a wait, and return how long the response took, in seconds."""
    body = {"input": {"seconds": 600}}
    began_s = time.monotonic()
    response = token.http.post(f"/models/{FAKE}/predictions", json=body, headers={"Prefer": f"wait={wait_s}"})
    taken_s = time.monotonic() - began_s
    assert (response.status_code, response.json()["status"]) == (httpx.codes.ACCEPTED, "starting")
    token.cancel(response.json()["id"])
    return taken_s


def test_t02_a_wait_that_times_out_gets_202_and_starting(token: Token) -> None:
    assert time_out(token, wait_s=2) >= 1.5


@pytest.mark.limits
def test_t02_a_wait_of_2_s_takes_at_most_2_3_s(token: Token) -> None:
    assert time_out(token, wait_s=2) <= 2.3


def test_a_wait_ends_when_the_prediction_does(token: Token) -> None:
    body = {"input": {"text": "x"}}
    response = token.http.post(f"/models/{FAKE}/predictions", json=body, headers={"Prefer": "wait"})
    assert (response.json()["status"], response.json()["output"]) == ("succeeded", "x")


def test_t03_python_1_parses_every_status_and_object(token: Token) -> None:
    half = " 50%|#####     | 1/2 [00:00<00:00,  2.00it/s]"
    ids = {
        "succeeded": token.run(files=2)["id"],
        "failed": token.run(fail="no such mood")["id"],
        "processing": token.create(input={"seconds": 60, "logs": [half, *["."] * 400]})["id"],
        "starting": token.create(input={})["id"],  # behind the one before in the queue
        "canceled": token.create(input={})["id"],
    }
    token.cancel(ids["canceled"])
    try:
        token.system.until(lambda: half in token.until(ids["processing"], "processing")["logs"])
        parsed = token.python1("parse", ids=list(ids.values()), model=FAKE)
    finally:
        status = token.python1("cancel", prediction_id=ids["processing"])

    assert parsed["statuses"] == {prediction_id: status for status, prediction_id in ids.items()}
    assert parsed["errors"][ids["failed"]] == "no such mood"
    assert parsed["progress"] == [0.5]
    assert set(parsed["listed"]) >= set(ids.values())
    assert (parsed["model"], parsed["latest"], parsed["version"]) == (FAKE, FAKE_VERSION, FAKE_VERSION)
    assert FAKE in parsed["models"]
    assert parsed["deployed"] == FAKE
    assert status in ("processing", "canceled")
    assert token.ended(ids["processing"])["status"] == "canceled"


def test_t18_files_become_urls(token: Token, http: httpx.Client) -> None:
    one, two = token.run(files=1)["output"], token.run(files=2)["output"]
    for url, suffix, media_type in (
        (one, ".wav", "audio/wav"),
        (two["audio"], ".wav", "audio/wav"),
        (two["spectrogram"], ".jpg", "image/jpeg"),
    ):
        response = http.get(url)
        assert (response.status_code, response.headers["Content-Type"]) == (httpx.codes.OK, media_type)
        assert response.content == {".wav": b"w", ".jpg": b"j"}[suffix] * 100
        assert url.endswith(suffix)


def test_t18_files_reach_every_client(token: Token) -> None:
    """Over plain HTTP, the clients accept a file only as a data URL."""
    expected = {"audio": {"file": WAV, "bytes": 100, "url": "data:a"}}
    expected["spectrogram"] = {"file": JPEG, "bytes": 100, "url": "data:i"}
    assert token.python1("run", ref=REF, input={"files": 2})["output"] == expected
    assert token.python2("run", ref=REF, input={"files": 2})["output"] == expected
    assert token.javascript("run", ref=REF, input={"files": 2})["output"] == expected


def test_abort_in_javascript_cancels_the_prediction(token: Token) -> None:
    assert token.javascript("abort", ref=REF, inputs={"seconds": 600})[-1] in ("processing", "canceled")
    (prediction,) = token.http.get("/predictions").json()["results"]
    assert token.ended(prediction["id"])["status"] == "canceled"


def test_t20_python_2_runs_lists_cancels_and_calls(token: Token) -> None:
    late, called = {"seconds": 2, "text": "late"}, {"text": "called"}
    run, waited, canceled, call, listed = token.python2(
        "each",
        calls=[
            {"do": "run", "ref": REF, "input": {"text": "two"}},
            {"do": "run", "ref": FAKE, "input": late, "wait": 1},
            {"do": "cancel", "ref": FAKE_VERSION, "inputs": {"seconds": 600}},
            {"do": "call", "ref": REF, "inputs": called},
            {"do": "all_ids"},
        ],
    )
    assert (run, waited, canceled) == ({"output": "two"}, {"output": "late"}, "canceled")
    assert call["output"] == "called"
    assert "seconds" in call["inputs"]
    assert listed == [prediction["id"] for prediction in token.http.get("/predictions").json()["results"]]
    assert len(listed) == 4


def test_every_client_creates_gets_lists_and_deletes_files(token: Token, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
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
