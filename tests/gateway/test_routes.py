"""The routes: who may use them, the form of their responses, and HTTP as RFC 9110 has it."""

import base64
import gzip
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.health import router as operations
from tests.gateway.conftest import OPERATOR
from tests.gateway.processes import FAKE_VERSION, RIFFUSION_VERSION, System, Token

PREFIXES = ["", "/v1", "/v1/v1"]
ROUTES = 25
# Strings that resemble cursors: some have a direction, a time and an id, or two of these.
cursors = st.lists(
    st.sampled_from(
        ["older", "newer", "a" * 26, "2026-01-31T21:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
    )
    | st.none()
    | st.integers()
    | st.text(max_size=5),
    min_size=2,
    max_size=4,
).map(lambda place: base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("="))
many = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that a response is an error in the documented form, and return its body."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    return body


def test_t10_every_route_needs_a_token(token: Token, http: httpx.Client) -> None:
    documented = token.http.get("/openapi.json").json()["paths"]
    routes = [
        (method.upper(), re.sub(r"{\w+}", "x", path)) for path, methods in documented.items() for method in methods
    ]
    assert len(routes) == ROUTES  # so that the document leaves out none
    for method, path in [*routes, ("GET", "/metrics")]:
        for prefix in PREFIXES if path not in ("/openapi.json", "/metrics") else [""]:
            for authorization in (None, "Bearer r8_unknown", "Basic eDp5", token.text):
                headers = {"Authorization": authorization} if authorization else {}
                response = http.request(method, token.url + prefix + path, headers=headers)
                assert error_of(response, 401)["title"] == "Unauthenticated", (method, prefix, path)
    public = {getattr(route, "path", "") for route in operations.routes} - {"/metrics"}
    assert public == {"/health", "/health/live", "/health/ready"}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prediction_from_its_create_to_its_end(token: Token, prefix: str) -> None:
    http = token.http
    created = http.post(f"{prefix}/predictions", json={"version": FAKE_VERSION, "input": {"text": "hi", "files": 0}})
    assert created.status_code == 201
    prediction = created.json()
    assert re.fullmatch("[a-z0-9]{26}", prediction["id"])
    assert created.headers["location"] == prediction["urls"]["get"]
    ended = token.ended(prediction["id"])
    assert (ended["status"], ended["output"], ended["error"]) == ("succeeded", "hi", None)
    assert ended["created_at"] <= ended["started_at"] <= ended["completed_at"]
    assert ended["metrics"]["total_time"] > 0
    assert ended["metrics"]["predict_time"] > 0
    for url in (prediction["urls"]["get"], f"{token.url}{prefix}/predictions/{prediction['id']}"):
        assert http.get(url).json()["status"] == "succeeded"
    cancel = http.post(f"{prefix}/predictions/{prediction['id']}/cancel")
    assert (cancel.status_code, cancel.json()["status"]) == (200, "succeeded")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/nothing", 404), ("GET", "/predictions/", 404), ("GET", "/predictions/%00", 404)),
        *(("GET", "/predictions/%F0%9F%8E%B5", 404), ("POST", "/predictions/x/cancel", 404)),
        *(("PUT", "/predictions", 405), ("GET", "/models/test/none", 404)),
        *(("GET", "/models/test/none/versions", 404),),
        *(("GET", f"/models/test/fake/versions/{RIFFUSION_VERSION}", 404),),
        *(("GET", "/predictions?cursor=", 422), ("GET", "/predictions?cursor=WyJvbGRlciIsMSwyXQ", 422)),
        *(("GET", "/predictions?created_after=yesterday", 422),),
        *(("GET", "/predictions?created_before=0001-01-01T00:00:00%2B14:00", 422),),
        *(("GET", "/web/../settings.py", 404),),
    ],
)
def test_every_error_has_the_documented_form(token: Token, method: str, path: str, status: int) -> None:
    error_of(token.http.request(method, path), status)


@many
@given(
    st.text(max_size=60) | st.datetimes().map(str) | cursors,
    st.sampled_from(["cursor", "created_after", "created_before"]),
)
def test_any_query_is_accepted_or_rejected(token: Token, value: str, name: str) -> None:
    response = token.http.get("/predictions", params={name: value})
    assert response.status_code in (200, 422), response.text


@many
@given(
    st.dictionaries(
        st.sampled_from(
            ["Authorization", "Prefer", "Cancel-After", "Content-Type", "Range", "Last-Event-ID", "X-Other"]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80),
    )
)
def test_any_headers_are_ignored_or_rejected(token: Token, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.strip().encode("latin-1")) for name, value in headers.items()]
    response = token.http.get("/predictions", headers=raw)
    assert response.status_code in (200, 401), response.text
    response = token.http.post("/predictions", headers=raw, content=b'{"input": 5}')
    assert response.status_code in (401, 422), response.text


def test_urls_begin_with_the_host_of_the_request(token: Token) -> None:
    page = token.http.post("/models/test/fake/predictions", json={"input": {}}, headers={"Host": "gateway.example:81"})
    assert {urlsplit(url).netloc for url in page.json()["urls"].values()} == {"gateway.example:81"}
    here = token.http.get(f"/predictions/{page.json()['id']}").json()
    assert {urlsplit(url).netloc for url in here["urls"].values()} == {urlsplit(token.url).netloc}
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}  # of a proxy that is not trusted
    here = token.http.get(f"/predictions/{page.json()['id']}", headers=headers).json()
    assert all(url.startswith(token.url) for url in here["urls"].values())
    odd = token.http.post("/models/test/fake/predictions", json={"input": {}}, headers={"Host": 'a"b'})
    assert {urlsplit(url).netloc for url in odd.json()["urls"].values()} == {urlsplit(token.url).netloc}


def test_the_page_has_a_strict_content_security_policy(system: System, http: httpx.Client) -> None:
    for path in ("/", "/web/index.html"):
        page = http.get(system.url + path, headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*src=)|<style| style=| on\w+=", page.text)
        assert page.headers["x-content-type-options"] == "nosniff"
    error_of(http.get(system.url, headers={"Accept": "application/json"}), 404)
    for path in ("/web/", "/web/..%2Fsettings.py", "/web/../app.py", "/web/%00"):
        assert http.get(system.url + path).status_code == 404


def test_health_and_metrics(token: Token, system: System, http: httpx.Client) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert http.get(system.url + path).status_code == 200
    token.ended(token.create()["id"])
    text = metrics(system, http)
    assert re.search(r'gateway_ended_predictions_total\{model="test/fake",status="succeeded",[^}]*\} [1-9]', text)
    assert re.search(
        rf'gateway_queue_age_seconds\{{model="riffusion/riffusion",version="{RIFFUSION_VERSION}"\}} ', text
    )
    assert re.search(r'gateway_requests_total\{method="POST",route="/models/\{owner\}/\{name\}/predictions"', text)


def test_unknown_inputs_are_named_in_the_logs(token: Token) -> None:
    created = token.create(input={"prompt": "x", "webhook": "y", "logs": ["one"]})
    assert created["logs"] == 'Unknown inputs are ignored: "prompt", "webhook"\n'
    assert token.ended(created["id"])["logs"] == 'Unknown inputs are ignored: "prompt", "webhook"\none\n'


def metrics(system: System, http: httpx.Client) -> str:
    """Return the metrics, which need the operator's token."""
    response = http.get(f"{system.url}/metrics", headers={"Authorization": f"Bearer {OPERATOR}"})
    assert response.status_code == httpx.codes.OK, response.text
    return response.text


def test_a_clients_token_does_not_open_the_metrics(token: Token, system: System, http: httpx.Client) -> None:
    response = token.http.get("/metrics")
    assert (response.status_code, response.json()["title"]) == (401, "Unauthenticated")
    assert "gateway_" not in response.text
    assert (token.http.head("/metrics").status_code, token.http.head("/v1/nothing").status_code) == (401, 404)
    with system.another_gateway({"GATEWAY_METRICS_PUBLIC": "true"}) as url:
        assert "gateway_ended_predictions_total" in http.get(f"{url}/metrics").text


def test_the_log_has_a_line_for_each_request_with_the_id_of_its_prediction(
    token: Token, system: System, http: httpx.Client
) -> None:
    prediction_id = token.create()["id"]
    token.http.get(f"/predictions/{prediction_id}")
    log = next((system.folder / "logs").glob("gateway*"))

    def logged() -> list[dict[str, Any]] | None:
        """Return the lines if there are both, since each is written after its response was sent."""
        lines = [json.loads(line) for line in log.read_text().splitlines() if prediction_id in line]
        requests = [line for line in lines if line["event"] == "request"]
        return requests if len(requests) == 2 else None

    requests = system.until(logged)
    assert [(line["method"], line["status"]) for line in requests] == [("POST", 201), ("GET", 200)]
    assert all(line["prediction"] == prediction_id and line["ms"] >= 0 for line in requests)
    assert token.text not in log.read_text()
    token.http.request("PRAISE", "/predictions/x%0Ay")  # neither this method nor this path is counted or logged
    assert "PRAISE" not in metrics(system, http)


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/", "/web/index.html", "/v1/v1/predictions"])
def test_head_is_get_without_a_body(token: Token, path: str) -> None:
    full, head = token.http.get(path), token.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == full.headers["content-type"]
    assert head.headers["content-length"] == str(len(full.content))


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


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/predictions", "GET, HEAD, POST"), ("/v1/predictions/x", "GET, HEAD"), ("/v1/v1/predictions/x/cancel", "POST")],
)
def test_a_405_names_every_method_of_the_path(token: Token, path: str, allowed: str) -> None:
    for method in ("PUT", "OPTIONS", "TRACE"):
        answer = token.http.request(method, path)
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
