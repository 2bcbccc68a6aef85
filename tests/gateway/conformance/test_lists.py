"""Pagination and the bounds of lists."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.links import timestamp
from gateway.prediction import Prediction
from gateway.record import open_record
from tests.gateway.processes import IDLE, RIFFUSION_VERSION, System, Token
from tests.gateway.recording import new

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
