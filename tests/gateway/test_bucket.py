"""Output files in a bucket, on a real S3 server: rclone's, over a folder."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.prediction import Status
from gateway.record import Record, open_record
from gateway.record.files import Files
from tests.gateway import s3
from tests.gateway.conftest import Databases
from tests.gateway.processes import PATIENCE_S, System, running
from tests.gateway.recording import new, owner

URL = "s3://bucket/files"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an S3 server with an empty bucket, and give its address."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "buckets" / "bucket").mkdir(parents=True)
    with s3.serving(folder) as url:
        yield url


@pytest.fixture
def files(server: str, monkeypatch: pytest.MonkeyPatch) -> Files:
    for name, value in {**s3.KEYS, "AWS_ENDPOINT": server}.items():
        monkeypatch.setenv(name, value)
    return Files(URL)


@pytest.fixture(scope="module")
def stored(databases: Databases, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a system that keeps its files in the bucket."""
    settings = {**s3.KEYS, "AWS_ENDPOINT": server, "GATEWAY_FILES_URL": URL}
    with running(tmp_path_factory.mktemp("system"), databases.make(), settings) as system:
        yield system


async def content(files: Files, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in files.read(key, start, end)])


def test_a_bucket_keeps_reads_and_deletes_files(files: Files) -> None:
    async def test() -> None:
        data = bytes(range(256)) * 5000  # more than one chunk
        file = await files.put("one", "output.wav", "audio/wav", data)
        empty = await files.put("one", "empty.bin", "application/octet-stream", b"")
        assert await content(files, file.key) == data
        assert await content(files, file.key, 10, 20) == data[10:20]
        assert await content(files, file.key, 1_279_990) == data[1_279_990:]
        assert await content(files, empty.key) == b""
        assert await files.size(file.key) == len(data)
        assert (await files.by_prediction())["one"] == sorted([file.key, empty.key])
        await files.delete([file.key, empty.key, file.key])
        assert await files.size(file.key) is None
        with pytest.raises(FileNotFoundError):
            await content(files, file.key)
        assert "one" not in await files.by_prediction()

    asyncio.run(test())


def test_a_presigned_url_opens_one_file_without_a_token(files: Files, server: str) -> None:
    async def prepare() -> tuple[str, str]:
        file = await files.put("two", "output.wav", "audio/wav", bytes(1000))
        url = await files.presigned(file.key, 3600)
        assert url is not None
        assert await files.origin() == server
        return url, file.key

    url, key = asyncio.run(prepare())
    assert url.startswith(f"{server}/bucket/files/{key}?")
    whole = httpx.get(url, trust_env=False)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, bytes(1000), "audio/wav")
    part = httpx.get(url, headers={"Range": "bytes=990-"}, trust_env=False)
    assert (part.status_code, part.content) == (206, bytes(10))
    assert httpx.get(url.partition("?")[0], trust_env=False).status_code in (400, 403)
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1"), trust_env=False).status_code == 403


def test_what_no_prediction_has_is_swept_from_a_bucket(files: Files, database_url: str) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        left = await files.put(row.id, "left.bin", "application/octet-stream", b"data")
        assert await it.retention.sweep_files() == 0  # it may be about to be named
        ended = await it.predictions.cancel(row.id, row.owner)
        assert ended is not None
        assert ended.status is Status.CANCELED
        assert await it.retention.sweep_files() == 1
        assert await files.size(left.key) is None

    async def run() -> None:
        async with open_record(database_url, URL) as it:
            await test(it)

    asyncio.run(run())


def get(url: str, **options: Any) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=PATIENCE_S, **options)


def test_clients_are_sent_to_the_bucket(stored: System, server: str) -> None:
    token = stored.token()
    prediction = token.ended(token.create(input={"files": 1, "bytes": 1000})["id"])
    assert prediction["status"] == "succeeded", prediction
    output = prediction["output"]
    assert output.startswith(f"{stored.url}/outputs/")
    sent = get(output)
    assert sent.status_code == 307
    assert sent.headers["location"].startswith(f"{server}/bucket/files/{prediction['id']}/")
    assert sent.headers["access-control-allow-origin"] == "*"
    whole = get(output, follow_redirects=True)
    assert (whole.status_code, len(whole.content)) == (200, 1000)
    part = get(output, headers={"Range": "bytes=0-9"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, whole.content[:10])
    # A client that sends its token along gets the file itself; HEAD is answered here too.
    with_token = get(output, headers={"Authorization": f"Bearer {token.text}"})
    assert (with_token.status_code, with_token.content) == (200, whole.content)
    head = httpx.head(output, trust_env=False)
    assert (head.status_code, head.headers["content-length"]) == (200, "1000")
    signature = output.split("/outputs/")[1].split("/")[0]
    assert get(output.replace(signature, signature[::-1])).status_code == 403


def test_files_pass_through_where_clients_cannot_reach_the_bucket(stored: System) -> None:
    token = stored.token()
    prediction = token.ended(token.create(input={"files": 1, "bytes": 1000})["id"])
    with stored.another_gateway({"GATEWAY_FILE_REDIRECTS": "false"}) as url:
        part = get(prediction["output"].replace(stored.url, url), headers={"Range": "bytes=0-9"})
        assert (part.status_code, len(part.content), part.headers["content-range"]) == (206, 10, "bytes 0-9/1000")
        policy = get(url, headers={"Accept": "text/html"}).headers["content-security-policy"]
        assert "media-src 'self' data: blob:;" in policy


def test_the_page_may_play_what_is_in_the_bucket(stored: System, server: str) -> None:
    for path in ("/", "/web/index.html"):
        policy = get(stored.url + path, headers={"Accept": "text/html"}).headers["content-security-policy"]
        sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        for kind in ("media-src", "img-src", "connect-src"):
            assert sources[kind].split()[-1] == server
        assert server not in sources["script-src"] + sources["default-src"]
