"""How the headers and the body of a create request are parsed, without a server."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import create, inputs
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
