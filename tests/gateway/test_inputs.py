"""Inputs that name files, wherever these are, and secret inputs: from the create to the Cog server."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.conftest import Databases
from tests.gateway.file_server import FILE_BYTES, PNG, Server, serving
from tests.gateway.processes import FAKE, System, Token, running
from tests.gateway.receiver import Receiver
from tests.gateway.test_uploads import upload

WEBP = b"RIFF\0\0\0\0WEBP" + bytes(1000)
SECRET = "sesame-0123456789"  # noqa: S105


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def seen(name: str, content: bytes, *, data_url: bool = True) -> dict[str, Any]:
    """Return what the fake model says of a file."""
    return {
        "name": name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "data_url": data_url,
    }


def refused(token: Token, **inputs: Any) -> list[tuple[str, str]]:
    """Return the invalid fields of a create that is refused, with what is said of each."""
    before = len(token.http.get("/predictions").json()["results"])
    answer = token.http.post(f"/models/{FAKE}/predictions", json={"input": inputs})
    assert answer.status_code == 422, answer.text
    assert len(token.http.get("/predictions").json()["results"]) == before
    return [(field["field"], field["description"]) for field in answer.json()["invalid_fields"]]


def run(token: Token, **inputs: Any) -> dict[str, Any]:
    return token.ended(token.create(input=inputs)["id"])


def output(token: Token, **inputs: Any) -> Any:
    prediction = run(token, **inputs)
    assert prediction["status"] == "succeeded", prediction
    return prediction["output"]


def error(token: Token, **inputs: Any) -> str:
    prediction = run(token, **inputs)
    assert prediction["status"] == "failed", prediction
    text: str = prediction["error"]
    return text


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "not a uri",
            "",
            "/etc/passwd",
            "file:///etc/passwd",
            "file:uploads/a/b",
            "//example.com/a.png",
            "data:image/png",
        ),
        *("http://127.0.0.1:5851/health-check", "http://localhost/", "http://[::ffff:10.0.0.1]/"),
        *("http://169.254.169.254/latest/meta-data", "https://user:password@example.com/"),
    ],
)
def test_what_is_no_uri_of_a_file_is_refused(token: Token, uri: str) -> None:
    ((field, description),) = refused(token, image=uri)
    assert field == "input.image"
    assert description.startswith("Must ")
    assert description.endswith(f"but is {json.dumps(uri)}")
    assert [field for field, _ in refused(token, images=["https://example.com/a.png", uri])] == ["input.images.1"]


def test_every_invalid_uri_is_named(token: Token) -> None:
    named = [field for field, _ in refused(token, image="x", images=["y", "z"], seconds=-1)]
    assert named == ["input.image", "input.images.0", "input.images.1", "input.seconds"]


def test_a_prediction_may_have_500_files(token: Token) -> None:
    url = upload(token, b"x")["urls"]["get"]
    assert len(output(token, images=[url] * 500)) == 500
    assert refused(token, images=[url] * 501) == [("input.images", "A prediction may have at most 500 files")]


def test_a_small_data_url_stays_as_it_is(token: Token) -> None:
    for url, file in (
        (data_url(b"small"), seen("file.png", b"small")),
        ("data:text/plain;charset=utf-8,a%20b", seen("file.txt", b"a b")),
        ("data:,", seen("file.txt", b"")),
    ):
        prediction = run(token, image=url)
        assert (prediction["input"]["image"], prediction["output"]) == (url, [file])


@pytest.mark.parametrize("slashes", [False, True], ids=["as-python-writes-it", "with-escapes"])
def test_a_large_data_url_becomes_a_file(system: System, token: Token, slashes: bool) -> None:
    urls = {"image": data_url(PNG), "images": [data_url(WEBP * 20, "image/webp"), data_url(b"x" * 20_000, "")]}
    text = json.dumps({"input": urls, "webhook": None})
    if slashes:  # as PHP and .NET write them
        text = text.replace("/", "\\/").replace("+", "\\u002B")
    answer = token.http.post(f"/models/{FAKE}/predictions", content=text)
    assert answer.status_code == 201, answer.text
    created = answer.json()
    ended = token.ended(created["id"])
    assert ended["output"] == [
        *(seen("file.png", PNG), seen("input.webp", WEBP * 20, data_url=False), seen("file.txt", b"x" * 20_000)),
    ]
    for shown in (created, ended, token.http.get("/predictions").json()["results"][0]):
        assert len(json.dumps(shown)) < 5000
        first, second = shown["input"]["image"], shown["input"]["images"][0]
        assert first.startswith(f"{system.url}/outputs/")
        assert httpx.get(first, trust_env=False).content == PNG
        assert httpx.get(second, trust_env=False).content == WEBP * 20
        assert httpx.get(second, trust_env=False).headers["content-type"] == "image/webp"
    assert token.http.get("/files").json()["results"] == [], "it isn't the client's own file"
    again = run(token, image=ended["input"]["image"])
    assert (again["input"]["image"], again["output"]) == (ended["input"]["image"], [seen("file.png", PNG)])


def test_a_large_data_url_in_a_text_is_text(token: Token) -> None:
    url = data_url(PNG[:100_000], "image/png;name=x.png")
    prediction = run(token, text=url)
    assert prediction["input"]["text"] == url
    assert httpx.get(prediction["output"], trust_env=False).content == PNG[:100_000]
    too_large = token.http.post(f"/models/{FAKE}/predictions", json={"input": {"text": data_url(bytes(2 << 20))}})
    assert (too_large.status_code, too_large.json()["title"]) == (413, "Request too large")


def test_a_large_data_url_that_is_refused_leaves_nothing(system: System, token: Token) -> None:
    def keys() -> list[Path]:
        return [path for path in (system.folder / "files").glob("uploads/*/*") if path.is_file()]

    before = keys()
    path = f"/models/{FAKE}/predictions"
    encoded = base64.b64encode(PNG).decode()
    for broken in (encoded[:-20_000] + "!" + encoded, encoded + "A", f"{encoded[:30_000]}==={encoded}"):
        answer = token.http.post(path, json={"input": {"image": f"data:image/png;base64,{broken}"}})
        assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "body")
        assert "base64" in answer.json()["detail"]
    for content, status in (
        (json.dumps({"input": {"image": data_url(PNG), "seconds": -1}}), 422),
        (json.dumps({"input": {"image": data_url(PNG), "images": ["nothing"]}}), 422),
        (json.dumps({"input": {"image": data_url(PNG)}})[:-1], 422),
        (json.dumps({"input": {"image": data_url(PNG)}})[:-100], 422),
        (json.dumps({"input": {"image": data_url(PNG), "text": "x" * (1 << 20)}}), 413),
    ):
        assert token.http.post(path, content=content).status_code == status
    assert token.http.post("/predictions", json={"input": {"image": data_url(PNG)}, "version": "x"}).status_code == 422
    assert keys() == before


def test_an_uploaded_file_is_an_input(token: Token, system: System) -> None:
    file = upload(token, PNG)
    for url in (
        file["urls"]["get"],
        file["urls"]["download"],
        file["urls"]["get"].replace("127.0.0.1", "localhost"),
        f"https://gateway.example/api/v1/files/{file['id']}",  # as a client behind a proxy sees it
    ):
        prediction = run(token, image=url, images=[url])
        assert prediction["input"] == {"image": url, "images": [url]}
        assert prediction["output"] == [seen("file.png", PNG)] * 2
    other = system.token()
    assert refused(other, image=file["urls"]["get"])[0][1].startswith("Must be the URL of a file that exists")
    assert output(other, image=file["urls"]["download"]) == [seen("file.png", PNG)], "the signature is the permission"
    assert refused(token, image=f"{system.url}/v1/files/{'a' * 26}")
    assert refused(token, image=file["urls"]["download"].replace("signature=", "signature=x"))
    token.http.delete(f"/files/{file['id']}")
    assert refused(token, image=file["urls"]["get"])


def test_an_output_is_an_input(token: Token, system: System) -> None:
    earlier = run(token, files=2, bytes=1000)
    audio, picture = earlier["output"]["audio"], earlier["output"]["spectrogram"]
    assert output(token, image=audio, images=[picture]) == [
        *(seen("file.wav", b"w" * 1000), seen("file.jpg", b"j" * 1000)),
    ]
    signature = audio.split("/")[4]
    assert refused(token, image=audio.replace(signature, signature[::-1]))
    assert refused(system.token(), image=f"{system.url}/outputs/{signature}/other/key.wav")


def test_a_file_that_is_deleted_while_its_prediction_waits_fails_it(token: Token) -> None:
    file = upload(token)
    ahead = token.create(input={"seconds": 60})
    token.until(ahead["id"], "processing")
    waiting = token.create(input={"images": [file["urls"]["get"]]})
    token.http.delete(f"/files/{file['id']}")
    token.http.post(f"/predictions/{ahead['id']}/cancel")
    failed = token.ended(waiting["id"])
    assert failed["error"] == "The file of input.images.0 no longer exists: it has expired, or was deleted."


def test_a_name_that_resolves_to_a_private_address_is_not_fetched(token: Token) -> None:
    with serving() as server:
        for host in ("127.1", "2130706433", "localhost.localdomain"):
            said = error(token, image=f"http://{host}:{server.port}/a.png")
            assert said.startswith(f"The file of input.image could not be fetched from {host}: {host} has no ")
        assert server.asked == []


@pytest.fixture(scope="module")
def open_system(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a system that fetches from this machine too."""
    settings = {
        "GATEWAY_INPUT_PRIVATE": "true",
        "GATEWAY_INPUT_S": "3",
        "GATEWAY_FILE_BYTES": str(FILE_BYTES),
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
    }
    with running(tmp_path_factory.mktemp("open"), databases.make(), settings) as system:
        yield system


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_urls_are_fetched_by_the_worker(open_system: System, server: Server) -> None:
    token = open_system.token()
    given = ["/file/a.png", "/file/b%20c.png?x=1#y", "/file/", "/typed/noname", "/redirect/redirect/file/d.webp"]
    found = output(token, image=server.url("/file/é.gif"), images=[server.url(path) for path in given])
    names = [(file["name"], file["data_url"]) for file in found]
    assert names == [
        *(("file.gif", True), ("file.png", True), ("file.png", True), ("file.png", True), ("file.png", True)),
        ("d.webp", False),
    ]
    assert {file["sha256"] for file in found} == {hashlib.sha256(PNG).hexdigest()}
    assert sorted(server.asked) == sorted(
        ["/file/%C3%A9.gif", *given[:1], "/file/b%20c.png?x=1", *given[2:], "/redirect/file/d.webp", "/file/d.webp"]
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/404/a.png", "the answer was 404"),
        ("/500/a.png", "the answer was 500"),
        ("/round/a.png", "it redirects more than 5 times"),
        ("/to/file:///etc/passwd", "the URL is refused: Must be an absolute https or http URL"),
        ("/gzip/a.png", "the answer is compressed with gzip, though it should not be"),
        ("/huge/a.png", f"it has more than {FILE_BYTES} bytes"),
        ("/endless/a.png", f"it has more than {FILE_BYTES} bytes"),
        ("/slow/a.png", "it didn't arrive within 3 seconds"),
    ],
)
def test_a_url_that_cannot_be_fetched_fails_the_prediction(
    open_system: System, server: Server, path: str, reason: str
) -> None:
    said = error(open_system.token(), images=[server.url("/file/a.png"), server.url(path)])
    assert said.startswith(f"The file of input.images.1 could not be fetched from 127.0.0.1: {reason}")
    assert said.endswith(".")


def test_no_connection_fails_the_prediction(open_system: System) -> None:
    with serving() as gone:
        pass
    said = error(open_system.token(), image=gone.url("/a.png"))
    assert said.startswith("The file of input.image could not be fetched from 127.0.0.1: ")


def test_a_cancel_ends_a_fetch(open_system: System, server: Server) -> None:
    token = open_system.token()
    created = token.create(input={"image": server.url("/slow/a.png")})
    open_system.until(lambda: server.asked)
    began_s = time.monotonic()
    token.http.post(f"/predictions/{created['id']}/cancel")
    canceled = token.ended(created["id"])
    assert (canceled["status"], canceled["started_at"]) == ("canceled", None)
    assert not server.may_go_on.is_set()
    assert time.monotonic() - began_s < 60


def test_a_worker_that_dies_while_it_fetches_costs_no_attempt(open_system: System, server: Server) -> None:
    token = open_system.token()
    created = token.create(input={"image": server.url("/slow/a.png")})
    for deaths in range(1, 4):
        open_system.until(lambda: len(server.asked) >= deaths)  # noqa: B023
        open_system.kill("worker")
    server.may_go_on.set()
    ended = token.ended(created["id"])
    assert (ended["status"], ended["output"]) == ("succeeded", [seen("file.png", b"x" + PNG)])


def test_a_large_file_is_served_to_the_model(open_system: System) -> None:
    token = open_system.token()
    content = PNG * 23  # more than fits a request
    assert output(token, image=upload(token, content)["urls"]["get"], images=[data_url(b"small")]) == [
        *(seen("a.png", content, data_url=False), seen("file.png", b"small")),
    ]


def test_a_file_that_an_earlier_worker_was_to_serve_is_served_again(open_system: System) -> None:
    """The Cog server asks for it after the worker has died, and another has adopted the run."""
    token = open_system.token()
    file = token.http.post("/files", files={"content": ("a.webp", WEBP)}).json()
    created = token.create(input={"image": file["urls"]["get"], "seconds": 3})
    token.until(created["id"], "processing")
    open_system.until(lambda: any(created["id"] in asked["path"] for asked in open_system.requests()))
    open_system.kill("worker")
    ended = token.ended(created["id"])
    assert (ended["status"], ended["output"]) == ("succeeded", [seen("a.webp", WEBP, data_url=False)]), ended["error"]
    assert len([asked for asked in open_system.requests() if created["id"] in asked["path"]]) == 2


def test_a_file_that_a_dying_worker_has_served_in_part_is_served_again(open_system: System) -> None:
    """The Cog server's error says that the connection broke, but not of which URL."""
    token = open_system.token()
    content = WEBP + bytes(len(PNG) * 20)  # more than the kernel buffers
    file = token.http.post("/files", files={"content": ("a.webp", content)}).json()
    created = token.create(input={"image": file["urls"]["get"], "pause_s": 3})
    token.until(created["id"], "processing")
    time.sleep(1)  # until it has opened the file
    open_system.kill("worker")
    ended = token.ended(created["id"])
    assert (ended["status"], ended["output"]) == ("succeeded", [seen("a.webp", content, data_url=False)])


def everything_in(database_url: str) -> str:
    """Return the text of all rows of all tables."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("select relname from pg_stat_user_tables").fetchall()
        queries = [f'select t::text from "{name}" t' for (name,) in tables]  # noqa: S608
        return "".join(str(connection.execute(query).fetchall()) for query in queries)


def test_a_secret_is_shown_nowhere(open_system: System, receiver: Receiver) -> None:
    token = open_system.token()
    created = token.create(input={"key": SECRET, "seconds": 2, "text": "open"}, webhook=f"{receiver.url}/hook")
    token.until(created["id"], "processing")
    assert SECRET not in everything_in(open_system.database_url)
    ended = token.ended(created["id"])
    open_system.until(lambda: len(receiver.at("/hook")) >= 3)
    bodies = [delivery.body for delivery in receiver.at("/hook")]
    assert ended["output"] == hashlib.sha256(SECRET.encode()).hexdigest(), "the model got it"
    listed = token.http.get("/predictions").json()["results"][0]
    for shown in (created, ended, listed, *map(json.loads, bodies)):
        assert shown["input"] == {"key": "**********", "seconds": 2, "text": "open"}
    with token.http.stream("GET", ended["urls"]["stream"]) as stream:
        assert SECRET not in stream.read().decode()
    assert SECRET not in everything_in(open_system.database_url)
    with psycopg.connect(open_system.database_url) as connection:
        assert connection.execute("select count(*) from secret_inputs").fetchone() == (0,)
    logs = [path for path in (open_system.folder / "logs").rglob("*") if path.is_file()]
    assert logs
    assert not any(SECRET in path.read_text() for path in logs)


def test_a_secret_survives_a_lost_attempt(open_system: System) -> None:
    token = open_system.token()
    created = token.create(input={"key": SECRET, "seconds": 3})
    token.until(created["id"], "processing")
    open_system.kill("coglet")
    assert token.ended(created["id"])["output"] == hashlib.sha256(SECRET.encode()).hexdigest()


def test_an_invalid_secret_is_not_quoted(token: Token) -> None:
    assert refused(token, key="pw") == [("input.key", "String length must be greater than or equal to 3")]
    assert refused(token, key=12345) == [("input.key", "Invalid type. Expected: string, given: integer")]
