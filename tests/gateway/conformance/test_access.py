"""Authentication, ownership and invalid requests. T10's other half, a 401 from every route, is in test_routes.py."""

import asyncio
import re
from datetime import timedelta

import httpx
import pytest

from gateway.clock import own_time
from gateway.links import Links
from gateway.record.database import open_database, read_secrets
from tests.gateway.processes import DEFORUM_VERSION, FAKE, IDLE, RIFFUSION_VERSION, System, Token

RIFFUSION = "riffusion/riffusion"
DEFORUM = "deforum/deforum_stable_diffusion"


def test_t09_a_file_url_needs_a_valid_signature_but_no_token(token: Token, http: httpx.Client) -> None:
    url = token.run(files=1)["output"]
    assert token.javascript("fetch", url=url) == {"status": 200, "bytes": 100}
    part = http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (httpx.codes.PARTIAL_CONTENT, b"w" * 10)
    middle = len(url) // 2
    forged = url[:middle] + ("A" if url[middle] != "A" else "B") + url[middle + 1 :]
    assert http.get(forged).status_code in (403, 404)


def test_t09_an_expired_signature_is_rejected(token: Token, system: System, http: httpx.Client) -> None:
    async def key() -> bytes:
        async with open_database(system.database_url) as database:
            return (await read_secrets(database)).files

    prediction = token.run(files=1)
    file_key = prediction["output"].split("/outputs/")[1].partition("/")[2]
    links = Links(asyncio.run(key()), 3600)
    yesterday = Links(links.key, 3600, lambda: own_time() - timedelta(days=1))
    for url in (links.file(system.url, file_key), links.stream(system.url, prediction["id"])):
        assert http.get(url).status_code == httpx.codes.OK
    for url in (yesterday.file(system.url, file_key), yesterday.stream(system.url, prediction["id"])):
        response = http.get(url)
        assert (response.status_code, "has expired" in response.text) == (403, True)


def test_t10_other_tokens_can_not_see_a_prediction(system: System, token: Token) -> None:
    other = system.token().create(IDLE)["id"]
    for response in (token.http.get(f"/predictions/{other}"), token.cancel(other), token.http.get("/predictions/none")):
        assert response.status_code == httpx.codes.NOT_FOUND
        assert response.json()["detail"] == "The requested resource could not be found."
    assert token.http.get("/predictions").json() == {"previous": None, "next": None, "results": []}


def test_the_authorization_scheme_may_be_token(system: System, token: Token, http: httpx.Client) -> None:
    headers = {"Authorization": f"Token {token.text}"}
    assert http.get(f"{system.url}/v1/account", headers=headers).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("model", "inputs", "kind", "message"),
    [
        (DEFORUM, {"fps": 61}, "number_lte", "Must be less than or equal to 60, but is 61"),
        (DEFORUM, {"max_frames": 99}, "number_gte", "Must be greater than or equal to 100, but is 99"),
        (DEFORUM, {"sampler": "x"}, "enum", 'Must be one of the following: "klms", "dpm2", '),
        (
            *(DEFORUM, {"max_frames": "100"}, "invalid_type"),
            'Invalid type. Expected: integer, given: string, "100"; write numbers without quotes',
        ),
        (DEFORUM, {"zoom": 1.04}, "invalid_type", "Invalid type. Expected: string, given: number"),
        (DEFORUM, {"seed": True}, "invalid_type", "Invalid type. Expected: integer, given: boolean"),
        (RIFFUSION, {"seed_image_id": "x"}, "enum", "Must be one of the following: "),
    ],
)
def test_t11_inputs_that_the_schema_does_not_allow_are_rejected(
    token: Token, model: str, inputs: dict[str, object], kind: str, message: str
) -> None:
    response = token.http.post(f"/models/{model}/predictions", json={"input": inputs})
    assert response.status_code == 422
    error = response.json()
    assert error["title"] == "Input validation failed"
    field = f"input.{next(iter(inputs))}"
    assert re.fullmatch(rf"- {re.escape(field)}: {re.escape(message)}.*\n", error["detail"])
    assert [(invalid["field"], invalid["type"]) for invalid in error["invalid_fields"]] == [(field, kind)]
    assert token.http.get("/predictions").json()["results"] == []


@pytest.mark.parametrize(
    "version",
    [
        *("0" * 64, "no/such", f"{FAKE}:{'0' * 64}", f"{FAKE}:{RIFFUSION_VERSION}", "test/none", "x", ":", ""),
        *(f"a/b:{RIFFUSION_VERSION}", f"{RIFFUSION}:{DEFORUM_VERSION}"),
    ],
)
def test_t11_an_unknown_version_is_rejected(token: Token, version: str) -> None:
    response = token.http.post("/predictions", json={"version": version, "input": {}})
    assert response.status_code == 422
    assert response.json()["title"] == ("Invalid version or not permitted" if version else "Input validation failed")
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize("version", [RIFFUSION_VERSION, RIFFUSION, f"{RIFFUSION}:{RIFFUSION_VERSION}"])
def test_a_version_may_be_named_in_three_ways(token: Token, version: str) -> None:
    response = token.http.post("/predictions", json={"version": version, "input": {"prompt_b": None, "unknown": 1}})
    assert response.status_code == httpx.codes.CREATED
    assert response.json()["version"] == RIFFUSION_VERSION
    assert "unknown" not in response.json()["input"]
    assert response.headers["Location"].endswith(response.json()["id"])
