"""The preview of deforum's motion and prompts, as the page requests it at every key press."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from local.preview import MAX_BODY_BYTES, Handler, preview
from tests.gateway.receiver import serving

INPUT = {"max_frames": 120, "animation_prompts": "0: a | 50: b", "zoom": "0: (1 + 0.123456789*t)", "fps": 20}


def test_a_preview_has_the_values_of_every_motion_and_the_prompts() -> None:
    shown = preview(INPUT)
    assert shown["frames"] == 120
    assert shown["prompts"] == [{"frame": 0, "text": "a"}, {"frame": 50, "text": "b"}]
    assert shown["errors"] == {}
    assert {name: len(values) for name, values in shown["curves"].items()} == dict.fromkeys(
        ("angle", "zoom", "translation_x", "translation_y"), 120
    )
    assert shown["curves"]["zoom"][:3] == [1, 1.12346, 1.24691]


def test_an_invalid_input_has_an_error_and_hides_no_other() -> None:
    shown = preview(INPUT | {"max_frames": 7, "zoom": "0: (foo), 5: (0)", "animation_prompts": "0: a | 0: b"})
    assert shown["curves"].keys() == {"angle", "translation_x", "translation_y"}
    assert shown["prompts"] == []
    assert shown["errors"].keys() == {"max_frames", "zoom", "animation_prompts"}
    assert [line.split(":")[0] for line in shown["errors"]["zoom"].split("\n")] == [
        "zoom, keyframe 0",
        "zoom, keyframe 5",
    ]


@pytest.fixture
def port() -> Iterator[int]:
    with serving(Handler) as port:
        yield port


def posted(port: int, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/", body, headers)
    response = connection.getresponse()
    answer = response.status, json.load(response)
    connection.close()
    return answer


def test_the_server_responds_with_the_preview(port: int) -> None:
    assert posted(port, json.dumps({"input": INPUT}).encode()) == (200, preview(INPUT))


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'{"input": []}', b'{"input": "zoom"}', b'{"zoom": "0:(1)"}'])
def test_a_body_without_an_input_is_an_error(port: int, body: bytes) -> None:
    assert posted(port, body) == (422, {"detail": 'the body must be JSON of the form {"input": {...}}'})


def test_a_body_that_is_too_long_is_not_read(port: int) -> None:
    status, answer = posted(port, b"", **{"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert (status, answer) == (413, {"detail": f"the body must have at most {MAX_BODY_BYTES} bytes"})
