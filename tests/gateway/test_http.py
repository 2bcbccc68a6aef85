"""HTTP as RFC 9110 has it: HEAD, the methods of a path, content negotiation, compressed bodies."""

import gzip
import json
import time

import httpx
import pytest

from tests.gateway.conftest import OPERATOR
from tests.gateway.processes import System, Token
from tests.gateway.test_routes import PREFIXES, error_of, metrics


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/", "/web/index.html", "/v1/v1/predictions"])
def test_head_is_get_without_a_body(token: Token, path: str) -> None:
    full, head = token.http.get(path), token.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == full.headers["content-type"]
    assert head.headers["content-length"] == str(len(full.content))


def test_head_needs_a_token_where_get_does(system: System, token: Token) -> None:
    assert httpx.head(f"{system.url}/v1/models", trust_env=False).status_code == 401
    assert token.http.head("/metrics").status_code == 401
    assert token.http.head("/metrics", headers={"Authorization": f"Bearer {OPERATOR}"}).status_code == 200
    assert token.http.head("/v1/models/test/none").status_code == 404
    assert token.http.head("/v1/nothing").status_code == 404


def test_head_of_a_stream_waits_for_nothing(token: Token, system: System) -> None:
    prediction = token.create(input={"seconds": 600})
    started_s = time.monotonic()
    head = httpx.head(prediction["urls"]["stream"], trust_env=False, timeout=60)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert time.monotonic() - started_s < 10, "a comment keeps a stream open, so it must not have begun"
    assert "gateway_open_streams 0.0" in metrics(system, token.http)
    token.http.post(f"/predictions/{prediction['id']}/cancel")
    forged = prediction["urls"]["stream"].replace(prediction["id"], "a" * 26)
    assert httpx.head(forged, trust_env=False).status_code == 403


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/predictions", "GET, HEAD, POST"),
        ("/predictions/x", "GET, HEAD"),
        ("/predictions/x/cancel", "POST"),
        ("/models/test/fake", "GET, HEAD"),
        ("/models/test/fake/predictions", "POST"),
    ],
)
def test_a_405_names_every_method_of_the_path(token: Token, prefix: str, path: str, allowed: str) -> None:
    for method in ("PUT", "OPTIONS", "TRACE"):
        answer = token.http.request(method, prefix + path)
        error_of(answer, 405)
        assert answer.headers["allow"] == allowed


def test_the_page_is_there_for_everyone_who_accepts_html(system: System, http: httpx.Client) -> None:
    accepted = ("*/*", "TEXT/HTML", "", None, "text/html;q=0.1, application/json", "neither one nor the other")
    java = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
    for accept in (*accepted, java, "application/json", "text/html;q=0", "*/*, text/html;q=0"):
        headers = {} if accept is None else {"Accept": accept}
        request = httpx.Request("GET", system.url + "/?prediction=x", headers=headers)
        status = http.send(request).status_code
        assert status == (200 if accept in (*accepted, java) else 404), accept


def test_a_compressed_body_is_refused_with_a_sentence(token: Token) -> None:
    body = json.dumps({"version": "test/fake", "input": {}}).encode()
    answer = token.http.post("/predictions", content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert "must not be compressed, but its Content-Encoding is gzip" in error_of(answer, 415)["detail"]
    assert answer.headers["accept-encoding"] == "identity"
    plain = token.http.post("/predictions", content=body, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 201
