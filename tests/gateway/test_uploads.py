"""/v1/files: uploads as Replicate takes them, with a limit, a quota and a retention."""

import asyncio
import base64
import hashlib
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.prediction import File, InputFile
from gateway.record import Record, open_record
from gateway.record.uploads import Limits, QuotaError
from tests.gateway.conftest import FILE_BYTES, QUOTA_BYTES
from tests.gateway.processes import FAKE, NO_TLS, System, Token
from tests.gateway.receiver import serving
from tests.gateway.recording import new

CONTENT = bytes(range(256)) * 10
BOUNDARY = "x" * 20


def upload(token: Token, content: bytes = CONTENT, fields: dict[str, str] | None = None) -> dict[str, Any]:
    answer = token.http.post("/v1/files", files={"content": ("a.png", content)}, data=fields)
    assert answer.status_code == 201, answer.text
    file: dict[str, Any] = answer.json()
    return file


def multipart(*parts: tuple[str, bytes], end: str = "--") -> bytes:
    lines = [f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content for head, content in parts]
    return b"\r\n".join([*lines, f"--{BOUNDARY}{end}\r\n".encode()])


def post(
    token: Token, body: bytes | Iterator[bytes], kind: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> httpx.Response:
    return token.http.post("/files", content=body, headers={"Content-Type": kind})


def part(name: str, content: bytes, more: str = "") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"{more}', content


CONTENT_PART = part("content", b"x", '; filename="x"')


def test_a_file_is_created_got_listed_downloaded_and_deleted(system: System, token: Token) -> None:
    file = upload(token, fields={"metadata": json.dumps({"customer": {"id": 5}})})
    assert re.fullmatch("[a-z0-9]{26}", file["id"])
    assert (file["name"], file["content_type"], file["size"]) == ("a.png", "image/png", len(CONTENT))
    assert file["checksums"] == {
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    }
    assert file["etag"]
    assert file["metadata"] == {"customer": {"id": 5}}
    assert file["urls"]["get"] == f"{token.url}/v1/files/{file['id']}"
    kept = datetime.fromisoformat(file["expires_at"]) - datetime.fromisoformat(file["created_at"])
    assert kept.total_seconds() == 86400

    assert token.http.get(file["urls"]["get"]).json() == file
    listed = token.http.get("/v1/files").json()
    assert (listed["results"], listed["next"], listed["previous"]) == ([file], None, None)
    download = httpx.get(file["urls"]["download"], trust_env=False)
    assert (download.status_code, download.content) == (200, CONTENT)
    assert download.headers["content-type"] == "image/png"
    part = httpx.get(file["urls"]["download"], headers={"Range": "bytes=1-3"}, trust_env=False)
    assert (part.status_code, part.content) == (206, CONTENT[1:4])

    deleted = token.http.delete(f"/v1/files/{file['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert token.http.delete(f"/v1/files/{file['id']}").status_code == 404
    assert token.http.get(file["urls"]["get"]).status_code == 404
    assert httpx.get(file["urls"]["download"], trust_env=False).status_code == 404
    assert token.http.get("/v1/files").json()["results"] == []
    assert not (system.folder / "files" / "uploads" / file["id"]).exists()


def test_another_tokens_files_look_missing(token: Token, system: System) -> None:
    file = upload(token)
    other = system.token()
    assert other.http.get(f"/files/{file['id']}").status_code == 404
    assert other.http.delete(f"/files/{file['id']}").status_code == 404
    assert other.http.get("/files").json()["results"] == []
    assert token.http.get(f"/files/{file['id']}").status_code == 200
    for file_id in ("x", "%00", "a" * 26, "A" * 26):
        assert token.http.get(f"/files/{file_id}").status_code == 404
        assert token.http.delete(f"/files/{file_id}").status_code == 404


def test_a_download_needs_its_signature(token: Token) -> None:
    file, other = upload(token), upload(token)
    url = httpx.URL(file["urls"]["download"])
    asked = dict(url.params)
    assert set(asked) == {"owner", "expiry", "signature"}
    for changed in (
        {"owner": "other"},
        {"expiry": str(int(asked["expiry"]) + 1)},
        {"expiry": "x"},
        {"signature": asked["signature"][::-1]},
        {"signature": ""},
    ):
        answer = httpx.get(url.copy_with(params=asked | changed), trust_env=False)
        assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
    answer = httpx.get(str(url).replace(file["id"], other["id"]), trust_env=False)
    assert answer.status_code == 403


def test_the_list_has_pages(token: Token) -> None:
    ids = [upload(token, b"x")["id"] for _ in range(101)]
    first = token.http.get("/v1/files").json()
    assert [file["id"] for file in first["results"]] == ids[:0:-1]
    second = token.http.get(first["next"]).json()
    assert ([file["id"] for file in second["results"]], second["next"]) == (ids[:1], None)
    for cursor in ("", "x", f"2026-01-01_{ids[0]}", "2026-01-01T00:00:00Z_x", "2026-01-01T00:00:00Z"):
        assert token.http.get("/v1/files", params={"cursor": cursor}).status_code == 422


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([part("content", b"", '; filename="b.wav"')], ("b.wav", "audio/wav", 0)),
        ([part("content", b"text")], ("file", "application/octet-stream", 4)),
        (
            [
                part("content", b"\r\n--", '; filename="é.bin"\r\nContent-Type: Text/X;a=b'),
                part("other", b"ignored"),
            ],
            ("é.bin", "Text/X;a=b", 4),
        ),
        (
            [
                part("type", b"image/webp"),
                part("content", b"12", '; filename="x.zip"\r\nContent-Type: bad'),
                part("filename", b"later\n.zip"),
            ],
            ("later-.zip", "image/webp", 2),
        ),
    ],
)
def test_forms_that_clients_send(token: Token, parts: list[tuple[str, bytes]], expected: tuple[str, str, int]) -> None:
    answer = post(token, multipart(*parts))
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert (file["name"], file["content_type"], file["size"]) == expected
    assert httpx.get(file["urls"]["download"], trust_env=False).content == parts[0 if len(parts) < 3 else 1][1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"hello", "body"),
        (multipart(), "content"),
        (multipart(CONTENT_PART, end="")[:-3], "body"),
        (multipart(part("file", b"x")), "content"),
        (multipart(CONTENT_PART, part("metadata", b"[1]")), "metadata"),
        (multipart(CONTENT_PART, part("metadata", b'{"a": "\\u0000"}')), "body"),
        (multipart(CONTENT_PART, part("type", b"a/b\r\nX: y")), "type"),
        (multipart(CONTENT_PART, part("filename", b"\xff")), "filename"),
        (multipart(CONTENT_PART, part("filename", b"a" * 256)), "filename"),
        (multipart(*[part(str(n), b"") for n in range(101)]), "body"),
    ],
)
def test_forms_that_are_refused_leave_no_file(system: System, token: Token, body: bytes, field: str) -> None:
    answer = post(token, body)
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, field)
    assert rows(system, token) == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "", f"multipart/mixed; boundary={BOUNDARY}"]
)
def test_other_bodies_are_refused(token: Token, kind: str) -> None:
    assert post(token, multipart(CONTENT_PART), kind).status_code == 422


def rows(system: System, token: Token) -> list[tuple[str, str]]:
    """Return the state and key of every file of a token's, whatever the API shows."""
    name = token.http.get("/account").json()["username"]
    with psycopg.connect(system.database_url) as connection:
        return connection.execute(
            "select f.state, f.key from files f join tokens t on t.id = f.owner where t.name = %s", (name,)
        ).fetchall()


def test_a_file_of_the_limit_is_taken_and_a_larger_one_is_not(bounded: System) -> None:
    token = bounded.token()
    assert upload(token, bytes(FILE_BYTES))["size"] == FILE_BYTES
    body = multipart(part("content", bytes(FILE_BYTES + 1)))
    for content in (body, iter([body])):
        answer = post(token, content)
        assert (answer.status_code, answer.json()["detail"]) == (413, f"A file may have at most {FILE_BYTES} bytes.")
    assert token.http.post("/files", files={"content": bytes(10 * FILE_BYTES)}).status_code == 413
    assert [state for state, _ in rows(bounded, token)] == ["stored"]


def test_a_token_may_store_its_quota(bounded: System) -> None:
    token = bounded.token()
    files = [upload(token, bytes(n))["id"] for n in (FILE_BYTES, FILE_BYTES)]
    refused = token.http.post("/files", files={"content": bytes(FILE_BYTES)})
    assert (refused.status_code, refused.json()["detail"]) == (
        413,
        f"Your files would take more than {QUOTA_BYTES} bytes, which is your limit.",
    )
    chunked = post(token, iter([multipart(part("content", bytes(40_000)))]))
    assert chunked.status_code == 201, "it fits, though its length was not announced"
    assert bounded.token().http.post("/files", files={"content": bytes(FILE_BYTES)}).status_code == 201
    assert token.http.delete(f"/files/{files[0]}").status_code == 204
    upload(token, bytes(FILE_BYTES))


def test_a_slow_upload_is_refused_and_leaves_nothing(bounded: System) -> None:
    token = bounded.token()

    def slowly() -> Iterator[bytes]:
        yield multipart(part("content", bytes(50_000)))[:40_000]
        while True:
            time.sleep(0.5)
            yield b"x"

    with suppress(httpx.TransportError):  # it may close the connection while more is under way
        assert post(token, slowly()).status_code == 408
    bounded.until(lambda: rows(bounded, token) == [])


def test_an_upload_whose_client_leaves_is_discarded(bounded: System) -> None:
    token = bounded.token()
    head = [
        "POST /files HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token.text}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        "Content-Length: 90000",
    ]
    with socket.create_connection(("127.0.0.1", bounded.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        connection.sendall(multipart(part("content", bytes(50_000)))[:40_000])
        bounded.until(lambda: [state for state, _ in rows(bounded, token)] == ["arriving"])
    bounded.until(lambda: rows(bounded, token) == [])


async def _sweep(system: System) -> None:
    async with open_record(system.database_url, (system.folder / "files").as_uri()) as record:
        await record.uploads.sweep()


def test_expired_files_are_gone(bounded: System) -> None:
    token = bounded.token()
    file = upload(token)
    bounded.until(lambda: token.http.get(f"/files/{file['id']}").status_code == 404)
    assert token.http.get("/files").json()["results"] == []
    assert httpx.get(file["urls"]["download"], trust_env=False).status_code == 404
    asyncio.run(_sweep(bounded))  # as retention does each minute
    assert rows(bounded, token) == []
    assert not (bounded.folder / "files" / "uploads" / file["id"]).exists()


LIMITS = Limits(file_bytes=1000, quota_bytes=1000)


async def _received(record: Record, owner_id: int, content: bytes) -> tuple[str, File]:
    async with record.uploads.receiving(owner_id, "a.png", "image/png", 1000, LIMITS) as arriving:
        await arriving.write(content)
    return arriving.id, arriving.file


@pytest.mark.anyio
async def test_what_a_gateway_that_died_was_receiving_is_swept(
    record: Record, owner: int, database_url: str, tmp_path: Path
) -> None:
    with pytest.raises(QuotaError):  # the whole quota is taken while the file arrives
        async with record.uploads.receiving(owner, "a.png", "image/png", 1000, LIMITS):
            await _received(record, owner, b"x")
    file_id, file = await _received(record, owner, b"whole, but not kept")
    half = tmp_path / "files" / f"{file.key}#1"
    half.write_bytes(b"ha")
    assert await record.uploads.get(file_id) is None
    assert await record.uploads.sweep() == 0
    with psycopg.connect(database_url) as connection:
        connection.execute("update files set created_at = now() - interval '2 hours'")
    assert await record.uploads.sweep() == 1
    assert not half.exists()
    assert not (tmp_path / "files" / file.key).exists()
    await _received(record, owner, bytes(1000))  # the quota is free again


@pytest.mark.anyio
async def test_an_expired_file_stays_while_a_prediction_needs_it(record: Record, owner: int, database_url: str) -> None:
    file_id, file = await _received(record, owner, b"data")
    assert await record.uploads.keep(file_id, "a.png", "image/png", {}, 3600)
    with psycopg.connect(database_url) as connection:
        connection.execute("update files set expires_at = now()")
    row = await record.predictions.create(new(owner, input_files=(InputFile(("image",), file),)))
    assert row.input_files == (InputFile(("image",), file),)
    assert await record.uploads.sweep() == 0
    assert await record.files.size(file.key) == 4
    await record.predictions.cancel(row.id)
    assert await record.uploads.sweep() == 1
    assert await record.files.size(file.key) is None


@pytest.mark.anyio
async def test_the_files_in_a_predictions_inputs_live_as_long_as_its_data(record: Record, owner: int) -> None:
    file_id, file = await _received(record, owner, b"data")
    inputs = {"input": {"image": file.reference}, "input_files": (InputFile(("image",), file),)}
    row = await record.predictions.create(new(owner, uploads=(file_id,), webhook=None, **inputs))
    await record.predictions.cancel(row.id)
    assert await record.uploads.sweep() == 0
    upload = await record.uploads.get(file_id)
    assert upload is not None
    assert (upload.prediction, upload.expires_at) == (row.id, None)
    assert not await record.uploads.delete(file_id, owner)
    assert await record.retention.remove(0) == 1
    assert await record.uploads.get(file_id) is None
    assert await record.uploads.sweep() == 1
    assert await record.files.size(file.key) is None
    old = await record.predictions.get(row.id)
    assert old is not None
    assert (old.input, old.input_files) == ({}, ())


class Echo(BaseHTTPRequestHandler):
    """A preview server that answers with the input it was given."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_preview_server_is_sent_the_files_that_are_ours(system: System, token: Token) -> None:
    file, theirs = upload(token), upload(system.token())
    with serving(Echo) as port:
        previews = {"GATEWAY_PREVIEWS": json.dumps({FAKE: f"http://127.0.0.1:{port}"})}
        with system.another_process(previews) as url:
            urls = {"a": file["urls"]["get"], "b": theirs["urls"]["get"], "c": "http://example.com/a.png", "d": 3}
            answer = httpx.post(
                f"{url}/models/{FAKE}/preview",
                json={"input": urls},
                headers={"Authorization": f"Bearer {token.text}"},
                trust_env=False,
                verify=NO_TLS,
            )
    shown = answer.json()["input"]
    assert shown["a"] == f"data:image/png;base64,{base64.b64encode(CONTENT).decode()}"
    assert (shown["b"], shown["c"], shown["d"]) == (urls["b"], urls["c"], 3)
