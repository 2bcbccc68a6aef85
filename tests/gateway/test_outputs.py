"""Output files, from data URLs to the store and to those who fetch them without a token, and event streams."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from obstore.exceptions import BaseError

from gateway.api import stream
from gateway.prediction import File, Json
from gateway.record.files import Files
from gateway.work.outputs import Stored, store
from tests.gateway.processes import IDLE, NO_TLS, TIMEOUT_S, System, Token, events

pytestmark = pytest.mark.anyio

PYTHON_1 = {"User-Agent": "replicate-python/1.0.7"}


def fetch(url: str, **options: Any) -> httpx.Response:
    return httpx.get(url, trust_env=False, verify=NO_TLS, timeout=TIMEOUT_S, **options)


@pytest.fixture
def done(token: Token) -> dict[str, Any]:
    prediction = token.run(files=1, bytes=1000)
    assert prediction["status"] == "succeeded", prediction
    return prediction


def test_a_file_can_be_fetched_whole_or_in_ranges(done: dict[str, Any]) -> None:
    whole = fetch(done["output"])
    assert whole.status_code == 200
    assert len(whole.content) == 1000
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-security-policy"].startswith("sandbox")
    part = fetch(done["output"], headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, whole.content[-5:])
    assert (part.headers["content-range"], part.headers["content-length"]) == ("bytes 995-999/1000", "5")
    beyond = fetch(done["output"], headers={"Range": "bytes=1000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */1000")


def test_conditional_requests_for_a_file(done: dict[str, Any]) -> None:
    tag = fetch(done["output"]).headers["etag"]
    assert fetch(done["output"], headers={"If-None-Match": tag}).status_code == 304
    assert fetch(done["output"], headers={"If-Range": '"another"', "Range": "bytes=0-1"}).status_code == 200
    assert fetch(done["output"], headers={"If-Range": tag, "Range": "bytes=0-1"}).status_code == 206
    head = httpx.head(done["output"], trust_env=False, verify=NO_TLS)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "1000", b"")


def test_a_guessed_or_changed_file_url_is_rejected(done: dict[str, Any]) -> None:
    base, _, rest = done["output"].partition("/outputs/")
    signature, _, key = rest.partition("/")
    later = f"{int(signature.partition('-')[0]) + 9}-{signature.partition('-')[2]}"
    for guess in (later, signature[::-1], signature.partition("-")[0], "x", "%00", "." * 3000):
        response = fetch(f"{base}/outputs/{guess}/{key}")
        assert response.status_code in (403, 404), response.text
        assert isinstance(response.json()["detail"], str)
    parts = key.replace(".", "-"), f"{key}/x", key.partition("/")[2]
    for other in (*parts, "..%2F..%2Ftoken", "../../token", "%00", "x"):
        assert fetch(f"{base}/outputs/{signature}/{other}").status_code in (403, 404)


def test_clients_that_accept_no_http_urls_get_data_urls(token: Token, done: dict[str, Any]) -> None:
    content = fetch(done["output"]).content
    for agent in ("replicate-python/1.0.7", "replicate-javascript/1.4.0", "Replicate/Python 2.0.0b4"):
        output = token.http.get(f"/predictions/{done['id']}", headers={"User-Agent": agent}).json()["output"]
        head, _, data = output.partition(",")
        assert head.startswith("data:")
        assert base64.b64decode(data) == content
    listed = token.http.get("/predictions", headers=PYTHON_1).json()["results"][0]["output"]
    assert listed.startswith("http://")  # a page of a hundred videos would be too large
    behind_tls = {**PYTHON_1, "Host": "x"}
    assert token.http.get(f"/predictions/{done['id']}", headers=behind_tls).json()["output"].startswith("data:")


@pytest.mark.parametrize("agent", ["replicate-python/0.25.2", "replicate-javascript/0.29.4", "python-requests/2.32"])
def test_clients_that_hand_urls_to_the_user_get_urls(token: Token, done: dict[str, Any], agent: str) -> None:
    output = token.http.get(f"/predictions/{done['id']}", headers={"User-Agent": agent}).json()["output"]
    assert output.startswith("http://")


def test_a_stream_has_the_files_and_the_end_with_ids(token: Token) -> None:
    created = token.create(input={"files": 2, "logs": ["one", "two"]})
    found = list(events(created["urls"]["stream"]))
    assert [event.name for event in found] == ["output", "output", "done"]
    assert all(event.id for event in found)
    assert found[-1].data == "{}"
    assert all(fetch(event.data).status_code == 200 for event in found[:2])
    assert [event.id for event in events(created["urls"]["stream"], found[0].id)] == [event.id for event in found[1:]]
    assert fetch(created["urls"]["stream"], headers={"Last-Event-ID": found[-1].id}).status_code == 204


def test_a_stream_has_the_logs_on_request(token: Token) -> None:
    created = token.create(input={"logs": ["one", "two"], "seconds": 1})
    found = list(events(f"{created['urls']['stream']}?logs=1"))
    logs = [event for event in found if event.name == "logs"]
    assert "".join(event.data for event in logs).split() == token.get(created["id"])["logs"].split() == ["one", "two"]
    assert [event.name for event in found[len(logs) :]] == ["output", "done"]
    rest = events(f"{created['urls']['stream']}?logs=1", logs[-1].id)
    assert [event.name for event in rest] == ["output", "done"]


def test_a_stream_reports_the_status_on_request(token: Token) -> None:
    first = token.create(input={"seconds": 2})
    second = token.create(input={})
    found = list(events(f"{second['urls']['stream']}?status=1"))
    statuses = [json.loads(event.data) for event in found if event.name == "status"]
    assert statuses[-1] == {"status": "succeeded", "position": None}
    assert {"status": "starting", "position": 1} in statuses or {"status": "starting", "position": 2} in statuses
    assert not any(event.id for event in found if event.name == "status")  # so Last-Event-ID stays the same
    assert [event.name for event in found[-2:]] == ["output", "done"]
    token.ended(first["id"])


def test_a_stream_has_errors_and_cancels(token: Token) -> None:
    error, done = events(token.create(input={"fail": "no such seed"})["urls"]["stream"])
    assert (error.name, done.name) == ("error", "done")
    assert json.loads(error.data)["detail"].endswith("no such seed")
    assert json.loads(done.data) == {"reason": "error"}
    created = token.create(input={"seconds": 600})
    token.cancel(created["id"])
    (done,) = events(created["urls"]["stream"])
    assert (done.name, json.loads(done.data)) == ("done", {"reason": "canceled"})


def test_a_stream_needs_the_signature_for_its_prediction(token: Token, system: System) -> None:
    prediction = token.create()
    signature = prediction["urls"]["stream"].split("/")[-2]
    for guess in ("x", signature[:-3], signature.partition("-")[0]):
        assert fetch(f"{system.url}/v1/stream/{guess}/{prediction['id']}").status_code == 403
    another = token.create()
    assert fetch(f"{system.url}/v1/stream/{signature}/{another['id']}").status_code == 403


def test_a_stream_sends_comments_while_nothing_happens(
    token: Token, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stream.PING_S <= 15  # some clients give up after 30 s of silence
    monkeypatch.setattr(stream, "PING_S", 0.1)
    created = token.create(IDLE)
    with system.another_gateway({}) as gateway:
        url = created["urls"]["stream"].replace(system.url, gateway)
        with httpx.stream("GET", url, trust_env=False, verify=NO_TLS, timeout=TIMEOUT_S) as response:
            assert next(response.iter_lines()).startswith(": ")
    token.cancel(created["id"])


async def stored(folder: Path, output: Json) -> Stored:
    return await store(output, Files(folder.as_uri()), "prediction")


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("audio/wav", "output.wav"),
        ("video/mp4", "output.mp4"),
        ("image/png", "output.png"),
        ("application/x-unheard-of", "output.bin"),
        ("text/plain;charset=utf-8", "output.txt"),
    ],
)
async def test_a_files_suffix_follows_its_media_type(tmp_path: Path, media_type: str, name: str) -> None:
    (file,) = (await stored(tmp_path, data_url(media_type, b"data"))).files
    assert (file.name, file.media_type, file.size) == (name, media_type.split(";")[0], 4)
    assert (tmp_path / file.key).read_bytes() == b"data"


async def test_files_are_found_at_any_depth(tmp_path: Path) -> None:
    png = data_url("image/png", b"")
    found = await stored(
        tmp_path, {"a b/../c": png, "list": [1, {"x": png}, [png]], "text": "data: not one", "none": None}
    )
    assert [file.name for file in found.files] == ["a-b-..-c.png", "x.png", "list-2-0.png"]
    first, second, third = (file.reference for file in found.files)
    listed: Json = [1, {"x": second}, [third]]
    assert found.output == {"a b/../c": first, "list": listed, "text": "data: not one", "none": None}
    assert len({file.key.split("/")[1] for file in found.files}) == 3  # a random part for each


@pytest.mark.parametrize("text", ["data:text/plain,hi", "data:image/png;base64,!!!!", "data:image/png;base64,\xe9", ""])
async def test_text_that_resembles_a_data_url_stays_text(tmp_path: Path, text: str) -> None:
    assert await stored(tmp_path, text) == Stored(text, ())
    assert list(tmp_path.iterdir()) == []


async def test_a_large_file_is_stored_unchanged(tmp_path: Path) -> None:
    data = bytes(range(256)) * (5 << 12) + b"end"  # more than one chunk of base64
    (file,) = (await stored(tmp_path, data_url("audio/wav", data))).files
    assert (tmp_path / file.key).read_bytes() == data


async def test_no_file_is_left_if_one_can_not_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path.as_uri())
    put = files.put

    async def fail_for_some(prediction_id: str, name: str, media_type: str, data: bytes) -> File:
        if name.startswith("bad"):
            raise BaseError("the disk is full")
        return await put(prediction_id, name, media_type, data)

    monkeypatch.setattr(files, "put", fail_for_some)
    with pytest.raises(BaseError):
        await store({"ok": data_url("image/png", b"1"), "bad": data_url("image/png", b"2")}, files, "prediction")
    assert list(tmp_path.iterdir()) == []
