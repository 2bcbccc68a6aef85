"""The routes: who may ask, what is answered, in which form."""

import base64
import json
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.health import router as operations
from tests.gateway.conftest import OPERATOR
from tests.gateway.processes import DEFORUM_VERSION, FAKE_VERSION, RIFFUSION_VERSION, System, Token

PREFIXES = ["", "/v1", "/v1/v1"]
ROUTES = [
    ("GET", "/predictions"),
    ("POST", "/predictions"),
    ("GET", f"/predictions/{'a' * 26}"),
    ("POST", f"/predictions/{'a' * 26}/cancel"),
    ("GET", "/models"),
    ("GET", "/models/test/fake"),
    ("GET", "/models/test/fake/versions"),
    ("GET", f"/models/test/fake/versions/{FAKE_VERSION}"),
    ("GET", "/models/test/fake/openapi.json"),
    ("POST", "/models/test/fake/predictions"),
    ("GET", "/models/test/fake/readme"),
    ("GET", "/models/test/fake/examples"),
    ("GET", "/deployments"),
    ("GET", "/deployments/test/deployed"),
    ("POST", "/deployments/test/deployed/predictions"),
    ("GET", "/collections"),
    ("GET", "/hardware"),
    ("GET", "/trainings"),
    ("GET", "/webhooks/default/secret"),
    ("GET", "/account"),
    ("GET", "/files"),
    ("POST", "/files"),
    ("GET", f"/files/{'a' * 26}"),
    ("DELETE", f"/files/{'a' * 26}"),
]
BARE_ONLY = [("GET", "/openapi.json"), ("GET", "/metrics")]
# What looks like a cursor: some have a direction, a time and an id, or two of these.
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


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return an error's body, which has the form of all errors."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    return body


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *BARE_ONLY])
def test_without_a_token_every_route_answers_401(system: System, method: str, path: str) -> None:
    for prefix in PREFIXES if (method, path) in ROUTES else [""]:
        for headers in ({}, {"Authorization": "Bearer r8_unknown"}, {"Authorization": "Basic eDp5"}):
            answer = httpx.request(method, system.url + prefix + path, headers=headers, trust_env=False)
            assert error_of(answer, 401)["title"] == "Unauthenticated"


def test_no_route_is_forgotten_above(token: Token) -> None:
    known = {re.sub(r"/test/\w+|/[a-z0-9]{26,}", "/{}", path) for _, path in ROUTES}
    document = token.http.get("/openapi.json").json()
    templates = {re.sub(r"/\{owner\}/\{name\}|/\{\w+\}", "/{}", path) for path in document["paths"]}
    assert templates - {"/openapi.json"} <= known
    assert {getattr(route, "path", "") for route in operations.routes} == {
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
    }


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prediction_from_create_to_end(token: Token, prefix: str) -> None:
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
    canceled = http.post(f"{prefix}/predictions/{prediction['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "succeeded")


def test_the_version_may_be_named_by_model_or_deployment(token: Token) -> None:
    for path in ("/models/test/fake/predictions", "/deployments/test/deployed/predictions"):
        prediction = token.http.post(path, json={"input": {}}, headers={"Prefer": "wait=50"}).json()
        assert (prediction["model"], prediction["version"]) == ("test/fake", FAKE_VERSION)
        assert prediction["status"] == "succeeded"
    for path in ("/models/test/none/predictions", "/deployments/test/fake/predictions"):
        error_of(token.http.post(path, json={"input": {}}), 404)


def test_a_wait_answers_with_the_output_or_with_starting(token: Token) -> None:
    done = token.http.post("/predictions", json={"version": "test/fake", "input": {}}, headers={"Prefer": "wait"})
    assert (done.status_code, done.json()["status"]) == (201, "succeeded")
    body = {"version": "test/fake", "input": {"seconds": 600}}
    ran_out = token.http.post("/predictions", json=body, headers={"Prefer": "wait=1"})
    assert (ran_out.status_code, ran_out.json()["status"]) == (202, "starting")
    token.http.post(f"/predictions/{ran_out.json()['id']}/cancel")
    assert token.ended(ran_out.json()["id"])["status"] == "canceled"


def test_another_token_sees_nothing(token: Token, system: System) -> None:
    prediction_id = token.create()["id"]
    other = system.token().http
    for method, path in (("GET", f"/predictions/{prediction_id}"), ("POST", f"/predictions/{prediction_id}/cancel")):
        assert error_of(other.request(method, path), 404)["detail"] == "The requested resource could not be found."
    assert other.get("/predictions").json()["results"] == []


@pytest.mark.parametrize(
    ("version", "given", "said"),
    [
        (DEFORUM_VERSION, {"fps": 61}, "- input.fps: Must be less than or equal to 60"),
        (DEFORUM_VERSION, {"max_frames": 99}, "- input.max_frames: Must be greater than or equal to 100"),
        (RIFFUSION_VERSION, {"seed_image_id": "x"}, "- input.seed_image_id: Must be one of the following"),
    ],
)
def test_what_the_schema_refuses_is_not_stored(token: Token, version: str, given: dict[str, Any], said: str) -> None:
    body = error_of(token.http.post("/predictions", json={"version": version, "input": given}), 422)
    assert body["title"] == "Input validation failed"
    assert body["detail"].startswith(said)
    assert body["invalid_fields"][0]["field"] == f"input.{next(iter(given))}"
    assert token.http.get("/predictions").json()["results"] == []


@pytest.mark.parametrize("version", ["0" * 64, "x", f"test/fake:{RIFFUSION_VERSION}", "test/none"])
def test_an_unknown_version(token: Token, version: str) -> None:
    body = error_of(token.http.post("/predictions", json={"version": version, "input": {}}), 422)
    assert body["title"] == "Invalid version or not permitted"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/predictions/", 404),
        ("GET", "/predictions/%00", 404),
        ("GET", "/predictions/%F0%9F%8E%B5", 404),
        ("POST", "/predictions/x/cancel", 404),
        ("PUT", "/predictions", 405),
        ("GET", "/models/test/none", 404),
        ("GET", "/models/test/none/versions", 404),
        ("GET", f"/models/test/fake/versions/{RIFFUSION_VERSION}", 404),
        ("GET", "/predictions?cursor=", 422),
        ("GET", "/predictions?cursor=WyJvbGRlciIsMSwyXQ", 422),
        ("GET", "/predictions?created_after=yesterday", 422),
        ("GET", "/predictions?created_before=0001-01-01T00:00:00%2B14:00", 422),
        ("GET", "/web/../settings.py", 404),
    ],
)
def test_every_error_has_its_form(token: Token, method: str, path: str, status: int) -> None:
    error_of(token.http.request(method, path), status)


@pytest.mark.parametrize("direction", ["older", "newer"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-31T21:00:00"])
def test_a_cursor_of_ones_own_making_is_answered(token: Token, direction: str, moment: str) -> None:
    place = json.dumps([direction, moment, "a" * 26]).encode()
    answer = token.http.get("/predictions", params={"cursor": base64.urlsafe_b64encode(place).decode()})
    assert answer.json() == {"previous": None, "next": None, "results": []}


def test_a_body_where_none_is_expected_is_not_parsed(token: Token) -> None:
    prediction_id = token.create()["id"]
    headers = {"Content-Type": "application/json"}
    assert token.http.request("GET", f"/predictions/{prediction_id}", headers=headers).status_code == 200
    for content in (b"", b"{", b"x" * 5000):
        answer = token.http.post(f"/predictions/{prediction_id}/cancel", headers=headers, content=content)
        assert answer.status_code == 200


def test_pages_go_both_ways_and_keep_the_bounds(token: Token) -> None:
    made = [token.create(input={"text": str(n)}) for n in range(103)]
    newest = [prediction["id"] for prediction in reversed(made)]
    first = token.http.get("/predictions").json()
    assert first["previous"] is None
    assert [row["id"] for row in first["results"]] == newest[:100]
    second = token.http.get(first["next"]).json()
    assert second["next"] is None
    assert [row["id"] for row in second["results"]] == newest[100:]
    assert token.http.get(second["previous"]).json()["results"][0]["id"] == newest[0]
    query = {"created_after": made[1]["created_at"], "created_before": made[102]["created_at"]}
    bounded = token.http.get("/predictions", params=query).json()
    assert [row["id"] for row in bounded["results"]] == newest[1:101]  # 101 of them: after inclusive, before not
    assert "created_after=" in bounded["next"]
    assert [row["id"] for row in token.http.get(bounded["next"]).json()["results"]] == [newest[101]]


def test_a_blank_in_a_time_is_an_unescaped_plus(token: Token) -> None:
    prediction_id = token.create()["id"]
    for after, found in (
        *(("2026-01-01T00:00:00+00:00", True), ("2026-01-01%2000:00:00+00:00", True), ("2026-01-01+00:00:00", True)),
        *(("2999-01-01T00:00:00.5+14:00", False), ("2999-01-01+00:00:00+00:00", False)),
    ):
        results = token.http.get(f"/predictions?created_after={after}").json()["results"]
        assert [row["id"] for row in results] == ([prediction_id] if found else []), after


@many
@given(
    st.text(max_size=60) | st.datetimes().map(str) | cursors,
    st.sampled_from(["cursor", "created_after", "created_before"]),
)
def test_any_query_is_answered_or_refused(token: Token, value: str, name: str) -> None:
    answer = token.http.get("/predictions", params={name: value})
    assert answer.status_code in (200, 422), answer.text


@many
@given(
    st.dictionaries(
        st.sampled_from(
            ["Authorization", "Prefer", "Cancel-After", "Content-Type", "Range", "Last-Event-ID", "X-Other"]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80),
    )
)
def test_any_headers_are_ignored_or_refused(token: Token, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.strip().encode("latin-1")) for name, value in headers.items()]
    answer = token.http.get("/predictions", headers=raw)
    assert answer.status_code in (200, 401), answer.text
    answer = token.http.post("/predictions", headers=raw, content=b'{"input": 5}')
    assert answer.status_code in (401, 422), answer.text


def test_who_asks_through_another_name_gets_its_urls(token: Token) -> None:
    page = token.http.post("/models/test/fake/predictions", json={"input": {}}, headers={"Host": "gateway.example:81"})
    assert {urlsplit(url).netloc for url in page.json()["urls"].values()} == {"gateway.example:81"}
    here = token.http.get(f"/predictions/{page.json()['id']}").json()
    assert {urlsplit(url).netloc for url in here["urls"].values()} == {urlsplit(token.url).netloc}
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}  # of a proxy that nobody trusts
    here = token.http.get(f"/predictions/{page.json()['id']}", headers=headers).json()
    assert all(url.startswith(token.url) for url in here["urls"].values())
    odd = token.http.post("/models/test/fake/predictions", json={"input": {}}, headers={"Host": 'a"b'})
    assert {urlsplit(url).netloc for url in odd.json()["urls"].values()} == {urlsplit(token.url).netloc}


def test_a_browser_sees_the_page_under_a_strict_policy(system: System) -> None:
    for path in ("/", "/web/index.html"):
        page = httpx.get(system.url + path, headers={"Accept": "text/html,*/*"}, trust_env=False)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
    error_of(httpx.get(system.url, headers={"Accept": "application/json"}, trust_env=False), 404)
    for path in ("/web/", "/web/..%2Fsettings.py", "/web/../app.py", "/web/%00"):
        assert httpx.get(system.url + path, trust_env=False).status_code == 404


def test_health_and_metrics(token: Token, system: System) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert httpx.get(system.url + path, trust_env=False).status_code == 200
    token.ended(token.create()["id"])
    text = metrics(system)
    assert re.search(r'gateway_ended_predictions_total\{model="test/fake",status="succeeded",[^}]*\} [1-9]', text)
    assert re.search(
        rf'gateway_queue_age_seconds\{{model="riffusion/riffusion",version="{RIFFUSION_VERSION}"\}} ', text
    )
    assert re.search(r'gateway_requests_total\{method="POST",route="/models/\{owner\}/\{name\}/predictions"', text)


def metrics(system: System, token: str = OPERATOR) -> str:
    """Return the metrics, which need the operator's token."""
    answer = httpx.get(f"{system.url}/metrics", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.text


def test_a_clients_token_does_not_open_the_metrics(token: Token, system: System) -> None:
    answer = token.http.get("/metrics")
    assert (answer.status_code, answer.json()["title"]) == (401, "Unauthenticated")
    assert "gateway_" not in answer.text
    with system.another_gateway({"GATEWAY_METRICS_PUBLIC": "true"}) as url:
        assert "gateway_ended_predictions_total" in httpx.get(f"{url}/metrics", trust_env=False).text


def test_each_request_has_a_line_with_its_predictions_id(token: Token, system: System) -> None:
    prediction_id = token.create()["id"]
    token.http.get(f"/predictions/{prediction_id}")
    log = next((system.folder / "logs").glob("gateway*"))

    def told() -> list[dict[str, Any]] | None:
        """Return the lines, once both are there: each is written after its answer has gone out."""
        lines = [json.loads(line) for line in log.read_text().splitlines() if prediction_id in line]
        requests = [line for line in lines if line["event"] == "request"]
        return requests if len(requests) == 2 else None

    requests = system.until(told)
    assert [(line["method"], line["status"]) for line in requests] == [("POST", 201), ("GET", 200)]
    assert all(line["prediction"] == prediction_id and line["ms"] >= 0 for line in requests)
    assert token.text not in log.read_text()
    token.http.request("PRAISE", "/predictions/x%0Ay")  # neither its word nor its path is counted or logged
    assert "PRAISE" not in metrics(system)
