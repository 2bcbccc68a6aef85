"""Output files in a bucket, on a real S3 server: rclone's, over a folder."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.record import open_record
from gateway.record.files import Files
from tests.gateway import s3, staging
from tests.gateway.conftest import Databases
from tests.gateway.processes import CATALOG, gateway_in_thread
from tests.gateway.recording import create_owner, new

URL = "s3://bucket/files"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an S3 server with an empty bucket, set the variables with its keys, and return its address."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "buckets" / "bucket").mkdir(parents=True)
    with s3.serving(folder) as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3.KEYS, "AWS_ENDPOINT": url}.items():
            patch.setenv(name, value)
        yield url


@pytest.fixture
def files(server: str) -> Files:
    return Files(URL)


async def content(files: Files, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in files.read(key, start, end)])


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["bucket", "folder"])
async def test_files_are_stored_read_and_deleted(server: str, tmp_path: Path, kind: str) -> None:
    files = Files(URL if kind == "bucket" else tmp_path.as_uri())
    data = bytes(range(256)) * 5000  # more than one chunk
    file = await files.put("one", "output.wav", "audio/wav", data)
    empty = await files.put("one", "empty.bin", "application/octet-stream", b"")
    assert await content(files, file.key) == data
    assert await content(files, file.key, 10, 20) == data[10:20]
    assert await content(files, file.key, 1_279_990) == data[1_279_990:]
    assert await content(files, empty.key) == b""
    assert await files.size(file.key) == len(data)
    assert sorted((await files.by_prediction())["one"]) == sorted([file.key, empty.key])
    assert (await files.presigned(file.key, 60) is None) == (kind == "folder")
    await files.delete([file.key, empty.key, file.key])
    assert await files.size(file.key) is None
    with pytest.raises(FileNotFoundError):
        await content(files, file.key)
    assert "one" not in await files.by_prediction()


@pytest.mark.anyio
async def test_files_without_a_prediction_are_swept_from_a_bucket(files: Files, database_url: str) -> None:
    async with open_record(database_url, URL) as record:
        row = await record.predictions.create(new(await create_owner(record)))
        left = await files.put(row.id, "left.bin", "application/octet-stream", b"data")
        assert await record.retention.sweep_files() == 0  # the output of the prediction may name it soon
        await record.predictions.cancel(row.id)
        assert await record.retention.sweep_files() == 1
        assert await files.size(left.key) is None


def test_requests_without_a_token_are_redirected_to_the_bucket_unless_redirects_are_off(
    server: str, databases: Databases, tmp_path: Path, http: httpx.Client
) -> None:
    database_url = databases.make()

    async def store() -> tuple[str, dict[str, str]]:
        """Return a prediction whose output a worker has stored in the bucket, and its owner's token."""
        async with open_record(database_url, URL) as record:
            token, secret = await record.tokens.create("test")
            async with staging.running(record, token.id, tmp_path / "journal", ()) as harness, harness.worker():
                return (await harness.run(files=1, bytes=1000)).id, {"Authorization": f"Bearer {secret}"}

    prediction_id, token = asyncio.run(store())
    environment = {"GATEWAY_DATABASE_URL": database_url, "GATEWAY_FILES_URL": URL, "GATEWAY_CATALOG": str(CATALOG)}
    with gateway_in_thread(environment) as url:
        output = http.get(f"{url}/predictions/{prediction_id}", headers=token).json()["output"]
        assert output.startswith(f"{url}/outputs/")
        redirect = http.get(output)
        assert redirect.status_code == 307
        assert redirect.headers["location"].startswith(f"{server}/bucket/files/{prediction_id}/")
        assert redirect.headers["access-control-allow-origin"] == "*"
        whole = http.get(output, follow_redirects=True)
        assert (whole.status_code, len(whole.content)) == (200, 1000)
        part = http.get(output, headers={"Range": "bytes=0-9"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, whole.content[:10])
        # A client that sends its token along gets the file itself. HEAD is answered here too.
        with_token = http.get(output, headers=token)
        assert (with_token.status_code, with_token.content) == (200, whole.content)
        head = http.head(output)
        assert (head.status_code, head.headers["content-length"]) == (200, "1000")
        signature = output.split("/outputs/")[1].split("/")[0]
        assert http.get(output.replace(signature, signature[::-1])).status_code == 403
        for path in ("/", "/web/index.html"):  # the page may play what is in the bucket
            policy = http.get(url + path, headers=HTML).headers["content-security-policy"]
            sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
            for kind in ("media-src", "img-src", "connect-src"):
                assert sources[kind].split()[-1] == server
            assert server not in sources["script-src"] + sources["default-src"]
    with gateway_in_thread(environment | {"GATEWAY_FILE_REDIRECTS": "false"}) as url:
        output = http.get(f"{url}/predictions/{prediction_id}", headers=token).json()["output"]
        part = http.get(output, headers={"Range": "bytes=0-9"})
        assert (part.status_code, len(part.content), part.headers["content-range"]) == (206, 10, "bytes 0-9/1000")
        policy = http.get(url, headers=HTML).headers["content-security-policy"]
        assert "media-src 'self' data: blob:;" in policy
