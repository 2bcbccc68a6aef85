"""Long data URLs are taken out of JSON that arrives in chunks, wherever it is cut."""

import base64
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.create_body import LONG_CHARS, Begin, Data, DataUrlScanner, End
from gateway.prediction import Json

steady = settings(derandomize=True, deadline=None, max_examples=200)
PNG = bytes(range(256)) * 80


def encoded(content: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(content).decode()


def scanned(text: bytes, cuts: list[int]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Feed text in chunks. Return it with a number for each long data URL, and their heads and contents."""
    scanner = DataUrlScanner()
    found: list[tuple[str, bytes]] = []
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    for start, end in zip([0, *ends], ends, strict=False):
        for event in scanner.feed(text[start:end]):
            if isinstance(event, Begin):
                found.append((event.head, b""))
            elif isinstance(event, Data):
                found[-1] = (found[-1][0], found[-1][1] + event.data)
            elif isinstance(event, End):
                scanner.kept += f"#{len(found) - 1}".encode()
    return bytes(scanner.kept), found


texts = st.text(max_size=10) | st.sampled_from(
    [
        encoded(PNG),
        encoded(PNG[:-1], "data:audio/x-wav;rate=8;base64,"),
        encoded(PNG[:-2], "data:;base64,"),
        encoded(b"short"),
        "data:" + "x" * LONG_CHARS,
        'a \\"data:image/png;base64,' + "A" * LONG_CHARS,
        '"data:image/png;base64,' + "A" * LONG_CHARS,
        "\\",
    ]
)
values = st.recursive(
    texts | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@steady
@given(values, st.lists(st.integers(0, 10**6), max_size=6), st.booleans())
def test_what_is_taken_out_and_what_is_left_make_the_whole(value: Json, cuts: list[int], escaped: bool) -> None:
    text = json.dumps(value)
    if escaped:
        text = text.replace("/", "\\/").replace("+", "\\u002b").replace("=", "\\u003D")
    kept, found = scanned(text.encode(), cuts)
    long = [f"{head}{base64.b64encode(content).decode()}" for head, content in found]
    restored = re.sub(rb'"#(\d+)"', lambda match: json.dumps(long[int(match[1])]).encode(), kept)
    assert json.loads(restored) == value
    assert all(len(url) >= LONG_CHARS for url in long)
    assert json.dumps(json.loads(kept)).count(";base64,") <= text.count(";base64,") - len(long)


@pytest.mark.parametrize("size", [LONG_CHARS - 1, LONG_CHARS])
def test_only_long_ones_are_taken_out(size: int) -> None:
    head = "data:a/b;base64,"
    url = head + "A" * (size - len(head))
    for cuts in ([], [5], list(range(0, size + 20, 1000))):
        kept, found = scanned(json.dumps([url]).encode(), cuts)
        assert (len(found), len(kept) < 100) == ((1, True) if size == LONG_CHARS else (0, False))


def test_line_breaks_and_missing_padding_are_taken() -> None:
    broken = base64.encodebytes(PNG[:-1]).decode().rstrip("=\n")
    assert scanned(json.dumps(["data:image/png;base64," + broken]).encode(), [])[1] == [
        ("data:image/png;base64,", PNG[:-1])
    ]


@pytest.mark.parametrize("bad", ["!", "=A", "\u00e9", "_", "====", '\\u0000"'])
def test_what_is_not_base64_is_refused(bad: str) -> None:
    text = json.dumps([encoded(PNG) + bad + "AAAA"])
    for cuts in ([], list(range(0, len(text), 100))):
        with pytest.raises(ValueError):
            scanned(text.encode(), cuts)


@steady
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_other_bytes_pass(text: bytes, cuts: list[int]) -> None:
    assert scanned(text, cuts) == (text, [])
