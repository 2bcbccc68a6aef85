"""Thumbnails of outputs, and the compression of lists."""

import asyncio
import base64
import gzip
import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from gateway.prediction import File
from gateway.thumbnails import SIZE_PX, Thumbnails
from tests.gateway.processes import Token
from tests.gateway.test_routes import error_of

BIG_PX = 512
KEPT = 3
HUGE_PX = 20_000  # 400 megapixels, of which a PNG is small if they are all the same


def picture(mode: str, kind: str, size_px: int = BIG_PX) -> bytes:
    written = io.BytesIO()
    Image.new(mode, (size_px, size_px), "purple" if mode != "1" else 1).save(written, kind)
    return written.getvalue()


class Store:
    """Has one file, and counts how often it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0
        self.thumbnails = Thumbnails(self.read, KEPT)

    async def read(self, _key: str) -> AsyncIterator[bytes]:
        self.reads += 1
        yield self.data[:100]
        yield self.data[100:]

    def thumbnail(self, name: str = "a") -> str:
        return asyncio.run(self.thumbnails.of(File(f"{name}/b/c.png", "c.png", "image/png", len(self.data))))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("L", "JPEG"), ("RGB", "WEBP")]
)
def test_an_image_becomes_a_small_webp(mode: str, kind: str) -> None:
    head, _, data = Store(picture(mode, kind)).thumbnail().partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert small.size == SIZE_PX
        r, g, b = small.convert("RGB").getpixel((9, 9))  # type: ignore[misc]
        assert mode == "L" or (g < 10 and abs(r - b) < 10 and r > 110)


def test_a_thumbnail_is_made_once_as_long_as_it_is_kept() -> None:
    store = Store(picture("RGB", "PNG", 8))
    assert store.thumbnail() == store.thumbnail()
    assert store.reads == 1
    for name in ("b", "c", "a", "d", "a"):
        store.thumbnail(name)
    assert store.reads == 4
    store.thumbnail("b")  # had to make room for d
    assert store.reads == 5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        picture("RGB", "PNG")[:500],
        picture("1", "PNG", HUGE_PX),
        b"<svg></svg>",
        picture("RGB", "PPM"),
    ],
    ids=["empty", "text", "cut off", "too many pixels", "SVG", "a format that browsers can't show"],
)
def test_a_file_that_is_no_image_for_a_page_has_no_thumbnail(data: bytes) -> None:
    store = Store(data)
    assert store.thumbnail() == ""
    assert store.thumbnail() == ""
    assert store.reads == 1


def test_the_route_answers_for_ones_own_predictions(token: Token) -> None:
    made = token.run(files=1)
    answer = token.http.get("/v1/thumbnails", params={"ids": f"{made['id']},{'a' * 26}"})
    assert answer.json() == {}  # its file is no image
    assert answer.headers["cache-control"].startswith("private, ")
    for ids in ("", "x", "A" * 26, ",".join(["a" * 26] * 101)):
        error_of(token.http.get("/v1/thumbnails", params={"ids": ids}), 422)
    error_of(token.http.get("/v1/thumbnails", params={"ids": made["id"]}, headers={"Authorization": ""}), 401)


@pytest.mark.parametrize("path", ["/predictions", "/v1/models"])
def test_lists_are_compressed_for_those_who_accept_it(token: Token, path: str) -> None:
    for _ in range(3):
        token.create()
    plain = token.http.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with token.http.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) == len(raw) < len(plain.content) / 2
    assert gzip.decompress(raw)[:9] == plain.content[:9]
