"""How the headers and the body of a create request are parsed, without a server.

Long data URLs are taken out of JSON that arrives in chunks, wherever it is cut.
"""

import base64
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import create, inputs
from gateway.api.create_body import LONG_CHARS, Begin, Data, DataUrlScanner, End
from gateway.api.errors import Refusal
from gateway.catalog_files import CatalogFiles
from gateway.prediction import Json
from gateway.webhooks.rules import EVENTS

CATALOG = CatalogFiles(Path(__file__).with_name("catalog.json")).load()
DEFORUM = CATALOG.models["deforum/deforum_stable_diffusion"].latest
RIFFUSION = CATALOG.models["riffusion/riffusion"].latest

steady = settings(derandomize=True, deadline=timedelta(seconds=2))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def refusal(body: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        create.parse_body(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.status == 422
    return caught.value


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("respond-async", 0),
        ("wait", 55),  # always shorter than the clients' read timeout
        *(("wait=60", 55), ("wait=2", 2), ("WAIT = 7", 7), ("wait=0", 1), ("wait=99999", 55)),
        *(("respond-async, wait=3", 3), ("wait=soon", 0), ("wait=-1", 0), ("wait=1.5", 0), ("wait=\u0663", 0)),
        *(("wait=" + "9" * 5000, 0),),
    ],
)
def test_a_prefer_header_gives_the_wait(header: str, seconds: float) -> None:
    assert create.parse_wait(header, 55) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), (" 5 S ", 5), ("1h30m45s", 5445), ("2h30m", 9000)),
        *(("1m30s", 90), ("1h5s", 3605), ("0h0m9s", 9), ("1H 30M", 5400), ("168h", 7 * 86400), ("00090", 90)),
    ],
)
def test_a_cancel_after_header_gives_the_deadline(header: str, seconds: float) -> None:
    assert create.parse_deadline(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        *("", "0", "4", "4s", "soon", "-90", "1e3", "1.5m", "1d", "9" * 400, "8000h", "\u0669\u0660"),
        *("90.5s", "PT5M", "300000ms"),
        *("1h1h", "30s1m", "1h30", "h", "hms", "168h1s", "1 2s", "\u0669\u0660s"),
    ],
)
def test_an_invalid_cancel_after_header_is_rejected(header: str) -> None:
    with pytest.raises(Refusal, match="Cancel-After: Must be a time from 5 seconds to 7 days"):
        create.parse_deadline(header)


@pytest.mark.parametrize(
    ("given", "events"),
    [
        *((None, EVENTS), ([], EVENTS), ("completed", ("completed",))),
        *(("start,completed", ("start", "completed")), (["completed", "start"], ("start", "completed"))),
        *((" logs , output ", ("output", "logs")),),
    ],
)
def test_events_may_be_a_string_or_an_array(given: object, events: tuple[str, ...]) -> None:
    body = {"input": {}, "webhook": "https://example.com", "webhook_events_filter": given}
    assert create.parse_body(json.dumps(body).encode()).events == events


@pytest.mark.parametrize("given", ["done", ["completed", "done"], [1], 5, {"start": True}, "start;completed"])
def test_unknown_events_are_rejected(given: object) -> None:
    wrong = refusal({"input": {}, "webhook_events_filter": given})
    assert wrong.detail.startswith("- webhook_events_filter: Must be some of start, output, logs, completed, but is ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *((b"", "body"), (b"{", "body"), (b"[]", "body"), (b'{"input": NaN}', "body")),
        *((b'{"input": {"a": 1e999}}', "body"), (b'{"input": {"a": "\\u0000"}}', "body")),
        *((b'{"input": {"a": "\\ud800"}}', "body"), (b'{"input": {"\\ud800": 1}}', "body")),
        (b"\xff\xfe", "body"),
        (b"[" * 1_000_000, "body"),
        *((b'{"input": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}", "body"), (b"9" * 5000, "body")),
        *((b"{}", "input"), (b'{"input": [1]}', "input"), (b'{"input": null}', "input")),
        *((b'{"input": {}, "version": 5}', "version"), (b'{"input": {}, "stream": "yes"}', "stream")),
        (b'{"input": {}, "webhook": ["https://example.com"]}', "webhook"),
    ],
)
def test_an_invalid_body_is_rejected_with_the_name_of_the_field(body: bytes, field: str) -> None:
    assert [wrong.field for wrong in refusal(body).invalid_fields] == [field]


def test_an_empty_array_as_php_encodes_an_empty_object_is_accepted() -> None:
    assert create.parse_body(b'{"input": []}').input == {}


@steady
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_parsed_or_rejected(body: bytes) -> None:
    try:
        create.parse_body(body)
    except Refusal as error:
        assert error.status == 422
        assert isinstance(error.body()["detail"], str)


@steady
@given(st.dictionaries(st.sampled_from([*DEFORUM.inputs, "other"]), json_values, max_size=6))
def test_any_inputs_are_accepted_or_rejected_with_a_message_for_each(given_inputs: dict[str, Json]) -> None:
    try:
        kept = inputs.verified(DEFORUM, given_inputs)
    except Refusal as error:
        assert error.detail == "".join(f"- {wrong.field}: {wrong.description}\n" for wrong in error.invalid_fields)
        assert all(wrong.field.startswith("input.") for wrong in error.invalid_fields)
    else:
        assert kept == {k: v for k, v in given_inputs.items() if k in DEFORUM.inputs and v is not None}


def test_unknown_inputs_and_nulls_are_dropped_and_whole_numbers_become_integers() -> None:
    kept = inputs.verified(DEFORUM, {"fps": 15.0, "seed": None, "zoom": None, "unknown": 1})
    assert kept == {"fps": 15}
    assert isinstance(kept["fps"], int)


thorough = settings(derandomize=True, deadline=None, max_examples=200)
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


@thorough
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


@thorough
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_other_bytes_pass(text: bytes, cuts: list[int]) -> None:
    assert scanned(text, cuts) == (text, [])
