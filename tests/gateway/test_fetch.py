"""Files are fetched from public addresses only, whatever a name server or a redirect says."""

import asyncio
from collections.abc import Iterable, Iterator

import httpcore
import pytest

from gateway.addresses import AddressError, PublicOnly
from gateway.media_types import UNKNOWN
from gateway.work.fetch import Budget, Content, Fetcher, FetchError, typed
from tests.gateway.file_server import PNG, Server, serving

NAMES = {
    "public.example": ["1.1.1.1"],
    "inside.example": ["10.0.0.1"],
    "mixed.example": ["10.0.0.1", "::127.0.0.1", "1.1.1.1"],
    "metadata.example": ["169.254.169.254"],
    "nat64.example": ["64:ff9b::a00:1", "64:ff9b:1::101:101"],
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


class Rewired(httpcore.AsyncNetworkBackend):
    """A network whose every address is a server of the test's, and which remembers them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._real = httpcore.AnyIOBackend()
        self.to: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,  # noqa: ARG002
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.to.append(host)
        return await self._real.connect_tcp("127.0.0.1", self._port, timeout, local_address, socket_options)


def fetch(server: Server, url: str, file_bytes: int = 10**9, budget: int = 10**9) -> tuple[list[str], Content, bytes]:
    """Fetch a URL. Return the addresses that were connected to, and the file."""

    async def run() -> tuple[list[str], Content, bytes]:
        network = Rewired(server.port)

        async def resolve(host: str, _port: int) -> list[str]:
            return NAMES[host]

        async with httpcore.AsyncConnectionPool(network_backend=PublicOnly(False, network, resolve)) as pool:
            content = await Fetcher(pool, file_bytes=file_bytes, private=False).fetch(url, Budget(budget))
            try:
                return network.to, content, b"".join([chunk async for chunk in content.read()])
            finally:
                content.close()

    return asyncio.run(run())


def refusal(server: Server, url: str, file_bytes: int = 10**9, budget: int = 10**9) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(server, url, file_bytes, budget)
    return str(caught.value)


def test_a_public_name_is_fetched(server: Server) -> None:
    to, content, data = fetch(server, "http://public.example/file/a.png")
    assert (to, content.name, content.media_type, content.size, data) == (
        *(["1.1.1.1"], "a.png", "image/png", len(PNG), PNG),
    )
    assert fetch(server, "http://mixed.example/file/a.png")[0] == ["1.1.1.1"]


@pytest.mark.parametrize("name", ["inside.example", "metadata.example", "nat64.example"])
def test_a_name_of_a_private_address_is_not_connected_to(server: Server, name: str) -> None:
    assert refusal(server, f"http://{name}/file/a.png") == f"{name} has no public address"
    assert server.asked == []


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("http://inside.example/file/a.png", "inside.example has no public address"),
        ("//inside.example/file/a.png", "inside.example has no public address"),
        ("http://127.0.0.1/file/a.png", "the URL is refused: Must not be a private address"),
        ("http://[::127.0.0.1]/file/a.png", "the URL is refused: Must not be a private address"),
        ("http://user@public.example/file/a.png", "the URL is refused: Must not contain a user name or password"),
        ("data:text/plain,x", "the URL is refused: Must be an absolute https or http URL"),
    ],
)
def test_each_redirect_is_checked(server: Server, to: str, said: str) -> None:
    assert refusal(server, f"http://public.example/to/{to}") == said
    assert server.asked == [f"/to/{to}"]


def test_a_name_is_resolved_once_for_the_check_and_the_connection(server: Server) -> None:
    """A second time it might have another address. Webhooks are sent over such a network too."""
    answers = [["10.0.0.1", "1.1.1.1"], ["127.0.0.1"]]
    network = Rewired(server.port)

    async def rebinding(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    async def connect() -> None:
        backend = PublicOnly(private=False, backend=network, resolve=rebinding)
        await (await backend.connect_tcp("rebinding.example", 443)).aclose()
        with pytest.raises(AddressError, match=r"rebinding\.example has no public address"):
            await backend.connect_tcp("rebinding.example", 443)

    asyncio.run(connect())
    assert network.to == ["1.1.1.1"]


def test_the_files_of_a_prediction_have_a_limit_together(server: Server) -> None:
    said = refusal(server, "http://public.example/file/a", budget=1000)
    assert said == "the prediction's files are too large together"
    assert refusal(server, "http://public.example/file/a", 1000) == "it has more than 1000 bytes"


@pytest.mark.parametrize(
    ("name", "media_type", "begin", "expected"),
    [
        ("a.png", "image/png", b"", ("a.png", "image/png")),
        ("a.PNG", "", b"", ("a.PNG", "image/png")),
        ("upload", UNKNOWN, b"\x89PNG\r\n\x1a\n", ("upload.png", "image/png")),
        ("upload", "IMAGE/JPEG; q=1", b"", ("upload.jpg", "image/jpeg")),
        ("", UNKNOWN, b"RIFF\0\0\0\0WAVE", ("file.wav", "audio/wav")),
        ("a.safetensors", UNKNOWN, b"", ("a.safetensors", UNKNOWN)),
        ("..", "not a type", b"", ("file", UNKNOWN)),
        ("a/b\\c\n.txt", "text/plain", b"", ("a-b-c-.txt", "text/plain")),
        ("x" * 200 + ".mp4", "", b"", ("x" * 96 + ".mp4", "video/mp4")),
    ],
)
def test_names_and_types(name: str, media_type: str, begin: bytes, expected: tuple[str, str]) -> None:
    assert typed(name, media_type, begin) == expected
