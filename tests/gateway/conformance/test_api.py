"""Ownership, invalid requests, cancels, deadlines, bursts and lists. T10's other half is in test_routes.py."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import pytest

from gateway.clock import own_time
from gateway.links import Links, timestamp
from gateway.prediction import Prediction
from gateway.record import open_record
from gateway.record.database import open_database, read_secrets
from tests.gateway.processes import DEFORUM_VERSION, FAKE, IDLE, RIFFUSION_VERSION, System, Token
from tests.gateway.recording import new

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


def test_t12_cancel_of_a_queued_a_running_and_an_ended_prediction(token: Token) -> None:
    response = token.cancel(token.create(IDLE)["id"])
    assert (response.status_code, response.json()["status"]) == (200, "canceled")

    running = token.create(input={"seconds": 600})["id"]
    token.until(running, "processing")
    headers = {"Content-Type": "application/json"}
    assert token.http.post(f"/predictions/{running}/cancel", headers=headers, content=b"").status_code == 200
    ended = token.ended(running)
    assert (ended["status"], ended["output"], ended["error"]) == ("canceled", None, None)

    succeeded = token.run()
    response = token.cancel(succeeded["id"])
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.json()["completed_at"] == succeeded["completed_at"]


def test_t16_twenty_concurrent_creates_all_run(token: Token, system: System) -> None:
    before = len(system.requests())
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda number: token.create(input={"text": str(number)})["id"], range(20)))
    assert [token.ended(prediction_id)["output"] for prediction_id in ids] == [str(number) for number in range(20)]
    puts = [request for request in system.requests()[before:] if request["method"] == "PUT"]
    assert [request["status"] for request in puts] == [202] * 20


def test_t16_predictions_run_in_the_order_of_their_creation(token: Token) -> None:
    ids = [token.create()["id"] for _ in range(10)]
    started = [str(token.ended(prediction_id)["started_at"]) for prediction_id in ids]
    assert sorted(started) == started


def test_t17_a_deadline_cancels_queued_and_running_predictions(token: Token) -> None:
    running = token.create(input={"seconds": 600}, headers={"Cancel-After": "5s"})
    queued = token.create(IDLE, headers={"Cancel-After": "5"})
    assert running["deadline"] > running["created_at"]
    for created in (running, queued):
        ended = token.ended(created["id"])
        assert ended["status"] == "canceled"
        taken = datetime.fromisoformat(ended["completed_at"]) - datetime.fromisoformat(ended["created_at"])
        assert taken.total_seconds() >= 5


def test_t19_no_attempt_is_sent_twice(system: System, token: Token) -> None:
    """Cog would run an attempt again that is sent after its end. This checks all that the tests have made so far."""
    token.run()
    started = [
        request["path"] for request in system.requests() if (request["method"], request["status"]) == ("PUT", 202)
    ]
    assert len(started) == len(set(started))


COUNT = 250


@dataclass(frozen=True)
class Many:
    token: Token
    rows: list[Prediction]

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]


@pytest.fixture(scope="module")
def many(system: System) -> Many:
    """Create many predictions, without HTTP."""
    token = system.token()

    async def create() -> list[Prediction]:
        async with open_record(system.database_url, (system.folder / "files").as_uri()) as record:
            owner = await record.tokens.find(token.text)
            assert owner is not None
            prediction = new(owner.id, model=IDLE, version=RIFFUSION_VERSION, queue=IDLE, webhook=None)
            return [await record.predictions.create(prediction) for _ in range(COUNT)]

    return Many(token, asyncio.run(create())[::-1])


def ids(page: dict[str, list[dict[str, str]]]) -> list[str]:
    return [prediction["id"] for prediction in page["results"]]


def test_t04_pages_are_complete_while_predictions_are_created(many: Many, token: Token) -> None:
    pages, url, later = [], "/predictions", []
    while url:
        page = many.token.http.get(url).json()
        pages.append(page)
        url = page["next"]
        later += [many.token.create(IDLE)["id"], token.create(IDLE)["id"]]
    assert [len(page["results"]) for page in pages] == [100, 100, 50]
    assert [prediction_id for page in pages for prediction_id in ids(page)] == many.ids
    assert pages[0]["previous"] is None
    back = many.token.http.get(pages[1]["previous"]).json()
    assert set(ids(back)) <= {*many.ids[:100], *later}
    assert ids(token.http.get("/predictions").json()) == later[:0:-2]  # each token sees its own


def test_t05_javascript_paginates(many: Many) -> None:
    pages = many.token.javascript("paginate")
    listed = [prediction_id for page in pages for prediction_id in page]
    assert len(listed) == len(set(listed))
    assert [prediction_id for prediction_id in listed if prediction_id in set(many.ids)] == many.ids
    assert [len(page) for page in pages[:2]] == [100, 100]


def test_pages_keep_the_bounds_of_the_first_request(many: Many) -> None:
    after, before = timestamp(many.rows[-2].created_at), timestamp(many.rows[-103].created_at)
    http = many.token.http
    page = http.get("/predictions", params={"created_after": after, "created_before": before}).json()
    assert ids(page) == many.ids[-102:-2]  # the first 100 of 101: `created_after` is inclusive, `created_before` isn't
    assert "created_after=" in page["next"]
    last = http.get(page["next"]).json()
    assert (ids(last), last["next"]) == ([many.ids[-2]], None)
    assert ids(http.get(last["previous"]).json()) == ids(page)
