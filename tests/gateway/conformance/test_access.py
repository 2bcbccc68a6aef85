"""Authentication, ownership and invalid requests."""

import re
import time

import httpx
import pytest

from tests.gateway.processes import FAKE, FAKE_VERSION, RIFFUSION_VERSION, System, Token

RIFFUSION = "riffusion/riffusion"  # here without a worker
DEFORUM = "deforum/deforum_stable_diffusion"


def test_t09_a_file_needs_no_token_but_a_signature_that_holds(token: Token) -> None:
    url = token.ended(token.create(input={"files": 1})["id"])["output"]
    assert token.javascript("fetch", url=url) == {"status": 200, "bytes": 100}
    part = httpx.get(url, headers={"Range": "bytes=10-19"}, trust_env=False)
    assert (part.status_code, part.content) == (httpx.codes.PARTIAL_CONTENT, b"w" * 10)
    middle = len(url) // 2
    forged = url[:middle] + ("A" if url[middle] != "A" else "B") + url[middle + 1 :]
    assert httpx.get(forged, trust_env=False).status_code in (403, 404)


def test_t09_an_expired_signature_is_refused(token: Token, system: System) -> None:
    prediction_id = token.ended(token.create(input={"files": 1})["id"])["id"]
    with system.another_gateway({"GATEWAY_FILE_URL_S": "1"}) as url:
        headers = {"Authorization": f"Bearer {token.text}"}
        seen = httpx.get(f"{url}/predictions/{prediction_id}", headers=headers, trust_env=False).json()
        assert httpx.get(seen["output"], trust_env=False).status_code == httpx.codes.OK
        give_up = time.monotonic() + 120  # a URL is good for at least a second
        while (status := httpx.get(seen["output"], trust_env=False).status_code) == httpx.codes.OK:
            assert time.monotonic() < give_up
            time.sleep(0.5)
        assert status in (403, 404)
        assert httpx.get(seen["urls"]["stream"], trust_env=False).status_code in (403, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predictions"),
        ("POST", "/v1/predictions"),
        ("POST", f"/models/{FAKE}/predictions"),
        ("GET", "/predictions"),
        ("GET", "/predictions/{id}"),
        ("GET", "/v1/v1/predictions/{id}"),
        ("POST", "/predictions/{id}/cancel"),
        ("GET", f"/models/{FAKE}/versions/{FAKE_VERSION}"),
        ("GET", f"/models/{FAKE}/versions"),
        ("GET", f"/models/{FAKE}"),
        ("GET", "/models"),
        ("GET", "/webhooks/default/secret"),
        ("POST", "/deployments/test/deployed/predictions"),
        ("GET", "/account"),
        ("GET", "/metrics"),
    ],
)
def test_t10_without_a_token_nothing(system: System, token: Token, method: str, path: str) -> None:
    path = path.format(id=token.create(RIFFUSION)["id"])
    for headers in ({}, {"Authorization": "Bearer r8_wrong"}, {"Authorization": token.text}):
        answer = httpx.request(method, system.url + path, headers=headers, json={"input": {}}, trust_env=False)
        assert answer.status_code == httpx.codes.UNAUTHORIZED
        assert answer.json()["title"] == "Unauthenticated"
        assert isinstance(answer.json()["detail"], str)


def test_t10_anothers_prediction_is_not_there(system: System, token: Token) -> None:
    anothers = system.token().create(RIFFUSION)["id"]
    for answer in (
        token.http.get(f"/predictions/{anothers}"),
        token.http.post(f"/predictions/{anothers}/cancel"),
        token.http.get("/predictions/nosuchthing"),
    ):
        assert answer.status_code == httpx.codes.NOT_FOUND
        assert answer.json()["detail"] == "The requested resource could not be found."


def test_the_documented_spelling_of_a_token(system: System, token: Token) -> None:
    headers = {"Authorization": f"Token {token.text}"}
    assert httpx.get(f"{system.url}/v1/account", headers=headers, trust_env=False).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("inputs", "field", "sentence"),
    [
        ({"fps": 61}, "input.fps", "Must be less than or equal to 60"),
        ({"max_frames": 99}, "input.max_frames", "Must be greater than or equal to 100"),
        ({"sampler": "x"}, "input.sampler", ""),
        ({"max_frames": "100"}, "input.max_frames", ""),
    ],
)
def test_t11_what_the_schema_does_not_allow(token: Token, inputs: dict[str, object], field: str, sentence: str) -> None:
    answer = token.http.post(f"/models/{DEFORUM}/predictions", json={"input": inputs})
    assert answer.status_code == 422
    error = answer.json()
    assert error["title"] == "Input validation failed"
    assert re.fullmatch(rf"- {re.escape(field)}: {re.escape(sentence)}.*\n", error["detail"])
    assert [invalid["field"] for invalid in error["invalid_fields"]] == [field]
    assert token.http.get("/predictions").json()["results"] == []


@pytest.mark.parametrize("version", ["0" * 64, "no/such", f"{FAKE}:{'0' * 64}", "x", ""])
def test_t11_an_unknown_version(token: Token, version: str) -> None:
    answer = token.http.post("/predictions", json={"version": version, "input": {}})
    assert answer.status_code == 422
    assert answer.json()["title"] in ("Invalid version or not permitted", "Input validation failed")
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("version", [RIFFUSION_VERSION, RIFFUSION, f"riffusion/riffusion:{RIFFUSION_VERSION}"])
def test_the_documented_version_in_three_spellings(token: Token, version: str) -> None:
    answer = token.http.post("/predictions", json={"version": version, "input": {"prompt_b": None, "unknown": 1}})
    assert answer.status_code == httpx.codes.CREATED
    assert answer.json()["version"] == RIFFUSION_VERSION
    assert "unknown" not in answer.json()["input"]
    assert answer.headers["Location"].endswith(answer.json()["id"])
